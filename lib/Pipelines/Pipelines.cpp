//===- Pipelines.cpp - the compiler as a list of passes -----------------------------===//

#include "pfcn/Pipelines/Pipelines.h"

#include "pfcn/Codegen/Passes.h"
#include "pfcn/Conversion/PfcnToLinalg/Passes.h"

#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

void mlir::pfcn::buildCpuPipeline(OpPassManager &pm, const CpuPipelineOptions &options) {
  // Wholly or not at all per kernel: what stays in the pfcn dialect runs op by op through torch.
  pm.addPass(createConvertPfcnToLinalg());
  // Before the loops are made: two elementwise ops are one payload then, with no scratch between.
  pm.addPass(createFuseElementwise());
  LowerKernelsOptions lower;
  lower.vectorBytes = options.vectorBytes;
  lower.packWeights = options.packWeights;
  pm.addPass(createLowerKernels(lower));
  // The index arithmetic of the loops, which was emitted without looking back.
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
}

void mlir::pfcn::registerPipelines() {
  PassPipelineRegistration<CpuPipelineOptions>("pfcn-pipeline-cpu", "from batched kernels to functions of vector code",
                                               buildCpuPipeline);
}
