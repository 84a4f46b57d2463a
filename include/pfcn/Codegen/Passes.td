//===- Passes.td - from batched kernels to vector code ----------*- tablegen -*-===//

#ifndef PFCN_CODEGEN_PASSES_TD
#define PFCN_CODEGEN_PASSES_TD

include "mlir/Pass/PassBase.td"

def FuseElementwise : Pass<"pfcn-fuse-elementwise", "::mlir::ModuleOp"> {
  let summary = "fuse elementwise linalg ops of kernels into their elementwise consumers";
  let description = [{
    Upstream's fusion with one restriction: a producer is not fused into a reduction, which would
    compute it once per element reduced, unless it is only a transpose. What remains between two contractions is at
    most one `linalg.generic`.
  }];
  let dependentDialects = ["::mlir::linalg::LinalgDialect", "::mlir::affine::AffineDialect"];
}

def LowerKernels : Pass<"pfcn-lower-kernels", "::mlir::ModuleOp"> {
  let summary = "lower each kernel to a function of loops over SIMD lanes";
  let description = [{
    Each kernel is lowered on a copy, as `convert-pfcn-to-linalg` and `pfcn-fuse-elementwise` would lower it first.

    The function walks tiles of instances; its caller shares them among threads. One
    parallel dimension of the whole region (the instances, or the batch where there are too few)
    lies across the lanes, so every op of the body becomes scalar code on vectors; or, where that is estimated to be quicker, each
    op has one of its own dimensions across the lanes, a convolution its output channels, say. Operands whose
    lanes are not neighbours in memory are transposed in registers once per tile.
    Intermediates live in scratch sized by one tile, never by the number of instances.

    Declines, leaving the kernel as it is, with the reason as a remark and as its attribute `pfcn.declined`: where an
    op has no lowering, where one mixes instances or its dimensions are dynamic, where a tile's
    scratch exceeds `max-scratch` (`max-loop-scratch` with a loop over time), and where the library's matrix products are estimated to be faster. Such a kernel runs op by op.

    What lies across the lanes, and both estimates, are the launch's attribute `pfcn.choice`.
  }];
  let options = [
    Option<"vectorBytes", "vector-bytes", "int64_t", /*default=*/"64", "bytes of a SIMD register of the target">,
    Option<"lanes", "lanes", "int64_t", /*default=*/"0", "lanes to use; 0 for as many as fit a register">,
    Option<"maxScratch", "max-scratch", "int64_t", /*default=*/"262144", "bytes of scratch that a tile may take">,
    Option<"maxLoopScratch", "max-loop-scratch", "int64_t", /*default=*/"16777216",
           "the same where the body has a loop over time, which keeps what its gradient reads of all steps">,
    Option<"packWeights", "pack-weights", "bool", /*default=*/"false",
           "expect stacks of parameters packed in tiles of lanes (frozen weights)">,
    Option<"opLanes", "op-lanes", "std::string", /*default=*/"\"auto\"",
           "whether ops choose lanes of their own: `auto` where that is estimated to be quicker, `never`, `always`, or `blocks`, "
           "where they do so for several rows of the batch at a time">,
    Option<"machine", "machine", "std::string", /*default=*/"\"\"",
           "what estimates are made of, such as `call=3000;matrix=50;library-rate=0.4`: ns of a call of torch's and of a small "
           "matrix in it, the part of the peak rate at which it multiplies (0 to take no kernel for slower than the library), "
           "ns of a vector `operation`, and of a line from `second-cache`, `last-cache` and `memory`">
  ];
  let dependentDialects = [
    "::mlir::affine::AffineDialect", "::mlir::arith::ArithDialect", "::mlir::func::FuncDialect",
    "::mlir::linalg::LinalgDialect", "::mlir::LLVM::LLVMDialect", "::mlir::math::MathDialect",
    "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect", "::mlir::tensor::TensorDialect",
    "::mlir::vector::VectorDialect"
  ];
}

