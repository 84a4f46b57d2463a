// RUN: pfcn-opt %s --split-input-file --pfcn-lower-kernels="op-lanes=blocks machine=library-rate=0" | FileCheck %s
// RUN: pfcn-opt %s --split-input-file --pfcn-lower-kernels="op-lanes=always machine=library-rate=0" | FileCheck %s --check-prefix=ROWS
// RUN: pfcn-opt %s --split-input-file --pfcn-lower-kernels="op-lanes=never machine=library-rate=0" | FileCheck %s --check-prefix=NEVER

// Weights of 32 KB do not stay in the first cache. For a block of 24 of the 250 rows of the batch they are read once.

// CHECK-LABEL: func.func @layers(
// CHECK:         pfcn.launch @wide count 3 tiles 6 {{.*}}each op with lanes of its own, for blocks of the batch
// CHECK-LABEL: func.func @wide(
// CHECK:         scf.for
// The weights are turned once for an instance, outside of the loop over blocks,
// CHECK:           scf.for
// CHECK:             vector.shuffle
// of which the last ends with the batch at the latest.
// Threads share the halves of the batch.
// CHECK:           scf.for %[[STEP:.*]] = %{{.*}} to %c125{{.*}} step %c24
// CHECK:             %[[START:.*]] = arith.addi %{{.*}}, %[[STEP]]
// CHECK:             arith.minsi %[[START]], %c226
// CHECK-NOT:         vector.shuffle
// Six rows by four vectors are summed up at a time: 24 products of what is loaded ten times.
// CHECK-COUNT-24:    arith.mulf {{.*}} : vector<16xf32>
// CHECK-NOT:         arith.mulf
// CHECK:             scf.yield

// ROWS: each op with lanes of its own, estimated
// ROWS-NOT: step %c24

// NEVER: the batch across 16 lanes
func.func @layers(%x: tensor<3x250x64xf32>) -> tensor<3x250x128xf32> {
  %w = pfcn.parameter_stack ["0", "1", "2"] : tensor<3x128x64xf32>
  %init = pfcn.empty : tensor<3x250x128xf32>
  %y = pfcn.kernel "wide" count 3 ins(%x, %w : tensor<3x250x64xf32>, tensor<3x128x64xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
      outs(%init : tensor<3x250x128xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<3x250x64xf32>, %b: tensor<3x128x64xf32>):
    %0 = pfcn.batch_matmul %a, %b {transpose_rhs} : tensor<3x250x64xf32>, tensor<3x128x64xf32> -> tensor<3x250x128xf32>
    %1 = pfcn.relu %0 : tensor<3x250x128xf32>
    pfcn.yield %1 : tensor<3x250x128xf32>
  } -> tensor<3x250x128xf32>
  return %y : tensor<3x250x128xf32>
}

// -----

// A batch of unknown size is walked row by row.

// CHECK-LABEL: func.func @unknown(
// CHECK-NOT:     blocks of the batch
// CHECK:         return
func.func @unknown(%x: tensor<3x?x64xf32>, %init: tensor<3x?x128xf32>) -> tensor<3x?x128xf32> {
  %w = pfcn.parameter_stack ["0", "1", "2"] : tensor<3x128x64xf32>
  %y = pfcn.kernel "open" count 3 ins(%x, %w : tensor<3x?x64xf32>, tensor<3x128x64xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
      outs(%init : tensor<3x?x128xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<3x?x64xf32>, %b: tensor<3x128x64xf32>):
    %0 = pfcn.batch_matmul %a, %b {transpose_rhs} : tensor<3x?x64xf32>, tensor<3x128x64xf32> -> tensor<3x?x128xf32>
    pfcn.yield %0 : tensor<3x?x128xf32>
  } -> tensor<3x?x128xf32>
  return %y : tensor<3x?x128xf32>
}
