//===- ParallelDims.cpp - the dimensions that a whole kernel shares ---------------===//

#include "pfcn/Codegen/ParallelDims.h"

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Transforms/RegionUtils.h"
#include "llvm/ADT/SmallBitVector.h"

using namespace mlir;
using namespace mlir::pfcn;

SmallVector<Value> mlir::pfcn::getReads(Operation *op) {
  llvm::SetVector<Value> reads(op->operand_begin(), op->operand_end());
  getUsedValuesDefinedAbove(op->getRegions(), reads);
  return reads.takeVector();
}

int ParallelDims::find(int id) const {
  while (parents[id] != id)
    id = parents[id] = parents[parents[id]];
  return id;
}

int ParallelDims::create(int64_t size) {
  parents.push_back(parents.size());
  broken.push_back(false);
  reduced.push_back(false);
  sizes.push_back(size);
  return parents.back();
}

void ParallelDims::unite(int a, int b) {
  a = find(a);
  b = find(b);
  if (a == b)
    return;
  parents[b] = a;
  broken[a] = broken[a] || broken[b];
  reduced[a] = reduced[a] || reduced[b];
  if (ShapedType::isDynamic(sizes[a]))
    sizes[a] = sizes[b];
}

SmallVector<int> &ParallelDims::dimsOf(Value value) {
  auto [it, isNew] = valueDims.try_emplace(value);
  if (isNew)
    for (int64_t size : cast<RankedTensorType>(value.getType()).getShape())
      it->second.push_back(create(size));
  return it->second;
}

/// Several dimensions of `wide` make one of `narrow`. Those of size 1 carry nothing; one other
/// passes through; more than one are merged, and then nobody can walk them on their own.
void ParallelDims::visitReassociation(Value wide, Value narrow, ArrayRef<SmallVector<int64_t, 2>> groups) {
  SmallVector<int> wideDims = dimsOf(wide), narrowDims = dimsOf(narrow);
  ArrayRef<int64_t> shape = cast<RankedTensorType>(wide.getType()).getShape();
  for (auto [group, merged] : llvm::zip(groups, narrowDims)) {
    auto real = llvm::filter_to_vector(group, [&](int64_t dim) { return shape[dim] != 1; });
    if (real.size() == 1) {
      unite(wideDims[real.front()], merged);
    } else if (real.size() > 1) {
      markBroken(merged);
      for (int64_t dim : real)
        markBroken(wideDims[dim]);
    }
  }
}

/// `part` is a box of `whole`. Dimensions taken in full pass through.
void ParallelDims::visitSubset(Value whole, Value part, ArrayRef<OpFoldResult> offsets, ArrayRef<OpFoldResult> boxSizes,
                               ArrayRef<OpFoldResult> strides, const llvm::SmallBitVector &dropped) {
  SmallVector<int> wholeDims = dimsOf(whole), partDims = dimsOf(part);
  auto shape = cast<RankedTensorType>(whole.getType()).getShape();
  auto partShape = cast<RankedTensorType>(part.getType()).getShape();
  unsigned next = 0;
  for (unsigned dim = 0; dim < wholeDims.size(); ++dim) {
    bool isDropped = dropped.test(dim);
    unsigned partDim = isDropped ? 0 : next++;
    bool full = !isDropped && isConstantIntValue(offsets[dim], 0) && isConstantIntValue(strides[dim], 1) &&
                (shape[dim] == partShape[partDim]);
    if (full)
      unite(wholeDims[dim], partDims[partDim]);
    else if (shape[dim] != 1)
      markBroken(wholeDims[dim]);
    if (!full && !isDropped)
      markBroken(partDims[partDim]);
  }
}

