//===- AtenWindows.cpp - convolutions, pooling, padding, batch_norm ---------------===//
//
// Each operator of torch that one op of the dialect is. What takes several is in ComposedLayers.cpp.
//
//===----------------------------------------------------------------------------===//

#include "AtenTable.h"
#include "Expr.h"

namespace pfcn {
using namespace mlir;
using namespace mlir::pfcn;

using Sizes = SmallVector<int64_t>;

/// An argument `int[n]`, which may be given as one number for all.
static std::optional<Sizes> getSizes(const CallImporter &call, size_t i, size_t count) {
  const c10::IValue &value = call.constant(i);
  if (value.isInt())
    return Sizes(count, value.toInt());
  if (!value.isIntList())
    return std::nullopt;
  std::vector<int64_t> list = value.toIntVector();
  if (list.size() == 1)
    return Sizes(count, list[0]);
  if (list.size() != count)
    return std::nullopt;
  return Sizes(list.begin(), list.end());
}

static bool areFloats(const CallImporter &call, std::initializer_list<size_t> arguments) {
  return at::isFloatingType(call.resultDtype()) && llvm::all_of(arguments, [&](size_t i) {
           return !call.isTensor(i) || call.meta(i).dtype == call.resultDtype();
         });
}

//===----------------------------------------------------------------------------===//
// Convolution
//===----------------------------------------------------------------------------===//

namespace {
struct ConvArguments {
  Sizes stride, padding, dilation, outputPadding;
  int64_t groups = 1;
  bool isTransposed = false;
};
} // namespace

static bool buildConv(CallImporter &call, const ConvArguments &conv) {
  int64_t spatial = call.meta(1).rank() - 2;
  if (!areFloats(call, {0, 1, 2}) || spatial < 1)
    return false;
  Value input = call.tensor(0);
  bool isSingle = call.meta(0).rank() == spatial + 1;
  if (isSingle)
    input = UnsqueezeOp::create(call.builder, call.loc, input, int64_t(0));
  else if (call.meta(0).rank() != spatial + 2)
    return false;
  auto type = cast<RankedTensorType>(input.getType());
  if (llvm::any_of(type.getShape().drop_front(1), ShapedType::isDynamic) || llvm::is_contained(type.getShape(), 0))
    return false;
  Sizes outputPadding =
      llvm::any_of(conv.outputPadding, [](int64_t by) { return by != 0; }) ? conv.outputPadding : Sizes();
  Value result = ConvOp::create(call.builder, call.loc, input, call.tensor(1), call.tensor(2), conv.stride,
                                conv.padding, conv.dilation, conv.groups, conv.isTransposed, outputPadding);
  if (isSingle)
    result = SqueezeOp::create(call.builder, call.loc, result, ArrayRef<int64_t>{0});
  return call.finish(result);
}

/// (input, weight, bias, stride, padding, dilation, groups), with a padding that may be a word.
static bool conv(CallImporter &call) {
  size_t spatial = call.meta(1).rank() - 2;
  ConvArguments arguments;
  std::optional<Sizes> stride = getSizes(call, 3, spatial), dilation = getSizes(call, 5, spatial), padding;
  if (!stride || !dilation)
    return false;
  if (!call.constant(4).isString()) {
    padding = getSizes(call, 4, spatial);
  } else {
    padding = Sizes(spatial, 0);
    for (size_t i = 0; i < spatial && call.constant(4).toStringRef() == "same"; ++i) {
      int64_t total = (*dilation)[i] * (call.meta(1).sizes[i + 2] - 1);
      if (total % 2 != 0)
        return false; // more behind than before
      (*padding)[i] = total / 2;
    }
  }
  if (!padding)
    return false;
  arguments.stride = *stride;
  arguments.padding = *padding;
  arguments.dilation = *dilation;
  arguments.groups = call.integer(6);
  return buildConv(call, arguments);
}

/// (input, weight, bias, stride, padding, output_padding, groups, dilation)
static bool convTransposed(CallImporter &call) {
  size_t spatial = call.meta(1).rank() - 2;
  std::optional<Sizes> stride = getSizes(call, 3, spatial), padding = getSizes(call, 4, spatial);
  std::optional<Sizes> outputPadding = getSizes(call, 5, spatial), dilation = getSizes(call, 7, spatial);
  if (!stride || !padding || !outputPadding || !dilation)
    return false;
  return buildConv(call, {*stride, *padding, *dilation, *outputPadding, call.integer(6), true});
}

/// (input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)
static bool convolution(CallImporter &call) {
  size_t spatial = call.meta(1).rank() - 2;
  std::optional<Sizes> stride = getSizes(call, 3, spatial), padding = getSizes(call, 4, spatial);
  std::optional<Sizes> dilation = getSizes(call, 5, spatial), outputPadding = getSizes(call, 7, spatial);
  if (!stride || !padding || !dilation || !outputPadding)
    return false;
  return buildConv(call, {*stride, *padding, *dilation, *outputPadding, call.integer(8), call.flag(6)});
}

//===----------------------------------------------------------------------------===//
// Pooling
//===----------------------------------------------------------------------------===//

/// Whether the windows' dimensions, and there are some before them, have known sizes.
static bool canPool(const CallImporter &call, int64_t spatial) {
  if (!areFloats(call, {0}) || call.meta(0).rank() <= spatial)
    return false;
  for (int64_t i = 0; i < spatial; ++i)
    if (int64_t size = call.meta(0).sizes[call.meta(0).rank() - 1 - i]; size == kDynamicSize || size == 0)
      return false;
  return true;
}

/// The stride of a pooling: that of its windows where none is given.
static std::optional<Sizes> getStride(const CallImporter &call, size_t i, const Sizes &kernel) {
  if (call.isNone(i) || (call.constant(i).isIntList() && call.constant(i).toIntVector().empty()))
    return kernel;
  return getSizes(call, i, kernel.size());
}

/// (self, kernel_size, stride, padding, dilation, ceil_mode)
template <int spatial> static bool maxPool(CallImporter &call) {
  std::optional<Sizes> kernel = getSizes(call, 1, spatial);
  std::optional<Sizes> stride = kernel ? getStride(call, 2, *kernel) : std::nullopt;
  std::optional<Sizes> padding = getSizes(call, 3, spatial), dilation = getSizes(call, 4, spatial);
  if (!stride || !padding || !dilation || !canPool(call, spatial))
    return false;
  call.results.resize(call.resultCount()); // no indices
  call.results[0] =
      MaxPoolOp::create(call.builder, call.loc, call.tensor(0), *kernel, *stride, *padding, *dilation, call.flag(5));
  return true;
}

/// (self, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
template <int spatial> static bool avgPool(CallImporter &call) {
  std::optional<Sizes> kernel = getSizes(call, 1, spatial);
  std::optional<Sizes> stride = kernel ? getStride(call, 2, *kernel) : std::nullopt;
  std::optional<Sizes> padding = getSizes(call, 3, spatial);
  if (!stride || !padding || !canPool(call, spatial))
    return false;
  IntegerAttr divisor;
  if (call.size() > 6 && !call.isNone(6))
    divisor = call.builder.getI64IntegerAttr(call.integer(6));
  return call.finish(AvgPoolOp::create(call.builder, call.loc, call.tensor(0), *kernel, *stride, *padding, call.flag(4),
                                       call.flag(5), divisor));
}

/// To a size that divides the input's: windows side by side.
static std::optional<Sizes> getAdaptiveKernel(const CallImporter &call, int64_t spatial) {
  std::optional<Sizes> wanted = getSizes(call, 1, spatial);
  if (!wanted || !canPool(call, spatial))
    return std::nullopt;
  Sizes kernel;
  for (int64_t i = 0; i < spatial; ++i) {
    int64_t size = call.meta(0).sizes[call.meta(0).rank() - spatial + i], to = (*wanted)[i];
    if (to < 1 || size % to != 0)
      return std::nullopt;
    kernel.push_back(size / to);
  }
  return kernel;
}

template <int spatial> static bool adaptiveAvgPool(CallImporter &call) {
  std::optional<Sizes> kernel = getAdaptiveKernel(call, spatial);
  return kernel && call.finish(AvgPoolOp::create(call.builder, call.loc, call.tensor(0), *kernel, *kernel,
                                                 Sizes(spatial, 0), false, true, IntegerAttr()));
}

template <int spatial> static bool adaptiveMaxPool(CallImporter &call) {
  std::optional<Sizes> kernel = getAdaptiveKernel(call, spatial);
  if (!kernel)
    return false;
  call.results.resize(call.resultCount());
  call.results[0] = MaxPoolOp::create(call.builder, call.loc, call.tensor(0), *kernel, *kernel, Sizes(spatial, 0),
                                      Sizes(spatial, 1), false);
  return true;
}

//===----------------------------------------------------------------------------===//
// Batch normalisation, padding, reversal
//===----------------------------------------------------------------------------===//

/// (input, weight, bias, running_mean, running_var, training, momentum, eps, ...)
static bool batchNorm(CallImporter &call) {
  if (call.flag(5) || !call.tensor(3) || !call.tensor(4) || call.meta(0).rank() < 2 ||
      !areFloats(call, {0, 1, 2, 3, 4}))
    return false;
  return call.finishWith<BatchNormOp>(call.tensor(0), call.tensor(3), call.tensor(4), call.tensor(1), call.tensor(2),
                                      call.builder.getI64IntegerAttr(1), call.builder.getF64FloatAttr(call.number(7)));
}

/// Zeros, or another number, around the last dimensions; a negative padding cuts.
static bool buildPad(CallImporter &call, double value) {
  std::vector<int64_t> padding = call.constant(1).toIntVector(); // from the last dimension on
  at::ScalarType dtype = call.resultDtype();
  bool isKnown = isNumber(dtype) || (dtype == at::kBool && (value == 0 || value == 1));
  if (!isKnown || call.meta(0).dtype != dtype || llvm::is_contained(call.resultMeta().sizes, 0))
    return false;
  Expr input{&call.builder, call.loc, call.tensor(0)};
  Sizes low, high;
  for (size_t i = padding.size() / 2; i-- > 0;) {
    int64_t before = padding[2 * i], behind = padding[2 * i + 1], dim = input.rank() - 1 - static_cast<int64_t>(i);
    if (before == 0 && behind == 0) {
      low.push_back(0);
      high.push_back(0);
      continue;
    }
    if (ShapedType::isDynamic(input.size(dim)))
      return false;
    int64_t start = std::max<int64_t>(0, -before), end = input.size(dim) + std::min<int64_t>(0, behind);
    if (start >= end)
      return false;
    input = input.slice(dim, start, end);
    low.push_back(std::max<int64_t>(0, before));
    high.push_back(std::max<int64_t>(0, behind));
  }
  if (llvm::all_of(llvm::concat<int64_t>(low, high), [](int64_t by) { return by == 0; }))
    return call.finish(input.value);
  return call.finish(PadOp::create(call.builder, call.loc, input.value, low, high, llvm::APFloat(value)));
}

static bool constantPad(CallImporter &call) { return buildPad(call, call.number(2)); }

static bool pad(CallImporter &call) {
  if (call.constant(2).toStringRef() != "constant")
    return padByCopies(call);
  return buildPad(call, call.isNone(3) ? 0.0 : call.number(3));
}

static bool buildFlip(CallImporter &call, ArrayRef<int64_t> dims) {
  bool isKnown = isNumber(call.resultDtype()) || call.resultDtype() == at::kBool;
  if (!isKnown || llvm::is_contained(call.resultMeta().sizes, 0))
    return false;
  for (int64_t dim : dims)
    if (dim >= call.meta(0).rank() || call.meta(0).sizes[dim] == kDynamicSize)
      return false;
  return call.finishWith<FlipOp>(call.tensor(0), dims);
}

static bool flip(CallImporter &call) {
  bool isNone = call.constant(1).isIntList() && call.constant(1).toIntVector().empty();
  return !isNone && call.meta(0).rank() > 0 && buildFlip(call, call.dims(1));
}
template <int dim> static bool flipOne(CallImporter &call) { return buildFlip(call, {dim}); }

void addWindows(AtenTable &table) {
  table.add({"conv1d", "conv2d", "conv3d", "conv1d.padding", "conv2d.padding", "conv3d.padding", "_convolution_mode"},
            conv);
  table.add({"conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input"}, convTransposed);
  table.add({"convolution", "_convolution"}, convolution);
  table.add({"max_pool1d", "max_pool1d_with_indices"}, maxPool<1>);
  table.add({"max_pool2d", "max_pool2d_with_indices"}, maxPool<2>);
  table.add({"max_pool3d", "max_pool3d_with_indices"}, maxPool<3>);
  table.add({"avg_pool1d"}, avgPool<1>);
  table.add({"avg_pool2d"}, avgPool<2>);
  table.add({"avg_pool3d"}, avgPool<3>);
  table.add({"adaptive_avg_pool1d"}, adaptiveAvgPool<1>);
  table.add({"adaptive_avg_pool2d", "_adaptive_avg_pool2d"}, adaptiveAvgPool<2>);
  table.add({"adaptive_avg_pool3d", "_adaptive_avg_pool3d"}, adaptiveAvgPool<3>);
  table.add({"adaptive_max_pool1d"}, adaptiveMaxPool<1>);
  table.add({"adaptive_max_pool2d"}, adaptiveMaxPool<2>);
  table.add({"adaptive_max_pool3d"}, adaptiveMaxPool<3>);
  table.add({"batch_norm"}, batchNorm);
  table.add({"constant_pad_nd"}, constantPad);
  table.addSmooth({"pad"}, pad);
  table.add({"flip"}, flip);
  table.add({"fliplr"}, flipOne<1>);
  table.add({"flipud"}, flipOne<0>);
}

} // namespace pfcn
