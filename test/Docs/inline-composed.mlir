// RUN: pfcn-opt %s --pfcn-inline-composed | FileCheck %s
// In a group an operator of torch's is what it is composed of.

// CHECK: pfcn.trunc
// CHECK-NEXT: pfcn.sub
// CHECK-NOT: pfcn.composed
func.func @forward(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {
  %init = pfcn.empty : tensor<2x4xf32>
  %y = pfcn.instances "frac_x2" count 2 ins(%x : tensor<2x4xf32>) [#pfcn.access<select dim 0>]
      outs(%init : tensor<2x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4xf32>):
    %0 = pfcn.composed "aten::frac"(%a) [#pfcn.operand<0>] : (tensor<4xf32>) -> tensor<4xf32> {
    ^bb0(%b: tensor<4xf32>):
      %1 = pfcn.trunc %b : tensor<4xf32>
      %2 = pfcn.sub %b, %1 : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
      pfcn.yield %2 : tensor<4xf32>
    }
    pfcn.yield %0 : tensor<4xf32>
  } -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}
