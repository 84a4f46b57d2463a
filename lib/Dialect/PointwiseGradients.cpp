//===- PointwiseGradients.cpp - gradients of the pointwise ops ---------------------===//
//
// torch's own formulas, so that kinks, ties, NaN and Inf come out as in eager. f16 and bf16 compute in
// f32 and round once, as torch's kernels do.
//
//===----------------------------------------------------------------------------===//

#include "Expr.h"

using namespace mlir;
using namespace mlir::pfcn;

/// The gradient as that of an operand: rounded, and summed over what was broadcast.
static Value finish(Expr gradient, Value operand) {
  auto type = cast<RankedTensorType>(operand.getType());
  return sumTo(gradient, type.clone(gradient.type().getElementType())).to(type.getElementType()).value;
}

/// Of an op of one operand: `formula` of upstream gradient, operand and result.
template <typename Formula> static Gradients unary(Operation *op, OpBuilder &builder, Value upstream, Formula formula) {
  Location loc = op->getLoc();
  Value input = op->getOperand(0);
  Expr gradient = formula(Expr{&builder, loc, upstream}.widen(), Expr{&builder, loc, input}.widen(),
                          Expr{&builder, loc, op->getResult(0)}.widen());
  return SmallVector<Value>{finish(gradient, input)};
}

#define PFCN_UNARY(Op, Formula)                                                                                        \
  Gradients Op::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {                                              \
    return unary(*this, builder, upstream, [](Expr g, Expr x, Expr r) { return Formula; });                            \
  }
PFCN_UNARY(NegOp, -g)
PFCN_UNARY(AbsOp, g *x.apply<SignOp>())
PFCN_UNARY(ReluOp, where(compare(Predicate::le, r, 0.0), 0.0, g))
PFCN_UNARY(ExpOp, g *r)
PFCN_UNARY(Expm1Op, g *(r + 1.0))
PFCN_UNARY(LogOp, g / x)
PFCN_UNARY(Log1pOp, g / (x + 1.0))
PFCN_UNARY(SqrtOp, g / (r * 2.0))
PFCN_UNARY(RsqrtOp, -0.5 * g * (r * r * r))
PFCN_UNARY(ReciprocalOp, -g *(r *r))
PFCN_UNARY(TanhOp, g * (1.0 - r * r))
PFCN_UNARY(SigmoidOp, g * ((1.0 - r) * r))
PFCN_UNARY(ErfOp, g * (1.12837916709551257390 * exp(-(x * x))))
PFCN_UNARY(SinOp, g *x.apply<CosOp>())
PFCN_UNARY(CosOp, g * -x.apply<SinOp>())
PFCN_UNARY(TanOp, g * (1.0 + r * r))
PFCN_UNARY(AsinOp, g * (1.0 - x * x).apply<RsqrtOp>())
PFCN_UNARY(AcosOp, g * -(1.0 - x * x).apply<RsqrtOp>())
PFCN_UNARY(AtanOp, g / (x * x + 1.0))
PFCN_UNARY(SinhOp, g *x.apply<CoshOp>())
PFCN_UNARY(CoshOp, g *x.apply<SinhOp>())
PFCN_UNARY(AsinhOp, g *(x *x + 1.0).apply<RsqrtOp>())
PFCN_UNARY(AcoshOp, g *((x * x - 1.0).apply<RsqrtOp>()))
PFCN_UNARY(AtanhOp, g / (1.0 - x * x))
PFCN_UNARY(Exp2Op, g * r * 0.69314718055994530942)
PFCN_UNARY(Log2Op, g / (x * 0.69314718055994530942))
PFCN_UNARY(Log10Op, g / (x * 2.30258509299404568402))
PFCN_UNARY(ErfcOp, g * (-1.12837916709551257390 * exp(-(x * x))))
#undef PFCN_UNARY

// Piecewise constant: zeros, as torch has it, which are not the same as no gradient.
#define PFCN_FLAT(Op)                                                                                                  \
  Gradients Op::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {                                              \
    return unary(*this, builder, upstream, [](Expr g, Expr, Expr) { return expandTo(g.constant(0.0), g.value); });     \
  }
PFCN_FLAT(SignOp)
PFCN_FLAT(FloorOp)
PFCN_FLAT(CeilOp)
PFCN_FLAT(TruncOp)
PFCN_FLAT(RoundOp)
#undef PFCN_FLAT

#define PFCN_OF_BITS(Op)                                                                                               \
  Gradients Op::vjp(OpBuilder &, Value, ArrayRef<bool>) { return SmallVector<Value>(2); }
PFCN_OF_BITS(BitwiseAndOp)
PFCN_OF_BITS(BitwiseOrOp)
PFCN_OF_BITS(BitwiseXorOp)
#undef PFCN_OF_BITS

