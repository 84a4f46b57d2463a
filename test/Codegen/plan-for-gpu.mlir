// RUN: pfcn-opt %s --pfcn-plan-for-gpu --remarks-filter=pfcn.lowering 2>&1 | FileCheck %s
// RUN: pfcn-opt %s --pfcn-plan-for-gpu=strategy=layers | FileCheck %s --check-prefix=LAYERS
// RUN: pfcn-opt %s --pfcn-plan-for-gpu=library=false --pfcn-lower-kernels-to-gpu --pfcn-plan-for-gpu="library=false after-decline" --pfcn-lower-kernels-to-gpu | FileCheck %s --check-prefix=FITS
// RUN: not pfcn-opt %s --pfcn-plan-for-gpu=strategy=best 2>&1 | FileCheck %s --check-prefix=ERROR

// Matrices for which cuBLAS is faster: its products in the caller, kernels for what follows them.

// CHECK: remark: [Analysis] PlanForGpu{{.*}}2 kernels and 2 calls of cuBLAS: {{.*}} us are estimated for one kernel, {{.*}} (H100 SXM)
// CHECK-LABEL: func.func @forward
// CHECK:         %[[STACKED:.*]] = pfcn.gather_instances %arg0 <slice dim 1 size 256 stride 256>
// CHECK:         %[[FIRST:.*]] = pfcn.batch_matmul %[[STACKED]], %{{.*}} {transpose_rhs}
// CHECK:         %[[INIT:.*]] = pfcn.empty : tensor<4x256x1024xf32>
// CHECK:         %[[HIDDEN:.*]] = pfcn.kernel "mlp" count 4 ins(%[[FIRST]], %{{.*}}) [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>] outs(%[[INIT]] {{.*}} [#pfcn.access<select dim 0>]
// CHECK:           pfcn.unsqueeze
// CHECK-NEXT:      pfcn.add
// CHECK-NEXT:      pfcn.relu
// CHECK:         %[[SECOND:.*]] = pfcn.batch_matmul %[[HIDDEN]], %{{.*}} {transpose_rhs}
// CHECK:         pfcn.kernel "mlp" count 4 ins(%[[SECOND]], {{.*}} outs({{.*}} [#pfcn.access<slice dim 1 size 256 stride 256>]

// LAYERS-LABEL: func.func @forward
// LAYERS-COUNT-2: pfcn.kernel
// LAYERS-NOT:     pfcn.kernel

// A group whose tile fits no block is cut; what still does not fit is left to torch.
// FITS-LABEL: func.func @forward
// FITS-COUNT-2: {{pfcn.kernel|pfcn.launch}}

// ERROR: error: strategy is auto, fused, layers or library, not 'best'
func.func @forward(%x: tensor<256x1024xf32>) -> tensor<256x1024xf32> {
  %w = pfcn.parameter_stack ["a.w", "b.w", "c.w", "d.w"] : tensor<4x1024x256xf32>
  %b = pfcn.parameter_stack ["a.b", "b.b", "c.b", "d.b"] : tensor<4x1024xf32>
  %v = pfcn.parameter_stack ["a.v", "b.v", "c.v", "d.v"] : tensor<4x256x1024xf32>
  %c = pfcn.parameter_stack ["a.c", "b.c", "c.c", "d.c"] : tensor<4x256xf32>
  %init = pfcn.empty : tensor<256x1024xf32>
  %y = pfcn.kernel "mlp" count 4
    ins(%x, %w, %b, %v, %c : tensor<256x1024xf32>, tensor<4x1024x256xf32>, tensor<4x1024xf32>, tensor<4x256x1024xf32>, tensor<4x256xf32>)
    [#pfcn.access<slice dim 1 size 256 stride 256>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>,
     #pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
    outs(%init : tensor<256x1024xf32>) [#pfcn.access<slice dim 1 size 256 stride 256>] {
  ^bb0(%a: tensor<4x256x256xf32>, %p: tensor<4x1024x256xf32>, %q: tensor<4x1024xf32>, %r: tensor<4x256x1024xf32>, %s: tensor<4x256xf32>):
    %0 = pfcn.batch_matmul %a, %p {transpose_rhs} : tensor<4x256x256xf32>, tensor<4x1024x256xf32> -> tensor<4x256x1024xf32>
    %1 = pfcn.unsqueeze %q dim 1 : tensor<4x1024xf32> -> tensor<4x1x1024xf32>
    %2 = pfcn.add %0, %1 : tensor<4x256x1024xf32>, tensor<4x1x1024xf32> -> tensor<4x256x1024xf32>
    %3 = pfcn.relu %2 : tensor<4x256x1024xf32>
    %4 = pfcn.batch_matmul %3, %r {transpose_rhs} : tensor<4x256x1024xf32>, tensor<4x256x1024xf32> -> tensor<4x256x256xf32>
    %5 = pfcn.unsqueeze %s dim 1 : tensor<4x256xf32> -> tensor<4x1x256xf32>
    %6 = pfcn.add %4, %5 : tensor<4x256x256xf32>, tensor<4x1x256xf32> -> tensor<4x256x256xf32>
    pfcn.yield %6 : tensor<4x256x256xf32>
  } -> tensor<256x1024xf32>
  return %y : tensor<256x1024xf32>
}
