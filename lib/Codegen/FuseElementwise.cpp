//===- FuseElementwise.cpp - elementwise ops into their elementwise consumers -------===//

#include "pfcn/Codegen/LowerEachKernel.h"
#include "pfcn/Codegen/Passes.h"
#include "pfcn/Dialect/Pfcn.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/MemRef/Transforms/Transforms.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Tensor/IR/TensorInferTypeOpInterfaceImpl.h"
#include "mlir/Dialect/Tensor/Transforms/Transforms.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace mlir::pfcn {
#define GEN_PASS_DEF_FUSEELEMENTWISE
#include "pfcn/Codegen/Passes.h.inc"
} // namespace mlir::pfcn

using namespace mlir;

/// Whether several dimensions become one, or one becomes several. Those of size 1 do not count.
static bool mergesDims(Operation *op) {
  auto counts = [](ArrayRef<SmallVector<int64_t, 2>> groups, Value wide) {
    auto shape = cast<RankedTensorType>(wide.getType()).getShape();
    return llvm::any_of(groups, [&](ArrayRef<int64_t> group) {
      return llvm::count_if(group, [&](int64_t dim) { return shape[dim] != 1; }) > 1;
    });
  };
  if (auto collapse = dyn_cast_if_present<tensor::CollapseShapeOp>(op))
    return counts(collapse.getReassociationIndices(), collapse.getSrc());
  if (auto expand = dyn_cast_if_present<tensor::ExpandShapeOp>(op))
    return counts(expand.getReassociationIndices(), expand.getResult());
  return false;
}

/// Only brings elements into another order, as a transpose does.
static bool isCopy(Operation *op) {
  auto generic = dyn_cast<linalg::GenericOp>(op);
  return generic && generic.getNumDpsInputs() == 1 && generic.getNumReductionLoops() == 0 &&
         generic.getBody()->getTerminator()->getOperand(0) == generic.getBody()->getArgument(0) &&
         generic.getMatchingIndexingMap(generic.getDpsInputOperand(0)).isPermutation();
}

FrozenRewritePatternSet mlir::pfcn::getFuseElementwisePatterns(MLIRContext *context) {
  RewritePatternSet patterns(context);
  linalg::populateElementwiseOpsFusionPatterns(patterns, [](OpOperand *fused) {
    auto consumer = dyn_cast<linalg::GenericOp>(fused->getOwner());
    Operation *producer = fused->get().getDefiningOp();
    return consumer && producer && producer->hasOneUse() && (consumer.getNumReductionLoops() == 0 || isCopy(producer));
  });
  // Merged dimensions are taken apart, so that each of them can be walked outside of the ops: the batch and the
  // sequence of a linear layer on [batch · sequence, width], say.
  linalg::populateFoldReshapeOpsByExpansionPatterns(patterns, [](OpOperand *operand) {
    Operation *producer = operand->get().getDefiningOp();
    return mergesDims(producer) || mergesDims(operand->getOwner());
  });
  tensor::CollapseShapeOp::getCanonicalizationPatterns(patterns, context);
  tensor::ExpandShapeOp::getCanonicalizationPatterns(patterns, context);
  tensor::populateFoldTensorEmptyPatterns(patterns);
  // Sizes are asked of arguments, so that asking is no use of an intermediate.
  memref::populateResolveRankedShapedTypeResultDimsPatterns(patterns);
  tensor::DimOp::getCanonicalizationPatterns(patterns, context);
  return std::move(patterns);
}

void mlir::pfcn::registerFusionModels(DialectRegistry &registry) {
  tensor::registerInferTypeOpInterfaceExternalModels(registry);
}

namespace {
struct FuseElementwise : mlir::pfcn::impl::FuseElementwiseBase<FuseElementwise> {
  void getDependentDialects(DialectRegistry &registry) const override {
    FuseElementwiseBase::getDependentDialects(registry);
    mlir::pfcn::registerFusionModels(registry);
  }

  void runOnOperation() override {
    FrozenRewritePatternSet patterns = mlir::pfcn::getFuseElementwisePatterns(&getContext());
    getOperation().walk([&](mlir::pfcn::KernelOp kernel) {
      if (failed(applyPatternsGreedily(kernel.getBody(), patterns)))
        signalPassFailure();
    });
  }
};
} // namespace
