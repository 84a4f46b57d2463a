// RUN: pfcn-opt %s --split-input-file --pfcn-pipeline-cpu=vector-bytes=64 | FileCheck %s
// RUN: pfcn-opt %s --split-input-file --pfcn-pipeline-cpu="vector-bytes=64 pack-weights=true" | FileCheck %s --check-prefix=PACKED
// RUN: pfcn-opt %s --split-input-file --pfcn-pipeline-cpu=vector-bytes=32 | FileCheck %s --check-prefix=AVX2

// Forty instances of one linear layer at batch 1: the instances lie across the lanes.

// CHECK-LABEL: func.func @forward
// CHECK:         pfcn.launch @bank count 40 tiles 3
// CHECK-LABEL: func.func @bank(
// CHECK-SAME:    %[[BEGIN:[a-z0-9]+]]: index, %[[END:[a-z0-9]+]]: index
// The slices are read in place: instance i is 8 elements further on in each row of the batch.
// CHECK-SAME:    memref<40x1x8xf32, strided<[8, ?, 1], offset: ?>>
// CHECK-SAME:    memref<40x4x8xf32, strided<[32, 8, 1], offset: ?>>
// CHECK-SAME:    memref<40x4xf32, strided<[4, 1], offset: ?>>
// And the results written where the concatenation wants them.
// CHECK-SAME:    memref<40x1x4xf32, strided<[4, 160, 1], offset: ?>>
// CHECK-SAME:    attributes {llvm.emit_c_interface}
// Scratch is for 16 instances, whatever their number.
// CHECK:         memref.alloca() {{.*}} : memref<512xf32>
// CHECK:         scf.for %[[TILE:.*]] = %[[BEGIN]] to %[[END]]
// The last tile overlaps its neighbour.
// CHECK:           arith.minsi %{{.*}}, %c24
// The weights of a tile are transposed once, four elements of each row at a time.
// CHECK:           scf.for
// CHECK-COUNT-16:    vector.load {{.*}} vector<4xf32>
// CHECK:           vector.shuffle {{.*}} : vector<16xf32>, vector<16xf32>
// One accumulator per output feature, the bias added before they are stored.
// CHECK:           scf.for {{.*}} iter_args
// CHECK-COUNT-4:     arith.mulf {{.*}} fastmath<contract> : vector<16xf32>
// CHECK-NOT:       memref.alloc(

// PACKED-LABEL: func.func @forward
// PACKED:         pfcn.launch @bank {{.*}}pfcn.choice = "one kernel, instances across 16 lanes, estimated at {{.*}} us; torch's functions at {{.*}} us"{{.*}}, pfcn.packed = array<i64: 0, 16, 16>}
// PACKED-LABEL: func.func @bank(
// PACKED-SAME:    memref<3x32x16xf32>, %{{.*}}: memref<3x4x16xf32>

// AVX2: vector<8xf32>
// AVX2-NOT: vector<16xf32>
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

// Two instances cannot fill the lanes; 64 rows of the batch can. Weights are the same in all lanes.

// CHECK-LABEL: func.func @twins
// CHECK:         pfcn.launch @pair count 2 tiles 2
// CHECK-LABEL: func.func @pair(
// CHECK:         %[[WEIGHT:.*]] = memref.load {{.*}} : memref<2147483647xf32>
// CHECK:         vector.broadcast %[[WEIGHT]] : f32 to vector<16xf32>
func.func @twins(%x: tensor<64x8xf32>, %w: tensor<2x8x8xf32>) -> tensor<2x64x8xf32> {
  %init = pfcn.empty : tensor<2x64x8xf32>
  %y = pfcn.kernel "pair" count 2 ins(%x, %w : tensor<64x8xf32>, tensor<2x8x8xf32>)
    [#pfcn.access<shared>, #pfcn.access<select dim 0>] outs(%init : tensor<2x64x8xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<64x8xf32>, %v: tensor<2x8x8xf32>):
    %0 = pfcn.batch_matmul %a, %v {transpose_rhs} : tensor<64x8xf32>, tensor<2x8x8xf32> -> tensor<2x64x8xf32>
    pfcn.yield %0 : tensor<2x64x8xf32>
  } -> tensor<2x64x8xf32>
  return %y : tensor<2x64x8xf32>
}

