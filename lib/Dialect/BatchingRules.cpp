//===- BatchingRules.cpp - how each op takes the instance dimension --------------===//
//
// The instance dimension leads. Ops that name dimensions name them one further on; ops
// that broadcast get their operands aligned to the rank of the body first. A value that no
// instance changes stays without it wherever broadcasting supplies it.
//
//===----------------------------------------------------------------------------===//

#include "Pointwise.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace mlir::pfcn;

using Batched = FailureOr<SmallVector<Value>>;

static Batched single(Value value) { return SmallVector<Value>{value}; }

static RankedTensorType withInstances(Type type, int64_t count) {
  auto tensor = cast<RankedTensorType>(type);
  SmallVector<int64_t> shape(tensor.getShape());
  shape.insert(shape.begin(), count);
  return RankedTensorType::get(shape, tensor.getElementType());
}

/// Gives a batched value the rank that one instance sees as `bodyRank`, by dimensions of size
/// 1 behind the instance; what is not batched broadcasts as it is.
static Value alignRank(OpBuilder &builder, Location loc, const BatchedValue &operand, int64_t bodyRank) {
  Value value = operand.value;
  if (operand.batched)
    for (int64_t rank = operand.getBodyRank(); rank < bodyRank; ++rank)
      value = UnsqueezeOp::create(builder, loc, value, /*dim=*/1);
  return value;
}

/// The value with an instance dimension, repeated where no instance changes it.
static Value materialize(OpBuilder &builder, Location loc, const BatchedValue &operand, int64_t count) {
  if (operand.batched)
    return operand.value;
  Value value = UnsqueezeOp::create(builder, loc, operand.value, /*dim=*/0);
  return ExpandOp::create(builder, loc, withInstances(operand.value.getType(), count), value);
}

static int64_t maxBodyRank(ArrayRef<BatchedValue> operands) {
  int64_t rank = 0;
  for (const BatchedValue &operand : operands)
    rank = std::max(rank, operand.getBodyRank());
  return rank;
}

Batched mlir::pfcn::cloneBatched(Operation *op, OpBuilder &builder, ValueRange operands, int64_t count) {
  OperationState state(op->getLoc(), op->getName(), operands, withInstances(op->getResult(0).getType(), count));
  state.addAttributes(op->getAttrs());
  return single(builder.create(state)->getResult(0));
}

Batched mlir::pfcn::batchPointwise(Operation *op, OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t count) {
  int64_t rank = maxBodyRank(operands);
  SmallVector<Value> aligned;
  for (const BatchedValue &operand : operands)
    aligned.push_back(alignRank(builder, op->getLoc(), operand, rank));
  return cloneBatched(op, builder, aligned, count);
}

//===----------------------------------------------------------------------------===//
// Contractions
//===----------------------------------------------------------------------------===//

static Value batchMatmul(OpBuilder &builder, Location loc, const BatchedValue &lhs, const BatchedValue &rhs,
                         bool transposeRhs) {
  int64_t rank = std::max(lhs.getBodyRank(), rhs.getBodyRank());
  auto product = BatchMatmulOp::create(builder, loc, alignRank(builder, loc, lhs, rank),
                                       alignRank(builder, loc, rhs, rank), transposeRhs);
  return product.getResult();
}

/// The value in another element type.
static Value castTo(OpBuilder &builder, Location loc, Value value, Type elementType) {
  auto type = cast<RankedTensorType>(value.getType());
  return type.getElementType() == elementType
             ? value
             : CastOp::create(builder, loc, type.clone(elementType), value).getResult();
}

/// Where a product and what is added to it are computed: torch rounds only their sum to f16 or bf16.
static Type getSumType(Type elementType) {
  return isa<Float16Type, BFloat16Type>(elementType) ? Float32Type::get(elementType.getContext()) : elementType;
}

static SmallVector<BatchedValue> castAll(OpBuilder &builder, Location loc, ArrayRef<BatchedValue> operands,
                                         Type elementType) {
  return llvm::map_to_vector(operands, [&](const BatchedValue &operand) {
    return BatchedValue{castTo(builder, loc, operand.value, elementType), operand.batched};
  });
}

