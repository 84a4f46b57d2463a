//===- Pipelines.cpp - the compiler as a list of passes -----------------------------===//

#include "pfcn/Pipelines/Pipelines.h"

#include "pfcn/Codegen/Passes.h"
#include "pfcn/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

void mlir::pfcn::buildDetectPipeline(OpPassManager &pm, FusionReport *report, bool keepInstances, bool differentiate) {
  // What differs in size only is made equal where that pays, before detection looks for equals.
  pm.addNestedPass<func::FuncOp>(createPadInstancesPass(report));
  // Detection reads the model as it was imported: its hashes take time linear in the ops, which
  // canonicalizing 100,000 instances first would not.
  pm.addNestedPass<func::FuncOp>(createFormInstancesPass(report));
  // Before its operators are taken apart: torch's own are what one instance takes without a kernel.
  if (keepInstances)
    pm.addPass(createKeepInstancesPass());
  // Where torch has one operator for a loop over time, a kernel has the loop.
  pm.addNestedPass<func::FuncOp>(createExpandRecurrencesPass(ExpandRecurrencesPassOptions{differentiate}));
  // While operators still have their names.
  pm.addNestedPass<func::FuncOp>(createCheckIndicesPass());
  // Before the cut, which is to leave groups that train.
  if (differentiate)
    pm.addNestedPass<func::FuncOp>(createMarkForeignPass());
  // What no kernel can hold becomes one call of torch's for all instances.
  pm.addNestedPass<func::FuncOp>(createSplitInstancesPass());
  if (keepInstances) // of what the cut has left
    pm.addPass(createKeepInstancesPass());
  // What has no kernel is one call of torch's all the same; so this is last.
  pm.addNestedPass<func::FuncOp>(createInlineComposedPass());
}

void mlir::pfcn::buildFusePipeline(OpPassManager &pm, FusionReport *report) {
  buildDetectPipeline(pm, report);
  // A group that cannot be batched stays `pfcn.instances`, with the reason as a remark.
  pm.addNestedPass<func::FuncOp>(createBatchInstancesPass());
}

static void addCleanup(OpPassManager &pm) {
  // The index arithmetic of the loops, which was emitted without looking back.
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
}

void mlir::pfcn::buildCpuPipeline(OpPassManager &pm, const CpuPipelineOptions &options) {
  // Takes each kernel to linalg and to a function on a copy, as a whole or not at all: what stays in
  // the pfcn dialect runs op by op through torch.
  LowerKernelsOptions lower;
  lower.vectorBytes = options.vectorBytes;
  lower.packWeights = options.packWeights;
  lower.opLanes = options.opLanes;
  lower.machine = options.machine;
  pm.addPass(createLowerKernels(lower));
  addCleanup(pm);
}

void mlir::pfcn::buildNvvmPipeline(OpPassManager &pm, const NvvmPipelineOptions &options) {
  // Before bodies are linalg: the parts of a group are told by its ops.
  PlanForGpuOptions plan;
  plan.chip = options.chip;
  plan.allowTf32 = options.allowTf32;
  plan.strategy = options.strategy;
  plan.library = options.library;
  pm.addPass(createPlanForGpu(plan));
  LowerKernelsToGpuOptions lower;
  lower.chip = options.chip;
  lower.allowTf32 = options.allowTf32;
  pm.addPass(createLowerKernelsToGpu(lower));
  // What does not fit one kernel may fit several.
  plan.afterDecline = true;
  pm.addPass(createPlanForGpu(plan));
  pm.addPass(createLowerKernelsToGpu(lower));
  addCleanup(pm);
}

namespace {
struct TestFailurePass : PassWrapper<TestFailurePass, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(TestFailurePass)
  StringRef getArgument() const override { return "pfcn-test-failure"; }
  StringRef getDescription() const override { return "fails, to test what happens then"; }
  void runOnOperation() override {
    getOperation().emitError("this pass fails, as asked");
    signalPassFailure();
  }
};
} // namespace

std::unique_ptr<Pass> mlir::pfcn::createTestFailurePass() { return std::make_unique<TestFailurePass>(); }

void mlir::pfcn::registerPipelines(std::function<std::string()> getChip) {
  PassRegistration<TestFailurePass>();
  PassPipelineRegistration<>("pfcn-pipeline-fuse", "from an imported model to batched kernels",
                             [](OpPassManager &pm) { buildFusePipeline(pm); });
  PassPipelineRegistration<CpuPipelineOptions>("pfcn-pipeline-cpu", "from a model to functions of vector code",
                                               [](OpPassManager &pm, const CpuPipelineOptions &options) {
                                                 buildFusePipeline(pm);
                                                 buildCpuPipeline(pm, options);
                                               });
  PassPipelineRegistration<NvvmPipelineOptions>(
      "pfcn-pipeline-nvvm", "from a model to functions of a GPU",
      [getChip = std::move(getChip)](OpPassManager &pm, const NvvmPipelineOptions &given) {
        NvvmPipelineOptions options;
        options.copyOptionValuesFrom(given);
        if (options.chip.empty())
          options.chip = getChip();
        buildFusePipeline(pm);
        buildNvvmPipeline(pm, options);
      });
}
