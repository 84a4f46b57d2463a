//===- CpuBlocks.cpp - the blocks of accumulators of a CPU kernel --------------------===//
//
// A contraction that loads two operands for each multiplication waits for its loads. Blocks along two of its loops use
// what is loaded several times.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Codegen/CpuKernel.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace mlir::pfcn;

/// Whether an operand changes along a loop.
static bool movesAlong(linalg::GenericOp op, OpOperand &operand, unsigned loop) {
  std::optional<SmallVector<int64_t>> steps = getSteps(op.getMatchingIndexingMap(&operand), loop);
  return !steps || llvm::any_of(*steps, [](int64_t step) { return step != 0; });
}

static SmallVector<OpOperand *> collectLoaded(linalg::GenericOp op) {
  SmallVector<OpOperand *> operands;
  for (OpOperand *operand : op.getDpsInputOperands())
    if (isa<RankedTensorType>(operand->get().getType()) && !op.getMatchingBlockArgument(operand).use_empty())
      operands.push_back(operand);
  return operands;
}

/// How many steps of a loop are whole: vectors where it lies across the lanes.
int64_t CpuKernel::countSteps(linalg::GenericOp root, unsigned loop) {
  int64_t size = root.getStaticLoopRanges()[loop];
  return loop == rootLoop ? size / builder.getLanes() : size;
}

/// Along which of the loops a contraction has its accumulators beside each other: along one, or along two, where what
/// is loaded for one of them serves all of the other. The fewest cycles are taken, of two loads and two multiplications
/// in each, with eight accumulators at least under way.
SmallVector<BlockedLoop> CpuKernel::chooseBlocks(linalg::GenericOp root, ArrayRef<unsigned> parallel) {
  if (root.getNumReductionLoops() == 0)
    return {};
  SmallVector<OpOperand *> operands = collectLoaded(root);
  auto estimate = [&](ArrayRef<BlockedLoop> block) {
    double loads = 0, points = 1;
    for (const BlockedLoop &blocked : block)
      points *= static_cast<double>(blocked.count);
    for (OpOperand *operand : operands) {
      // A vector that is not aligned is two lines of the cache, most of the time.
      bool isVector = rootLoop != OpLanes::Choice::none && movesAlong(root, *operand, rootLoop);
      double each = isVector ? 1.5 : 1.0;
      for (const BlockedLoop &blocked : block)
        each *= movesAlong(root, *operand, blocked.loop) ? static_cast<double>(blocked.count) : 1.0;
      loads += each;
    }
    return std::max({loads / 2, points / 2, 4.0}) + loads / 16;
  };
  // With what is left over of each loop.
  auto estimateAll = [&](ArrayRef<BlockedLoop> block) {
    double cost = 0;
    SmallVector<BlockedLoop> part(block);
    auto walk = [&](auto &self, size_t depth, double times) -> void {
      if (depth == block.size()) {
        cost += times * estimate(part);
        return;
      }
      int64_t steps = countSteps(root, block[depth].loop), count = block[depth].count;
      part[depth].count = count;
      int64_t whole = steps / count;
      self(self, depth + 1, times * static_cast<double>(whole));
      if (steps % count != 0) {
        part[depth].count = steps % count;
        self(self, depth + 1, times);
      }
    };
    walk(walk, 0, 1);
    return cost;
  };
  SmallVector<BlockedLoop> best;
  double least = std::numeric_limits<double>::infinity();
  double points = 1;
  for (unsigned loop : parallel)
    points *= static_cast<double>(countSteps(root, loop));
  auto consider = [&](ArrayRef<BlockedLoop> block) {
    double covered = 1;
    for (const BlockedLoop &blocked : block)
      covered *= static_cast<double>(countSteps(root, blocked.loop));
    if (double cost = estimateAll(block) * points / covered; cost < least) {
      least = cost;
      best.assign(block.begin(), block.end());
    }
  };
  int64_t most = options.accumulators, mostOfTwo = most + most / 2;
  for (auto [i, loop] : llvm::enumerate(parallel))
    for (int64_t count = 1; count <= std::min(most, countSteps(root, loop)); ++count) {
      consider(BlockedLoop{loop, count});
      for (unsigned other : parallel.drop_front(i + 1))
        for (int64_t beside = 2; beside <= std::min(mostOfTwo / count, countSteps(root, other)); ++beside)
          consider({{loop, count}, {other, beside}});
    }
  return best;
}

