//===- InlineComposed.cpp - what an operator is composed of, in its place -----------===//
//
// Only in groups: alone, the operator is the one call that eager makes.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Dialect/Pfcn.h"
#include "pfcn/Transforms/Passes.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/IRMapping.h"

namespace mlir::pfcn {
#define GEN_PASS_DEF_INLINECOMPOSEDPASS
#include "pfcn/Transforms/Passes.h.inc"
} // namespace mlir::pfcn

using namespace mlir;
using namespace mlir::pfcn;

static void inlineBody(ComposedOp op) {
  OpBuilder builder(op);
  IRMapping mapping;
  mapping.map(op.getBodyBlock()->getArguments(), op.getInputs());
  for (Operation &inner : op.getBodyBlock()->without_terminator()) {
    Operation *copy = builder.clone(inner, mapping);
    if (!op.getSmooth() && isa<BatchingOpInterface>(copy))
      copy->setAttr(roughAttrName, builder.getUnitAttr());
  }
  op.getResult().replaceAllUsesWith(mapping.lookup(op.getYielded()));
  op.erase();
}

namespace {
struct InlineComposedPass : mlir::pfcn::impl::InlineComposedPassBase<InlineComposedPass> {
  void runOnOperation() override {
    SmallVector<ComposedOp> composed;
    getOperation().walk(
        [&](InstancesOp group) { llvm::append_range(composed, group.getBodyBlock()->getOps<ComposedOp>()); });
    llvm::for_each(composed, inlineBody);
  }
};
} // namespace
