//===- Gradients.cpp - gradients of contractions, reductions, views and joins ------===//
//
// Built of the dialect's own ops, so that the backward of a body is a body like any other.
//
//===----------------------------------------------------------------------------===//

#include "Expr.h"

using namespace mlir;
using namespace mlir::pfcn;

//===----------------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------------===//

static Value unsqueezeAll(OpBuilder &builder, Location loc, Value value, ArrayRef<int64_t> dims) {
  SmallVector<int64_t> sorted(dims);
  llvm::sort(sorted);
  for (int64_t dim : sorted)
    value = UnsqueezeOp::create(builder, loc, value, dim);
  return value;
}

Expr mlir::pfcn::sumTo(Expr gradient, RankedTensorType type) {
  int64_t added = gradient.type().getRank() - type.getRank();
  SmallVector<int64_t> dims = llvm::to_vector(llvm::seq<int64_t>(0, added)), kept;
  for (auto [dim, size] : llvm::enumerate(type.getShape()))
    if (size == 1 && gradient.type().getDimSize(added + dim) != 1) {
      dims.push_back(added + dim);
      kept.push_back(dim);
    }
  if (dims.empty())
    return gradient;
  Value sum = SumOp::create(*gradient.builder, gradient.loc, gradient.value, dims, /*keepdim=*/false);
  return gradient.with(unsqueezeAll(*gradient.builder, gradient.loc, sum, kept));
}

Expr mlir::pfcn::expandTo(Expr value, Value like) {
  RankedTensorType type = ranked(like).clone(value.type().getElementType());
  if (value.type() == type)
    return value;
  if (type.hasStaticShape())
    return value.with(ExpandOp::create(*value.builder, value.loc, type, value.value));
  // Only `like` knows the sizes; of its elements none is taken, and NaN does no harm.
  auto scalar = RankedTensorType::get({}, value.builder->getI1Type());
  Value yes = ConstantOp::create(*value.builder, value.loc, scalar, DenseElementsAttr::get(scalar, true));
  Expr other = value.with(like).to(type.getElementType());
  return where(value.with(yes), value, other);
}

static Value transpose(OpBuilder &builder, Location loc, Value value) {
  int64_t rank = ranked(value).getRank();
  auto permutation = llvm::to_vector(llvm::seq<int64_t>(0, rank));
  std::swap(permutation[rank - 1], permutation[rank - 2]);
  return PermuteOp::create(builder, loc, value, permutation);
}

/// All dimensions but the last as one.
static Value flattenRows(OpBuilder &builder, Location loc, Value value) {
  ArrayRef<int64_t> shape = ranked(value).getShape();
  if (shape.size() == 2)
    return value;
  int64_t rows = 1;
  for (int64_t size : shape.drop_back())
    rows = ShapedType::isDynamic(size) || ShapedType::isDynamic(rows) ? ShapedType::kDynamic : rows * size;
  return ReshapeOp::create(builder, loc, RankedTensorType::get({rows, shape.back()}, ranked(value).getElementType()),
                           value);
}

//===----------------------------------------------------------------------------===//
// Contractions
//===----------------------------------------------------------------------------===//

Value mlir::pfcn::multiplyRows(OpBuilder &builder, Location loc, Value a, Value b) {
  a = flattenRows(builder, loc, a);
  b = flattenRows(builder, loc, b);
  return MatmulOp::create(builder, loc, transpose(builder, loc, a), b);
}

Gradients LinearOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool> wanted) {
  Location loc = getLoc();
  Value input = getInput(), gradient = upstream;
  bool isVector = ranked(input).getRank() == 1;
  if (isVector) {
    input = UnsqueezeOp::create(builder, loc, input, 0);
    gradient = UnsqueezeOp::create(builder, loc, gradient, 0);
  }
  SmallVector<Value> gradients(getOperation()->getNumOperands());
  if (wanted[0]) {
    gradients[0] = MatmulOp::create(builder, loc, gradient, getWeight());
    if (isVector)
      gradients[0] = SqueezeOp::create(builder, loc, gradients[0], ArrayRef<int64_t>{0});
  }
  if (wanted[1])
    gradients[1] = multiplyRows(builder, loc, gradient, input);
  if (getBias() && wanted[2])
    gradients[2] = sumTo({&builder, loc, upstream}, ranked(getBias())).value;
  return gradients;
}

