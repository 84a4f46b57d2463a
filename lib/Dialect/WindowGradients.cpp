//===- WindowGradients.cpp - gradients of convolutions, pooling, padding, batch_norm ---===//
//
// The gradient of a convolution's input is the transposed convolution, and that of its weight one of the
// input by the upstream gradient, samples and channels exchanged, and stride and dilation. Of a maximum torch's
// choice among equals: the first, or the last NaN.
//
//===----------------------------------------------------------------------------===//

#include "Expr.h"

using namespace mlir;
using namespace mlir::pfcn;

using Sizes = SmallVector<int64_t>;

/// The first elements of the last dimensions.
static Value cutBack(OpBuilder &builder, Location loc, Value value, ArrayRef<int64_t> sizes) {
  int64_t lead = ranked(value).getRank() - sizes.size();
  for (auto [i, size] : llvm::enumerate(sizes))
    if (ranked(value).getDimSize(lead + i) > size)
      value = SliceOp::create(builder, loc, value, lead + i, 0, size, 1);
  return value;
}

//===----------------------------------------------------------------------------===//
// Convolution
//===----------------------------------------------------------------------------===//

/// [N, groups * C, *S] as [C, groups * N, *S].
static Value exchangeChannels(OpBuilder &builder, Location loc, Value value, int64_t groups) {
  Sizes shape(ranked(value).getShape());
  int64_t samples = shape[0], channels = shape[1] / groups, offset = groups > 1 ? 1 : 0;
  Sizes permutation;
  if (groups > 1) {
    shape[1] = channels;
    shape.insert(shape.begin() + 1, groups);
    value = ReshapeOp::create(builder, loc, ranked(value).clone(shape), value);
    permutation = {2, 1, 0};
  } else {
    permutation = {1, 0};
  }
  for (int64_t dim = permutation.size(); dim < ranked(value).getRank(); ++dim)
    permutation.push_back(dim);
  value = PermuteOp::create(builder, loc, value, permutation);
  if (groups == 1)
    return value;
  shape.assign(ranked(value).getShape().begin() + offset, ranked(value).getShape().end());
  shape[0] = channels;
  shape.insert(shape.begin() + 1, ShapedType::isDynamic(samples) ? samples : groups * samples);
  shape.erase(shape.begin() + 2);
  return ReshapeOp::create(builder, loc, ranked(value).clone(shape), value);
}

static Value exchange(OpBuilder &builder, Location loc, Value value) {
  return exchangeChannels(builder, loc, value, /*groups=*/1);
}

static Value differentiateConvInput(ConvOp op, OpBuilder &builder, Value upstream) {
  int64_t spatial = op.getStride().size();
  ArrayRef<int64_t> wanted = ranked(op.getInput()).getShape().take_back(spatial);
  auto build = [&](bool transposed, ArrayRef<int64_t> outputPadding) {
    return ConvOp::create(builder, op.getLoc(), upstream, op.getWeight(), Value(), op.getStride(), op.getPadding(),
                          op.getDilation(), op.getGroups(), transposed, outputPadding);
  };
  if (op.getTransposed())
    return cutBack(builder, op.getLoc(), build(false, {}), wanted);
  // What the last window did not reach has no gradient; the padding of the result stands for it.
  Sizes beyond;
  for (int64_t i = 0; i < spatial; ++i) {
    int64_t places = ranked(upstream).getDimSize(i + 2), kernel = ranked(op.getWeight()).getDimSize(i + 2);
    int64_t reached =
        (places - 1) * op.getStride()[i] - 2 * op.getPadding()[i] + op.getDilation()[i] * (kernel - 1) + 1;
    beyond.push_back(wanted[i] - reached);
  }
  bool isNone = llvm::all_of(beyond, [](int64_t by) { return by == 0; });
  return build(true, isNone ? ArrayRef<int64_t>() : ArrayRef<int64_t>(beyond));
}

