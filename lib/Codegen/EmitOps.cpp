//===- EmitOps.cpp - the ops of a kernel's body -------------------------------------===//
//
// A generic becomes loops over what the outer loops leave of its domain, with its payload on vectors of
// lanes. A contraction keeps a block of accumulators in registers, and elementwise ops that follow it
// are computed on them before they are stored. Views are other strides on the same buffer.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Codegen/KernelEmitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace mlir::pfcn;

/// Walks a static shape, whose largest dimension those who share a lane share.
void KernelEmitter::walkPoints(ArrayRef<int64_t> shape, function_ref<void(ArrayRef<OpFoldResult>)> body) {
  if (getSharers() == 1)
    return builder.loops(shape, body);
  size_t shared = llvm::max_element(shape) - shape.begin();
  if (shape.empty() || shape[shared] == 1)
    return runOnce([&] { builder.loops(shape, body); });
  SmallVector<int64_t> others(shape);
  others.erase(others.begin() + shared);
  builder.loops(others, [&](ArrayRef<OpFoldResult> outer) {
    walkShared(shape[shared], 1, [&](OpFoldResult index) {
      SmallVector<OpFoldResult> indices(outer);
      indices.insert(indices.begin() + shared, index);
      body(indices);
    });
  });
}

void KernelEmitter::emitCopy(const Buffer &from, Value value, const Buffer &to) {
  if (!failure.empty())
    return; // there may be no memory
  Type element = cast<RankedTensorType>(value.getType()).getElementType();
  walkPoints(getInnerShape(value), [&](ArrayRef<OpFoldResult> inner) {
    SmallVector<OpFoldResult> indices = getIndices(value, inner);
    builder.store(builder.load(from, indices, element), to, indices);
  });
  finishShared();
}

void KernelEmitter::emitFill(Value value, Value element, const Buffer &buffer) {
  builder.loops(getInnerShape(value),
                [&](ArrayRef<OpFoldResult> inner) { builder.store(element, buffer, getIndices(value, inner)); });
}

void KernelEmitter::emitAdd(Value value, const Buffer &term, const Buffer &sum) {
  Type element = cast<RankedTensorType>(value.getType()).getElementType();
  builder.loops(getInnerShape(value), [&](ArrayRef<OpFoldResult> inner) {
    SmallVector<OpFoldResult> indices = getIndices(value, inner);
    Value total = arith::AddFOp::create(builder, builder.getLoc(), builder.load(sum, indices, element),
                                        builder.load(term, indices, element));
    builder.store(total, sum, indices);
  });
}

/// The buffer of a value as fresh scratch, where it is not that already.
Buffer KernelEmitter::makeContiguous(Value value) {
  if (isPlainScratch(value))
    return buffers[value];
  Buffer copy = allocate(value);
  emitCopy(buffers[value], value, copy);
  return copy;
}

bool KernelEmitter::isPlainScratch(Value value) {
  const Buffer &buffer = buffers[value];
  int64_t size;
  return !buffer.splat && !buffer.isTile && !buffer.isGlobal && isConstantIntValue(buffer.offset, 0) &&
         llvm::equal(buffer.strides, getScratchStrides(value, /*isTile=*/false, size));
}

//===----------------------------------------------------------------------------===//
// Payloads
//===----------------------------------------------------------------------------===//

/// An index: a sum of multiples of loops.
OpFoldResult KernelEmitter::evaluate(AffineExpr expr, ArrayRef<OpFoldResult> indices) {
  if (auto loop = dyn_cast<AffineDimExpr>(expr))
    return indices[loop.getPosition()];
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return builder.constant(constant.getValue());
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!binary || (expr.getKind() != AffineExprKind::Add && expr.getKind() != AffineExprKind::Mul)) {
    failure = "an index is no sum of multiples of loops";
    return builder.constant(0);
  }
  OpFoldResult lhs = evaluate(binary.getLHS(), indices), rhs = evaluate(binary.getRHS(), indices);
  return expr.getKind() == AffineExprKind::Add ? builder.add(lhs, rhs) : builder.mul(lhs, rhs);
}

