// RUN: pfcn-opt %s --pfcn-differentiate --remarks-filter=pfcn.fusion --remark-format=emitRemark 2>&1 | FileCheck %s
// A group with an op that has no gradient is left without a backward.

// CHECK: remark: [Missed] Differentiate | Category:pfcn.fusion {{.*}}Reason="pfcn.opaque has no gradient, so group foreign is not trained"
// CHECK: pfcn.instances "foreign" count 2
// CHECK-SAME: pfcn.not_differentiable = "pfcn.opaque has no gradient"
// CHECK-NOT: backward
func.func @foreign(%x: tensor<2x5xf32>) -> tensor<2x5xf32> {
  %init = pfcn.empty : tensor<2x5xf32>
  %y = pfcn.instances "foreign" count 2 ins(%x : tensor<2x5xf32>) [#pfcn.access<select dim 0>]
      outs(%init : tensor<2x5xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<5xf32>):
    %0 = pfcn.opaque "aten::cumsum"(%a) [#pfcn.operand<0>, 0, unit] : (tensor<5xf32>) -> tensor<5xf32>
    pfcn.yield %0 : tensor<5xf32>
  } -> tensor<2x5xf32>
  return %y : tensor<2x5xf32>
}
