//===- ExpandMath.cpp - functions for which a GPU has no instruction -------------------===//
//
// Formulas in f64; those of f32 are rounded from them, save for sine and cosine. The others of f32 that models use
// are upstream's polynomials (ApproximateMath).
//
//===----------------------------------------------------------------------------===//

#include "pfcn/JIT/ExpandMath.h"

#include "../Conversion/PfcnToLinalg/ScalarMath.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "llvm/ADT/TypeSwitch.h"

#include <numbers>

using namespace mlir;
using mlir::pfcn::Num;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double notANumber = std::numeric_limits<double>::quiet_NaN();
constexpr double halfPi = std::numbers::pi / 2, ln2 = std::numbers::ln2;
/// What the doubles above leave of the numbers.
constexpr double halfPiRest = 6.123233995736766e-17, halfPiRest2 = -1.4973849048591698e-33,
                 ln2Rest = 2.3190468138462996e-17;

//===----------------------------------------------------------------------------===//
// Words
//===----------------------------------------------------------------------------===//

static Num fma(Num a, Num b, Num c) { return a.with(math::FmaOp::create(*a.builder, a.value, b.value, c.value)); }

static Num bitcast(Num a, Type type) { return a.with(arith::BitcastOp::create(*a.builder, type, a.value)); }

static Num toDouble(Num a) { return a.with(arith::ExtFOp::create(*a.builder, a.builder->getF64Type(), a.value)); }

static Num copySign(Num magnitude, Num sign) {
  return magnitude.with(math::CopySignOp::create(*magnitude.builder, magnitude.value, sign.value));
}

/// An integer constant of up to 64 bits.
static Num word(Num like, uint64_t bits, Type type) {
  auto width = type.getIntOrFloatBitWidth();
  return like.with(arith::ConstantOp::create(*like.builder, IntegerAttr::get(type, APInt(width, bits, false, true))));
}

static Num shiftLeft(Num a, Num by) { return a.with(arith::ShLIOp::create(*a.builder, a.value, by.value)); }
static Num shiftRight(Num a, Num by) { return a.with(arith::ShRUIOp::create(*a.builder, a.value, by.value)); }
static Num bitAnd(Num a, Num b) { return a.with(arith::AndIOp::create(*a.builder, a.value, b.value)); }
static Num bitOr(Num a, Num b) { return a.with(arith::OrIOp::create(*a.builder, a.value, b.value)); }
static Num truncate(Num a, Type type) { return a.with(arith::TruncIOp::create(*a.builder, type, a.value)); }

/// The integer nearest to `a`, which must be no NaN and less than 2^31.
static Num toInt32(Num a) { return a.with(arith::FPToSIOp::create(*a.builder, a.builder->getI32Type(), a.value)); }

/// c[0] + x c[1] + …
static Num polynomial(Num x, ArrayRef<double> coefficients) {
  Num result = x.constant(coefficients.back());
  for (double coefficient : llvm::reverse(coefficients.drop_back()))
    result = fma(result, x, x.constant(coefficient));
  return result;
}

/// The first `count` coefficients of a power series.
template <typename Function> static SmallVector<double> series(unsigned count, Function coefficient) {
  return llvm::map_to_vector(llvm::seq(count), coefficient);
}

static double factorial(unsigned n) { return n == 0 ? 1 : n * factorial(n - 1); }
static double alternate(unsigned n) { return n % 2 ? -1 : 1; }

//===----------------------------------------------------------------------------===//
// Exponential and logarithm
//===----------------------------------------------------------------------------===//

/// 2^n for an integral n that is the exponent of a normal number.
static Num powerOfTwo(Num n) {
  Type i64 = n.builder->getI64Type();
  // The low bits of n + 1.5·2^52 are n.
  Num bits = bitcast(n + 6755399441055744.0, i64);
  Num exponent = bits + word(bits, 1023, i64);
  return bitcast(shiftLeft(exponent, word(bits, 52, i64)), n.type());
}

/// x = n ln2 + rest, |rest| < 0.35.
static std::pair<Num, Num> reduceByLn2(Num x) {
  Num n = roundEven(x * (1 / ln2));
  Num rest = fma(n, x.constant(-ln2), x);
  return {n, fma(n, x.constant(-ln2Rest), rest)};
}

