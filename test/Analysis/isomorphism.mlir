// RUN: pfcn-opt %s --pfcn-form-instances | FileCheck %s
// Which ops become instances of which group; rules F1 to F9 of docs/Rationale.md.

// Two classes side by side in any order are two groups, which write one destination in turn.
// CHECK-LABEL: func.func @interleaved
// CHECK: %[[INIT:.*]] = pfcn.empty : tensor<4x16xf32>
// CHECK: %[[A:.*]] = pfcn.instances "linear8x5_x2" count 2
// CHECK-SAME: outs(%[[INIT]] : tensor<4x16xf32>) [#pfcn.access<slice dim 1 size 5 stride 8>]
// CHECK: %[[B:.*]] = pfcn.instances "linear8x3_x2" count 2
// CHECK-SAME: outs(%[[A]] : tensor<4x16xf32>) [#pfcn.access<slice dim 1 size 3 stride 8 offset 5>]
// CHECK: return %[[B]]
func.func @interleaved(%x: tensor<4x8xf32>) -> tensor<4x16xf32> {
  %w0 = pfcn.parameter "m.0.w" : tensor<5x8xf32>
  %o0 = pfcn.linear %x, %w0 : tensor<4x8xf32>, tensor<5x8xf32> -> tensor<4x5xf32>
  %w1 = pfcn.parameter "m.1.w" : tensor<3x8xf32>
  %o1 = pfcn.linear %x, %w1 : tensor<4x8xf32>, tensor<3x8xf32> -> tensor<4x3xf32>
  %w2 = pfcn.parameter "m.2.w" : tensor<5x8xf32>
  %o2 = pfcn.linear %x, %w2 : tensor<4x8xf32>, tensor<5x8xf32> -> tensor<4x5xf32>
  %w3 = pfcn.parameter "m.3.w" : tensor<3x8xf32>
  %o3 = pfcn.linear %x, %w3 : tensor<4x8xf32>, tensor<3x8xf32> -> tensor<4x3xf32>
  %y = pfcn.cat %o0, %o1, %o2, %o3 dim 1 : (tensor<4x5xf32>, tensor<4x3xf32>, tensor<4x5xf32>, tensor<4x3xf32>) -> tensor<4x16xf32>
  return %y : tensor<4x16xf32>
}

// F7: both critics in one instance would leave one instance, so the minimum stays outside.
// CHECK-LABEL: func.func @twin_min
// CHECK: %[[Q:.*]] = pfcn.instances "linear8x1_x2" count 2
// CHECK: %[[Q0:.*]] = pfcn.select %[[Q]] dim 0 at 0
// CHECK: %[[Q1:.*]] = pfcn.select %[[Q]] dim 0 at 1
// CHECK: pfcn.minimum %[[Q0]], %[[Q1]]
func.func @twin_min(%x: tensor<4x8xf32>) -> tensor<4x1xf32> {
  %w0 = pfcn.parameter "q0.weight" : tensor<1x8xf32>
  %w1 = pfcn.parameter "q1.weight" : tensor<1x8xf32>
  %a = pfcn.linear %x, %w0 : tensor<4x8xf32>, tensor<1x8xf32> -> tensor<4x1xf32>
  %b = pfcn.linear %x, %w1 : tensor<4x8xf32>, tensor<1x8xf32> -> tensor<4x1xf32>
  %m = pfcn.minimum %a, %b : tensor<4x1xf32>, tensor<4x1xf32> -> tensor<4x1xf32>
  return %m : tensor<4x1xf32>
}