static Value differentiateConvWeight(ConvOp op, OpBuilder &builder, Value upstream) {
  Location loc = op.getLoc();
  Value slid = op.getTransposed() ? upstream : op.getInput(), window = op.getTransposed() ? op.getInput() : upstream;
  Value product = ConvOp::create(builder, loc, exchangeChannels(builder, loc, slid, op.getGroups()),
                                 exchange(builder, loc, window), Value(), op.getDilation(), op.getPadding(),
                                 op.getStride(), op.getGroups(), /*transposed=*/false, ArrayRef<int64_t>());
  product = cutBack(builder, loc, product, ranked(op.getWeight()).getShape().drop_front(2));
  return exchange(builder, loc, product);
}

Gradients ConvOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool> wanted) {
  ArrayRef<int64_t> input = ranked(getInput()).getShape();
  if (llvm::any_of(input.drop_front(), ShapedType::isDynamic) || llvm::is_contained(ranked(upstream).getShape(), 0))
    return failure();
  SmallVector<Value> gradients(getOperation()->getNumOperands());
  if (wanted[0])
    gradients[0] = differentiateConvInput(*this, builder, upstream);
  if (wanted[1])
    gradients[1] = differentiateConvWeight(*this, builder, upstream);
  if (getBias() && wanted[2]) {
    Sizes dims = {0};
    for (int64_t dim = 2; dim < ranked(upstream).getRank(); ++dim)
      dims.push_back(dim);
    gradients[2] = SumOp::create(builder, getLoc(), upstream, dims, /*keepdim=*/false);
  }
  return gradients;
}

//===----------------------------------------------------------------------------===//
// Batch normalisation
//===----------------------------------------------------------------------------===//

/// Torch has no gradient for the statistics.
Gradients BatchNormOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool> wanted) {
  Location loc = getLoc();
  int64_t channel = getChannel(), rank = ranked(getInput()).getRank();
  Sizes behind = llvm::to_vector(llvm::seq<int64_t>(1, rank - channel));
  auto align = [&](Value perChannel) {
    for (int64_t dim : behind)
      perChannel = UnsqueezeOp::create(builder, loc, perChannel, dim);
    return Expr{&builder, loc, perChannel}.widen();
  };
  auto finish = [&](Expr gradient, Value operand) {
    Expr sum = sumTo(gradient, align(operand).type()).to(ranked(operand).getElementType());
    return behind.empty() ? sum.value : SqueezeOp::create(builder, loc, sum.value, behind).getResult();
  };
  Expr g = Expr{&builder, loc, upstream}.widen(), x = Expr{&builder, loc, getInput()}.widen();
  Expr scale = (align(getVariance()) + getEps().convertToDouble()).apply<RsqrtOp>();
  SmallVector<Value> gradients(getOperation()->getNumOperands());
  if (wanted[0])
    gradients[0] =
        (g * (getWeight() ? scale * align(getWeight()) : scale)).to(ranked(getInput()).getElementType()).value;
  unsigned next = 3;
  if (Value weight = getWeight(); weight && wanted[next++])
    gradients[next - 1] = finish(g * ((x - align(getMean())) * scale), weight);
  if (Value bias = getBias(); bias && wanted[next])
    gradients[next] = finish(g, bias);
  return gradients;
}

//===----------------------------------------------------------------------------===//
// Padding and reversal
//===----------------------------------------------------------------------------===//

Gradients PadOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  int64_t lead = getInput().getType().getRank() - getLow().size();
  for (auto [i, low] : llvm::enumerate(getLow()))
    if (int64_t dim = lead + i; low != 0 || getHigh()[i] != 0)
      upstream = SliceOp::create(builder, getLoc(), upstream, dim, low, low + getInput().getType().getDimSize(dim), 1);
  return single(upstream);
}

Gradients FlipOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  return single(FlipOp::create(builder, getLoc(), upstream.getType(), upstream, getDims()));
}

//===----------------------------------------------------------------------------===//
// Pooling
//===----------------------------------------------------------------------------===//

namespace {
/// Windows over the last dimensions of a tensor.
struct Windows {
  OpBuilder &builder;
  Location loc;
  Value input;
  Sizes kernel, stride, padding, dilation, places;

