//===- MarkForeign.cpp - what in a group has no gradient ----------------------------===//
//
// Each op is asked by itself, as if all of its operands wanted a gradient: how a group will be cut, and which of its
// inputs will be followed, is not known yet.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Transforms/Explain.h"
#include "pfcn/Transforms/Passes.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/Remarks.h"

namespace mlir::pfcn {
#define GEN_PASS_DEF_MARKFOREIGNPASS
#include "pfcn/Transforms/Passes.h.inc"
} // namespace mlir::pfcn

using namespace mlir;
using namespace mlir::pfcn;

/// Whether a gradient may flow through an op.
static bool isFollowed(Operation *op) {
  return llvm::any_of(op->getOperands(), isFloat) && llvm::any_of(op->getResults(), isFloat);
}

/// Whether the op itself can say what its gradient is; what it says is thrown away.
static bool hasGradient(Operation *op) {
  auto differentiable = dyn_cast<DifferentiableOpInterface>(op);
  if (!differentiable)
    return false;
  Region scratch;
  OpBuilder builder(op->getContext());
  builder.setInsertionPointToEnd(&scratch.emplaceBlock());
  auto isWanted = llvm::map_to_vector(op->getOperands(), isFloat);
  return succeeded(differentiable.vjp(builder, op->getResult(0), isWanted));
}

/// Why the gradient of an op is torch's; empty where the dialect has it.
static std::string whyForeign(Operation *op) {
  if (!isFollowed(op))
    return "";
  if (isa<OpaqueOp>(op))
    return "the dialect has no such op";
  auto composed = dyn_cast<ComposedOp>(op);
  if (!composed)
    return hasGradient(op) ? "" : "its gradient has no form in the dialect";
  if (!composed.getSmooth())
    return "its gradient is not that of its formula everywhere";
  for (Operation &inner : composed.getBodyBlock()->without_terminator())
    if (isFollowed(&inner) && !hasGradient(&inner))
      return ("the gradient of " + inner.getName().getStringRef() + " in it has no form in the dialect").str();
  return "";
}

namespace {
struct MarkForeign : mlir::pfcn::impl::MarkForeignPassBase<MarkForeign> {
  void runOnOperation() override {
    SmallVector<Operation *> ops;
    getOperation().walk([&](InstancesOp group) {
      for (Operation &op : group.getBodyBlock()->without_terminator())
        ops.push_back(&op);
    });
    for (Operation *op : ops) {
      std::string reason = whyForeign(op);
      if (reason.empty())
        continue;
      op->setAttr(notDifferentiableAttrName, StringAttr::get(&getContext(), reason));
      auto group = op->getParentOfType<InstancesOp>();
      std::lock_guard<std::mutex> lock(getExplainMutex());
      remark::missed(op->getLoc(), remark::RemarkOpts::name("MarkForeign").category("pfcn.fusion")) << remark::reason(
          "{0} of group {1} has torch's gradient: {2}", op->getName().getStringRef(), group.getName(), reason);
    }
  }
};
} // namespace
