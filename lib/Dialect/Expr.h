//===- Expr.h - gradients written as formulas ---------------------------*- C++ -*-===//
//
// `g * (1.0 - r * r)` builds the pfcn ops of that formula, with torch's broadcasting.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_LIB_DIALECT_EXPR_H
#define PFCN_LIB_DIALECT_EXPR_H

#include "pfcn/Dialect/Pfcn.h"

#include "mlir/IR/Builders.h"

namespace mlir::pfcn {

using Gradients = FailureOr<SmallVector<Value>>;

/// The gradients of an op of one operand.
inline Gradients single(Value gradient) { return SmallVector<Value>{gradient}; }

/// A tensor together with where to build more.
struct Expr {
  OpBuilder *builder;
  Location loc;
  Value value;

  RankedTensorType type() const { return cast<RankedTensorType>(value.getType()); }
  Expr with(Value other) const { return {builder, loc, other}; }
  /// A scalar of this one's element type.
  Expr constant(double number) const {
    Type element = type().getElementType();
    auto scalar = RankedTensorType::get({}, element);
    return with(ConstantOp::create(*builder, loc, scalar,
                                   DenseElementsAttr::get(scalar, builder->getFloatAttr(element, number))));
  }
  Expr to(Type element) const {
    return type().getElementType() == element ? *this
                                              : with(CastOp::create(*builder, loc, type().clone(element), value));
  }
  /// In the type that torch computes in: f32 for f16 and bf16.
  Expr widen() const {
    Type element = type().getElementType();
    return isa<Float16Type, BFloat16Type>(element) ? to(builder->getF32Type()) : *this;
  }
  template <typename Op> Expr apply() const { return with(Op::create(*builder, loc, type(), value)); }
  template <typename Op> Expr apply(Expr rhs) const { return with(Op::create(*builder, loc, value, rhs.value)); }
};

inline Expr operator+(Expr a, Expr b) { return a.apply<AddOp>(b); }
inline Expr operator-(Expr a, Expr b) { return a.apply<SubOp>(b); }
inline Expr operator*(Expr a, Expr b) { return a.apply<MulOp>(b); }
inline Expr operator/(Expr a, Expr b) { return a.apply<DivOp>(b); }
inline Expr operator-(Expr a) { return a.apply<NegOp>(); }
inline Expr operator+(Expr a, double b) { return a + a.constant(b); }
inline Expr operator+(double a, Expr b) { return b.constant(a) + b; }
inline Expr operator-(Expr a, double b) { return a - a.constant(b); }
inline Expr operator-(double a, Expr b) { return b.constant(a) - b; }
inline Expr operator*(Expr a, double b) { return b == 1.0 ? a : a * a.constant(b); }
inline Expr operator*(double a, Expr b) { return b * a; }
inline Expr operator/(Expr a, double b) { return a / a.constant(b); }

inline Expr exp(Expr a) { return a.apply<ExpOp>(); }
inline Expr log(Expr a) { return a.apply<LogOp>(); }
inline Expr tanh(Expr a) { return a.apply<TanhOp>(); }
inline Expr sigmoid(Expr a) { return a.apply<SigmoidOp>(); }
inline Expr pow(Expr a, Expr b) { return a.apply<PowOp>(b); }

/// A comparison, which is false with NaN.
inline Expr compare(Predicate predicate, Expr a, Expr b) {
  return a.with(CompareOp::create(*a.builder, a.loc, predicate, a.value, b.value));
}
inline Expr compare(Predicate predicate, Expr a, double b) { return compare(predicate, a, a.constant(b)); }
inline Expr where(Expr condition, Expr a, Expr b) {
  return a.with(WhereOp::create(*a.builder, a.loc, condition.value, a.value, b.value));
}
inline Expr where(Expr condition, Expr a, double b) { return where(condition, a, a.constant(b)); }
inline Expr where(Expr condition, double a, Expr b) { return where(condition, b.constant(a), b); }

/// Sums over what broadcasting repeated, so that the gradient of a broadcast operand has its type.
Expr sumTo(Expr gradient, RankedTensorType type);
/// `value`, which broadcasts, in the shape of `like`, whose dynamic sizes are known where it is.
Expr expandTo(Expr value, Value like);
/// a^T b over all rows: [O, K] of [..., O] and [..., K].
Value multiplyRows(OpBuilder &builder, Location loc, Value a, Value b);
/// What a slice of `whole` has taken, put back where it was, and zeros elsewhere. Fails for steps along a dynamic
/// dimension.
FailureOr<Value> embed(OpBuilder &builder, Location loc, Value part, Value whole, int64_t dim, int64_t start,
                       int64_t end, int64_t step);

} // namespace mlir::pfcn

#endif // PFCN_LIB_DIALECT_EXPR_H
