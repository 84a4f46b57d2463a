//===- ComposedReductions.cpp - reductions as formulas ----------------------------===//
//
// Norms, variances, extremes with their places, and running sums of short dimensions.
//
//===----------------------------------------------------------------------------===//

#include "Compose.h"

#include <limits>

namespace pfcn {
using namespace mlir;
using namespace mlir::pfcn;

using Dims = SmallVector<int64_t>;

static constexpr double kInfinity = std::numeric_limits<double>::infinity();

static Dims allDims(const CallImporter &call, size_t of = 0) {
  return llvm::to_vector(llvm::seq<int64_t>(0, call.meta(of).rank()));
}

static Dims dimsOrAll(const CallImporter &call, size_t i) { return call.isNone(i) ? allDims(call) : call.dims(i); }

/// How many elements are reduced; none where that is not known.
static std::optional<double> countElements(const CallImporter &call, ArrayRef<int64_t> dims) {
  double count = 1;
  for (int64_t dim : dims) {
    if (call.meta(0).sizes[dim] == kDynamicSize)
      return std::nullopt;
    count *= static_cast<double>(call.meta(0).sizes[dim]);
  }
  return count;
}

//===----------------------------------------------------------------------------===//
// Variance
//===----------------------------------------------------------------------------===//

/// Its gradient at zero is zero, as torch has it for roots of sums of squares.
static Expr rootOfSquares(Expr sum) { return sqrt(where(sum == 0.0, 0.0, sum)); }

/// Of the result, or the first result, in two passes: the variance or its root, and the mean where it is wanted too.
static bool buildVariance(CallImporter &call, ArrayRef<int64_t> dims, double correction, bool keepdim, bool isRoot,
                          bool withMean) {
  Expr x = wide(call, 0);
  std::optional<double> count = countElements(call, dims);
  if (!x || !count || dims.empty() || *count - correction <= 0 || at::isComplexType(call.meta(0).dtype))
    return false;
  Expr mean = x.reduce<MeanOp>(dims, /*keepdim=*/true), centered = x - mean;
  Expr result = (centered * centered).reduce<SumOp>(dims, keepdim) / (*count - correction);
  if (isRoot)
    result = rootOfSquares(result);
  if (!withMean)
    return finish(call, result);
  return finish(call, result) && finish(call, keepdim ? mean : mean.make<SqueezeOp>(mean.value, dims));
}

/// (self, unbiased)
template <bool isRoot, bool withMean> static bool variance(CallImporter &call) {
  return buildVariance(call, allDims(call), call.flag(1), false, isRoot, withMean);
}
/// (self, dims, unbiased, keepdim)
template <bool isRoot, bool withMean> static bool varianceOfDims(CallImporter &call) {
  return buildVariance(call, dimsOrAll(call, 1), call.flag(2), call.flag(3), isRoot, withMean);
}
/// (self, dims, correction, keepdim)
template <bool isRoot, bool withMean> static bool varianceCorrected(CallImporter &call) {
  double correction = call.isNone(2) ? 1.0 : call.number(2);
  return buildVariance(call, dimsOrAll(call, 1), correction, call.flag(3), isRoot, withMean);
}

//===----------------------------------------------------------------------------===//
// Norms
//===----------------------------------------------------------------------------===//

static Expr getNorm(Expr x, double order, ArrayRef<int64_t> dims, bool keepdim) {
  if (order == 0.0)
    return (x != 0.0).cast(x.element()).reduce<SumOp>(dims, keepdim);
  if (order == 2.0)
    return rootOfSquares((x * x).reduce<SumOp>(dims, keepdim));
  Expr size = abs(x);
  if (order == 1.0)
    return size.reduce<SumOp>(dims, keepdim);
  if (order == kInfinity)
    return size.reduce<AmaxOp>(dims, keepdim);
  if (order == -kInfinity)
    return size.reduce<AminOp>(dims, keepdim);
  Expr sum = pow(size, x.constant(order)).reduce<SumOp>(dims, keepdim);
  return pow(sum, x.constant(1.0 / order));
}

/// Whether the gradient of the formula is torch's at zero too.
static bool isSmoothNorm(double order) { return order == 1.0 || order == 2.0 || std::abs(order) == kInfinity; }

static bool buildNorm(CallImporter &call, double order, ArrayRef<int64_t> dims, bool keepdim) {
  Expr x = wide(call, 0);
  bool hasElements = countElements(call, dims).value_or(1) > 0;
  if (!x || dims.empty() || !hasElements || at::isComplexType(call.meta(0).dtype))
    return false;
  call.isSmooth = isSmoothNorm(order);
  return finish(call, getNorm(x, order, dims, keepdim));
}

static double getOrder(const CallImporter &call, size_t i) { return call.isNone(i) ? 2.0 : call.number(i); }

/// (self, ord, dim, keepdim)
static bool vectorNorm(CallImporter &call) {
  return buildNorm(call, getOrder(call, 1), dimsOrAll(call, 2), call.flag(3));
}
static bool norm(CallImporter &call) { return buildNorm(call, getOrder(call, 1), allDims(call), false); }

/// (self, other, p)
static bool distance(CallImporter &call) {
  Expr x = wide(call, 0), y = wide(call, 1);
  if (!x || !y)
    return false;
  Expr difference = x - y;
  call.isSmooth = isSmoothNorm(call.number(2));
  auto dims = llvm::to_vector(llvm::seq<int64_t>(0, difference.rank()));
  return !dims.empty() && finish(call, getNorm(difference, call.number(2), dims, false));
}

/// (x1, x2, p, eps, keepdim)
static bool pairwiseDistance(CallImporter &call) {
  Expr x = wide(call, 0), y = wide(call, 1);
  if (!x || !y)
    return false;
  Expr difference = x - y + call.number(3);
  call.isSmooth = isSmoothNorm(call.number(2));
  return difference.rank() > 0 &&
         finish(call, getNorm(difference, call.number(2), {difference.rank() - 1}, call.flag(4)));
}

/// (x1, x2, dim, eps)
static bool cosineSimilarity(CallImporter &call) {
  Expr x = wide(call, 0), y = wide(call, 1);
  if (!x || !y)
    return false;
  int64_t rank = std::max(x.rank(), y.rank()), dim = call.wrap(call.integer(2), rank);
  if (x.rank() != rank || y.rank() != rank || rank == 0)
    return false;
  // Torch broadcasts first: a single element that stands for n has the norm of n.
  int64_t size = x.size(dim) == 1 ? y.size(dim) : x.size(dim);
  for (Expr *value : {&x, &y}) {
    if (value->size(dim) == size)
      continue;
    if (ShapedType::isDynamic(size) || value->size(dim) != 1)
      return false;
    Dims shape(value->type().getShape());
    shape[dim] = size;
    *value = value->expand(shape);
  }
  auto normalize = [&](Expr value) { return value / maximum(getNorm(value, 2.0, {dim}, true), call.number(3)); };
  return finish(call, (normalize(x) * normalize(y)).reduce<SumOp>({dim}));
}

/// log(sum(exp(x))), shifted by the largest.
static bool logSumExp(CallImporter &call) {
  Expr x = wide(call, 0);
  Dims dims = call.dims(1);
  bool keepdim = call.flag(2);
  if (!x || dims.empty() || countElements(call, dims).value_or(1) == 0)
    return false;
  Expr largest = x.reduce<AmaxOp>(dims, true);
  Expr shift = where(abs(largest) == kInfinity, 0.0, largest).apply<DetachOp>();
  Expr result = log(exp(x - shift).reduce<SumOp>(dims, true)) + shift;
  return finish(call, keepdim ? result : result.make<SqueezeOp>(result.value, dims));
}

//===----------------------------------------------------------------------------===//
// What counts, and where
//===----------------------------------------------------------------------------===//

static bool buildNanSum(CallImporter &call, bool isMean) {
  Expr x = wide(call, 0);
  Dims dims = dimsOrAll(call, 1);
  if (!x || dims.empty() || !at::isFloatingType(call.meta(0).dtype))
    return false;
  Expr sum = where(isNan(x), 0.0, x).reduce<SumOp>(dims, call.flag(2));
  if (isMean)
    sum = sum / (x == x).cast(x.element()).reduce<SumOp>(dims, call.flag(2));
  return finish(call, sum);
}
static bool nanSum(CallImporter &call) { return buildNanSum(call, false); }
static bool nanMean(CallImporter &call) { return buildNanSum(call, true); }

/// (self), (self, dims)
static bool countNonzero(CallImporter &call) {
  at::ScalarType dtype = call.meta(0).dtype;
  Expr x = isNumber(dtype) || dtype == at::kBool ? in(call, 0, dtype) : Expr();
  Dims dims = call.size() > 1 ? dimsOrAll(call, 1) : allDims(call);
  if (!x || dims.empty())
    return false;
  return call.finish((x != 0.0).cast(call.builder.getI64Type()).reduce<SumOp>(dims).value);
}

/// Where the extreme is first met: the smallest index at which the element is it. The first NaN wins, as in torch.
static Expr getPlace(Expr x, Expr extreme, int64_t dim, bool keepdim) {
  Type index = x.builder->getI64Type();
  int64_t count = x.size(dim);
  Expr places = x.iota(count, index).alignAt(dim, x.rank());
  Expr isExtreme = x == extreme;
  if (isa<FloatType>(x.element()))
    isExtreme = isExtreme | isNan(x);
  return where(isExtreme, places, places.constant(static_cast<double>(count))).reduce<AminOp>({dim}, keepdim);
}

/// (self, dim, keepdim); of all elements where there is no dimension.
template <typename Op> static bool place(CallImporter &call) {
  at::ScalarType dtype = call.meta(0).dtype;
  Expr x = isNumber(dtype) ? in(call, 0, dtype) : Expr();
  if (!x || x.rank() == 0 || !x.type().hasStaticShape() || x.type().getNumElements() == 0)
    return false;
  if (!call.isNone(1)) {
    int64_t dim = call.dim(1);
    return call.finish(getPlace(x, x.reduce<Op>({dim}, true), dim, call.flag(2)).value);
  }
  int64_t rank = x.rank();
  x = x.reshape({x.type().getNumElements()});
  Expr result = getPlace(x, x.reduce<Op>({0}, true), 0, false);
  return call.finish((call.flag(2) ? result.reshape(Dims(rank, 1)) : result).value);
}

/// The extremes of a dimension and their places.
template <typename Op> static bool extremeAndPlace(CallImporter &call) {
  at::ScalarType dtype = call.meta(0).dtype;
  Expr x = isNumber(dtype) ? in(call, 0, dtype) : Expr();
  if (!x || x.rank() == 0)
    return false;
  int64_t dim = call.dim(1);
  if (ShapedType::isDynamic(x.size(dim)) || x.size(dim) == 0)
    return false;
  bool keepdim = call.flag(2);
  call.finish(x.reduce<Op>({dim}, keepdim).value);
  return call.finish(getPlace(x, x.reduce<Op>({dim}, true), dim, keepdim).value);
}

/// (self, dim, keepdim)
static bool bothExtremes(CallImporter &call) {
  at::ScalarType dtype = call.meta(0).dtype;
  Expr x = isNumber(dtype) ? in(call, 0, dtype) : Expr();
  if (!x || x.rank() == 0)
    return false;
  Dims dims = call.isNone(1) ? allDims(call) : Dims{call.dim(1)};
  if (countElements(call, dims).value_or(1) == 0)
    return false;
  return call.finish(x.reduce<AminOp>(dims, call.flag(2)).value) &&
         call.finish(x.reduce<AmaxOp>(dims, call.flag(2)).value);
}

//===----------------------------------------------------------------------------===//
// Running sums
//===----------------------------------------------------------------------------===//

/// (self, dim, dtype): written out, so of short dimensions only.
template <typename Op> static bool running(CallImporter &call) {
  constexpr int64_t kMost = 32;
  at::ScalarType dtype = call.resultDtype();
  Expr x = isNumber(dtype) ? in(call, 0, dtype) : Expr();
  if (!x || x.rank() == 0)
    return false;
  x = x.with(call.cast(x.value, getComputeDtype(dtype)));
  int64_t dim = call.dim(1), size = x.size(dim);
  if (ShapedType::isDynamic(size) || size > kMost || size < 1)
    return false;
  SmallVector<Expr> sums = {x.select(dim, 0)};
  for (int64_t i = 1; i < size; ++i)
    sums.push_back(binary<Op>(sums.back(), x.select(dim, i)));
  return finish(call, stack(sums, dim));
}

void addComposedReductions(AtenTable &table) {
  table.addSmooth({"var"}, variance<false, false>);
  table.addSmooth({"var.dim"}, varianceOfDims<false, false>);
  table.addSmooth({"var.correction"}, varianceCorrected<false, false>);
  table.addSmooth({"std"}, variance<true, false>);
  table.addSmooth({"std.dim"}, varianceOfDims<true, false>);
  table.addSmooth({"std.correction"}, varianceCorrected<true, false>);
  table.addSmooth({"var_mean"}, variance<false, true>);
  table.addSmooth({"var_mean.dim"}, varianceOfDims<false, true>);
  table.addSmooth({"var_mean.correction"}, varianceCorrected<false, true>);
  table.addSmooth({"std_mean"}, variance<true, true>);
  table.addSmooth({"std_mean.dim"}, varianceOfDims<true, true>);
  table.addSmooth({"std_mean.correction"}, varianceCorrected<true, true>);
  table.addComposed({"linalg_vector_norm", "norm.ScalarOpt_dim", "norm.ScalarOpt_dim_dtype"}, vectorNorm);
  table.addComposed({"norm.Scalar"}, norm);
  table.addComposed({"dist"}, distance);
  table.addComposed({"pairwise_distance"}, pairwiseDistance);
  table.addComposed({"cosine_similarity"}, cosineSimilarity);
  table.addSmooth({"logsumexp", "special_logsumexp"}, logSumExp);
  table.addSmooth({"nansum"}, nanSum);
  table.addSmooth({"nanmean"}, nanMean);
  table.addComposed({"count_nonzero", "count_nonzero.dim_IntList"}, countNonzero);
  table.addComposed({"argmax"}, place<AmaxOp>);
  table.addComposed({"argmin"}, place<AminOp>);
  table.addComposed({"max.dim"}, extremeAndPlace<AmaxOp>);
  table.addComposed({"min.dim"}, extremeAndPlace<AminOp>);
  table.addSmooth({"aminmax"}, bothExtremes);
  table.addSmooth({"cumsum"}, running<AddOp>);
  table.addSmooth({"cumprod"}, running<MulOp>);
}

} // namespace pfcn
