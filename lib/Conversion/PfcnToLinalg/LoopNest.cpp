//===- LoopNest.cpp - linalg.generic from reads and a payload --------------------===//
//
// Turns torch's broadcasting into projected permutations: a dimension of size 1 under a
// longer loop is collapsed away, and the map of the read omits that loop.
//
//===----------------------------------------------------------------------------===//

#include "Lowering.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace mlir::pfcn;

Type mlir::pfcn::getComputeType(Type elementType) {
  return isa<Float16Type, BFloat16Type>(elementType) ? Float32Type::get(elementType.getContext()) : elementType;
}

Value mlir::pfcn::convertFloat(ImplicitLocOpBuilder &builder, Value scalar, Type type) {
  unsigned from = scalar.getType().getIntOrFloatBitWidth(), to = type.getIntOrFloatBitWidth();
  if (scalar.getType() == type)
    return scalar;
  if (from < to)
    return builder.createOrFold<arith::ExtFOp>(type, scalar);
  if (from > to)
    return builder.createOrFold<arith::TruncFOp>(type, scalar);
  // f16 and bf16 meet in f32, which holds both.
  return convertFloat(builder, convertFloat(builder, scalar, builder.getF32Type()), type);
}

/// The one dimension that a group of a collapse_shape is made of, beside those of size 1.
static std::optional<int64_t> getOnlyDim(RankedTensorType type, ArrayRef<int64_t> group) {
  std::optional<int64_t> only;
  for (int64_t dim : group) {
    if (type.getDimSize(dim) == 1)
      continue;
    if (only)
      return std::nullopt;
    only = dim;
  }
  return only;
}

OpFoldResult mlir::pfcn::getSize(Lowering &lowering, Value tensor, int64_t dim) {
  if (!ranked(tensor).isDynamicDim(dim))
    return lowering.getIndexAttr(ranked(tensor).getDimSize(dim));
  Operation *producer = tensor.getDefiningOp();
  if (auto op = dyn_cast_or_null<DestinationStyleOpInterface>(producer))
    return getSize(lowering, op.getTiedOpOperand(cast<OpResult>(tensor))->get(), dim);
  if (auto op = dyn_cast_or_null<tensor::EmptyOp>(producer))
    return op.getMixedSizes()[dim];
  if (auto op = dyn_cast_or_null<tensor::ExpandShapeOp>(producer))
    return op.getMixedOutputShape()[dim];
  if (auto op = dyn_cast_or_null<tensor::CollapseShapeOp>(producer))
    if (std::optional<int64_t> only = getOnlyDim(op.getSrcType(), op.getReassociationIndices()[dim]))
      return getSize(lowering, op.getSrc(), *only);
  return tensor::DimOp::create(lowering, tensor, dim).getResult();
}

SmallVector<OpFoldResult> mlir::pfcn::getSizes(Lowering &lowering, Value tensor) {
  return llvm::map_to_vector(llvm::seq(ranked(tensor).getRank()),
                             [&](int64_t dim) { return getSize(lowering, tensor, dim); });
}

LoopNest::LoopNest(Lowering &lowering, ArrayRef<int64_t> parallel, ArrayRef<int64_t> reduced)
    : lowering(lowering), sizes(parallel), parallelCount(parallel.size()) {
  llvm::append_range(sizes, reduced);
  origins.resize(sizes.size());
}

void LoopNest::read(Value tensor, ArrayRef<int64_t> loops) {
  SmallVector<int64_t> broadcast;
  SmallVector<AffineExpr> exprs;
  for (auto [dim, size] : llvm::enumerate(ranked(tensor).getShape())) {
    int64_t loop = loops[dim];
    if (size == 1 && sizes[loop] != 1) {
      broadcast.push_back(dim);
      continue;
    }
    exprs.push_back(lowering.getAffineDimExpr(loop));
    if (ShapedType::isDynamic(size) && !origins[loop].first)
      origins[loop] = {tensor, static_cast<int64_t>(dim)};
  }
  tensors.push_back(dropUnitDims(lowering, tensor, broadcast));
  maps.push_back(AffineMap::get(sizes.size(), 0, exprs, lowering.getContext()));
}

void LoopNest::readAt(Value tensor, ArrayRef<AffineExpr> exprs) {
  for (auto [dim, expr] : llvm::enumerate(exprs))
    if (auto loop = dyn_cast<AffineDimExpr>(expr))
      if (ranked(tensor).isDynamicDim(dim) && !origins[loop.getPosition()].first)
        origins[loop.getPosition()] = {tensor, static_cast<int64_t>(dim)};
  tensors.push_back(tensor);
  maps.push_back(AffineMap::get(sizes.size(), 0, exprs, lowering.getContext()));
}

void LoopNest::readTrailing(Value tensor) {
  int64_t rank = ranked(tensor).getRank();
  read(tensor, llvm::to_vector(llvm::seq<int64_t>(parallelCount - rank, parallelCount)));
}

FailureOr<Value> LoopNest::makeEmpty(Type elementType) {
  SmallVector<OpFoldResult> mixed;
  for (unsigned loop = 0; loop < parallelCount; ++loop) {
    if (!ShapedType::isDynamic(sizes[loop])) {
      mixed.push_back(lowering.getIndexAttr(sizes[loop]));
      continue;
    }
    auto [tensor, dim] = origins[loop];
    if (!tensor)
      return lowering.decline("the size of dimension " + Twine(loop) + " of the result follows from no operand");
    mixed.push_back(getSize(lowering, tensor, dim));
  }
  return tensor::EmptyOp::create(lowering, mixed, elementType).getResult();
}

Value LoopNest::build(Value init, Payload payload) {
  auto written =
      llvm::map_to_vector(llvm::seq(parallelCount), [&](unsigned loop) { return lowering.getAffineDimExpr(loop); });
  SmallVector<AffineMap> allMaps(maps);
  allMaps.push_back(AffineMap::get(sizes.size(), 0, written, lowering.getContext()));
  SmallVector<utils::IteratorType> iterators(sizes.size(), utils::IteratorType::reduction);
  std::fill_n(iterators.begin(), parallelCount, utils::IteratorType::parallel);
  bool reduces = parallelCount < sizes.size();
  auto body = [&](OpBuilder &nested, Location loc, ValueRange elements) {
    ImplicitLocOpBuilder builder(loc, nested);
    linalg::YieldOp::create(builder, payload(builder, reduces ? elements : elements.drop_back()));
  };
  return linalg::GenericOp::create(lowering, init.getType(), tensors, init, allMaps, iterators, body).getResult(0);
}

FailureOr<Value> LoopNest::map(Type elementType, Payload payload) {
  FailureOr<Value> init = makeEmpty(elementType);
  return failed(init) ? init : build(*init, payload);
}

FailureOr<Value> LoopNest::reduce(TypedAttr init, Payload payload) {
  FailureOr<Value> empty = makeEmpty(init.getType());
  if (failed(empty))
    return failure();
  Value start = arith::ConstantOp::create(lowering, init);
  return build(linalg::FillOp::create(lowering, start, *empty).getResult(0), payload);
}
