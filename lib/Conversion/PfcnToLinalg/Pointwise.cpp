//===- Pointwise.cpp - one scalar formula per pointwise op -----------------------===//
//
// A pointwise op is a loop nest that reads its operands broadcast, and a formula. A new op is
// one more `Case`. The formulas are torch's own, term by term, so that NaN, Inf and rounding agree.
//
//===----------------------------------------------------------------------------===//

#include "Lowering.h"
#include "ScalarMath.h"

#include "mlir/IR/Matchers.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::pfcn;

static constexpr double kSqrtHalf = 0.70710678118654752440;      // 1 / sqrt(2)
static constexpr double kSqrtTwoOverPi = 0.79788456080286535588; // sqrt(2 / pi)

//===----------------------------------------------------------------------------===//
// Formulas
//===----------------------------------------------------------------------------===//

/// 1 for positive, -1 for negative, 0 for zeros and NaN.
static Num buildSign(Num x) {
  if (x.isBool())
    return x;
  Num zero = x.constant(0);
  Num negative = select(less(x, zero), x.constant(-1), zero);
  return select(less(zero, x), x.constant(1), negative);
}

static Num buildGelu(GeluOp op, Num x) {
  if (!op.getTanhApproximation())
    return x * 0.5 * (1.0 + erf(x * kSqrtHalf));
  Num inner = kSqrtTwoOverPi * (x + 0.044715 * (x * x * x));
  return 0.5 * x * (1.0 + tanh(inner));
}

static Num buildElu(EluOp op, Num x) {
  double alpha = op.getAlpha().convertToDouble(), scale = op.getScale().convertToDouble();
  Num negative = expm1(x * op.getInputScale().convertToDouble()) * (alpha * scale);
  return select(greater(x, x.constant(0)), x * scale, negative);
}

static Num buildSoftplus(SoftplusOp op, Num x) {
  double beta = op.getBeta().convertToDouble();
  Num scaled = x * beta;
  Num isLarge = greater(scaled, x.constant(op.getThreshold().convertToDouble()));
  return select(isLarge, x, log1p(exp(scaled)) / beta);
}

static Num buildClamp(ClampOp op, Num x) {
  if (op.getMin())
    x = maximum(x, op.getMin()->convertToDouble());
  if (op.getMax())
    x = minimum(x, op.getMax()->convertToDouble());
  return x;
}

/// torch takes these exponents apart, and the results differ from those of a general power.
static Num buildPow(Num x, Num exponent) {
  FloatAttr attr;
  if (!matchPattern(exponent.value, m_Constant(&attr)))
    return pow(x, exponent);
  double number = attr.getValueAsDouble();
  if (number == 0.0)
    return x.constant(1);
  if (number == 1.0)
    return x;
  if (number == 2.0)
    return x * x;
  if (number == 3.0)
    return x * x * x;
  if (number == 0.5)
    return sqrt(x);
  if (number == -0.5)
    return 1.0 / sqrt(x);
  if (number == -1.0)
    return 1.0 / x;
  if (number == -2.0)
    return 1.0 / (x * x);
  return pow(x, exponent);
}

/// The rest of the division that rounds down: that of `fmod`, moved to the sign of the divisor.
static Num buildRemainder(Num x, Num y) {
  Num rest = fmod(x, y), zero = x.constant(0);
  Num hasOtherSign = notEqual(less(rest, zero), less(y, zero));
  return select(hasOtherSign * notEqual(rest, zero), rest + y, rest);
}

static Num buildCompare(Predicate predicate, Num a, Num b) {
  switch (predicate) {
  case Predicate::eq:
    return equal(a, b);
  case Predicate::ne:
    return notEqual(a, b);
  case Predicate::lt:
    return less(a, b);
  case Predicate::le:
    return lessEqual(a, b);
  case Predicate::gt:
    return less(b, a);
  case Predicate::ge:
    return lessEqual(b, a);
  }
  llvm_unreachable("unknown predicate");
}

/// From and to float, integer and bool, as C++ converts.
static Value buildCast(ImplicitLocOpBuilder &builder, Num x, Type to) {
  Type from = x.type();
  if (from == to)
    return x.value;
  if (to.isInteger(1))
    return notEqual(x, x.constant(0)).value;
  // Between the 16-bit types and all but f32, torch goes through f32, and rounds twice.
  Type middle = builder.getF32Type();
  bool isSmall = getComputeType(from) != from || getComputeType(to) != to;
  if (isSmall && from != middle && to != middle)
    return buildCast(builder, x.with(buildCast(builder, x, middle)), to);
  if (isa<FloatType>(from) && isa<FloatType>(to))
    return convertFloat(builder, x.value, to);
  if (isa<FloatType>(to))
    return x.isBool() ? Value(arith::UIToFPOp::create(builder, to, x.value))
                      : Value(arith::SIToFPOp::create(builder, to, x.value));
  if (isa<FloatType>(from)) {
    // Narrow integers wrap around, as they do where torch is compiled for x86.
    Type wide = to.getIntOrFloatBitWidth() < 32 ? builder.getI32Type() : to;
    Num integer = x.with(arith::FPToSIOp::create(builder, wide, x.value));
    return buildCast(builder, integer, to);
  }
  if (from.getIntOrFloatBitWidth() > to.getIntOrFloatBitWidth())
    return arith::TruncIOp::create(builder, to, x.value);
  return x.isBool() ? Value(arith::ExtUIOp::create(builder, to, x.value))
                    : Value(arith::ExtSIOp::create(builder, to, x.value));
}

