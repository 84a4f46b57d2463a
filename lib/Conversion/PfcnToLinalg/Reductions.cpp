//===- Reductions.cpp - sums, extremes, softmax and layer_norm -------------------===//
//
// A reduction reads one tensor and combines nothing else in its payload, so that a code
// generator finds the combiner at once; softmax and layer_norm are reductions and pointwise
// nests between them. f16 and bf16 stay in f32 from the first to the last of these.
//
//===----------------------------------------------------------------------------===//

#include "Lowering.h"
#include "ScalarMath.h"

#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::pfcn;

using Shape = SmallVector<int64_t>;

enum class Combiner { Sum, Product, Maximum, Minimum };

static TypedAttr getIdentity(Builder &builder, Combiner combiner, Type type) {
  bool isSum = combiner == Combiner::Sum;
  bool isMaximum = combiner == Combiner::Maximum;
  if (auto floatType = dyn_cast<FloatType>(type)) {
    if (isSum || combiner == Combiner::Product)
      return builder.getFloatAttr(type, isSum ? 0.0 : 1.0);
    return builder.getFloatAttr(type, APFloat::getInf(floatType.getFloatSemantics(), /*Negative=*/isMaximum));
  }
  unsigned width = type.getIntOrFloatBitWidth();
  if (isSum || combiner == Combiner::Product)
    return builder.getIntegerAttr(type, isSum ? 0 : 1);
  if (width == 1)
    return builder.getBoolAttr(!isMaximum);
  return builder.getIntegerAttr(type, isMaximum ? APInt::getSignedMinValue(width) : APInt::getSignedMaxValue(width));
}

static Value combine(ImplicitLocOpBuilder &builder, Combiner combiner, Value element, Value accumulator) {
  auto reorder = arith::FastMathFlags::contract | arith::FastMathFlags::reassoc;
  bool isFloat = isa<FloatType>(accumulator.getType());
  Num x{&builder, element}, a{&builder, accumulator};
  switch (combiner) {
  case Combiner::Sum:
    return isFloat ? Value(arith::AddFOp::create(builder, accumulator, element, reorder)) : (a + x).value;
  case Combiner::Product:
    return isFloat ? Value(arith::MulFOp::create(builder, accumulator, element, reorder)) : (a * x).value;
  case Combiner::Maximum:
    return maximum(a, x).value;
  case Combiner::Minimum:
    return minimum(a, x).value;
  }
  llvm_unreachable("unknown combiner");
}

static Shape getKeptDims(Value input, ArrayRef<int64_t> dims) {
  Shape kept;
  for (int64_t dim = 0; dim < ranked(input).getRank(); ++dim)
    if (!llvm::is_contained(dims, dim))
      kept.push_back(dim);
  return kept;
}

static Shape pick(Value input, ArrayRef<int64_t> dims) {
  return llvm::map_to_vector(dims, [&](int64_t dim) { return ranked(input).getDimSize(dim); });
}

/// The input combined over `dims`, which are dropped, in the type `accumulatorType`.
static FailureOr<Value> reduce(Lowering &lowering, Value input, ArrayRef<int64_t> dims, Combiner combiner,
                               Type accumulatorType) {
  Shape kept = getKeptDims(input, dims);
  LoopNest nest(lowering, pick(input, kept), pick(input, dims));
  Shape loops(ranked(input).getRank());
  for (auto [loop, dim] : llvm::enumerate(llvm::concat<int64_t>(kept, Shape(dims))))
    loops[dim] = loop;
  nest.read(input, loops);
  return nest.reduce(getIdentity(lowering, combiner, accumulatorType),
                     [&](ImplicitLocOpBuilder &builder, ValueRange elements) {
                       Value element = elements[0];
                       if (isa<FloatType>(accumulatorType))
                         element = convertFloat(builder, element, accumulatorType);
                       return combine(builder, combiner, element, elements[1]);
                     });
}

/// How many elements are combined, some of the sizes being dynamic, as a scalar of `type`.
static Value countDynamically(Lowering &lowering, Value input, ArrayRef<int64_t> dims, Type type) {
  Value count;
  for (int64_t dim : dims) {
    Value size = getValueOrCreateConstantIndexOp(lowering, lowering.getLoc(), getSize(lowering, input, dim));
    count = count ? lowering.createOrFold<arith::MulIOp>(count, size) : size;
  }
  Value integer = arith::IndexCastOp::create(lowering, lowering.getI64Type(), count);
  return arith::SIToFPOp::create(lowering, type, integer);
}

/// Divides by the number of elements along `dims` of a tensor.
class Count {
public:
  Count(Lowering &lowering, Value input, ArrayRef<int64_t> dims, Type type) {
    Shape sizes = pick(input, dims);
    if (llvm::any_of(sizes, ShapedType::isDynamic))
      dynamic = countDynamically(lowering, input, dims, type);
    else
      for (int64_t size : sizes)
        known *= static_cast<double>(size);
  }
  Num divide(Num sum) const { return sum / (dynamic ? sum.with(dynamic) : sum.constant(known)); }

private:
  Value dynamic;
  double known = 1.0;
};

