//===- KernelEmitter.cpp - one kernel as one function ------------------------------===//
//
// Arguments as the body reads them, the loops over tiles and shared dimensions, and the order of
// the ops. The ops themselves are in EmitOps.cpp.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Codegen/KernelEmitter.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace mlir::pfcn;

//===----------------------------------------------------------------------------===//
// Arguments and results
//===----------------------------------------------------------------------------===//

void KernelEmitter::setArguments(ArrayRef<Buffer> inputs, ArrayRef<Buffer> results) {
  buffers.clear();
  directOutputs.clear();
  emitted.clear();
  pending.clear();
  levels.clear();
  scalars.clear();
  scratchBytes = 0;
  inUse.clear();
  released.clear();
  outputs.assign(results.begin(), results.end());
  for (BlockArgument argument : body.getArguments())
    buffers[argument] = inputs[argument.getArgNumber()];
  for (auto [i, value] : llvm::enumerate(kernel.getYielded())) {
    bool once = llvm::count(kernel.getYielded(), value) == 1;
    auto generic = value.getDefiningOp<linalg::GenericOp>();
    if (storesDirectly(value, outputs[i]) && once && value.hasOneUse() && generic && !accumulates(generic))
      directOutputs[value] = i;
  }
}

/// Brings an argument into the form in which the ops of the body read it: where its lanes are
/// no neighbours, a tile of it is transposed into scratch.
void KernelEmitter::emitArgument(BlockArgument argument) {
  Buffer &raw = buffers[argument];
  bool lanes = hasLanes(argument);
  if (raw.perLane || (!lanes && !stagesUniform(argument)))
    return;
  Buffer source = raw;
  raw = allocate(argument, /*isTile=*/true);
  emitRows(argument, source, raw, [&](OpFoldResult from, OpFoldResult to, OpFoldResult laneStride, int64_t size) {
    if (lanes)
      builder.pack(source, from, laneStride, raw, to, size);
    else
      stage(source, from, raw, to, size);
  });
}

/// Walks what one lane has of a value in runs that are contiguous in `rows`.
void KernelEmitter::emitRows(Value value, const Buffer &rows, const Buffer &scratch,
                             function_ref<void(OpFoldResult, OpFoldResult, OpFoldResult, int64_t)> body) {
  SmallVector<int64_t> shape = getInnerShape(value);
  SmallVector<OpFoldResult> innerStrides;
  OpFoldResult laneStride;
  for (auto [dim, stride] : llvm::enumerate(rows.strides)) {
    if (isLane(value, dim))
      laneStride = stride;
    if (!schedule.isOuter(dims.getClass(value, dim)))
      innerStrides.push_back(stride);
  }
  int64_t run = 1;
  SmallVector<int64_t> prefix(shape);
  while (!prefix.empty() && (prefix.back() == 1 || isConstantIntValue(innerStrides[prefix.size() - 1], run)))
    run *= prefix.pop_back_val();
  builder.loops(prefix, [&](ArrayRef<OpFoldResult> outer) {
    SmallVector<OpFoldResult> inner(outer);
    inner.resize(shape.size(), builder.constant(0));
    SmallVector<OpFoldResult> indices = getIndices(value, inner);
    body(builder.getAddress(rows, indices), builder.getAddress(scratch, indices), laneStride, run);
  });
}

/// Stores a result of the body, unless the op that computed it has already done so.
void KernelEmitter::emitYield(unsigned result) {
  Value value = kernel.getYielded()[result];
  bringIn(value);
  Buffer &output = outputs[result];
  if (directOutputs.count(value))
    return;
  if (output.perLane)
    return emitCopy(buffers[value], value, output);
  Buffer source = makeContiguous(value);
  emitRows(value, output, source, [&](OpFoldResult to, OpFoldResult from, OpFoldResult laneStride, int64_t size) {
    builder.unpack(source, from, output, to, laneStride, size);
  });
}

//===----------------------------------------------------------------------------===//
// What lies where
//===----------------------------------------------------------------------------===//

bool KernelEmitter::hasLanes(Value value) {
  int64_t rank = cast<RankedTensorType>(value.getType()).getRank();
  return llvm::any_of(llvm::seq<int64_t>(0, rank), [&](int64_t dim) { return isLane(value, dim); });
}

