//===- Windows.cpp - convolutions, pooling, padding, reversal ---------------------===//
//
// A window is read where it lies: one nest whose reads add a loop over the window to the loop over its place. What
// lies outside of the input is put around it first. A transposed convolution is one over its input with
// zeros between the elements, and with the window reversed.
//
//===----------------------------------------------------------------------------===//

#include "Lowering.h"
#include "ScalarMath.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::pfcn;

using Shape = SmallVector<int64_t>;

//===----------------------------------------------------------------------------===//
// Padding
//===----------------------------------------------------------------------------===//

/// The tensor with `low` and `high` elements around its last dimensions, and `step` - 1 between theirs.
static Value surround(Lowering &lowering, Value tensor, ArrayRef<int64_t> low, ArrayRef<int64_t> high,
                      ArrayRef<int64_t> step, TypedAttr value) {
  auto isOne = [](int64_t by) { return by == 1; };
  auto isZero = [](int64_t by) { return by == 0; };
  if (llvm::all_of(low, isZero) && llvm::all_of(high, isZero) && llvm::all_of(step, isOne))
    return tensor;
  SmallVector<OpFoldResult> sizes = getSizes(lowering, tensor), inner = sizes;
  SmallVector<OpFoldResult> offsets(sizes.size(), lowering.getIndexAttr(0)),
      strides(sizes.size(), lowering.getIndexAttr(1));
  for (size_t i = 0; i < low.size(); ++i) {
    size_t dim = sizes.size() - low.size() + i;
    if (low[i] == 0 && high[i] == 0 && step[i] == 1)
      continue;
    int64_t size = ranked(tensor).getDimSize(dim);
    sizes[dim] = lowering.getIndexAttr((size - 1) * step[i] + 1 + low[i] + high[i]);
    offsets[dim] = lowering.getIndexAttr(low[i]);
    strides[dim] = lowering.getIndexAttr(step[i]);
  }
  Value empty = tensor::EmptyOp::create(lowering, sizes, ranked(tensor).getElementType());
  Value fill = linalg::FillOp::create(lowering, Value(arith::ConstantOp::create(lowering, value)), empty).getResult(0);
  return tensor::InsertSliceOp::create(lowering, tensor, fill, offsets, inner, strides);
}

static TypedAttr getNumber(Lowering &lowering, Type type, double value) {
  if (isa<FloatType>(type))
    return lowering.getFloatAttr(type, value);
  if (type.isInteger(1))
    return lowering.getBoolAttr(value != 0);
  return lowering.getIntegerAttr(type, static_cast<int64_t>(value));
}

static FailureOr<Value> lowerPad(Lowering &lowering, PadOp op) {
  Type type = op.getType().getElementType();
  return surround(lowering, op.getInput(), op.getLow(), op.getHigh(), Shape(op.getLow().size(), 1),
                  getNumber(lowering, type, op.getValue().convertToDouble()));
}

static FailureOr<Value> lowerFlip(Lowering &lowering, FlipOp op) {
  RankedTensorType type = ranked(op.getResult());
  SmallVector<AffineExpr> exprs;
  for (int64_t dim = 0; dim < type.getRank(); ++dim) {
    AffineExpr loop = lowering.getAffineDimExpr(dim);
    bool isReversed = llvm::is_contained(op.getDims(), dim);
    if (isReversed && type.isDynamicDim(dim))
      return lowering.decline("it reverses a dynamic dimension");
    exprs.push_back(isReversed ? type.getDimSize(dim) - 1 - loop : loop);
  }
  LoopNest nest(lowering, type.getShape());
  nest.readAt(op.getInput(), exprs);
  return nest.map(type.getElementType(), [](ImplicitLocOpBuilder &, ValueRange elements) { return elements[0]; });
}

//===----------------------------------------------------------------------------===//
// Convolution
//===----------------------------------------------------------------------------===//

