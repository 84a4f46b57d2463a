// RUN: pfcn-opt %s --pfcn-form-instances --remarks-filter=pfcn.fusion --remark-format=emitRemark \
// RUN:   --split-input-file -o /dev/null 2>&1 | FileCheck %s
// Why something is in no group: the first op at which it differs, and both places.

// CHECK-DAG: remark: [Passed] FormInstances | Category:pfcn.fusion | Function=near_miss | Reason="3 independent instances of 3 ops, equal up to their weights and inputs", bytes-after=824, bytes-before=2040, flops=1260, group=linear8x5_relu_linear5x2_x3, instances=3
// CHECK-DAG: remark: [Missed] {{.*}} Function=near_miss | Reason="pfcn.tanh where the other has pfcn.relu", Suggestion="make the two alike to fuse them", other={{.*}}near-misses.mlir:
func.func @near_miss(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %w0 = pfcn.parameter "m.0.w" : tensor<5x8xf32>
  %v0 = pfcn.parameter "m.0.v" : tensor<2x5xf32>
  %h0 = pfcn.linear %x, %w0 : tensor<4x8xf32>, tensor<5x8xf32> -> tensor<4x5xf32>
  %r0 = pfcn.relu %h0 : tensor<4x5xf32>
  %o0 = pfcn.linear %r0, %v0 : tensor<4x5xf32>, tensor<2x5xf32> -> tensor<4x2xf32>
  %w1 = pfcn.parameter "m.1.w" : tensor<5x8xf32>
  %v1 = pfcn.parameter "m.1.v" : tensor<2x5xf32>
  %h1 = pfcn.linear %x, %w1 : tensor<4x8xf32>, tensor<5x8xf32> -> tensor<4x5xf32>
  %r1 = pfcn.relu %h1 : tensor<4x5xf32>
  %o1 = pfcn.linear %r1, %v1 : tensor<4x5xf32>, tensor<2x5xf32> -> tensor<4x2xf32>
  %w2 = pfcn.parameter "m.2.w" : tensor<5x8xf32>
  %v2 = pfcn.parameter "m.2.v" : tensor<2x5xf32>
  %h2 = pfcn.linear %x, %w2 : tensor<4x8xf32>, tensor<5x8xf32> -> tensor<4x5xf32>
  %r2 = pfcn.tanh %h2 : tensor<4x5xf32>
  %o2 = pfcn.linear %r2, %v2 : tensor<4x5xf32>, tensor<2x5xf32> -> tensor<4x2xf32>
  %w3 = pfcn.parameter "m.3.w" : tensor<5x8xf32>
  %v3 = pfcn.parameter "m.3.v" : tensor<2x5xf32>
  %h3 = pfcn.linear %x, %w3 : tensor<4x8xf32>, tensor<5x8xf32> -> tensor<4x5xf32>
  %r3 = pfcn.relu %h3 : tensor<4x5xf32>
  %o3 = pfcn.linear %r3, %v3 : tensor<4x5xf32>, tensor<2x5xf32> -> tensor<4x2xf32>
  %y = pfcn.cat %o0, %o1, %o2, %o3 dim 1 : (tensor<4x2xf32>, tensor<4x2xf32>, tensor<4x2xf32>, tensor<4x2xf32>) -> tensor<4x8xf32>
  return %y : tensor<4x8xf32>
}

// -----

