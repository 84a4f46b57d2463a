// RUN: pfcn-opt %s --pfcn-form-instances | FileCheck %s
// How operands are read and results are written.

// F4: starts in no progression are a table.
// CHECK-LABEL: func.func @table
// CHECK: pfcn.instances "linear3x4_x3" count 3
// CHECK-SAME: [#pfcn.access<slice dim 1 size 3 at [0, 7, 3]>, #pfcn.access<select dim 0>]
// CHECK-SAME: outs(%{{[a-z0-9]+}} : tensor<2x12xf32>) [#pfcn.access<slice dim 1 size 4 stride 4>]
func.func @table(%x: tensor<2x12xf32>) -> tensor<2x12xf32> {
  %x0 = pfcn.slice %x dim 1 from 0 to 3 : tensor<2x12xf32> -> tensor<2x3xf32>
  %w0 = pfcn.parameter "m.0.w" : tensor<4x3xf32>
  %h0 = pfcn.linear %x0, %w0 : tensor<2x3xf32>, tensor<4x3xf32> -> tensor<2x4xf32>
  %x1 = pfcn.slice %x dim 1 from 7 to 10 : tensor<2x12xf32> -> tensor<2x3xf32>
  %w1 = pfcn.parameter "m.1.w" : tensor<4x3xf32>
  %h1 = pfcn.linear %x1, %w1 : tensor<2x3xf32>, tensor<4x3xf32> -> tensor<2x4xf32>
  %x2 = pfcn.slice %x dim 1 from 3 to 6 : tensor<2x12xf32> -> tensor<2x3xf32>
  %w2 = pfcn.parameter "m.2.w" : tensor<4x3xf32>
  %h2 = pfcn.linear %x2, %w2 : tensor<2x3xf32>, tensor<4x3xf32> -> tensor<2x4xf32>
  %y = pfcn.cat %h0, %h1, %h2 dim 1 : (tensor<2x4xf32>, tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x12xf32>
  return %y : tensor<2x12xf32>
}

// F4: elements of any dimension, of inputs and of stacked parameters; a stack along dimension 1.
// CHECK-LABEL: func.func @selects
// CHECK: %[[W:.*]] = pfcn.parameter "stacked"
// CHECK: pfcn.instances "linear4x5_x3" count 3 ins(%{{[a-z0-9]+}}, %[[W]] :
// CHECK-SAME: [#pfcn.access<select dim 1>, #pfcn.access<select dim 0>]
// CHECK-SAME: outs(%{{[a-z0-9]+}} : tensor<2x3x5xf32>) [#pfcn.access<select dim 1>]
func.func @selects(%x: tensor<2x3x4xf32>) -> tensor<2x3x5xf32> {
  %W = pfcn.parameter "stacked" : tensor<3x5x4xf32>
  %x0 = pfcn.select %x dim 1 at 0 : tensor<2x3x4xf32> -> tensor<2x4xf32>
  %w0 = pfcn.select %W dim 0 at 0 : tensor<3x5x4xf32> -> tensor<5x4xf32>
  %h0 = pfcn.linear %x0, %w0 : tensor<2x4xf32>, tensor<5x4xf32> -> tensor<2x5xf32>
  %x1 = pfcn.select %x dim 1 at 1 : tensor<2x3x4xf32> -> tensor<2x4xf32>
  %w1 = pfcn.select %W dim 0 at 1 : tensor<3x5x4xf32> -> tensor<5x4xf32>
  %h1 = pfcn.linear %x1, %w1 : tensor<2x4xf32>, tensor<5x4xf32> -> tensor<2x5xf32>
  %x2 = pfcn.select %x dim 1 at 2 : tensor<2x3x4xf32> -> tensor<2x4xf32>
  %w2 = pfcn.select %W dim 0 at 2 : tensor<3x5x4xf32> -> tensor<5x4xf32>
  %h2 = pfcn.linear %x2, %w2 : tensor<2x4xf32>, tensor<5x4xf32> -> tensor<2x5xf32>
  %y = pfcn.stack %h0, %h1, %h2 dim 1 : (tensor<2x5xf32>, tensor<2x5xf32>, tensor<2x5xf32>) -> tensor<2x3x5xf32>
  return %y : tensor<2x3x5xf32>
}

// F4: a parameter of all instances is shared; one of some of them is named as often.
// CHECK-LABEL: func.func @shared_and_tied
// CHECK: %[[S:.*]] = pfcn.parameter "shared.w"
// CHECK: %[[T:.*]] = pfcn.parameter_stack ["tied.a", "tied.b", "tied.a", "tied.b"]
// CHECK: pfcn.instances "linear4x5_relu_linear5x2_x4" count 4 ins(%{{[a-z0-9]+}}, %[[S]], %[[T]] :
// CHECK-SAME: [#pfcn.access<slice dim 1 size 4 stride 4>, #pfcn.access<shared>, #pfcn.access<select dim 0>]
func.func @shared_and_tied(%x: tensor<2x16xf32>) -> (tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>) {
  %ws = pfcn.parameter "shared.w" : tensor<5x4xf32>
  %t0 = pfcn.parameter "tied.a" : tensor<2x5xf32>
  %t1 = pfcn.parameter "tied.b" : tensor<2x5xf32>
  %x0 = pfcn.slice %x dim 1 from 0 to 4 : tensor<2x16xf32> -> tensor<2x4xf32>
  %h0 = pfcn.linear %x0, %ws : tensor<2x4xf32>, tensor<5x4xf32> -> tensor<2x5xf32>
  %r0 = pfcn.relu %h0 : tensor<2x5xf32>
  %o0 = pfcn.linear %r0, %t0 : tensor<2x5xf32>, tensor<2x5xf32> -> tensor<2x2xf32>
  %x1 = pfcn.slice %x dim 1 from 4 to 8 : tensor<2x16xf32> -> tensor<2x4xf32>
  %h1 = pfcn.linear %x1, %ws : tensor<2x4xf32>, tensor<5x4xf32> -> tensor<2x5xf32>
  %r1 = pfcn.relu %h1 : tensor<2x5xf32>
  %o1 = pfcn.linear %r1, %t1 : tensor<2x5xf32>, tensor<2x5xf32> -> tensor<2x2xf32>
  %x2 = pfcn.slice %x dim 1 from 8 to 12 : tensor<2x16xf32> -> tensor<2x4xf32>
  %h2 = pfcn.linear %x2, %ws : tensor<2x4xf32>, tensor<5x4xf32> -> tensor<2x5xf32>
  %r2 = pfcn.relu %h2 : tensor<2x5xf32>
  %o2 = pfcn.linear %r2, %t0 : tensor<2x5xf32>, tensor<2x5xf32> -> tensor<2x2xf32>
  %x3 = pfcn.slice %x dim 1 from 12 to 16 : tensor<2x16xf32> -> tensor<2x4xf32>
  %h3 = pfcn.linear %x3, %ws : tensor<2x4xf32>, tensor<5x4xf32> -> tensor<2x5xf32>
  %r3 = pfcn.relu %h3 : tensor<2x5xf32>
  %o3 = pfcn.linear %r3, %t1 : tensor<2x5xf32>, tensor<2x5xf32> -> tensor<2x2xf32>
  return %o0, %o1, %o2, %o3 : tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>
}

// Results that a join has side by side are joined in the body; a result used elsewhere too is also stacked.
// CHECK-LABEL: func.func @adjacent
// CHECK: %[[Y:.*]]:2 = pfcn.instances {{.*}} count 2
// CHECK-SAME: [#pfcn.access<slice dim 1 size 5 stride 5>, #pfcn.access<select dim 0>]
// CHECK: %[[E:.*]] = pfcn.exp
// CHECK: %[[F:.*]] = pfcn.tanh
// CHECK: %[[EF:.*]] = pfcn.cat %[[E]], %[[F]] dim 1
// CHECK: pfcn.yield %[[EF]], %[[E]]
// CHECK: %[[E1:.*]] = pfcn.select %[[Y]]#1 dim 0 at 1
// CHECK: return %[[Y]]#0, %[[E1]]
func.func @adjacent(%x: tensor<2x4xf32>) -> (tensor<2x10xf32>, tensor<2x3xf32>) {
  %a0 = pfcn.parameter "m.0.a" : tensor<3x4xf32>
  %b0 = pfcn.parameter "m.0.b" : tensor<2x4xf32>
  %h0 = pfcn.linear %x, %a0 : tensor<2x4xf32>, tensor<3x4xf32> -> tensor<2x3xf32>
  %g0 = pfcn.linear %x, %b0 : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x2xf32>
  %q0 = pfcn.cat %h0, %g0 dim 1 : (tensor<2x3xf32>, tensor<2x2xf32>) -> tensor<2x5xf32>
  %k0 = pfcn.relu %q0 : tensor<2x5xf32>
  %k0a = pfcn.slice %k0 dim 1 from 0 to 3 : tensor<2x5xf32> -> tensor<2x3xf32>
  %e0 = pfcn.exp %k0a : tensor<2x3xf32>
  %k0b = pfcn.slice %k0 dim 1 from 3 to 5 : tensor<2x5xf32> -> tensor<2x2xf32>
  %f0 = pfcn.tanh %k0b : tensor<2x2xf32>
  %a1 = pfcn.parameter "m.1.a" : tensor<3x4xf32>
  %b1 = pfcn.parameter "m.1.b" : tensor<2x4xf32>
  %h1 = pfcn.linear %x, %a1 : tensor<2x4xf32>, tensor<3x4xf32> -> tensor<2x3xf32>
  %g1 = pfcn.linear %x, %b1 : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x2xf32>
  %q1 = pfcn.cat %h1, %g1 dim 1 : (tensor<2x3xf32>, tensor<2x2xf32>) -> tensor<2x5xf32>
  %k1 = pfcn.relu %q1 : tensor<2x5xf32>
  %k1a = pfcn.slice %k1 dim 1 from 0 to 3 : tensor<2x5xf32> -> tensor<2x3xf32>
  %e1 = pfcn.exp %k1a : tensor<2x3xf32>
  %k1b = pfcn.slice %k1 dim 1 from 3 to 5 : tensor<2x5xf32> -> tensor<2x2xf32>
  %f1 = pfcn.tanh %k1b : tensor<2x2xf32>
  %y = pfcn.cat %e0, %f0, %e1, %f1 dim 1 : (tensor<2x3xf32>, tensor<2x2xf32>, tensor<2x3xf32>, tensor<2x2xf32>) -> tensor<2x10xf32>
  return %y, %e1 : tensor<2x10xf32>, tensor<2x3xf32>
}

// F6: a contraction pays for stacking separate inputs.
// CHECK-LABEL: func.func @own_arguments
// CHECK: %[[X:.*]] = pfcn.stack %arg0, %arg1 dim 0
// CHECK: pfcn.instances "linear4x3_x2" count 2 ins(%[[X]],
func.func @own_arguments(%x0: tensor<2x4xf32>, %x1: tensor<2x4xf32>) -> (tensor<2x3xf32>, tensor<2x3xf32>) {
  %w0 = pfcn.parameter "m.0" : tensor<3x4xf32>
  %h0 = pfcn.linear %x0, %w0 : tensor<2x4xf32>, tensor<3x4xf32> -> tensor<2x3xf32>
  %w1 = pfcn.parameter "m.1" : tensor<3x4xf32>
  %h1 = pfcn.linear %x1, %w1 : tensor<2x4xf32>, tensor<3x4xf32> -> tensor<2x3xf32>
  return %h0, %h1 : tensor<2x3xf32>, tensor<2x3xf32>
}

// Equal constants are part of the body; others are stacked.
// CHECK-LABEL: func.func @constants
// CHECK: %[[C:.*]] = pfcn.constant dense<[5.000000e-01, 1.500000e+00, 2.500000e+00]> : tensor<3xf32>
// CHECK: pfcn.instances "add_mul_mul_x3" count 3 ins(%{{[a-z0-9]+}}, %{{[a-z0-9]+}}, %[[C]] :
// CHECK: pfcn.constant dense<2.000000e+00> : tensor<f32>
func.func @constants(%x: tensor<2x4xf32>) -> (tensor<2x4xf32>, tensor<2x4xf32>, tensor<2x4xf32>) {
  %two = pfcn.constant dense<2.0> : tensor<f32>
  %c0 = pfcn.constant dense<0.5> : tensor<f32>
  %w0 = pfcn.parameter "m.0" : tensor<4xf32>
  %s0 = pfcn.add %x, %w0 : tensor<2x4xf32>, tensor<4xf32> -> tensor<2x4xf32>
  %h0 = pfcn.mul %s0, %c0 : tensor<2x4xf32>, tensor<f32> -> tensor<2x4xf32>
  %g0 = pfcn.mul %h0, %two : tensor<2x4xf32>, tensor<f32> -> tensor<2x4xf32>
  %c1 = pfcn.constant dense<1.5> : tensor<f32>
  %w1 = pfcn.parameter "m.1" : tensor<4xf32>
  %s1 = pfcn.add %x, %w1 : tensor<2x4xf32>, tensor<4xf32> -> tensor<2x4xf32>
  %h1 = pfcn.mul %s1, %c1 : tensor<2x4xf32>, tensor<f32> -> tensor<2x4xf32>
  %g1 = pfcn.mul %h1, %two : tensor<2x4xf32>, tensor<f32> -> tensor<2x4xf32>
  %c2 = pfcn.constant dense<2.5> : tensor<f32>
  %w2 = pfcn.parameter "m.2" : tensor<4xf32>
  %s2 = pfcn.add %x, %w2 : tensor<2x4xf32>, tensor<4xf32> -> tensor<2x4xf32>
  %h2 = pfcn.mul %s2, %c2 : tensor<2x4xf32>, tensor<f32> -> tensor<2x4xf32>
  %g2 = pfcn.mul %h2, %two : tensor<2x4xf32>, tensor<f32> -> tensor<2x4xf32>
  return %g0, %g1, %g2 : tensor<2x4xf32>, tensor<2x4xf32>, tensor<2x4xf32>
}

// A join with other operands too reads the stacked results as one tensor.
// CHECK-LABEL: func.func @mixed_cat
// CHECK: %[[H:.*]] = pfcn.instances "linear8x5_x3" count 3
// CHECK: %[[P:.*]] = pfcn.permute %[[H]] dims [1, 0, 2]
// CHECK: %[[R:.*]] = pfcn.reshape %[[P]] : tensor<4x3x5xf32> to tensor<4x15xf32>
// CHECK: pfcn.cat %arg0, %[[R]] dim 1
func.func @mixed_cat(%x: tensor<4x8xf32>) -> tensor<4x23xf32> {
  %w0 = pfcn.parameter "m.0.w" : tensor<5x8xf32>
  %h0 = pfcn.linear %x, %w0 : tensor<4x8xf32>, tensor<5x8xf32> -> tensor<4x5xf32>
  %w1 = pfcn.parameter "m.1.w" : tensor<5x8xf32>
  %h1 = pfcn.linear %x, %w1 : tensor<4x8xf32>, tensor<5x8xf32> -> tensor<4x5xf32>
  %w2 = pfcn.parameter "m.2.w" : tensor<5x8xf32>
  %h2 = pfcn.linear %x, %w2 : tensor<4x8xf32>, tensor<5x8xf32> -> tensor<4x5xf32>
  %y = pfcn.cat %x, %h0, %h1, %h2 dim 1 : (tensor<4x8xf32>, tensor<4x5xf32>, tensor<4x5xf32>, tensor<4x5xf32>) -> tensor<4x23xf32>
  return %y : tensor<4x23xf32>
}

// A sum over all instances, as Python's sum() writes it.
// CHECK-LABEL: func.func @sum
// CHECK: %[[S:.*]] = pfcn.instances "linear4x2_x3" count 3
// CHECK-SAME: outs(%{{[a-z0-9]+}} : tensor<3x1x2xf32>) [#pfcn.access<select dim 0>]
// CHECK: %[[Y:.*]] = pfcn.sum %[[S]] dims [0] : tensor<3x1x2xf32> -> tensor<1x2xf32>
// CHECK: return %[[Y]]
func.func @sum(%x: tensor<1x4xf32>) -> tensor<1x2xf32> {
  %w0 = pfcn.parameter "models.0.weight" : tensor<2x4xf32>
  %w1 = pfcn.parameter "models.1.weight" : tensor<2x4xf32>
  %w2 = pfcn.parameter "models.2.weight" : tensor<2x4xf32>
  %0 = pfcn.linear %x, %w0 : tensor<1x4xf32>, tensor<2x4xf32> -> tensor<1x2xf32>
  %1 = pfcn.linear %x, %w1 : tensor<1x4xf32>, tensor<2x4xf32> -> tensor<1x2xf32>
  %2 = pfcn.linear %x, %w2 : tensor<1x4xf32>, tensor<2x4xf32> -> tensor<1x2xf32>
  %3 = pfcn.add %0, %1 : tensor<1x2xf32>, tensor<1x2xf32> -> tensor<1x2xf32>
  %4 = pfcn.add %3, %2 : tensor<1x2xf32>, tensor<1x2xf32> -> tensor<1x2xf32>
  return %4 : tensor<1x2xf32>
}

// The same, which starts at 0.
// CHECK-LABEL: func.func @sum_from_zero
// CHECK: pfcn.instances
// CHECK: pfcn.sum
// CHECK-NOT: pfcn.add
func.func @sum_from_zero(%x: tensor<1x4xf32>) -> tensor<1x2xf32> {
  %zero = pfcn.constant dense<0.0> : tensor<f32>
  %w0 = pfcn.parameter "models.0.weight" : tensor<2x4xf32>
  %w1 = pfcn.parameter "models.1.weight" : tensor<2x4xf32>
  %w2 = pfcn.parameter "models.2.weight" : tensor<2x4xf32>
  %0 = pfcn.linear %x, %w0 : tensor<1x4xf32>, tensor<2x4xf32> -> tensor<1x2xf32>
  %1 = pfcn.linear %x, %w1 : tensor<1x4xf32>, tensor<2x4xf32> -> tensor<1x2xf32>
  %2 = pfcn.linear %x, %w2 : tensor<1x4xf32>, tensor<2x4xf32> -> tensor<1x2xf32>
  %3 = pfcn.add %0, %zero : tensor<1x2xf32>, tensor<f32> -> tensor<1x2xf32>
  %4 = pfcn.add %3, %1 : tensor<1x2xf32>, tensor<1x2xf32> -> tensor<1x2xf32>
  %5 = pfcn.add %4, %2 : tensor<1x2xf32>, tensor<1x2xf32> -> tensor<1x2xf32>
  return %5 : tensor<1x2xf32>
}

// A residual sum is none over all instances of a class, and keeps its order.
// CHECK-LABEL: func.func @residual
// CHECK-NOT: pfcn.sum
// CHECK-COUNT-2: pfcn.add
func.func @residual(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %w0 = pfcn.parameter "models.0.weight" : tensor<4x4xf32>
  %w1 = pfcn.parameter "models.1.weight" : tensor<4x4xf32>
  %0 = pfcn.linear %x, %w0 : tensor<1x4xf32>, tensor<4x4xf32> -> tensor<1x4xf32>
  %1 = pfcn.linear %0, %w1 : tensor<1x4xf32>, tensor<4x4xf32> -> tensor<1x4xf32>
  %2 = pfcn.add %x, %0 : tensor<1x4xf32>, tensor<1x4xf32> -> tensor<1x4xf32>
  %3 = pfcn.add %2, %1 : tensor<1x4xf32>, tensor<1x4xf32> -> tensor<1x4xf32>
  return %3 : tensor<1x4xf32>
}

// F8, F9: the destination of a dynamic batch is sized from the input that the instances share.
// CHECK-LABEL: func.func @dynamic
// CHECK-SAME: %[[X:[a-z0-9]+]]: tensor<?x6x4xf32>
// CHECK: %[[N:.*]] = tensor.dim %[[X]], %c0
// CHECK: %[[C6:.*]] = arith.constant 6
// CHECK: %[[ROWS:.*]] = arith.muli %[[N]], %[[C6]]
// CHECK: pfcn.empty(%[[ROWS]]) : tensor<?x10xf32>
// CHECK: pfcn.instances "linear4x5_x2" count 2
func.func @dynamic(%x: tensor<?x6x4xf32>) -> tensor<?x10xf32> {
  %w0 = pfcn.parameter "models.0.weight" : tensor<5x4xf32>
  %w1 = pfcn.parameter "models.1.weight" : tensor<5x4xf32>
  %rows = pfcn.reshape %x : tensor<?x6x4xf32> to tensor<?x4xf32>
  %0 = pfcn.linear %rows, %w0 : tensor<?x4xf32>, tensor<5x4xf32> -> tensor<?x5xf32>
  %1 = pfcn.linear %rows, %w1 : tensor<?x4xf32>, tensor<5x4xf32> -> tensor<?x5xf32>
  %y = pfcn.cat %0, %1 dim 1 : (tensor<?x5xf32>, tensor<?x5xf32>) -> tensor<?x10xf32>
  return %y : tensor<?x10xf32>
}

// A large constant that all instances read is an input.
// CHECK-LABEL: func.func @large_constant
// CHECK: %[[C:.*]] = pfcn.constant dense_resource<mask>
// CHECK: pfcn.instances {{.*}} ins(%{{[a-z0-9]+}}, %{{[a-z0-9]+}}, %[[C]] :
func.func @large_constant(%x: tensor<1x4xf32>) -> tensor<2x32xf32> {
  %w0 = pfcn.parameter "models.0.weight" : tensor<32x4xf32>
  %w1 = pfcn.parameter "models.1.weight" : tensor<32x4xf32>
  %c = pfcn.constant dense_resource<mask> : tensor<1x32xf32>
  %0 = pfcn.linear %x, %w0 : tensor<1x4xf32>, tensor<32x4xf32> -> tensor<1x32xf32>
  %1 = pfcn.linear %x, %w1 : tensor<1x4xf32>, tensor<32x4xf32> -> tensor<1x32xf32>
  %2 = pfcn.mul %0, %c : tensor<1x32xf32>, tensor<1x32xf32> -> tensor<1x32xf32>
  %3 = pfcn.mul %1, %c : tensor<1x32xf32>, tensor<1x32xf32> -> tensor<1x32xf32>
  %y = pfcn.cat %2, %3 dim 0 : (tensor<1x32xf32>, tensor<1x32xf32>) -> tensor<2x32xf32>
  return %y : tensor<2x32xf32>
}
