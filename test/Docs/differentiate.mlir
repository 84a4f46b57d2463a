// RUN: pfcn-opt %s --pfcn-differentiate | FileCheck %s
// The gradients of a group, as a group.

// CHECK: func.func private @relu_x2_backward
// CHECK: pfcn.instances "relu_x2_gradient" count 2
// CHECK: pfcn.where
func.func @forward(%x: tensor<1x8xf32>) -> tensor<1x8xf32> {
  %init = pfcn.empty : tensor<1x8xf32>
  %y = pfcn.instances "relu_x2" count 2 ins(%x : tensor<1x8xf32>) [#pfcn.access<slice dim 1 size 4 stride 4>]
      outs(%init : tensor<1x8xf32>) [#pfcn.access<slice dim 1 size 4 stride 4>] {
  ^bb0(%a: tensor<1x4xf32>):
    %0 = pfcn.relu %a : tensor<1x4xf32>
    pfcn.yield %0 : tensor<1x4xf32>
  } -> tensor<1x8xf32>
  return %y : tensor<1x8xf32>
}