// F7: with three agents of two critics each, an agent is an instance.
// CHECK-LABEL: func.func @twins_of_agents
// CHECK: pfcn.instances "linear8x1_linear8x1_minimum_x3" count 3
// CHECK-SAME: ins(%{{[a-z0-9]+}}, %{{[a-z0-9]+}}, %{{[a-z0-9]+}} :
// CHECK: pfcn.minimum
// CHECK: return
func.func @twins_of_agents(%x: tensor<4x8xf32>) -> tensor<3x4x1xf32> {
  %w00 = pfcn.parameter "agents.0.q0.weight" : tensor<1x8xf32>
  %q00 = pfcn.linear %x, %w00 : tensor<4x8xf32>, tensor<1x8xf32> -> tensor<4x1xf32>
  %w01 = pfcn.parameter "agents.0.q1.weight" : tensor<1x8xf32>
  %q01 = pfcn.linear %x, %w01 : tensor<4x8xf32>, tensor<1x8xf32> -> tensor<4x1xf32>
  %m0 = pfcn.minimum %q00, %q01 : tensor<4x1xf32>, tensor<4x1xf32> -> tensor<4x1xf32>
  %w10 = pfcn.parameter "agents.1.q0.weight" : tensor<1x8xf32>
  %q10 = pfcn.linear %x, %w10 : tensor<4x8xf32>, tensor<1x8xf32> -> tensor<4x1xf32>
  %w11 = pfcn.parameter "agents.1.q1.weight" : tensor<1x8xf32>
  %q11 = pfcn.linear %x, %w11 : tensor<4x8xf32>, tensor<1x8xf32> -> tensor<4x1xf32>
  %m1 = pfcn.minimum %q10, %q11 : tensor<4x1xf32>, tensor<4x1xf32> -> tensor<4x1xf32>
  %w20 = pfcn.parameter "agents.2.q0.weight" : tensor<1x8xf32>
  %q20 = pfcn.linear %x, %w20 : tensor<4x8xf32>, tensor<1x8xf32> -> tensor<4x1xf32>
  %w21 = pfcn.parameter "agents.2.q1.weight" : tensor<1x8xf32>
  %q21 = pfcn.linear %x, %w21 : tensor<4x8xf32>, tensor<1x8xf32> -> tensor<4x1xf32>
  %m2 = pfcn.minimum %q20, %q21 : tensor<4x1xf32>, tensor<4x1xf32> -> tensor<4x1xf32>
  %y = pfcn.stack %m0, %m1, %m2 dim 0 : (tensor<4x1xf32>, tensor<4x1xf32>, tensor<4x1xf32>) -> tensor<3x4x1xf32>
  return %y : tensor<3x4x1xf32>
}