/// Keeps NaN.
static Num clampKeepingNaN(Num x, double low, double high) {
  x = select(greater(x, x.constant(high)), x.constant(high), x);
  return select(less(x, x.constant(low)), x.constant(low), x);
}

static Num expandExp(Num x) {
  auto [n, rest] = reduceByLn2(clampKeepingNaN(x, -800, 800));
  Num value = polynomial(rest, series(14, [](unsigned i) { return 1 / factorial(i); }));
  Num half = roundEven(n * 0.5); // two factors, so that the result may be subnormal
  return value * powerOfTwo(half) * powerOfTwo(n - half);
}

static Num expandExpM1(Num x) {
  auto [n, rest] = reduceByLn2(clampKeepingNaN(x, -60, 710));
  Num higher = polynomial(rest, series(13, [](unsigned i) { return 1 / factorial(i + 2); }));
  Num value = fma(rest * rest, higher, rest);
  Num scale = powerOfTwo(n - 1.0); // half of it, for 2^1024 is none
  Num result = fma(scale, value, scale - 0.5) * 2.0;
  return select(equal(x, x.constant(0)), x, result);
}

static Num expandLog(Num x) {
  bool isDouble = x.type().isF64();
  Type integer = x.builder->getIntegerType(isDouble ? 64 : 32);
  unsigned width = isDouble ? 52 : 23;
  uint64_t bias = isDouble ? 1023 : 127;
  Num isSubnormal = less(x, x.constant(isDouble ? 0x1p-1022 : 0x1p-126));
  Num normal = select(isSubnormal, x * 0x1p54, x);
  Num bits = bitcast(normal, integer);
  Num exponent = shiftRight(bits, word(bits, width, integer)) - word(bits, bias, integer);
  Num fraction = bitAnd(bits, word(bits, (uint64_t(1) << width) - 1, integer));
  Num mantissa = bitcast(bitOr(fraction, word(bits, bias << width, integer)), x.type());
  Num n = x.with(arith::SIToFPOp::create(*x.builder, x.type(), exponent.value));
  n = select(isSubnormal, n - 54.0, n);
  Num isLarge = greater(mantissa, x.constant(std::numbers::sqrt2));
  mantissa = select(isLarge, mantissa * 0.5, mantissa);
  n = select(isLarge, n + 1.0, n);
  // log m = 2 artanh s
  Num s = (mantissa - 1.0) / (mantissa + 1.0), z = s * s;
  Num higher = polynomial(z, series(isDouble ? 12 : 5, [](unsigned i) { return 2.0 / (2 * i + 3); }));
  double rest = isDouble ? ln2Rest : ln2 - static_cast<float>(ln2);
  Num value = fma(n, x.constant(ln2), fma(s * z, higher, fma(n, x.constant(rest), s * 2.0)));
  value = select(equal(x, x.constant(0)), x.constant(-infinity), value);
  value = select(less(x, x.constant(infinity)), value, x); // infinity, or NaN
  return select(less(x, x.constant(0)), x.constant(notANumber), value);
}

static Num expandLog1p(Num x) {
  // What rounding 1 + x loses is made up for by the factor.
  Num sum = x + 1.0;
  Num value = log(sum) * (x / (sum - 1.0));
  value = select(less(abs(x), x.constant(infinity)), value, log(x));
  return select(equal(sum, x.constant(1)), x, value);
}

static Num expandPow(Num x, Num y) {
  Num one = x.constant(1), zero = x.constant(0);
  Num value = exp(y * log(abs(x)));
  // An exponent of infinity, of which the logarithm 0 makes NaN.
  value = select(equal(abs(x), one), one, value);
  auto isIntegral = [](Num a) { return equal(a.apply<math::TruncOp>(), a); };
  Num isOdd = isIntegral(y) * notEqual((y * 0.5).apply<math::TruncOp>(), y * 0.5);
  value = select(isOdd, copySign(value, x), value);
  Num isFinite = less(zero - abs(x), zero) * less(abs(x), x.constant(infinity));
  Num hasNoValue = isFinite * less(x, zero) * notEqual(y.apply<math::TruncOp>(), y);
  value = select(hasNoValue, x.constant(notANumber), value);
  value = select(notEqual(y, y), y, value);
  value = select(notEqual(x, x), x, value);
  return select(equal(y, zero), one, select(equal(x, one), one, value));
}