Gradients CompareOp::vjp(OpBuilder &, Value, ArrayRef<bool>) { return SmallVector<Value>(2); }
Gradients DetachOp::vjp(OpBuilder &, Value, ArrayRef<bool>) { return SmallVector<Value>(1); }

Gradients SiluOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  return unary(*this, builder, upstream, [](Expr g, Expr x, Expr) {
    Expr s = sigmoid(x);
    return g * (s * (1.0 + x * (1.0 - s)));
  });
}

Gradients MishOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  return unary(*this, builder, upstream, [](Expr g, Expr x, Expr) {
    Expr t = tanh(exp(x).apply<Log1pOp>());
    return g * (t + x * sigmoid(x) * (1.0 - t * t));
  });
}

Gradients HardswishOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  return unary(*this, builder, upstream, [](Expr g, Expr x, Expr) {
    Expr inner = where(compare(Predicate::ge, x, 3.0), g, g * (x / 3.0 + 0.5));
    return where(compare(Predicate::le, x, -3.0), 0.0, inner);
  });
}

Gradients HardsigmoidOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  return unary(*this, builder, upstream, [](Expr g, Expr x, Expr) {
    Expr above = where(compare(Predicate::gt, x, -3.0), g * (1.0 / 6.0), 0.0);
    return where(compare(Predicate::lt, x, 3.0), above, 0.0);
  });
}

Gradients LogSigmoidOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  return unary(*this, builder, upstream, [](Expr g, Expr x, Expr) {
    Expr z = exp(-x.apply<AbsOp>()), ratio = z / (1.0 + z);
    return g * where(compare(Predicate::lt, x, 0.0), 1.0 - ratio, ratio);
  });
}

Gradients LeakyReluOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  double slope = getNegativeSlope().convertToDouble();
  return unary(*this, builder, upstream,
               [&](Expr g, Expr x, Expr) { return where(compare(Predicate::gt, x, 0.0), g, g * slope); });
}

Gradients EluOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  double scale = getScale().convertToDouble(), inputScale = getInputScale().convertToDouble();
  double negative = getAlpha().convertToDouble() * scale;
  return unary(*this, builder, upstream, [&](Expr g, Expr x, Expr) {
    Expr below = g * (inputScale * negative) * exp(x * inputScale);
    return where(compare(Predicate::le, x, 0.0), below, g * scale);
  });
}

Gradients SoftplusOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  double beta = getBeta().convertToDouble(), threshold = getThreshold().convertToDouble();
  return unary(*this, builder, upstream, [&](Expr g, Expr x, Expr) {
    Expr scaled = x * beta, z = exp(scaled);
    return where(compare(Predicate::gt, scaled, threshold), g, g * z / (z + 1.0));
  });
}

Gradients GeluOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  if (!getTanhApproximation())
    return unary(*this, builder, upstream, [](Expr g, Expr x, Expr) {
      Expr cdf = 0.5 * (1.0 + (x * 0.70710678118654752440).apply<ErfOp>());
      Expr pdf = 0.39894228040143267794 * exp(-0.5 * (x * x));
      return g * (cdf + x * pdf);
    });
  return unary(*this, builder, upstream, [](Expr g, Expr x, Expr) {
    constexpr double beta = 0.79788456080286535588, kappa = 0.044715;
    Expr square = x * x;
    Expr t = tanh(beta * (x + kappa * (square * x)));
    Expr inner = beta * (1.0 + (3 * kappa) * square);
    return g * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner);
  });
}

/// Inside of the limits and on them the gradient passes, so NaN stops it.
Gradients ClampOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  return unary(*this, builder, upstream, [&](Expr g, Expr x, Expr) {
    if (getMin())
      g = where(compare(Predicate::ge, x, getMin()->convertToDouble()), g, 0.0);
    if (getMax())
      g = where(compare(Predicate::le, x, getMax()->convertToDouble()), g, 0.0);
    return g;
  });
}

Gradients CastOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  Type element = getInput().getType().getElementType();
  if (!isa<FloatType>(element))
    return SmallVector<Value>(1);
  return SmallVector<Value>{Expr{&builder, getLoc(), upstream}.to(element).value};
}

//===----------------------------------------------------------------------------===//
// Two operands and more
//===----------------------------------------------------------------------------===//

/// `lhs` and `rhs`: formulas of upstream gradient, both operands and the result.
template <typename Lhs, typename Rhs>
static Gradients binary(Operation *op, OpBuilder &builder, Value upstream, ArrayRef<bool> wanted, Lhs lhs, Rhs rhs) {
  Location loc = op->getLoc();
  Value a = op->getOperand(0), b = op->getOperand(1);
  Expr g = Expr{&builder, loc, upstream}.widen(), x = Expr{&builder, loc, a}.widen(),
       y = Expr{&builder, loc, b}.widen();
  Expr r = Expr{&builder, loc, op->getResult(0)}.widen();
  SmallVector<Value> gradients(2);
  if (wanted[0])
    gradients[0] = finish(lhs(g, x, y, r), a);
  if (wanted[1])
    gradients[1] = finish(rhs(g, x, y, r), b);
  return gradients;
}

