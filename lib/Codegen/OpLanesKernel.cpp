//===- OpLanesKernel.cpp - a CPU kernel whose ops choose their lanes ----------------===//
//
// What the lanes hold is decided by OpLanes; that a load finds its lanes side by side, is checked here at each one. So
// a bad choice is slow, but never wrong.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Codegen/OpLanesKernel.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::pfcn;

/// Walks `size` elements by vectors; the last overlaps its neighbour.
void OpLanesKernel::walkLanes(int64_t size, function_ref<void(OpFoldResult)> body) {
  int64_t step = builder.getLanes();
  builder.loop(builder.constant(size / step * step), step, body);
  if (size % step != 0)
    body(builder.constant(size - step));
}

//===----------------------------------------------------------------------------===//
// Elements
//===----------------------------------------------------------------------------===//

Value OpLanesKernel::emitPayload(linalg::GenericOp op, ArrayRef<OpFoldResult> indices, Value known, Value knownAs,
                                 Value accumulator) {
  auto found = activeLoops.find(op);
  auto leave = llvm::scope_exit([&, before = activeLoop] { activeLoop = before; });
  activeLoop = found == activeLoops.end() ? OpLanes::Choice::none : found->second;
  return KernelEmitter::emitPayload(op, indices, known, knownAs, accumulator);
}

Value OpLanesKernel::loadOperand(Value value, AffineMap map, ArrayRef<OpFoldResult> indices) {
  if (activeLoop == OpLanes::Choice::none || !buffers.count(value) || buffers[value].splat)
    return KernelEmitter::loadOperand(value, map, indices);
  OpFoldResult stride = getStride(buffers[value], map, activeLoop);
  if (isConstantIntValue(stride, 0))
    return KernelEmitter::loadOperand(value, map, indices);
  Type element = cast<RankedTensorType>(value.getType()).getElementType();
  if (isConstantIntValue(stride, 1)) {
    Buffer row = buffers[value];
    row.perLane = true;
    SmallVector<OpFoldResult> position;
    for (AffineExpr expr : map.getResults())
      position.push_back(evaluate(expr, indices));
    return builder.load(row, position, element);
  }
  SmallVector<Value> parts;
  for (int64_t lane = 0; lane < builder.getLanes(); ++lane) {
    SmallVector<OpFoldResult> shifted(indices);
    shifted[activeLoop] = builder.add(shifted[activeLoop], builder.constant(lane));
    parts.push_back(KernelEmitter::loadOperand(value, map, shifted));
  }
  if (!failure.empty())
    return {};
  return vector::FromElementsOp::create(builder, builder.getLoc(), cast<VectorType>(builder.getLaneType(element)),
                                        parts);
}

void OpLanesKernel::storeResult(linalg::GenericOp op, Value value, ArrayRef<OpFoldResult> indices) {
  auto found = activeLoops.find(op);
  if (found == activeLoops.end())
    return KernelEmitter::storeResult(op, value, indices);
  AffineMap map = op.getMatchingIndexingMap(op.getDpsInitOperand(0));
  const Buffer &buffer = buffers[op->getResult(0)];
  auto at = [&](int64_t lane) {
    SmallVector<OpFoldResult> position, shifted(indices);
    shifted[found->second] = builder.add(shifted[found->second], builder.constant(lane));
    for (AffineExpr expr : map.getResults())
      position.push_back(shifted[cast<AffineDimExpr>(expr).getPosition()]);
    return position;
  };
  if (isConstantIntValue(getStride(buffer, map, found->second), 1)) {
    Buffer row = buffer;
    row.perLane = true;
    return builder.store(value, row, at(0));
  }
  for (int64_t lane = 0; lane < builder.getLanes(); ++lane) {
    Value element = value;
    if (isa<VectorType>(value.getType()))
      element = vector::ExtractOp::create(builder, builder.getLoc(), value, ArrayRef<int64_t>{lane});
    builder.store(element, buffer, at(lane));
  }
}

/// Accumulators beside each other along the loop that lies across the lanes are whole vectors apart.
SmallVector<OpFoldResult> OpLanesKernel::getNeighbour(ArrayRef<OpFoldResult> point, unsigned loop, int64_t distance) {
  bool isAlongLanes = loop != OpLanes::Choice::none && loop == rootLoop;
  return KernelEmitter::getNeighbour(point, loop, isAlongLanes ? distance * builder.getLanes() : distance);
}