Value KernelEmitter::loadOperand(Value value, AffineMap map, ArrayRef<OpFoldResult> indices) {
  if (!buffers.count(value)) {
    failure = "an op reads a tensor that nothing has written";
    return {};
  }
  SmallVector<OpFoldResult> position;
  for (AffineExpr expr : map.getResults())
    position.push_back(evaluate(expr, indices));
  return builder.load(buffers[value], position, cast<RankedTensorType>(value.getType()).getElementType());
}

/// Computes the payload of a generic at one point of its domain; `known` is an operand
/// whose value is at hand, `accumulator` what the result has been so far.
Value KernelEmitter::emitPayload(linalg::GenericOp op, ArrayRef<OpFoldResult> indices, Value known, Value knownAs,
                                 Value accumulator) {
  IRMapping mapping = scalars;
  for (OpOperand &operand : op->getOpOperands()) {
    BlockArgument argument = op.getMatchingBlockArgument(&operand);
    if (argument.use_empty())
      continue;
    Value value = operand.get();
    if (op.isDpsInit(&operand) && accumulator)
      mapping.map(argument, accumulator);
    else if (value == known)
      mapping.map(argument, knownAs);
    else if (!isa<RankedTensorType>(value.getType()))
      mapping.map(argument, scalars.lookup(value));
    else
      mapping.map(argument, loadOperand(value, op.getMatchingIndexingMap(&operand), indices));
  }
  if (!failure.empty())
    return {};
  for (Operation &inner : op.getBody()->without_terminator()) {
    if (isa<linalg::IndexOp>(inner) || inner.getNumRegions() != 0) {
      failure = ("payload op '" + inner.getName().getStringRef() + "' has no lowering").str();
      return {};
    }
    SmallVector<Value> operands;
    for (Value operand : inner.getOperands())
      operands.push_back(mapping.lookup(operand));
    bool vectorize = llvm::any_of(operands, [](Value v) { return isa<VectorType>(v.getType()); });
    SmallVector<Type> types(inner.getResultTypes());
    if (vectorize) {
      for (Value &operand : operands)
        operand = builder.broadcast(operand);
      for (Type &type : types)
        type = builder.getLaneType(type);
    }
    OperationState state(inner.getLoc(), inner.getName(), operands, types, inner.getAttrs());
    state.propertiesAttr = inner.getPropertiesAsAttribute();
    mapping.map(inner.getResults(), builder.create(state)->getResults());
  }
  return mapping.lookup(op.getBody()->getTerminator()->getOperand(0));
}

//===----------------------------------------------------------------------------===//
// Generics
//===----------------------------------------------------------------------------===//

/// Whether a value can be read from here on. Views cost nothing, so they are made at once.
bool KernelEmitter::makeAvailable(Value value) {
  bringIn(value);
  if (buffers.count(value) || scalars.contains(value))
    return true;
  Operation *op = value.getDefiningOp();
  if (!isa_and_nonnull<tensor::ExpandShapeOp, tensor::CollapseShapeOp, tensor::ExtractSliceOp>(op) ||
      !makeAvailable(op->getOperand(0)))
    return false;
  emitOp(op);
  emitted.insert(op);
  return true;
}

/// The chain of elementwise generics that consume the result of `root` element by element, and
/// nothing that is yet to be computed.
SmallVector<linalg::GenericOp> KernelEmitter::collectEpilogue(linalg::GenericOp root) {
  SmallVector<linalg::GenericOp> epilogue;
  linalg::GenericOp last = root;
  while (last->getResult(0).hasOneUse() && !directOutputs.count(last->getResult(0))) {
    OpOperand &use = *last->getResult(0).use_begin();
    auto next = dyn_cast<linalg::GenericOp>(use.getOwner());
    if (!next || next.getNumReductionLoops() != 0 || next->getNumResults() != 1 || next.isDpsInit(&use) ||
        !next.getMatchingIndexingMap(&use).isPermutation() || getLevel(next) != getLevel(root))
      break;
    bool ready = llvm::all_of(next->getOperands(), [&](Value operand) {
      return operand == use.get() || operand.getDefiningOp<tensor::EmptyOp>() || makeAvailable(operand);
    });
    if (!ready)
      break;
    epilogue.push_back(next);
    last = next;
  }
  return epilogue;
}

