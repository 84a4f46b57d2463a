//===- Pipelines.h - the compiler as a list of passes -------------------*- C++ -*-===//
//
// Each pipeline in one place; each pass in it with the reason for its position.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_PIPELINES_PIPELINES_H
#define PFCN_PIPELINES_PIPELINES_H

#include "pfcn/Transforms/FusionReport.h"

#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"

#include <functional>
#include <string>

namespace mlir::pfcn {

struct CpuPipelineOptions : PassPipelineOptions<CpuPipelineOptions> {
  Option<int64_t> vectorBytes{*this, "vector-bytes", llvm::cl::desc("bytes of a SIMD register of the target"),
                              llvm::cl::init(64)};
  Option<bool> packWeights{*this, "pack-weights", llvm::cl::desc("expect frozen weights, packed in tiles of lanes"),
                           llvm::cl::init(false)};
  Option<std::string> opLanes{*this, "op-lanes",
                              llvm::cl::desc("whether ops choose lanes of their own: auto, never, always or blocks"),
                              llvm::cl::init("auto")};
  Option<std::string> machine{*this, "machine",
                              llvm::cl::desc("what estimates are made of, such as `call=3000;library-rate=0.4`"),
                              llvm::cl::init("")};
};

struct NvvmPipelineOptions : PassPipelineOptions<NvvmPipelineOptions> {
  Option<std::string> chip{*this, "chip", llvm::cl::desc("the chip to plan for, whose tensor cores may be used"),
                           llvm::cl::init("")};
  Option<bool> allowTf32{*this, "allow-tf32", llvm::cl::desc("f32 may be rounded to tf32 where it is multiplied"),
                         llvm::cl::init(false)};
  Option<std::string> strategy{*this, "strategy",
                               llvm::cl::desc("what a group becomes: auto, fused, layers or library"),
                               llvm::cl::init("auto")};
  Option<bool> library{*this, "library", llvm::cl::desc("cuBLAS can be called, through torch"), llvm::cl::init(true)};
};

/// From an imported model to groups of instances; `report`, if given, is filled. `keepInstances`: each body stays
/// known as it was found. `differentiate`: groups are cut where they have no gradient.
void buildDetectPipeline(OpPassManager &pm, FusionReport *report = nullptr, bool keepInstances = false,
                         bool differentiate = false);

/// From an imported model to batched kernels; `report`, if given, is filled.
void buildFusePipeline(OpPassManager &pm, FusionReport *report = nullptr);

/// From batched kernels to functions of vector code.
void buildCpuPipeline(OpPassManager &pm, const CpuPipelineOptions &options);

/// From batched kernels to functions of a GPU.
void buildNvvmPipeline(OpPassManager &pm, const NvvmPipelineOptions &options);

/// `--pfcn-test-failure`: a pass that fails, to test what happens then.
std::unique_ptr<Pass> createTestFailurePass();

/// `--pfcn-pipeline-fuse`, and `--pfcn-pipeline-cpu` and `--pfcn-pipeline-nvvm`, which fuse first what is
/// not fused yet. `getChip` is asked for the chip of the last one where its options do not name it.
void registerPipelines(std::function<std::string()> getChip);

} // namespace mlir::pfcn

#endif // PFCN_PIPELINES_PIPELINES_H
