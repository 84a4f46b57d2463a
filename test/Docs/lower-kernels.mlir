// RUN: pfcn-opt %s --pfcn-lower-kernels=lanes=4 | FileCheck %s
// Four instances lie across the four lanes of a vector.

// CHECK: pfcn.launch @relu_x4 count 4 tiles 1 {{.*}}pfcn.choice = "one kernel, instances across 4 lanes, estimated at
// CHECK: func.func @relu_x4
// CHECK: vector.from_elements
// CHECK: arith.maximumf %{{.*}} : vector<4xf32>
func.func @forward(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
  %init = pfcn.empty : tensor<4x4xf32>
  %y = pfcn.kernel "relu_x4" count 4 ins(%x : tensor<4x4xf32>) [#pfcn.access<select dim 0>]
      outs(%init : tensor<4x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4x4xf32>):
    %0 = pfcn.relu %a : tensor<4x4xf32>
    pfcn.yield %0 : tensor<4x4xf32>
  } -> tensor<4x4xf32>
  return %y : tensor<4x4xf32>
}
