// RUN: pfcn-opt %s --pfcn-expand-recurrences | FileCheck %s
// A layer that torch computes by one operator: in a group, one op whose loop is part of the kernel.

// CHECK: pfcn.recurrence "tanh"
// CHECK-NOT: pfcn.opaque
func.func @forward(%x: tensor<2x6x4x3xf32>, %h: tensor<2x1x4x5xf32>, %w: tensor<2x5x3xf32>, %u: tensor<2x5x5xf32>, %b: tensor<2x5xf32>) -> tensor<2x6x4x5xf32> {
  %init = pfcn.empty : tensor<2x6x4x5xf32>
  %y = pfcn.instances "rnn_x2" count 2 ins(%x, %h, %w, %u, %b : tensor<2x6x4x3xf32>, tensor<2x1x4x5xf32>, tensor<2x5x3xf32>, tensor<2x5x5xf32>, tensor<2x5xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
      outs(%init : tensor<2x6x4x5xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<6x4x3xf32>, %s: tensor<1x4x5xf32>, %v: tensor<5x3xf32>, %r: tensor<5x5xf32>, %c: tensor<5xf32>):
    %0:2 = pfcn.opaque "aten::rnn_tanh.input"(%a, %s, %v, %r, %c)
        [#pfcn.operand<0>, #pfcn.operand<1>, [#pfcn.operand<2>, #pfcn.operand<3>, #pfcn.operand<4>, #pfcn.operand<4>], true, 1, 0.000000e+00, false, false, false]
        : (tensor<6x4x3xf32>, tensor<1x4x5xf32>, tensor<5x3xf32>, tensor<5x5xf32>, tensor<5xf32>) -> (tensor<6x4x5xf32>, tensor<1x4x5xf32>)
    pfcn.yield %0#0 : tensor<6x4x5xf32>
  } -> tensor<2x6x4x5xf32>
  return %y : tensor<2x6x4x5xf32>
}
