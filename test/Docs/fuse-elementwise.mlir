// RUN: pfcn-opt %s --convert-pfcn-to-linalg --pfcn-fuse-elementwise | FileCheck %s
// Two elementwise ops are one afterwards.

// CHECK: linalg.generic
// CHECK: math.tanh
// CHECK-NOT: linalg.generic
// CHECK: arith.maximumf
func.func @forward(%x: tensor<4x3xf32>) -> tensor<4x3xf32> {
  %init = pfcn.empty : tensor<4x3xf32>
  %y = pfcn.kernel "tanh_relu_x4" count 4 ins(%x : tensor<4x3xf32>) [#pfcn.access<select dim 0>]
      outs(%init : tensor<4x3xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4x3xf32>):
    %0 = pfcn.tanh %a : tensor<4x3xf32>
    %1 = pfcn.relu %0 : tensor<4x3xf32>
    pfcn.yield %1 : tensor<4x3xf32>
  } -> tensor<4x3xf32>
  return %y : tensor<4x3xf32>
}