int KernelEmitter::getLevel(Value value) {
  if (!isa<RankedTensorType>(value.getType()))
    return 0;
  int64_t rank = cast<RankedTensorType>(value.getType()).getRank();
  for (int64_t dim = 0; dim < rank; ++dim)
    if (llvm::is_contained(schedule.outerClasses, dims.getClass(value, dim)))
      return 1;
  Operation *op = value.getDefiningOp();
  if (auto generic = dyn_cast_or_null<linalg::GenericOp>(op); generic && accumulates(generic))
    return 2;
  return op ? getLevel(op) : 0;
}

int KernelEmitter::getLevel(Operation *op) {
  auto it = levels.find(op);
  if (it != levels.end())
    return it->second;
  if (isa<tensor::DimOp>(op)) // sizes are known from the start
    return levels[op] = 0;
  int level = 0;
  for (Value read : getReads(op))
    level = std::max(level, getLevel(read));
  for (Value result : op->getResults())
    if (auto type = dyn_cast<RankedTensorType>(result.getType()))
      for (int64_t dim = 0; dim < type.getRank(); ++dim)
        level = std::max<int>(level, llvm::is_contained(schedule.outerClasses, dims.getClass(result, dim)));
  return levels[op] = level;
}

/// The sizes of the dimensions that the ops walk themselves.
SmallVector<int64_t> KernelEmitter::getInnerShape(Value value) {
  SmallVector<int64_t> shape;
  for (auto [dim, size] : llvm::enumerate(cast<RankedTensorType>(value.getType()).getShape())) {
    if (schedule.isOuter(dims.getClass(value, dim)))
      continue;
    if (ShapedType::isDynamic(size))
      failure = "a dynamic dimension is not shared by the whole body";
    shape.push_back(size);
  }
  return shape;
}

SmallVector<OpFoldResult> KernelEmitter::getIndices(Value value, ArrayRef<OpFoldResult> inner) {
  SmallVector<OpFoldResult> indices;
  int64_t rank = cast<RankedTensorType>(value.getType()).getRank();
  for (int64_t dim = 0; dim < rank; ++dim) {
    int cls = dims.getClass(value, dim);
    if (schedule.isOuter(cls)) {
      indices.push_back(outerIndices.lookup(cls));
    } else {
      indices.push_back(inner.front());
      inner = inner.drop_front();
    }
  }
  return indices;
}

/// Row-major strides of what one point of the outer loops has of a value, and how many scalars that is.
SmallVector<OpFoldResult> KernelEmitter::getScratchStrides(Value value, bool isTile, int64_t &size) {
  size = isPerLane(value, isTile) ? builder.getLanePitch(isTile) : 1;
  auto shape = cast<RankedTensorType>(value.getType()).getShape();
  SmallVector<OpFoldResult> strides(shape.size());
  auto place = [&](int64_t dim) {
    bool outer = schedule.isOuter(dims.getClass(value, dim));
    strides[dim] = builder.constant(outer ? 0 : size);
    if (outer)
      return;
    if (ShapedType::isDynamic(shape[dim]))
      failure = "a dynamic dimension is not shared by the whole body";
    size *= std::max<int64_t>(shape[dim], 1);
  };
  int64_t innermost = getInnermostDim(value);
  if (innermost >= 0)
    place(innermost);
  for (int64_t dim = shape.size() - 1; dim >= 0; --dim)
    if (dim != innermost)
      place(dim);
  return strides;
}

/// What a view looks at.
static Value getViewed(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (isa<tensor::ExpandShapeOp, tensor::CollapseShapeOp, tensor::ExtractSliceOp>(op))
      value = op->getOperand(0);
    else if (auto insert = dyn_cast<tensor::InsertSliceOp>(op);
             insert && !insert.getDest().getDefiningOp<tensor::EmptyOp>())
      value = insert.getDest(); // written in place
    else
      break;
  }
  return value;
}

/// Where the scratch of each value is last read, by the position of the op.
void KernelEmitter::computeLifetimes() {
  unsigned position = 0;
  for (Operation &op : body) {
    positions[&op] = position;
    op.walk([&](Operation *reader) { // the op itself, and those of a loop
      for (Value operand : reader->getOperands())
        if (isa<RankedTensorType>(operand.getType())) {
          // What the inner level reads in each of its rounds lives on.
          Value viewed = getViewed(operand);
          bool staysInLevel =
              getLevel(&op) == getLevel(viewed) || (schedule.bringsInLate && isa<BlockArgument>(viewed));
          unsigned &last = lastReads[viewed];
          last = std::max(last, staysInLevel ? position : std::numeric_limits<unsigned>::max());
        }
    });
    ++position;
  }
}

