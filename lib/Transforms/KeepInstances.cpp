//===- KeepInstances.cpp - the body of a group as torch would run it ----------------===//
//
// Batched calls are not always the quickest: large tensors of all instances leave the caches, and torch may have no
// quick function for them. So the body as it was found is kept until the cost model has chosen.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Dialect/Pfcn.h"
#include "pfcn/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/SymbolTable.h"

namespace mlir::pfcn {
#define GEN_PASS_DEF_KEEPINSTANCESPASS
#include "pfcn/Transforms/Passes.h.inc"
} // namespace mlir::pfcn

using namespace mlir;
using namespace mlir::pfcn;

/// A private function of one instance: what its operands are to it, and what it yields.
static func::FuncOp makeFunction(InstancesOp op) {
  Block &body = *op.getBodyBlock();
  OpBuilder builder(op.getContext());
  auto type = builder.getFunctionType(body.getArgumentTypes(), TypeRange(ValueRange(op.getYielded())));
  auto function = func::FuncOp::create(builder, op.getLoc(), (op.getName() + "_instance").str(), type);
  function.setPrivate();
  builder.setInsertionPointToStart(function.addEntryBlock());
  IRMapping mapping;
  mapping.map(body.getArguments(), function.getArguments());
  for (Operation &inner : body.without_terminator())
    builder.clone(inner, mapping);
  func::ReturnOp::create(builder, op.getLoc(),
                         llvm::map_to_vector(op.getYielded(), [&](Value value) { return mapping.lookup(value); }));
  return function;
}

namespace {
struct KeepInstancesPass : mlir::pfcn::impl::KeepInstancesPassBase<KeepInstancesPass> {
  void runOnOperation() override {
    SymbolTable symbols(getOperation());
    SmallVector<InstancesOp> groups;
    getOperation().walk([&](InstancesOp op) {
      // Torch's own operator for a recurrence is no longer known.
      bool isKept = op->hasAttr(instanceAttrName) || !op.getBodyBlock()->getOps<RecurrenceOp>().empty();
      if (!isKept)
        groups.push_back(op);
    });
    for (InstancesOp op : groups)
      op->setAttr(instanceAttrName, FlatSymbolRefAttr::get(&getContext(), symbols.insert(makeFunction(op))));
  }
};
} // namespace