/// A pointwise nest with the shape of its first operand; each other operand is walked by `loops`.
static FailureOr<Value> mapOver(Lowering &lowering, Value input, ArrayRef<std::pair<Value, Shape>> others,
                                Type elementType, function_ref<Num(ArrayRef<Num>)> formula) {
  LoopNest nest(lowering, ranked(input).getShape());
  nest.readTrailing(input);
  for (const auto &[value, loops] : others)
    nest.read(value, loops);
  Type computeType = getComputeType(ranked(input).getElementType());
  return nest.map(elementType, [&](ImplicitLocOpBuilder &builder, ValueRange elements) {
    SmallVector<Num> operands;
    for (Value element : elements)
      operands.push_back(
          {&builder, isa<FloatType>(computeType) ? convertFloat(builder, element, computeType) : element});
    Num result = formula(operands);
    return isa<FloatType>(elementType) ? convertFloat(builder, result.value, elementType) : result.value;
  });
}

//===----------------------------------------------------------------------------===//
// Plain reductions
//===----------------------------------------------------------------------------===//

template <typename Op> static FailureOr<Value> lowerPlain(Lowering &lowering, Op op, Combiner combiner) {
  Value input = op.getInput();
  ArrayRef<int64_t> dims = op.getDims();
  Type type = ranked(input).getElementType();
  bool isMean = isa<MeanOp>(op), isExtreme = isa<AmaxOp, AminOp>(op);
  if (dims.empty())
    return input;
  if (!isa<FloatType>(type) && (isMean || (type.isInteger(1) && !isExtreme)))
    return lowering.decline("torch computes it in another element type");

  // Rounding does not touch the largest and the smallest.
  Type accumulatorType = isExtreme ? type : getComputeType(type);
  FailureOr<Value> result = reduce(lowering, input, dims, combiner, accumulatorType);
  if (failed(result))
    return failure();
  if (isMean || accumulatorType != type) {
    Count count(lowering, input, isMean ? dims : ArrayRef<int64_t>(), accumulatorType);
    result = mapOver(lowering, *result, {}, type, [&](ArrayRef<Num> x) { return isMean ? count.divide(x[0]) : x[0]; });
    if (failed(result))
      return failure();
  }
  Shape units(dims);
  llvm::sort(units);
  return op.getKeepdim() ? insertUnitDims(lowering, *result, units) : *result;
}

//===----------------------------------------------------------------------------===//
// Softmax
//===----------------------------------------------------------------------------===//

/// Subtracts the maximum first, as torch does, so that nothing overflows.
static FailureOr<Value> lowerSoftmax(Lowering &lowering, Value input, int64_t dim, bool isLog) {
  Type type = ranked(input).getElementType(), computeType = getComputeType(type);
  Shape kept = getKeptDims(input, dim);
  FailureOr<Value> largest = reduce(lowering, input, dim, Combiner::Maximum, type);
  if (failed(largest))
    return failure();
  auto shift = [](ArrayRef<Num> x) { return x[0] - x[1]; };
  auto shiftedExp = [](ArrayRef<Num> x) { return exp(x[0] - x[1]); };
  FailureOr<Value> exponentials = mapOver(lowering, input, {{*largest, kept}}, computeType, shiftedExp);
  FailureOr<Value> sum =
      failed(exponentials) ? exponentials : reduce(lowering, *exponentials, dim, Combiner::Sum, computeType);
  if (failed(sum))
    return failure();
  if (!isLog)
    return mapOver(lowering, *exponentials, {{*sum, kept}}, type, [](ArrayRef<Num> x) { return x[0] / x[1]; });
  FailureOr<Value> logSum = mapOver(lowering, *sum, {}, computeType, [](ArrayRef<Num> x) { return log(x[0]); });
  FailureOr<Value> shifted = mapOver(lowering, input, {{*largest, kept}}, computeType, shift);
  if (failed(logSum) || failed(shifted))
    return failure();
  return mapOver(lowering, *shifted, {{*logSum, kept}}, type, shift);
}

//===----------------------------------------------------------------------------===//
// Layer normalisation
//===----------------------------------------------------------------------------===//