// A value with several consumers of one class: the heads belong to the instance.
// CHECK-LABEL: func.func @multi_head
// CHECK: pfcn.parameter_stack ["m.0.head0", "m.1.head0", "m.2.head0"]
// CHECK: pfcn.parameter_stack ["m.0.head1", "m.1.head1", "m.2.head1"]
// CHECK: pfcn.instances "linear8x5_linear5x2_linear5x2_x3" count 3
// CHECK-SAME: outs(%{{[a-z0-9]+}}, %{{[a-z0-9]+}} : tensor<4x6xf32>, tensor<4x6xf32>)
// CHECK-SAME: [#pfcn.access<slice dim 1 size 2 stride 2>, #pfcn.access<slice dim 1 size 2 stride 2>]
func.func @multi_head(%x: tensor<4x8xf32>) -> (tensor<4x6xf32>, tensor<4x6xf32>) {
  %w0 = pfcn.parameter "m.0.w" : tensor<5x8xf32>
  %h0 = pfcn.linear %x, %w0 : tensor<4x8xf32>, tensor<5x8xf32> -> tensor<4x5xf32>
  %v00 = pfcn.parameter "m.0.head0" : tensor<2x5xf32>
  %o00 = pfcn.linear %h0, %v00 : tensor<4x5xf32>, tensor<2x5xf32> -> tensor<4x2xf32>
  %v01 = pfcn.parameter "m.0.head1" : tensor<2x5xf32>
  %o01 = pfcn.linear %h0, %v01 : tensor<4x5xf32>, tensor<2x5xf32> -> tensor<4x2xf32>
  %w1 = pfcn.parameter "m.1.w" : tensor<5x8xf32>
  %h1 = pfcn.linear %x, %w1 : tensor<4x8xf32>, tensor<5x8xf32> -> tensor<4x5xf32>
  %v10 = pfcn.parameter "m.1.head0" : tensor<2x5xf32>
  %o10 = pfcn.linear %h1, %v10 : tensor<4x5xf32>, tensor<2x5xf32> -> tensor<4x2xf32>
  %v11 = pfcn.parameter "m.1.head1" : tensor<2x5xf32>
  %o11 = pfcn.linear %h1, %v11 : tensor<4x5xf32>, tensor<2x5xf32> -> tensor<4x2xf32>
  %w2 = pfcn.parameter "m.2.w" : tensor<5x8xf32>
  %h2 = pfcn.linear %x, %w2 : tensor<4x8xf32>, tensor<5x8xf32> -> tensor<4x5xf32>
  %v20 = pfcn.parameter "m.2.head0" : tensor<2x5xf32>
  %o20 = pfcn.linear %h2, %v20 : tensor<4x5xf32>, tensor<2x5xf32> -> tensor<4x2xf32>
  %v21 = pfcn.parameter "m.2.head1" : tensor<2x5xf32>
  %o21 = pfcn.linear %h2, %v21 : tensor<4x5xf32>, tensor<2x5xf32> -> tensor<4x2xf32>
  %y0 = pfcn.cat %o00, %o10, %o20 dim 1 : (tensor<4x2xf32>, tensor<4x2xf32>, tensor<4x2xf32>) -> tensor<4x6xf32>
  %y1 = pfcn.cat %o01, %o11, %o21 dim 1 : (tensor<4x2xf32>, tensor<4x2xf32>, tensor<4x2xf32>) -> tensor<4x6xf32>
  return %y0, %y1 : tensor<4x6xf32>, tensor<4x6xf32>
}

