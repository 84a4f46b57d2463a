// RUN: pfcn-opt %s --pfcn-lower-kernels=max-loop-scratch=67108864 | FileCheck %s
// RUN: pfcn-opt %s --pfcn-lower-kernels='max-loop-scratch=1024 max-scratch=1024' | FileCheck %s --check-prefix=SMALL
// With a loop over time a tile may take more scratch than a thread's stack should hold: it is the heap's, once a call.

// CHECK-LABEL: func.func @rnn
// CHECK: %[[A:.*]] = memref.alloc() {alignment = 64 : i64}
// CHECK: scf.for
// CHECK: memref.dealloc %[[A]]
// CHECK: return
// SMALL: pfcn.declined = "a tile needs {{[0-9]+}} bytes of scratch, more than 1024
func.func @forward(%x: tensor<2x8x4096x16xf32>, %w: tensor<2x64x16xf32>, %u: tensor<2x64x64xf32>, %h: tensor<2x8x64xf32>) -> tensor<2x8x4096xf32> {
  %init = pfcn.empty : tensor<2x8x4096xf32>
  %y = pfcn.kernel "rnn" count 2 ins(%x, %w, %u, %h : tensor<2x8x4096x16xf32>, tensor<2x64x16xf32>, tensor<2x64x64xf32>, tensor<2x8x64xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
      outs(%init : tensor<2x8x4096xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<2x8x4096x16xf32>, %b: tensor<2x64x16xf32>, %c: tensor<2x64x64xf32>, %d: tensor<2x8x64xf32>):
    %0 = pfcn.recurrence "tanh" %a, %b, %c, %d : (tensor<2x8x4096x16xf32>, tensor<2x64x16xf32>, tensor<2x64x64xf32>, tensor<2x8x64xf32>) -> tensor<2x8x4096x64xf32>
    %1 = pfcn.sum %0 dims [3] : tensor<2x8x4096x64xf32> -> tensor<2x8x4096xf32>
    pfcn.yield %1 : tensor<2x8x4096xf32>
  } -> tensor<2x8x4096xf32>
  return %y : tensor<2x8x4096xf32>
}
