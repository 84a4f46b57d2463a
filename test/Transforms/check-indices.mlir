// RUN: pfcn-opt %s --pfcn-check-indices | FileCheck %s
// Indices that a group reads by are looked at; what cannot be out of bounds, and what is in no group, is not.

// CHECK-LABEL: func.func @embedding
// CHECK: ^bb0(%[[T:.*]]: tensor<7x3xf32>, %[[I:.*]]: tensor<?xi64>):
// CHECK: %[[LAST:.*]] = pfcn.constant dense<6> : tensor<i64>
// CHECK: %[[C:.*]] = pfcn.opaque "pfcn::check_index"(%[[I]], %[[LAST]]) [#pfcn.operand<0>, #pfcn.operand<1>, "aten::embedding", unit] {pfcn.sizes = [array<i64: 0, 0, 0, 0>]}
// CHECK: pfcn.opaque "aten::embedding"(%[[T]], %[[C]])
func.func @embedding(%t: tensor<2x7x3xf32>, %i: tensor<?x2xi64>, %init: tensor<2x?x3xf32>) -> tensor<2x?x3xf32> {
  %y = pfcn.instances "g" count 2 ins(%t, %i : tensor<2x7x3xf32>, tensor<?x2xi64>) [#pfcn.access<select dim 0>, #pfcn.access<select dim 1>]
      outs(%init : tensor<2x?x3xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<7x3xf32>, %b: tensor<?xi64>):
    %0 = pfcn.opaque "aten::embedding"(%a, %b) [#pfcn.operand<0>, #pfcn.operand<1>, -1, false, false] : (tensor<7x3xf32>, tensor<?xi64>) -> tensor<?x3xf32>
    pfcn.yield %0 : tensor<?x3xf32>
  } -> tensor<2x?x3xf32>
  return %y : tensor<2x?x3xf32>
}

// The class that is ignored need not be one.
// CHECK-LABEL: func.func @loss
// CHECK: %[[LAST:.*]] = pfcn.constant dense<2> : tensor<i64>
// CHECK: %[[C:.*]] = pfcn.opaque "pfcn::check_index"(%{{.*}}, %[[LAST]]) [#pfcn.operand<0>, #pfcn.operand<1>, "aten::nll_loss_nd", -100] : (tensor<5xi64>, tensor<i64>) -> tensor<5xi64>
// CHECK: pfcn.composed "aten::nll_loss_nd"(%{{.*}}, %[[C]])
func.func @loss(%x: tensor<2x5x3xf32>, %t: tensor<2x5xi64>, %init: tensor<2x5xf32>) -> tensor<2x5xf32> {
  %y = pfcn.instances "g" count 2 ins(%x, %t : tensor<2x5x3xf32>, tensor<2x5xi64>) [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
      outs(%init : tensor<2x5xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<5x3xf32>, %b: tensor<5xi64>):
    %0 = pfcn.composed "aten::nll_loss_nd"(%a, %b) [#pfcn.operand<0>, #pfcn.operand<1>, unit, 0, -100] : (tensor<5x3xf32>, tensor<5xi64>) -> tensor<5xf32> {
    ^bb0(%c: tensor<5x3xf32>, %d: tensor<5xi64>):
      %1 = pfcn.sum %c dims [1] : tensor<5x3xf32> -> tensor<5xf32>
      pfcn.yield %1 : tensor<5xf32>
    }
    pfcn.yield %0 : tensor<5xf32>
  } -> tensor<2x5xf32>
  return %y : tensor<2x5xf32>
}

// CHECK-LABEL: func.func @place
// CHECK-NOT: pfcn::check_index
func.func @place(%x: tensor<2x5x3xf32>, %init: tensor<2x5x3xi64>) -> tensor<2x5x3xi64> {
  %y = pfcn.instances "g" count 2 ins(%x : tensor<2x5x3xf32>) [#pfcn.access<select dim 0>]
      outs(%init : tensor<2x5x3xi64>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<5x3xf32>):
    %0 = pfcn.composed "aten::argmax"(%a) [#pfcn.operand<0>, -1, false] : (tensor<5x3xf32>) -> tensor<5xi64> {
    ^bb0(%c: tensor<5x3xf32>):
      %2 = pfcn.amax %c dims [1] : tensor<5x3xf32> -> tensor<5xf32>
      %3 = pfcn.cast %2 : tensor<5xf32> to tensor<5xi64>
      pfcn.yield %3 : tensor<5xi64>
    }
    %1 = pfcn.composed "aten::one_hot"(%0) [#pfcn.operand<0>, 3] : (tensor<5xi64>) -> tensor<5x3xi64> {
    ^bb0(%c: tensor<5xi64>):
      %2 = pfcn.unsqueeze %c dim 1 : tensor<5xi64> -> tensor<5x1xi64>
      %3 = pfcn.expand %2 : tensor<5x1xi64> to tensor<5x3xi64>
      pfcn.yield %3 : tensor<5x3xi64>
    }
    pfcn.yield %1 : tensor<5x3xi64>
  } -> tensor<2x5x3xi64>
  return %y : tensor<2x5x3xi64>
}

// CHECK-LABEL: func.func @alone
// CHECK-NOT: pfcn::check_index
func.func @alone(%t: tensor<7x3xf32>, %i: tensor<5xi64>) -> tensor<5x3xf32> {
  %0 = pfcn.opaque "aten::embedding"(%t, %i) [#pfcn.operand<0>, #pfcn.operand<1>, -1, false, false] : (tensor<7x3xf32>, tensor<5xi64>) -> tensor<5x3xf32>
  return %0 : tensor<5x3xf32>
}