//===----------------------------------------------------------------------------===//
// Hyperbolic functions and the error function
//===----------------------------------------------------------------------------===//

static Num expandTanh(Num x) {
  Num e = expm1(clampKeepingNaN(abs(x), 0, 20) * 2.0);
  return copySign(e / (e + 2.0), x);
}

static Num expandSinh(Num x) {
  Num a = abs(x), e = expm1(a), half = exp(a * 0.5);
  Num value = select(greater(a, x.constant(700)), half * (half * 0.5), (e + e / (e + 1.0)) * 0.5);
  return copySign(value, x);
}

static Num expandCosh(Num x) {
  Num a = abs(x), e = exp(a), half = exp(a * 0.5);
  return select(greater(a, x.constant(700)), half * (half * 0.5), (e + 1.0 / e) * 0.5);
}

static Num expandAsinh(Num x) {
  Num a = abs(x), square = a * a;
  Num value = log1p(a + square / (sqrt(square + 1.0) + 1.0));
  return copySign(select(greater(a, x.constant(1e9)), log(a) + ln2, value), x);
}

static Num expandAcosh(Num x) {
  Num t = x - 1.0;
  Num value = select(greater(x, x.constant(1e9)), log(x) + ln2, log1p(t + sqrt(t * (t + 2.0))));
  return select(less(x, x.constant(1)), x.constant(notANumber), value);
}

static Num expandAtanh(Num x) {
  Num a = abs(x);
  return copySign(log1p(a * 2.0 / (1.0 - a)) * 0.5, x);
}

/// erfc x / exp(-x²) for 1 <= x <= 28, to 2e-19: a Chebyshev fit in t = (x - 2.5) / (x + 2.5), made
/// with mpmath.chebyfit.
static Num scaledErfc(Num x) {
  Num t = (x - 2.5) / (x + 2.5);
  return polynomial(t, {0.2108063640611436,    -0.37173673394897333,    0.2517131932174493,      -0.12503305237882814,
                        0.03992253907558672,   -0.003993701165934962,   -0.002642365964475758,   0.0008759154522543122,
                        0.0002283803854826575, -0.0001288771987456414,  -3.4182366007219594e-05, 1.86145825213334e-05,
                        7.554037450349916e-06, -2.2973512404311016e-06, -1.8116616735430215e-06, 6.608802578971722e-08,
                        3.811612252980178e-07, 1.2039803958052104e-07,  -7.166491550057099e-08,  -7.636936981436366e-08,
                        4.907678119695602e-08, -7.465488386301285e-09});
}

/// erf of |x| < 1 by its power series, and erfc of |x| >= 1.
static std::pair<Num, Num> erfParts(Num x) {
  Num square = x * x;
  SmallVector<double> terms =
      series(18, [](unsigned n) { return 2 * std::numbers::inv_sqrtpi * alternate(n) / (factorial(n) * (2 * n + 1)); });
  Num a = clampKeepingNaN(abs(x), 1, 28);
  Num aSquare = a * a, lost = fma(a, a, -aSquare);
  return {x * polynomial(square, terms), exp(-aSquare) * (1.0 - lost) * scaledErfc(a)};
}

static Num expandErf(Num x) {
  auto [inner, outer] = erfParts(x);
  return select(less(abs(x), x.constant(1)), inner, copySign(1.0 - outer, x));
}

static Num expandErfc(Num x) {
  auto [inner, outer] = erfParts(x);
  outer = select(less(x, x.constant(0)), 2.0 - outer, outer);
  return select(less(abs(x), x.constant(1)), 1.0 - inner, outer);
}

//===----------------------------------------------------------------------------===//
// Trigonometric functions
//===----------------------------------------------------------------------------===//