/// The loops of an op from the outermost, each with its block. The last ones are those of blocks, and of two of these
/// the inner one is that along which the larger operand stays where it is.
SmallVector<BlockedLoop> CpuKernel::orderLoops(linalg::GenericOp root, ArrayRef<unsigned> parallel,
                                               SmallVector<BlockedLoop> block) {
  auto isBlocked = [&](unsigned loop) {
    return llvm::any_of(block, [&](const BlockedLoop &blocked) { return blocked.loop == loop; });
  };
  SmallVector<BlockedLoop> order;
  for (unsigned loop : parallel)
    if (loop != rootLoop && !isBlocked(loop))
      order.push_back({loop, 1});
  if (rootLoop != OpLanes::Choice::none && !isBlocked(rootLoop))
    order.push_back({rootLoop, 1});
  SmallVector<OpOperand *> operands = collectLoaded(root);
  auto getSize = [&](OpOperand *operand) { return ShapedType::getNumElements(getInnerShape(operand->get())); };
  if (block.size() == 2 && !operands.empty()) {
    OpOperand *largest =
        *llvm::max_element(operands, [&](OpOperand *a, OpOperand *b) { return getSize(a) < getSize(b); });
    if (!movesAlong(root, *largest, block[0].loop))
      std::swap(block[0], block[1]);
  }
  order.append(block);
  return order;
}

/// Walks the loops, and computes a block in the innermost; what is left over of each loop is a smaller block.
void CpuKernel::walkBlocks(linalg::GenericOp root, ArrayRef<linalg::GenericOp> epilogue,
                           SmallVector<OpFoldResult> &indices, ArrayRef<BlockedLoop> order) {
  SmallVector<int64_t> sizes = root.getStaticLoopRanges();
  SmallVector<BlockedLoop> block;
  auto walk = [&](auto &self, size_t depth) -> void {
    if (depth == order.size())
      return emitBlock(root, epilogue, indices, block);
    auto [loop, count] = order[depth];
    int64_t step = loop == rootLoop ? builder.getLanes() : 1, steps = countSteps(root, loop);
    auto emitPart = [&](OpFoldResult first, int64_t size) {
      indices[loop] = first;
      if (size != 1)
        block.push_back({loop, size});
      self(self, depth + 1);
      if (size != 1)
        block.pop_back();
    };
    builder.loop(builder.constant(steps / count * count * step), count * step,
                 [&](OpFoldResult first) { emitPart(first, count); });
    if (int64_t rest = steps % count)
      emitPart(builder.constant((steps - rest) * step), rest);
    if (sizes[loop] % step != 0)
      emitPart(builder.constant(sizes[loop] - step), 1);
  };
  walk(walk, 0);
}

/// How far the element of the next step of a loop lies.
OpFoldResult CpuKernel::getStride(const Buffer &buffer, AffineMap map, unsigned loop) {
  std::optional<SmallVector<int64_t>> steps = getSteps(map, loop);
  if (!steps) {
    failure = "an index is no sum of multiples of loops";
    return builder.constant(0);
  }
  OpFoldResult stride = builder.constant(0);
  for (auto [step, along] : llvm::zip_equal(*steps, buffer.strides))
    stride = builder.add(stride, builder.mul(builder.constant(step), along));
  return stride;
}

/// Rows of weights that are read element by element come too late from behind the second cache: as a block of them is
/// used, the next block, which follows it in memory, is fetched line by line.
void CpuKernel::prefetchNext(linalg::GenericOp root, ArrayRef<OpFoldResult> indices, ArrayRef<BlockedLoop> block,
                             unsigned loop) {
  int64_t size = root.getStaticLoopRanges()[loop];
  for (OpOperand *operand : collectLoaded(root)) {
    Value value = operand->get();
    const Buffer &buffer = buffers[value];
    auto moving = llvm::make_filter_range(
        block, [&](const BlockedLoop &blocked) { return movesAlong(root, *operand, blocked.loop); });
    AffineMap map = root.getMatchingIndexingMap(operand);
    if (!buffer.isFar || hasLanes(value) || !llvm::hasSingleElement(moving) || !getSteps(map, loop))
      continue;
    auto [row, count] = *moving.begin();
    if (!getSteps(map, row) || !isConstantIntValue(getStride(buffer, map, loop), 1) ||
        !isConstantIntValue(getStride(buffer, map, row), size))
      continue;
    SmallVector<OpFoldResult> next = getNeighbour(indices, row, count), position;
    next[loop] = builder.mul(indices[loop], builder.constant(count));
    for (AffineExpr expr : map.getResults())
      position.push_back(evaluate(expr, next));
    memref::PrefetchOp::create(builder, builder.getLoc(), buffer.memory,
                               builder.toValue(builder.getAddress(buffer, position)), /*isWrite=*/false,
                               /*localityHint=*/3, /*isDataCache=*/true);
  }
}

void CpuKernel::emitGeneric(linalg::GenericOp root) {
  SmallVector<OpFoldResult> indices;
  SmallVector<unsigned> parallel;
  if (!collectLoops(root, indices, parallel))
    return;
  SmallVector<linalg::GenericOp> epilogue = collectEpilogue(root);
  placeResult(root, epilogue);
  if (failure.empty())
    walkBlocks(root, epilogue, indices, orderLoops(root, parallel, chooseBlocks(root, parallel)));
}
