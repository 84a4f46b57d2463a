//===- Pipelines.h - the compiler as a list of passes -------------------*- C++ -*-===//
//
// Each pipeline in one place; each pass in it with the reason for its position.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_PIPELINES_PIPELINES_H
#define PFCN_PIPELINES_PIPELINES_H

#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"

namespace mlir::pfcn {

struct CpuPipelineOptions : PassPipelineOptions<CpuPipelineOptions> {
  Option<int64_t> vectorBytes{*this, "vector-bytes", llvm::cl::desc("bytes of a SIMD register of the target"),
                              llvm::cl::init(64)};
  Option<bool> packWeights{*this, "pack-weights", llvm::cl::desc("expect frozen weights, packed in tiles of lanes"),
                           llvm::cl::init(false)};
};

/// From batched kernels to functions of vector code.
void buildCpuPipeline(OpPassManager &pm, const CpuPipelineOptions &options);

void registerPipelines();

} // namespace mlir::pfcn

#endif // PFCN_PIPELINES_PIPELINES_H