/// 2/π in words of 64 bits behind the point, with a zero before.
static constexpr uint64_t twoOverPi[] = {0,
                                         0xa2f9836e4e441529,
                                         0xfc2757d1f534ddc0,
                                         0xdb6295993c439041,
                                         0xfe5163abdebbc561,
                                         0xb7246e3a424dd2e0,
                                         0x06492eea09d1921c,
                                         0xfe1deb1cb129a73e,
                                         0xe88235f52ebb4484,
                                         0xe99c7026b45f7e41,
                                         0x3991d639835339f4,
                                         0x9c845f8bbdf9283b,
                                         0x1ff897ffde05980f,
                                         0xef2f118b5a0a6d1f,
                                         0x6d367ecf27cb09b7,
                                         0x4f463f669e5fea2d,
                                         0x7527bac7ebe5f17b,
                                         0x3d0739f78a5292ea,
                                         0x6bfb5fb11f8d5d08,
                                         0x56033046fc7b6bab,
                                         0xf0cfbc209af4361d};

/// x = quadrant · π/2 + rest, |rest| <= π/4, for f64 of any size above 2^-8: |x| times those bits of 2/π that can
/// make a difference to it modulo 4 (the method of Payne and Hanek).
static std::pair<Num, Num> reduceExactly(Num x) {
  OpBuilder &builder = *x.builder;
  Type i64 = builder.getI64Type();
  auto constant = [&](uint64_t value) { return word(x, value, i64); };
  Num bits = bitcast(abs(x), i64);
  Num mantissa = bitOr(bitAnd(bits, constant(0xfffffffffffff)), constant(uint64_t(1) << 52));
  // |x| = mantissa · 2^(exponent - 1075); bits of weight 4 and more, times that, are left out.
  Num start = shiftRight(bits, constant(52)) - constant(1075 + 2 - 64);
  Num index = shiftRight(start, constant(6)), shift = bitAnd(start, constant(63));
  constexpr unsigned positions = std::size(twoOverPi) - 3;
  SmallVector<Num> words;
  for (unsigned offset = 0; offset < 4; ++offset) {
    words.push_back(constant(twoOverPi[offset]));
    for (unsigned i = 1; i < positions; ++i)
      words.back() = select(equal(index, constant(i)), constant(twoOverPi[i + offset]), words.back());
  }
  Num rest = constant(63) - shift;
  for (unsigned i = 0; i < 3; ++i)
    words[i] = bitOr(shiftLeft(words[i], shift), shiftRight(shiftRight(words[i + 1], constant(1)), rest));
  // mantissa · words modulo 2^192; of the product the upper 128 bits.
  auto multiply = [&](Num a) {
    auto product = arith::MulUIExtendedOp::create(*x.builder, a.value, mantissa.value);
    return std::pair(a.with(product.getLow()), a.with(product.getHigh()));
  };
  auto [low1, high1] = multiply(words[1]);
  Num high2 = multiply(words[2]).second;
  Num middle = low1 + high2;
  Num carries =
      x.with(arith::CmpIOp::create(builder, x.builder->getLoc(), arith::CmpIPredicate::ult, middle.value, low1.value));
  Num top = words[0] * mantissa + high1 + select(carries, constant(1), constant(0));
  // The two upper bits are the quadrant, of what is rounded to the nearest; the others a signed fraction.
  Num quadrant = shiftRight(top + constant(uint64_t(1) << 61), constant(62));
  Num fraction = bitOr(shiftLeft(top, constant(2)), shiftRight(middle, constant(62)));
  Num further = shiftLeft(middle, constant(2));
  Num value = x.with(arith::SIToFPOp::create(builder, x.builder->getLoc(), x.type(), fraction.value));
  Num small = x.with(arith::UIToFPOp::create(builder, x.builder->getLoc(), x.type(), further.value));
  value = fma(small, x.constant(0x1p-128), value * 0x1p-64) * halfPi;
  Num isNegative = less(x, x.constant(0));
  quadrant = truncate(select(isNegative, constant(0) - quadrant, quadrant), builder.getI32Type());
  return {quadrant, select(isNegative, -value, value)};
}