/// Gives back the scratch of values that no op from `op` on reads. What the loops around the inner level have
/// brought in stays for their next round.
void KernelEmitter::releaseScratch(Operation *op) {
  unsigned position = positions.lookup(op);
  llvm::erase_if(inUse, [&](const std::pair<Value, Value> &use) {
    auto [value, memory] = use;
    bool isLate = schedule.bringsInLate && isa<BlockArgument>(value);
    if (lastReads.lookup(value) >= position || (getLevel(value) != getLevel(op) && !isLate))
      return false;
    released.push_back(memory);
    return true;
  });
}

/// The smallest scratch of values that are dead by now, if there is any of that kind.
Value KernelEmitter::reuseScratch(Type element, int64_t size) {
  auto sizeOf = [](Value memory) { return cast<MemRefType>(memory.getType()).getDimSize(0); };
  Value *best = nullptr;
  for (Value &memory : released)
    if (cast<MemRefType>(memory.getType()).getElementType() == element && sizeOf(memory) >= size &&
        (!best || sizeOf(memory) < sizeOf(*best)))
      best = &memory;
  if (!best)
    return {};
  Value reused = *best;
  released.erase(best);
  return reused;
}

void KernelEmitter::placeScratch(Buffer &buffer, Type element, int64_t size) {
  scratchBytes += builder.getAllocated(element, size) * (element.getIntOrFloatBitWidth() / 8);
  if (scratchBytes > options.maxScratch)
    failure = "a tile needs more than " + std::to_string(options.maxScratch) + " bytes of scratch";
  if (!failure.empty())
    size = 1;
  OpBuilder::InsertionGuard guard(builder);
  setInsertionPointToScratch();
  buffer.memory = builder.allocate(element, size);
}

void KernelEmitter::placeTile(Buffer &tile, Type element, int64_t size, int) { placeScratch(tile, element, size); }

/// Scratch for what one point of the outer loops has of a value.
Buffer KernelEmitter::allocate(Value value, bool isTile) {
  Buffer buffer;
  int64_t size;
  buffer.perLane = isPerLane(value, isTile);
  buffer.isTile = isTile;
  buffer.offset = builder.constant(0);
  buffer.strides = getScratchStrides(value, isTile, size);
  Type element = cast<RankedTensorType>(value.getType()).getElementType();
  if (element.isInteger(1)) // a boolean is kept in a byte
    element = builder.getI8Type();
  if (isTile && !schedule.bringsInLate) {
    placeTile(buffer, element, size, getLevel(value));
  } else {
    // Tiles are written by other threads than those that last used released scratch; only intermediates reuse it.
    buffer.memory = reuseScratch(element, size);
    if (!buffer.memory)
      placeScratch(buffer, element, size);
    if (value.getDefiningOp() || schedule.bringsInLate)
      inUse.emplace_back(getViewed(value), buffer.memory);
  }
  return buffer;
}

//===----------------------------------------------------------------------------===//
// The loops
//===----------------------------------------------------------------------------===//

void KernelEmitter::emitLevel(int level) {
  beginArguments(level);
  for (BlockArgument argument : body.getArguments())
    if (!argument.use_empty() && getLevel(argument) == level) {
      if (schedule.bringsInLate)
        pending.insert(argument);
      else
        emitArgument(argument);
    }
  finishArguments(level);
  for (Operation &op : body.without_terminator())
    if (failure.empty() && getLevel(&op) == level && !emitted.contains(&op)) {
      releaseScratch(&op);
      llvm::for_each(getReads(&op), [&](Value read) { bringIn(read); });
      emitOp(&op);
    }
}

void KernelEmitter::bringIn(Value value) {
  if (!pending.erase(value))
    return;
  emitArgument(cast<BlockArgument>(value));
  finishShared();
}

/// Yields of what is computed in the loops, or behind them.
void KernelEmitter::emitYields(bool areInLoop) {
  for (unsigned i = 0; i < outputs.size() && failure.empty(); ++i)
    if (schedule.summedClass < 0 || areInLoop == (getLevel(kernel.getYielded()[i]) == 1))
      emitYield(i);
}

/// The results of the ops that sum over the summed class.
SmallVector<Value> KernelEmitter::getSums() {
  SmallVector<Value> sums;
  for (auto op : body.getOps<linalg::GenericOp>())
    if (accumulates(op))
      sums.push_back(op->getResult(0));
  return sums;
}