/// How many accumulators a contraction keeps: what the register file holds beside
/// its operands, in equal parts where the size allows it.
int64_t mlir::pfcn::chooseBlock(int64_t size, int64_t limit) {
  if (size <= limit)
    return size;
  for (int64_t block = limit; block > limit / 2; --block)
    if (size % block == 0)
      return block;
  return limit;
}

/// The indices that the outer loops fix, and the parallel loops that are left. False where there is a loop of unknown
/// size.
bool KernelEmitter::collectLoops(linalg::GenericOp root, SmallVectorImpl<OpFoldResult> &indices,
                                 SmallVectorImpl<unsigned> &parallel) {
  if (root->getNumResults() != 1) {
    failure = "an op of several results has no lowering";
    return false;
  }
  indices.resize(root.getNumLoops());
  SmallVector<int64_t> sizes = root.getStaticLoopRanges();
  for (unsigned i = 0; i < indices.size(); ++i) {
    int cls = dims.getClass(root, i);
    if (schedule.isOuter(cls)) {
      indices[i] = outerIndices.lookup(cls);
      continue;
    }
    if (ShapedType::isDynamic(sizes[i])) {
      failure = "a dynamic dimension is not shared by the whole body";
      return false;
    }
    if (root.getIteratorTypesArray()[i] == utils::IteratorType::parallel)
      parallel.push_back(i);
  }
  return true;
}

/// Finds a place for what the last of an op and its epilogue computes.
void KernelEmitter::placeResult(linalg::GenericOp root, ArrayRef<linalg::GenericOp> epilogue) {
  Value result = (epilogue.empty() ? root : epilogue.back())->getResult(0);
  if (auto it = directOutputs.find(result); it != directOutputs.end())
    buffers[result] = outputs[it->second];
  else if (!accumulates(root)) // accumulators have been placed around their loop
    buffers[result] = allocate(result);
  emitted.insert(epilogue.begin(), epilogue.end());
}

void KernelEmitter::emitGeneric(linalg::GenericOp root) {
  SmallVector<OpFoldResult> indices;
  SmallVector<unsigned> parallel;
  if (!collectLoops(root, indices, parallel))
    return;
  SmallVector<int64_t> sizes = root.getStaticLoopRanges();
  SmallVector<linalg::GenericOp> epilogue = collectEpilogue(root);
  placeResult(root, epilogue);
  if (!failure.empty())
    return;

  // The innermost dimension of a contraction's result is computed in blocks of accumulators.
  unsigned blocked = -1u;
  if (root.getNumReductionLoops() != 0 && !parallel.empty())
    blocked = parallel.pop_back_val();
  auto shape = llvm::map_to_vector(parallel, [&](unsigned loop) { return sizes[loop]; });
  auto setPoint = [&](ArrayRef<OpFoldResult> inner) {
    for (auto [loop, index] : llvm::zip(parallel, inner))
      indices[loop] = index;
  };
  if (blocked == -1u) {
    walkPoints(shape, [&](ArrayRef<OpFoldResult> inner) {
      setPoint(inner);
      emitBlock(root, epilogue, indices, {});
    });
    return finishShared();
  }
  // Those who share a lane have a block each, at least.
  int64_t size = sizes[blocked], each = llvm::divideCeil(size, getSharers());
  int64_t block = chooseBlock(size, std::min(options.accumulators, each));
  builder.loops(shape, [&](ArrayRef<OpFoldResult> inner) {
    setPoint(inner);
    auto emitWhole = [&](OpFoldResult first) {
      indices[blocked] = first;
      emitBlock(root, epilogue, indices, BlockedLoop{blocked, block});
    };
    if (size == block)
      runOnce([&] { emitWhole(builder.constant(0)); });
    else
      walkShared(size / block * block, block, emitWhole);
    if (int64_t rest = size % block)
      runOnce([&] {
        indices[blocked] = builder.constant(size - rest);
        emitBlock(root, epilogue, indices, BlockedLoop{blocked, rest});
      });
  });
  finishShared();
}

