// RUN: pfcn-opt %s --pfcn-differentiate | FileCheck %s
// RUN: pfcn-opt %s --pfcn-differentiate --pfcn-batch-instances --pfcn-lower-kernels | FileCheck %s --check-prefix=KERNEL
// The backward of a group is a group, with a kernel of its own.

// KERNEL-LABEL: func.func private @relu_x2_backward
// KERNEL: pfcn.launch @relu_x2_gradient
// KERNEL-LABEL: func.func private @mlp_backward
// KERNEL: pfcn.launch @mlp_gradient

// What an instance sees of an input is where it writes the gradient. At 0 there is none.
// CHECK-LABEL: func.func private @relu_x2_backward(
// CHECK-SAME: %[[X:.*]]: tensor<1x8xf32>, %[[G:.*]]: tensor<1x8xf32>) -> tensor<1x8xf32>
// CHECK: %[[INIT:.*]] = pfcn.empty : tensor<1x8xf32>
// CHECK: %[[GX:.*]] = pfcn.instances "relu_x2_gradient" count 2 ins(%[[X]], %[[G]] :
// CHECK-SAME: [#pfcn.access<slice dim 1 size 4 stride 4>, #pfcn.access<slice dim 1 size 4 stride 4>]
// CHECK-SAME: outs(%[[INIT]] : tensor<1x8xf32>) [#pfcn.access<slice dim 1 size 4 stride 4>]
// CHECK: ^bb0(%[[A:.*]]: tensor<1x4xf32>, %[[B:.*]]: tensor<1x4xf32>):
// CHECK: %[[R:.*]] = pfcn.relu %[[A]]
// CHECK: %[[ZERO:.*]] = pfcn.constant dense<0.000000e+00> : tensor<f32>
// CHECK: %[[C:.*]] = pfcn.compare le %[[R]], %[[ZERO]]
// CHECK: %[[W:.*]] = pfcn.where %[[C]], %[[ZERO]], %[[B]]
// CHECK: pfcn.yield %[[W]]
// CHECK: return %[[GX]]
func.func @relu(%x: tensor<1x8xf32>) -> tensor<1x8xf32> {
  %init = pfcn.empty : tensor<1x8xf32>
  %y = pfcn.instances "relu_x2" count 2 ins(%x : tensor<1x8xf32>) [#pfcn.access<slice dim 1 size 4 stride 4>]
      outs(%init : tensor<1x8xf32>) [#pfcn.access<slice dim 1 size 4 stride 4>] {
  ^bb0(%a: tensor<1x4xf32>):
    %0 = pfcn.relu %a : tensor<1x4xf32>
    pfcn.yield %0 : tensor<1x4xf32>
  } -> tensor<1x8xf32>
  return %y : tensor<1x8xf32>
}

// Weights only, as asked. The last layer's output is not computed again; what the backward reads of the forward is. The
// gradients of weights are sums over the batch, dynamic as it is, and have kernels.
// CHECK-LABEL: func.func private @mlp_backward(
// CHECK-SAME: tensor<?x16xf32>, %{{.*}}: tensor<2x16x8xf32>, %{{.*}}: tensor<2x16xf32>, %{{.*}}: tensor<2x1x16xf32>, %{{.*}}: tensor<?x2xf32>
// CHECK-SAME: ) -> (tensor<2x16x8xf32>, tensor<2x16xf32>, tensor<2x1x16xf32>)
// CHECK: pfcn.instances "mlp_gradient"
// CHECK: ^bb0(%[[A:.*]]: tensor<?x8xf32>, %[[W:.*]]: tensor<16x8xf32>, %[[B:.*]]: tensor<16xf32>, %[[V:.*]]: tensor<1x16xf32>, %[[G:.*]]: tensor<?x1xf32>):
// CHECK: %[[H:.*]] = pfcn.linear %[[A]], %[[W]], %[[B]]
// CHECK: %[[R:.*]] = pfcn.relu %[[H]]
// CHECK-NOT: pfcn.linear
// CHECK: %[[GR:.*]] = pfcn.matmul %[[G]], %[[V]]
// CHECK: %[[GT:.*]] = pfcn.permute %[[G]] dims [1, 0]
// CHECK: %[[GV:.*]] = pfcn.matmul %[[GT]], %[[R]]
// CHECK: %[[GH:.*]] = pfcn.where
// CHECK: %[[GHT:.*]] = pfcn.permute %[[GH]] dims [1, 0]
// CHECK: %[[GW:.*]] = pfcn.matmul %[[GHT]], %[[A]]
// CHECK: %[[GB:.*]] = pfcn.sum %[[GH]] dims [0]
// CHECK: pfcn.yield %[[GW]], %[[GB]], %[[GV]]
func.func @mlp(%x: tensor<?x16xf32>) -> tensor<?x2xf32> {
  %c0 = arith.constant 0 : index
  %w1 = pfcn.parameter_stack ["a", "b"] : tensor<2x16x8xf32>
  %b1 = pfcn.parameter_stack ["c", "d"] : tensor<2x16xf32>
  %w2 = pfcn.parameter_stack ["e", "f"] : tensor<2x1x16xf32>
  %d = tensor.dim %x, %c0 : tensor<?x16xf32>
  %init = pfcn.empty(%d) : tensor<?x2xf32>
  %y = pfcn.instances "mlp" count 2 ins(%x, %w1, %b1, %w2 : tensor<?x16xf32>, tensor<2x16x8xf32>, tensor<2x16xf32>, tensor<2x1x16xf32>)
        [#pfcn.access<slice dim 1 size 8 stride 8>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
      outs(%init : tensor<?x2xf32>) [#pfcn.access<slice dim 1 size 1 stride 1>] attributes {pfcn.wanted = array<i64: 1, 2, 3>} {
  ^bb0(%a: tensor<?x8xf32>, %w: tensor<16x8xf32>, %b: tensor<16xf32>, %v: tensor<1x16xf32>):
    %0 = pfcn.linear %a, %w, %b : tensor<?x8xf32>, tensor<16x8xf32>, tensor<16xf32> -> tensor<?x16xf32>
    %1 = pfcn.relu %0 : tensor<?x16xf32>
    %2 = pfcn.linear %1, %v : tensor<?x16xf32>, tensor<1x16xf32> -> tensor<?x1xf32>
    pfcn.yield %2 : tensor<?x1xf32>
  } -> tensor<?x2xf32>
  return %y : tensor<?x2xf32>
}

// A shared input gets the sum of the gradients; instances that overlap are added up; what no instance reads gets zeros.
// CHECK-LABEL: func.func private @shared_backward(
// CHECK: %[[S:.*]] = pfcn.empty : tensor<3x4xf32>
// CHECK: %[[O:.*]] = pfcn.empty : tensor<3x4xf32>
// CHECK: %[[Z:.*]] = pfcn.zeros : tensor<14xf32>
// CHECK: %[[R:.*]]:3 = pfcn.instances "shared_gradient"
// CHECK-SAME: outs(%[[S]], %[[O]], %[[Z]] :
// CHECK-SAME: [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<slice dim 0 size 4 stride 5>]
// CHECK: %[[GS:.*]] = pfcn.sum %[[R]]#0 dims [0] : tensor<3x4xf32> -> tensor<4xf32>
// CHECK: %[[ZO:.*]] = pfcn.zeros : tensor<6xf32>
// CHECK: %[[GO:.*]] = pfcn.scatter_instances %[[R]]#1 into %[[ZO]] <slice dim 0 size 4> {accumulate}
// CHECK: return %[[GS]], %[[GO]], %[[R]]#2
func.func @shared(%x: tensor<4xf32>, %y: tensor<6xf32>, %z: tensor<14xf32>) -> tensor<12xf32> {
  %init = pfcn.empty : tensor<12xf32>
  %r = pfcn.instances "shared" count 3 ins(%x, %y, %z : tensor<4xf32>, tensor<6xf32>, tensor<14xf32>)
        [#pfcn.access<shared>, #pfcn.access<slice dim 0 size 4 stride 1>, #pfcn.access<slice dim 0 size 4 stride 5>]
      outs(%init : tensor<12xf32>) [#pfcn.access<slice dim 0 size 4 stride 4>] {
  ^bb0(%a: tensor<4xf32>, %b: tensor<4xf32>, %c: tensor<4xf32>):
    %0 = pfcn.mul %a, %b : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %1 = pfcn.mul %0, %c : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    pfcn.yield %1 : tensor<4xf32>
  } -> tensor<12xf32>
  return %r : tensor<12xf32>
}

// No gradient flows through a detached value, nor to integers.
// CHECK-LABEL: func.func private @detached_backward(
// CHECK-SAME: -> tensor<2x4xf32>
// CHECK: ^bb0(%[[I:.*]]: tensor<4xi64>, %[[G:.*]]: tensor<4xf32>):
// CHECK: %[[C:.*]] = pfcn.cast %[[I]]
// CHECK: %[[P:.*]] = pfcn.mul %[[G]], %[[C]]
// CHECK-NEXT: pfcn.yield %[[P]]
func.func @detached(%x: tensor<2x4xf32>, %i: tensor<2x4xi64>) -> tensor<2x4xf32> {
  %init = pfcn.empty : tensor<2x4xf32>
  %r = pfcn.instances "detached" count 2 ins(%x, %i : tensor<2x4xf32>, tensor<2x4xi64>)
        [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
      outs(%init : tensor<2x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4xf32>, %b: tensor<4xi64>):
    %0 = pfcn.cast %b : tensor<4xi64> to tensor<4xf32>
    %1 = pfcn.mul %a, %0 : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %2 = pfcn.detach %a : tensor<4xf32>
    %3 = pfcn.add %1, %2 : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    pfcn.yield %3 : tensor<4xf32>
  } -> tensor<2x4xf32>
  return %r : tensor<2x4xf32>
}

// The gradient of a convolution's weight is a convolution with samples as channels, cut to the window; that of its
// input a transposed one, with what the last window did not reach as its padding.
// CHECK-LABEL: func.func private @conv_backward(
// CHECK: ^bb0(%[[A:.*]]: tensor<5x3x11xf32>, %[[W:.*]]: tensor<4x3x2xf32>, %[[G:.*]]: tensor<5x4x5xf32>):
// CHECK: pfcn.conv %[[G]], %[[W]] {{.*}}output_padding = array<i64: 1>{{.*}}transposed
// CHECK: %[[X:.*]] = pfcn.permute %[[A]] dims [1, 0, 2]
// CHECK: %[[U:.*]] = pfcn.permute %[[G]] dims [1, 0, 2]
// CHECK: %[[P:.*]] = pfcn.conv %[[X]], %[[U]] {dilation = array<i64: 2>{{.*}}stride = array<i64: 1>}
// CHECK: %[[C:.*]] = pfcn.slice %[[P]] dim 2 from 0 to 2
// CHECK: pfcn.permute %[[C]] dims [1, 0, 2]
func.func @conv(%x: tensor<2x5x3x11xf32>, %w: tensor<2x4x3x2xf32>) -> tensor<2x5x4x5xf32> {
  %init = pfcn.empty : tensor<2x5x4x5xf32>
  %y = pfcn.instances "conv" count 2 ins(%x, %w : tensor<2x5x3x11xf32>, tensor<2x4x3x2xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
      outs(%init : tensor<2x5x4x5xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<5x3x11xf32>, %b: tensor<4x3x2xf32>):
    %0 = pfcn.conv %a, %b {stride = array<i64: 2>, padding = array<i64: 0>, dilation = array<i64: 1>}
      : tensor<5x3x11xf32>, tensor<4x3x2xf32> -> tensor<5x4x5xf32>
    pfcn.yield %0 : tensor<5x4x5xf32>
  } -> tensor<2x5x4x5xf32>
  return %y : tensor<2x5x4x5xf32>
}

// Back through time: gates and their derivatives for all steps at once, one loop, and products.
// CHECK-LABEL: func.func private @rnn_backward(
// CHECK: ^bb0(%[[A:.*]]: tensor<3x6x2xf32>, %[[W:.*]]: tensor<4x2xf32>, %[[U:.*]]: tensor<4x4xf32>, %[[H:.*]]: tensor<3x4xf32>, %[[G:.*]]: tensor<3x6x4xf32>):
// CHECK: %[[S:.*]] = pfcn.recurrence "tanh" %[[A]], %[[W]], %[[U]], %[[H]]
// CHECK: %[[M:.*]] = pfcn.mul %[[S]], %[[S]]
// CHECK: %[[F:.*]] = pfcn.sub %{{.*}}, %[[M]]
// CHECK: %[[D:.*]] = pfcn.recurrence_adjoint "tanh" %[[G]], %[[F]], %[[U]]
// CHECK: pfcn.matmul %[[D]], %[[W]]
// KERNEL-LABEL: func.func private @rnn_backward
// KERNEL: pfcn.launch @rnn_gradient
func.func @rnn(%x: tensor<2x3x6x2xf32>, %w: tensor<2x4x2xf32>, %u: tensor<2x4x4xf32>, %h: tensor<2x3x4xf32>) -> tensor<2x3x6x4xf32> {
  %init = pfcn.empty : tensor<2x3x6x4xf32>
  %y = pfcn.instances "rnn" count 2 ins(%x, %w, %u, %h : tensor<2x3x6x2xf32>, tensor<2x4x2xf32>, tensor<2x4x4xf32>, tensor<2x3x4xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
      outs(%init : tensor<2x3x6x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<3x6x2xf32>, %b: tensor<4x2xf32>, %c: tensor<4x4xf32>, %d: tensor<3x4xf32>):
    %0 = pfcn.recurrence "tanh" %a, %b, %c, %d
      : (tensor<3x6x2xf32>, tensor<4x2xf32>, tensor<4x4xf32>, tensor<3x4xf32>) -> tensor<3x6x4xf32>
    pfcn.yield %0 : tensor<3x6x4xf32>
  } -> tensor<2x3x6x4xf32>
  return %y : tensor<2x3x6x4xf32>
}
