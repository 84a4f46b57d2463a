// RUN: pfcn-opt %s --pfcn-pipeline-nvvm --remarks-filter=pfcn.lowering 2>&1 | FileCheck %s
// RUN: pfcn-opt %s --pfcn-pipeline-nvvm --chip=sm_75 | FileCheck %s --check-prefix=SM75
// RUN: pfcn-opt %s --pfcn-pipeline-nvvm --emit=launches | FileCheck %s --check-prefix=LAUNCHES
// RUN: pfcn-opt %s --pfcn-pipeline-nvvm --emit=ptx --chip=sm_80 | FileCheck %s --check-prefix=PTX

// Two instances of a layer with bias and ReLU, 32 features in and out, and 48 rows of a batch: three warps of 16 rows.

// CHECK:         remark: [Passed] TensorCores | {{.*}} instruction=mma.m16n8k16.f16, kernel=bank, {{.*}}rows=16, warps=1
// CHECK-LABEL: func.func @forward
// CHECK:         pfcn.launch @bank count 2 tiles 2
// CHECK-SAME:    {pfcn.block = array<i64: 32, 1, 1>, {{.*}}pfcn.grid_y = 3 : i64, pfcn.tensor_cores = "mma.m16n8k16.f16"}
// CHECK-LABEL: gpu.func @bank(
// No shared memory.
// CHECK-NOT:     workgroup
// One branch for all tensors; 128 bits of a row of x, of a row of w and of the bias, for two products along the depth.
// CHECK:         memref.extract_aligned_pointer_as_index
// CHECK:         scf.if
// CHECK:           scf.for
// CHECK-COUNT-2:     vector.load {{.*}} {alignment = 16 : i64} : {{.*}}, vector<8xf16>
// CHECK:             vector.load {{.*}} {alignment = 16 : i64} : {{.*}}, vector<8xf16>
// CHECK-COUNT-2:     nvvm.mma.sync {{.*}} shape = #nvvm.shape<m = 16, n = 8, k = 16>
// The bias and the ReLU on pairs of accumulators.
// CHECK:             arith.truncf {{.*}} : vector<2xf32> to vector<2xf16>
// CHECK:             arith.addf {{.*}} : vector<2xf16>
// CHECK:             arith.maximumf {{.*}} : vector<2xf16>
// CHECK-COUNT-6:     nvvm.mma.sync
// CHECK-COUNT-2:     vector.store {{.*}} {alignment = 16 : i64} : {{.*}}, vector<8xf16>
// CHECK:         } else {
// CHECK:           memref.load

// SM75:          pfcn.tensor_cores = "mma.m16n8k8.f16"
// SM75:          nvvm.mma.sync {{.*}} shape = #nvvm.shape<m = 16, n = 8, k = 8>
// SM75-NOT:      k = 16>

// LAUNCHES:      "tensor_cores": "mma.m16n8k16.f16"

// PTX:           ld.global.v4.b32
// PTX:           mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32
// PTX:           cvt.rn.f16x2.f32
// PTX:           add.rn.f16x2
// PTX:           max.NaN.f16x2
// PTX:           st.global.v4.b32
func.func @forward(%x: tensor<48x32xf16>) -> tensor<48x64xf16> {
  %w = pfcn.parameter_stack ["0", "1"] : tensor<2x32x32xf16>
  %b = pfcn.parameter_stack ["2", "3"] : tensor<2x32xf16>
  %init = pfcn.empty : tensor<48x64xf16>
  %y = pfcn.kernel "bank" count 2 ins(%x, %w, %b : tensor<48x32xf16>, tensor<2x32x32xf16>, tensor<2x32xf16>)
    [#pfcn.access<shared>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
    outs(%init : tensor<48x64xf16>) [#pfcn.access<slice dim 1 size 32 stride 32>] {
  ^bb0(%a: tensor<48x32xf16>, %v: tensor<2x32x32xf16>, %c: tensor<2x32xf16>):
    %0 = pfcn.batch_matmul %a, %v {transpose_rhs} : tensor<48x32xf16>, tensor<2x32x32xf16> -> tensor<2x48x32xf16>
    %1 = pfcn.unsqueeze %c dim 1 : tensor<2x32xf16> -> tensor<2x1x32xf16>
    %2 = pfcn.add %0, %1 : tensor<2x48x32xf16>, tensor<2x1x32xf16> -> tensor<2x48x32xf16>
    %3 = pfcn.relu %2 : tensor<2x48x32xf16>
    pfcn.yield %3 : tensor<2x48x32xf16>
  } -> tensor<48x64xf16>
  return %y : tensor<48x64xf16>
}
