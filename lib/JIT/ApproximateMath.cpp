//===- ApproximateMath.cpp - transcendental functions as polynomials -----------------===//

#include "pfcn/JIT/ApproximateMath.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

#include <numbers>

using namespace mlir;

/// Upstream's logarithm takes subnormal numbers for the least normal one, so they are made normal before it.
static void scaleSubnormal(math::LogOp op) {
  Type type = op.getType();
  if (!getElementTypeOrSelf(type).isF32())
    return;
  OpBuilder builder(op);
  Location loc = op.getLoc();
  auto constant = [&](double value) {
    TypedAttr attribute = builder.getF32FloatAttr(static_cast<float>(value));
    if (auto shaped = dyn_cast<ShapedType>(type))
      attribute = SplatElementsAttr::get(shaped, Attribute(attribute));
    return arith::ConstantOp::create(builder, loc, attribute).getResult();
  };
  Value x = op.getOperand();
  Value isSmall = arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OLT, x, constant(0x1p-126));
  Value scaled = arith::MulFOp::create(builder, loc, x, constant(0x1p24));
  op.getOperandMutable().set(arith::SelectOp::create(builder, loc, isSmall, scaled, x));
  builder.setInsertionPointAfter(op);
  Value lower = arith::SubFOp::create(builder, loc, op.getResult(), constant(24 * std::numbers::ln2));
  auto result = arith::SelectOp::create(builder, loc, isSmall, lower, op.getResult());
  llvm::SmallPtrSet<Operation *, 2> own = {lower.getDefiningOp(), result};
  op.getResult().replaceAllUsesExcept(result, own);
}

namespace {
struct ApproximateMath : PassWrapper<ApproximateMath, OperationPass<>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(ApproximateMath)

  void getDependentDialects(DialectRegistry &registry) const override {
    registry.insert<arith::ArithDialect, math::MathDialect, vector::VectorDialect>();
  }

  void runOnOperation() override {
    llvm::SmallVector<math::LogOp> logs;
    getOperation()->walk([&](math::LogOp op) { logs.push_back(op); });
    llvm::for_each(logs, &scaleSubnormal);
    RewritePatternSet patterns(&getContext());
    populateMathPolynomialApproximationPatterns(patterns, [](StringRef name) {
      return llvm::is_contained({"math.exp", "math.expm1", "math.log", "math.log1p", "math.tanh", "math.erf"}, name);
    });
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};
} // namespace

std::unique_ptr<Pass> pfcn::createApproximateMathPass() { return std::make_unique<ApproximateMath>(); }