/// Dimension `dim` as `groups` times what is left of it.
static Value splitGroups(Lowering &lowering, Value tensor, int64_t dim, int64_t groups) {
  if (groups == 1)
    return tensor;
  Shape shape(ranked(tensor).getShape());
  SmallVector<OpFoldResult> sizes = getSizes(lowering, tensor);
  SmallVector<ReassociationIndices> reassociation;
  for (int64_t from = 0, to = 0; from < static_cast<int64_t>(shape.size()); ++from) {
    reassociation.push_back({to++});
    if (from == dim)
      reassociation.back().push_back(to++);
  }
  int64_t rest = shape[dim] / groups;
  shape[dim] = rest;
  shape.insert(shape.begin() + dim, groups);
  sizes[dim] = lowering.getIndexAttr(rest);
  sizes.insert(sizes.begin() + dim, lowering.getIndexAttr(groups));
  auto type = RankedTensorType::get(shape, ranked(tensor).getElementType());
  return tensor::ExpandShapeOp::create(lowering, type, tensor, reassociation, sizes);
}

static Value joinGroups(Lowering &lowering, Value tensor, int64_t dim, int64_t groups) {
  if (groups == 1)
    return tensor;
  SmallVector<ReassociationIndices> reassociation;
  for (int64_t from = 0; from < ranked(tensor).getRank(); ++from) {
    reassociation.push_back({from});
    if (from == dim)
      reassociation.back().push_back(++from);
  }
  return tensor::CollapseShapeOp::create(lowering, tensor, reassociation);
}

namespace {
/// The loops of a convolution: [instance], sample, [group], channel, places; then input channel and window.
struct ConvLoops {
  SmallVector<AffineExpr> instance, sample, group, output, places, input, window;
};
} // namespace

static SmallVector<AffineExpr> join(std::initializer_list<ArrayRef<AffineExpr>> parts) {
  SmallVector<AffineExpr> all;
  for (ArrayRef<AffineExpr> part : parts)
    llvm::append_range(all, part);
  return all;
}

/// Where each place of a window is read.
static SmallVector<AffineExpr> slide(ArrayRef<AffineExpr> places, ArrayRef<AffineExpr> window, ArrayRef<int64_t> stride,
                                     ArrayRef<int64_t> dilation) {
  SmallVector<AffineExpr> exprs;
  for (size_t i = 0; i < places.size(); ++i)
    exprs.push_back(places[i] * stride[i] + window[i] * dilation[i]);
  return exprs;
}

/// The input with what the window reads beyond it. Fails where a transposed one would cut the input.
static FailureOr<Value> prepareInput(Lowering &lowering, ConvOp op, ArrayRef<int64_t> kernel) {
  TypedAttr zero = lowering.getZeroAttr(op.getType().getElementType());
  size_t spatial = kernel.size();
  if (!op.getTransposed())
    return surround(lowering, op.getInput(), op.getPadding(), op.getPadding(), Shape(spatial, 1), zero);
  Shape low, high;
  for (size_t i = 0; i < spatial; ++i) {
    low.push_back(op.getDilation()[i] * (kernel[i] - 1) - op.getPadding()[i]);
    high.push_back(low.back() + (op.getOutputPadding().empty() ? 0 : op.getOutputPadding()[i]));
    if (low.back() < 0 || high.back() < 0)
      return lowering.decline("it pads more than its window reaches");
  }
  return surround(lowering, op.getInput(), low, high, op.getStride(), zero);
}

