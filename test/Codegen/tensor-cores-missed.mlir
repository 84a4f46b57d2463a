// RUN: pfcn-opt %s --split-input-file --pfcn-pipeline-nvvm=strategy=fused --remarks-filter=pfcn.lowering 2>&1 | FileCheck %s
// RUN: pfcn-opt %s --split-input-file --pfcn-pipeline-nvvm="strategy=fused allow-tf32=true" | FileCheck %s --check-prefix=TF32

// Four rows would leave most of a product unused.

// CHECK:       remark: [Missed] TensorCores | {{.*}}Reason="each thread multiplies by itself: 4 rows are too few: {{[0-9]+}} cycles are estimated, and {{[0-9]+}} without tensor cores", kernel=few
// CHECK:       pfcn.launch @few
// CHECK-NOT:   nvvm.mma.sync
func.func @few(%x: tensor<4x16xf16>) -> tensor<4x32xf16> {
  %w = pfcn.parameter_stack ["0", "1"] : tensor<2x16x16xf16>
  %init = pfcn.empty : tensor<4x32xf16>
  %y = pfcn.kernel "few" count 2 ins(%x, %w : tensor<4x16xf16>, tensor<2x16x16xf16>)
    [#pfcn.access<shared>, #pfcn.access<select dim 0>]
    outs(%init : tensor<4x32xf16>) [#pfcn.access<slice dim 1 size 16 stride 16>] {
  ^bb0(%a: tensor<4x16xf16>, %v: tensor<2x16x16xf16>):
    %0 = pfcn.batch_matmul %a, %v {transpose_rhs} : tensor<4x16xf16>, tensor<2x16x16xf16> -> tensor<2x4x16xf16>
    pfcn.yield %0 : tensor<2x4x16xf16>
  } -> tensor<4x32xf16>
  return %y : tensor<4x32xf16>
}

// -----

// f32 is multiplied as f32, unless tf32 is allowed.

// CHECK-LABEL: func.func @full
// CHECK-NOT:   nvvm.mma.sync
// TF32-LABEL:  func.func @full
// TF32:        pfcn.tensor_cores = "mma.m16n8k8.tf32"
// TF32:        nvvm.convert.float.to.tf32
// TF32:        nvvm.mma.sync
func.func @full(%x: tensor<64x16xf32>) -> tensor<64x32xf32> {
  %w = pfcn.parameter_stack ["0", "1"] : tensor<2x16x16xf32>
  %init = pfcn.empty : tensor<64x32xf32>
  %y = pfcn.kernel "full" count 2 ins(%x, %w : tensor<64x16xf32>, tensor<2x16x16xf32>)
    [#pfcn.access<shared>, #pfcn.access<select dim 0>]
    outs(%init : tensor<64x32xf32>) [#pfcn.access<slice dim 1 size 16 stride 16>] {
  ^bb0(%a: tensor<64x16xf32>, %v: tensor<2x16x16xf32>):
    %0 = pfcn.batch_matmul %a, %v {transpose_rhs} : tensor<64x16xf32>, tensor<2x16x16xf32> -> tensor<2x64x16xf32>
    pfcn.yield %0 : tensor<2x64x16xf32>
  } -> tensor<64x32xf32>
  return %y : tensor<64x32xf32>
}

// -----

// More features than the registers of a warp hold.

// CHECK:       remark: [Missed] TensorCores | {{.*}}its layers are too wide: a thread would need {{[0-9]+}} registers
// CHECK-LABEL: func.func @wide
// CHECK-NOT:   nvvm.mma.sync
func.func @wide(%x: tensor<64x512xbf16>) -> tensor<64x1024xbf16> {
  %w = pfcn.parameter_stack ["0", "1"] : tensor<2x512x512xbf16>
  %init = pfcn.empty : tensor<64x1024xbf16>
  %y = pfcn.kernel "wide" count 2 ins(%x, %w : tensor<64x512xbf16>, tensor<2x512x512xbf16>)
    [#pfcn.access<shared>, #pfcn.access<select dim 0>]
    outs(%init : tensor<64x1024xbf16>) [#pfcn.access<slice dim 1 size 512 stride 512>] {
  ^bb0(%a: tensor<64x512xbf16>, %v: tensor<2x512x512xbf16>):
    %0 = pfcn.batch_matmul %a, %v {transpose_rhs} : tensor<64x512xbf16>, tensor<2x512x512xbf16> -> tensor<2x64x512xbf16>
    pfcn.yield %0 : tensor<2x64x512xbf16>
  } -> tensor<64x1024xbf16>
  return %y : tensor<64x1024xbf16>
}