/// How many iterations of a loop over `size` add up to one partial sum, where each adds `inner` terms.
/// One accumulator for thousands of terms would be off by more than eager, which adds in parts too.
static int64_t chooseChunk(int64_t size, int64_t inner) {
  constexpr int64_t most = 64;
  return std::max<int64_t>({1, most / inner, static_cast<int64_t>(std::sqrt(size / inner))});
}

/// Walks the loops `reductions` of a block of neighbours, from the accumulators given.
SmallVector<Value> KernelEmitter::emitReduction(linalg::GenericOp root, ArrayRef<unsigned> reductions,
                                                SmallVector<OpFoldResult> &indices, ArrayRef<BlockedLoop> block,
                                                ArrayRef<Value> accumulators) {
  if (reductions.empty()) {
    SmallVector<Value> values;
    for (auto [i, accumulator] : llvm::enumerate(accumulators))
      values.push_back(emitPayload(root, getPoint(indices, block, i), {}, {}, accumulator));
    return failure.empty() ? values : SmallVector<Value>(accumulators);
  }
  SmallVector<int64_t> sizes = root.getStaticLoopRanges();
  unsigned dim = reductions.front();
  int64_t inner = 1;
  for (unsigned deeper : reductions.drop_front())
    inner *= std::max<int64_t>(sizes[deeper], 1);
  auto walk = [&](OpFoldResult first, int64_t count, ArrayRef<Value> from) {
    return builder.loop(count, 1, from, [&](OpFoldResult index, ArrayRef<Value> carried) {
      indices[dim] = builder.add(first, index);
      if (reductions.size() == 1)
        prefetchNext(root, indices, block, dim);
      return emitReduction(root, reductions.drop_front(), indices, block, carried);
    });
  };
  int64_t size = sizes[dim], chunk = chooseChunk(size, inner);
  if (size <= chunk || !isFloatSum(root))
    return walk(builder.constant(0), size, accumulators);
  auto addPart = [&](OpFoldResult first, int64_t count, ArrayRef<Value> sums) {
    SmallVector<Value> parts = llvm::map_to_vector(sums, [&](Value sum) -> Value {
      return arith::ConstantOp::create(builder, builder.getLoc(), builder.getZeroAttr(sum.getType()));
    });
    parts = walk(first, count, parts);
    return llvm::map_to_vector(llvm::zip(sums, parts), [&](auto pair) -> Value {
      return arith::AddFOp::create(builder, builder.getLoc(), std::get<0>(pair), std::get<1>(pair));
    });
  };
  int64_t whole = size / chunk * chunk;
  SmallVector<Value> sums = builder.loop(whole, chunk, accumulators, [&](OpFoldResult first, ArrayRef<Value> carried) {
    return addPart(first, chunk, carried);
  });
  return whole < size ? addPart(builder.constant(whole), size - whole, sums) : sums;
}

/// The point `distance` behind another along a loop.
SmallVector<OpFoldResult> KernelEmitter::getNeighbour(ArrayRef<OpFoldResult> point, unsigned loop, int64_t distance) {
  SmallVector<OpFoldResult> result(point);
  result[loop] = builder.add(result[loop], builder.constant(distance));
  return result;
}

/// Point `i` of a block.
SmallVector<OpFoldResult> KernelEmitter::getPoint(ArrayRef<OpFoldResult> first, ArrayRef<BlockedLoop> block,
                                                  int64_t i) {
  SmallVector<OpFoldResult> point(first);
  for (auto [loop, count] : llvm::reverse(block)) {
    point = getNeighbour(point, loop, i % count);
    i /= count;
  }
  return point;
}