/// The same for f32 and f64, exactly only where that is needed. `parts` add up to π/2.
static std::pair<Num, Num> reduceByHalfPi(Num x, double limit, ArrayRef<double> parts) {
  auto byParts = [&](Num y) {
    Num n = roundEven(y * (1 / halfPi)), rest = y;
    for (double part : parts)
      rest = fma(n, y.constant(-part), rest);
    return std::pair(toInt32(n), rest);
  };
  auto exactly = [&](Num y) {
    if (y.type().isF64())
      return reduceExactly(y);
    auto [quadrant, rest] = reduceExactly(toDouble(y));
    return std::pair(quadrant, y.with(arith::TruncFOp::create(*y.builder, y.type(), rest.value)));
  };
  auto yield = [&](auto reduce) {
    return [&x, reduce](OpBuilder &at, Location loc) {
      ImplicitLocOpBuilder builder(loc, at);
      auto [quadrant, rest] = reduce(Num{&builder, x.value});
      scf::YieldOp::create(builder, ValueRange{quadrant.value, rest.value});
    };
  };
  Num isSmall = less(abs(x), x.constant(limit));
  auto reduced = scf::IfOp::create(*x.builder, isSmall.value, yield(byParts), yield(exactly));
  return {x.with(reduced.getResult(0)), x.with(reduced.getResult(1))};
}

namespace {
/// The sine and cosine of an argument.
struct Turn {
  Num sine, cosine;
  /// The quadrant: which of them is which, with what sign.
  Num quadrant;
};
} // namespace

static Turn turn(Num x) {
  bool isDouble = x.type().isF64();
  constexpr float first = halfPi, second = halfPi - first, third = halfPi - first - second;
  auto [quadrant, rest] = isDouble ? reduceByHalfPi(x, 0x1p29, {halfPi, halfPiRest, halfPiRest2})
                                   : reduceByHalfPi(x, 0x1p17, {first, second, third});
  unsigned terms = isDouble ? 9 : 5;
  Num z = rest * rest;
  Num higher = polynomial(z, series(terms - 1, [](unsigned i) { return alternate(i + 1) / factorial(2 * i + 3); }));
  Num sine = fma(rest * z, higher, rest);
  Num cosine = polynomial(z, series(terms + 1, [](unsigned i) { return alternate(i) / factorial(2 * i); }));
  Num isFinite = less(abs(x), x.constant(infinity));
  Num none = x.constant(notANumber);
  return {select(isFinite, sine, none), select(isFinite, cosine, none), quadrant};
}

static Num isBitSet(Num quadrant, uint64_t mask) {
  Type type = quadrant.type();
  return notEqual(bitAnd(quadrant, word(quadrant, mask, type)), word(quadrant, 0, type));
}

static Num expandSin(Num x) {
  Turn t = turn(x);
  Num value = select(isBitSet(t.quadrant, 1), t.cosine, t.sine);
  return select(equal(x, x.constant(0)), x, select(isBitSet(t.quadrant, 2), -value, value));
}

static Num expandCos(Num x) {
  Turn t = turn(x);
  Num value = select(isBitSet(t.quadrant, 1), t.sine, t.cosine);
  Num next = t.quadrant + word(t.quadrant, 1, t.quadrant.type());
  return select(isBitSet(next, 2), -value, value);
}

static Num expandTan(Num x) {
  Turn t = turn(x);
  Num swaps = isBitSet(t.quadrant, 1);
  Num value = select(swaps, -t.cosine, t.sine) / select(swaps, t.sine, t.cosine);
  return select(equal(x, x.constant(0)), x, value);
}

/// Of what is not negative.
static Num atanOfMagnitude(Num a) {
  constexpr double tanPiOver8 = std::numbers::sqrt2 - 1;
  Num isLarge = greater(a, a.constant(1 / tanPiOver8)), isMiddle = greater(a, a.constant(tanPiOver8));
  Num middle = (a - 1.0) / (a + 1.0);
  Num t = select(isLarge, -1.0 / a, select(isMiddle, middle, a)), z = t * t;
  Num higher = polynomial(z, series(20, [](unsigned i) { return alternate(i + 1) / (2 * i + 3); }));
  Num value = fma(t * z, higher, t);
  Num base = select(isLarge, a.constant(halfPi), select(isMiddle, a.constant(halfPi / 2), a.constant(0)));
  return base + value;
}