/// The formula of `op` on its operands `x`, or null where it has none.
static Num buildFormula(Operation *op, ArrayRef<Num> x) {
  return TypeSwitch<Operation *, Num>(op)
      .Case([&](NegOp) { return -x[0]; })
      .Case([&](AbsOp) { return x[0].isBool() ? x[0] : abs(x[0]); })
      .Case([&](SignOp) { return buildSign(x[0]); })
      .Case([&](ReluOp) { return maximum(x[0], 0); })
      .Case([&](ExpOp) { return exp(x[0]); })
      .Case([&](Expm1Op) { return expm1(x[0]); })
      .Case([&](LogOp) { return log(x[0]); })
      .Case([&](Log1pOp) { return log1p(x[0]); })
      .Case([&](SqrtOp) { return sqrt(x[0]); })
      .Case([&](RsqrtOp) { return 1.0 / sqrt(x[0]); })
      .Case([&](ReciprocalOp) { return 1.0 / x[0]; })
      .Case([&](TanhOp) { return tanh(x[0]); })
      .Case([&](SigmoidOp) { return 1.0 / (1.0 + exp(-x[0])); })
      .Case([&](SiluOp) { return x[0] / (1.0 + exp(-x[0])); })
      .Case([&](MishOp) { return x[0] * tanh(log1p(exp(x[0]))); })
      .Case([&](ErfOp) { return erf(x[0]); })
      .Case([&](SinOp) { return sin(x[0]); })
      .Case([&](CosOp) { return cos(x[0]); })
      .Case([&](TanOp) { return tan(x[0]); })
      .Case([&](AsinOp) { return asin(x[0]); })
      .Case([&](AcosOp) { return acos(x[0]); })
      .Case([&](AtanOp) { return atan(x[0]); })
      .Case([&](SinhOp) { return sinh(x[0]); })
      .Case([&](CoshOp) { return cosh(x[0]); })
      .Case([&](AsinhOp) { return asinh(x[0]); })
      .Case([&](AcoshOp) { return acosh(x[0]); })
      .Case([&](AtanhOp) { return atanh(x[0]); })
      .Case([&](Exp2Op) { return exp2(x[0]); })
      .Case([&](Log2Op) { return log2(x[0]); })
      .Case([&](Log10Op) { return log10(x[0]); })
      .Case([&](ErfcOp) { return erfc(x[0]); })
      .Case([&](FloorOp) { return x[0].isFloat() ? floor(x[0]) : x[0]; })
      .Case([&](CeilOp) { return x[0].isFloat() ? ceil(x[0]) : x[0]; })
      .Case([&](TruncOp) { return x[0].isFloat() ? trunc(x[0]) : x[0]; })
      .Case([&](RoundOp) { return x[0].isFloat() ? roundEven(x[0]) : x[0]; })
      .Case([&](HardswishOp) { return x[0] * minimum(maximum(x[0] + 3.0, 0), 6) / 6.0; })
      .Case([&](HardsigmoidOp) { return minimum(maximum(x[0] + 3.0, 0), 6) / 6.0; })
      .Case([&](LogSigmoidOp) { return minimum(x[0], 0) - log1p(exp(-abs(x[0]))); })
      .Case([&](DetachOp) { return x[0]; })
      .Case([&](LeakyReluOp op) {
        return select(greater(x[0], x[0].constant(0)), x[0], x[0] * op.getNegativeSlope().convertToDouble());
      })
      .Case([&](EluOp op) { return buildElu(op, x[0]); })
      .Case([&](SoftplusOp op) { return buildSoftplus(op, x[0]); })
      .Case([&](GeluOp op) { return buildGelu(op, x[0]); })
      .Case([&](ClampOp op) { return buildClamp(op, x[0]); })
      .Case([&](CastOp op) { return x[0].with(buildCast(*x[0].builder, x[0], getElementTypeOrSelf(op.getType()))); })
      .Case([&](AddOp) { return x[0] + x[1]; })
      .Case([&](SubOp) { return x[0] - x[1]; })
      .Case([&](MulOp) { return x[0] * x[1]; })
      .Case([&](DivOp) { return x[0] / x[1]; })
      .Case([&](PowOp) { return buildPow(x[0], x[1]); })
      .Case([&](MaximumOp) { return maximum(x[0], x[1]); })
      .Case([&](MinimumOp) { return minimum(x[0], x[1]); })
      .Case([&](Atan2Op) { return atan2(x[0], x[1]); })
      .Case([&](FmodOp) { return fmod(x[0], x[1]); })
      .Case([&](RemainderOp) { return buildRemainder(x[0], x[1]); })
      .Case([&](CopysignOp) { return copysign(x[0], x[1]); })
      .Case([&](BitwiseAndOp) { return x[0].with(arith::AndIOp::create(*x[0].builder, x[0].value, x[1].value)); })
      .Case([&](BitwiseOrOp) { return x[0].with(arith::OrIOp::create(*x[0].builder, x[0].value, x[1].value)); })
      .Case([&](BitwiseXorOp) { return x[0].with(arith::XOrIOp::create(*x[0].builder, x[0].value, x[1].value)); })
      .Case([&](CompareOp op) { return buildCompare(op.getPredicate(), x[0], x[1]); })
      .Case([&](WhereOp) { return select(x[0], x[1], x[2]); })
      .Default([](Operation *) { return Num{nullptr, nullptr}; });
}

