// RUN: pfcn-opt %s --pfcn-batch-instances --remarks-filter=pfcn.fusion --remark-format=emitRemark 2>&1 | FileCheck %s
// A group with an op that has no batching rule stays as it is, with nothing left over in front of it.

// CHECK: remark: [Missed] BatchInstances | Category:pfcn.fusion {{.*}}Reason="pfcn.opaque has no batched form, so group foreign runs instance by instance"
// CHECK: func.func @foreign
// CHECK-NEXT: pfcn.empty
// CHECK-NEXT: pfcn.instances "foreign" count 2
// CHECK-NOT: pfcn.kernel
func.func @foreign(%x: tensor<4x5xf32>) -> tensor<2x5xf32> {
  %init = pfcn.empty : tensor<2x5xf32>
  %y = pfcn.instances "foreign" count 2 ins(%x : tensor<4x5xf32>) [#pfcn.access<select dim 0 at [3, 0]>]
      outs(%init : tensor<2x5xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<5xf32>):
    %0 = pfcn.opaque "aten::cumsum"(%a) [#pfcn.operand<0>, 0, unit] : (tensor<5xf32>) -> tensor<5xf32>
    pfcn.yield %0 : tensor<5xf32>
  } -> tensor<2x5xf32>
  return %y : tensor<2x5xf32>
}
