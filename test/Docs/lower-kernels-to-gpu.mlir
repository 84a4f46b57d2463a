// RUN: pfcn-opt %s --pfcn-lower-kernels-to-gpu | FileCheck %s
// One lane a thread.

// CHECK: gpu.func @relu_x4
// CHECK: gpu.thread_id
func.func @forward(%x: tensor<4x3xf32>) -> tensor<4x3xf32> {
  %init = pfcn.empty : tensor<4x3xf32>
  %y = pfcn.kernel "relu_x4" count 4 ins(%x : tensor<4x3xf32>) [#pfcn.access<select dim 0>]
      outs(%init : tensor<4x3xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4x3xf32>):
    %0 = pfcn.relu %a : tensor<4x3xf32>
    pfcn.yield %0 : tensor<4x3xf32>
  } -> tensor<4x3xf32>
  return %y : tensor<4x3xf32>
}
