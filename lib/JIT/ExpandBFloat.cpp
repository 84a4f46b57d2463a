//===- ExpandBFloat.cpp - bf16 by integers ---------------------------------------------===//
//
// Few processors convert to bf16, and those flush small numbers to zero; for the others LLVM calls a function
// of a library, a lane at a time, even to shuffle a vector. So bf16 is computed with in f32, rounded by
// integer operations, and is otherwise 16 bits.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/JIT/ExpandBFloat.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/AttrTypeSubElements.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

using namespace mlir;

static bool isBFloat(Type type) { return getElementTypeOrSelf(type).isBF16(); }

/// `like` with other elements.
static Type withElement(Type like, Type element) {
  if (auto shaped = dyn_cast<ShapedType>(like))
    return shaped.clone(element);
  return element;
}

static Value makeConstant(OpBuilder &builder, Location loc, Type type, uint64_t value) {
  Attribute scalar = builder.getIntegerAttr(getElementTypeOrSelf(type), value);
  if (auto shaped = dyn_cast<ShapedType>(type))
    return arith::ConstantOp::create(builder, loc, DenseElementsAttr::get(shaped, scalar));
  return arith::ConstantOp::create(builder, loc, cast<TypedAttr>(scalar));
}

namespace {
/// Rounds to nearest, ties to even; a NaN stays one.
struct ExpandTruncation : OpRewritePattern<arith::TruncFOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(arith::TruncFOp op, PatternRewriter &rewriter) const override {
    if (!isBFloat(op.getType()))
      return failure();
    Location loc = op.getLoc();
    Type wide = withElement(op.getType(), rewriter.getI32Type());
    Type narrow = withElement(op.getType(), rewriter.getI16Type());
    auto constant = [&](Type type, uint64_t value) { return makeConstant(rewriter, loc, type, value); };
    Value input = op.getIn();
    if (getElementTypeOrSelf(input.getType()).isF64()) // by way of f32, as torch does
      input = arith::TruncFOp::create(rewriter, loc, withElement(op.getType(), rewriter.getF32Type()), input);
    Value bits = arith::BitcastOp::create(rewriter, loc, wide, input);
    Value high = arith::ShRUIOp::create(rewriter, loc, bits, constant(wide, 16));
    Value odd = arith::AndIOp::create(rewriter, loc, high, constant(wide, 1));
    Value bias = arith::AddIOp::create(rewriter, loc, odd, constant(wide, 0x7fff));
    Value rounded = arith::AddIOp::create(rewriter, loc, bits, bias);
    rounded = arith::ShRUIOp::create(rewriter, loc, rounded, constant(wide, 16));
    rounded = arith::TruncIOp::create(rewriter, loc, narrow, rounded);
    Value isNaN = arith::CmpFOp::create(rewriter, loc, arith::CmpFPredicate::UNO, input, input);
    Value result = arith::SelectOp::create(rewriter, loc, isNaN, constant(narrow, 0x7fc0), rounded);
    rewriter.replaceOpWithNewOp<arith::BitcastOp>(op, op.getType(), result);
    return success();
  }
};

struct ExpandExtension : OpRewritePattern<arith::ExtFOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(arith::ExtFOp op, PatternRewriter &rewriter) const override {
    if (!isBFloat(op.getIn().getType()))
      return failure();
    Location loc = op.getLoc();
    auto typed = [&](Type element) { return withElement(op.getType(), element); };
    Value bits = arith::BitcastOp::create(rewriter, loc, typed(rewriter.getI16Type()), op.getIn());
    bits = arith::ExtUIOp::create(rewriter, loc, typed(rewriter.getI32Type()), bits);
    bits = arith::ShLIOp::create(rewriter, loc, bits, makeConstant(rewriter, loc, bits.getType(), 16));
    Value result = arith::BitcastOp::create(rewriter, loc, typed(rewriter.getF32Type()), bits);
    if (result.getType() != op.getType())
      result = arith::ExtFOp::create(rewriter, loc, op.getType(), result);
    rewriter.replaceOp(op, result);
    return success();
  }
};

