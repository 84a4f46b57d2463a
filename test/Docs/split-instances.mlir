// RUN: pfcn-opt %s --pfcn-split-instances | FileCheck %s
// A foreign operator becomes one call for all instances, by torch's own batching rule.

// CHECK: pfcn.opaque "aten::cumsum"
// CHECK-SAME: batched [true]
// CHECK: pfcn.instances "cumsum_relu_x2_part0"
func.func @forward(%x: tensor<2x5xf32>) -> tensor<2x5xf32> {
  %init = pfcn.empty : tensor<2x5xf32>
  %y = pfcn.instances "cumsum_relu_x2" count 2 ins(%x : tensor<2x5xf32>) [#pfcn.access<select dim 0>]
      outs(%init : tensor<2x5xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<5xf32>):
    %0 = pfcn.opaque "aten::cumsum"(%a) [#pfcn.operand<0>, 0, unit] : (tensor<5xf32>) -> tensor<5xf32>
    %1 = pfcn.relu %0 : tensor<5xf32>
    pfcn.yield %1 : tensor<5xf32>
  } -> tensor<2x5xf32>
  return %y : tensor<2x5xf32>
}