/// Computes the points of a block, epilogue and store included.
void KernelEmitter::emitBlock(linalg::GenericOp root, ArrayRef<linalg::GenericOp> epilogue,
                              SmallVector<OpFoldResult> indices, ArrayRef<BlockedLoop> block) {
  OpOperand *init = root.getDpsInitOperand(0);
  Value result = root->getResult(0);
  auto at = [&](int64_t i) { return getPoint(indices, block, i); };
  int64_t count = 1;
  for (const BlockedLoop &blocked : block)
    count *= blocked.count;

  SmallVector<unsigned> reductions;
  root.getReductionDims(reductions);
  bool reduces = !reductions.empty();
  llvm::erase_if(reductions, [&](unsigned loop) { return schedule.isOuter(dims.getClass(root, loop)); });
  SmallVector<Value> values;
  if (reduces)
    for (int64_t i = 0; i < count; ++i) {
      Value start = loadOperand(accumulates(root) ? result : init->get(), root.getMatchingIndexingMap(init), at(i));
      if (!start)
        return;
      values.push_back(computesLanes(root) ? builder.broadcast(start) : start);
    }
  if (!reduces)
    for (int64_t i = 0; i < count; ++i)
      values.push_back(emitPayload(root, at(i), {}, {}, {}));
  else
    values = emitReduction(root, reductions, indices, block, values);
  if (!failure.empty())
    return;

  for (int64_t i = 0; i < count && failure.empty(); ++i)
    emitEpilogue(root, epilogue, at(i), values[i]);
}

/// Computes what consumes one element of a result, and stores what comes of it.
void KernelEmitter::emitEpilogue(linalg::GenericOp root, ArrayRef<linalg::GenericOp> epilogue,
                                 SmallVector<OpFoldResult> point, Value value) {
  linalg::GenericOp op = root;
  for (linalg::GenericOp next : epilogue) {
    // Where the producer's result lies, in the loops of its consumer.
    OpOperand &use = *op->getResult(0).use_begin();
    AffineMap stored = op.getMatchingIndexingMap(op.getDpsInitOperand(0));
    AffineMap read = next.getMatchingIndexingMap(&use);
    SmallVector<OpFoldResult> nextPoint(next.getNumLoops());
    for (auto [from, to] : llvm::zip(stored.getResults(), read.getResults()))
      nextPoint[cast<AffineDimExpr>(to).getPosition()] = point[cast<AffineDimExpr>(from).getPosition()];
    value = emitPayload(next, nextPoint, use.get(), value, {});
    if (!failure.empty())
      return;
    point = nextPoint;
    op = next;
  }
  storeResult(op, value, point);
}

void KernelEmitter::storeResult(linalg::GenericOp op, Value value, ArrayRef<OpFoldResult> indices) {
  SmallVector<OpFoldResult> position;
  for (AffineExpr expr : op.getMatchingIndexingMap(op.getDpsInitOperand(0)).getResults())
    position.push_back(indices[cast<AffineDimExpr>(expr).getPosition()]);
  builder.store(value, buffers[op->getResult(0)], position);
}

//===----------------------------------------------------------------------------===//
// Views, joins and scalars
//===----------------------------------------------------------------------------===//

/// Gives the result of a reshape strides on the buffer of its source, where those exist.
static bool reshapeStrides(const Buffer &from, Buffer &to, ArrayRef<int64_t> wideShape,
                           ArrayRef<SmallVector<int64_t, 2>> groups, bool expands, LaneBuilder &builder) {
  SmallVector<OpFoldResult> wide(wideShape.size(), builder.constant(0)), narrow(groups.size(), builder.constant(0));
  if (!expands)
    wide = from.strides;
  for (auto [g, group] : llvm::enumerate(groups)) {
    if (expands) {
      OpFoldResult stride = from.strides[g];
      for (int64_t dim : llvm::reverse(group)) {
        if (wideShape[dim] == 1)
          continue;
        if (getConstantIntValue(stride) == ShapedType::kDynamic)
          return false; // behind a dynamic dimension no stride is known
        wide[dim] = stride;
        stride = ShapedType::isDynamic(wideShape[dim]) ? OpFoldResult(builder.constant(ShapedType::kDynamic))
                                                       : builder.mul(stride, builder.constant(wideShape[dim]));
      }
      continue;
    }
    bool isFirst = true;
    OpFoldResult expected;
    for (int64_t dim : llvm::reverse(group)) {
      if (wideShape[dim] == 1)
        continue;
      if (isFirst)
        narrow[g] = wide[dim];
      else if (getConstantIntValue(expected) != getConstantIntValue(wide[dim]) || !getConstantIntValue(wide[dim]))
        return false;
      isFirst = false;
      if (ShapedType::isDynamic(wideShape[dim]))
        expected = OpFoldResult(builder.constant(ShapedType::kDynamic));
      else
        expected = builder.mul(wide[dim], builder.constant(wideShape[dim]));
    }
  }
  to.strides = expands ? wide : narrow;
  return true;
}