// CHECK: remark: [Missed] {{.*}} Function=chain | Reason="equal in form, but it depends on the result of the other"
func.func @chain(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {
  %w0 = pfcn.parameter "a" : tensor<4x4xf32>
  %w1 = pfcn.parameter "b" : tensor<4x4xf32>
  %w2 = pfcn.parameter "c" : tensor<4x4xf32>
  %a = pfcn.linear %x, %w0 : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %b = pfcn.linear %a, %w1 : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %c = pfcn.linear %b, %w2 : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  return %c : tensor<2x4xf32>
}

// -----

// CHECK: remark: [Missed] {{.*}} Function=sizes | Reason="parameter models.1.weight is tensor<3x4xf32> where models.0.weight is tensor<2x4xf32>"
func.func @sizes(%x: tensor<1x4xf32>) -> tensor<1x5xf32> {
  %w0 = pfcn.parameter "models.0.weight" : tensor<2x4xf32>
  %w1 = pfcn.parameter "models.1.weight" : tensor<3x4xf32>
  %0 = pfcn.linear %x, %w0 : tensor<1x4xf32>, tensor<2x4xf32> -> tensor<1x2xf32>
  %1 = pfcn.linear %x, %w1 : tensor<1x4xf32>, tensor<3x4xf32> -> tensor<1x3xf32>
  %y = pfcn.cat %0, %1 dim 1 : (tensor<1x2xf32>, tensor<1x3xf32>) -> tensor<1x5xf32>
  return %y : tensor<1x5xf32>
}

// -----

// CHECK: remark: [Missed] {{.*}} Function=attribute | Reason="pfcn.leaky_relu with negative_slope = 2.000000e-01 : f64 where the other has 1.000000e-01 : f64"
// The linears are fused; the rest is not.
func.func @attribute(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %w0 = pfcn.parameter "models.0.weight" : tensor<2x4xf32>
  %w1 = pfcn.parameter "models.1.weight" : tensor<2x4xf32>
  %0 = pfcn.linear %x, %w0 : tensor<1x4xf32>, tensor<2x4xf32> -> tensor<1x2xf32>
  %1 = pfcn.linear %x, %w1 : tensor<1x4xf32>, tensor<2x4xf32> -> tensor<1x2xf32>
  %2 = pfcn.leaky_relu %0 {negative_slope = 0.1 : f64} : tensor<1x2xf32>
  %3 = pfcn.leaky_relu %1 {negative_slope = 0.2 : f64} : tensor<1x2xf32>
  %y = pfcn.cat %2, %3 dim 1 : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x4xf32>
  return %y : tensor<1x4xf32>
}

// -----

// CHECK: remark: [Missed] {{.*}} Function=effect | Reason="operator aten::rand_like has an effect, so its 2 calls keep their order"
func.func @effect(%x: tensor<1x4xf32>) -> (tensor<1x4xf32>, tensor<1x4xf32>) {
  %0 = pfcn.opaque "aten::rand_like"(%x) [#pfcn.operand<0>] effect : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %1 = pfcn.opaque "aten::rand_like"(%x) [#pfcn.operand<0>] effect : (tensor<1x4xf32>) -> tensor<1x4xf32>
  return %0, %1 : tensor<1x4xf32>, tensor<1x4xf32>
}

// -----

// CHECK: remark: [Missed] {{.*}} Function=unlike | Reason="2 calls of operator aten::cumsum run alone: pfcn.opaque with arguments = [#pfcn.operand<0>, 0, unit] where the other has [#pfcn.operand<0>, 1, unit]"
func.func @unlike(%x: tensor<1x4xf32>, %z: tensor<1x4xf32>) -> (tensor<1x4xf32>, tensor<1x4xf32>) {
  %0 = pfcn.opaque "aten::cumsum"(%x) [#pfcn.operand<0>, 1, unit] : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %1 = pfcn.opaque "aten::cumsum"(%z) [#pfcn.operand<0>, 0, unit] : (tensor<1x4xf32>) -> tensor<1x4xf32>
  return %0, %1 : tensor<1x4xf32>, tensor<1x4xf32>
}

// -----

// F6: one op on separate inputs.
// CHECK: remark: [Missed] {{.*}} Function=unprofitable | Reason="their operands are separate tensors, and too little is computed to pay for gathering them"
func.func @unprofitable(%x: tensor<1x4xf32>, %z: tensor<1x4xf32>) -> (tensor<1x4xf32>, tensor<1x4xf32>) {
  %0 = pfcn.relu %x : tensor<1x4xf32>
  %1 = pfcn.relu %z : tensor<1x4xf32>
  return %0, %1 : tensor<1x4xf32>, tensor<1x4xf32>
}

// -----

// CHECK: remark: [Missed] {{.*}} Function=use | Reason="its result goes to pfcn.tanh, that of the group to pfcn.relu"
func.func @use(%x: tensor<1x4xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>) {
  %w0 = pfcn.parameter "models.0.weight" : tensor<2x4xf32>
  %w1 = pfcn.parameter "models.1.weight" : tensor<2x4xf32>
  %w2 = pfcn.parameter "models.2.weight" : tensor<2x4xf32>
  %0 = pfcn.linear %x, %w0 : tensor<1x4xf32>, tensor<2x4xf32> -> tensor<1x2xf32>
  %1 = pfcn.linear %x, %w1 : tensor<1x4xf32>, tensor<2x4xf32> -> tensor<1x2xf32>
  %2 = pfcn.linear %x, %w2 : tensor<1x4xf32>, tensor<2x4xf32> -> tensor<1x2xf32>
  %3 = pfcn.relu %0 : tensor<1x2xf32>
  %4 = pfcn.relu %1 : tensor<1x2xf32>
  %5 = pfcn.tanh %2 : tensor<1x2xf32>
  return %3, %4, %5 : tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>
}

// -----

// F9: two batches that need not be equal.
// CHECK: remark: [Missed] {{.*}} Function=batches | Reason="their operands are separate tensors, whose dynamic sizes may differ"
func.func @batches(%x: tensor<?x4xf32>, %z: tensor<?x4xf32>) -> (tensor<?x2xf32>, tensor<?x2xf32>) {
  %w0 = pfcn.parameter "models.0.weight" : tensor<2x4xf32>
  %w1 = pfcn.parameter "models.1.weight" : tensor<2x4xf32>
  %0 = pfcn.linear %x, %w0 : tensor<?x4xf32>, tensor<2x4xf32> -> tensor<?x2xf32>
  %1 = pfcn.linear %z, %w1 : tensor<?x4xf32>, tensor<2x4xf32> -> tensor<?x2xf32>
  return %0, %1 : tensor<?x2xf32>, tensor<?x2xf32>
}