  template <typename Op>
  Windows(Op op, OpBuilder &builder, ArrayRef<int64_t> dilation)
      : builder(builder), loc(op.getLoc()), input(op.getInput()), kernel(op.getKernel()), stride(op.getStride()),
        padding(op.getPadding()), dilation(dilation), places(op.getType().getShape().take_back(kernel.size())) {}

  int64_t getSpatial() const { return kernel.size(); }
  int64_t getLead() const { return ranked(input).getRank() - getSpatial(); }
  bool arePadded() const {
    return llvm::any_of(padding, [](int64_t by) { return by != 0; });
  }
  bool areSideBySide() const {
    for (int64_t i = 0; i < getSpatial(); ++i)
      if (padding[i] != 0 || dilation[i] != 1 || (stride[i] != kernel[i] && places[i] != 1) || places[i] < 1 ||
          places[i] * kernel[i] > ranked(input).getDimSize(getLead() + i))
        return false;
    return true;
  }
  bool areKnown() const {
    ArrayRef<int64_t> sizes = ranked(input).getShape().take_back(kernel.size());
    return llvm::none_of(sizes, ShapedType::isDynamic) && !llvm::is_contained(places, 0);
  }
  /// Elements of `value`, which is of the input's shape, as [..., places, kernel, places, kernel].
  Value split(Value value) const;
  /// The inverse of split, with zeros for what lies in no window.
  Value join(Value value) const;
  /// One element per place, as split would have it.
  Value spread(Value value) const;
  /// The input with enough around it for all windows.
  Value surround(Value value, double outside) const;
  /// Element `tap` of each window.
  Value take(Value surrounded, ArrayRef<int64_t> tap) const;
};
} // namespace

Value Windows::split(Value value) const {
  Sizes used;
  for (int64_t i = 0; i < getSpatial(); ++i)
    used.push_back(places[i] * kernel[i]);
  value = cutBack(builder, loc, value, used);
  Sizes shape(ranked(value).getShape().drop_back(getSpatial()));
  for (int64_t i = 0; i < getSpatial(); ++i)
    shape.append({places[i], kernel[i]});
  return ReshapeOp::create(builder, loc, ranked(value).clone(shape), value);
}

Value Windows::join(Value value) const {
  Sizes shape(ranked(value).getShape().drop_back(2 * getSpatial())), none(getSpatial(), 0), rest;
  for (int64_t i = 0; i < getSpatial(); ++i) {
    shape.push_back(places[i] * kernel[i]);
    rest.push_back(ranked(input).getDimSize(getLead() + i) - shape.back());
  }
  value = ReshapeOp::create(builder, loc, ranked(value).clone(shape), value);
  bool isWhole = llvm::all_of(rest, [](int64_t by) { return by == 0; });
  return isWhole ? value : PadOp::create(builder, loc, value, none, rest, APFloat(0.0)).getResult();
}

Value Windows::spread(Value value) const {
  for (int64_t i = 0; i < getSpatial(); ++i)
    value = UnsqueezeOp::create(builder, loc, value, getLead() + 2 * i + 1);
  return value;
}