#define PFCN_BINARY(Op, Lhs, Rhs)                                                                                      \
  Gradients Op::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool> wanted) {                                       \
    return binary(                                                                                                     \
        *this, builder, upstream, wanted, [](Expr g, Expr x, Expr y, Expr r) { return Lhs; },                          \
        [](Expr g, Expr x, Expr y, Expr r) { return Rhs; });                                                           \
  }
/// Where both are equal, each takes half.
#define PFCN_EXTREME(Op, Loses, Wins)                                                                                  \
  PFCN_BINARY(Op, where(compare(Loses, x, y), 0.0, where(compare(Predicate::eq, x, y), g / 2.0, g)),                   \
              where(compare(Wins, x, y), 0.0, where(compare(Predicate::eq, x, y), g / 2.0, g)))
PFCN_BINARY(AddOp, g, g)
PFCN_BINARY(SubOp, g, -g)
PFCN_BINARY(MulOp, g *y, g *x)
PFCN_BINARY(DivOp, g / y, -g *((x / y) / y))
PFCN_EXTREME(MaximumOp, Predicate::lt, Predicate::gt)
PFCN_EXTREME(MinimumOp, Predicate::gt, Predicate::lt)
#undef PFCN_EXTREME

static Expr floorDivide(Expr x, Expr y) {
  Expr rest = x.apply<FmodOp>(y), quotient = (x - rest) / y;
  Expr isBelow = compare(Predicate::lt, y, 0.0).apply<BitwiseXorOp>(compare(Predicate::lt, rest, 0.0));
  Expr hasRest = compare(Predicate::ne, rest, 0.0);
  quotient = where(hasRest.apply<BitwiseAndOp>(isBelow), quotient - 1.0, quotient);
  Expr down = quotient.apply<FloorOp>();
  down = where(compare(Predicate::gt, quotient - down, 0.5), down + 1.0, down);
  return where(compare(Predicate::eq, y, 0.0), x / y, down);
}

/// 1 / (x^2 + y^2), and 0 where both are.
static Expr inverseSquare(Expr x, Expr y) {
  Expr square = x * x + y * y;
  return where(compare(Predicate::eq, square, 0.0), 0.0, square.apply<ReciprocalOp>());
}

PFCN_BINARY(Atan2Op, g * y * inverseSquare(x, y), g * -x * inverseSquare(x, y))
PFCN_BINARY(FmodOp, g, -g *(x / y).apply<TruncOp>())
PFCN_BINARY(RemainderOp, g, -g *floorDivide(x, y))
PFCN_BINARY(CopysignOp, g *where(compare(Predicate::eq, x, 0.0), 0.0, r / x), expandTo(g.constant(0.0), g.value))
#undef PFCN_BINARY

static std::optional<double> getScalar(Value value) {
  auto constant = value.getDefiningOp<ConstantOp>();
  auto elements = constant ? dyn_cast<DenseElementsAttr>(constant.getValue()) : DenseElementsAttr();
  if (!elements || !elements.isSplat() || !isa<FloatType>(elements.getElementType()))
    return std::nullopt;
  return elements.getSplatValue<APFloat>().convertToDouble();
}

Gradients PowOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool> wanted) {
  std::optional<double> exponent = getScalar(getRhs());
  auto base = [&](Expr g, Expr x, Expr y, Expr) {
    if (exponent)
      return *exponent == 0.0 ? expandTo(g.constant(0.0), g.value)
                              : g * (*exponent * pow(x, x.constant(*exponent - 1)));
    return where(compare(Predicate::eq, y, 0.0), 0.0, g * (y * pow(x, y - 1.0)));
  };
  auto power = [](Expr g, Expr x, Expr y, Expr r) {
    Expr gradient = g * (r * log(x));
    return where(compare(Predicate::eq, x, 0.0), where(compare(Predicate::ge, y, 0.0), 0.0, gradient), gradient);
  };
  return binary(*this, builder, upstream, wanted, base, power);
}

Gradients WhereOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool> wanted) {
  Expr g{&builder, getLoc(), upstream}, condition = g.with(getCondition());
  SmallVector<Value> gradients(3);
  if (wanted[1])
    gradients[1] = finish(where(condition, g, 0.0), getLhs());
  if (wanted[2])
    gradients[2] = finish(where(condition, 0.0, g), getRhs());
  return gradients;
}
