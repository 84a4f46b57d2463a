// RUN: pfcn-opt %s --pfcn-pipeline-nvvm --emit=ptx --chip=sm_80 | FileCheck %s
// Divisions and square roots are rounded as torch's are: to the nearest, not approximated.

// CHECK: div.rn.f32
// CHECK: sqrt.rn.f32
// CHECK-NOT: .approx
func.func @f(%x: tensor<4x8xf32>, %y: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %init = pfcn.empty : tensor<4x8xf32>
  %r = pfcn.kernel "ratio" count 4 ins(%x, %y : tensor<4x8xf32>, tensor<4x8xf32>) [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>] outs(%init : tensor<4x8xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4x8xf32>, %b: tensor<4x8xf32>):
    %0 = pfcn.div %a, %b : tensor<4x8xf32>, tensor<4x8xf32> -> tensor<4x8xf32>
    %1 = pfcn.sqrt %0 : tensor<4x8xf32>
    pfcn.yield %1 : tensor<4x8xf32>
  } -> tensor<4x8xf32>
  return %r : tensor<4x8xf32>
}