/// The gradients of a product [*B, M, K] x [*B, K, N].
static void differentiateProduct(OpBuilder &builder, Location loc, Value upstream, Value lhs, Value rhs, bool wantsLhs,
                                 bool wantsRhs, Value &lhsGradient, Value &rhsGradient) {
  if (wantsLhs) {
    Value product = MatmulOp::create(builder, loc, upstream, transpose(builder, loc, rhs));
    lhsGradient = sumTo({&builder, loc, product}, ranked(lhs)).value;
  }
  if (!wantsRhs)
    return;
  if (ranked(rhs).getRank() == 2) {
    rhsGradient = multiplyRows(builder, loc, lhs, upstream);
    return;
  }
  Value product = MatmulOp::create(builder, loc, transpose(builder, loc, lhs), upstream);
  rhsGradient = sumTo({&builder, loc, product}, ranked(rhs)).value;
}

Gradients MatmulOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool> wanted) {
  SmallVector<Value> gradients(2);
  differentiateProduct(builder, getLoc(), upstream, getLhs(), getRhs(), wanted[0], wanted[1], gradients[0],
                       gradients[1]);
  return gradients;
}

Gradients AddmmOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool> wanted) {
  SmallVector<Value> gradients(3);
  Expr g{&builder, getLoc(), upstream};
  double beta = getBeta().convertToDouble(), alpha = getAlpha().convertToDouble();
  if (wanted[0])
    gradients[0] = sumTo(beta == 0.0 ? g * 0.0 : g * beta, ranked(getInput())).value;
  differentiateProduct(builder, getLoc(), (g * alpha).value, getLhs(), getRhs(), wanted[1], wanted[2], gradients[1],
                       gradients[2]);
  return gradients;
}

Gradients BatchMatmulOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool> wanted) {
  Value rhs = getTransposeRhs() ? transpose(builder, getLoc(), getRhs()) : getRhs();
  SmallVector<Value> gradients(2);
  differentiateProduct(builder, getLoc(), upstream, getLhs(), rhs, wanted[0], wanted[1], gradients[0], gradients[1]);
  if (getTransposeRhs() && wanted[1])
    gradients[1] = transpose(builder, getLoc(), gradients[1]);
  return gradients;
}

//===----------------------------------------------------------------------------===//
// Reductions
//===----------------------------------------------------------------------------===//

/// What a reduction computed, with the dimensions that it dropped.
template <typename Op> static Expr keepDims(Op op, OpBuilder &builder, Value value) {
  return {&builder, op.getLoc(), op.getKeepdim() ? value : unsqueezeAll(builder, op.getLoc(), value, op.getDims())};
}

/// How many elements a reduction over `dims` combines.
static Expr countElements(Expr input, ArrayRef<int64_t> dims) {
  double count = 1;
  for (int64_t dim : dims) {
    if (input.type().isDynamicDim(dim)) {
      Expr ones = expandTo(input.constant(1.0), input.value);
      return input.with(SumOp::create(*input.builder, input.loc, ones.value, dims, /*keepdim=*/true));
    }
    count *= input.type().getDimSize(dim);
  }
  return input.constant(count);
}

Gradients SumOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  return single(expandTo(keepDims(*this, builder, upstream), getInput()).value);
}

Gradients MeanOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  Expr input{&builder, getLoc(), getInput()};
  Expr each = keepDims(*this, builder, upstream) / countElements(input, getDims());
  return single(expandTo(each, getInput()).value);
}

/// Elements that tie share the gradient equally.
template <typename Op> static Gradients differentiateExtreme(Op op, OpBuilder &builder, Value upstream) {
  Expr x{&builder, op.getLoc(), op.getInput()};
  Expr isExtreme = compare(Predicate::eq, x, keepDims(op, builder, op.getResult()));
  Expr mask = where(isExtreme, x.constant(1.0), x.constant(0.0));
  Expr ties = x.with(SumOp::create(builder, op.getLoc(), mask.value, op.getDims(), /*keepdim=*/true));
  return single((keepDims(op, builder, upstream) * mask / ties).value);
}

