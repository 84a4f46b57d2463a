//===- Windows.cpp - convolutions and pooling: shapes and batching ----------------===//
//
// Sizes follow torch's formulas. None of these ops names a dimension from the front, so a leading instance
// dimension changes nothing about them but what a convolution makes of its weight.
//
//===----------------------------------------------------------------------------===//

#include "Pointwise.h"

#include "mlir/IR/Builders.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::pfcn;

/// Of what is below this, products and their sums are exact.
static constexpr int64_t limit = int64_t{1} << 30;

static bool allWithin(ArrayRef<int64_t> values, int64_t least) {
  return llvm::all_of(values, [&](int64_t value) { return value >= least && value < limit; });
}

static bool allPositive(ArrayRef<int64_t> values) { return allWithin(values, 1); }

static bool noneNegative(ArrayRef<int64_t> values) { return allWithin(values, 0); }

/// Sizes along which windows move. One that is not known is negative.
static LogicalResult verifyWalked(std::optional<Location> loc, ArrayRef<int64_t> sizes) {
  for (int64_t size : sizes)
    if (size >= limit)
      return emitOptionalError(loc, "windows over ", size, " elements, where less than 2^30 are supported");
  return success();
}

//===----------------------------------------------------------------------------===//
// Convolution
//===----------------------------------------------------------------------------===//

static int64_t getConvSize(ConvOp::Adaptor op, int64_t i, int64_t input, int64_t kernel) {
  if (ShapedType::isDynamic(input))
    return ShapedType::kDynamic;
  int64_t stride = op.getStride()[i], padding = op.getPadding()[i], reach = op.getDilation()[i] * (kernel - 1);
  if (!op.getTransposed()) {
    int64_t rest = input + 2 * padding - reach - 1;
    return rest < 0 ? 0 : rest / stride + 1;
  }
  int64_t extra = op.getOutputPadding().empty() ? 0 : op.getOutputPadding()[i];
  return (input - 1) * stride - 2 * padding + reach + extra + 1;
}

LogicalResult ConvOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                       SmallVectorImpl<Type> &types) {
  RankedTensorType input = ranked(adaptor.getInput()), weight = ranked(adaptor.getWeight());
  int64_t spatial = adaptor.getStride().size(), rank = spatial + 2;
  auto isOne = [&](RankedTensorType type, int64_t plain) {
    return type.getRank() == plain || type.getRank() == plain + 1;
  };
  if (spatial < 1 || !isOne(input, rank) || !isOne(weight, rank))
    return emitOptionalError(loc, "convolution over ", spatial, " dimensions of an input of rank ", input.getRank(),
                             " with a weight of rank ", weight.getRank());
  for (size_t size :
       {adaptor.getPadding().size(), adaptor.getDilation().size(),
        adaptor.getOutputPadding().empty() ? adaptor.getStride().size() : adaptor.getOutputPadding().size()})
    if (static_cast<int64_t>(size) != spatial)
      return emitOptionalError(loc, "stride, padding and dilation must have one entry per dimension");
  if (!allPositive(adaptor.getStride()) || !allPositive(adaptor.getDilation()) || !noneNegative(adaptor.getPadding()) ||
      !noneNegative(adaptor.getOutputPadding()) || !allPositive(adaptor.getGroups()))
    return emitOptionalError(loc,
                             "stride, dilation and groups must be positive, paddings not negative, and all below 2^30");
  ArrayRef<int64_t> image = input.getShape().take_back(rank), filter = weight.getShape().take_back(rank);
  if (failed(verifyWalked(loc, image.drop_front())) || failed(verifyWalked(loc, filter.drop_front())))
    return failure();
  int64_t groups = adaptor.getGroups();
  // The gradient of a weight has the samples, of which the number may not be known, as channels.
  int64_t perGroup = ShapedType::isDynamic(filter[1]) ? filter[1] : filter[1] * groups;
  int64_t wanted = adaptor.getTransposed() ? filter[0] : perGroup;
  int64_t outputs = adaptor.getTransposed() ? perGroup : filter[0];
  auto isSplit = [&](int64_t channels) { return ShapedType::isDynamic(channels) || channels % groups == 0; };
  if (image[1] != wanted || !isSplit(outputs) || !isSplit(image[1]))
    return emitOptionalError(loc, "convolution of ", wanted, " channels in ", groups, " groups applied to ", image[1]);
  if (input.getElementType() != weight.getElementType())
    return emitOptionalError(loc, "input and weight of a convolution must have one element type");
  SmallVector<int64_t> shape;
  std::optional<int64_t> instances;
  auto addInstances = [&](RankedTensorType type, int64_t plain) {
    if (type.getRank() > plain)
      instances = type.getDimSize(0);
  };
  addInstances(input, rank);
  addInstances(weight, rank);
  if (Value bias = adaptor.getBias()) {
    if (!isOne(ranked(bias), 1) || ranked(bias).getShape().back() != outputs)
      return emitOptionalError(loc, "bias of a convolution must have one element per output channel");
    addInstances(ranked(bias), 1);
  }
  if (instances)
    shape.push_back(*instances);
  shape.append({image[0], outputs});
  for (int64_t i = 0; i < spatial; ++i)
    shape.push_back(getConvSize(adaptor, i, image[i + 2], filter[i + 2]));
  types.push_back(RankedTensorType::get(shape, input.getElementType()));
  return success();
}

