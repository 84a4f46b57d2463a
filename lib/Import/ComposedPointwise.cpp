//===- ComposedPointwise.cpp - pointwise operators as formulas --------------------===//
//
// Torch's own formulas. f16 and bf16 are computed with in f32 and rounded once, as in torch.
//
//===----------------------------------------------------------------------------===//

#include "Compose.h"

#include <cmath>
#include <limits>

namespace pfcn {
using namespace mlir;
using namespace mlir::pfcn;

static constexpr double kInfinity = std::numeric_limits<double>::infinity();
static constexpr double kPi = 3.14159265358979323846;

/// A formula of one operand, and of two.
template <Expr (*formula)(Expr)> static bool unary(CallImporter &call) {
  Expr x = wide(call, 0);
  return x && finish(call, formula(x));
}
template <Expr (*formula)(Expr, Expr)> static bool ofTwo(CallImporter &call) {
  Expr x = wide(call, 0), y = wide(call, 1);
  return x && y && finish(call, formula(x, y));
}
/// Of one operand in its own type, to booleans.
template <Expr (*formula)(Expr)> static bool test(CallImporter &call) {
  Expr x = at::isFloatingType(call.meta(0).dtype) ? in(call, 0, call.meta(0).dtype) : Expr();
  return x && call.finish(formula(x).value);
}

//===----------------------------------------------------------------------------===//
// One operand
//===----------------------------------------------------------------------------===//

static Expr frac(Expr x) { return x - trunc(x); }
static Expr toRadians(Expr x) { return x * (kPi / 180.0); }
static Expr toDegrees(Expr x) { return x * (180.0 / kPi); }
static Expr sinc(Expr x) {
  Expr product = where(x == 0.0, 1.0, x * kPi); // at zero no gradient comes by the quotient
  return where(x == 0.0, 1.0, sin(product) / product);
}
static Expr entropy(Expr x) {
  Expr positive = -(x * log(x)), rest = where(x == 0.0, 0.0, x.constant(-kInfinity));
  return where(isNan(x), x, where(x > 0.0, positive, rest));
}

static bool hardshrink(CallImporter &call) {
  Expr x = wide(call, 0);
  double limit = call.number(1);
  return x && finish(call, where((x >= -limit) & (x <= limit), 0.0, x));
}

static bool softshrink(CallImporter &call) {
  Expr x = wide(call, 0);
  double limit = call.number(1);
  if (!x)
    return false;
  // NaN stays, with its gradient: it is neither above nor below.
  return finish(call, where(x > limit, x - limit, where(x < -limit, x + limit, where(isNan(x), x, 0.0))));
}

static bool logit(CallImporter &call) {
  Expr x = wide(call, 0);
  if (!x)
    return false;
  if (!call.isNone(1)) {
    double eps = call.number(1);
    x = where(x < eps, eps, where(x > 1.0 - eps, 1.0 - eps, x));
  }
  return finish(call, log(x / (1.0 - x)));
}

static double getLimit(at::ScalarType dtype, bool isLargest) {
  switch (dtype) {
  case at::kHalf:
    return isLargest ? 65504.0 : -65504.0;
  case at::kBFloat16:
    return isLargest ? 3.3895313892515355e38 : -3.3895313892515355e38;
  case at::kFloat:
    return isLargest ? std::numeric_limits<float>::max() : std::numeric_limits<float>::lowest();
  default:
    return isLargest ? std::numeric_limits<double>::max() : std::numeric_limits<double>::lowest();
  }
}

static bool nanToNum(CallImporter &call) {
  at::ScalarType dtype = call.resultDtype();
  Expr x = at::isFloatingType(dtype) ? in(call, 0, dtype) : Expr();
  if (!x)
    return false;
  double nan = call.isNone(1) ? 0.0 : call.number(1);
  double high = call.isNone(2) ? getLimit(dtype, true) : call.number(2);
  double low = call.isNone(3) ? getLimit(dtype, false) : call.number(3);
  x = where(isNan(x), nan, x);
  return call.finish(where(x == kInfinity, high, where(x == -kInfinity, low, x)).value);
}

static bool roundDecimals(CallImporter &call) {
  Expr x = wide(call, 0);
  int64_t decimals = call.integer(1);
  if (!x)
    return false;
  double power = std::pow(10.0, static_cast<double>(std::abs(decimals)));
  Expr scaled = decimals < 0 ? x / power : x * power;
  Expr rounded = scaled.apply<RoundOp>();
  return finish(call, decimals < 0 ? rounded * power : rounded / power);
}

/// A slope for all channels, or for each of dimension 1.
static bool prelu(CallImporter &call) {
  Expr x = wide(call, 0), slope = wide(call, 1);
  if (!x || !slope || slope.rank() > 1)
    return false;
  if (slope.rank() == 1)
    slope = x.rank() > 1 ? slope.alignAt(1, x.rank()) : slope;
  return finish(call, where(x > 0.0, x, slope * x));
}

static Expr isInf(Expr x) { return abs(x) == kInfinity; }
static Expr isPosInf(Expr x) { return x == kInfinity; }
static Expr isNegInf(Expr x) { return x == -kInfinity; }
static Expr isFinite(Expr x) { return abs(x) < kInfinity; }
static Expr signBit(Expr x) { return copysign(x.constant(1.0), x) < 0.0; }

//===----------------------------------------------------------------------------===//
// Two operands
//===----------------------------------------------------------------------------===//

static Expr logAddExp(Expr x, Expr y) {
  Expr larger = maximum(x, y), smaller = minimum(x, y);
  Expr sum = larger + log1p(exp(smaller - larger));
  return where(abs(x) == kInfinity, where(x == y, x, sum), sum);
}
static Expr logAddExp2(Expr x, Expr y) {
  Expr larger = maximum(x, y), smaller = minimum(x, y);
  Expr sum = larger + log1p(exp2(smaller - larger)) / std::log(2.0);
  return where(abs(x) == kInfinity, where(x == y, x, sum), sum);
}
/// Without overflow. Infinite where either is, even beside NaN. The gradient where both are zero is 0 / 0, as torch's.
static Expr hypotenuse(Expr x, Expr y) {
  Expr larger = maximum(abs(x), abs(y)), ratio = minimum(abs(x), abs(y)) / larger;
  Expr length = where(larger == 0.0, larger, larger * sqrt(ratio * ratio + 1.0));
  return where((abs(x) == kInfinity) | (abs(y) == kInfinity), x.constant(kInfinity), length);
}
static Expr xLogY(Expr x, Expr y) { return where(isNan(y), y, where(x == 0.0, 0.0, x * log(y))); }
static Expr xLog1pY(Expr x, Expr y) { return where(isNan(y), y, where(x == 0.0, 0.0, x * log1p(y))); }
static Expr fmax(Expr x, Expr y) { return where((x >= y) | isNan(y), x, y); }
static Expr fmin(Expr x, Expr y) { return where((x <= y) | isNan(y), x, y); }
static Expr heaviside(Expr x, Expr y) { return where(x == 0.0, y, where(x > 0.0, 1.0, x.constant(0.0))); }
static Expr loadExponent(Expr x, Expr y) { return x * pow(x.constant(2.0), y); }
static Expr truncDivide(Expr x, Expr y) { return trunc(x / y); }

/// Rounded down, by way of the exact remainder.
static Expr floorDivide(Expr x, Expr y) {
  Expr rest = fmod(x, y), quotient = (x - rest) / y;
  quotient = where((rest != 0.0) & ((y < 0.0) != (rest < 0.0)), quotient - 1.0, quotient);
  Expr down = floor(quotient);
  down = where(quotient - down > 0.5, down + 1.0, down);
  down = where(quotient == 0.0, copysign(x.constant(0.0), x / y), down);
  return where(y == 0.0, x / y, down);
}

static bool divideMode(CallImporter &call) {
  if (call.isNone(2))
    return false;
  return call.constant(2).toStringRef() == "floor" ? ofTwo<floorDivide>(call) : ofTwo<truncDivide>(call);
}

static bool floatPower(CallImporter &call) {
  Expr x = call.resultDtype() == at::kDouble ? in(call, 0, at::kDouble) : Expr(), y = x ? in(call, 1, at::kDouble) : x;
  return y && call.finish(pow(x, y).value);
}

static bool isClose(CallImporter &call) {
  at::ScalarType dtype = getCommonDtype(call, 0, 1);
  Expr x = at::isFloatingType(dtype) ? in(call, 0, dtype) : Expr(), y = x ? in(call, 1, dtype) : Expr();
  if (!y)
    return false;
  Expr allowed = abs(y * call.number(2)) + call.number(3), error = abs(x - y);
  Expr close = (x == y) | ((abs(error) < kInfinity) & (error <= allowed));
  if (call.flag(4))
    close = close | (isNan(x) & isNan(y));
  return call.finish(close.value);
}

/// Tensors as limits, whose NaN counts. On a limit the gradient is the element's.
static Expr limitBelow(Expr x, Expr limit) {
  return where(isa<FloatType>(limit.element()) ? (x < limit) | isNan(limit) : x < limit, limit, x);
}
static Expr limitAbove(Expr x, Expr limit) {
  return where(isa<FloatType>(limit.element()) ? (x > limit) | isNan(limit) : x > limit, limit, x);
}

static bool clampTensor(CallImporter &call) {
  at::ScalarType dtype = call.resultDtype();
  Expr x = isNumber(dtype) ? in(call, 0, dtype) : Expr();
  if (!x || (!call.isTensor(1) && (call.size() < 3 || !call.isTensor(2))))
    return false;
  bool hasUpper = call.size() > 2 && call.isTensor(2);
  Expr upper = hasUpper ? in(call, 2, dtype) : Expr();
  if (call.isTensor(1)) {
    Expr lower = in(call, 1, dtype);
    if (hasUpper && at::isFloatingType(dtype)) // a lower limit on an upper one has no gradient
      lower = where(lower < upper, lower, lower.apply<DetachOp>());
    x = limitBelow(x, lower);
  }
  if (hasUpper)
    x = limitAbove(x, upper);
  return call.finish(x.value);
}
static bool clampMaxTensor(CallImporter &call) {
  at::ScalarType dtype = call.resultDtype();
  Expr x = isNumber(dtype) ? in(call, 0, dtype) : Expr();
  return x && call.finish(limitAbove(x, in(call, 1, dtype)).value);
}

//===----------------------------------------------------------------------------===//
// Three operands
//===----------------------------------------------------------------------------===//

/// From the nearer end, as torch computes it.
static bool lerp(CallImporter &call) {
  Expr start = wide(call, 0), end = wide(call, 1), weight = wide(call, 2);
  if (!start || !end || !weight)
    return false;
  Expr way = end - start;
  return finish(call, where(abs(weight) < 0.5, start + weight * way, end - way * (1.0 - weight)));
}

/// input + value * (a * b), input + value * (a / b).
template <typename Op> static bool addCombined(CallImporter &call) {
  Expr input = wide(call, 0), a = wide(call, 1), b = wide(call, 2);
  if (!input || !a || !b)
    return false;
  return finish(call, input + call.number(3) * ::pfcn::binary<Op>(a, b));
}

//===----------------------------------------------------------------------------===//
// Losses of each element
//===----------------------------------------------------------------------------===//

template <Expr (*formula)(Expr, double), bool hasParameter> static bool differenceLoss(CallImporter &call) {
  Expr x = wide(call, 0), y = wide(call, 1);
  return x && y && reduceLoss(call, formula(x - y, hasParameter ? call.number(3) : 0.0), call.integer(2));
}
static Expr squaredLoss(Expr error, double) { return error * error; }
static Expr absoluteLoss(Expr error, double) { return abs(error); }
static Expr smoothLoss(Expr error, double beta) {
  Expr size = abs(error);
  return beta == 0.0 ? size : where(size < beta, 0.5 * size * size / beta, size - 0.5 * beta);
}
static Expr huberLoss(Expr error, double delta) {
  Expr size = abs(error);
  return where(size <= delta, 0.5 * size * size, delta * (size - 0.5 * delta));
}

/// (self, target, weight, reduction)
static bool crossEntropyOfProbabilities(CallImporter &call) {
  Expr x = wide(call, 0), y = wide(call, 1);
  if (!x || !y)
    return false;
  auto logarithm = [](Expr value) { return maximum(log(value), -100.0); };
  Expr loss = (y - 1.0) * maximum(log1p(-x), -100.0) - y * logarithm(x);
  if (call.isTensor(2))
    loss = loss * wide(call, 2);
  return reduceLoss(call, loss, call.integer(3));
}

/// (self, target, weight, pos_weight, reduction)
static bool crossEntropyOfLogits(CallImporter &call) {
  Expr x = wide(call, 0), y = wide(call, 1);
  if (!x || !y)
    return false;
  Expr logSigmoid = x.apply<LogSigmoidOp>();
  if (call.isTensor(3))
    logSigmoid = logSigmoid * ((wide(call, 3) - 1.0) * y + 1.0);
  Expr loss = (1.0 - y) * x - logSigmoid;
  if (call.isTensor(2))
    loss = loss * wide(call, 2);
  return reduceLoss(call, loss, call.integer(4));
}

/// (self, target, reduction, log_target)
static bool divergence(CallImporter &call) {
  Expr x = wide(call, 0), y = wide(call, 1);
  if (!x || !y)
    return false;
  Expr loss = call.flag(3) ? exp(y) * (y - x) : xLogY(y, y) - y * x;
  return reduceLoss(call, loss, call.integer(2));
}

/// (self, target, reduction). In f16 torch rounds each step, and overflows where f32 would not.
static bool softMargin(CallImporter &call) {
  if (getComputeDtype(call.resultDtype()) != call.resultDtype())
    return false;
  Expr x = wide(call, 0), y = wide(call, 1);
  return x && y && reduceLoss(call, log1p(exp(-x * y)), call.integer(2));
}

void addComposedPointwise(AtenTable &table) {
  table.addSmooth({"frac"}, unary<frac>);
  table.addSmooth({"deg2rad"}, unary<toRadians>);
  table.addSmooth({"rad2deg"}, unary<toDegrees>);
  // Its gradient cancels near zero, and torch rounds it in another order.
  table.addComposed({"sinc", "special_sinc"}, unary<sinc>);
  table.addComposed({"special_entr"}, unary<entropy>);
  table.addSmooth({"hardshrink"}, hardshrink);
  table.addSmooth({"softshrink"}, softshrink);
  table.addComposed({"logit", "special_logit"}, logit);
  table.addSmooth({"nan_to_num"}, nanToNum);
  table.addSmooth({"round.decimals"}, roundDecimals);
  table.addSmooth({"prelu", "_prelu_kernel"}, prelu);
  table.addComposed({"isinf"}, test<isInf>);
  table.addComposed({"isposinf"}, test<isPosInf>);
  table.addComposed({"isneginf"}, test<isNegInf>);
  table.addComposed({"isfinite"}, test<isFinite>);
  table.addComposed({"signbit"}, test<signBit>);
  table.addComposed({"logaddexp"}, ofTwo<logAddExp>);
  table.addComposed({"logaddexp2"}, ofTwo<logAddExp2>);
  table.addComposed({"xlogy.Tensor", "xlogy.Scalar_Self", "xlogy.Scalar_Other", "special_xlogy"}, ofTwo<xLogY>);
  table.addComposed({"special_xlog1py", "special_xlog1py.self_scalar", "special_xlog1py.other_scalar"}, ofTwo<xLog1pY>);
  table.addSmooth({"fmax"}, ofTwo<fmax>);
  table.addSmooth({"fmin"}, ofTwo<fmin>);
  table.addSmooth({"hypot"}, ofTwo<hypotenuse>);
  table.addComposed({"heaviside"}, ofTwo<heaviside>);
  table.addSmooth({"ldexp.Tensor"}, ofTwo<loadExponent>);
  table.addComposed({"div.Tensor_mode", "div.Scalar_mode", "divide.Tensor_mode", "divide.Scalar_mode"}, divideMode);
  table.addComposed({"floor_divide", "floor_divide.Scalar"}, ofTwo<floorDivide>);
  table.addSmooth({"float_power.Tensor_Tensor", "float_power.Scalar", "float_power.Tensor_Scalar"}, floatPower);
  table.addComposed({"isclose"}, isClose);
  table.addSmooth({"clamp.Tensor", "clip.Tensor", "clamp_min.Tensor"}, clampTensor);
  table.addSmooth({"clamp_max.Tensor"}, clampMaxTensor);
  table.addSmooth({"lerp.Scalar", "lerp.Tensor"}, lerp);
  table.addSmooth({"addcmul"}, addCombined<MulOp>);
  table.addSmooth({"addcdiv"}, addCombined<DivOp>);
  table.addSmooth({"mse_loss"}, differenceLoss<squaredLoss, false>);
  table.addSmooth({"l1_loss"}, differenceLoss<absoluteLoss, false>);
  table.addSmooth({"smooth_l1_loss"}, differenceLoss<smoothLoss, true>);
  table.addSmooth({"huber_loss"}, differenceLoss<huberLoss, true>);
  table.addComposed({"binary_cross_entropy"}, crossEntropyOfProbabilities);
  table.addSmooth({"binary_cross_entropy_with_logits"}, crossEntropyOfLogits);
  table.addComposed({"kl_div"}, divergence);
  table.addSmooth({"soft_margin_loss"}, softMargin);
}

} // namespace pfcn