static FailureOr<Value> lowerConv(Lowering &lowering, ConvOp op) {
  RankedTensorType type = ranked(op.getResult());
  int64_t spatial = op.getStride().size(), groups = op.getGroups();
  bool hasInstances = type.getRank() > spatial + 2;
  if (llvm::any_of(type.getShape().take_back(spatial), ShapedType::isDynamic))
    return lowering.decline("it convolves over a dynamic dimension");
  if (groups > 1 && ranked(op.getInput()).isDynamicDim(ranked(op.getInput()).getRank() - spatial - 1))
    return lowering.decline("it splits a dynamic number of channels into groups");
  Shape kernel(ranked(op.getWeight()).getShape().take_back(spatial));
  FailureOr<Value> padded = prepareInput(lowering, op, kernel);
  if (failed(padded))
    return failure();
  int64_t weightLead = ranked(op.getWeight()).getRank() - spatial - 2,
          inputLead = ranked(*padded).getRank() - spatial - 2;
  Value input = splitGroups(lowering, *padded, inputLead + 1, groups);
  Value weight = splitGroups(lowering, op.getWeight(), weightLead, groups);

  Shape parallel(type.getShape()), reduced;
  int64_t channel = hasInstances + 1;
  if (groups > 1) {
    parallel[channel] = parallel[channel] / groups;
    parallel.insert(parallel.begin() + channel, groups);
  }
  reduced.push_back(ranked(input).getDimSize(ranked(input).getRank() - spatial - 1));
  llvm::append_range(reduced, kernel);
  ConvLoops loops;
  unsigned next = 0;
  auto take = [&](SmallVector<AffineExpr> &exprs, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
      exprs.push_back(lowering.getAffineDimExpr(next++));
  };
  take(loops.instance, hasInstances);
  take(loops.sample, 1);
  take(loops.group, groups > 1);
  take(loops.output, 1);
  take(loops.places, spatial);
  take(loops.input, 1);
  take(loops.window, spatial);

  LoopNest nest(lowering, parallel, reduced);
  ArrayRef<AffineExpr> none;
  Shape ones(spatial, 1);
  ArrayRef<int64_t> stride = op.getTransposed() ? ArrayRef<int64_t>(ones) : op.getStride();
  SmallVector<AffineExpr> window(loops.window);
  if (op.getTransposed())
    for (int64_t i = 0; i < spatial; ++i)
      window[i] = kernel[i] - 1 - window[i];
  nest.readAt(input, join({inputLead ? ArrayRef(loops.instance) : none, loops.sample, loops.group, loops.input,
                           slide(loops.places, window, stride, op.getDilation())}));
  ArrayRef<AffineExpr> rows = loops.output, columns = loops.input;
  if (op.getTransposed())
    std::swap(rows, columns);
  nest.readAt(weight, join({weightLead ? ArrayRef(loops.instance) : none, loops.group, rows, columns, loops.window}));
  Type computeType = getComputeType(type.getElementType());
  FailureOr<Value> product = nest.reduce(lowering.getZeroAttr(computeType), multiplyAccumulate);
  if (failed(product))
    return failure();
  Value sum = joinGroups(lowering, *product, channel, groups);
  if (!op.getBias())
    return roundTo(lowering, sum, type.getElementType());
  Value bias = op.getBias();
  bool ownBias = ranked(bias).getRank() == 2;
  for (int64_t i = 0; i < spatial; ++i)
    bias = insertUnitDims(lowering, bias, ranked(bias).getRank());
  if (ownBias)
    bias = insertUnitDims(lowering, bias, 1);
  return addTo(lowering, sum, bias, /*alpha=*/1.0, /*beta=*/1.0, type.getElementType());
}

//===----------------------------------------------------------------------------===//
// Pooling
//===----------------------------------------------------------------------------===//

