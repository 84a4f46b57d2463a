// RUN: pfcn-opt %s --pfcn-mark-foreign | FileCheck %s
// The formula of sinc has another gradient at zero than torch's operator, and says so.

// CHECK: pfcn.composed "aten::sinc"
// CHECK-SAME: pfcn.not_differentiable = "its gradient is not that of its formula everywhere"
// CHECK: pfcn.relu
// CHECK-NOT: pfcn.not_differentiable
func.func @forward(%x: tensor<2x5xf32>) -> tensor<2x5xf32> {
  %init = pfcn.empty : tensor<2x5xf32>
  %y = pfcn.instances "sinc_relu_x2" count 2 ins(%x : tensor<2x5xf32>) [#pfcn.access<select dim 0>]
      outs(%init : tensor<2x5xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<5xf32>):
    %0 = pfcn.composed "aten::sinc"(%a) [#pfcn.operand<0>] : (tensor<5xf32>) -> tensor<5xf32> {
    ^bb0(%b: tensor<5xf32>):
      %2 = pfcn.sin %b : tensor<5xf32>
      %3 = pfcn.div %2, %b : tensor<5xf32>, tensor<5xf32> -> tensor<5xf32>
      pfcn.yield %3 : tensor<5xf32>
    }
    %1 = pfcn.relu %0 : tensor<5xf32>
    pfcn.yield %1 : tensor<5xf32>
  } -> tensor<2x5xf32>
  return %y : tensor<2x5xf32>
}