/// Walks the summed class with accumulators around it. A sum of many terms is made of sums of fewer, as eager's is.
void KernelEmitter::emitSummedLoop(OpFoldResult size, function_ref<void(OpFoldResult)> body) {
  constexpr int64_t most = 64;
  SmallVector<Value> sums = getSums();
  auto clear = [&] {
    for (Value sum : sums) {
      Value init = sum.getDefiningOp<linalg::GenericOp>().getDpsInitOperand(0)->get();
      emitFill(sum, buffers[init].splat, buffers[sum]);
    }
  };
  for (Value sum : sums)
    buffers[sum] = allocate(sum);
  if (!failure.empty())
    return;
  clear();
  if (std::optional<int64_t> known = getConstantIntValue(size); known && *known <= most)
    return builder.loop(size, 1, body);
  SmallVector<Buffer> totals;
  for (Value sum : sums) {
    totals.push_back(allocate(sum));
    emitCopy(buffers[sum], sum, totals.back());
  }
  builder.loop(size, most, [&](OpFoldResult first) {
    OpFoldResult rest = builder.add(size, builder.mul(first, builder.constant(-1)));
    Value count = arith::MinSIOp::create(builder, builder.getLoc(), builder.toValue(rest),
                                         builder.toValue(builder.constant(most)));
    builder.loop(count, 1, [&](OpFoldResult index) { body(builder.add(first, index)); });
    for (auto [sum, total] : llvm::zip_equal(sums, totals))
      emitAdd(sum, buffers[sum], total);
    clear();
  });
  for (auto [sum, total] : llvm::zip_equal(sums, totals))
    buffers[sum] = total;
}

void KernelEmitter::emitOuterLoops(size_t depth) {
  if (depth == schedule.outerClasses.size()) {
    emitLevel(1);
    emitYields(/*areInLoop=*/true);
    return;
  }
  int cls = schedule.outerClasses[depth];
  OpFoldResult size = outerSizes.lookup(cls);
  if (cls == schedule.summedClass) {
    emitSummedLoop(size, [&](OpFoldResult index) {
      outerIndices[cls] = index;
      emitOuterLoops(depth + 1);
    });
    return;
  }
  if (cls == schedule.blockedClass)
    return emitBlocksOfPoints(depth, cls, size);
  bool lanes = cls == schedule.laneClass;
  walkOuter(depth, size, lanes ? schedule.lanes : 1, [&](OpFoldResult index) {
    outerIndices[cls] = lanes ? placeLanes(index, size) : index;
    emitOuterLoops(depth + 1);
  });
}

/// Walks an outer class by blocks: the ops see arguments and results as if they began where the block does. The last
/// block ends with the class, and that of a part reaches into the next one.
void KernelEmitter::emitBlocksOfPoints(size_t depth, int cls, OpFoldResult size) {
  int64_t step = dims.getSize(cls), all = schedule.blockedSize;
  auto begin = [&](Value value, Buffer &buffer, OpFoldResult start) {
    for (auto [dim, stride] : llvm::enumerate(buffer.strides))
      if (dims.getClass(value, dim) == cls)
        buffer.offset = builder.add(buffer.offset, builder.mul(start, stride));
  };
  walkOuter(depth, size, step, [&](OpFoldResult start) {
    if (all % step != 0 || schedule.parts != 1)
      start = arith::MinSIOp::create(builder, builder.getLoc(), builder.toValue(start),
                                     builder.toValue(builder.constant(all - step)))
                  .getResult();
    SmallVector<Buffer> arguments;
    for (BlockArgument argument : body.getArguments()) {
      arguments.push_back(buffers[argument]);
      begin(argument, buffers[argument], start);
    }
    SmallVector<Buffer> results(outputs);
    for (auto [value, output] : llvm::zip_equal(kernel.getYielded(), outputs))
      begin(value, output, start);
    emitOuterLoops(depth + 1);
    for (auto [argument, buffer] : llvm::zip_equal(body.getArguments(), arguments))
      buffers[argument] = buffer;
    outputs = results;
  });
}

void KernelEmitter::emitTile() {
  outerIndices[schedule.instanceClass] = tileIndex;
  if (schedule.lanesAreInstances()) {
    OpFoldResult start = builder.mul(tileIndex, builder.constant(schedule.lanes));
    outerIndices[schedule.instanceClass] = placeLanes(start, builder.constant(kernel.getCount()));
  }
  emitLevel(0);
  emitOuterLoops(0);
  if (schedule.summedClass < 0)
    return;
  emitLevel(2);
  emitYields(/*areInLoop=*/false);
}

LogicalResult KernelEmitter::emit(std::string &reason) {
  computeLifetimes();
  createFunction();
  emitTiles();
  reason = failure;
  return success(failure.empty());
}
