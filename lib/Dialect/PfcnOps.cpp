//===- PfcnOps.cpp - verifiers, shape rules and folders --------------------------===//
//
// The shape rules are torch's. What a verifier states here is what later passes rely on.
//
//===----------------------------------------------------------------------------===//

#include "Pointwise.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/CheckedArithmetic.h"

using namespace mlir;
using namespace mlir::pfcn;

//===----------------------------------------------------------------------------===//
// Shape rules
//===----------------------------------------------------------------------------===//

/// The shape to which two shapes broadcast. A dynamic dimension against a static one
/// larger than 1 is taken to be equal to it, as torch checks at run time.
static FailureOr<SmallVector<int64_t>> broadcastShapes(ArrayRef<int64_t> a, ArrayRef<int64_t> b) {
  SmallVector<int64_t> shape(std::max(a.size(), b.size()));
  for (size_t i = 0; i < shape.size(); ++i) {
    int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
    int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
    int64_t size;
    if (x == 1 || x == y)
      size = y;
    else if (y == 1)
      size = x;
    else if (ShapedType::isDynamic(x))
      size = y;
    else if (ShapedType::isDynamic(y))
      size = x;
    else
      return failure();
    shape[shape.size() - 1 - i] = size;
  }
  return shape;
}

LogicalResult mlir::pfcn::inferBroadcast(std::optional<Location> loc, ArrayRef<Value> operands, Type elementType,
                                         SmallVectorImpl<Type> &types) {
  SmallVector<int64_t> shape;
  for (Value operand : operands) {
    FailureOr<SmallVector<int64_t>> joined = broadcastShapes(shape, ranked(operand).getShape());
    if (failed(joined))
      return emitOptionalError(loc, "operands of shapes [", shape, "] and [", ranked(operand).getShape(),
                               "] do not broadcast");
    shape = *joined;
  }
  types.push_back(RankedTensorType::get(shape, elementType));
  return success();
}

LogicalResult CompareOp::inferReturnTypes(MLIRContext *context, std::optional<Location> loc, Adaptor adaptor,
                                          SmallVectorImpl<Type> &types) {
  return inferBroadcast(loc, {adaptor.getLhs(), adaptor.getRhs()}, IntegerType::get(context, 1), types);
}

LogicalResult WhereOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                        SmallVectorImpl<Type> &types) {
  return inferBroadcast(loc, {adaptor.getCondition(), adaptor.getLhs(), adaptor.getRhs()},
                        ranked(adaptor.getLhs()).getElementType(), types);
}

/// Whether two sizes can be equal at run time.
static bool compatible(int64_t a, int64_t b) { return a == b || ShapedType::isDynamic(a) || ShapedType::isDynamic(b); }

/// [*B, M, K] x [*B, K, N] -> [*B, M, N].
static LogicalResult inferMatmul(std::optional<Location> loc, Value lhs, Value rhs, bool transposeRhs,
                                 SmallVectorImpl<Type> &types) {
  RankedTensorType a = ranked(lhs), b = ranked(rhs);
  if (a.getRank() < 2 || b.getRank() < 2)
    return emitOptionalError(loc, "operands of a matmul must have rank 2 or more");
  if (a.getElementType() != b.getElementType())
    return emitOptionalError(loc, "operands of a matmul must have one element type");
  int64_t k = b.getDimSize(b.getRank() - (transposeRhs ? 1 : 2));
  int64_t n = b.getDimSize(b.getRank() - (transposeRhs ? 2 : 1));
  if (!compatible(a.getShape().back(), k))
    return emitOptionalError(loc, "contracted dimensions differ: ", a.getShape().back(), " and ", k);
  FailureOr<SmallVector<int64_t>> shape = broadcastShapes(a.getShape().drop_back(2), b.getShape().drop_back(2));
  if (failed(shape))
    return emitOptionalError(loc, "leading dimensions of ", a, " and ", b, " do not broadcast");
  shape->push_back(a.getDimSize(a.getRank() - 2));
  shape->push_back(n);
  types.push_back(RankedTensorType::get(*shape, a.getElementType()));
  return success();
}

LogicalResult MatmulOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                         SmallVectorImpl<Type> &types) {
  return inferMatmul(loc, adaptor.getLhs(), adaptor.getRhs(), /*transposeRhs=*/false, types);
}

LogicalResult BatchMatmulOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                              SmallVectorImpl<Type> &types) {
  return inferMatmul(loc, adaptor.getLhs(), adaptor.getRhs(), adaptor.getTransposeRhs(), types);
}