static Num expandAtan(Num x) { return copySign(atanOfMagnitude(abs(x)), x); }
static Num expandAsin(Num x) { return copySign(atanOfMagnitude(abs(x) / sqrt((1.0 - x) * (1.0 + x))), x); }
static Num expandAcos(Num x) { return atanOfMagnitude(sqrt((1.0 - x) / (1.0 + x))) * 2.0; }

static Num expandAtan2(Num y, Num x) {
  Num a = abs(y), b = abs(x), one = x.constant(1), zero = x.constant(0);
  // 0/0 stands for 0/1, and ∞/∞ for 1/1.
  Num ratio = select(equal(a, b), select(equal(a, zero), zero, one), a / b);
  Num angle = atanOfMagnitude(ratio);
  Num isNegative = less(copySign(one, x), zero);
  angle = copySign(select(isNegative, std::numbers::pi - angle, angle), y);
  return select(notEqual(x, x), x, select(notEqual(y, y), y, angle));
}

//===----------------------------------------------------------------------------===//
// The rest of a division
//===----------------------------------------------------------------------------===//

/// Long division of the mantissas, as many bits at a time as fit 64: exact.
static Num expandFmod(Num x, Num y) {
  Type i64 = x.builder->getI64Type();
  constexpr unsigned width = 52, chunk = 63 - width;
  auto constant = [&](uint64_t value) { return word(x, value, i64); };
  auto remainder = [](Num a, Num b) { return a.with(arith::RemUIOp::create(*a.builder, a.value, b.value)); };
  auto split = [&](Num a) {
    Num bits = bitcast(abs(a), i64), exponent = shiftRight(bits, constant(width));
    Num isNormal = greater(exponent, constant(0));
    Num implicit = select(isNormal, constant(uint64_t(1) << width), constant(0));
    Num mantissa = bitOr(bitAnd(bits, constant((uint64_t(1) << width) - 1)), implicit);
    return std::pair(mantissa, select(isNormal, exponent, constant(1)));
  };
  auto [numerator, exponent] = split(x);
  auto [denominator, base] = split(y);
  Num divisor = select(equal(denominator, constant(0)), constant(1), denominator);
  auto toIndex = [](Num a) {
    return arith::IndexCastOp::create(*a.builder, a.builder->getIndexType(), a.value).getResult();
  };
  Num distance = maximum(exponent - base, constant(0));
  Value begin = toIndex(constant(0)), step = toIndex(constant(chunk));
  auto loop = scf::ForOp::create(*x.builder, begin, toIndex(distance), step, remainder(numerator, divisor).value,
                                 [&](OpBuilder &at, Location loc, Value index, ValueRange carried) {
                                   ImplicitLocOpBuilder builder(loc, at);
                                   Num rest{&builder, carried.front()};
                                   Num done = rest.with(arith::IndexCastOp::create(builder, i64, index));
                                   Num left = Num{&builder, distance.value} - done;
                                   Num bits = minimum(left, word(rest, chunk, i64));
                                   Num value = remainder(shiftLeft(rest, bits), divisor);
                                   scf::YieldOp::create(builder, value.value);
                                 });
  auto toFloat = [&](Value value) { return x.with(arith::SIToFPOp::create(*x.builder, x.type(), value)); };
  Num scale = toFloat(base.value) - 1075.0, half = roundEven(scale * 0.5);
  Num value = toFloat(loop.getResult(0)) * powerOfTwo(half) * powerOfTwo(scale - half);
  value = select(less(abs(x), abs(y)), abs(x), value);
  Num hasValue = less(abs(x), x.constant(infinity)) * greater(abs(y), y.constant(0));
  return select(hasValue, copySign(value, x), x.constant(notANumber));
}

//===----------------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------------===//

namespace {
using Expansion = std::function<Num(ArrayRef<Num>)>;
} // namespace