void KernelEmitter::emitView(Operation *op) {
  Value source = op->getOperand(0), result = op->getResult(0);
  Buffer view = buffers[source];
  if (auto slice = dyn_cast<tensor::ExtractSliceOp>(op)) {
    view.strides.clear();
    for (auto [dim, stride] : llvm::enumerate(buffers[source].strides)) {
      view.offset = builder.add(view.offset, builder.mul(getScalar(slice.getMixedOffsets()[dim]), stride));
      if (!slice.getDroppedDims().test(dim))
        view.strides.push_back(builder.mul(stride, slice.getMixedStrides()[dim]));
    }
    buffers[result] = view;
    return;
  }
  bool expands = isa<tensor::ExpandShapeOp>(op);
  auto groups = expands ? cast<tensor::ExpandShapeOp>(op).getReassociationIndices()
                        : cast<tensor::CollapseShapeOp>(op).getReassociationIndices();
  auto wide = cast<RankedTensorType>((expands ? result : source).getType());
  if (!view.splat && !reshapeStrides(buffers[source], view, wide.getShape(), groups, expands, builder)) {
    Buffer copy = makeContiguous(source);
    view = copy;
    if (!reshapeStrides(copy, view, wide.getShape(), groups, expands, builder)) {
      failure = "a reshape merges a dimension of the outer loops with another";
      return;
    }
  }
  buffers[result] = view;
}

void KernelEmitter::emitConstant(arith::ConstantOp op) {
  auto elements = dyn_cast<DenseElementsAttr>(op.getValue());
  if (!elements) {
    scalars.map(op.getResult(), builder.clone(*op)->getResult(0));
    return;
  }
  Buffer &buffer = buffers[op.getResult()];
  if (elements.isSplat()) {
    auto value = elements.getSplatValue<TypedAttr>();
    buffer.splat = arith::ConstantOp::create(builder, builder.getLoc(), value);
    return;
  }
  ArrayRef<int64_t> shape = elements.getType().getShape();
  int64_t stride = 1;
  buffer.offset = builder.constant(0);
  for (int64_t dim = shape.size() - 1; dim >= 0; --dim) {
    if (isLane(op.getResult(), dim))
      buffer.perLane = stride == 1 || schedule.lanes == 1;
    buffer.strides.insert(buffer.strides.begin(), builder.constant(stride));
    stride *= shape[dim];
  }
  buffer.isGlobal = true;
  if (buffer.perLane || !hasLanes(op.getResult()))
    buffer.memory = placeConstant(elements);
  if (!buffer.memory)
    failure = "a constant that is no splat has no lowering";
}

OpFoldResult KernelEmitter::getScalar(OpFoldResult value) {
  auto dynamic = dyn_cast<Value>(value);
  return dynamic ? OpFoldResult(scalars.lookup(dynamic)) : value;
}

