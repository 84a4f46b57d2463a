// RUN: pfcn-opt %s --pfcn-batch-instances | FileCheck %s
// Each op says itself what it becomes: a linear layer, a batched product.

// CHECK: pfcn.kernel "linear4x3_x2" count 2
// CHECK: pfcn.batch_matmul %{{.*}} {transpose_rhs}
// CHECK-NOT: pfcn.linear
func.func @forward(%x: tensor<1x8xf32>, %w: tensor<2x3x4xf32>) -> tensor<1x6xf32> {
  %init = pfcn.empty : tensor<1x6xf32>
  %y = pfcn.instances "linear4x3_x2" count 2 ins(%x, %w : tensor<1x8xf32>, tensor<2x3x4xf32>)
      [#pfcn.access<slice dim 1 size 4 stride 4>, #pfcn.access<select dim 0>]
      outs(%init : tensor<1x6xf32>) [#pfcn.access<slice dim 1 size 3 stride 3>] {
  ^bb0(%a: tensor<1x4xf32>, %b: tensor<3x4xf32>):
    %0 = pfcn.linear %a, %b : tensor<1x4xf32>, tensor<3x4xf32> -> tensor<1x3xf32>
    pfcn.yield %0 : tensor<1x3xf32>
  } -> tensor<1x6xf32>
  return %y : tensor<1x6xf32>
}