/// Combines each window. `outside` is the neutral element, which stands around the input.
static FailureOr<Value> reduceWindows(Lowering &lowering, Value input, ArrayRef<int64_t> result,
                                      ArrayRef<int64_t> kernel, ArrayRef<int64_t> stride, ArrayRef<int64_t> padding,
                                      ArrayRef<int64_t> dilation, TypedAttr outside, TypedAttr init, Payload combine) {
  int64_t rank = result.size(), spatial = kernel.size(), lead = rank - spatial;
  if (llvm::any_of(result.take_back(spatial), ShapedType::isDynamic))
    return lowering.decline("its windows slide over a dynamic dimension");
  Shape high;
  for (int64_t i = 0; i < spatial; ++i) {
    int64_t reach = (result[lead + i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1;
    high.push_back(std::max<int64_t>(0, reach - ranked(input).getDimSize(lead + i) - padding[i]));
  }
  input = surround(lowering, input, padding, high, Shape(spatial, 1), outside);
  SmallVector<AffineExpr> loops = llvm::map_to_vector(llvm::seq<int64_t>(0, rank + spatial),
                                                      [&](int64_t loop) { return lowering.getAffineDimExpr(loop); });
  ArrayRef<AffineExpr> all(loops);
  LoopNest nest(lowering, result, kernel);
  nest.readAt(input,
              join({all.take_front(lead), slide(all.slice(lead, spatial), all.take_back(spatial), stride, dilation)}));
  // Its shape alone says how large the window is.
  nest.readAt(tensor::EmptyOp::create(lowering, kernel, ranked(input).getElementType()), all.take_back(spatial));
  return nest.reduce(init, combine);
}

static FailureOr<Value> lowerMaxPool(Lowering &lowering, MaxPoolOp op) {
  auto type = cast<FloatType>(op.getType().getElementType());
  TypedAttr smallest = lowering.getFloatAttr(type, APFloat::getInf(type.getFloatSemantics(), /*Negative=*/true));
  return reduceWindows(lowering, op.getInput(), op.getType().getShape(), op.getKernel(), op.getStride(),
                       op.getPadding(), op.getDilation(), smallest, smallest,
                       [](ImplicitLocOpBuilder &builder, ValueRange elements) {
                         return maximum(Num{&builder, elements[2]}, Num{&builder, elements[0]}).value;
                       });
}

/// How many elements the window at each place of one dimension counts.
static Shape countElements(AvgPoolOp op, int64_t i) {
  int64_t spatial = op.getKernel().size(), lead = op.getType().getRank() - spatial;
  int64_t size = ranked(op.getInput()).getDimSize(lead + i), padding = op.getPadding()[i];
  Shape counts;
  for (int64_t place = 0; place < op.getType().getDimSize(lead + i); ++place) {
    int64_t start = place * op.getStride()[i] - padding, end = start + op.getKernel()[i];
    end = std::min(end, size + padding);
    if (!op.getCountIncludePad()) {
      start = std::max<int64_t>(start, 0);
      end = std::min(end, size);
    }
    counts.push_back(end - start);
  }
  return counts;
}

/// What each place is divided by: one number, or a tensor of them.
static DenseElementsAttr getDivisors(AvgPoolOp op, FloatType type) {
  int64_t spatial = op.getKernel().size();
  auto shape = RankedTensorType::get(op.getType().getShape().take_back(spatial), type);
  auto number = [&](double value) { return FloatAttr::get(type, value).getValue(); };
  if (op.getDivisor())
    return DenseElementsAttr::get(shape, number(static_cast<double>(*op.getDivisor())));
  SmallVector<double> products = {1.0};
  for (int64_t i = 0; i < spatial; ++i) {
    SmallVector<double> longer;
    for (double product : products)
      for (int64_t count : countElements(op, i))
        longer.push_back(product * static_cast<double>(count));
    products = longer;
  }
  return DenseElementsAttr::get(shape, llvm::map_to_vector(products, number));
}

static FailureOr<Value> lowerAvgPool(Lowering &lowering, AvgPoolOp op) {
  Type type = op.getType().getElementType(), computeType = getComputeType(type);
  ArrayRef<int64_t> shape = op.getType().getShape();
  auto addUp = [&](ImplicitLocOpBuilder &builder, ValueRange elements) -> Value {
    Value element = convertFloat(builder, elements[0], computeType);
    return arith::AddFOp::create(builder, elements[2], element, arith::FastMathFlags::reassoc);
  };
  FailureOr<Value> sum = reduceWindows(lowering, op.getInput(), shape, op.getKernel(), op.getStride(), op.getPadding(),
                                       Shape(op.getKernel().size(), 1), lowering.getZeroAttr(type),
                                       lowering.getZeroAttr(computeType), addUp);
  if (failed(sum))
    return failure();
  DenseElementsAttr divisors = getDivisors(op, cast<FloatType>(computeType));
  LoopNest nest(lowering, shape);
  nest.readTrailing(*sum);
  if (!divisors.isSplat())
    nest.readTrailing(arith::ConstantOp::create(lowering, divisors));
  return nest.map(type, [&](ImplicitLocOpBuilder &builder, ValueRange elements) {
    Value divisor = divisors.isSplat() ? Value(arith::ConstantOp::create(builder, divisors.getSplatValue<TypedAttr>()))
                                       : elements[1];
    return convertFloat(builder, (Num{&builder, elements[0]} / Num{&builder, divisor}).value, type);
  });
}

FailureOr<Value> mlir::pfcn::lowerWindows(Lowering &lowering, Operation *op) {
  return TypeSwitch<Operation *, FailureOr<Value>>(op)
      .Case([&](ConvOp conv) { return lowerConv(lowering, conv); })
      .Case([&](MaxPoolOp pool) { return lowerMaxPool(lowering, pool); })
      .Case([&](AvgPoolOp pool) { return lowerAvgPool(lowering, pool); })
      .Case([&](PadOp pad) { return lowerPad(lowering, pad); })
      .Case([&](FlipOp flip) { return lowerFlip(lowering, flip); });
}