LogicalResult AddmmOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                        SmallVectorImpl<Type> &types) {
  if (failed(inferMatmul(loc, adaptor.getLhs(), adaptor.getRhs(), /*transposeRhs=*/false, types)))
    return failure();
  auto product = cast<RankedTensorType>(types.front());
  FailureOr<SmallVector<int64_t>> shape = broadcastShapes(ranked(adaptor.getInput()).getShape(), product.getShape());
  if (failed(shape) || static_cast<int64_t>(shape->size()) != product.getRank())
    return emitOptionalError(loc, "input of shape [", ranked(adaptor.getInput()).getShape(), "] does not broadcast to ",
                             product);
  return success();
}

LogicalResult LinearOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                         SmallVectorImpl<Type> &types) {
  RankedTensorType input = ranked(adaptor.getInput()), weight = ranked(adaptor.getWeight());
  if (input.getRank() < 1 || weight.getRank() != 2)
    return emitOptionalError(loc, "linear takes an input of rank 1 or more and a weight of rank 2");
  if (input.getElementType() != weight.getElementType())
    return emitOptionalError(loc, "input and weight of a linear must have one element type");
  if (!compatible(input.getShape().back(), weight.getDimSize(1)))
    return emitOptionalError(loc, "linear of ", weight.getDimSize(1), " input features applied to ",
                             input.getShape().back());
  if (Value bias = adaptor.getBias())
    if (ranked(bias).getRank() != 1 || !compatible(ranked(bias).getDimSize(0), weight.getDimSize(0)))
      return emitOptionalError(loc, "bias of a linear must have one element per output feature");
  SmallVector<int64_t> shape(input.getShape());
  shape.back() = weight.getDimSize(0);
  types.push_back(RankedTensorType::get(shape, input.getElementType()));
  return success();
}

static LogicalResult verifyDims(Operation *op, ArrayRef<int64_t> dims, int64_t rank) {
  llvm::SmallDenseSet<int64_t> seen;
  for (int64_t dim : dims) {
    if (dim < 0 || dim >= rank)
      return op->emitOpError("dimension ") << dim << " is out of range for rank " << rank;
    if (!seen.insert(dim).second)
      return op->emitOpError("dimension ") << dim << " is named twice";
  }
  return success();
}

static LogicalResult inferReduction(std::optional<Location> loc, Value input, ArrayRef<int64_t> dims, bool keepdim,
                                    SmallVectorImpl<Type> &types) {
  SmallVector<int64_t> shape;
  for (auto [i, size] : llvm::enumerate(ranked(input).getShape())) {
    if (!llvm::is_contained(dims, static_cast<int64_t>(i)))
      shape.push_back(size);
    else if (keepdim)
      shape.push_back(1);
  }
  types.push_back(RankedTensorType::get(shape, ranked(input).getElementType()));
  return success();
}

#define PFCN_REDUCTION(Op)                                                                                             \
  LogicalResult Op::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,                      \
                                     SmallVectorImpl<Type> &types) {                                                   \
    return inferReduction(loc, adaptor.getInput(), adaptor.getDims(), adaptor.getKeepdim(), types);                    \
  }                                                                                                                    \
  LogicalResult Op::verify() { return verifyDims(*this, getDims(), ranked(getInput()).getRank()); }
PFCN_REDUCTION(SumOp)
PFCN_REDUCTION(MeanOp)
PFCN_REDUCTION(AmaxOp)
PFCN_REDUCTION(AminOp)
PFCN_REDUCTION(ProdOp)
#undef PFCN_REDUCTION

LogicalResult SoftmaxOp::verify() { return verifyDims(*this, getDim(), ranked(getInput()).getRank()); }
LogicalResult LogSoftmaxOp::verify() { return verifyDims(*this, getDim(), ranked(getInput()).getRank()); }

LogicalResult LayerNormOp::verify() {
  RankedTensorType type = ranked(getInput());
  int64_t rank = getNormalizedRank();
  if (rank < 1 || rank > type.getRank())
    return emitOpError("normalizes ") << rank << " dimensions of an input of rank " << type.getRank();
  ArrayRef<int64_t> normalized = type.getShape().take_back(rank);
  for (Value affine : {getWeight(), getBias()})
    if (affine && (ranked(affine).getRank() < rank || ranked(affine).getShape().take_back(rank) != normalized))
      return emitOpError("weight and bias must end in the normalized shape [") << normalized << "]";
  return success();
}