LogicalResult ParallelDims::visit(Operation *op, std::string &reason) {
  if (auto generic = dyn_cast<linalg::GenericOp>(op)) {
    if (!generic.getShapesToLoopsMap()) {
      reason = "the sizes of the loops of a linalg.generic do not follow from its operands";
      return failure();
    }
    SmallVector<int> &loopIds = loops[op];
    for (auto [size, iterator] : llvm::zip(generic.getStaticLoopRanges(), generic.getIteratorTypesArray())) {
      loopIds.push_back(create(size));
      if (iterator == utils::IteratorType::reduction)
        reduced[loopIds.back()] = true;
    }
    for (OpOperand &operand : generic->getOpOperands()) {
      if (!isa<RankedTensorType>(operand.get().getType()))
        continue;
      SmallVector<int> dims = dimsOf(operand.get());
      for (auto [dim, expr] : llvm::zip(dims, generic.getMatchingIndexingMap(&operand).getResults())) {
        if (auto loop = dyn_cast<AffineDimExpr>(expr)) {
          unite(loopIds[loop.getPosition()], dim);
          continue;
        }
        // A window: each of its loops sees all of the dimension.
        markBroken(dim);
        for (unsigned loop = 0; loop < generic.getNumLoops(); ++loop)
          if (expr.isFunctionOfDim(loop))
            markBroken(loopIds[loop]);
      }
    }
    for (auto [init, result] : llvm::zip(generic.getDpsInits(), generic->getResults()))
      for (auto [a, b] : llvm::zip(SmallVector<int>(dimsOf(init)), SmallVector<int>(dimsOf(result))))
        unite(a, b);
    return success();
  }
  if (auto fill = dyn_cast<linalg::FillOp>(op)) {
    for (auto [a, b] : llvm::zip(SmallVector<int>(dimsOf(fill.output())), SmallVector<int>(dimsOf(fill.result()))))
      unite(a, b);
    return success();
  }
  if (auto expand = dyn_cast<tensor::ExpandShapeOp>(op)) {
    visitReassociation(expand.getResult(), expand.getSrc(), expand.getReassociationIndices());
    return success();
  }
  if (auto collapse = dyn_cast<tensor::CollapseShapeOp>(op)) {
    visitReassociation(collapse.getSrc(), collapse.getResult(), collapse.getReassociationIndices());
    return success();
  }
  if (auto slice = dyn_cast<tensor::ExtractSliceOp>(op)) {
    visitSubset(slice.getSource(), slice.getResult(), slice.getMixedOffsets(), slice.getMixedSizes(),
                slice.getMixedStrides(), slice.getDroppedDims());
    return success();
  }
  if (auto insert = dyn_cast<tensor::InsertSliceOp>(op)) {
    for (auto [a, b] :
         llvm::zip(SmallVector<int>(dimsOf(insert.getDest())), SmallVector<int>(dimsOf(insert.getResult()))))
      unite(a, b);
    visitSubset(insert.getResult(), insert.getSource(), insert.getMixedOffsets(), insert.getMixedSizes(),
                insert.getMixedStrides(), insert.getDroppedDims());
    return success();
  }
  if (auto loop = dyn_cast<scf::ForOp>(op)) {
    auto uniteAll = [&](ValueRange a, ValueRange b) {
      for (auto [x, y] : llvm::zip(a, b))
        if (isa<RankedTensorType>(x.getType()))
          for (auto [dim, other] : llvm::zip(SmallVector<int>(dimsOf(x)), SmallVector<int>(dimsOf(y))))
            unite(dim, other);
    };
    uniteAll(loop.getInitArgs(), loop.getRegionIterArgs());
    uniteAll(loop.getRegionIterArgs(), loop.getResults());
    if (failed(visit(*loop.getBody(), reason)))
      return failure();
    uniteAll(loop.getYieldedValues(), loop.getRegionIterArgs());
    return success();
  }
  // Scalars, sizes and fresh tensors tie nothing together.
  if (isa<tensor::EmptyOp, tensor::DimOp>(op) || op->hasTrait<OpTrait::ConstantLike>() ||
      op->hasTrait<OpTrait::IsTerminator>() ||
      llvm::none_of(op->getResultTypes(), [](Type type) { return isa<TensorType>(type); }))
    return success();
  reason = ("op '" + op->getName().getStringRef() + "' has no lowering").str();
  return failure();
}

LogicalResult ParallelDims::visit(Block &block, std::string &reason) {
  for (Operation &op : block) {
    if (failed(visit(&op, reason)))
      return failure();
    for (Value value : llvm::concat<Value>(op.getOperands(), op.getResults()))
      if (isa<RankedTensorType>(value.getType()))
        dimsOf(value);
  }
  return success();
}

FailureOr<ParallelDims> ParallelDims::compute(Block &body, std::string &reason) {
  ParallelDims dims;
  for (Value argument : body.getArguments())
    dims.dimsOf(argument);
  if (failed(dims.visit(body, reason)))
    return failure();
  return dims;
}
