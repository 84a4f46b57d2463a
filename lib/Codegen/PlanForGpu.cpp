//===- PlanForGpu.cpp - one kernel for a group, several, or cuBLAS --------------------===//

#include "pfcn/Codegen/Passes.h"
#include "pfcn/Codegen/SplitKernel.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Remarks.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/FormatVariadic.h"

namespace mlir::pfcn {
#define GEN_PASS_DEF_PLANFORGPU
#include "pfcn/Codegen/Passes.h.inc"
} // namespace mlir::pfcn

using namespace mlir;
using namespace mlir::pfcn;

static std::string describe(int64_t count, StringRef noun) {
  return llvm::formatv("{0} {1}{2}", count, noun, count == 1 ? "" : "s");
}

static std::string describe(const GpuPlan &plan, const GpuChip &chip) {
  auto count = [&](auto kind) { return llvm::count_if(plan.layers, [&](const Piece &p) { return p.kind == kind; }); };
  int64_t kernels = count(Piece::Kernel), calls = plan.layers.size() - kernels;
  std::string split = describe(kernels, "kernel");
  if (calls > 0)
    split += " and " + describe(calls, "call") + " of cuBLAS";
  return llvm::formatv("{0}: {1:F1} us are estimated for one kernel, {2:F1} for {3} ({4})",
                       plan.isSplit ? split : "one kernel", plan.fused, plan.split, split, chip.product);
}

namespace {
struct PlanForGpu : mlir::pfcn::impl::PlanForGpuBase<PlanForGpu> {
  using PlanForGpuBase::PlanForGpuBase;

  void runOnOperation() override {
    std::optional<GpuStrategy> parsed = llvm::StringSwitch<std::optional<GpuStrategy>>(strategy)
                                            .Case("auto", GpuStrategy::Auto)
                                            .Case("fused", GpuStrategy::Fused)
                                            .Case("layers", GpuStrategy::Layers)
                                            .Case("library", GpuStrategy::Library)
                                            .Default(std::nullopt);
    if (!parsed) {
      getOperation().emitError() << "strategy is auto, fused, layers or library, not '" << strategy << "'";
      return signalPassFailure();
    }
    SmallVector<KernelOp> kernels;
    getOperation().walk([&](KernelOp kernel) {
      // The second time, only those are looked at that do not fit one kernel. A gradient is that of a whole group.
      if (kernel->hasAttr(declinedAttrName) == afterDecline && !kernel->hasAttr(gradientAttrName))
        kernels.push_back(kernel);
    });
    for (KernelOp kernel : kernels)
      plan(kernel, *parsed);
  }

  void plan(KernelOp kernel, GpuStrategy wanted) {
    if (kernel->hasAttr(choiceAttrName) && !afterDecline)
      return;
    GpuChip on = getChip();
    GpuPlan plan = planForGpu(kernel, on, wanted, library);
    if (plan.layers.empty() || (afterDecline && plan.layers.size() == 1))
      return;
    Location loc = kernel.getLoc();
    std::string name = kernel.getName().str(), choice = describe(plan, on);
    Attribute reason = kernel->removeAttr(declinedAttrName);
    if (afterDecline) {
      plan.isSplit = wanted != GpuStrategy::Fused;
      choice = "one kernel is not possible: " + cast<StringAttr>(reason).str();
    }
    kernel->setAttr(choiceAttrName, StringAttr::get(&getContext(), choice));
    bool isDone = true;
    if (plan.isSplit && plan.layers.size() > 1)
      isDone = succeeded(splitKernel(kernel, plan.layers));
    else if (plan.isSplit && plan.layers.front().kind == Piece::CopiedCall)
      kernel->setAttr(declinedAttrName, StringAttr::get(&getContext(), choice));
    else
      isDone = !afterDecline;
    if (isDone)
      remark::analysis(loc, remark::RemarkOpts::name("PlanForGpu").category("pfcn.lowering"))
          << remark::reason("{0}", choice) << remark::metric("kernel", name);
    else if (reason)
      kernel->setAttr(declinedAttrName, reason);
  }

  GpuChip getChip() {
    GpuChip on = GpuChip::of(chip, allowTf32);
    auto use = [](double &what, double given) { what = given > 0 ? given : what; };
    use(on.multiprocessors, multiprocessors);
    use(on.ghz, clock);
    use(on.bandwidth, bandwidth);
    use(on.launch, launchTime);
    use(on.call, callTime);
    return on;
  }
};
} // namespace