void KernelEmitter::emitInsert(tensor::InsertSliceOp op) {
  Value dest = op.getDest();
  bool fresh = dest.getDefiningOp<tensor::EmptyOp>();
  if (!fresh && !dest.hasOneUse()) {
    failure = "a tensor that is written in parts is used in between";
    return;
  }
  Buffer whole = fresh ? allocate(op.getResult()) : buffers[dest];
  if (whole.splat) {
    Buffer filled = allocate(op.getResult());
    emitCopy(whole, dest, filled);
    whole = filled;
  }
  buffers[op.getResult()] = whole;
  // The part as a view of the whole, with the dimensions of the source.
  Buffer part = whole;
  part.strides.clear();
  for (auto [dim, stride] : llvm::enumerate(whole.strides)) {
    part.offset = builder.add(part.offset, builder.mul(getScalar(op.getMixedOffsets()[dim]), stride));
    if (!op.getDroppedDims().test(dim))
      part.strides.push_back(builder.mul(stride, op.getMixedStrides()[dim]));
  }
  emitCopy(buffers[op.getSource()], op.getSource(), part);
}

/// A loop whose tensors are carried in scratch: what an iteration yields is copied there, unless it has been
/// written in place.
void KernelEmitter::emitFor(scf::ForOp loop) {
  std::optional<APInt> trips = loop.getStaticTripCount();
  if (!trips || !isConstantIntValue(loop.getLowerBound(), 0) || !isConstantIntValue(loop.getStep(), 1)) {
    failure = "a loop in the body has no constant number of iterations";
    return;
  }
  for (auto [init, carried, result] : llvm::zip(loop.getInitArgs(), loop.getRegionIterArgs(), loop.getResults())) {
    Buffer buffer = allocate(result);
    if (!init.getDefiningOp<tensor::EmptyOp>())
      emitCopy(Buffer(buffers[init]), init, buffer);
    buffers[carried] = buffer;
    buffers[result] = buffer;
  }
  if (!failure.empty())
    return;
  builder.loop(builder.constant(trips->getSExtValue()), 1, [&](OpFoldResult index) {
    scalars.map(loop.getInductionVar(), builder.toValue(index));
    for (Operation &op : loop.getBody()->without_terminator())
      if (failure.empty() && !emitted.contains(&op))
        emitOp(&op);
    for (auto [value, carried] : llvm::zip(loop.getYieldedValues(), loop.getRegionIterArgs()))
      if (failure.empty() && buffers[value].memory != buffers[carried].memory)
        emitCopy(buffers[value], value, buffers[carried]);
  });
}

void KernelEmitter::emitOp(Operation *op) {
  if (auto generic = dyn_cast<linalg::GenericOp>(op))
    return emitGeneric(generic);
  if (isa<tensor::ExpandShapeOp, tensor::CollapseShapeOp, tensor::ExtractSliceOp>(op))
    return emitView(op);
  if (isa<tensor::EmptyOp>(op))
    return; // storage is found where it is first written
  if (auto fill = dyn_cast<linalg::FillOp>(op)) {
    buffers[fill.result()].splat = scalars.lookup(fill.value());
    return;
  }
  if (auto insert = dyn_cast<tensor::InsertSliceOp>(op))
    return emitInsert(insert);
  if (auto loop = dyn_cast<scf::ForOp>(op))
    return emitFor(loop);
  if (auto dim = dyn_cast<tensor::DimOp>(op)) {
    int cls = dims.getClass(dim.getSource(), *dim.getConstantIndex());
    auto size = outerSizes.find(cls);
    if (size == outerSizes.end() && ShapedType::isDynamic(dims.getSize(cls)))
      failure = "the size of a dynamic dimension is not known to the kernel";
    else
      scalars.map(dim.getResult(),
                  builder.toValue(size != outerSizes.end() ? size->second : builder.constant(dims.getSize(cls))));
    return;
  }
  if (auto constant = dyn_cast<arith::ConstantOp>(op))
    return emitConstant(constant);
  bool isScalar = llvm::none_of(op->getOperandTypes(), [](Type type) { return isa<TensorType>(type); });
  if (!isScalar) {
    failure = ("op '" + op->getName().getStringRef() + "' has no lowering").str();
    return;
  }
  IRMapping mapping = scalars;
  Operation *clone = builder.clone(*op, mapping);
  scalars.map(op->getResults(), clone->getResults());
}
