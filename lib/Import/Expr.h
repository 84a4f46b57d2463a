//===- Expr.h - tensors written as formulas ---------------------------*- C++ -*-===//
//
// `where(abs(x) <= lambda, 0, x)` builds the dialect ops of that formula. What an operator is composed of is
// written so, in the element type in which torch computes it: see Composed.cpp.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_LIB_IMPORT_EXPR_H
#define PFCN_LIB_IMPORT_EXPR_H

#include "AtenTable.h"

namespace pfcn {

/// A tensor together with where to build more; false where an operand cannot be had.
struct Expr {
  mlir::OpBuilder *builder = nullptr;
  mlir::Location loc = mlir::UnknownLoc();
  mlir::Value value;

  explicit operator bool() const { return static_cast<bool>(value); }
  mlir::RankedTensorType type() const { return mlir::cast<mlir::RankedTensorType>(value.getType()); }
  int64_t rank() const { return type().getRank(); }
  int64_t size(int64_t dim) const { return type().getDimSize(dim); }
  mlir::Type element() const { return type().getElementType(); }

  Expr with(mlir::Value other) const { return {builder, loc, other}; }
  template <typename Op, typename... Arguments> Expr make(Arguments &&...arguments) const {
    return with(builder->createOrFold<Op>(loc, std::forward<Arguments>(arguments)...));
  }
  /// Of one operand and the type of that.
  template <typename Op> Expr apply() const { return make<Op>(type(), value); }