Gradients AmaxOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  return differentiateExtreme(*this, builder, upstream);
}
Gradients AminOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  return differentiateExtreme(*this, builder, upstream);
}

/// The product of the others: no division by a zero, of which one alone leaves a gradient.
Gradients ProdOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  Location loc = getLoc();
  Expr x{&builder, loc, getInput()};
  Expr isZero = compare(Predicate::eq, x, 0.0);
  Expr divisor = where(isZero, 1.0, x);
  Expr zeros = x.with(SumOp::create(builder, loc, where(isZero, x.constant(1.0), x.constant(0.0)).value, getDims(),
                                    /*keepdim=*/true));
  Expr product = x.with(ProdOp::create(builder, loc, divisor.value, getDims(), /*keepdim=*/true));
  Expr withoutZeros = where(compare(Predicate::eq, zeros, 0.0), product / divisor, 0.0);
  Expr besideOne = where(compare(Predicate::eq, zeros, 1.0), product, 0.0);
  return single((keepDims(*this, builder, upstream) * where(isZero, besideOne, withoutZeros)).value);
}

static Expr sumOver(Expr value, ArrayRef<int64_t> dims) {
  return value.with(SumOp::create(*value.builder, value.loc, value.value, dims, /*keepdim=*/true));
}
static Expr meanOver(Expr value, ArrayRef<int64_t> dims) {
  return value.with(MeanOp::create(*value.builder, value.loc, value.value, dims, /*keepdim=*/true));
}

Gradients SoftmaxOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  Expr g = Expr{&builder, getLoc(), upstream}.widen(), r = Expr{&builder, getLoc(), getResult()}.widen();
  Expr product = g * r;
  Expr gradient = product - r * sumOver(product, static_cast<int64_t>(getDim()));
  return single(gradient.to(getInput().getType().getElementType()).value);
}

Gradients LogSoftmaxOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  Expr g = Expr{&builder, getLoc(), upstream}.widen(), r = Expr{&builder, getLoc(), getResult()}.widen();
  Expr gradient = g - exp(r) * sumOver(g, static_cast<int64_t>(getDim()));
  return single(gradient.to(getInput().getType().getElementType()).value);
}

Gradients LayerNormOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool> wanted) {
  int64_t rank = ranked(getInput()).getRank();
  auto dims = llvm::to_vector(llvm::seq<int64_t>(rank - static_cast<int64_t>(getNormalizedRank()), rank));
  Expr g = Expr{&builder, getLoc(), upstream}.widen(), x = Expr{&builder, getLoc(), getInput()}.widen();
  Expr centered = x - meanOver(x, dims);
  Expr scale = (meanOver(centered * centered, dims) + getEps().convertToDouble()).apply<RsqrtOp>();
  Expr normalized = centered * scale;

  SmallVector<Value> gradients(getOperation()->getNumOperands());
  auto finish = [&](Expr gradient, Value operand) {
    RankedTensorType wantedType = ranked(operand);
    return sumTo(gradient, wantedType.clone(gradient.type().getElementType())).to(wantedType.getElementType()).value;
  };
  if (wanted[0]) {
    Expr weighted = getWeight() ? g * g.with(getWeight()).widen() : g;
    Expr inner = weighted - meanOver(weighted, dims) - normalized * meanOver(weighted * normalized, dims);
    gradients[0] = finish(scale * inner, getInput());
  }
  unsigned next = 1;
  if (Value weight = getWeight(); weight && wanted[next++])
    gradients[next - 1] = finish(g * normalized, weight);
  if (Value bias = getBias(); bias && wanted[next])
    gradients[next] = finish(g, bias);
  return gradients;
}

//===----------------------------------------------------------------------------===//
// Views and joins
//===----------------------------------------------------------------------------===//

Gradients ReshapeOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  if (!countCarriedDims(ranked(upstream).getShape(), getInput().getType().getShape()))
    return failure();
  return single(ReshapeOp::create(builder, getLoc(), getInput().getType(), upstream));
}

Gradients PermuteOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  SmallVector<int64_t> inverse(getPermutation().size());
  for (auto [i, dim] : llvm::enumerate(getPermutation()))
    inverse[dim] = i;
  return single(PermuteOp::create(builder, getLoc(), upstream, inverse));
}