Batched LinearOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t count) {
  Location loc = getLoc();
  Type elementType = getResult().getType().getElementType();
  SmallVector<BatchedValue> wide =
      castAll(builder, loc, operands, operands.size() < 3 ? elementType : getSumType(elementType));
  BatchedValue input = wide[0], weight = wide[1];
  bool isVector = input.getBodyRank() == 1;
  if (isVector)
    input.value = UnsqueezeOp::create(builder, loc, input.value, input.batched ? 1 : 0);
  Value result = batchMatmul(builder, loc, input, weight, /*transposeRhs=*/true);
  bool batched = input.batched || weight.batched;
  if (isVector)
    result = SqueezeOp::create(builder, loc, result, ArrayRef<int64_t>{batched ? 1 : 0});
  if (operands.size() < 3)
    return single(result);
  int64_t rank = getResult().getType().getRank();
  Value sum = AddOp::create(builder, loc, alignRank(builder, loc, {result, batched}, rank),
                            alignRank(builder, loc, wide[2], rank));
  return single(castTo(builder, loc, sum, elementType));
}

Batched MatmulOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t) {
  return single(batchMatmul(builder, getLoc(), operands[0], operands[1], /*transposeRhs=*/false));
}

Batched BatchMatmulOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t) {
  return single(batchMatmul(builder, getLoc(), operands[0], operands[1], getTransposeRhs()));
}

static Value scale(OpBuilder &builder, Location loc, Value value, double factor) {
  if (factor == 1.0)
    return value;
  Type elementType = cast<RankedTensorType>(value.getType()).getElementType();
  auto scalar = RankedTensorType::get({}, elementType);
  auto attr = DenseElementsAttr::get(scalar, builder.getFloatAttr(elementType, factor));
  return MulOp::create(builder, loc, value, ConstantOp::create(builder, loc, scalar, attr));
}

Batched AddmmOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t count) {
  Location loc = getLoc();
  Type elementType = getResult().getType().getElementType();
  SmallVector<BatchedValue> wide = castAll(builder, loc, operands, getSumType(elementType));
  Value product = batchMatmul(builder, loc, wide[1], wide[2], /*transposeRhs=*/false);
  product = scale(builder, loc, product, getAlpha().convertToDouble());
  double beta = getBeta().convertToDouble();
  int64_t rank = getResult().getType().getRank();
  bool batched = operands[1].batched || operands[2].batched;
  if (beta == 0.0) { // torch ignores the input then, NaN and all
    product = castTo(builder, loc, product, elementType);
    return single(materialize(builder, loc, {product, batched}, count));
  }
  Value input = scale(builder, loc, alignRank(builder, loc, wide[0], rank), beta);
  return single(castTo(builder, loc, AddOp::create(builder, loc, input, product), elementType));
}

//===----------------------------------------------------------------------------===//
// Reductions and normalisations
//===----------------------------------------------------------------------------===//

static SmallVector<int64_t> shiftDims(ArrayRef<int64_t> dims) {
  return llvm::map_to_vector(dims, [](int64_t dim) { return dim + 1; });
}

template <typename Op> static Batched batchReduction(Op op, OpBuilder &builder, ArrayRef<BatchedValue> operands) {
  return single(Op::create(builder, op.getLoc(), operands[0].value, shiftDims(op.getDims()), op.getKeepdim()));
}

#define PFCN_REDUCTION(Op)                                                                                             \
  Batched Op::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t) {                                    \
    return batchReduction(*this, builder, operands);                                                                   \
  }
PFCN_REDUCTION(SumOp)
PFCN_REDUCTION(MeanOp)
PFCN_REDUCTION(AmaxOp)
PFCN_REDUCTION(AminOp)
PFCN_REDUCTION(ProdOp)
#undef PFCN_REDUCTION

Batched SoftmaxOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t) {
  Value input = operands[0].value;
  return single(SoftmaxOp::create(builder, getLoc(), input.getType(), input, getDim() + 1));
}

Batched LogSoftmaxOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t) {
  Value input = operands[0].value;
  return single(LogSoftmaxOp::create(builder, getLoc(), input.getType(), input, getDim() + 1));
}

Batched LayerNormOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t count) {
  Location loc = getLoc();
  Value input = materialize(builder, loc, operands[0], count);
  int64_t rank = getInput().getType().getRank();
  unsigned next = 1;
  Value weight, bias;
  if (getWeight())
    weight = alignRank(builder, loc, operands[next++], rank);
  if (getBias())
    bias = alignRank(builder, loc, operands[next++], rank);
  return single(
      LayerNormOp::create(builder, loc, input.getType(), input, weight, bias, getNormalizedRankAttr(), getEpsAttr()));
}