/// The formula of an op in f64; none where there is no such formula.
static Expansion getExpansion(Operation *op) {
  auto unary = [](Num (*expand)(Num)) -> Expansion { return [=](ArrayRef<Num> x) { return expand(x[0]); }; };
  auto binary = [](Num (*expand)(Num, Num)) -> Expansion {
    return [=](ArrayRef<Num> x) { return expand(x[0], x[1]); };
  };
  return llvm::TypeSwitch<Operation *, Expansion>(op)
      .Case([&](math::ExpOp) { return unary(expandExp); })
      .Case([&](math::ExpM1Op) { return unary(expandExpM1); })
      .Case([&](math::Exp2Op) { return unary([](Num x) { return exp(x * ln2); }); })
      .Case([&](math::LogOp) { return unary(expandLog); })
      .Case([&](math::Log1pOp) { return unary(expandLog1p); })
      .Case([&](math::Log2Op) { return unary([](Num x) { return log(x) * (1 / ln2); }); })
      .Case([&](math::Log10Op) { return unary([](Num x) { return log(x) * std::numbers::log10e; }); })
      .Case([&](math::TanhOp) { return unary(expandTanh); })
      .Case([&](math::SinhOp) { return unary(expandSinh); })
      .Case([&](math::CoshOp) { return unary(expandCosh); })
      .Case([&](math::AsinhOp) { return unary(expandAsinh); })
      .Case([&](math::AcoshOp) { return unary(expandAcosh); })
      .Case([&](math::AtanhOp) { return unary(expandAtanh); })
      .Case([&](math::ErfOp) { return unary(expandErf); })
      .Case([&](math::ErfcOp) { return unary(expandErfc); })
      .Case([&](math::SinOp) { return unary(expandSin); })
      .Case([&](math::CosOp) { return unary(expandCos); })
      .Case([&](math::TanOp) { return unary(expandTan); })
      .Case([&](math::AtanOp) { return unary(expandAtan); })
      .Case([&](math::AsinOp) { return unary(expandAsin); })
      .Case([&](math::AcosOp) { return unary(expandAcos); })
      .Case([&](math::PowFOp) { return binary(expandPow); })
      .Case([&](math::Atan2Op) { return binary(expandAtan2); })
      .Case([&](arith::RemFOp) { return binary(expandFmod); })
      .Default([](auto) { return Expansion(); });
}

/// Functions of f32 that upstream's polynomials compute.
static bool isApproximated(Operation *op) {
  return isa<math::ExpOp, math::ExpM1Op, math::Log1pOp, math::TanhOp, math::ErfOp>(op);
}

namespace {
struct Expand : RewritePattern {
  explicit Expand(MLIRContext *context) : RewritePattern(MatchAnyOpTypeTag(), /*benefit=*/1, context) {}

  LogicalResult matchAndRewrite(Operation *op, PatternRewriter &rewriter) const override {
    Expansion expand = getExpansion(op);
    if (!expand)
      return failure();
    Type type = op->getResult(0).getType();
    bool isDirect = isa<math::LogOp, math::SinOp, math::CosOp>(op) || type.isF64();
    if (!isa<FloatType>(type) || (!type.isF64() && isApproximated(op)))
      return failure();
    ImplicitLocOpBuilder builder(op->getLoc(), rewriter);
    Type computed = isDirect ? (type.isF64() ? type : Type(builder.getF32Type())) : Type(builder.getF64Type());
    SmallVector<Num> operands;
    for (Value operand : op->getOperands())
      operands.push_back(
          {&builder, type == computed ? operand : Value(arith::ExtFOp::create(builder, computed, operand))});
    Value result = expand(operands).value;
    if (type != computed)
      result = arith::TruncFOp::create(builder, type, result);
    rewriter.replaceOp(op, result);
    return success();
  }
};

struct ExpandMath : PassWrapper<ExpandMath, OperationPass<>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(ExpandMath)

  void getDependentDialects(DialectRegistry &registry) const override {
    registry.insert<arith::ArithDialect, math::MathDialect, scf::SCFDialect>();
  }

  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<Expand>(&getContext());
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};
} // namespace

namespace pfcn {

bool hasNoFormula(Operation *op) {
  bool hasInstruction = isa<math::SqrtOp, math::FmaOp, math::AbsFOp, math::AbsIOp, math::FloorOp, math::CeilOp,
                            math::TruncOp, math::RoundEvenOp, math::CopySignOp, math::ClampFOp>(op);
  return isa<math::MathDialect>(op->getDialect()) && !hasInstruction && !getExpansion(op);
}

std::unique_ptr<Pass> createExpandMathPass() { return std::make_unique<ExpandMath>(); }

} // namespace pfcn
