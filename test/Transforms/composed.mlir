// RUN: pfcn-opt %s --pfcn-form-instances --pfcn-inline-composed | FileCheck %s
// In a group stands what an operator is composed of; alone it stays one call.

// CHECK-LABEL: func.func @twice
func.func @twice(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {
  // CHECK: pfcn.instances "{{.*}}" count 2
  // CHECK-NEXT: ^bb0(%[[A:.*]]: tensor<4xf32>):
  // CHECK-NEXT: %[[T:.*]] = pfcn.trunc %[[A]]
  // CHECK-NEXT: %[[F:.*]] = pfcn.sub %[[A]], %[[T]]
  // CHECK-NEXT: pfcn.yield %[[F]]
  // CHECK-NOT: pfcn.composed
  %x0 = pfcn.select %x dim 0 at 0 : tensor<2x4xf32> -> tensor<4xf32>
  %y0 = pfcn.composed "aten::frac"(%x0) [#pfcn.operand<0>] : (tensor<4xf32>) -> tensor<4xf32> {
  ^bb0(%a: tensor<4xf32>):
    %0 = pfcn.trunc %a : tensor<4xf32>
    %1 = pfcn.sub %a, %0 : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    pfcn.yield %1 : tensor<4xf32>
  }
  %x1 = pfcn.select %x dim 0 at 1 : tensor<2x4xf32> -> tensor<4xf32>
  %y1 = pfcn.composed "aten::frac"(%x1) [#pfcn.operand<0>] : (tensor<4xf32>) -> tensor<4xf32> {
  ^bb0(%a: tensor<4xf32>):
    %0 = pfcn.trunc %a : tensor<4xf32>
    %1 = pfcn.sub %a, %0 : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    pfcn.yield %1 : tensor<4xf32>
  }
  %y = pfcn.stack %y0, %y1 dim 0 : (tensor<4xf32>, tensor<4xf32>) -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}

// CHECK-LABEL: func.func @alone
func.func @alone(%x: tensor<?xf32>) -> tensor<?xf32> {
  // CHECK: pfcn.composed "aten::frac"
  %y = pfcn.composed "aten::frac"(%x) [#pfcn.operand<0>] : (tensor<?xf32>) -> tensor<?xf32> {
  ^bb0(%a: tensor<?xf32>):
    %0 = pfcn.trunc %a : tensor<?xf32>
    %1 = pfcn.sub %a, %0 : tensor<?xf32>, tensor<?xf32> -> tensor<?xf32>
    pfcn.yield %1 : tensor<?xf32>
  }
  return %y : tensor<?xf32>
}
