//===- AtenTable.cpp - which torch operator is which dialect op ------------------===//
//
// In the order of the dialect: pointwise, contractions, reductions, views and joins,
// constants. Torch ran the call before, so shapes agree; element types are looked at.
//
//===----------------------------------------------------------------------------===//

#include "AtenTable.h"

#include <c10/core/ScalarType.h>

#include "llvm/ADT/StringMap.h"

namespace pfcn {
using namespace mlir;
using namespace mlir::pfcn;

//===----------------------------------------------------------------------------===//
// Types and constants
//===----------------------------------------------------------------------------===//

bool hasElementType(at::ScalarType dtype) {
  switch (dtype) {
  case at::kFloat:
  case at::kDouble:
  case at::kHalf:
  case at::kBFloat16:
  case at::kBool:
  case at::kChar:
  case at::kByte:
  case at::kShort:
  case at::kInt:
  case at::kLong:
  case at::kComplexFloat:
  case at::kComplexDouble:
    return true;
  default:
    return false;
  }
}

mlir::Type getElementType(MLIRContext *context, at::ScalarType dtype) {
  Builder builder(context);
  switch (dtype) {
  case at::kFloat:
    return builder.getF32Type();
  case at::kDouble:
    return builder.getF64Type();
  case at::kHalf:
    return builder.getF16Type();
  case at::kBFloat16:
    return builder.getBF16Type();
  case at::kBool:
    return builder.getI1Type();
  case at::kChar:
    return builder.getI8Type();
  case at::kByte:
    return IntegerType::get(context, 8, IntegerType::Unsigned);
  case at::kShort:
    return builder.getI16Type();
  case at::kInt:
    return builder.getI32Type();
  case at::kLong:
    return builder.getI64Type();
  case at::kComplexFloat:
    return ComplexType::get(builder.getF32Type());
  case at::kComplexDouble:
    return ComplexType::get(builder.getF64Type());
  default:
    throw std::runtime_error(std::string("tensors of ") + c10::toString(dtype) + " are not supported");
  }
}

RankedTensorType getType(MLIRContext *context, const TensorMeta &meta) {
  auto shape =
      llvm::map_to_vector(meta.sizes, [](int64_t size) { return size == kDynamicSize ? ShapedType::kDynamic : size; });
  return RankedTensorType::get(shape, getElementType(context, meta.dtype));
}

static Attribute getNumber(Type type, const at::Scalar &scalar) {
  if (isa<FloatType>(type))
    return FloatAttr::get(type, scalar.toDouble());
  if (type.isInteger(1))
    return IntegerAttr::get(type, scalar.toBool() ? 1 : 0);
  return IntegerAttr::get(type, APInt(type.getIntOrFloatBitWidth(), scalar.toLong(), /*isSigned=*/true,
                                      /*implicitTrunc=*/true));
}

Value buildScalar(OpBuilder &builder, Location loc, const at::Scalar &scalar, at::ScalarType dtype) {
  auto type = RankedTensorType::get({}, getElementType(builder.getContext(), dtype));
  return ConstantOp::create(builder, loc, DenseElementsAttr::get(type, getNumber(type.getElementType(), scalar)));
}

DenseElementsAttr getData(MLIRContext *context, const at::Tensor &tensor) {
  at::Tensor data = tensor.cpu().contiguous();
  TensorMeta meta;
  meta.sizes = data.sizes();
  meta.dtype = data.scalar_type();
  RankedTensorType type = getType(context, meta);
  if (meta.dtype == at::kBool)
    return DenseElementsAttr::get(type, ArrayRef(data.const_data_ptr<bool>(), data.numel()));
  return DenseElementsAttr::getFromRawBuffer(type,
                                             ArrayRef(static_cast<const char *>(data.const_data_ptr()), data.nbytes()));
}

static bool isFloat(at::ScalarType dtype) { return at::isFloatingType(dtype); }
bool isNumber(at::ScalarType dtype) {
  return isFloat(dtype) || (at::isIntegralType(dtype, /*includeBool=*/false) && dtype != at::kByte);
}

//===----------------------------------------------------------------------------===//
// What a builder asks of its call
//===----------------------------------------------------------------------------===//

SmallVector<Value> CallImporter::tensors(size_t i) {
  SmallVector<Value> result;
  for (int value : list(i))
    result.push_back(value < 0 ? Value() : valueOf(value));
  return result;
}

SmallVector<int64_t> CallImporter::dims(size_t i, size_t of) const {
  int64_t rank = meta(of).rank();
  SmallVector<int64_t> result;
  if (constant(i).isInt())
    result.push_back(integer(i));
  else if (constant(i).isIntList())
    llvm::append_range(result, constant(i).toIntVector());
  if (result.empty())
    return llvm::to_vector(llvm::seq<int64_t>(0, rank));
  for (int64_t &dim : result)
    dim = wrap(dim, rank);
  if (rank == 0)
    result.clear();
  llvm::sort(result);
  return result;
}

Value CallImporter::cast(Value value, at::ScalarType dtype) {
  auto type = mlir::cast<RankedTensorType>(value.getType());
  Type elementType = getElementType(builder.getContext(), dtype);
  if (type.getElementType() == elementType)
    return value;
  return CastOp::create(builder, loc, type.clone(elementType), value);
}

Value CallImporter::operand(size_t i, at::ScalarType dtype) {
  if (isTensor(i)) {
    if (source(i).isScalar() && !isComposing)
      return scalar(source(i).constant.item(), dtype);
    if (meta(i).dtype == at::kByte || at::isComplexType(meta(i).dtype))
      return Value();
    return cast(tensor(i), dtype);
  }
  return constant(i).isScalar() && !constant(i).isComplexDouble() ? scalar(constant(i).toScalar(), dtype) : Value();
}

//===----------------------------------------------------------------------------===//
// Pointwise
//===----------------------------------------------------------------------------===//

/// Floats of any kind; integers become the float that torch made of them.
template <typename Op> static bool floatUnary(CallImporter &call) {
  Value input = isFloat(call.resultDtype()) ? call.operand(0, call.resultDtype()) : Value();
  return input && call.finishWith<Op>(input);
}

/// Also on integers.
template <typename Op> static bool unary(CallImporter &call) {
  Value input = isNumber(call.resultDtype()) ? call.operand(0, call.resultDtype()) : Value();
  return input && call.finishWith<Op>(input);
}

template <typename Op> static bool binary(CallImporter &call) {
  if (!isNumber(call.resultDtype()))
    return false;
  Value lhs = call.operand(0, call.resultDtype()), rhs = call.operand(1, call.resultDtype());
  return lhs && rhs && call.finishWith<Op>(lhs, rhs);
}

template <typename Op> static bool floatBinary(CallImporter &call) {
  return isFloat(call.resultDtype()) && binary<Op>(call);
}

/// x + alpha * y, x - alpha * y, and the reverse of the latter.
template <typename Op, bool isReversed = false> static bool scaledBinary(CallImporter &call) {
  at::ScalarType dtype = call.resultDtype();
  if (!isNumber(dtype))
    return false;
  Value lhs = call.operand(0, dtype), rhs = call.operand(1, dtype);
  if (!lhs || !rhs)
    return false;
  Value &scaled = isReversed ? lhs : rhs;
  if (call.size() > 2 && !call.constant(2).toScalar().equal(1))
    scaled = MulOp::create(call.builder, call.loc, scaled.getType(), scaled, call.operand(2, dtype));
  return isReversed ? call.finishWith<Op>(rhs, lhs) : call.finishWith<Op>(lhs, rhs);
}

static bool power(CallImporter &call) {
  at::ScalarType dtype = call.resultDtype();
  Value base = isFloat(dtype) ? call.operand(0, dtype) : Value();
  if (base && !call.isTensor(1) && call.number(1) == 2.0) // as torch computes it
    return call.finishWith<MulOp>(base, base);
  Value exponent = base ? call.operand(1, dtype) : Value();
  return exponent && call.finishWith<PowOp>(base, exponent);
}

static bool square(CallImporter &call) {
  Value input = isNumber(call.resultDtype()) ? call.operand(0, call.resultDtype()) : Value();
  return input && call.finishWith<MulOp>(input, input);
}

static bool leakyRelu(CallImporter &call) {
  return isFloat(call.resultDtype()) &&
         call.finishWith<LeakyReluOp>(call.tensor(0), call.builder.getF64FloatAttr(call.number(1)));
}

static bool buildElu(CallImporter &call, double alpha, double scale, double inputScale) {
  Builder &b = call.builder;
  return isFloat(call.resultDtype()) && call.finishWith<EluOp>(call.tensor(0), b.getF64FloatAttr(alpha),
                                                               b.getF64FloatAttr(scale), b.getF64FloatAttr(inputScale));
}
static bool elu(CallImporter &call) { return buildElu(call, call.number(1), call.number(2), call.number(3)); }
static bool selu(CallImporter &call) { return buildElu(call, 1.6732632423543772, 1.0507009873554805, 1.0); }
static bool celu(CallImporter &call) { return buildElu(call, call.number(1), 1.0, 1.0 / call.number(1)); }

static bool softplus(CallImporter &call) {
  Builder &b = call.builder;
  return isFloat(call.resultDtype()) && call.finishWith<SoftplusOp>(call.tensor(0), b.getF64FloatAttr(call.number(1)),
                                                                    b.getF64FloatAttr(call.number(2)));
}

static bool gelu(CallImporter &call) {
  bool isTanh = call.constant(1).toStringRef() == "tanh";
  return isFloat(call.resultDtype()) && call.finishWith<GeluOp>(call.tensor(0), call.builder.getBoolAttr(isTanh));
}

/// Integers between arguments `low` and `high`, each of them if it is there.
static bool clampIntegers(CallImporter &call, std::optional<size_t> low, std::optional<size_t> high) {
  at::ScalarType dtype = call.resultDtype();
  Value input = isNumber(dtype) ? call.operand(0, dtype) : Value();
  if (!input)
    return false;
  if (low && !call.isNone(*low))
    input = MaximumOp::create(call.builder, call.loc, input.getType(), input, call.operand(*low, dtype));
  if (high && !call.isNone(*high))
    input = MinimumOp::create(call.builder, call.loc, input.getType(), input, call.operand(*high, dtype));
  return call.finish(input);
}

static bool buildClamp(CallImporter &call, FloatAttr min, FloatAttr max) {
  Value input = isFloat(call.resultDtype()) ? call.operand(0, call.resultDtype()) : Value();
  return input && call.finishWith<ClampOp>(input, min, max);
}
static FloatAttr bound(CallImporter &call, size_t i) {
  return call.isNone(i) ? FloatAttr() : call.builder.getF64FloatAttr(call.number(i));
}
static bool clamp(CallImporter &call) {
  return isFloat(call.resultDtype()) ? buildClamp(call, bound(call, 1), bound(call, 2)) : clampIntegers(call, 1, 2);
}
static bool clampMin(CallImporter &call) {
  return isFloat(call.resultDtype()) ? buildClamp(call, bound(call, 1), FloatAttr()) : clampIntegers(call, 1, {});
}
static bool clampMax(CallImporter &call) {
  return isFloat(call.resultDtype()) ? buildClamp(call, FloatAttr(), bound(call, 1)) : clampIntegers(call, {}, 1);
}
static bool relu6(CallImporter &call) {
  return buildClamp(call, call.builder.getF64FloatAttr(0.0), call.builder.getF64FloatAttr(6.0));
}

at::ScalarType getCommonDtype(const CallImporter &call, size_t first, size_t second) {
  std::optional<at::ScalarType> tensors, scalars, numbers; // of rank 1 or more, of rank 0, Python's
  auto join = [](std::optional<at::ScalarType> &all, at::ScalarType dtype) {
    all = all ? c10::promoteTypes(*all, dtype) : dtype;
  };
  for (size_t i : {first, second}) {
    if (!call.isTensor(i))
      join(numbers, call.constant(i).toScalar().type());
    else if (call.source(i).isWrappedNumber)
      join(numbers, call.meta(i).dtype);
    else
      join(call.meta(i).rank() ? tensors : scalars, call.meta(i).dtype);
  }
  auto category = [](at::ScalarType dtype) {
    return at::isComplexType(dtype) ? 3 : at::isFloatingType(dtype) ? 2 : dtype == at::kBool ? 0 : 1;
  };
  if (numbers && at::isFloatingType(*numbers))
    numbers = at::typeMetaToScalarType(at::get_default_dtype());
  std::optional<at::ScalarType> result = tensors;
  for (std::optional<at::ScalarType> lower : {scalars, numbers})
    if (lower && (!result || category(*lower) > category(*result)))
      result = result ? c10::promoteTypes(*result, *lower) : *lower;
  return *result;
}

template <Predicate predicate> static bool compare(CallImporter &call) {
  at::ScalarType dtype = getCommonDtype(call, 0, 1);
  if (!isNumber(dtype) && dtype != at::kBool)
    return false;
  Value lhs = call.operand(0, dtype), rhs = call.operand(1, dtype);
  auto attr = PredicateAttr::get(call.builder.getContext(), predicate);
  return lhs && rhs && call.finishWith<CompareOp>(attr, lhs, rhs);
}

static bool where(CallImporter &call) {
  if (call.meta(0).dtype != at::kBool || (!isNumber(call.resultDtype()) && call.resultDtype() != at::kBool))
    return false;
  Value lhs = call.operand(1, call.resultDtype()), rhs = call.operand(2, call.resultDtype());
  return lhs && rhs && call.finishWith<WhereOp>(call.tensor(0), lhs, rhs);
}

static bool maskedFill(CallImporter &call) {
  if (call.meta(1).dtype != at::kBool || !isNumber(call.resultDtype()))
    return false;
  Value self = call.operand(0, call.resultDtype()), fill = call.operand(2, call.resultDtype());
  return self && fill && call.finishWith<WhereOp>(call.tensor(1), fill, self);
}

static bool threshold(CallImporter &call) {
  at::ScalarType dtype = call.resultDtype();
  if (!isNumber(dtype))
    return false;
  Value self = call.operand(0, dtype);
  auto mask = RankedTensorType::get(call.resultType().getShape(), call.builder.getI1Type());
  auto predicate = PredicateAttr::get(call.builder.getContext(), Predicate::le);
  Value below = CompareOp::create(call.builder, call.loc, mask, predicate, self, call.operand(1, dtype));
  return call.finishWith<WhereOp>(below, call.operand(2, dtype), self);
}

/// The rest of a division. Integers decline a divisor that is not known to be harmless: torch raises for 0.
template <typename Op> static bool rest(CallImporter &call) {
  if (isFloat(call.resultDtype()))
    return binary<Op>(call);
  if (call.isTensor(1) && !call.source(1).isScalar())
    return false;
  int64_t divisor = (call.isTensor(1) ? call.source(1).constant.item() : call.constant(1).toScalar()).toLong();
  return divisor != 0 && divisor != -1 && binary<Op>(call);
}

template <typename Op> static bool bits(CallImporter &call) {
  at::ScalarType dtype = call.resultDtype();
  if (!at::isIntegralType(dtype, /*includeBool=*/true) || dtype == at::kByte)
    return false;
  Value lhs = call.operand(0, dtype), rhs = call.operand(1, dtype);
  return lhs && rhs && call.finishWith<Op>(lhs, rhs);
}

template <typename Op> static bool logical(CallImporter &call) {
  Value lhs = call.operand(0, at::kBool), rhs = call.operand(1, at::kBool);
  return lhs && rhs && call.finishWith<Op>(lhs, rhs);
}

static bool isZero(CallImporter &call, Value input, at::ScalarType dtype) {
  return input && call.finishWith<CompareOp>(PredicateAttr::get(call.builder.getContext(), Predicate::eq), input,
                                             call.scalar(0, dtype));
}

static bool logicalNot(CallImporter &call) {
  at::ScalarType dtype = call.meta(0).dtype;
  return (isNumber(dtype) || dtype == at::kBool) && isZero(call, call.operand(0, dtype), dtype);
}

static bool bitwiseNot(CallImporter &call) {
  at::ScalarType dtype = call.resultDtype();
  if (dtype == at::kBool)
    return logicalNot(call);
  Value input = isNumber(dtype) && !isFloat(dtype) ? call.operand(0, dtype) : Value();
  return input && call.finishWith<BitwiseXorOp>(input, call.scalar(-1, dtype));
}

static bool isNan(CallImporter &call) {
  Value input = isFloat(call.meta(0).dtype) ? call.tensor(0) : Value();
  auto predicate = PredicateAttr::get(call.builder.getContext(), Predicate::ne);
  return input && call.finishWith<CompareOp>(predicate, input, input);
}

/// Operators that give back what they are given.
static bool identity(CallImporter &call) { return call.tensor(0) && call.finish(call.tensor(0)); }

/// Only autograd sees the difference.
static bool detach(CallImporter &call) {
  if (!call.isFollowed() || !at::isFloatingType(call.resultDtype()))
    return identity(call);
  return call.tensor(0) && call.finishWith<DetachOp>(call.tensor(0));
}

/// Conversions of the element type; identity where there is none.
static bool convert(CallImporter &call) {
  bool isKnown = isNumber(call.meta(0).dtype) || call.meta(0).dtype == at::kBool;
  bool isWanted = isNumber(call.resultDtype()) || call.resultDtype() == at::kBool;
  if (call.meta(0).dtype == call.resultDtype())
    return identity(call);
  return isKnown && isWanted && call.finish(call.operand(0, call.resultDtype()));
}

/// `self` becomes `source`, broadcast and converted.
static bool copyInto(CallImporter &call) {
  Value source = call.operand(1, call.resultDtype());
  if (!source || (!isNumber(call.resultDtype()) && call.resultDtype() != at::kBool))
    return false;
  if (source.getType() == call.resultType())
    return call.finish(source);
  return call.finishWith<ExpandOp>(source);
}

//===----------------------------------------------------------------------------===//
// Contractions
//===----------------------------------------------------------------------------===//

static bool allOfDtype(const CallImporter &call, std::initializer_list<size_t> arguments) {
  return llvm::all_of(arguments, [&](size_t i) { return call.meta(i).dtype == call.resultDtype(); }) &&
         isFloat(call.resultDtype());
}

static bool linear(CallImporter &call) {
  if (!allOfDtype(call, {0, 1}) || call.meta(1).rank() != 2 || call.meta(0).rank() < 1)
    return false;
  if (!call.isNone(2) && (call.meta(2).rank() != 1 || call.meta(2).dtype != call.resultDtype()))
    return false;
  return call.finishWith<LinearOp>(call.tensor(0), call.tensor(1), call.tensor(2));
}

/// A vector takes part as a matrix with one row (on the left) or one column.
static bool matmul(CallImporter &call) {
  int64_t left = call.meta(0).rank(), right = call.meta(1).rank();
  if (!allOfDtype(call, {0, 1}) || left < 1 || right < 1)
    return false;
  Value lhs = call.tensor(0), rhs = call.tensor(1);
  if (left >= 2 && right >= 2)
    return call.finishWith<MatmulOp>(lhs, rhs);
  SmallVector<int64_t> dropped;
  int64_t rank = std::max<int64_t>({left, right, 2});
  if (left == 1) {
    lhs = call.builder.createOrFold<UnsqueezeOp>(call.loc, lhs, 0);
    dropped.push_back(rank - 2);
  }
  if (right == 1) {
    rhs = call.builder.createOrFold<UnsqueezeOp>(call.loc, rhs, 1);
    dropped.push_back(rank - 1);
  }
  Value product = call.builder.createOrFold<MatmulOp>(call.loc, lhs, rhs);
  return call.finishWith<SqueezeOp>(product, dropped);
}

template <int rank> static bool addmm(CallImporter &call) {
  if (!allOfDtype(call, {0, 1, 2}) || call.meta(1).rank() != rank || call.meta(2).rank() != rank)
    return false;
  Builder &b = call.builder;
  return call.finishWith<AddmmOp>(call.tensor(0), call.tensor(1), call.tensor(2), b.getF64FloatAttr(call.number(3)),
                                  b.getF64FloatAttr(call.number(4)));
}

//===----------------------------------------------------------------------------===//
// Reductions and normalisations
//===----------------------------------------------------------------------------===//

template <typename Op> static bool buildReduction(CallImporter &call, ArrayRef<int64_t> dims, bool keepdim) {
  Value input = isNumber(call.resultDtype()) ? call.operand(0, call.resultDtype()) : Value();
  return input && call.finishWith<Op>(input, dims, keepdim);
}

/// Over all dimensions.
template <typename Op> static bool reduceAll(CallImporter &call) {
  return buildReduction<Op>(call, llvm::to_vector(llvm::seq<int64_t>(0, call.meta(0).rank())), false);
}

/// (self, dims, keepdim, ...)
template <typename Op> static bool reduceDims(CallImporter &call) {
  return buildReduction<Op>(call, call.dims(1), call.flag(2));
}

/// Over booleans: any is the largest, all the smallest.
template <typename Op, bool hasDims> static bool anyOrAll(CallImporter &call) {
  Value input = call.resultDtype() == at::kBool ? call.operand(0, at::kBool) : Value();
  auto dims = hasDims ? call.dims(1) : llvm::to_vector(llvm::seq<int64_t>(0, call.meta(0).rank()));
  return input && call.finishWith<Op>(input, dims, hasDims && call.flag(2));
}

template <typename Op> static bool softmax(CallImporter &call) {
  bool isKnown = isFloat(call.resultDtype()) && call.meta(0).rank() > 0;
  Value input = isKnown ? call.operand(0, call.resultDtype()) : Value();
  return input && call.finishWith<Op>(input, call.builder.getI64IntegerAttr(call.dim(1)));
}

static bool layerNorm(CallImporter &call) {
  for (size_t i : {2, 3})
    if (call.tensor(i) && call.meta(i).dtype != call.resultDtype())
      return false;
  Builder &b = call.builder;
  int64_t rank = static_cast<int64_t>(call.constant(1).toIntVector().size());
  return allOfDtype(call, {0}) && rank > 0 &&
         call.finishWith<LayerNormOp>(call.tensor(0), call.tensor(2), call.tensor(3), b.getI64IntegerAttr(rank),
                                      b.getF64FloatAttr(call.number(4)));
}

/// Batch norm in training: the result, what it saves for the backward pass, and the new running statistics.
static bool trainBatchNorm(CallImporter &call) {
  const TensorMeta &meta = call.meta(0);
  int64_t rank = meta.rank(), count = 1;
  for (int64_t dim = 0; dim < rank; ++dim)
    count *= dim == 1 ? 1 : meta.sizes[dim] == kDynamicSize ? 0 : meta.sizes[dim];
  if (!allOfDtype(call, {0, 3, 4}) || !call.flag(5) || rank < 2 || count < 2)
    return false;
  OpBuilder &b = call.builder;
  Location loc = call.loc;
  SmallVector<int64_t> dims, kept(rank, 1);
  for (int64_t dim = 0; dim < rank; ++dim)
    if (dim != 1)
      dims.push_back(dim);
  kept[1] = meta.sizes[1];
  Value input = call.tensor(0);
  auto ofChannels = RankedTensorType::get({meta.sizes[1]}, getElementType(b.getContext(), meta.dtype));
  auto reshape = [&](Value value, ArrayRef<int64_t> shape) -> Value {
    return ReshapeOp::create(b, loc, ofChannels.clone(shape), value);
  };
  auto number = [&](double value) { return call.scalar(value, meta.dtype); };
  auto mul = [&](Value x, Value y) -> Value { return MulOp::create(b, loc, x, y); };
  auto add = [&](Value x, Value y) -> Value { return AddOp::create(b, loc, x, y); };
  // Torch adds up in f64. Here, a first mean takes away what the elements have in common, whose rounding would show
  // where they differ by little; a second one is of the rest. Any number in the place of the first gives the same.
  Value estimate = DetachOp::create(b, loc, MeanOp::create(b, loc, input, dims, /*keepdim=*/true));
  Value shifted = SubOp::create(b, loc, input, estimate);
  Value rest = MeanOp::create(b, loc, shifted, dims, /*keepdim=*/true);
  Value centered = SubOp::create(b, loc, shifted, rest), mean = add(estimate, rest);
  Value variance = MeanOp::create(b, loc, mul(centered, centered), dims, /*keepdim=*/true);
  Value scale = RsqrtOp::create(b, loc, variance.getType(), add(variance, number(call.number(7))));
  Value result = mul(centered, scale);
  if (Value weight = call.tensor(1))
    result = mul(result, reshape(weight, kept));
  if (Value bias = call.tensor(2))
    result = add(result, reshape(bias, kept));
  double momentum = call.number(6), unbiased = static_cast<double>(count) / static_cast<double>(count - 1);
  Value flatMean = reshape(mean, ofChannels.getShape()), flatVariance = reshape(variance, ofChannels.getShape());
  call.results = {result, flatMean, reshape(scale, ofChannels.getShape()),
                  add(mul(call.tensor(3), number(1 - momentum)), mul(flatMean, number(momentum))),
                  add(mul(call.tensor(4), number(1 - momentum)), mul(flatVariance, number(momentum * unbiased)))};
  return true;
}

//===----------------------------------------------------------------------------===//
// Views and joins
//===----------------------------------------------------------------------------===//

/// Operators whose result has the elements of the operand in the same order.
static bool reshape(CallImporter &call) {
  if (call.tensor(0).getType() == call.resultType() && call.resultType().hasStaticShape())
    return identity(call);
  if (call.meta(0).dtype != call.resultDtype())
    return false;
  Value input = call.tensor(0);
  if (!carriesLeadingSizes(call.meta(0).sizes, call.resultMeta().sizes)) { // the op would take them to be the same
    auto row = RankedTensorType::get({ShapedType::kDynamic}, call.resultType().getElementType());
    input = ReshapeOp::create(call.builder, call.loc, row, input);
  }
  return call.finishWith<ReshapeOp>(input);
}

static bool buildPermute(CallImporter &call, ArrayRef<int64_t> permutation) {
  if (llvm::equal(permutation, llvm::seq<int64_t>(0, permutation.size())))
    return identity(call);
  return call.finishWith<PermuteOp>(call.tensor(0), permutation);
}

static bool permute(CallImporter &call) {
  SmallVector<int64_t> permutation;
  for (int64_t dim : call.constant(1).toIntVector())
    permutation.push_back(call.wrap(dim, call.meta(0).rank()));
  return buildPermute(call, permutation);
}

static bool swapDims(CallImporter &call, int64_t a, int64_t b) {
  auto permutation = llvm::to_vector(llvm::seq<int64_t>(0, call.meta(0).rank()));
  if (permutation.empty())
    return identity(call);
  std::swap(permutation[a], permutation[b]);
  return buildPermute(call, permutation);
}

static bool transpose(CallImporter &call) { return swapDims(call, call.dim(1), call.dim(2)); }

static bool transposeMatrix(CallImporter &call) {
  int64_t rank = call.meta(0).rank();
  return rank < 2 ? identity(call) : swapDims(call, rank - 2, rank - 1);
}

static bool reverseDims(CallImporter &call) {
  auto permutation = llvm::to_vector(llvm::seq<int64_t>(0, call.meta(0).rank()));
  std::reverse(permutation.begin(), permutation.end());
  return buildPermute(call, permutation);
}

static bool movedim(CallImporter &call) {
  auto list = [&](size_t i) {
    return call.constant(i).isInt() ? std::vector<int64_t>{call.integer(i)} : call.constant(i).toIntVector();
  };
  int64_t rank = call.meta(0).rank();
  std::vector<int64_t> from = list(1), to = list(2);
  SmallVector<int64_t> permutation(rank, -1), rest;
  SmallVector<bool> moved(rank);
  for (auto [source, target] : llvm::zip_equal(from, to)) {
    permutation[call.wrap(target, rank)] = call.wrap(source, rank);
    moved[call.wrap(source, rank)] = true;
  }
  int64_t next = 0;
  for (int64_t &dim : permutation) {
    if (dim >= 0)
      continue;
    while (moved[next])
      ++next;
    dim = next++;
  }
  return buildPermute(call, permutation);
}

/// The dimensions of size 1 among those named; others are left alone, as torch does.
static bool squeeze(CallImporter &call) {
  SmallVector<int64_t> dropped;
  auto named = call.size() > 1 ? call.dims(1) : llvm::to_vector(llvm::seq<int64_t>(0, call.meta(0).rank()));
  if (call.size() > 1 && call.constant(1).isIntList() && call.constant(1).toIntVector().empty())
    named.clear();
  for (int64_t dim : named)
    if (call.meta(0).sizes[dim] == 1)
      dropped.push_back(dim);
  return dropped.empty() ? identity(call) : call.finishWith<SqueezeOp>(call.tensor(0), dropped);
}

static bool unsqueeze(CallImporter &call) {
  return call.finishWith<UnsqueezeOp>(call.tensor(0), call.wrap(call.integer(1), call.meta(0).rank() + 1));
}

/// An open size of the result must be the operand's: the op has no other source for it.
static bool expand(CallImporter &call) {
  if (call.tensor(0).getType() == call.resultType() && call.resultType().hasStaticShape())
    return identity(call);
  const TensorMeta &from = call.meta(0), &to = call.resultMeta();
  int64_t lead = to.rank() - from.rank();
  for (int64_t i = 0; i < to.rank(); ++i)
    if (to.sizes[i] == kDynamicSize && (i < lead || from.sizes[i - lead] != kDynamicSize))
      return false;
  return call.finishWith<ExpandOp>(call.tensor(0));
}

static bool buildSlice(CallImporter &call, int64_t dim, int64_t start, int64_t end, int64_t step = 1) {
  int64_t size = call.meta(0).sizes[dim];
  if (size != kDynamicSize) {
    start = std::clamp<int64_t>(start < 0 ? start + size : start, 0, size);
    end = std::clamp<int64_t>(end < 0 ? end + size : end, start, size);
  } else if (start < 0 || end < 0 || (end != kSliceToEnd && call.resultMeta().sizes[dim] == kDynamicSize)) {
    return false; // counted from an end that is not known
  }
  if (start == 0 && step == 1 && (end == kSliceToEnd || end == size))
    return identity(call);
  return call.finishWith<SliceOp>(call.tensor(0), dim, start, end, step);
}

static bool slice(CallImporter &call) {
  int64_t start = call.isNone(2) ? 0 : call.integer(2), end = call.isNone(3) ? kSliceToEnd : call.integer(3);
  return buildSlice(call, call.dim(1), start, end, call.integer(4));
}

static bool narrow(CallImporter &call) {
  int64_t dim = call.dim(1), size = call.meta(0).sizes[dim];
  if (!call.constant(2).isInt() || size == kDynamicSize)
    return false;
  int64_t start = call.wrap(call.integer(2), size);
  return buildSlice(call, dim, start, start + call.integer(3));
}

static bool select(CallImporter &call) {
  int64_t dim = call.dim(1), size = call.meta(0).sizes[dim], index = call.integer(2);
  if (index < 0 && size == kDynamicSize)
    return false;
  return call.finishWith<SelectOp>(call.tensor(0), dim, index < 0 ? index + size : index);
}

/// split, chunk and their kin: the parts follow from the sizes of the results.
static bool split(CallImporter &call) {
  int64_t dim = call.dim(2), start = 0;
  for (size_t i = 0; i < call.resultCount(); ++i) {
    int64_t length = call.resultMeta(i).sizes[dim];
    if (length == kDynamicSize)
      return false;
    bool isWhole = length == call.meta(0).sizes[dim];
    call.results.push_back(isWhole ? call.tensor(0)
                                   : SliceOp::create(call.builder, call.loc, call.resultType(i), call.tensor(0), dim,
                                                     start, start + length, int64_t(1)));
    start += length;
  }
  return true;
}

static bool unbind(CallImporter &call) {
  int64_t dim = call.dim(1);
  for (size_t i = 0; i < call.resultCount(); ++i)
    call.results.push_back(
        SelectOp::create(call.builder, call.loc, call.resultType(i), call.tensor(0), dim, static_cast<int64_t>(i)));
  return true;
}

/// The operands of a join in the element type of the result. Torch leaves out the legacy
/// empty tensor of rank 1; here it declines.
static bool joinOperands(CallImporter &call, SmallVectorImpl<Value> &operands) {
  for (auto [i, operand] : llvm::zip_equal(call.list(0), call.tensors(0))) {
    const TensorMeta &meta = call.metaOf(i);
    bool isKnown = meta.dtype == call.resultDtype() || (isNumber(meta.dtype) && isNumber(call.resultDtype()));
    if (!isKnown || meta.dtype == at::kByte || at::isComplexType(meta.dtype))
      return false;
    operands.push_back(call.cast(operand, call.resultDtype()));
  }
  return !operands.empty();
}

static bool buildCat(CallImporter &call, ArrayRef<Value> operands, int64_t dim) {
  if (llvm::any_of(call.list(0), [&](int i) { return call.metaOf(i).rank() != call.resultMeta().rank(); }))
    return false;
  if (operands.size() == 1)
    return call.finish(operands.front());
  return call.finishWith<CatOp>(operands, call.builder.getI64IntegerAttr(dim));
}

static bool cat(CallImporter &call) {
  SmallVector<Value> operands;
  return call.constant(1).isInt() && joinOperands(call, operands) &&
         buildCat(call, operands, call.wrap(call.integer(1), call.resultMeta().rank()));
}

static bool stack(CallImporter &call) {
  SmallVector<Value> operands;
  return joinOperands(call, operands) &&
         call.finishWith<StackOp>(operands,
                                  call.builder.getI64IntegerAttr(call.wrap(call.integer(1), call.resultMeta().rank())));
}

static bool hstack(CallImporter &call) {
  SmallVector<Value> operands;
  return joinOperands(call, operands) && buildCat(call, operands, call.resultMeta().rank() == 1 ? 0 : 1);
}

static bool vstack(CallImporter &call) {
  SmallVector<Value> operands;
  return joinOperands(call, operands) && buildCat(call, operands, 0);
}

//===----------------------------------------------------------------------------===//
// Constants
//===----------------------------------------------------------------------------===//

static bool buildSplat(CallImporter &call, const at::Scalar &value) {
  bool isKnown = isNumber(call.resultDtype()) || call.resultDtype() == at::kBool;
  if (!isKnown || value.isComplex() || !call.resultType().hasStaticShape())
    return false;
  RankedTensorType type = call.resultType();
  auto attr = DenseElementsAttr::get(type, getNumber(type.getElementType(), value));
  return call.finish(ConstantOp::create(call.builder, call.loc, attr));
}

static bool zeros(CallImporter &call) { return buildSplat(call, 0); }
static bool ones(CallImporter &call) { return buildSplat(call, 1); }
/// The number is argument `index`.
template <size_t index> static bool full(CallImporter &call) {
  if (call.isTensor(index))
    return call.source(index).isScalar() && buildSplat(call, call.source(index).constant.item());
  return buildSplat(call, call.constant(index).toScalar());
}

/// `self` becomes `value` everywhere.
static bool fill(CallImporter &call) {
  return call.isTensor(1) && !call.source(1).isScalar() ? copyInto(call) : full<1>(call);
}

//===----------------------------------------------------------------------------===//
// The table
//===----------------------------------------------------------------------------===//

static AtenTable makeTable() {
  AtenTable table;
  auto add = [&](std::initializer_list<StringRef> names, CallBuilder build) { table.add(names, build); };
  // Pointwise
  add({"neg", "negative"}, unary<NegOp>);
  add({"abs", "absolute"}, unary<AbsOp>);
  add({"sign", "sgn"}, unary<SignOp>);
  add({"relu"}, unary<ReluOp>);
  add({"exp"}, floatUnary<ExpOp>);
  add({"expm1", "special_expm1"}, floatUnary<Expm1Op>);
  add({"log"}, floatUnary<LogOp>);
  add({"log1p", "special_log1p"}, floatUnary<Log1pOp>);
  add({"sqrt"}, floatUnary<SqrtOp>);
  add({"rsqrt"}, floatUnary<RsqrtOp>);
  add({"reciprocal"}, floatUnary<ReciprocalOp>);
  add({"tanh"}, floatUnary<TanhOp>);
  add({"sigmoid", "special_expit"}, floatUnary<SigmoidOp>);
  add({"silu"}, floatUnary<SiluOp>);
  add({"mish"}, floatUnary<MishOp>);
  add({"erf", "special_erf"}, floatUnary<ErfOp>);
  add({"sin"}, floatUnary<SinOp>);
  add({"cos"}, floatUnary<CosOp>);
  add({"tan"}, floatUnary<TanOp>);
  add({"asin", "arcsin"}, floatUnary<AsinOp>);
  add({"acos", "arccos"}, floatUnary<AcosOp>);
  add({"atan", "arctan"}, floatUnary<AtanOp>);
  add({"sinh"}, floatUnary<SinhOp>);
  add({"cosh"}, floatUnary<CoshOp>);
  add({"asinh", "arcsinh"}, floatUnary<AsinhOp>);
  add({"acosh", "arccosh"}, floatUnary<AcoshOp>);
  add({"atanh", "arctanh"}, floatUnary<AtanhOp>);
  add({"exp2", "special_exp2"}, floatUnary<Exp2Op>);
  add({"log2"}, floatUnary<Log2Op>);
  add({"log10"}, floatUnary<Log10Op>);
  add({"erfc", "special_erfc"}, floatUnary<ErfcOp>);
  add({"floor"}, unary<FloorOp>);
  add({"ceil"}, unary<CeilOp>);
  add({"trunc", "fix"}, unary<TruncOp>);
  add({"round", "special_round"}, unary<RoundOp>);
  add({"hardswish"}, floatUnary<HardswishOp>);
  add({"hardsigmoid"}, floatUnary<HardsigmoidOp>);
  add({"log_sigmoid"}, floatUnary<LogSigmoidOp>);
  add({"leaky_relu"}, leakyRelu);
  add({"elu"}, elu);
  add({"selu"}, selu);
  add({"celu"}, celu);
  add({"softplus"}, softplus);
  add({"gelu"}, gelu);
  add({"hardtanh", "clamp", "clip"}, clamp);
  add({"clamp_min"}, clampMin);
  add({"clamp_max"}, clampMax);
  add({"relu6"}, relu6);
  add({"threshold"}, threshold);
  add({"square"}, square);
  add({"add.Tensor", "add.Scalar"}, scaledBinary<AddOp>);
  add({"sub.Tensor", "sub.Scalar", "subtract.Tensor", "subtract.Scalar"}, scaledBinary<SubOp>);
  add({"rsub.Tensor", "rsub.Scalar"}, scaledBinary<SubOp, /*isReversed=*/true>);
  add({"mul.Tensor", "mul.Scalar", "multiply.Tensor", "multiply.Scalar"}, binary<MulOp>);
  add({"div.Tensor", "div.Scalar", "divide.Tensor", "divide.Scalar", "true_divide.Tensor", "true_divide.Scalar"},
      floatBinary<DivOp>);
  add({"pow.Tensor_Scalar", "pow.Tensor_Tensor"}, power);
  add({"pow.Scalar"}, floatBinary<PowOp>);
  add({"maximum", "max.other"}, binary<MaximumOp>);
  add({"minimum", "min.other"}, binary<MinimumOp>);
  add({"atan2", "arctan2"}, floatBinary<Atan2Op>);
  add({"copysign.Tensor", "copysign.Scalar"}, floatBinary<CopysignOp>);
  add({"fmod.Tensor", "fmod.Scalar"}, rest<FmodOp>);
  add({"remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor"}, rest<RemainderOp>);
  add({"bitwise_and.Tensor", "bitwise_and.Scalar", "bitwise_and.Scalar_Tensor", "__and__.Tensor", "__and__.Scalar"},
      bits<BitwiseAndOp>);
  add({"bitwise_or.Tensor", "bitwise_or.Scalar", "bitwise_or.Scalar_Tensor", "__or__.Tensor", "__or__.Scalar"},
      bits<BitwiseOrOp>);
  add({"bitwise_xor.Tensor", "bitwise_xor.Scalar", "bitwise_xor.Scalar_Tensor", "__xor__.Tensor", "__xor__.Scalar"},
      bits<BitwiseXorOp>);
  add({"logical_and"}, logical<BitwiseAndOp>);
  add({"logical_or"}, logical<BitwiseOrOp>);
  add({"logical_xor"}, logical<BitwiseXorOp>);
  add({"logical_not"}, logicalNot);
  add({"bitwise_not"}, bitwiseNot);
  add({"isnan"}, isNan);
  add({"eq.Tensor", "eq.Scalar"}, compare<Predicate::eq>);
  add({"ne.Tensor", "ne.Scalar", "not_equal.Tensor", "not_equal.Scalar"}, compare<Predicate::ne>);
  add({"lt.Tensor", "lt.Scalar", "less.Tensor", "less.Scalar"}, compare<Predicate::lt>);
  add({"le.Tensor", "le.Scalar", "less_equal.Tensor", "less_equal.Scalar"}, compare<Predicate::le>);
  add({"gt.Tensor", "gt.Scalar", "greater.Tensor", "greater.Scalar"}, compare<Predicate::gt>);
  add({"ge.Tensor", "ge.Scalar", "greater_equal.Tensor", "greater_equal.Scalar"}, compare<Predicate::ge>);
  add({"where.self", "where.ScalarSelf", "where.ScalarOther", "where.Scalar"}, where);
  add({"masked_fill.Scalar", "masked_fill.Tensor"}, maskedFill);
  add({"detach", "detach_copy"}, detach);
  add({"positive", "alias", "clone", "contiguous", "dropout", "feature_dropout", "alpha_dropout", "lift_fresh",
       "lift_fresh_copy", "lift", "alias_copy", "resolve_conj", "resolve_neg"},
      identity);
  add({"to.dtype", "to.device", "to.other", "to.dtype_layout", "to.prim_Device", "to.prim_dtype", "to.prim_other",
       "type_as", "_to_copy", "_cast_Float", "_cast_Double", "_cast_Half", "_cast_Long", "_cast_Int"},
      convert);
  add({"copy"}, copyInto);
  // Contractions
  add({"linear"}, linear);
  add({"matmul", "mm", "bmm", "mv", "dot", "linalg_matmul"}, matmul);
  add({"addmm"}, addmm<2>);
  add({"baddbmm"}, addmm<3>);
  // Reductions and normalisations
  add({"sum"}, reduceAll<SumOp>);
  add({"sum.dim_IntList"}, reduceDims<SumOp>);
  add({"mean"}, reduceAll<MeanOp>);
  add({"mean.dim"}, reduceDims<MeanOp>);
  add({"amax"}, reduceDims<AmaxOp>);
  add({"amin"}, reduceDims<AminOp>);
  add({"max"}, reduceAll<AmaxOp>);
  add({"min"}, reduceAll<AminOp>);
  add({"prod"}, reduceAll<ProdOp>);
  add({"prod.dim_int"}, reduceDims<ProdOp>);
  add({"any"}, anyOrAll<AmaxOp, false>);
  add({"any.dim", "any.dims"}, anyOrAll<AmaxOp, true>);
  add({"all"}, anyOrAll<AminOp, false>);
  add({"all.dim", "all.dims"}, anyOrAll<AminOp, true>);
  add({"softmax.int", "special_softmax", "_softmax"}, softmax<SoftmaxOp>);
  add({"log_softmax.int", "special_log_softmax", "_log_softmax"}, softmax<LogSoftmaxOp>);
  add({"layer_norm"}, layerNorm);
  add({"_native_batch_norm_legit_functional"}, trainBatchNorm);
  // Views and joins
  add({"view", "reshape", "_unsafe_view", "flatten.using_ints", "unflatten.int", "view_as", "reshape_as", "ravel",
       "_reshape_alias"},
      reshape);
  add({"permute"}, permute);
  add({"transpose.int", "swapaxes", "swapdims"}, transpose);
  add({"t", "mT"}, transposeMatrix);
  add({"numpy_T"}, reverseDims);
  add({"movedim.int", "movedim.intlist", "moveaxis.int", "moveaxis.intlist"}, movedim);
  add({"squeeze", "squeeze.dim", "squeeze.dims"}, squeeze);
  add({"unsqueeze"}, unsqueeze);
  add({"expand", "expand_as", "broadcast_to"}, expand);
  add({"slice.Tensor"}, slice);
  add({"narrow"}, narrow);
  add({"select.int"}, select);
  add({"split.Tensor", "split.sizes", "split_with_sizes", "chunk", "tensor_split.sections", "tensor_split.indices",
       "unsafe_split.Tensor", "unsafe_split_with_sizes", "unsafe_chunk"},
      split);
  add({"unbind.int"}, unbind);
  add({"cat", "concat", "concatenate"}, cat);
  add({"stack"}, stack);
  add({"hstack"}, hstack);
  add({"vstack", "row_stack"}, vstack);
  // Constants. What `empty` holds is anyone's guess, so zero will do.
  add({"zeros", "empty.memory_format", "empty_strided", "zeros_like", "empty_like", "new_zeros", "new_empty", "zero"},
      zeros);
  add({"ones", "ones_like", "new_ones"}, ones);
  add({"full", "full_like"}, full<1>);
  add({"fill.Scalar", "fill.Tensor"}, fill);
  add({"new_full"}, full<2>);
  add({"scalar_tensor"}, full<0>);
  addWindows(table);
  addComposedPointwise(table);
  addComposedReductions(table);
  addComposedLayers(table);
  addRecurrent(table);
  return table;
}

const AtenTable &getAtenTable() {
  static const AtenTable table = makeTable();
  return table;
}

} // namespace pfcn