//===----------------------------------------------------------------------------===//
// Ops
//===----------------------------------------------------------------------------===//

/// Follows the loop across the lanes from an op to those that consume its elements, and leaves out what has other
/// lanes.
void OpLanesKernel::activate(linalg::GenericOp root, unsigned loop, SmallVectorImpl<linalg::GenericOp> &epilogue) {
  bool hasLanes = loop != OpLanes::Choice::none;
  if (hasLanes)
    activeLoops[root] = loop;
  linalg::GenericOp op = root;
  for (size_t i = 0; i < epilogue.size(); ++i) {
    linalg::GenericOp next = epilogue[i];
    OpOperand &use = *op->getResult(0).use_begin();
    AffineMap stored = op.getMatchingIndexingMap(op.getDpsInitOperand(0)), read = next.getMatchingIndexingMap(&use);
    unsigned nextLoop = OpLanes::Choice::none;
    for (auto [from, to] : llvm::zip_equal(stored.getResults(), read.getResults()))
      if (hasLanes && cast<AffineDimExpr>(from).getPosition() == loop)
        nextLoop = cast<AffineDimExpr>(to).getPosition();
    if (lanes.get(next).loop != nextLoop) {
      epilogue.resize(i);
      return;
    }
    if (hasLanes)
      activeLoops[next] = nextLoop;
    op = next;
    loop = nextLoop;
  }
}

/// Copies of operands with the dimension innermost along which an op has its lanes; `before` has what they stand for.
void OpLanesKernel::turnOperands(linalg::GenericOp op, SmallVectorImpl<std::pair<Value, Buffer>> &before) {
  for (OpOperand *operand : op.getDpsInputOperands()) {
    Value value = operand->get();
    int64_t dim = lanes.getTurnedDim(*operand);
    if (dim < 0 || !failure.empty() || !buffers.count(value) || buffers[value].splat)
      continue;
    Buffer source = buffers[value];
    turnedDim = dim;
    Buffer tile = allocate(value);
    turnedDim = -1;
    emitCopy(source, value, tile);
    before.emplace_back(value, source);
    buffers[value] = tile;
  }
}

void OpLanesKernel::emitGeneric(linalg::GenericOp root) {
  OpLanes::Choice choice = lanes.get(root);
  SmallVector<OpFoldResult> indices;
  SmallVector<unsigned> parallel;
  if (!collectLoops(root, indices, parallel))
    return;
  bool isFolded = lanes.isFolded(root);
  SmallVector<linalg::GenericOp> epilogue = collectEpilogue(root);
  activate(root, isFolded ? OpLanes::Choice::none : choice.loop, epilogue);
  SmallVector<std::pair<Value, Buffer>> unturned;
  auto turnBack = llvm::scope_exit([&] {
    for (auto &[value, buffer] : llvm::reverse(unturned))
      buffers[value] = buffer;
  });
  turnOperands(root, unturned);
  for (linalg::GenericOp next : epilogue)
    turnOperands(next, unturned);
  placeResult(root, epilogue);
  if (!failure.empty())
    return;
  auto restore = llvm::scope_exit([&, before = builder.getLanes()] { builder.setLanes(before); });
  builder.setLanes(choice.lanes);
  rootLoop = choice.loop;
  activeLoop = isFolded ? OpLanes::Choice::none : choice.loop; // of what accumulators start with
  if (isFolded)
    return emitFolded(root, epilogue, indices, parallel);
  walkBlocks(root, epilogue, indices, orderLoops(root, parallel, chooseBlocks(root, parallel)));
}

