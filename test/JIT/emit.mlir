// What --emit prints of one bank, for the CPU and for a GPU.

// RUN: pfcn-opt %s --pfcn-pipeline-cpu --emit=llvm --chip=x86-64-v3 | FileCheck %s --check-prefix=LLVM
// RUN: pfcn-opt %s --pfcn-pipeline-cpu --emit=obj --chip=x86-64-v4 -o %t.o
// RUN: llvm-nm %t.o | FileCheck %s --check-prefix=OBJ
// RUN: pfcn-opt %s --pfcn-pipeline-nvvm --emit=ptx --chip=sm_75 | FileCheck %s --check-prefix=PTX
// RUN: pfcn-opt %s --pfcn-pipeline-nvvm --emit=launches | FileCheck %s --check-prefix=LAUNCHES
// RUN: not pfcn-opt %s --pfcn-pipeline-nvvm --emit=ptx --chip=sm_1 2>&1 | FileCheck %s --check-prefix=CHIP
// RUN: not pfcn-opt %s --pfcn-pipeline-cpu --emit=llvm --chip=pdp11 2>&1 | FileCheck %s --check-prefix=CPU
// RUN: not pfcn-opt %s --pfcn-pipeline-cpu --emit=ptx 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: not env PATH=/nowhere CUDA_ROOT=/nowhere CUDA_HOME=/nowhere %pfcn_opt %s --pfcn-pipeline-nvvm --emit=cubin 2>&1 | FileCheck %s --check-prefix=PTXAS

// LLVM: define void @bank(
// LLVM: fmul contract <8 x float>

// Machine code with one entry of a common signature.
// OBJ: T pfcn_packed_bank

// The square root is rounded correctly, and nothing is left for libdevice.
// PTX: .target sm_75
// PTX: .visible .entry bank(
// PTX: .maxntid 32, 4, 1
// PTX: ld.global.v4.
// PTX: bar.sync
// PTX: fma.rn.f32
// PTX: sqrt.rn.f32
// PTX-NOT: .extern

// LAUNCHES: "args": [
// LAUNCHES: "dtype": "f32",
// LAUNCHES: "kind": "buffer",
// LAUNCHES: "name": "input0",
// LAUNCHES: "block": [
// LAUNCHES-NEXT: 32,
// LAUNCHES-NEXT: 4,
// LAUNCHES-NEXT: 1
// LAUNCHES: "grid": [
// LAUNCHES-NEXT: 1,
// LAUNCHES-NEXT: 1,
// LAUNCHES: "kernel": "bank",
// LAUNCHES: "shared_bytes": {{[0-9]+}}

// CHIP: error: unknown chip 'sm_1': name one of sm_75
// CPU: error: unknown processor 'pdp11': name one as clang's -march does
// NONE: error: the module has no GPU kernels: run --pfcn-lower-kernels-to-gpu first
// PTXAS: error: ptxas is in none of CUDA_ROOT, CUDA_HOME and PATH: install CUDA, or `pip install nvidia-cuda-nvcc`
func.func @forward(%x: tensor<8x24xf32>) -> tensor<8x12xf32> {
  %w = pfcn.parameter_stack ["0", "1", "2"] : tensor<3x4x8xf32>
  %init = pfcn.empty : tensor<8x12xf32>
  %y = pfcn.kernel "bank" count 3 ins(%x, %w : tensor<8x24xf32>, tensor<3x4x8xf32>)
    [#pfcn.access<slice dim 1 size 8 stride 8>, #pfcn.access<select dim 0>]
    outs(%init : tensor<8x12xf32>) [#pfcn.access<slice dim 1 size 4 stride 4>] {
  ^bb0(%a: tensor<3x8x8xf32>, %v: tensor<3x4x8xf32>):
    %0 = pfcn.batch_matmul %a, %v {transpose_rhs} : tensor<3x8x8xf32>, tensor<3x4x8xf32> -> tensor<3x8x4xf32>
    %1 = pfcn.sqrt %0 : tensor<3x8x4xf32>
    pfcn.yield %1 : tensor<3x8x4xf32>
  } -> tensor<8x12xf32>
  return %y : tensor<8x12xf32>
}