Batched BatchNormOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t count) {
  SmallVector<Value> values{materialize(builder, getLoc(), operands[0], count)};
  for (const BatchedValue &operand : operands.drop_front())
    values.push_back(operand.value);
  FailureOr<SmallVector<Value>> result = cloneBatched(*this, builder, values, count);
  result->front().getDefiningOp<BatchNormOp>().setChannel(getChannel() + 1);
  return result;
}

Batched RecurrenceOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t count) {
  // Inputs and states carry the instances; weights and biases may.
  Location loc = getLoc();
  auto take = [&, next = size_t(0)](Value present, bool isState) mutable -> Value {
    if (!present)
      return {};
    const BatchedValue &operand = operands[next++];
    return isState ? materialize(builder, loc, operand, count) : operand.value;
  };
  Value input = take(getInput(), true), weight = take(getWeight(), false), inner = take(getHiddenWeight(), false);
  Value hidden = take(getHidden(), true), cell = take(getCell(), true);
  Value bias = take(getBias(), false), innerBias = take(getHiddenBias(), false);
  SmallVector<int64_t> shape(cast<RankedTensorType>(getType()).getShape());
  shape.insert(shape.begin(), count);
  auto type = RankedTensorType::get(shape, getElementTypeOrSelf(getType()));
  return single(RecurrenceOp::create(builder, loc, type, getKindAttr(), input, weight, inner, hidden, cell, bias,
                                     innerBias, getReverseAttr(), getKeepCellsAttr()));
}

Batched RecurrenceAdjointOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t count) {
  Location loc = getLoc();
  Value upstream = materialize(builder, loc, operands[0], count),
        factors = materialize(builder, loc, operands[1], count);
  Value cell = getCellUpstream() ? materialize(builder, loc, operands[3], count) : Value();
  SmallVector<int64_t> shape(cast<RankedTensorType>(getType()).getShape());
  shape.insert(shape.begin(), count);
  auto type = RankedTensorType::get(shape, getElementTypeOrSelf(getType()));
  return single(RecurrenceAdjointOp::create(builder, loc, type, getKindAttr(), upstream, factors, operands[2].value,
                                            cell, getReverseAttr()));
}

//===----------------------------------------------------------------------------===//
// Views and joins
//===----------------------------------------------------------------------------===//

Batched FlipOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t) {
  Value input = operands[0].value;
  return single(FlipOp::create(builder, getLoc(), input.getType(), input, shiftDims(getDims())));
}

Batched ReshapeOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t count) {
  return cloneBatched(*this, builder, operands[0].value, count);
}

Batched PermuteOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t) {
  SmallVector<int64_t> permutation = shiftDims(getPermutation());
  permutation.insert(permutation.begin(), 0);
  return single(PermuteOp::create(builder, getLoc(), operands[0].value, permutation));
}

Batched SliceOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t) {
  return single(SliceOp::create(builder, getLoc(), operands[0].value, getDim() + 1, getStart(), getEnd(), getStep()));
}

Batched SelectOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t) {
  return single(SelectOp::create(builder, getLoc(), operands[0].value, getDim() + 1, getIndex()));
}

Batched UnsqueezeOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t) {
  return single(UnsqueezeOp::create(builder, getLoc(), operands[0].value, getDim() + 1));
}

Batched SqueezeOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t) {
  return single(SqueezeOp::create(builder, getLoc(), operands[0].value, shiftDims(getDims())));
}

Batched ExpandOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t count) {
  Value input = alignRank(builder, getLoc(), operands[0], getResult().getType().getRank());
  return cloneBatched(*this, builder, input, count);
}

template <typename Op>
static Batched batchJoin(Op op, OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t count) {
  SmallVector<Value> inputs;
  for (const BatchedValue &operand : operands)
    inputs.push_back(materialize(builder, op.getLoc(), operand, count));
  return single(Op::create(builder, op.getLoc(), inputs, op.getDim() + 1));
}

Batched CatOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t count) {
  return batchJoin(*this, builder, operands, count);
}

Batched StackOp::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t count) {
  return batchJoin(*this, builder, operands, count);
}
