//===- ScalarMath.h - payloads written as formulas --------------------*- C++ -*-===//
//
// `x * 0.5 * (1.0 + erf(x * kSqrtHalf))` builds the ops of that formula. Integers are
// signed, and i1 is torch's bool: + is or, * is and.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_LIB_CONVERSION_PFCNTOLINALG_SCALARMATH_H
#define PFCN_LIB_CONVERSION_PFCNTOLINALG_SCALARMATH_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::pfcn {

/// A scalar value together with where to build more.
struct Num {
  ImplicitLocOpBuilder *builder;
  Value value;

  Type type() const { return value.getType(); }
  bool isFloat() const { return isa<FloatType>(type()); }
  bool isBool() const { return type().isInteger(1); }

  Num with(Value other) const { return {builder, other}; }
  /// A constant of this one's type.
  Num constant(double number) const {
    if (isFloat())
      return with(arith::ConstantOp::create(*builder, builder->getFloatAttr(type(), number)));
    return with(arith::ConstantOp::create(*builder, builder->getIntegerAttr(type(), static_cast<int64_t>(number))));
  }

  template <typename FloatOp, typename IntOp, typename BoolOp = IntOp> Num apply(Num rhs) const {
    if (isFloat())
      return with(FloatOp::create(*builder, value, rhs.value));
    if (isBool())
      return with(BoolOp::create(*builder, value, rhs.value));
    return with(IntOp::create(*builder, value, rhs.value));
  }
  template <typename MathOp> Num apply() const { return with(MathOp::create(*builder, value)); }
};

inline Num operator+(Num a, Num b) { return a.apply<arith::AddFOp, arith::AddIOp, arith::OrIOp>(b); }
inline Num operator-(Num a, Num b) { return a.apply<arith::SubFOp, arith::SubIOp>(b); }
inline Num operator*(Num a, Num b) { return a.apply<arith::MulFOp, arith::MulIOp, arith::AndIOp>(b); }
/// Of floating-point numbers only.
inline Num operator/(Num a, Num b) { return a.with(arith::DivFOp::create(*a.builder, a.value, b.value)); }
inline Num operator-(Num a) { return a.isFloat() ? a.apply<arith::NegFOp>() : a.constant(0) - a; }
inline Num operator+(Num a, double b) { return a + a.constant(b); }
inline Num operator+(double a, Num b) { return b.constant(a) + b; }
inline Num operator-(Num a, double b) { return a - a.constant(b); }
inline Num operator-(double a, Num b) { return b.constant(a) - b; }
inline Num operator*(Num a, double b) { return a * a.constant(b); }
inline Num operator*(double a, Num b) { return b.constant(a) * b; }
inline Num operator/(Num a, double b) { return a / a.constant(b); }
inline Num operator/(double a, Num b) { return b.constant(a) / b; }

/// NaN propagates through both, as in torch.
inline Num maximum(Num a, Num b) { return a.apply<arith::MaximumFOp, arith::MaxSIOp, arith::OrIOp>(b); }
inline Num minimum(Num a, Num b) { return a.apply<arith::MinimumFOp, arith::MinSIOp, arith::AndIOp>(b); }
inline Num maximum(Num a, double b) { return maximum(a, a.constant(b)); }
inline Num minimum(Num a, double b) { return minimum(a, a.constant(b)); }

/// Comparisons with NaN are false, save for `!=`.
inline Num compare(Num a, Num b, arith::CmpFPredicate floats, arith::CmpIPredicate ints) {
  if (a.isFloat())
    return a.with(arith::CmpFOp::create(*a.builder, floats, a.value, b.value));
  return a.with(arith::CmpIOp::create(*a.builder, ints, a.value, b.value));
}
inline Num less(Num a, Num b) {
  return compare(a, b, arith::CmpFPredicate::OLT, a.isBool() ? arith::CmpIPredicate::ult : arith::CmpIPredicate::slt);
}
inline Num greater(Num a, Num b) { return less(b, a); }
inline Num lessEqual(Num a, Num b) {
  return compare(a, b, arith::CmpFPredicate::OLE, a.isBool() ? arith::CmpIPredicate::ule : arith::CmpIPredicate::sle);
}
inline Num equal(Num a, Num b) { return compare(a, b, arith::CmpFPredicate::OEQ, arith::CmpIPredicate::eq); }
inline Num notEqual(Num a, Num b) { return compare(a, b, arith::CmpFPredicate::UNE, arith::CmpIPredicate::ne); }
inline Num select(Num condition, Num a, Num b) {
  return a.with(arith::SelectOp::create(*a.builder, condition.value, a.value, b.value));
}

inline Num abs(Num a) { return a.isFloat() ? a.apply<math::AbsFOp>() : maximum(a, -a); }
inline Num exp(Num a) { return a.apply<math::ExpOp>(); }
inline Num expm1(Num a) { return a.apply<math::ExpM1Op>(); }
inline Num log(Num a) { return a.apply<math::LogOp>(); }
inline Num log1p(Num a) { return a.apply<math::Log1pOp>(); }
inline Num sqrt(Num a) { return a.apply<math::SqrtOp>(); }
inline Num tanh(Num a) { return a.apply<math::TanhOp>(); }
inline Num erf(Num a) { return a.apply<math::ErfOp>(); }
inline Num sin(Num a) { return a.apply<math::SinOp>(); }
inline Num cos(Num a) { return a.apply<math::CosOp>(); }
inline Num tan(Num a) { return a.apply<math::TanOp>(); }
inline Num asin(Num a) { return a.apply<math::AsinOp>(); }
inline Num acos(Num a) { return a.apply<math::AcosOp>(); }
inline Num atan(Num a) { return a.apply<math::AtanOp>(); }
inline Num sinh(Num a) { return a.apply<math::SinhOp>(); }
inline Num cosh(Num a) { return a.apply<math::CoshOp>(); }
inline Num asinh(Num a) { return a.apply<math::AsinhOp>(); }
inline Num acosh(Num a) { return a.apply<math::AcoshOp>(); }
inline Num atanh(Num a) { return a.apply<math::AtanhOp>(); }
inline Num exp2(Num a) { return a.apply<math::Exp2Op>(); }
inline Num log2(Num a) { return a.apply<math::Log2Op>(); }
inline Num log10(Num a) { return a.apply<math::Log10Op>(); }
inline Num erfc(Num a) { return a.apply<math::ErfcOp>(); }
inline Num trunc(Num a) { return a.apply<math::TruncOp>(); }
inline Num roundEven(Num a) { return a.apply<math::RoundEvenOp>(); }
inline Num floor(Num a) { return a.apply<math::FloorOp>(); }
inline Num ceil(Num a) { return a.apply<math::CeilOp>(); }
inline Num atan2(Num a, Num b) { return a.with(math::Atan2Op::create(*a.builder, a.value, b.value)); }
inline Num copysign(Num a, Num b) { return a.with(math::CopySignOp::create(*a.builder, a.value, b.value)); }
/// As in C: exact, with the sign of `a`. Integers must not be divided by 0.
inline Num fmod(Num a, Num b) { return a.apply<arith::RemFOp, arith::RemSIOp>(b); }
inline Num pow(Num a, Num b) { return a.with(math::PowFOp::create(*a.builder, a.value, b.value)); }

} // namespace mlir::pfcn

#endif // PFCN_LIB_CONVERSION_PFCNTOLINALG_SCALARMATH_H
