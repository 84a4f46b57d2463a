// RUN: pfcn-opt %s --split-input-file --pfcn-pipeline-nvvm | FileCheck %s

// Forty instances at batch 1: four lanes a block, so that there are blocks for many multiprocessors. Four warps share
// the features of each.

// CHECK-LABEL: func.func @forward
// CHECK:         pfcn.launch @bank count 40 tiles 10
// CHECK-SAME:    {pfcn.block = array<i64: 32, 4, 1>, {{.*}}pfcn.grid_y = 1 : i64}
// CHECK-LABEL: gpu.module @kernels
// Per tensor its base, and the strides that only the caller knows.
// CHECK:         gpu.func @bank(%[[X:.*]]: memref<f32>, %[[STRIDE:.*]]: index, %{{.*}}: memref<f32>, %{{.*}}: memref<f32>, %{{.*}}: memref<f32>)
// A tile of each operand in shared memory: 4 rows of 8, padded against bank conflicts.
// CHECK-SAME:    memref<40xf32, #gpu.address_space<workgroup>>
// CHECK-SAME:    memref<160xf32, #gpu.address_space<workgroup>>
// CHECK-SAME:    known_block_size = array<i32: 32, 4, 1>
// CHECK-SAME:    pfcn.parameters = {{\[}}array<i64: 0, 0>, array<i64: 0, 2, 1>, array<i64: 1, 0>, array<i64: 2, 0>, array<i64: 3, 0>]
// All threads bring the tile in, 128 bits at a time where that is aligned.
// CHECK:         scf.if
// CHECK:           vector.load {{.*}} {alignment = 16 : i64} : {{.*}} vector<4xf32>
// CHECK:         } else {
// CHECK:           memref.load
// CHECK:         gpu.barrier
// CHECK:         scf.for %{{.*}} to %c4 step %c32
// CHECK:           scf.for {{.*}} iter_args
// CHECK:             arith.mulf {{.*}} fastmath<contract> : f32
// CHECK:         gpu.barrier
func.func @forward(%x: tensor<1x320xf32>) -> tensor<1x160xf32> {
  %w = pfcn.parameter_stack ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15",
    "16", "17", "18", "19", "20", "21", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31", "32", "33", "34",
    "35", "36", "37", "38", "39"] : tensor<40x4x8xf32>
  %b = pfcn.parameter_stack ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15",
    "16", "17", "18", "19", "20", "21", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31", "32", "33", "34",
    "35", "36", "37", "38", "39"] : tensor<40x4xf32>
  %init = pfcn.empty : tensor<1x160xf32>
  %y = pfcn.kernel "bank" count 40 ins(%x, %w, %b : tensor<1x320xf32>, tensor<40x4x8xf32>, tensor<40x4xf32>)
    [#pfcn.access<slice dim 1 size 8 stride 8>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
    outs(%init : tensor<1x160xf32>) [#pfcn.access<slice dim 1 size 4 stride 4>] {
  ^bb0(%a: tensor<40x1x8xf32>, %v: tensor<40x4x8xf32>, %c: tensor<40x4xf32>):
    %0 = pfcn.batch_matmul %a, %v {transpose_rhs} : tensor<40x1x8xf32>, tensor<40x4x8xf32> -> tensor<40x1x4xf32>
    %1 = pfcn.unsqueeze %c dim 1 : tensor<40x4xf32> -> tensor<40x1x4xf32>
    %2 = pfcn.add %0, %1 : tensor<40x1x4xf32>, tensor<40x1x4xf32> -> tensor<40x1x4xf32>
    pfcn.yield %2 : tensor<40x1x4xf32>
  } -> tensor<1x160xf32>
  return %y : tensor<1x160xf32>
}

// -----

// A batch of unknown size: the warps of the blocks of a tile share it, and walk on from where they are.

// CHECK-LABEL: func.func @dynamic
// CHECK:         pfcn.launch @relus {{.*}} {pfcn.block = array<i64: 32, 4, 1>, {{.*}}pfcn.equal_sizes = [array<i64: 0, 1, 1, 1>], pfcn.grid_y = 64 : i64}
// CHECK-LABEL: gpu.func @relus(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: memref<f32>, %[[BATCH:[a-z0-9]+]]: index
// Blocks without a point of it end at once.
// CHECK:         arith.ceildivsi %[[BATCH]]
// CHECK:         gpu.block_id y
// CHECK:         scf.if
// CHECK:           scf.for %{{.*}} = %{{.*}} to %[[BATCH]]
// Threads without a lane repeat the last one's work; what there is is stored by all threads of a warp.
// CHECK:             %[[ACTIVE:.*]] = arith.minsi
// CHECK:             arith.maximumf {{.*}} : f32
// CHECK:             scf.for %{{.*}} = %{{.*}} to %[[ACTIVE]]
// CHECK:               memref.store
func.func @dynamic(%x: tensor<?x20xf32>) -> tensor<?x20xf32> {
  %c0 = arith.constant 0 : index
  %batch = tensor.dim %x, %c0 : tensor<?x20xf32>
  %init = pfcn.empty(%batch) : tensor<?x20xf32>
  %y = pfcn.kernel "relus" count 20 ins(%x : tensor<?x20xf32>) [#pfcn.access<slice dim 1 size 1>]
    outs(%init : tensor<?x20xf32>) [#pfcn.access<slice dim 1 size 1>] {
  ^bb0(%a: tensor<20x?x1xf32>):
    %0 = pfcn.relu %a : tensor<20x?x1xf32>
    pfcn.yield %0 : tensor<20x?x1xf32>
  } -> tensor<?x20xf32>
  return %y : tensor<?x20xf32>
}
