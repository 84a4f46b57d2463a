//===- LowerEachKernel.cpp - kernels, each lowered as a whole or not at all --------===//

#include "pfcn/Codegen/LowerEachKernel.h"

#include "pfcn/Conversion/PfcnToLinalg/ConvertBody.h"

#include "mlir/IR/Remarks.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

using namespace mlir;
using namespace mlir::pfcn;

static LogicalResult prepare(KernelOp draft, const FrozenRewritePatternSet &fusion, std::string &reason,
                             Location &where) {
  OpDecline decline;
  if (failed(convertBodyToLinalg(draft, decline))) {
    reason = decline.str();
    where = decline.op->getLoc();
    return failure();
  }
  // Before the loops are made: two elementwise ops are one payload then, with no scratch between.
  if (failed(applyPatternsGreedily(draft.getBody(), fusion))) {
    reason = "the fusion of its elementwise ops does not end";
    return failure();
  }
  return success();
}

void mlir::pfcn::lowerEachKernel(ModuleOp module, StringRef pass,
                                 function_ref<LogicalResult(KernelOp, KernelOp, std::string &)> lower) {
  FrozenRewritePatternSet fusion = getFuseElementwisePatterns(module.getContext());
  SmallVector<KernelOp> kernels;
  module.walk([&](KernelOp kernel) {
    if (!kernel->hasAttr(declinedAttrName))
      kernels.push_back(kernel);
  });
  for (KernelOp kernel : kernels) {
    auto draft = cast<KernelOp>(OpBuilder(kernel).clone(*kernel));
    std::string reason;
    Location where = kernel.getLoc();
    if (succeeded(prepare(draft, fusion, reason, where))) {
      kernel.replaceAllUsesWith(draft); // the draft takes its place, and what `lower` makes takes the draft's
      if (succeeded(lower(kernel, draft, reason))) {
        kernel.erase();
        continue;
      }
      draft.replaceAllUsesWith(kernel);
    }
    draft.erase();
    kernel->setAttr(declinedAttrName, StringAttr::get(module.getContext(), reason));
    remark::missed(where, remark::RemarkOpts::name(pass).category("pfcn.lowering"))
        << remark::reason("{0}", reason) << remark::metric("kernel", kernel.getName());
  }
}

LaunchOp mlir::pfcn::replaceWithLaunch(KernelOp kernel, StringRef function, int64_t tiles, ArrayAttr equalSizes) {
  OpBuilder builder(kernel);
  auto launch =
      LaunchOp::create(builder, kernel.getLoc(), kernel.getResultTypes(), function, kernel.getCount(), tiles,
                       kernel.getInputs(), kernel.getInits(), kernel.getInputAccesses(), kernel.getInitAccesses());
  launch->setDiscardableAttrs(kernel->getDiscardableAttrDictionary());
  if (!equalSizes.empty())
    launch->setAttr("pfcn.equal_sizes", equalSizes);
  if (Attribute gradient = kernel->getAttr(gradientAttrName))
    launch->setAttr(gradientAttrName, gradient);
  kernel->replaceAllUsesWith(launch);
  kernel.erase();
  return launch;
}
