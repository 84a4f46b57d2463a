// RUN: pfcn-opt %s --pfcn-keep-instances | FileCheck %s
// The body stays known as it was found: large tensors are quicker one instance at a time.

// CHECK: pfcn.instances "relu_x2"
// CHECK-SAME: pfcn.instance = @relu_x2_instance
// CHECK: func.func private @relu_x2_instance(%{{.*}}: tensor<4xf32>) -> tensor<4xf32>
func.func @forward(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {
  %init = pfcn.empty : tensor<2x4xf32>
  %y = pfcn.instances "relu_x2" count 2 ins(%x : tensor<2x4xf32>) [#pfcn.access<select dim 0>]
      outs(%init : tensor<2x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4xf32>):
    %0 = pfcn.relu %a : tensor<4xf32>
    pfcn.yield %0 : tensor<4xf32>
  } -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}