/// Sums whose terms lie across the lanes: of each, one partial sum per lane, and one of what is left over. A few are
/// under way together, since the additions of one would wait for each other.
void OpLanesKernel::emitFolded(linalg::GenericOp root, ArrayRef<linalg::GenericOp> epilogue,
                               SmallVector<OpFoldResult> &indices, ArrayRef<unsigned> parallel) {
  SmallVector<int64_t> sizes = root.getStaticLoopRanges();
  unsigned folded = lanes.get(root).loop;
  SmallVector<unsigned> reductions;
  root.getReductionDims(reductions);
  llvm::erase_if(reductions,
                 [&](unsigned loop) { return loop == folded || schedule.isOuter(dims.getClass(root, loop)); });
  SmallVector<BlockedLoop> order;
  for (unsigned loop : parallel)
    order.push_back({loop, 1});
  if (!order.empty())
    order.back().count = chooseBlock(sizes[order.back().loop], options.accumulators / 2);
  SmallVector<BlockedLoop> block;
  auto walk = [&](auto &self, size_t depth) -> void {
    if (!failure.empty())
      return;
    if (depth == order.size())
      return emitFoldedBlock(root, epilogue, indices, reductions, block);
    auto [loop, count] = order[depth];
    auto emitPart = [&](OpFoldResult first, int64_t size) {
      indices[loop] = first;
      block.push_back({loop, size});
      self(self, depth + 1);
      block.pop_back();
    };
    builder.loop(builder.constant(sizes[loop] / count * count), count,
                 [&](OpFoldResult first) { emitPart(first, count); });
    if (int64_t rest = sizes[loop] % count)
      emitPart(builder.constant(sizes[loop] - rest), rest);
  };
  walk(walk, 0);
}

void OpLanesKernel::emitFoldedBlock(linalg::GenericOp root, ArrayRef<linalg::GenericOp> epilogue,
                                    SmallVector<OpFoldResult> &indices, ArrayRef<unsigned> reductions,
                                    ArrayRef<BlockedLoop> block) {
  SmallVector<int64_t> sizes = root.getStaticLoopRanges();
  unsigned folded = lanes.get(root).loop;
  Location loc = builder.getLoc();
  Type element = cast<RankedTensorType>(root->getResult(0).getType()).getElementType();
  int64_t size = sizes[folded], step = builder.getLanes(), whole = size / step * step;
  int64_t count = 1;
  for (const BlockedLoop &blocked : block)
    count *= blocked.count;
  auto addAt = [&](OpFoldResult index, ArrayRef<Value> sums) {
    indices[folded] = index;
    SmallVector<Value> added;
    for (auto [i, sum] : llvm::enumerate(sums))
      added.push_back(emitPayload(root, getPoint(indices, block, i), {}, {}, sum));
    return failure.empty() ? added : SmallVector<Value>(sums);
  };
  // The vectors, and behind them what is left over.
  auto addTerms = [&](ArrayRef<Value> sums) {
    activeLoops[root] = folded;
    SmallVector<Value> added = builder.loop(whole, step, sums.take_front(count), addAt);
    activeLoops.erase(root);
    SmallVector<Value> rests(sums.drop_front(count));
    for (int64_t i = whole; i < size && failure.empty(); ++i)
      rests = addAt(builder.constant(i), rests);
    added.append(rests);
    return added;
  };
  auto walk = [&](auto &self, size_t depth, ArrayRef<Value> sums) -> SmallVector<Value> {
    if (depth == reductions.size())
      return addTerms(sums);
    return builder.loop(sizes[reductions[depth]], 1, sums, [&](OpFoldResult index, ArrayRef<Value> carried) {
      indices[reductions[depth]] = index;
      return self(self, depth + 1, carried);
    });
  };
  OpOperand *init = root.getDpsInitOperand(0);
  Value zeros = arith::ConstantOp::create(builder, loc, builder.getZeroAttr(builder.getLaneType(element)));
  SmallVector<Value> sums(count, zeros);
  for (int64_t i = 0; i < count; ++i) {
    Value start = loadOperand(init->get(), root.getMatchingIndexingMap(init), getPoint(indices, block, i));
    if (!start)
      return;
    sums.push_back(start);
  }
  sums = walk(walk, 0, sums);
  for (int64_t i = 0; i < count && failure.empty(); ++i) {
    Value sum = vector::ReductionOp::create(builder, loc, vector::CombiningKind::ADD, sums[i], sums[count + i],
                                            arith::FastMathFlags::reassoc);
    emitEpilogue(root, epilogue, getPoint(indices, block, i), sum);
  }
}