LogicalResult BatchNormOp::verify() {
  RankedTensorType type = ranked(getInput());
  int64_t channel = getChannel();
  if (channel < 0 || channel >= type.getRank())
    return emitOpError("dimension ") << channel << " is out of range for rank " << type.getRank();
  for (Value perChannel : getOperands().drop_front()) {
    RankedTensorType given = ranked(perChannel);
    if (given.getRank() < 1 || given.getRank() > 2 || given.getShape().back() != type.getDimSize(channel) ||
        (given.getRank() == 2 && given.getDimSize(0) != type.getDimSize(0)))
      return emitOpError("statistics, weight and bias must have one element per channel");
  }
  return success();
}

LogicalResult FlipOp::verify() { return verifyDims(*this, getDims(), ranked(getInput()).getRank()); }

int64_t RecurrenceOp::getGateCount(StringRef kind) {
  return llvm::StringSwitch<int64_t>(kind).Case("lstm", 4).Case("gru", 3).Cases({"tanh", "relu"}, 1).Default(0);
}

LogicalResult RecurrenceOp::verify() {
  int64_t gates = getGateCount(getKind());
  if (gates == 0)
    return emitOpError("knows lstm, gru, tanh and relu, not ") << getKind();
  RankedTensorType input = ranked(getInput()), hidden = ranked(getHidden());
  if (hidden.getRank() < 2 || input.getRank() != hidden.getRank() + 1)
    return emitOpError("takes an input [*B, time, inputs] and states [*B, width]");
  int64_t width = hidden.getShape().back();
  auto endsIn = [](Value value, ArrayRef<int64_t> shape) {
    ArrayRef<int64_t> actual = ranked(value).getShape();
    return actual.size() >= shape.size() && actual.size() <= shape.size() + 1 &&
           actual.take_back(shape.size()) == shape;
  };
  if (ShapedType::isDynamic(width) || !endsIn(getWeight(), {gates * width, input.getShape().back()}) ||
      !endsIn(getHiddenWeight(), {gates * width, width}))
    return emitOpError("weights must be [")
           << gates << " · width, inputs] and [" << gates << " · width, width], the width " << width;
  for (Value bias : {getBias(), getHiddenBias()})
    if (bias && !endsIn(bias, {gates * width}))
      return emitOpError("biases must be [") << gates << " · width], the width " << width;
  if ((getKind() == "lstm") != static_cast<bool>(getCell()) || (getCell() && getCell().getType() != hidden))
    return emitOpError("an lstm, and nothing else, has a cell state, of the type of the hidden one");
  SmallVector<int64_t> shape(input.getShape());
  shape.back() = width * (getKeepCells() ? 2 : 1);
  if (!getCell() && getKeepCells())
    return emitOpError("has no cell states to keep");
  if (ranked(getResult()) != RankedTensorType::get(shape, input.getElementType()))
    return emitOpError("must have the result type ") << RankedTensorType::get(shape, input.getElementType());
  return success();
}

int64_t RecurrenceAdjointOp::getFactorCount(StringRef kind) { return kind == "lstm" ? 6 : kind == "gru" ? 4 : 1; }

int64_t RecurrenceAdjointOp::getPartCount(StringRef kind) { return kind == "lstm" ? 5 : kind == "gru" ? 4 : 1; }

LogicalResult RecurrenceAdjointOp::verify() {
  int64_t gates = RecurrenceOp::getGateCount(getKind());
  if (gates == 0)
    return emitOpError("knows lstm, gru, tanh and relu, not ") << getKind();
  RankedTensorType upstream = ranked(getUpstream());
  if (upstream.getRank() < 3 || upstream.isDynamicDim(upstream.getRank() - 1))
    return emitOpError("takes upstream gradients [*B, time, width] of a known width");
  int64_t width = getWidth();
  if (width >= int64_t{1} << 30)
    return emitOpError("has a width of ") << width << ", where less than 2^30 are supported";
  auto getParts = [&](int64_t count) {
    SmallVector<int64_t> shape(upstream.getShape());
    shape.back() = count * width;
    return upstream.clone(shape);
  };
  if (ranked(getFactors()) != getParts(getFactorCount(getKind())))
    return emitOpError("factors must be ") << getParts(getFactorCount(getKind()));
  ArrayRef<int64_t> weight = ranked(getHiddenWeight()).getShape();
  if (weight.size() < 2 || weight.size() > 3 || weight.take_back(2) != ArrayRef<int64_t>{gates * width, width})
    return emitOpError("the weight must be [") << gates << " · width, width], the width " << width;
  if (getCellUpstream() && (getKind() != "lstm" || ranked(getCellUpstream()) != upstream))
    return emitOpError("gradients of the cell state are those of an lstm, and have the type of the hidden state's");
  if (ranked(getResult()) != getParts(getPartCount(getKind())))
    return emitOpError("must have the result type ") << getParts(getPartCount(getKind()));
  return success();
}

