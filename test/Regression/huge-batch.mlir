// RUN: pfcn-opt %s --pfcn-lower-kernels | FileCheck %s
// The search for parts of a huge batch, few enough for threads, once walked through all its divisors.

// CHECK: pfcn.launch
func.func @f(%x: tensor<4x9223372036854775807x8xf32>, %y: tensor<4x9223372036854775807x8xf32>) -> tensor<4x9223372036854775807x8xf32> {
  %init = pfcn.empty : tensor<4x9223372036854775807x8xf32>
  %r = pfcn.kernel "ratio" count 4 ins(%x, %y : tensor<4x9223372036854775807x8xf32>, tensor<4x9223372036854775807x8xf32>) [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>] outs(%init : tensor<4x9223372036854775807x8xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4x9223372036854775807x8xf32>, %b: tensor<4x9223372036854775807x8xf32>):
    %0 = pfcn.div %a, %b : tensor<4x9223372036854775807x8xf32>, tensor<4x9223372036854775807x8xf32> -> tensor<4x9223372036854775807x8xf32>
    %1 = pfcn.sqrt %0 : tensor<4x9223372036854775807x8xf32>
    pfcn.yield %1 : tensor<4x9223372036854775807x8xf32>
  } -> tensor<4x9223372036854775807x8xf32>
  return %r : tensor<4x9223372036854775807x8xf32>
}