//===----------------------------------------------------------------------------===//
// Arguments, copies and results
//===----------------------------------------------------------------------------===//

void OpLanesKernel::emitArgument(BlockArgument argument) {
  if (!lanes.isPacked(argument))
    return;
  Buffer source = buffers[argument], tile = allocate(argument, /*isTile=*/true);
  emitCopy(source, argument, tile);
  buffers[argument] = tile;
}

bool OpLanesKernel::storesDirectly(Value value, const Buffer &output) {
  int64_t dim = lanes.getInnermostDim(value);
  return dim < 0 || isConstantIntValue(output.strides[dim], 1);
}

void OpLanesKernel::emitYield(unsigned result) {
  Value value = kernel.getYielded()[result];
  if (!directOutputs.count(value))
    emitCopy(Buffer(buffers[value]), value, outputs[result]);
}

/// Reshapes that no strides express read a copy in torch's order.
Buffer OpLanesKernel::makeContiguous(Value value) {
  isRowMajor = true;
  auto leave = llvm::scope_exit([&] { isRowMajor = false; });
  return KernelEmitter::makeContiguous(value);
}

/// Vector by vector where both sides have the same dimension innermost, and by transposes in registers elsewhere.
void OpLanesKernel::emitCopy(const Buffer &from, Value value, const Buffer &to) {
  if (!failure.empty())
    return; // there may be no memory
  SmallVector<unsigned> innerDims;
  for (int64_t dim = 0; dim < cast<RankedTensorType>(value.getType()).getRank(); ++dim)
    if (!schedule.isOuter(dims.getClass(value, dim)))
      innerDims.push_back(dim);
  SmallVector<int64_t> sizes = getInnerShape(value);
  auto strideOf = [&](const Buffer &buffer, unsigned i) { return buffer.strides[innerDims[i]]; };
  auto findUnit = [&](const Buffer &buffer) {
    for (unsigned i = 0; i < sizes.size(); ++i)
      if (sizes[i] > 1 && isConstantIntValue(strideOf(buffer, i), 1))
        return static_cast<int64_t>(i);
    return int64_t(-1);
  };
  int64_t written = findUnit(to), read = from.splat ? written : findUnit(from);
  bool isSameKind = from.splat || cast<MemRefType>(from.memory.getType()).getElementType() ==
                                      cast<MemRefType>(to.memory.getType()).getElementType();
  std::optional<int64_t> pitch = read < 0 ? std::nullopt : getConstantIntValue(strideOf(to, read));
  if (written < 0 || read < 0 || !isSameKind || !pitch)
    return KernelEmitter::emitCopy(from, value, to);

  auto restore = llvm::scope_exit([&, before = builder.getLanes()] { builder.setLanes(before); });
  builder.setLanes(std::min<int64_t>(width, llvm::bit_floor<uint64_t>(sizes[written])));
  SmallVector<int64_t> shape(sizes);
  shape[written] = 1;
  // What follows each other in the source, and at even distances in the destination, is one run.
  int64_t run = 1;
  if (read != written) {
    bool grows = true;
    while (grows) {
      grows = false;
      for (unsigned i = 0; i < shape.size(); ++i)
        if (shape[i] > 1 && isConstantIntValue(strideOf(from, i), run) &&
            isConstantIntValue(strideOf(to, i), *pitch * run)) {
          run *= shape[i];
          shape[i] = 1;
          grows = true;
        }
    }
  }
  builder.loops(shape, [&](ArrayRef<OpFoldResult> outer) {
    SmallVector<OpFoldResult> inner(outer);
    walkLanes(sizes[written], [&](OpFoldResult first) {
      inner[written] = first;
      SmallVector<OpFoldResult> indices = getIndices(value, inner);
      Buffer source = from, destination = to;
      if (read == written) {
        source.perLane = destination.perLane = true;
        Type element = cast<MemRefType>(to.memory.getType()).getElementType();
        builder.store(from.splat ? from.splat : builder.load(source, indices, element), destination, indices);
        return;
      }
      destination.pitch = *pitch;
      builder.pack(source, builder.getAddress(from, indices), strideOf(from, written), destination,
                   builder.getAddress(to, indices), run);
    });
  });
}
