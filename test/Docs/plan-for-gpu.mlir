// RUN: pfcn-opt %s --pfcn-plan-for-gpu=strategy=library | FileCheck %s
// The product to cuBLAS, through torch; a kernel for what follows it.

// CHECK: pfcn.batch_matmul
// CHECK: pfcn.kernel "linear_relu_x4"
// CHECK: pfcn.relu
func.func @forward(%x: tensor<4x8x16xf32>) -> tensor<4x8x32xf32> {
  %w = pfcn.parameter_stack ["a.w", "b.w", "c.w", "d.w"] : tensor<4x32x16xf32>
  %init = pfcn.empty : tensor<4x8x32xf32>
  %y = pfcn.kernel "linear_relu_x4" count 4
      ins(%x, %w : tensor<4x8x16xf32>, tensor<4x32x16xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
      outs(%init : tensor<4x8x32xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4x8x16xf32>, %p: tensor<4x32x16xf32>):
    %0 = pfcn.batch_matmul %a, %p {transpose_rhs}
      : tensor<4x8x16xf32>, tensor<4x32x16xf32> -> tensor<4x8x32xf32>
    %1 = pfcn.relu %0 : tensor<4x8x32xf32>
    pfcn.yield %1 : tensor<4x8x32xf32>
  } -> tensor<4x8x32xf32>
  return %y : tensor<4x8x32xf32>
}