//===----------------------------------------------------------------------------===//
// The op around the formula
//===----------------------------------------------------------------------------===//

/// Ops that are exact in any type, or that rounding in f32 does not change: they need no detour.
static bool keepsNarrowFloats(Operation *op) {
  return isa<DetachOp, NegOp, AbsOp, SignOp, ReluOp, FloorOp, CeilOp, TruncOp, RoundOp, ClampOp, CastOp, AddOp, SubOp,
             MulOp, DivOp, MaximumOp, MinimumOp, CopysignOp, CompareOp, WhereOp>(op);
}

/// Ops whose formula also holds for integers and bool.
static bool takesIntegers(Operation *op) {
  return isa<DetachOp, NegOp, AbsOp, SignOp, ReluOp, FloorOp, CeilOp, TruncOp, RoundOp, CastOp, AddOp, SubOp, MulOp,
             MaximumOp, MinimumOp, FmodOp, RemainderOp, BitwiseAndOp, BitwiseOrOp, BitwiseXorOp, CompareOp, WhereOp>(
      op);
}

static Value buildPayload(Operation *op, ImplicitLocOpBuilder &builder, ValueRange elements) {
  bool widens = !keepsNarrowFloats(op);
  SmallVector<Num> operands;
  for (Value element : elements) {
    if (widens && isa<FloatType>(element.getType()))
      element = convertFloat(builder, element, getComputeType(element.getType()));
    operands.push_back({&builder, element});
  }
  Num result = buildFormula(op, operands);
  Type type = getElementTypeOrSelf(op->getResult(0).getType());
  return widens ? convertFloat(builder, result.value, type) : result.value;
}

/// The scalar of a constant whose elements are all the same.
static TypedAttr getSplat(Value value) {
  DenseElementsAttr elements;
  if (!matchPattern(value, m_Constant(&elements)) || !elements.isSplat())
    return nullptr;
  return elements.getSplatValue<TypedAttr>();
}

FailureOr<Value> mlir::pfcn::lowerPointwise(Lowering &lowering, Operation *op) {
  Type input = getElementTypeOrSelf(op->getOperand(op->getNumOperands() - 1).getType());
  if (!isa<FloatType>(input) && !takesIntegers(op))
    return lowering.decline("it is lowered for floating-point numbers only");
  if (input.isInteger(1) && isa<NegOp, SubOp>(op))
    return lowering.decline("torch has no subtraction of bool");
  if (isa<FloatType>(input) && isa<BitwiseAndOp, BitwiseOrOp, BitwiseXorOp>(op))
    return lowering.decline("floating-point numbers have no bits in torch");

  auto type = cast<RankedTensorType>(op->getResult(0).getType());
  LoopNest nest(lowering, type.getShape());
  SmallVector<TypedAttr> splats = llvm::map_to_vector(op->getOperands(), getSplat);
  for (auto [operand, splat] : llvm::zip_equal(op->getOperands(), splats))
    if (!splat)
      nest.readTrailing(operand);
  return nest.map(type.getElementType(), [&](ImplicitLocOpBuilder &builder, ValueRange elements) {
    SmallVector<Value> operands;
    for (TypedAttr splat : splats) {
      if (splat) {
        operands.push_back(arith::ConstantOp::create(builder, splat));
        continue;
      }
      operands.push_back(elements.front());
      elements = elements.drop_front();
    }
    return buildPayload(op, builder, operands);
  });
}