Value Windows::surround(Value value, double outside) const {
  Sizes high;
  for (int64_t i = 0; i < getSpatial(); ++i) {
    int64_t reach = (places[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1;
    high.push_back(std::max<int64_t>(0, reach - ranked(value).getDimSize(getLead() + i) - padding[i]));
  }
  bool isWhole = !arePadded() && llvm::all_of(high, [](int64_t by) { return by == 0; });
  return isWhole ? value : PadOp::create(builder, loc, value, padding, high, APFloat(outside)).getResult();
}

Value Windows::take(Value surrounded, ArrayRef<int64_t> tap) const {
  for (int64_t i = 0; i < getSpatial(); ++i) {
    int64_t start = tap[i] * dilation[i];
    surrounded = SliceOp::create(builder, loc, surrounded, getLead() + i, start,
                                 start + (places[i] - 1) * stride[i] + 1, stride[i]);
  }
  return surrounded;
}

/// All elements of a window, in torch's order.
static SmallVector<Sizes> getTaps(ArrayRef<int64_t> kernel) {
  SmallVector<Sizes> taps = {{}};
  for (int64_t size : kernel) {
    SmallVector<Sizes> longer;
    for (const Sizes &tap : taps)
      for (int64_t k = 0; k < size; ++k) {
        longer.push_back(tap);
        longer.back().push_back(k);
      }
    taps = longer;
  }
  return taps;
}

/// The gradients of the elements of each window, each where its element lies.
static FailureOr<Value> addTaps(const Windows &windows, Value surrounded,
                                function_ref<Value(size_t, const Sizes &)> getGradient) {
  SmallVector<Sizes> taps = getTaps(windows.kernel);
  auto place = [&](Value part, Value whole, int64_t i, int64_t k) {
    int64_t start = k * windows.dilation[i], dim = windows.getLead() + i;
    return embed(windows.builder, windows.loc, part, whole, dim, start,
                 start + (windows.places[i] - 1) * windows.stride[i] + 1, windows.stride[i]);
  };
  // One dimension after the other, the last one first: what shares the taps before it is added up there.
  SmallVector<Value> parts;
  for (auto [i, tap] : llvm::enumerate(taps))
    parts.push_back(getGradient(i, tap));
  for (int64_t i = windows.getSpatial() - 1; i >= 0; --i) {
    SmallVector<Value> sums;
    for (size_t first = 0; first < parts.size(); first += windows.kernel[i]) {
      // The size of what is embedded: that of the surrounded input along `i`, of the places before it.
      Value whole = surrounded;
      for (int64_t before = 0; before < i; ++before)
        whole = SliceOp::create(windows.builder, windows.loc, whole, windows.getLead() + before, 0,
                                windows.places[before], 1);
      Value sum;
      for (int64_t k = 0; k < windows.kernel[i]; ++k) {
        FailureOr<Value> placed = place(parts[first + k], whole, i, k);
        if (failed(placed))
          return failure();
        sum = sum ? AddOp::create(windows.builder, windows.loc, sum, *placed).getResult() : *placed;
      }
      sums.push_back(sum);
    }
    parts = sums;
  }
  Value gradient = parts.front();
  for (int64_t i = 0; i < windows.getSpatial(); ++i) {
    int64_t dim = windows.getLead() + i, size = ranked(windows.input).getDimSize(dim), low = windows.padding[i];
    if (ranked(gradient).getDimSize(dim) != size)
      gradient = SliceOp::create(windows.builder, windows.loc, gradient, dim, low, low + size, 1);
  }
  return gradient;
}

/// More would be too much code: such a group trains on torch's functions.
static constexpr size_t kMostTaps = 64;

static Gradients differentiateOverlapping(const Windows &windows, Expr g, Expr result) {
  SmallVector<Sizes> taps = getTaps(windows.kernel);
  if (taps.size() > kMostTaps)
    return failure();
  Expr surrounded = g.with(windows.surround(windows.input, -std::numeric_limits<double>::infinity())), inside = g;
  if (surrounded.value != windows.input) {
    Expr input = g.with(windows.input);
    inside = g.with(windows.surround(expandTo(compare(Predicate::eq, g.constant(0.0), 0.0), input.value).value, 0.0));
  }
  SmallVector<Expr> isLargest, isNan;
  for (const Sizes &tap : taps) {
    Expr x = g.with(windows.take(surrounded.value, tap));
    Expr equal = compare(Predicate::eq, x, result);
    if (surrounded.value != windows.input)
      equal = equal.apply<BitwiseAndOp>(g.with(windows.take(inside.value, tap)));
    isLargest.push_back(equal);
    isNan.push_back(compare(Predicate::ne, x, x));
  }
  // The first of the largest, and the last NaN: what has been taken is passed on from tap to tap.
  auto takeOne = [&](MutableArrayRef<Expr> marks) {
    std::optional<Expr> taken;
    for (Expr &mark : marks) {
      Expr all = taken ? taken->apply<BitwiseOrOp>(mark) : mark;
      if (taken)
        mark = taken->apply<BitwiseXorOp>(all);
      taken = all;
    }
  };
  takeOne(isLargest);
  std::reverse(isNan.begin(), isNan.end());
  takeOne(isNan);
  std::reverse(isNan.begin(), isNan.end());
  FailureOr<Value> gradient = addTaps(windows, surrounded.value, [&](size_t i, const Sizes &) {
    return where(isLargest[i].apply<BitwiseOrOp>(isNan[i]), g, 0.0).value;
  });
  if (failed(gradient))
    return failure();
  return single(*gradient);
}

Gradients MaxPoolOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  Windows windows(*this, builder, getDilation());
  if (!windows.areKnown())
    return failure();
  Expr g{&builder, getLoc(), upstream}, result = g.with(getResult());
  if (!windows.areSideBySide())
    return differentiateOverlapping(windows, g, result);
  // Each element's place in its window, negative for NaN, of which the last counts; the least of the largest.
  Sizes shape, dims;
  for (int64_t i = 0; i < windows.getSpatial(); ++i) {
    shape.append({1, windows.kernel[i]});
    dims.push_back(windows.getLead() + 2 * i + 1);
  }
  SmallVector<float> numbers(getTaps(windows.kernel).size());
  std::iota(numbers.begin(), numbers.end(), 0.0F);
  auto type = RankedTensorType::get(shape, builder.getF32Type());
  Expr place = g.with(ConstantOp::create(builder, getLoc(), type, DenseElementsAttr::get(type, ArrayRef(numbers))));
  Expr x = g.with(windows.split(getInput())), largest = g.with(windows.spread(result.value));
  Expr others = where(compare(Predicate::eq, x, largest), place, static_cast<double>(numbers.size()));
  Expr key = where(compare(Predicate::ne, x, x), -1.0 - place, others);
  Expr first = g.with(AminOp::create(builder, getLoc(), key.value, dims, /*keepdim=*/true));
  Expr spread = g.with(windows.spread(upstream));
  return single(windows.join(where(compare(Predicate::eq, key, first), spread, 0.0).value));
}

/// How many elements each window counts, along one dimension.
static Sizes countElements(const Windows &windows, int64_t i, bool includesPadding) {
  int64_t size = ranked(windows.input).getDimSize(windows.getLead() + i), padding = windows.padding[i];
  Sizes counts;
  for (int64_t place = 0; place < windows.places[i]; ++place) {
    int64_t start = place * windows.stride[i] - padding, end = std::min(start + windows.kernel[i], size + padding);
    if (!includesPadding) {
      start = std::max<int64_t>(start, 0);
      end = std::min(end, size);
    }
    counts.push_back(end - start);
  }
  return counts;
}

Gradients AvgPoolOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  Windows windows(*this, builder, Sizes(getKernel().size(), 1));
  if (!windows.areKnown())
    return failure();
  Expr g = Expr{&builder, getLoc(), upstream}.widen();
  if (getDivisor()) {
    g = g / static_cast<double>(*getDivisor());
  } else {
    // The product of one number per dimension.
    for (int64_t i = 0; i < windows.getSpatial(); ++i) {
      Sizes counts = countElements(windows, i, getCountIncludePad()), shape(windows.getSpatial() - i, 1);
      shape.front() = counts.size();
      auto type = RankedTensorType::get(shape, g.type().getElementType());
      auto numbers = llvm::map_to_vector(counts, [&](int64_t count) -> Attribute {
        return builder.getFloatAttr(g.type().getElementType(), static_cast<double>(count));
      });
      if (llvm::all_equal(counts))
        g = g / static_cast<double>(counts.front());
      else
        g = g / g.with(ConstantOp::create(builder, getLoc(), type, DenseElementsAttr::get(type, numbers)));
    }
  }
  g = g.to(getType().getElementType());
  if (windows.areSideBySide()) {
    Expr spread = g.with(windows.spread(g.value));
    return single(windows.join(expandTo(spread, windows.split(getInput())).value));
  }
  if (getTaps(windows.kernel).size() > kMostTaps)
    return failure();
  FailureOr<Value> gradient =
      addTaps(windows, windows.surround(getInput(), 0.0), [&](size_t, const Sizes &) { return g.value; });
  if (failed(gradient))
    return failure();
  return single(*gradient);
}