LogicalResult PermuteOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                          SmallVectorImpl<Type> &types) {
  RankedTensorType input = ranked(adaptor.getInput());
  SmallVector<int64_t> shape;
  for (int64_t dim : adaptor.getPermutation()) {
    if (dim < 0 || dim >= input.getRank())
      return emitOptionalError(loc, "dimension ", dim, " is out of range for rank ", input.getRank());
    shape.push_back(input.getDimSize(dim));
  }
  types.push_back(RankedTensorType::get(shape, input.getElementType()));
  return success();
}

LogicalResult PermuteOp::verify() {
  int64_t rank = ranked(getInput()).getRank();
  if (static_cast<int64_t>(getPermutation().size()) != rank)
    return emitOpError("permutation must name each of the ") << rank << " dimensions once";
  return verifyDims(*this, getPermutation(), rank);
}

/// How many elements a step takes of `size`, rounded up without a sum that could overflow.
static int64_t countSteps(int64_t size, int64_t step) { return size / step + (size % step != 0); }

LogicalResult SliceOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                        SmallVectorImpl<Type> &types) {
  RankedTensorType input = ranked(adaptor.getInput());
  int64_t dim = adaptor.getDim(), start = adaptor.getStart(), end = adaptor.getEnd();
  int64_t step = adaptor.getStep();
  if (dim < 0 || dim >= input.getRank())
    return emitOptionalError(loc, "dimension ", dim, " is out of range for rank ", input.getRank());
  if (start < 0 || end < start || step < 1)
    return emitOptionalError(loc, "slice takes 0 <= start <= end and a step of 1 or more");
  int64_t extent = input.getDimSize(dim);
  SmallVector<int64_t> shape(input.getShape());
  if (end != kSliceToEnd) {
    if (!ShapedType::isDynamic(extent) && end > extent)
      return emitOptionalError(loc, "slice ends at ", end, " of a dimension of size ", extent);
    shape[dim] = countSteps(end - start, step);
  } else if (ShapedType::isDynamic(extent)) {
    shape[dim] = ShapedType::kDynamic;
  } else {
    shape[dim] = countSteps(std::max<int64_t>(extent - start, 0), step);
  }
  types.push_back(RankedTensorType::get(shape, input.getElementType()));
  return success();
}

LogicalResult SliceOp::verify() { return success(); }

LogicalResult SelectOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                         SmallVectorImpl<Type> &types) {
  RankedTensorType input = ranked(adaptor.getInput());
  int64_t dim = adaptor.getDim();
  if (dim < 0 || dim >= input.getRank())
    return emitOptionalError(loc, "dimension ", dim, " is out of range for rank ", input.getRank());
  SmallVector<int64_t> shape(input.getShape());
  shape.erase(shape.begin() + dim);
  types.push_back(RankedTensorType::get(shape, input.getElementType()));
  return success();
}

LogicalResult SelectOp::verify() {
  RankedTensorType input = ranked(getInput());
  // Which dimensions there are is checked with the result's type, after this.
  int64_t dim = getDim();
  if (dim < 0 || dim >= input.getRank())
    return success();
  int64_t extent = input.getDimSize(dim);
  if (int64_t index = getIndex(); index < 0 || (!ShapedType::isDynamic(extent) && index >= extent))
    return emitOpError("selects element ") << index << " of a dimension of size " << extent;
  return success();
}

LogicalResult UnsqueezeOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                            SmallVectorImpl<Type> &types) {
  RankedTensorType input = ranked(adaptor.getInput());
  int64_t dim = adaptor.getDim();
  if (dim < 0 || dim > input.getRank())
    return emitOptionalError(loc, "dimension ", dim, " is out of range for rank ", input.getRank());
  SmallVector<int64_t> shape(input.getShape());
  shape.insert(shape.begin() + dim, 1);
  types.push_back(RankedTensorType::get(shape, input.getElementType()));
  return success();
}

