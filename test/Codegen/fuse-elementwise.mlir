// RUN: pfcn-opt %s --convert-pfcn-to-linalg --pfcn-fuse-elementwise | FileCheck %s
// RUN: pfcn-opt %s --pfcn-lower-kernels='lanes=4 max-scratch=4096' | FileCheck %s --check-prefix=LOOPS

// Elementwise ops become one payload, and a linear layer on [batch · sequence, width] is taken apart into the
// dimensions that were merged.
// CHECK-LABEL: pfcn.kernel "merged"
// CHECK-NOT: collapse_shape
// CHECK: linalg.generic {{.*}}ins(%{{.*}} : tensor<4x3x5x2xf32>, tensor<4x6x2xf32>)
// CHECK: linalg.generic
// CHECK: arith.addf
// CHECK: arith.maximumf
// CHECK-NOT: linalg.generic
// CHECK: pfcn.yield

// So the batch is a loop outside of the ops, and scratch is of one element of it.
// LOOPS-LABEL: func.func @merged
// LOOPS-NOT: memref.alloca() {{.*}}memref<{{[0-9][0-9]+}}xf32>
// LOOPS: scf.for %{{.*}} = %{{.*}} to %c3
func.func @f(%x: tensor<4x3x5x2xf32>, %w: tensor<4x6x2xf32>, %b: tensor<4x6xf32>) -> tensor<4x3x5x6xf32> {
  %init = pfcn.empty : tensor<4x3x5x6xf32>
  %r = pfcn.kernel "merged" count 4 ins(%x, %w, %b : tensor<4x3x5x2xf32>, tensor<4x6x2xf32>, tensor<4x6xf32>) [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>] outs(%init : tensor<4x3x5x6xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%x1: tensor<4x3x5x2xf32>, %w1: tensor<4x6x2xf32>, %b1: tensor<4x6xf32>):
    %flat = pfcn.reshape %x1 : tensor<4x3x5x2xf32> to tensor<4x15x2xf32>
    %y = pfcn.batch_matmul %flat, %w1 {transpose_rhs} : tensor<4x15x2xf32>, tensor<4x6x2xf32> -> tensor<4x15x6xf32>
    %b2 = pfcn.unsqueeze %b1 dim 1 : tensor<4x6xf32> -> tensor<4x1x6xf32>
    %z = pfcn.add %y, %b2 : tensor<4x15x6xf32>, tensor<4x1x6xf32> -> tensor<4x15x6xf32>
    %a = pfcn.relu %z : tensor<4x15x6xf32>
    %out = pfcn.reshape %a : tensor<4x15x6xf32> to tensor<4x3x5x6xf32>
    pfcn.yield %out : tensor<4x3x5x6xf32>
  } -> tensor<4x3x5x6xf32>
  return %r : tensor<4x3x5x6xf32>
}
