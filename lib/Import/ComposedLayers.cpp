//===- ComposedLayers.cpp - layers and movements of data as formulas --------------===//
//
// Normalisations by way of layer_norm, attention, gates, padding by copies, and reordering.
//
//===----------------------------------------------------------------------------===//

#include "Compose.h"

#include <cmath>
#include <limits>

namespace pfcn {
using namespace mlir;
using namespace mlir::pfcn;

using Sizes = SmallVector<int64_t>;

static constexpr double kInfinity = std::numeric_limits<double>::infinity();

static bool isKnown(at::ScalarType dtype) { return isNumber(dtype) || dtype == at::kBool; }

/// Argument 0 as it is, where all its sizes from dimension `from` on are known and none is 0.
static Expr whole(CallImporter &call, int64_t from = 0) {
  const TensorMeta &meta = call.meta(0);
  if (!isKnown(meta.dtype) || meta.dtype != call.resultDtype() || meta.rank() < from)
    return {};
  for (int64_t dim = 0; dim < meta.rank(); ++dim)
    if (meta.sizes[dim] == 0 || (dim >= from && meta.sizes[dim] == kDynamicSize))
      return {};
  return {&call.builder, call.loc, call.tensor(0)};
}

//===----------------------------------------------------------------------------===//
// Normalisations
//===----------------------------------------------------------------------------===//

static Expr normalize(Expr x, int64_t rank, double eps) {
  return x.make<LayerNormOp>(x.type(), x.value, Value(), Value(), x.builder->getI64IntegerAttr(rank),
                             x.builder->getF64FloatAttr(eps));
}

/// Scaled and moved by what each channel, dimension 1, has one of.
static Expr transformChannels(CallImporter &call, Expr x, size_t weight, size_t bias) {
  if (call.isTensor(weight))
    x = x * wide(call, weight).alignAt(1, x.rank());
  if (call.isTensor(bias))
    x = x + wide(call, bias).alignAt(1, x.rank());
  return x;
}

/// (input, num_groups, weight, bias, eps)
static bool groupNorm(CallImporter &call) {
  Expr x = whole(call, 1) ? wide(call, 0) : Expr();
  if (!x || x.rank() < 2)
    return false;
  int64_t groups = call.integer(1);
  Sizes shape(x.type().getShape()),
      rows = {shape[0], groups, ShapedType::getNumElements(ArrayRef(shape).drop_front()) / groups};
  Expr normal = normalize(x.reshape(rows), 1, call.number(4)).reshape(shape);
  return finish(call, transformChannels(call, normal, 2, 3));
}

/// (input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps, ...)
static bool instanceNorm(CallImporter &call) {
  Expr x = whole(call, 1) ? wide(call, 0) : Expr();
  if (!x || x.rank() < 3 || !call.flag(5) || call.isTensor(3))
    return false;
  return finish(call, transformChannels(call, normalize(x, x.rank() - 2, call.number(7)), 1, 2));
}

/// (input, normalized_shape, weight, eps)
static bool rmsNorm(CallImporter &call) {
  Expr x = wide(call, 0);
  if (!x || call.meta(0).dtype != call.resultDtype())
    return false;
  int64_t rank = static_cast<int64_t>(call.constant(1).toIntVector().size());
  auto dims = llvm::to_vector(llvm::seq<int64_t>(x.rank() - rank, x.rank()));
  double eps = call.resultDtype() == at::kDouble ? std::numeric_limits<double>::epsilon()
                                                 : std::numeric_limits<float>::epsilon();
  if (!call.isNone(3))
    eps = call.number(3);
  Expr result = x * rsqrt((x * x).reduce<MeanOp>(dims, true) + eps);
  if (call.isTensor(2))
    result = result * wide(call, 2);
  return finish(call, result);
}

//===----------------------------------------------------------------------------===//
// Attention and gates
//===----------------------------------------------------------------------------===//

static Expr lowerTriangle(Expr like, int64_t rows, int64_t columns) {
  Expr row = like.iota(rows, like.builder->getI64Type()), column = like.iota(columns, like.builder->getI64Type());
  return column <= row.unsqueeze(1);
}

/// (query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
static bool attention(CallImporter &call) {
  Expr query = wide(call, 0), key = wide(call, 1), value = wide(call, 2);
  bool isPlain = query && key && value && query.rank() >= 2 && query.rank() == key.rank() && call.number(4) == 0.0 &&
                 !call.flag(7);
  for (size_t i : {0, 1, 2})
    isPlain = isPlain && call.meta(i).dtype == call.resultDtype();
  int64_t width = isPlain ? query.size(query.rank() - 1) : ShapedType::kDynamic;
  if (!isPlain || ShapedType::isDynamic(width) || width == 0)
    return false;
  double scale = call.isNone(6) ? 1.0 / std::sqrt(static_cast<double>(width)) : call.number(6);
  Expr scaled = query * scale;
  Expr scores = scaled.make<BatchMatmulOp>(scaled.value, key.value, /*transpose_rhs=*/true);
  int64_t rank = scores.rank(), rows = scores.size(rank - 2), columns = scores.size(rank - 1);
  if (call.flag(5)) {
    if (ShapedType::isDynamic(rows) || ShapedType::isDynamic(columns))
      return false;
    scores = where(lowerTriangle(scores, rows, columns), scores, -kInfinity);
  }
  bool mayBeEmpty = false;
  if (call.isTensor(3)) {
    bool isBool = call.meta(3).dtype == at::kBool;
    scores = isBool ? where(in(call, 3, at::kBool), scores, -kInfinity) : scores + wide(call, 3);
    mayBeEmpty = true;
  }
  Expr isEmpty; // a row of which nothing is seen gives zeros, and has no gradient
  if (mayBeEmpty) {
    isEmpty = scores.reduce<AmaxOp>({rank - 1}, true) == -kInfinity;
    scores = where(isEmpty, 0.0, scores);
  }
  Expr weights = scores.make<SoftmaxOp>(scores.type(), scores.value, rank - 1);
  if (mayBeEmpty)
    weights = where(isEmpty, 0.0, weights);
  return finish(call, weights.make<MatmulOp>(weights.value, value.value));
}

/// Half of a dimension, times the sigmoid of the other half.
static bool gatedLinear(CallImporter &call) {
  Expr x = wide(call, 0);
  if (!x || x.rank() == 0)
    return false;
  int64_t dim = call.dim(1), size = x.size(dim);
  if (ShapedType::isDynamic(size))
    return false;
  return finish(call, x.slice(dim, 0, size / 2) * sigmoid(x.slice(dim, size / 2, size)));
}

/// (self, num_classes)
static bool oneHot(CallImporter &call) {
  Expr x = call.meta(0).dtype == at::kLong && call.integer(1) > 0 ? in(call, 0, at::kLong) : Expr();
  if (!x)
    return false;
  return call.finish((x.unsqueeze(x.rank()) == x.iota(call.integer(1), x.element())).cast(x.element()).value);
}

//===----------------------------------------------------------------------------===//
// Losses over classes
//===----------------------------------------------------------------------------===//

/// What the log-probabilities (N, C, ...) or (C) lose, for targets that are classes. `smoothing` of each target is
/// spread over all classes.
static bool lossOfClasses(CallImporter &call, Expr logits, size_t target, int64_t reduction, int64_t ignored,
                          double smoothing = 0.0) {
  int64_t dim = logits.rank() == 1 ? 0 : 1;
  Expr classes = in(call, target, at::kLong);
  Expr isClass = classes.unsqueeze(dim) == logits.iota(logits.size(dim), classes.element()).alignAt(dim, logits.rank());
  Expr loss = -where(isClass, logits, 0.0).reduce<SumOp>({dim});
  if (smoothing != 0.0)
    loss = loss * (1.0 - smoothing) - logits.reduce<SumOp>({dim}) * (smoothing / static_cast<double>(logits.size(dim)));
  Expr counts = (classes != static_cast<double>(ignored));
  loss = where(counts, loss, 0.0);
  auto dims = llvm::to_vector(llvm::seq<int64_t>(0, loss.rank()));
  if (reduction == kNone)
    return finish(call, loss);
  loss = loss.reduce<SumOp>(dims);
  if (reduction == kMean)
    loss = loss / counts.cast(loss.element()).reduce<SumOp>(dims);
  return finish(call, loss);
}

/// The same for targets that are probabilities.
static bool lossOfProbabilities(CallImporter &call, Expr logits, Expr target, int64_t reduction, double smoothing) {
  int64_t dim = logits.rank() == 1 ? 0 : 1;
  if (smoothing != 0.0)
    target = target * (1.0 - smoothing) + smoothing / static_cast<double>(logits.size(dim));
  return reduceLoss(call, -(logits * target).reduce<SumOp>({dim}), reduction);
}

static bool haveClasses(const CallImporter &call, size_t weight) {
  return call.isNone(weight) && call.meta(1).dtype == at::kLong && at::isFloatingType(call.meta(0).dtype) &&
         call.meta(0).rank() >= 1 && call.meta(0).rank() == call.meta(1).rank() + 1 &&
         call.meta(0).sizes[call.meta(0).rank() == 1 ? 0 : 1] != kDynamicSize;
}

static bool haveProbabilities(const CallImporter &call, size_t weight) {
  return call.isNone(weight) && at::isFloatingType(call.meta(0).dtype) && call.meta(1).dtype == call.meta(0).dtype &&
         call.meta(0).rank() >= 1 && call.meta(0).sizes == call.meta(1).sizes &&
         call.meta(0).sizes[call.meta(0).rank() == 1 ? 0 : 1] != kDynamicSize;
}

/// (self, target, weight, reduction, ignore_index, label_smoothing)
static bool crossEntropy(CallImporter &call) {
  bool isPlain = haveClasses(call, 2);
  if (!isPlain && !haveProbabilities(call, 2))
    return false;
  Expr x = wide(call, 0);
  int64_t dim = x.rank() == 1 ? 0 : 1;
  x = x.make<LogSoftmaxOp>(x.type(), x.value, dim);
  if (isPlain)
    return lossOfClasses(call, x, 1, call.integer(3), call.integer(4), call.number(5));
  Expr target = wide(call, 1);
  return target && lossOfProbabilities(call, x, target, call.integer(3), call.number(5));
}

/// (self, target, weight, reduction, ignore_index)
static bool negativeLikelihood(CallImporter &call) {
  return haveClasses(call, 2) && lossOfClasses(call, wide(call, 0), 1, call.integer(3), call.integer(4));
}

//===----------------------------------------------------------------------------===//
// Padding by what is there
//===----------------------------------------------------------------------------===//

static Expr reverse(Expr x, int64_t dim) { return x.make<FlipOp>(x.type(), x.value, ArrayRef<int64_t>{dim}); }

static Expr repeatEdge(Expr x, int64_t dim, int64_t at, int64_t count) {
  Expr edge = x.slice(dim, at, at + 1);
  Sizes shape(edge.type().getShape());
  shape[dim] = count;
  return edge.expand(shape);
}

enum class Padding { Reflect, Replicate, Circular };

static Expr padDim(Expr x, Padding mode, int64_t dim, int64_t low, int64_t high) {
  SmallVector<Expr> parts;
  int64_t size = x.size(dim);
  if (low > 0)
    parts.push_back(mode == Padding::Reflect     ? reverse(x.slice(dim, 1, low + 1), dim)
                    : mode == Padding::Replicate ? repeatEdge(x, dim, 0, low)
                                                 : x.slice(dim, size - low, size));
  parts.push_back(x);
  if (high > 0)
    parts.push_back(mode == Padding::Reflect     ? reverse(x.slice(dim, size - 1 - high, size - 1), dim)
                    : mode == Padding::Replicate ? repeatEdge(x, dim, size - 1, high)
                                                 : x.slice(dim, 0, high));
  return cat(parts, dim);
}

static bool buildCopies(CallImporter &call, Padding mode) {
  std::vector<int64_t> padding = call.constant(1).toIntVector();
  int64_t count = static_cast<int64_t>(padding.size() / 2);
  Expr x = whole(call, call.meta(0).rank() - count);
  if (!x || llvm::any_of(padding, [](int64_t by) { return by < 0; }))
    return false;
  for (int64_t i = 0; i < count; ++i)
    x = padDim(x, mode, x.rank() - 1 - i, padding[2 * i], padding[2 * i + 1]);
  return call.finish(x.value);
}
template <Padding mode> static bool padMode(CallImporter &call) { return buildCopies(call, mode); }

static std::optional<Padding> getMode(StringRef name) {
  if (name == "reflect")
    return Padding::Reflect;
  if (name == "replicate")
    return Padding::Replicate;
  if (name == "circular")
    return Padding::Circular;
  return std::nullopt;
}

bool padByCopies(CallImporter &call) {
  std::optional<Padding> mode = getMode(call.constant(2).toStringRef());
  return mode && buildCopies(call, *mode);
}

//===----------------------------------------------------------------------------===//
// Order
//===----------------------------------------------------------------------------===//

/// (self, shifts, dims)
static bool roll(CallImporter &call) {
  Expr x = whole(call);
  std::vector<int64_t> shifts = call.constant(1).toIntVector(), dims = call.constant(2).toIntVector();
  if (!x || dims.empty() || dims.size() != shifts.size() || x.rank() == 0)
    return false;
  for (auto [shift, given] : llvm::zip_equal(shifts, dims)) {
    int64_t dim = call.wrap(given, x.rank()), size = x.size(dim), start = ((-shift) % size + size) % size;
    if (start != 0)
      x = cat({x.slice(dim, start, size), x.slice(dim, 0, start)}, dim);
  }
  return call.finish(x.value);
}

/// Each dimension `counts` times, one copy behind the other.
static bool buildRepeat(CallImporter &call, std::vector<int64_t> counts) {
  Expr x = whole(call);
  if (!x || llvm::any_of(counts, [](int64_t count) { return count < 1; }))
    return false;
  if (static_cast<int64_t>(counts.size()) < x.rank())
    counts.insert(counts.begin(), x.rank() - counts.size(), 1);
  Sizes shape(counts.size() - x.rank(), 1), apart, repeated, result;
  llvm::append_range(shape, x.type().getShape());
  for (auto [size, count] : llvm::zip_equal(shape, counts)) {
    apart.append({1, size});
    repeated.append({count, size});
    result.push_back(size * count);
  }
  return call.finish(x.reshape(apart).expand(repeated).reshape(result).value);
}
static bool repeat(CallImporter &call) { return buildRepeat(call, call.constant(1).toIntVector()); }

/// (self, repeats, dim, ...): each element so often.
static bool repeatElements(CallImporter &call) {
  Expr x = whole(call);
  if (!x || x.rank() == 0 || call.integer(1) < 1)
    return false;
  if (call.isNone(2))
    x = x.reshape({x.type().getNumElements()});
  int64_t dim = call.isNone(2) ? 0 : call.dim(2);
  Sizes shape(x.type().getShape()), wide(shape);
  wide.insert(wide.begin() + dim + 1, call.integer(1));
  shape[dim] *= call.integer(1);
  return call.finish(x.unsqueeze(dim + 1).expand(wide).reshape(shape).value);
}

/// [.., C * r * r, H, W] to [.., C, H * r, W * r], and back.
static bool pixelShuffle(CallImporter &call) {
  Expr x = whole(call);
  if (!x || x.rank() < 3)
    return false;
  int64_t r = call.integer(1), rank = x.rank(), lead = rank - 3;
  Sizes shape(x.type().getShape()), apart(ArrayRef(shape).take_front(lead));
  apart.append({shape[lead] / (r * r), r, r, shape[lead + 1], shape[lead + 2]});
  auto order = llvm::to_vector(llvm::seq<int64_t>(0, lead));
  order.append({lead, lead + 3, lead + 1, lead + 4, lead + 2});
  return call.finish(x.reshape(apart).permute(order).reshape(call.resultType().getShape()).value);
}

static bool pixelUnshuffle(CallImporter &call) {
  Expr x = whole(call);
  if (!x || x.rank() < 3)
    return false;
  int64_t r = call.integer(1), rank = x.rank(), lead = rank - 3;
  Sizes shape(x.type().getShape()), apart(ArrayRef(shape).take_front(lead + 1));
  apart.append({shape[lead + 1] / r, r, shape[lead + 2] / r, r});
  auto order = llvm::to_vector(llvm::seq<int64_t>(0, lead));
  order.append({lead, lead + 2, lead + 4, lead + 1, lead + 3});
  return call.finish(x.reshape(apart).permute(order).reshape(call.resultType().getShape()).value);
}

/// (self, groups)
static bool channelShuffle(CallImporter &call) {
  Expr x = whole(call);
  if (!x || x.rank() < 3)
    return false;
  int64_t groups = call.integer(1);
  Sizes shape(x.type().getShape()), apart(shape);
  apart[1] = groups;
  apart.insert(apart.begin() + 2, shape[1] / groups);
  auto order = llvm::to_vector(llvm::seq<int64_t>(0, apart.size()));
  std::swap(order[1], order[2]);
  return call.finish(x.reshape(apart).permute(order).reshape(shape).value);
}

/// (input1, input2): the product of each element with each.
static bool outer(CallImporter &call) {
  at::ScalarType dtype = call.resultDtype();
  if (!isNumber(dtype))
    return false;
  Expr x = in(call, 0, dtype), y = in(call, 1, dtype);
  return x && y && call.finish((x.unsqueeze(1) * y).value);
}

/// (input1, input2, weight, bias): x W_o y for each output o.
static bool bilinear(CallImporter &call) {
  Expr x = wide(call, 0), y = wide(call, 1), weight = wide(call, 2);
  if (!x || !y || !weight || x.rank() < 1 || x.rank() != y.rank())
    return false;
  int64_t outputs = weight.size(0), left = weight.size(1), right = weight.size(2), rank = x.rank();
  if (rank == 1) {
    x = x.unsqueeze(0);
    y = y.unsqueeze(0);
  }
  int64_t last = x.rank() - 1;
  Expr flat = weight.permute({1, 0, 2}).reshape({left, outputs * right});
  Expr product = x.make<MatmulOp>(x.value, flat.value);
  Sizes apart(product.type().getShape());
  apart.back() = outputs;
  apart.push_back(right);
  Expr result = (product.reshape(apart) * y.unsqueeze(last)).reduce<SumOp>({last + 1});
  if (call.isTensor(3))
    result = result + wide(call, 3);
  return finish(call, rank == 1 ? result.squeeze(0) : result);
}

//===----------------------------------------------------------------------------===//
// Products with something added
//===----------------------------------------------------------------------------===//

/// beta * input + alpha * product; where beta is 0 the input does not matter, NaN and all.
static bool addScaled(CallImporter &call, Expr product) {
  double beta = call.number(3), alpha = call.number(4);
  if (alpha != 1.0)
    product = alpha * product;
  if (beta != 0.0) {
    Expr input = wide(call, 0);
    product = (beta == 1.0 ? input : beta * input) + product;
  } else {
    product = product.expand(call.resultType().getShape());
  }
  return finish(call, product);
}

static bool addMatrixVector(CallImporter &call) {
  Expr matrix = wide(call, 1), vector = wide(call, 2);
  if (!matrix || !vector || !wide(call, 0))
    return false;
  Expr product = matrix.make<MatmulOp>(matrix.value, vector.unsqueeze(1).value);
  return addScaled(call, product.squeeze(1));
}

static bool addOuter(CallImporter &call) {
  Expr x = wide(call, 1), y = wide(call, 2);
  return x && y && wide(call, 0) && addScaled(call, x.unsqueeze(1) * y);
}

static bool addBatchProducts(CallImporter &call) {
  Expr x = wide(call, 1), y = wide(call, 2);
  if (!x || !y || !wide(call, 0))
    return false;
  return addScaled(call, x.make<MatmulOp>(x.value, y.value).reduce<SumOp>({0}));
}

void addComposedLayers(AtenTable &table) {
  table.addSmooth({"group_norm"}, groupNorm);
  table.addSmooth({"instance_norm"}, instanceNorm);
  table.addSmooth({"rms_norm"}, rmsNorm);
  table.addSmooth({"scaled_dot_product_attention"}, attention);
  table.addSmooth({"glu"}, gatedLinear);
  table.addComposed({"one_hot"}, oneHot);
  table.addSmooth({"cross_entropy_loss"}, crossEntropy);
  table.addSmooth({"nll_loss", "nll_loss_nd"}, negativeLikelihood);
  table.addSmooth({"reflection_pad1d", "reflection_pad2d", "reflection_pad3d"}, padMode<Padding::Reflect>);
  table.addSmooth({"replication_pad1d", "replication_pad2d", "replication_pad3d"}, padMode<Padding::Replicate>);
  table.addSmooth({"_pad_circular"}, padMode<Padding::Circular>);
  table.addSmooth({"roll"}, roll);
  table.addSmooth({"repeat"}, repeat);
  table.addSmooth({"tile"}, repeat);
  table.addSmooth({"repeat_interleave.self_int"}, repeatElements);
  table.addSmooth({"pixel_shuffle"}, pixelShuffle);
  table.addSmooth({"pixel_unshuffle"}, pixelUnshuffle);
  table.addSmooth({"channel_shuffle", "native_channel_shuffle"}, channelShuffle);
  table.addSmooth({"outer", "ger"}, outer);
  table.addSmooth({"bilinear"}, bilinear);
  table.addSmooth({"addmv"}, addMatrixVector);
  table.addSmooth({"addr"}, addOuter);
  table.addSmooth({"addbmm"}, addBatchProducts);
}

} // namespace pfcn