LogicalResult UnsqueezeOp::verify() { return success(); }

LogicalResult SqueezeOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                          SmallVectorImpl<Type> &types) {
  return inferReduction(loc, adaptor.getInput(), adaptor.getDims(), /*keepdim=*/false, types);
}

LogicalResult SqueezeOp::verify() {
  RankedTensorType input = ranked(getInput());
  if (failed(verifyDims(*this, getDims(), input.getRank())))
    return failure();
  for (int64_t dim : getDims())
    if (input.getDimSize(dim) != 1)
      return emitOpError("squeezes dimension ") << dim << " of size " << input.getDimSize(dim);
  return success();
}

LogicalResult CatOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                      SmallVectorImpl<Type> &types) {
  if (adaptor.getInputs().empty())
    return emitOptionalError(loc, "cat takes one operand or more");
  RankedTensorType first = ranked(adaptor.getInputs().front());
  int64_t dim = adaptor.getDim();
  if (dim < 0 || dim >= first.getRank())
    return emitOptionalError(loc, "dimension ", dim, " is out of range for rank ", first.getRank());
  SmallVector<int64_t> shape(first.getShape());
  shape[dim] = 0;
  for (Value input : adaptor.getInputs()) {
    RankedTensorType type = ranked(input);
    if (type.getRank() != first.getRank() || type.getElementType() != first.getElementType())
      return emitOptionalError(loc, "operands of cat differ in rank or element type: ", first, " and ", type);
    for (int64_t i = 0; i < first.getRank(); ++i) {
      int64_t size = type.getDimSize(i);
      if (i != dim && !compatible(size, shape[i]))
        return emitOptionalError(loc, "operands of cat differ in dimension ", i, ": ", first, " and ", type);
      if (i != dim)
        shape[i] = ShapedType::isDynamic(shape[i]) ? size : shape[i];
      else if (ShapedType::isDynamic(size) || ShapedType::isDynamic(shape[i]))
        shape[i] = ShapedType::kDynamic;
      else if (std::optional<int64_t> sum = llvm::checkedAdd(shape[i], size))
        shape[i] = *sum;
      else
        return emitOptionalError(loc, "the result of cat has more elements than can be counted");
    }
  }
  types.push_back(RankedTensorType::get(shape, first.getElementType()));
  return success();
}

LogicalResult CatOp::verify() { return success(); }

LogicalResult StackOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                        SmallVectorImpl<Type> &types) {
  if (adaptor.getInputs().empty())
    return emitOptionalError(loc, "stack takes one operand or more");
  RankedTensorType first = ranked(adaptor.getInputs().front());
  for (Value input : adaptor.getInputs())
    if (ranked(input) != first)
      return emitOptionalError(loc, "operands of stack differ: ", first, " and ", ranked(input));
  int64_t dim = adaptor.getDim();
  if (dim < 0 || dim > first.getRank())
    return emitOptionalError(loc, "dimension ", dim, " is out of range for rank ", first.getRank() + 1);
  SmallVector<int64_t> shape(first.getShape());
  shape.insert(shape.begin() + dim, adaptor.getInputs().size());
  types.push_back(RankedTensorType::get(shape, first.getElementType()));
  return success();
}

LogicalResult StackOp::verify() { return success(); }

static int64_t staticProduct(ArrayRef<int64_t> sizes) {
  int64_t product = 1;
  for (int64_t size : sizes)
    product *= ShapedType::isDynamic(size) ? 1 : size;
  return product;
}

std::optional<int64_t> mlir::pfcn::countCarriedDims(ArrayRef<int64_t> from, ArrayRef<int64_t> to) {
  int64_t carried = 0, shorter = std::min(from.size(), to.size());
  while (carried < shorter && from[carried] == to[carried])
    ++carried;
  for (; carried >= 0; --carried) {
    ArrayRef<int64_t> restFrom = from.drop_front(carried), restTo = to.drop_front(carried);
    auto dynamicFrom = llvm::count(restFrom, ShapedType::kDynamic);
    auto dynamicTo = llvm::count(restTo, ShapedType::kDynamic);
    bool isStatic = dynamicFrom == 0 && dynamicTo == 0;
    if (isStatic ? staticProduct(restFrom) == staticProduct(restTo) : dynamicFrom == 1 && dynamicTo == 1)
      return carried;
  }
  return std::nullopt;
}