  /// A number, as a tensor of rank 0 of this one's element type.
  Expr constant(double number) const;
  /// The numbers 0, 1, … `count` - 1.
  Expr iota(int64_t count, mlir::Type element) const;
  Expr cast(mlir::Type element) const;
  Expr reshape(llvm::ArrayRef<int64_t> shape) const;
  /// With sizes of 1 behind the dimensions, so many that it broadcasts from dimension `dim` of `rank`.
  Expr alignAt(int64_t dim, int64_t rank) const;
  Expr slice(int64_t dim, int64_t start, int64_t end, int64_t step = 1) const;
  Expr select(int64_t dim, int64_t index) const;
  Expr unsqueeze(int64_t dim) const { return make<mlir::pfcn::UnsqueezeOp>(value, dim); }
  Expr squeeze(int64_t dim) const { return make<mlir::pfcn::SqueezeOp>(value, llvm::ArrayRef<int64_t>{dim}); }
  Expr expand(llvm::ArrayRef<int64_t> shape) const;
  Expr permute(llvm::ArrayRef<int64_t> order) const { return make<mlir::pfcn::PermuteOp>(value, order); }
  template <typename Op> Expr reduce(llvm::ArrayRef<int64_t> dims, bool keepdim = false) const {
    return make<Op>(value, dims, keepdim);
  }
};

Expr cat(llvm::ArrayRef<Expr> parts, int64_t dim);
Expr stack(llvm::ArrayRef<Expr> parts, int64_t dim);

template <typename Op> Expr binary(Expr a, Expr b) { return a.make<Op>(a.value, b.value); }
inline Expr operator+(Expr a, Expr b) { return binary<mlir::pfcn::AddOp>(a, b); }
inline Expr operator-(Expr a, Expr b) { return binary<mlir::pfcn::SubOp>(a, b); }
inline Expr operator*(Expr a, Expr b) { return binary<mlir::pfcn::MulOp>(a, b); }
inline Expr operator/(Expr a, Expr b) { return binary<mlir::pfcn::DivOp>(a, b); }
inline Expr operator-(Expr a) { return a.apply<mlir::pfcn::NegOp>(); }
inline Expr operator+(Expr a, double b) { return a + a.constant(b); }
inline Expr operator-(Expr a, double b) { return a - a.constant(b); }
inline Expr operator*(Expr a, double b) { return a * a.constant(b); }
inline Expr operator/(Expr a, double b) { return a / a.constant(b); }
inline Expr operator+(double a, Expr b) { return b.constant(a) + b; }
inline Expr operator-(double a, Expr b) { return b.constant(a) - b; }
inline Expr operator*(double a, Expr b) { return b.constant(a) * b; }
inline Expr operator/(double a, Expr b) { return b.constant(a) / b; }

Expr compare(mlir::pfcn::Predicate predicate, Expr a, Expr b);
inline Expr operator==(Expr a, Expr b) { return compare(mlir::pfcn::Predicate::eq, a, b); }
inline Expr operator!=(Expr a, Expr b) { return compare(mlir::pfcn::Predicate::ne, a, b); }
inline Expr operator<(Expr a, Expr b) { return compare(mlir::pfcn::Predicate::lt, a, b); }
inline Expr operator<=(Expr a, Expr b) { return compare(mlir::pfcn::Predicate::le, a, b); }
inline Expr operator>(Expr a, Expr b) { return compare(mlir::pfcn::Predicate::gt, a, b); }
inline Expr operator>=(Expr a, Expr b) { return compare(mlir::pfcn::Predicate::ge, a, b); }
inline Expr operator==(Expr a, double b) { return a == a.constant(b); }
inline Expr operator!=(Expr a, double b) { return a != a.constant(b); }
inline Expr operator<(Expr a, double b) { return a < a.constant(b); }
inline Expr operator<=(Expr a, double b) { return a <= a.constant(b); }
inline Expr operator>(Expr a, double b) { return a > a.constant(b); }
inline Expr operator>=(Expr a, double b) { return a >= a.constant(b); }
/// Of booleans.
inline Expr operator&(Expr a, Expr b) { return binary<mlir::pfcn::BitwiseAndOp>(a, b); }
inline Expr operator|(Expr a, Expr b) { return binary<mlir::pfcn::BitwiseOrOp>(a, b); }

Expr where(Expr condition, Expr a, Expr b);
inline Expr where(Expr condition, double a, Expr b) { return where(condition, b.constant(a), b); }
inline Expr where(Expr condition, Expr a, double b) { return where(condition, a, a.constant(b)); }
inline Expr maximum(Expr a, Expr b) { return binary<mlir::pfcn::MaximumOp>(a, b); }
inline Expr minimum(Expr a, Expr b) { return binary<mlir::pfcn::MinimumOp>(a, b); }
inline Expr maximum(Expr a, double b) { return maximum(a, a.constant(b)); }
inline Expr minimum(Expr a, double b) { return minimum(a, a.constant(b)); }
inline Expr pow(Expr a, Expr b) { return binary<mlir::pfcn::PowOp>(a, b); }
inline Expr fmod(Expr a, Expr b) { return binary<mlir::pfcn::FmodOp>(a, b); }
inline Expr copysign(Expr a, Expr b) { return binary<mlir::pfcn::CopysignOp>(a, b); }
inline Expr abs(Expr a) { return a.apply<mlir::pfcn::AbsOp>(); }
inline Expr sign(Expr a) { return a.apply<mlir::pfcn::SignOp>(); }
inline Expr exp(Expr a) { return a.apply<mlir::pfcn::ExpOp>(); }
inline Expr exp2(Expr a) { return a.apply<mlir::pfcn::Exp2Op>(); }
inline Expr log(Expr a) { return a.apply<mlir::pfcn::LogOp>(); }
inline Expr log2(Expr a) { return a.apply<mlir::pfcn::Log2Op>(); }
inline Expr log1p(Expr a) { return a.apply<mlir::pfcn::Log1pOp>(); }
inline Expr sqrt(Expr a) { return a.apply<mlir::pfcn::SqrtOp>(); }
inline Expr rsqrt(Expr a) { return a.apply<mlir::pfcn::RsqrtOp>(); }
inline Expr sin(Expr a) { return a.apply<mlir::pfcn::SinOp>(); }
inline Expr tanh(Expr a) { return a.apply<mlir::pfcn::TanhOp>(); }
inline Expr sigmoid(Expr a) { return a.apply<mlir::pfcn::SigmoidOp>(); }
inline Expr erf(Expr a) { return a.apply<mlir::pfcn::ErfOp>(); }
inline Expr erfc(Expr a) { return a.apply<mlir::pfcn::ErfcOp>(); }
inline Expr floor(Expr a) { return a.apply<mlir::pfcn::FloorOp>(); }
inline Expr trunc(Expr a) { return a.apply<mlir::pfcn::TruncOp>(); }
inline Expr isNan(Expr a) { return a != a; }

} // namespace pfcn

#endif // PFCN_LIB_IMPORT_EXPR_H