def PlanForGpu : Pass<"pfcn-plan-for-gpu", "::mlir::ModuleOp"> {
  let summary = "choose between one kernel for a group, a kernel for each layer, and cuBLAS";
  let description = [{
    Estimates from the chip's data sheet what a group takes as one kernel, and cut before each of its matrix products:
    each layer is then a kernel, or its product a call of torch (`pfcn.batch_matmul` in the caller, hence cuBLAS) with
    kernels for what stands before and after it. Where the latter is faster the kernel is cut; stacked tensors pass between
    the parts. The estimates are a remark, and the attribute `pfcn.choice` of what the group becomes.

    Kernels that `pfcn-lower-kernels-to-gpu` will have on tensor cores are estimated at their rate.

    A kernel that has a gradient stays one.

    With `after-decline`, kernels that a lowering has declined are cut, since a layer may fit where the whole does not.
  }];
  let options = [
    Option<"chip", "chip", "std::string", /*default=*/"\"sm_90\"", "the chip that the estimates are for">,
    Option<"allowTf32", "allow-tf32", "bool", /*default=*/"false", "f32 may be rounded to tf32 where it is multiplied">,
    Option<"strategy", "strategy", "std::string", /*default=*/"\"auto\"",
           "auto, or whatever is estimated: fused (one kernel), layers (kernels), library (cuBLAS for every product)">,
    Option<"library", "library", "bool", /*default=*/"true", "cuBLAS can be called: tensors are torch's, on the GPU">,
    Option<"afterDecline", "after-decline", "bool", /*default=*/"false", "cut the kernels that were declined">,
    Option<"multiprocessors", "multiprocessors", "double", /*default=*/"0", "of the device; 0 for the chip's">,
    Option<"clock", "clock", "double", /*default=*/"0", "GHz; 0 for the chip's">,
    Option<"bandwidth", "bandwidth", "double", /*default=*/"0", "GB/s of its memory; 0 for the chip's">,
    Option<"launchTime", "launch-time", "double", /*default=*/"0", "us to start a kernel; 0 for 4">,
    Option<"callTime", "call-time", "double", /*default=*/"0", "us of a call of torch; 0 for 8">
  ];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::tensor::TensorDialect"];
}

def LowerKernelsToGpu : Pass<"pfcn-lower-kernels-to-gpu", "::mlir::ModuleOp"> {
  let summary = "lower each kernel to a gpu.func, one lane a thread";
  let description = [{
    The same emission as for the CPU, with threads of a warp for lanes: a block takes a tile of instances and
    a share of the batch. Operands of a tile are brought into shared memory by all threads together, in
    accesses of 128 bits where they are aligned.

    Where the matrix products of a body have a batch as their rows and tensor cores are estimated to be faster, a warp
    takes 16 or 32 rows of one instance through the whole body in registers (`mma.sync`); a remark says so, or why not.

    Declines as `pfcn-lower-kernels` does, where a tile exceeds the shared memory of a block.
  }];
  let options = [
    Option<"chip", "chip", "std::string", /*default=*/"\"sm_90\"", "the chip whose tensor cores may be used; none for any other name">,
    Option<"allowTf32", "allow-tf32", "bool", /*default=*/"false", "f32 may be rounded to tf32 where it is multiplied">,
    Option<"maxShared", "max-shared", "int64_t", /*default=*/"49152", "bytes of shared memory that a block may take">
  ];
  let dependentDialects = [
    "::mlir::affine::AffineDialect", "::mlir::arith::ArithDialect", "::mlir::gpu::GPUDialect",
    "::mlir::linalg::LinalgDialect", "::mlir::LLVM::LLVMDialect", "::mlir::math::MathDialect", "::mlir::memref::MemRefDialect",
    "::mlir::NVVM::NVVMDialect", "::mlir::scf::SCFDialect", "::mlir::tensor::TensorDialect",
    "::mlir::vector::VectorDialect"
  ];
}

#endif // PFCN_CODEGEN_PASSES_TD