LogicalResult ReshapeOp::verify() {
  RankedTensorType input = ranked(getInput()), result = ranked(getResult());
  if (input.getElementType() != result.getElementType())
    return emitOpError("must keep the element type");
  if (input.hasStaticShape() && result.hasStaticShape() && input.getNumElements() != result.getNumElements())
    return emitOpError("changes the number of elements from ")
           << input.getNumElements() << " to " << result.getNumElements();
  // Equal leading dimensions are carried over one by one; of the rest, one may be inferred.
  auto inferred = result.getShape();
  auto given = input.getShape();
  while (!inferred.empty() && !given.empty() && inferred.front() == given.front()) {
    inferred = inferred.drop_front();
    given = given.drop_front();
  }
  if (llvm::count(inferred, ShapedType::kDynamic) > 1)
    return emitOpError("has more than one dynamic dimension to infer");
  return success();
}

LogicalResult ExpandOp::verify() {
  RankedTensorType input = ranked(getInput()), result = ranked(getResult());
  if (input.getElementType() != result.getElementType())
    return emitOpError("must keep the element type");
  if (input.getRank() > result.getRank())
    return emitOpError("must not drop dimensions");
  ArrayRef<int64_t> tail = result.getShape().take_back(input.getRank());
  for (auto [from, to] : llvm::zip_equal(input.getShape(), tail))
    if (from != 1 && !compatible(from, to))
      return emitOpError("expands a dimension of size ") << from << " to " << to;
  return success();
}

//===----------------------------------------------------------------------------===//
// Leaves and foreign operators
//===----------------------------------------------------------------------------===//

/// Each instance has its size, which padding brings to `padded`.
static LogicalResult verifyPaddedSizes(Operation *op, ArrayRef<int64_t> sizes, int64_t count, int64_t padded) {
  if (static_cast<int64_t>(sizes.size()) != count)
    return op->emitOpError("has ") << sizes.size() << " sizes for " << count << " instances";
  for (int64_t size : sizes)
    if (size < 0 || size > padded)
      return op->emitOpError("pads a size of ") << size << " to " << padded;
  return success();
}

LogicalResult ParameterStackOp::verify() {
  RankedTensorType type = ranked(getResult());
  if (type.getRank() < 1 || type.getDimSize(0) != static_cast<int64_t>(getPaths().size()))
    return emitOpError("stacks ") << getPaths().size() << " parameters in a tensor of type " << type;
  if (getDim().has_value() != getSizes().has_value())
    return emitOpError("has `dim` and `sizes`, or neither");
  if (!getSizes())
    return success();
  auto dim = static_cast<int64_t>(*getDim());
  if (dim < 1 || dim >= type.getRank())
    return emitOpError("pads dimension ") << dim << " of a stack of rank " << type.getRank();
  return verifyPaddedSizes(*this, *getSizes(), type.getDimSize(0), type.getDimSize(dim));
}

template <typename Op> static LogicalResult verifyFresh(Op op) {
  int64_t dynamic = ranked(op.getResult()).getNumDynamicDims();
  if (static_cast<int64_t>(op.getDynamicSizes().size()) != dynamic)
    return op.emitOpError("takes one size per dynamic dimension, ") << dynamic << " here";
  return success();
}

LogicalResult EmptyOp::verify() { return verifyFresh(*this); }
LogicalResult ZerosOp::verify() { return verifyFresh(*this); }

template <typename Op> static LogicalResult verifyOpaqueArgument(Op op, Attribute argument) {
  if (auto list = dyn_cast<ArrayAttr>(argument)) {
    for (Attribute element : list)
      if (failed(verifyOpaqueArgument(op, element)))
        return failure();
    return success();
  }
  if (auto operand = dyn_cast<OperandAttr>(argument))
    if (operand.getIndex() < 0 || operand.getIndex() >= static_cast<int64_t>(op.getInputs().size()))
      return op.emitOpError("argument names operand ") << operand.getIndex() << " of " << op.getInputs().size();
  return success();
}

bool mlir::pfcn::keepsOrder(Operation *op) {
  if (auto opaque = dyn_cast<OpaqueOp>(op))
    return opaque.getEffect();
  return !isMemoryEffectFree(op);
}

