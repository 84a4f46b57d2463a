//===- FuseElementwise.cpp - elementwise ops into their elementwise consumers -------===//

#include "pfcn/Codegen/LowerEachKernel.h"
#include "pfcn/Codegen/Passes.h"
#include "pfcn/Dialect/Pfcn.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/MemRef/Transforms/Transforms.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace mlir::pfcn {
#define GEN_PASS_DEF_FUSEELEMENTWISE
#include "pfcn/Codegen/Passes.h.inc"
} // namespace mlir::pfcn

using namespace mlir;

FrozenRewritePatternSet mlir::pfcn::getFuseElementwisePatterns(MLIRContext *context) {
  RewritePatternSet patterns(context);
  linalg::populateElementwiseOpsFusionPatterns(patterns, [](OpOperand *fused) {
    auto consumer = dyn_cast<linalg::GenericOp>(fused->getOwner());
    Operation *producer = fused->get().getDefiningOp();
    return consumer && consumer.getNumReductionLoops() == 0 && producer && producer->hasOneUse();
  });
  // Sizes are asked of arguments, so that asking is no use of an intermediate.
  memref::populateResolveRankedShapedTypeResultDimsPatterns(patterns);
  tensor::DimOp::getCanonicalizationPatterns(patterns, context);
  return std::move(patterns);
}

namespace {
struct FuseElementwise : mlir::pfcn::impl::FuseElementwiseBase<FuseElementwise> {
  void runOnOperation() override {
    FrozenRewritePatternSet patterns = mlir::pfcn::getFuseElementwisePatterns(&getContext());
    getOperation().walk([&](mlir::pfcn::KernelOp kernel) {
      if (failed(applyPatternsGreedily(kernel.getBody(), patterns)))
        signalPassFailure();
    });
  }
};
} // namespace
