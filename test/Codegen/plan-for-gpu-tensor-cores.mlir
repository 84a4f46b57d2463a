// RUN: pfcn-opt %s --pfcn-plan-for-gpu=chip=sm_80 --remarks-filter=pfcn.lowering 2>&1 | FileCheck %s
// RUN: pfcn-opt %s --pfcn-plan-for-gpu=chip=sm_75 | FileCheck %s --check-prefix=SM75
// RUN: pfcn-opt %s --pfcn-plan-for-gpu="chip=sm_75 strategy=fused" | FileCheck %s --check-prefix=FUSED
// RUN: pfcn-opt %s --pfcn-pipeline-nvvm --chip=sm_80 | FileCheck %s --check-prefix=LOWERED

// Where tensor cores multiply bf16, one kernel is estimated to be quicker than cuBLAS, and is lowered to them. sm_75 has
// none for it. A kernel with a gradient stays one, for the gradient is that of the whole.

// CHECK:         remark: [Analysis] PlanForGpu{{.*}}"one kernel: {{.*}}(A100 SXM)", kernel=chain
// CHECK-LABEL: func.func @forward
// CHECK:         pfcn.kernel "chain"
// CHECK-NOT:     pfcn.kernel
// CHECK:         pfcn.kernel "followed"
// CHECK-NOT:     pfcn.kernel
// SM75-LABEL:  func.func @forward
// SM75:          %[[HIDDEN:.*]] = pfcn.batch_matmul
// SM75:          pfcn.kernel "chain"
// SM75:          pfcn.kernel "followed"
// SM75-NOT:      pfcn.kernel
// FUSED-COUNT-2: pfcn.kernel
// FUSED-NOT:     pfcn.kernel
// LOWERED:       pfcn.launch @chain {{.*}}pfcn.choice = "one kernel: {{.*}}pfcn.tensor_cores = "mma.m16n8k16.bf16"
func.func @forward(%x: tensor<16x4096x64xbf16>) -> (tensor<16x4096x64xbf16>, tensor<16x4096x64xbf16>) {
  %w = pfcn.empty : tensor<16x64x64xbf16>
  %v = pfcn.empty : tensor<16x64x64xbf16>
  %init = pfcn.empty : tensor<16x4096x64xbf16>
  %y = pfcn.kernel "chain" count 16
    ins(%x, %w, %v : tensor<16x4096x64xbf16>, tensor<16x64x64xbf16>, tensor<16x64x64xbf16>)
    [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
    outs(%init : tensor<16x4096x64xbf16>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<16x4096x64xbf16>, %p: tensor<16x64x64xbf16>, %q: tensor<16x64x64xbf16>):
    %0 = pfcn.batch_matmul %a, %p {transpose_rhs} : tensor<16x4096x64xbf16>, tensor<16x64x64xbf16> -> tensor<16x4096x64xbf16>
    %1 = pfcn.relu %0 : tensor<16x4096x64xbf16>
    %2 = pfcn.batch_matmul %1, %q {transpose_rhs} : tensor<16x4096x64xbf16>, tensor<16x64x64xbf16> -> tensor<16x4096x64xbf16>
    %3 = pfcn.relu %2 : tensor<16x4096x64xbf16>
    pfcn.yield %3 : tensor<16x4096x64xbf16>
  } -> tensor<16x4096x64xbf16>
  %z = pfcn.kernel "followed" count 16
    ins(%x, %w, %v : tensor<16x4096x64xbf16>, tensor<16x64x64xbf16>, tensor<16x64x64xbf16>)
    [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
    outs(%init : tensor<16x4096x64xbf16>) [#pfcn.access<select dim 0>] attributes {pfcn.gradient = 0 : i64} {
  ^bb0(%a: tensor<16x4096x64xbf16>, %p: tensor<16x64x64xbf16>, %q: tensor<16x64x64xbf16>):
    %0 = pfcn.batch_matmul %a, %p {transpose_rhs} : tensor<16x4096x64xbf16>, tensor<16x64x64xbf16> -> tensor<16x4096x64xbf16>
    %1 = pfcn.relu %0 : tensor<16x4096x64xbf16>
    %2 = pfcn.batch_matmul %1, %q {transpose_rhs} : tensor<16x4096x64xbf16>, tensor<16x64x64xbf16> -> tensor<16x4096x64xbf16>
    pfcn.yield %2 : tensor<16x4096x64xbf16>
  } -> tensor<16x4096x64xbf16>
  return %y, %z : tensor<16x4096x64xbf16>, tensor<16x4096x64xbf16>
}