static LogicalResult verifySizes(OpaqueOp op) {
  Attribute given = op->getAttr(sizesAttrName);
  if (!given)
    return success();
  auto list = dyn_cast<ArrayAttr>(given);
  auto isDimOf = [](ValueRange values, int64_t index, int64_t dim) {
    return index >= 0 && index < static_cast<int64_t>(values.size()) && dim >= 0 &&
           dim < ranked(values[index]).getRank();
  };
  for (Attribute entry : list ? list.getValue() : ArrayRef<Attribute>()) {
    auto size = dyn_cast<DenseI64ArrayAttr>(entry);
    if (!size || size.size() != 4 || !isDimOf(op.getResults(), size[0], size[1]) ||
        !isDimOf(op.getInputs(), size[2], size[3]))
      return op.emitOpError("'") << sizesAttrName << "' says nothing of sizes: " << entry;
  }
  return success(list != nullptr);
}

static LogicalResult verifyBatched(OpaqueOp op) {
  ArrayRef<bool> batched = *op.getBatched();
  if (batched.size() != op.getInputs().size())
    return op.emitOpError("says of ") << batched.size() << " operands if they are batched, and has "
                                      << op.getInputs().size();
  if (op.getNumResults() == 0)
    return op.emitOpError("is batched and has no result");
  std::optional<int64_t> count;
  auto isOfCount = [&](Value value) {
    RankedTensorType type = ranked(value);
    if (type.getRank() == 0 || type.isDynamicDim(0))
      return false;
    if (!count)
      count = type.getDimSize(0);
    return *count == type.getDimSize(0);
  };
  for (auto [input, isBatched] : llvm::zip_equal(op.getInputs(), batched))
    if (isBatched && !isOfCount(input))
      return op.emitOpError("operand of type ") << input.getType() << " does not carry the instances";
  for (Value result : op.getResults())
    if (!isOfCount(result))
      return op.emitOpError("result of type ") << result.getType() << " does not carry the instances";
  return success();
}

LogicalResult OpaqueOp::verify() {
  if (!getName().contains("::"))
    return emitOpError("operator name must be qualified, as in 'aten::relu'");
  if (failed(verifyOpaqueArgument(*this, getArguments())) || failed(verifySizes(*this)))
    return failure();
  return getBatched() ? verifyBatched(*this) : success();
}

LogicalResult ComposedOp::verify() {
  if (!getName().contains("::"))
    return emitOpError("operator name must be qualified, as in 'aten::relu'");
  if (failed(verifyOpaqueArgument(*this, getArguments())))
    return failure();
  if (!llvm::equal(getBodyBlock()->getArgumentTypes(), getInputs().getTypes()))
    return emitOpError("body must take the operands of the op");
  Operation *yield = getBodyBlock()->getTerminator();
  if (yield->getNumOperands() != 1 || yield->getOperand(0).getType() != getType())
    return emitOpError("body must yield one value of the type of the result");
  for (Operation &op : getBodyBlock()->without_terminator())
    if (!isa<BatchingOpInterface, ConstantOp>(op))
      return emitOpError("body may only hold compute ops of the dialect, not ") << op.getName();
  return success();
}

void OpaqueOp::getEffects(SmallVectorImpl<MemoryEffects::EffectInstance> &effects) {
  if (getRandom()) // as memory that is allocated: what is not used is not drawn, and nothing else is the same
    for (OpResult result : getResults())
      effects.emplace_back(MemoryEffects::Allocate::get(), result);
  if (!getEffect())
    return;
  effects.emplace_back(MemoryEffects::Read::get());
  effects.emplace_back(MemoryEffects::Write::get());
}

//===----------------------------------------------------------------------------===//
// Groups
//===----------------------------------------------------------------------------===//

template <typename GroupOp> static LogicalResult verifyGroup(GroupOp op, bool batched) {
  int64_t count = op.getCount();
  if (count < 1)
    return op.emitOpError("must have one instance or more");
  auto seen = [&](AccessAttr access, Value whole) {
    return batched ? access.getBatchedType(ranked(whole), count) : access.getInstanceType(ranked(whole));
  };
  auto check = [&](ArrayAttr accesses, ValueRange wholes, TypeRange inner, StringRef what) -> LogicalResult {
    if (accesses.size() != wholes.size() || inner.size() != wholes.size())
      return op.emitOpError("has ") << wholes.size() << " " << what << "s, " << accesses.size() << " accesses and "
                                    << inner.size() << " values in the body";
    for (auto [i, whole] : llvm::enumerate(wholes)) {
      auto access = cast<AccessAttr>(accesses[i]);
      if (failed(access.verifyFits([&] { return op.emitOpError(what) << " " << i << ": "; }, ranked(whole), count)))
        return failure();
      if (Type expected = seen(access, whole); expected != inner[i])
        return op.emitOpError(what) << " " << i << " is " << expected << " in the body, which has " << inner[i];
    }
    return success();
  };
  if (failed(check(op.getInputAccesses(), op.getInputs(), op.getBodyBlock()->getArgumentTypes(), "input")) ||
      failed(check(op.getInitAccesses(), op.getInits(), op.getYielded().getTypes(), "destination")))
    return failure();
  for (Attribute access : op.getInitAccesses())
    if (cast<AccessAttr>(access).isShared())
      return op.emitOpError("a destination cannot be shared by the instances");
  if (op.getResultTypes() != op.getInits().getTypes())
    return op.emitOpError("results must have the types of the destinations");
  return success();
}