struct ExpandConstant : OpRewritePattern<arith::ConstantOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(arith::ConstantOp op, PatternRewriter &rewriter) const override {
    if (!isBFloat(op.getType()))
      return failure();
    Type type = withElement(op.getType(), rewriter.getI16Type());
    TypedAttr bits;
    if (auto number = dyn_cast<FloatAttr>(op.getValue()))
      bits = rewriter.getIntegerAttr(type, number.getValue().bitcastToAPInt());
    else if (auto dense = dyn_cast<DenseElementsAttr>(op.getValue()))
      bits = dense.bitcast(rewriter.getI16Type());
    else
      return failure();
    Value constant = arith::ConstantOp::create(rewriter, op.getLoc(), bits);
    rewriter.replaceOpWithNewOp<arith::BitcastOp>(op, op.getType(), constant);
    return success();
  }
};

/// Computes in f32.
struct Widen : RewritePattern {
  explicit Widen(MLIRContext *context) : RewritePattern(MatchAnyOpTypeTag(), /*benefit=*/1, context) {}

  LogicalResult matchAndRewrite(Operation *op, PatternRewriter &rewriter) const override {
    bool computes = isa<arith::ArithDialect, math::MathDialect>(op->getDialect()) && op->getNumResults() == 1 &&
                    !isa<arith::TruncFOp, arith::ExtFOp, arith::ConstantOp, arith::BitcastOp, arith::SelectOp>(op);
    if (!computes || (llvm::none_of(op->getOperandTypes(), isBFloat) && !isBFloat(op->getResult(0).getType())))
      return failure();
    auto widen = [&](Type type) { return isBFloat(type) ? withElement(type, rewriter.getF32Type()) : type; };
    SmallVector<Value> operands(op->getOperands());
    for (Value &operand : operands)
      if (isBFloat(operand.getType()))
        operand = arith::ExtFOp::create(rewriter, op->getLoc(), widen(operand.getType()), operand);
    Type type = op->getResult(0).getType();
    Operation *wide = rewriter.clone(*op);
    wide->setOperands(operands);
    wide->getResult(0).setType(widen(type));
    Value result = wide->getResult(0);
    if (isBFloat(type))
      result = arith::TruncFOp::create(rewriter, op->getLoc(), type, result);
    rewriter.replaceOp(op, result);
    return success();
  }
};

struct ExpandBFloat : PassWrapper<ExpandBFloat, OperationPass<>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(ExpandBFloat)

  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<ExpandTruncation, ExpandExtension, ExpandConstant, Widen>(&getContext());
    // A folder would make constants of bf16 out of their bits again.
    auto config = GreedyRewriteConfig().enableFolding(false).enableConstantCSE(false);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns), config)))
      return signalPassFailure();
    getOperation()->walk([](memref::GlobalOp op) {
      auto value = dyn_cast_or_null<DenseElementsAttr>(op.getInitialValueAttr());
      if (value && isBFloat(value.getType()))
        op.setInitialValueAttr(value.bitcast(IntegerType::get(op.getContext(), 16)));
    });
    AttrTypeReplacer replacer;
    replacer.addReplacement([](BFloat16Type type) -> Type { return IntegerType::get(type.getContext(), 16); });
    replacer.recursivelyReplaceElementsIn(getOperation(), /*replaceAttrs=*/true, /*replaceLocs=*/false,
                                          /*replaceTypes=*/true);
    getOperation()->walk([](arith::BitcastOp op) {
      if (op.getType() != op.getIn().getType())
        return;
      op.replaceAllUsesWith(op.getIn());
      op.erase();
    });
  }
};
} // namespace

std::unique_ptr<Pass> pfcn::createExpandBFloatPass() { return std::make_unique<ExpandBFloat>(); }