// -----

// A batch of unknown size is a loop inside the tile.

// CHECK-LABEL: func.func @dynamic
// CHECK-LABEL: func.func @relus(
// CHECK:         %[[BATCH:.*]] = memref.dim
// CHECK:         scf.for
// CHECK:           scf.for %{{.*}} = %c0 to %[[BATCH]]
// CHECK:             arith.maximumf {{.*}} : vector<16xf32>
func.func @dynamic(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %c0 = arith.constant 0 : index
  %batch = tensor.dim %x, %c0 : tensor<?x32xf32>
  %init = pfcn.empty(%batch) : tensor<?x32xf32>
  %y = pfcn.kernel "relus" count 32 ins(%x : tensor<?x32xf32>) [#pfcn.access<slice dim 1 size 1>]
    outs(%init : tensor<?x32xf32>) [#pfcn.access<slice dim 1 size 1>] {
  ^bb0(%a: tensor<32x?x1xf32>):
    %0 = pfcn.relu %a : tensor<32x?x1xf32>
    pfcn.yield %0 : tensor<32x?x1xf32>
  } -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

// A sum over the batch keeps accumulators around the loop over it, the partial sums of 64 terms and those of these,
// and what is made of the sum comes behind the loop.

// CHECK-LABEL: func.func @batch_sum(
// CHECK:         %[[SUM:.*]] = memref.alloca() {{.*}} : memref<4xf32>
// CHECK:         %[[TOTAL:.*]] = memref.alloca() {{.*}} : memref<4xf32>
// CHECK:         %[[BATCH:.*]] = memref.dim
// CHECK:         scf.for
// CHECK:           scf.for %[[FIRST:.*]] = %{{.*}} to %[[BATCH]] step %c64
// CHECK:             scf.for
// CHECK:               arith.addf {{.*}} fastmath<reassoc,contract> : vector<4xf32>
// CHECK:             arith.addf {{.*}} : vector<4xf32>
// CHECK:           arith.maximumf
func.func @sums_batch(%x: tensor<4x?xf32>) -> tensor<4xf32> {
  %init = pfcn.empty : tensor<4xf32>
  %y = pfcn.kernel "batch_sum" count 4 ins(%x : tensor<4x?xf32>) [#pfcn.access<select dim 0>]
    outs(%init : tensor<4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4x?xf32>):
    %0 = pfcn.sum %a dims [1] : tensor<4x?xf32> -> tensor<4xf32>
    %1 = pfcn.relu %0 : tensor<4xf32>
    pfcn.yield %1 : tensor<4xf32>
  } -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

// Three instances do not divide well among threads, so their batch is cut into four: twelve tiles.

// CHECK-LABEL: func.func @few
// CHECK:         pfcn.launch @few_x3 count 3 tiles 12
// CHECK-LABEL: func.func @few_x3(
// CHECK:         scf.for %[[TILE:.*]] = %{{.*}} to %{{.*}} step
// CHECK-DAG:       arith.divui %[[TILE]], %c4
// CHECK-DAG:       arith.remui %[[TILE]], %c4
func.func @few(%x: tensor<256x24xf32>) -> tensor<3x256x8xf32> {
  %w = pfcn.parameter_stack ["0", "1", "2"] : tensor<3x8x24xf32>
  %init = pfcn.empty : tensor<3x256x8xf32>
  %y = pfcn.kernel "few_x3" count 3 ins(%x, %w : tensor<256x24xf32>, tensor<3x8x24xf32>)
      [#pfcn.access<shared>, #pfcn.access<select dim 0>] outs(%init : tensor<3x256x8xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<256x24xf32>, %v: tensor<3x8x24xf32>):
    %0 = pfcn.batch_matmul %a, %v {transpose_rhs} : tensor<256x24xf32>, tensor<3x8x24xf32> -> tensor<3x256x8xf32>
    pfcn.yield %0 : tensor<3x256x8xf32>
  } -> tensor<3x256x8xf32>
  return %y : tensor<3x256x8xf32>
}
