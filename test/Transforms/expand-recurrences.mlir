// RUN: pfcn-opt %s --pfcn-expand-recurrences | FileCheck %s
// RUN: pfcn-opt %s --pfcn-expand-recurrences --pfcn-batch-instances --convert-pfcn-to-linalg | FileCheck %s --check-prefix=LOOP
// RUN: pfcn-opt %s --pfcn-expand-recurrences --pfcn-batch-instances --pfcn-lower-kernels | FileCheck %s --check-prefix=LAUNCH

// One pfcn.recurrence per layer and direction; the second result of the call is the last state of each.
// CHECK-LABEL: func.func @gru
// CHECK: pfcn.permute {{.*}} dims [1, 0, 2]
// CHECK: %[[FORTH:.*]] = pfcn.recurrence "gru" %{{.*}} bias %{{.*}} :
// CHECK: pfcn.select %[[FORTH]] dim 1 at 5
// CHECK: %[[BACK:.*]] = pfcn.recurrence "gru" {{.*}} reverse
// CHECK: pfcn.select %[[BACK]] dim 1 at 0
// CHECK-NOT: pfcn.opaque

// LOOP-LABEL: func.func @gru
// LOOP: scf.for
// LOOP: tensor.extract_slice %{{.*}}[0, 0, %{{.*}}, 0] [3, 4, 1, 2]
// LOOP: linalg.generic
// LOOP: tensor.insert_slice %{{.*}} into %{{.*}}[0, 0, %{{.*}}, 0] [3, 4, 1, 5]
// LOOP: scf.yield

// LAUNCH-LABEL: func.func @gru
// LAUNCH: pfcn.launch
// LAUNCH-NOT: pfcn.launch
func.func @gru(%x: tensor<6x4x2xf32>, %h: tensor<2x4x5xf32>, %w: tensor<3x15x2xf32>, %u: tensor<3x15x5xf32>, %b: tensor<3x15xf32>) -> tensor<3x2x4x5xf32> {
  %init = pfcn.empty : tensor<3x2x4x5xf32>
  %r = pfcn.instances "gru" count 3 ins(%x, %h, %w, %u, %b : tensor<6x4x2xf32>, tensor<2x4x5xf32>, tensor<3x15x2xf32>, tensor<3x15x5xf32>, tensor<3x15xf32>) [#pfcn.access<shared>, #pfcn.access<shared>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>] outs(%init : tensor<3x2x4x5xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%x1: tensor<6x4x2xf32>, %h1: tensor<2x4x5xf32>, %w1: tensor<15x2xf32>, %u1: tensor<15x5xf32>, %b1: tensor<15xf32>):
    %y:2 = pfcn.opaque "aten::gru.input"(%x1, %h1, %w1, %u1, %b1) [#pfcn.operand<0>, #pfcn.operand<1>, [#pfcn.operand<2>, #pfcn.operand<3>, #pfcn.operand<4>, #pfcn.operand<4>, #pfcn.operand<2>, #pfcn.operand<3>, #pfcn.operand<4>, #pfcn.operand<4>], true, 1, 0.000000e+00, false, true, false] : (tensor<6x4x2xf32>, tensor<2x4x5xf32>, tensor<15x2xf32>, tensor<15x5xf32>, tensor<15xf32>) -> (tensor<6x4x10xf32>, tensor<2x4x5xf32>)
    pfcn.yield %y#1 : tensor<2x4x5xf32>
  } -> tensor<3x2x4x5xf32>
  return %r : tensor<3x2x4x5xf32>
}

// Of a form that is left to torch: a projection has one more parameter per layer.
// CHECK-LABEL: func.func @projection
// CHECK: pfcn.opaque "aten::lstm.input"
func.func @projection(%x: tensor<6x4x2xf32>, %h: tensor<1x4x3xf32>, %c: tensor<1x4x5xf32>, %w: tensor<3x20x2xf32>, %u: tensor<3x20x3xf32>, %b: tensor<3x20xf32>, %p: tensor<3x3x5xf32>) -> tensor<3x6x4x3xf32> {
  %init = pfcn.empty : tensor<3x6x4x3xf32>
  %r = pfcn.instances "lstm" count 3 ins(%x, %h, %c, %w, %u, %b, %p : tensor<6x4x2xf32>, tensor<1x4x3xf32>, tensor<1x4x5xf32>, tensor<3x20x2xf32>, tensor<3x20x3xf32>, tensor<3x20xf32>, tensor<3x3x5xf32>) [#pfcn.access<shared>, #pfcn.access<shared>, #pfcn.access<shared>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>] outs(%init : tensor<3x6x4x3xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%x1: tensor<6x4x2xf32>, %h1: tensor<1x4x3xf32>, %c1: tensor<1x4x5xf32>, %w1: tensor<20x2xf32>, %u1: tensor<20x3xf32>, %b1: tensor<20xf32>, %p1: tensor<3x5xf32>):
    %y:3 = pfcn.opaque "aten::lstm.input"(%x1, %h1, %c1, %w1, %u1, %b1, %p1) [#pfcn.operand<0>, [#pfcn.operand<1>, #pfcn.operand<2>], [#pfcn.operand<3>, #pfcn.operand<4>, #pfcn.operand<5>, #pfcn.operand<5>, #pfcn.operand<6>], true, 1, 0.000000e+00, false, false, false] : (tensor<6x4x2xf32>, tensor<1x4x3xf32>, tensor<1x4x5xf32>, tensor<20x2xf32>, tensor<20x3xf32>, tensor<20xf32>, tensor<3x5xf32>) -> (tensor<6x4x3xf32>, tensor<1x4x3xf32>, tensor<1x4x5xf32>)
    pfcn.yield %y#0 : tensor<6x4x3xf32>
  } -> tensor<3x6x4x3xf32>
  return %r : tensor<3x6x4x3xf32>
}