/// `stacked` holds what the instances see of `whole`.
static LogicalResult verifyStacked(Operation *op, AccessAttr access, Value whole, Value stacked) {
  RankedTensorType type = ranked(stacked);
  if (access.isShared())
    return op->emitOpError("takes a slice or select access");
  if (type.getRank() < 1 || ShapedType::isDynamic(type.getDimSize(0)))
    return op->emitOpError("needs a static number of instances in the leading dimension");
  int64_t count = type.getDimSize(0);
  if (failed(access.verifyFits([&] { return op->emitOpError(); }, ranked(whole), count)))
    return failure();
  if (RankedTensorType expected = access.getBatchedType(ranked(whole), count); expected != type)
    return op->emitOpError("stacks the instances in ") << expected << ", not " << type;
  return success();
}

LogicalResult GatherInstancesOp::verify() {
  if (!getSizes())
    return verifyStacked(*this, getAccess(), getInput(), getResult());
  AccessAttr access = getAccess();
  RankedTensorType whole = ranked(getInput()), type = ranked(getResult());
  if (!access.isSlice() || access.getDim() < 0 || access.getDim() >= whole.getRank())
    return emitOpError("pads slices of a dimension of its input");
  if (type.getRank() < 1 || ShapedType::isDynamic(type.getDimSize(0)))
    return emitOpError("needs a static number of instances in the leading dimension");
  int64_t count = type.getDimSize(0);
  if (RankedTensorType expected = access.getBatchedType(whole, count); expected != type)
    return emitOpError("stacks the instances in ") << expected << ", not " << type;
  if (failed(verifyPaddedSizes(*this, *getSizes(), count, access.getSize())))
    return failure();
  return access.verifyFits([&] { return emitOpError(); }, whole, count, *getSizes());
}
LogicalResult ScatterInstancesOp::verify() { return verifyStacked(*this, getAccess(), getInit(), getInput()); }

LogicalResult InstancesOp::verify() { return verifyGroup(*this, /*batched=*/false); }
LogicalResult KernelOp::verify() { return verifyGroup(*this, /*batched=*/true); }

//===----------------------------------------------------------------------------===//
// Folders
//===----------------------------------------------------------------------------===//

OpFoldResult ConstantOp::fold(FoldAdaptor) { return getValue(); }

template <typename Op> static OpFoldResult foldToInput(Op op) {
  return op.getInput().getType() == op.getType() && op.getInput().getType().hasStaticShape() ? op.getInput() : Value();
}

OpFoldResult CastOp::fold(FoldAdaptor) { return getInput().getType() == getType() ? getInput() : Value(); }
OpFoldResult ReshapeOp::fold(FoldAdaptor) { return foldToInput(*this); }
OpFoldResult ExpandOp::fold(FoldAdaptor) { return foldToInput(*this); }
OpFoldResult PermuteOp::fold(FoldAdaptor) {
  return llvm::equal(getPermutation(), llvm::seq<int64_t>(0, getPermutation().size())) ? getInput() : Value();
}
OpFoldResult SliceOp::fold(FoldAdaptor) {
  bool whole = getStart() == 0 && getStep() == 1 && getInput().getType() == getType() &&
               (getEnd() == kSliceToEnd || !ShapedType::isDynamic(ranked(getInput()).getDimSize(getDim())));
  return whole ? getInput() : Value();
}
OpFoldResult CatOp::fold(FoldAdaptor) { return getInputs().size() == 1 ? getInputs().front() : Value(); }

#define GET_OP_CLASSES
#include "pfcn/Dialect/PfcnOps.cpp.inc"