//===----------------------------------------------------------------------------===//
// Pooling and padding
//===----------------------------------------------------------------------------===//

/// How many windows fit, as torch counts them: with `ceil` a last one starts inside of the input or its padding.
static int64_t countWindows(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation,
                            bool ceil) {
  if (ShapedType::isDynamic(size))
    return size;
  int64_t rest = size + 2 * padding - dilation * (kernel - 1) - 1;
  if (rest < 0 && !(ceil && rest + stride > 0))
    return 0;
  int64_t count =
      (ceil ? llvm::divideCeil(static_cast<uint64_t>(std::max<int64_t>(rest, 0)), static_cast<uint64_t>(stride))
            : rest / stride) +
      1;
  if (ceil && (count - 1) * stride >= size + padding)
    --count;
  return count;
}

static LogicalResult inferPool(std::optional<Location> loc, Value input, ArrayRef<int64_t> kernel,
                               ArrayRef<int64_t> stride, ArrayRef<int64_t> padding, ArrayRef<int64_t> dilation,
                               bool ceil, SmallVectorImpl<Type> &types) {
  RankedTensorType type = ranked(input);
  int64_t spatial = kernel.size();
  if (spatial < 1 || type.getRank() < spatial || stride.size() != kernel.size() || padding.size() != kernel.size() ||
      (!dilation.empty() && dilation.size() != kernel.size()))
    return emitOptionalError(loc, "pooling takes one entry of each kind for each of its dimensions");
  if (!allPositive(kernel) || !allPositive(stride) || !allPositive(dilation) || !noneNegative(padding))
    return emitOptionalError(
        loc, "windows, strides and dilations must be positive, paddings not negative, and all below 2^30");
  SmallVector<int64_t> shape(type.getShape());
  if (failed(verifyWalked(loc, type.getShape().take_back(spatial))))
    return failure();
  for (int64_t i = 0; i < spatial; ++i) {
    int64_t &size = shape[type.getRank() - spatial + i];
    size = countWindows(size, kernel[i], stride[i], padding[i], dilation.empty() ? 1 : dilation[i], ceil);
  }
  types.push_back(RankedTensorType::get(shape, type.getElementType()));
  return success();
}

LogicalResult MaxPoolOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                          SmallVectorImpl<Type> &types) {
  return inferPool(loc, adaptor.getInput(), adaptor.getKernel(), adaptor.getStride(), adaptor.getPadding(),
                   adaptor.getDilation(), adaptor.getCeilMode(), types);
}

LogicalResult AvgPoolOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                          SmallVectorImpl<Type> &types) {
  return inferPool(loc, adaptor.getInput(), adaptor.getKernel(), adaptor.getStride(), adaptor.getPadding(), {},
                   adaptor.getCeilMode(), types);
}

LogicalResult PadOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                      SmallVectorImpl<Type> &types) {
  RankedTensorType type = ranked(adaptor.getInput());
  ArrayRef<int64_t> low = adaptor.getLow(), high = adaptor.getHigh();
  if (low.size() != high.size() || static_cast<int64_t>(low.size()) > type.getRank() || !noneNegative(low) ||
      !noneNegative(high))
    return emitOptionalError(loc, "pad takes as many low as high paddings, none of them negative or beyond 2^30");
  SmallVector<int64_t> shape(type.getShape());
  if (failed(verifyWalked(loc, type.getShape().take_back(low.size()))))
    return failure();
  for (size_t i = 0; i < low.size(); ++i) {
    int64_t &size = shape[shape.size() - low.size() + i];
    if (!ShapedType::isDynamic(size))
      size += low[i] + high[i];
    else if (low[i] + high[i] != 0)
      return emitOptionalError(loc, "pads a dynamic dimension");
  }
  types.push_back(RankedTensorType::get(shape, type.getElementType()));
  return success();
}

//===----------------------------------------------------------------------------===//
// Batching
//===----------------------------------------------------------------------------===//

#define PFCN_SAME_WITH_INSTANCES(Op)                                                                                   \
  FailureOr<SmallVector<Value>> Op::batch(OpBuilder &builder, ArrayRef<BatchedValue> operands, int64_t count) {        \
    return cloneBatched(*this, builder,                                                                                \
                        llvm::map_to_vector(operands, [](const BatchedValue &operand) { return operand.value; }),      \
                        count);                                                                                        \
  }
PFCN_SAME_WITH_INSTANCES(ConvOp)
PFCN_SAME_WITH_INSTANCES(MaxPoolOp)
PFCN_SAME_WITH_INSTANCES(AvgPoolOp)
PFCN_SAME_WITH_INSTANCES(PadOp)
#undef PFCN_SAME_WITH_INSTANCES