/// Zeros of the shape of a part of `whole`.
static Value zerosLike(OpBuilder &builder, Location loc, Value whole, int64_t dim, int64_t start, int64_t end) {
  Expr part{&builder, loc, SliceOp::create(builder, loc, whole, dim, start, end, 1)};
  return expandTo(part.constant(0.0), part.value).value;
}

/// `gradient` of elements `start` to `end` of `dim`, and zeros around it.
static Value padWithZeros(OpBuilder &builder, Location loc, Value gradient, Value whole, int64_t dim, int64_t start,
                          int64_t end) {
  int64_t size = ranked(whole).getDimSize(dim);
  SmallVector<Value> parts;
  if (start > 0)
    parts.push_back(zerosLike(builder, loc, whole, dim, 0, start));
  parts.push_back(gradient);
  if (end != kSliceToEnd && end != size)
    parts.push_back(zerosLike(builder, loc, whole, dim, end, kSliceToEnd));
  return parts.size() == 1 ? gradient : CatOp::create(builder, loc, parts, dim).getResult();
}

FailureOr<Value> mlir::pfcn::embed(OpBuilder &builder, Location loc, Value part, Value whole, int64_t dim,
                                   int64_t start, int64_t end, int64_t step) {
  if (step == 1)
    return padWithZeros(builder, loc, part, whole, dim, start, end);
  // Between the elements lie step - 1 zeros each: as another dimension, which is then merged.
  int64_t size = ranked(whole).getDimSize(dim), count = ranked(part).getDimSize(dim);
  if (ShapedType::isDynamic(size) || count == 0)
    return failure();
  Expr column{&builder, loc, UnsqueezeOp::create(builder, loc, part, dim + 1)};
  SmallVector<Value> parts(step, expandTo(column.constant(0.0), column.value).value);
  parts.front() = column.value;
  SmallVector<int64_t> merged(ranked(part).getShape());
  merged[dim] = count * step;
  Value spread = ReshapeOp::create(builder, loc, RankedTensorType::get(merged, ranked(part).getElementType()),
                                   CatOp::create(builder, loc, parts, dim + 1));
  if (start + count * step > size)
    spread = SliceOp::create(builder, loc, spread, dim, 0, size - start, 1);
  return padWithZeros(builder, loc, spread, whole, dim, start, std::min(start + count * step, size));
}

Gradients SliceOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  FailureOr<Value> gradient = embed(builder, getLoc(), upstream, getInput(), getDim(), getStart(), getEnd(), getStep());
  if (failed(gradient))
    return failure();
  return single(*gradient);
}

Gradients SelectOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  int64_t dim = getDim(), index = getIndex();
  Value row = UnsqueezeOp::create(builder, getLoc(), upstream, dim);
  return single(padWithZeros(builder, getLoc(), row, getInput(), dim, index, index + 1));
}

Gradients UnsqueezeOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  return single(SqueezeOp::create(builder, getLoc(), upstream, ArrayRef<int64_t>{static_cast<int64_t>(getDim())}));
}

Gradients SqueezeOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  return single(unsqueezeAll(builder, getLoc(), upstream, getDims()));
}

Gradients ExpandOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool>) {
  return single(sumTo({&builder, getLoc(), upstream}, ranked(getInput())).value);
}

Gradients CatOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool> wanted) {
  SmallVector<Value> gradients(getInputs().size());
  int64_t dim = getDim(), start = 0;
  for (auto [i, input] : llvm::enumerate(getInputs())) {
    int64_t size = ranked(input).getDimSize(dim);
    bool isLast = i + 1 == getInputs().size();
    if (ShapedType::isDynamic(size) && !isLast)
      return failure();
    int64_t end = ShapedType::isDynamic(size) ? kSliceToEnd : start + size;
    if (wanted[i])
      gradients[i] = SliceOp::create(builder, getLoc(), upstream, dim, start, end, 1);
    start = end;
  }
  return gradients;
}

Gradients StackOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool> wanted) {
  SmallVector<Value> gradients(getInputs().size());
  for (size_t i = 0; i < gradients.size(); ++i)
    if (wanted[i])
      gradients[i] = SelectOp::create(builder, getLoc(), upstream, getDim(), i);
  return gradients;
}