/// (x - mean) / sqrt(variance + eps) * weight + bias, the variance in a second pass over x - mean.
static FailureOr<Value> lowerLayerNorm(Lowering &lowering, LayerNormOp op) {
  Value input = op.getInput();
  Type type = ranked(input).getElementType(), computeType = getComputeType(type);
  int64_t rank = ranked(input).getRank();
  Shape dims = llvm::to_vector(llvm::seq<int64_t>(rank - op.getNormalizedRank(), rank));
  Shape kept = getKeptDims(input, dims);

  FailureOr<Value> sum = reduce(lowering, input, dims, Combiner::Sum, computeType);
  if (failed(sum))
    return failure();
  Count count(lowering, input, dims, computeType);
  FailureOr<Value> mean = mapOver(lowering, *sum, {}, computeType, [&](ArrayRef<Num> x) { return count.divide(x[0]); });
  FailureOr<Value> centered =
      mapOver(lowering, input, {{*mean, kept}}, computeType, [](ArrayRef<Num> x) { return x[0] - x[1]; });
  FailureOr<Value> squares = mapOver(lowering, *centered, {}, computeType, [](ArrayRef<Num> x) { return x[0] * x[0]; });
  FailureOr<Value> squareSum = reduce(lowering, *squares, dims, Combiner::Sum, computeType);
  if (failed(squareSum))
    return failure();
  double eps = op.getEps().convertToDouble();
  FailureOr<Value> scale = mapOver(lowering, *squareSum, {}, computeType,
                                   [&](ArrayRef<Num> x) { return 1.0 / sqrt(count.divide(x[0]) + eps); });

  SmallVector<std::pair<Value, Shape>> others{{*scale, kept}};
  for (Value affine : {op.getWeight(), op.getBias()})
    if (affine)
      others.push_back({affine, llvm::to_vector(llvm::seq<int64_t>(rank - ranked(affine).getRank(), rank))});
  return mapOver(lowering, *centered, others, type, [&](ArrayRef<Num> x) {
    Num result = x[0] * x[1];
    unsigned next = 2;
    if (op.getWeight())
      result = result * x[next++];
    return op.getBias() ? result + x[next] : result;
  });
}

//===----------------------------------------------------------------------------===//
// Batch normalisation
//===----------------------------------------------------------------------------===//

/// x * scale + shift, where both have one element per channel, and are computed before as torch does.
static FailureOr<Value> lowerBatchNorm(Lowering &lowering, BatchNormOp op) {
  RankedTensorType type = ranked(op.getResult());
  Type computeType = getComputeType(type.getElementType());
  int64_t channel = op.getChannel();
  double eps = op.getEps().convertToDouble();
  Value widest = op.getMean();
  for (Value value : op.getOperands().drop_front())
    if (ranked(value).getRank() > ranked(widest).getRank())
      widest = value;
  ArrayRef<int64_t> perChannel = ranked(widest).getShape();
  auto widen = [&](ImplicitLocOpBuilder &builder, ValueRange elements) {
    SmallVector<Num> numbers;
    for (Value element : elements)
      numbers.push_back({&builder, convertFloat(builder, element, computeType)});
    return numbers;
  };
  LoopNest scales(lowering, perChannel);
  scales.readTrailing(op.getVariance());
  if (op.getWeight())
    scales.readTrailing(op.getWeight());
  FailureOr<Value> scale = scales.map(computeType, [&](ImplicitLocOpBuilder &builder, ValueRange elements) {
    SmallVector<Num> x = widen(builder, elements);
    Num inverse = 1.0 / sqrt(x[0] + eps);
    return (op.getWeight() ? inverse * x[1] : inverse).value;
  });
  if (failed(scale))
    return failure();
  LoopNest shifts(lowering, perChannel);
  shifts.readTrailing(*scale);
  shifts.readTrailing(op.getMean());
  if (op.getBias())
    shifts.readTrailing(op.getBias());
  FailureOr<Value> shift = shifts.map(computeType, [&](ImplicitLocOpBuilder &builder, ValueRange elements) {
    SmallVector<Num> x = widen(builder, elements);
    Num moved = -(x[0] * x[1]);
    return (op.getBias() ? moved + x[2] : moved).value;
  });
  if (failed(shift))
    return failure();
  Shape loops = perChannel.size() == 2 ? Shape{0, channel} : Shape{channel};
  return mapOver(lowering, op.getInput(), {{*scale, loops}, {*shift, loops}}, type.getElementType(),
                 [](ArrayRef<Num> x) { return x[0] * x[1] + x[2]; });
}

FailureOr<Value> mlir::pfcn::lowerReduction(Lowering &lowering, Operation *op) {
  return TypeSwitch<Operation *, FailureOr<Value>>(op)
      .Case<SumOp, MeanOp>([&](auto sum) { return lowerPlain(lowering, sum, Combiner::Sum); })
      .Case([&](ProdOp product) { return lowerPlain(lowering, product, Combiner::Product); })
      .Case([&](AmaxOp largest) { return lowerPlain(lowering, largest, Combiner::Maximum); })
      .Case([&](AminOp smallest) { return lowerPlain(lowering, smallest, Combiner::Minimum); })
      .Case([&](SoftmaxOp softmax) {
        return lowerSoftmax(lowering, softmax.getInput(), softmax.getDim(), /*isLog=*/false);
      })
      .Case([&](LogSoftmaxOp softmax) {
        return lowerSoftmax(lowering, softmax.getInput(), softmax.getDim(), /*isLog=*/true);
      })
      .Case([&](LayerNormOp norm) { return lowerLayerNorm(lowering, norm); })
      .Case([&](BatchNormOp norm) { return lowerBatchNorm(lowering, norm); });
}