// F2: what all encoders feed lies between encoders and decoders, so these are two groups. The stack that
// is summed is the stacked result that the decoders read.
// CHECK-LABEL: func.func @merge
// CHECK: %[[H:.*]] = pfcn.instances "linear4x4_x3" count 3
// CHECK-SAME: outs(%{{[a-z0-9]+}} : tensor<3x2x4xf32>) [#pfcn.access<select dim 0>]
// CHECK: %[[T:.*]] = pfcn.sum %[[H]] dims [0]
// CHECK: pfcn.instances "add_linear4x4_x3" count 3 ins(%[[H]], %[[T]], %{{[a-z0-9]+}} :
// CHECK-SAME: [#pfcn.access<select dim 0>, #pfcn.access<shared>, #pfcn.access<select dim 0>]
func.func @merge(%x: tensor<2x12xf32>) -> tensor<2x12xf32> {
  %x0 = pfcn.slice %x dim 1 from 0 to 4 : tensor<2x12xf32> -> tensor<2x4xf32>
  %w0 = pfcn.parameter "enc.0.w" : tensor<4x4xf32>
  %h0 = pfcn.linear %x0, %w0 : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %x1 = pfcn.slice %x dim 1 from 4 to 8 : tensor<2x12xf32> -> tensor<2x4xf32>
  %w1 = pfcn.parameter "enc.1.w" : tensor<4x4xf32>
  %h1 = pfcn.linear %x1, %w1 : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %x2 = pfcn.slice %x dim 1 from 8 to 12 : tensor<2x12xf32> -> tensor<2x4xf32>
  %w2 = pfcn.parameter "enc.2.w" : tensor<4x4xf32>
  %h2 = pfcn.linear %x2, %w2 : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %s = pfcn.stack %h0, %h1, %h2 dim 0 : (tensor<2x4xf32>, tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<3x2x4xf32>
  %t = pfcn.sum %s dims [0] : tensor<3x2x4xf32> -> tensor<2x4xf32>
  %d0 = pfcn.add %h0, %t : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x4xf32>
  %v0 = pfcn.parameter "dec.0.w" : tensor<4x4xf32>
  %o0 = pfcn.linear %d0, %v0 : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %d1 = pfcn.add %h1, %t : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x4xf32>
  %v1 = pfcn.parameter "dec.1.w" : tensor<4x4xf32>
  %o1 = pfcn.linear %d1, %v1 : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %d2 = pfcn.add %h2, %t : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x4xf32>
  %v2 = pfcn.parameter "dec.2.w" : tensor<4x4xf32>
  %o2 = pfcn.linear %d2, %v2 : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %y = pfcn.cat %o0, %o1, %o2 dim 1 : (tensor<2x4xf32>, tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x12xf32>
  return %y : tensor<2x12xf32>
}

// F2: equal ops in a chain depend on each other.
// CHECK-LABEL: func.func @chain
// CHECK-NOT: pfcn.instances
// CHECK: return
func.func @chain(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {
  %w0 = pfcn.parameter "a" : tensor<4x4xf32>
  %w1 = pfcn.parameter "b" : tensor<4x4xf32>
  %w2 = pfcn.parameter "c" : tensor<4x4xf32>
  %a = pfcn.linear %x, %w0 : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %b = pfcn.linear %a, %w1 : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %c = pfcn.linear %b, %w2 : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  return %c : tensor<2x4xf32>
}

// F3: a foreign operator is an op of the instance.
// CHECK-LABEL: func.func @opaque_inside
// CHECK: pfcn.instances "linear8x5_cumsum_linear5x2_x3" count 3
// CHECK: pfcn.linear
// CHECK: pfcn.opaque "aten::cumsum"
// CHECK: pfcn.linear
// CHECK: pfcn.yield
// CHECK-NOT: pfcn.opaque
func.func @opaque_inside(%x: tensor<4x8xf32>) -> (tensor<4x2xf32>, tensor<4x2xf32>, tensor<4x2xf32>) {
  %w0 = pfcn.parameter "m.0.w" : tensor<5x8xf32>
  %h0 = pfcn.linear %x, %w0 : tensor<4x8xf32>, tensor<5x8xf32> -> tensor<4x5xf32>
  %c0 = pfcn.opaque "aten::cumsum"(%h0) [#pfcn.operand<0>, 1, unit] : (tensor<4x5xf32>) -> tensor<4x5xf32>
  %v0 = pfcn.parameter "m.0.v" : tensor<2x5xf32>
  %o0 = pfcn.linear %c0, %v0 : tensor<4x5xf32>, tensor<2x5xf32> -> tensor<4x2xf32>
  %w1 = pfcn.parameter "m.1.w" : tensor<5x8xf32>
  %h1 = pfcn.linear %x, %w1 : tensor<4x8xf32>, tensor<5x8xf32> -> tensor<4x5xf32>
  %c1 = pfcn.opaque "aten::cumsum"(%h1) [#pfcn.operand<0>, 1, unit] : (tensor<4x5xf32>) -> tensor<4x5xf32>
  %v1 = pfcn.parameter "m.1.v" : tensor<2x5xf32>
  %o1 = pfcn.linear %c1, %v1 : tensor<4x5xf32>, tensor<2x5xf32> -> tensor<4x2xf32>
  %w2 = pfcn.parameter "m.2.w" : tensor<5x8xf32>
  %h2 = pfcn.linear %x, %w2 : tensor<4x8xf32>, tensor<5x8xf32> -> tensor<4x5xf32>
  %c2 = pfcn.opaque "aten::cumsum"(%h2) [#pfcn.operand<0>, 1, unit] : (tensor<4x5xf32>) -> tensor<4x5xf32>
  %v2 = pfcn.parameter "m.2.v" : tensor<2x5xf32>
  %o2 = pfcn.linear %c2, %v2 : tensor<4x5xf32>, tensor<2x5xf32> -> tensor<4x2xf32>
  return %o0, %o1, %o2 : tensor<4x2xf32>, tensor<4x2xf32>, tensor<4x2xf32>
}

// F3: operators with an effect keep their order and are in no group.
// CHECK-LABEL: func.func @effects
// CHECK: %[[H:.*]] = pfcn.instances "linear4x3_x2" count 2
// CHECK: %[[H0:.*]] = pfcn.select %[[H]] dim 0 at 0
// CHECK: %[[D0:.*]] = pfcn.opaque "aten::dropout"(%[[H0]])
// CHECK: %[[H1:.*]] = pfcn.select %[[H]] dim 0 at 1
// CHECK: %[[D1:.*]] = pfcn.opaque "aten::dropout"(%[[H1]])
// CHECK: return %[[D0]], %[[D1]]
func.func @effects(%x: tensor<2x4xf32>) -> (tensor<2x3xf32>, tensor<2x3xf32>) {
  %w0 = pfcn.parameter "m.0" : tensor<3x4xf32>
  %h0 = pfcn.linear %x, %w0 : tensor<2x4xf32>, tensor<3x4xf32> -> tensor<2x3xf32>
  %d0 = pfcn.opaque "aten::dropout"(%h0) [#pfcn.operand<0>, 0.5, true] effect : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %w1 = pfcn.parameter "m.1" : tensor<3x4xf32>
  %h1 = pfcn.linear %x, %w1 : tensor<2x4xf32>, tensor<3x4xf32> -> tensor<2x3xf32>
  %d1 = pfcn.opaque "aten::dropout"(%h1) [#pfcn.operand<0>, 0.5, true] effect : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return %d0, %d1 : tensor<2x3xf32>, tensor<2x3xf32>
}

// F3: draws of random numbers keep no order, and each instance has its own.
// CHECK-LABEL: func.func @random
// CHECK: pfcn.instances "linear4x3_dropout_x2" count 2
// CHECK: pfcn.opaque "aten::dropout"(%{{.*}}) [{{.*}}] random
// CHECK-NOT: pfcn.opaque
func.func @random(%x: tensor<2x4xf32>) -> (tensor<2x3xf32>, tensor<2x3xf32>) {
  %w0 = pfcn.parameter "m.0" : tensor<3x4xf32>
  %h0 = pfcn.linear %x, %w0 : tensor<2x4xf32>, tensor<3x4xf32> -> tensor<2x3xf32>
  %d0 = pfcn.opaque "aten::dropout"(%h0) [#pfcn.operand<0>, 0.5, true] random : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %w1 = pfcn.parameter "m.1" : tensor<3x4xf32>
  %h1 = pfcn.linear %x, %w1 : tensor<2x4xf32>, tensor<3x4xf32> -> tensor<2x3xf32>
  %d1 = pfcn.opaque "aten::dropout"(%h1) [#pfcn.operand<0>, 0.5, true] random : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return %d0, %d1 : tensor<2x3xf32>, tensor<2x3xf32>
}

// Equal draws are not one draw: CSE leaves them alone.
// CHECK-LABEL: func.func @equal_draws
// CHECK: pfcn.instances "rand_like_x2" count 2 ins(%{{.*}} : tensor<4xf32>) [#pfcn.access<shared>]
func.func @equal_draws(%x: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %0 = pfcn.opaque "aten::rand_like"(%x) [#pfcn.operand<0>, unit, unit, unit, unit, unit] random : (tensor<4xf32>) -> tensor<4xf32>
  %1 = pfcn.opaque "aten::rand_like"(%x) [#pfcn.operand<0>, unit, unit, unit, unit, unit] random : (tensor<4xf32>) -> tensor<4xf32>
  return %0, %1 : tensor<4xf32>, tensor<4xf32>
}

// An op may have several results: each is a result of the instance of its own.
// CHECK-LABEL: func.func @several_results
// CHECK: %[[G:.*]]:2 = pfcn.instances "max_linear4x2_x2" count 2
// CHECK: %[[M:.*]]:2 = pfcn.opaque "aten::max"
// CHECK: %[[L:.*]] = pfcn.linear %[[M]]#0
// CHECK: pfcn.yield %[[M]]#1, %[[L]]
// CHECK-DAG: pfcn.select %[[G]]#1 dim 0 at 0
// CHECK-DAG: pfcn.select %[[G]]#1 dim 0 at 1
// CHECK-DAG: pfcn.select %[[G]]#0 dim 0 at 0
// CHECK-DAG: pfcn.select %[[G]]#0 dim 0 at 1
func.func @several_results(%x: tensor<2x2x4x3xf32>) -> (tensor<2x2xf32>, tensor<2x4xi64>, tensor<2x2xf32>, tensor<2x4xi64>) {
  %x0 = pfcn.select %x dim 0 at 0 : tensor<2x2x4x3xf32> -> tensor<2x4x3xf32>
  %m0:2 = pfcn.opaque "aten::max"(%x0) [#pfcn.operand<0>, 2, false] : (tensor<2x4x3xf32>) -> (tensor<2x4xf32>, tensor<2x4xi64>)
  %w0 = pfcn.parameter "m.0" : tensor<2x4xf32>
  %l0 = pfcn.linear %m0#0, %w0 : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x2xf32>
  %x1 = pfcn.select %x dim 0 at 1 : tensor<2x2x4x3xf32> -> tensor<2x4x3xf32>
  %m1:2 = pfcn.opaque "aten::max"(%x1) [#pfcn.operand<0>, 2, false] : (tensor<2x4x3xf32>) -> (tensor<2x4xf32>, tensor<2x4xi64>)
  %w1 = pfcn.parameter "m.1" : tensor<2x4xf32>
  %l1 = pfcn.linear %m1#0, %w1 : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x2xf32>
  return %l0, %m0#1, %l1, %m1#1 : tensor<2x2xf32>, tensor<2x4xi64>, tensor<2x2xf32>, tensor<2x4xi64>
}

// Where an operand takes two values, many instances each, each value is shared by a group of its own.
// CHECK-LABEL: func.func @two_towers
// CHECK: %[[T:.*]] = pfcn.instances "linear4x4_x2" count 2
// CHECK: %[[A:.*]] = pfcn.select %[[T]] dim 0 at 0
// CHECK: %[[YA:.*]] = pfcn.instances "linear4x1_x20" count 20 ins(%[[A]],
// CHECK-SAME: [#pfcn.access<shared>, #pfcn.access<select dim 0>]
// CHECK: %[[B:.*]] = pfcn.select %[[T]] dim 0 at 1
// CHECK: pfcn.instances "linear4x1_x20_2" count 20 ins(%[[B]],
// CHECK-SAME: outs(%[[YA]] : tensor<2x40xf32>) [#pfcn.access<slice dim 1 size 1 offset 20>]
func.func @two_towers(%u: tensor<2x4xf32>, %v: tensor<2x4xf32>) -> tensor<2x40xf32> {
  %wa = pfcn.parameter "ta" : tensor<4x4xf32>
  %wb = pfcn.parameter "tb" : tensor<4x4xf32>
  %ta = pfcn.linear %u, %wa : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %tb = pfcn.linear %v, %wb : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %wa0 = pfcn.parameter "a.0" : tensor<1x4xf32>
  %oa0 = pfcn.linear %ta, %wa0 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa1 = pfcn.parameter "a.1" : tensor<1x4xf32>
  %oa1 = pfcn.linear %ta, %wa1 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa2 = pfcn.parameter "a.2" : tensor<1x4xf32>
  %oa2 = pfcn.linear %ta, %wa2 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa3 = pfcn.parameter "a.3" : tensor<1x4xf32>
  %oa3 = pfcn.linear %ta, %wa3 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa4 = pfcn.parameter "a.4" : tensor<1x4xf32>
  %oa4 = pfcn.linear %ta, %wa4 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa5 = pfcn.parameter "a.5" : tensor<1x4xf32>
  %oa5 = pfcn.linear %ta, %wa5 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa6 = pfcn.parameter "a.6" : tensor<1x4xf32>
  %oa6 = pfcn.linear %ta, %wa6 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa7 = pfcn.parameter "a.7" : tensor<1x4xf32>
  %oa7 = pfcn.linear %ta, %wa7 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa8 = pfcn.parameter "a.8" : tensor<1x4xf32>
  %oa8 = pfcn.linear %ta, %wa8 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa9 = pfcn.parameter "a.9" : tensor<1x4xf32>
  %oa9 = pfcn.linear %ta, %wa9 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa10 = pfcn.parameter "a.10" : tensor<1x4xf32>
  %oa10 = pfcn.linear %ta, %wa10 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa11 = pfcn.parameter "a.11" : tensor<1x4xf32>
  %oa11 = pfcn.linear %ta, %wa11 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa12 = pfcn.parameter "a.12" : tensor<1x4xf32>
  %oa12 = pfcn.linear %ta, %wa12 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa13 = pfcn.parameter "a.13" : tensor<1x4xf32>
  %oa13 = pfcn.linear %ta, %wa13 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa14 = pfcn.parameter "a.14" : tensor<1x4xf32>
  %oa14 = pfcn.linear %ta, %wa14 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa15 = pfcn.parameter "a.15" : tensor<1x4xf32>
  %oa15 = pfcn.linear %ta, %wa15 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa16 = pfcn.parameter "a.16" : tensor<1x4xf32>
  %oa16 = pfcn.linear %ta, %wa16 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa17 = pfcn.parameter "a.17" : tensor<1x4xf32>
  %oa17 = pfcn.linear %ta, %wa17 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa18 = pfcn.parameter "a.18" : tensor<1x4xf32>
  %oa18 = pfcn.linear %ta, %wa18 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wa19 = pfcn.parameter "a.19" : tensor<1x4xf32>
  %oa19 = pfcn.linear %ta, %wa19 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb0 = pfcn.parameter "b.0" : tensor<1x4xf32>
  %ob0 = pfcn.linear %tb, %wb0 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb1 = pfcn.parameter "b.1" : tensor<1x4xf32>
  %ob1 = pfcn.linear %tb, %wb1 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb2 = pfcn.parameter "b.2" : tensor<1x4xf32>
  %ob2 = pfcn.linear %tb, %wb2 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb3 = pfcn.parameter "b.3" : tensor<1x4xf32>
  %ob3 = pfcn.linear %tb, %wb3 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb4 = pfcn.parameter "b.4" : tensor<1x4xf32>
  %ob4 = pfcn.linear %tb, %wb4 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb5 = pfcn.parameter "b.5" : tensor<1x4xf32>
  %ob5 = pfcn.linear %tb, %wb5 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb6 = pfcn.parameter "b.6" : tensor<1x4xf32>
  %ob6 = pfcn.linear %tb, %wb6 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb7 = pfcn.parameter "b.7" : tensor<1x4xf32>
  %ob7 = pfcn.linear %tb, %wb7 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb8 = pfcn.parameter "b.8" : tensor<1x4xf32>
  %ob8 = pfcn.linear %tb, %wb8 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb9 = pfcn.parameter "b.9" : tensor<1x4xf32>
  %ob9 = pfcn.linear %tb, %wb9 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb10 = pfcn.parameter "b.10" : tensor<1x4xf32>
  %ob10 = pfcn.linear %tb, %wb10 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb11 = pfcn.parameter "b.11" : tensor<1x4xf32>
  %ob11 = pfcn.linear %tb, %wb11 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb12 = pfcn.parameter "b.12" : tensor<1x4xf32>
  %ob12 = pfcn.linear %tb, %wb12 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb13 = pfcn.parameter "b.13" : tensor<1x4xf32>
  %ob13 = pfcn.linear %tb, %wb13 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb14 = pfcn.parameter "b.14" : tensor<1x4xf32>
  %ob14 = pfcn.linear %tb, %wb14 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb15 = pfcn.parameter "b.15" : tensor<1x4xf32>
  %ob15 = pfcn.linear %tb, %wb15 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb16 = pfcn.parameter "b.16" : tensor<1x4xf32>
  %ob16 = pfcn.linear %tb, %wb16 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb17 = pfcn.parameter "b.17" : tensor<1x4xf32>
  %ob17 = pfcn.linear %tb, %wb17 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb18 = pfcn.parameter "b.18" : tensor<1x4xf32>
  %ob18 = pfcn.linear %tb, %wb18 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %wb19 = pfcn.parameter "b.19" : tensor<1x4xf32>
  %ob19 = pfcn.linear %tb, %wb19 : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x1xf32>
  %y = pfcn.cat %oa0, %oa1, %oa2, %oa3, %oa4, %oa5, %oa6, %oa7, %oa8, %oa9, %oa10, %oa11, %oa12, %oa13, %oa14, %oa15, %oa16, %oa17, %oa18, %oa19, %ob0, %ob1, %ob2, %ob3, %ob4, %ob5, %ob6, %ob7, %ob8, %ob9, %ob10, %ob11, %ob12, %ob13, %ob14, %ob15, %ob16, %ob17, %ob18, %ob19 dim 1 : (tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>) -> tensor<2x40xf32>
  return %y : tensor<2x40xf32>
}

// Ops before and after the instances stay as they are.
// CHECK-LABEL: func.func @trunk
// CHECK: %[[T:.*]] = pfcn.relu
// CHECK: %[[Y:.*]] = pfcn.instances "linear4x3_x3" count 3 ins(%[[T]],
// CHECK: pfcn.linear %[[Y]],
func.func @trunk(%x: tensor<2x4xf32>) -> tensor<2x1xf32> {
  %wt = pfcn.parameter "trunk" : tensor<4x4xf32>
  %t = pfcn.linear %x, %wt : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %tr = pfcn.relu %t : tensor<2x4xf32>
  %w0 = pfcn.parameter "m.0" : tensor<3x4xf32>
  %h0 = pfcn.linear %tr, %w0 : tensor<2x4xf32>, tensor<3x4xf32> -> tensor<2x3xf32>
  %w1 = pfcn.parameter "m.1" : tensor<3x4xf32>
  %h1 = pfcn.linear %tr, %w1 : tensor<2x4xf32>, tensor<3x4xf32> -> tensor<2x3xf32>
  %w2 = pfcn.parameter "m.2" : tensor<3x4xf32>
  %h2 = pfcn.linear %tr, %w2 : tensor<2x4xf32>, tensor<3x4xf32> -> tensor<2x3xf32>
  %y = pfcn.cat %h0, %h1, %h2 dim 1 : (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x9xf32>
  %wo = pfcn.parameter "out" : tensor<1x9xf32>
  %z = pfcn.linear %y, %wo : tensor<2x9xf32>, tensor<1x9xf32> -> tensor<2x1xf32>
  return %z : tensor<2x1xf32>
}

// F5: one network on its own is no group, though its two layers are of one shape.
// CHECK-LABEL: func.func @one
// CHECK-NOT: pfcn.instances
// CHECK: return
func.func @one(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %w = pfcn.parameter "w" : tensor<4x4xf32>
  %v = pfcn.parameter "v" : tensor<4x4xf32>
  %0 = pfcn.linear %x, %w : tensor<1x4xf32>, tensor<4x4xf32> -> tensor<1x4xf32>
  %1 = pfcn.relu %0 : tensor<1x4xf32>
  %2 = pfcn.linear %1, %v : tensor<1x4xf32>, tensor<4x4xf32> -> tensor<1x4xf32>
  return %2 : tensor<1x4xf32>
}
