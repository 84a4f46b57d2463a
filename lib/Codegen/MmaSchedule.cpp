//===- MmaSchedule.cpp - whether a kernel runs on tensor cores, and how ----------------===//
//
// Costs are cycles of a scheduler of a multiprocessor, of which there are four. Rates are those of sm_80: a product of
// 16 x 8 x 16 takes 8 cycles, a load of 128 bits from L1 in all threads 16, where the schedulers share its bandwidth.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Codegen/MmaSchedule.h"

#include "pfcn/Analysis/Work.h"
#include "pfcn/Codegen/FragmentBuilder.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::pfcn;

namespace {
constexpr double productCycles = 8, loadCycles = 16, narrowLoadCycles = 4;
// A thread that multiplies by itself reads the weight, widens it, and has one multiplication.
constexpr double multiplyCycles = 3;
constexpr double transcendentalCost = 16, divisionCost = 6, otherCost = 1;
constexpr int64_t warpThreads = 32;
// Beside those of values, where an operand comes element by element.
constexpr int64_t narrowRegisters = 16;
constexpr int64_t mostWarps = 8, multiprocessors = 132;

/// What the ops of a body need in a warp's tile of rows.
class Body {
public:
  Body(Block &body, const ParallelDims &dims, const Schedule &schedule) : body(body), dims(dims), schedule(schedule) {}

  /// Fails, with the reason, at an op or value that a warp cannot hold in registers.
  LogicalResult visit(const TensorCores &cores, std::string &reason);

  Type element;
  int64_t products = 0;
  /// The most registers that are in use at once, for a tile of 16 rows.
  int64_t registers = 0;
  /// Per tile of 16 rows, and per 32 rows of a warp whose threads have a row each.
  double tileCycles = 0, warpCycles = 0;

private:
  void addProduct(const Product &product, const TensorCores &cores);
  void addElementwise(linalg::GenericOp op);
  int64_t countPairs(int64_t features) const {
    return FragmentBuilder::countPairs(features, element.getIntOrFloatBitWidth() / 8);
  }
  int64_t countRegisters(Value value);
  void findRegisters();

  Block &body;
  const ParallelDims &dims;
  const Schedule &schedule;
  /// Whether an operand is loaded element by element.
  bool isNarrow = false;
};
} // namespace

static double getCost(linalg::GenericOp op) {
  double cost = 0;
  for (Operation &inner : op.getBody()->without_terminator()) {
    if (isa<math::MathDialect>(inner.getDialect()) && !isa<math::AbsFOp, math::SqrtOp>(inner))
      cost += transcendentalCost;
    else
      cost += isa<arith::DivFOp, math::SqrtOp>(inner) ? divisionCost : otherCost;
  }
  return std::max(cost, otherCost);
}

void Body::addProduct(const Product &product, const TensorCores &cores) {
  Type type = product.getElementType();
  // A pair is a column of eight of the result, and eight features of the depth.
  int64_t columns = countPairs(product.columns), pairs = countPairs(product.depth);
  int64_t steps = llvm::divideCeil(8 * pairs, cores.getDepth(type));
  products += columns * steps;
  int64_t width = 128 / type.getIntOrFloatBitWidth();
  bool wide = product.depth % width == 0;
  isNarrow |= !wide;
  double elements = 2.0 * pairs; // of a thread
  double loads = wide ? elements / width * loadCycles : elements * narrowLoadCycles;
  tileCycles += columns * (steps * productCycles + loads);
  warpCycles += multiplyCycles * product.columns * product.depth;
}

void Body::addElementwise(linalg::GenericOp op) {
  double points = getCost(op);
  for (unsigned loop = 0; loop < op.getNumLoops(); ++loop)
    if (!schedule.isOuter(dims.getClass(op, loop)))
      points *= op.getStaticLoopRanges()[loop];
  tileCycles += points * FragmentBuilder::rowsOfProduct / warpThreads;
  warpCycles += points;
}

int64_t Body::countRegisters(Value value) {
  FailureOr<FragmentShape> shape = FragmentShape::of(value, dims, schedule);
  int64_t rows = shape->hasRows ? 2 : 1, bits = getElementTypeOrSelf(value).getIntOrFloatBitWidth();
  int64_t pairs = countPairs(shape->features);
  return rows * (pairs == 0 ? 1 : pairs * (bits > 16 ? 2 : 1));
}

/// Values live from where they are computed, or first read, to where they are last read. A product is computed with the
/// op that follows it, which takes its accumulators a column at a time.
void Body::findRegisters() {
  SmallVector<Operation *> ops(llvm::make_pointer_range(body));
  DenseMap<Operation *, int64_t> positions;
  for (auto [i, op] : llvm::enumerate(ops))
    positions[op] = i;
  auto isAccumulated = [&](Operation *op) {
    auto generic = dyn_cast<linalg::GenericOp>(op);
    return generic && op->hasOneUse() && matchProduct(generic, dims, schedule);
  };
  SmallVector<int64_t> live(ops.size(), 0);
  auto addLife = [&](Value value, Operation *definition) {
    if (value.use_empty() || !isa<RankedTensorType>(value.getType()) ||
        failed(FragmentShape::of(value, dims, schedule)))
      return;
    int64_t first = definition ? positions[definition] : ops.size(), last = 0;
    for (Operation *user : value.getUsers()) {
      int64_t read = positions[isAccumulated(user) ? *user->user_begin() : user];
      first = std::min(first, read);
      last = std::max(last, read);
    }
    for (int64_t i = first; i <= last; ++i)
      live[i] += countRegisters(value);
  };
  for (BlockArgument argument : body.getArguments())
    addLife(argument, nullptr);
  for (Operation *op : ops)
    if (isa<linalg::GenericOp>(op) && !isAccumulated(op))
      addLife(op->getResult(0), op);
  registers = (live.empty() ? 0 : *llvm::max_element(live)) + (isNarrow ? narrowRegisters : 0);
}

LogicalResult Body::visit(const TensorCores &cores, std::string &reason) {
  for (Operation &op : body) {
    auto generic = dyn_cast<linalg::GenericOp>(op);
    if (!generic)
      continue;
    if (std::optional<Product> product = matchProduct(generic, dims, schedule)) {
      if (!cores.multiplies(product->getElementType())) {
        reason = "its tensor cores do not multiply this type of element";
        return failure();
      }
      element = product->getElementType();
      addProduct(*product, cores);
      continue;
    }
    if (failed(FragmentShape::of(generic->getResult(0), dims, schedule))) {
      reason = "a value of the body is no matrix of the batch's rows";
      return failure();
    }
    addElementwise(generic);
  }
  if (!element) {
    reason = "no product of the body has the batch as its rows";
    return failure();
  }
  findRegisters();
  return success();
}

bool mlir::pfcn::hasProducts(Block &body, const TensorCores &cores) {
  return llvm::any_of(body.getOps<linalg::GenericOp>(), [&](linalg::GenericOp op) {
    return op.getNumReductionLoops() == 1 && op.getNumDpsInputs() == 2 &&
           llvm::all_of(op.getDpsInputs(), [&](Value v) { return cores.multiplies(getElementTypeOrSelf(v)); });
  });
}

/// As many rows for a warp as keep all multiprocessors at work, and as many warps for a block.
static void chooseTile(MmaSchedule &choice, const Body &body, int64_t rows, int64_t others) {
  int64_t tile = FragmentBuilder::rowsOfProduct, busy = multiprocessors * mostWarps;
  if (2 * body.registers <= MmaSchedule::mostRegisters && 2 * body.products <= MmaSchedule::mostProducts &&
      others * static_cast<int64_t>(llvm::divideCeil(rows, 2 * tile)) >= busy)
    tile *= 2;
  choice.schedule.lanes = tile;
  choice.registers = body.registers * tile / FragmentBuilder::rowsOfProduct;
  int64_t tiles = llvm::divideCeil(rows, tile);
  choice.warps = std::min<int64_t>(mostWarps, llvm::bit_ceil<uint64_t>(tiles));
  while (choice.warps > 1 && others * static_cast<int64_t>(llvm::divideCeil(tiles, choice.warps)) < multiprocessors)
    choice.warps /= 2;
}

FailureOr<MmaSchedule> MmaSchedule::choose(KernelOp kernel, const ParallelDims &dims, const TensorCores &cores,
                                           std::string &reason) {
  FailureOr<Schedule> base = Schedule::getBase(kernel, dims, reason);
  if (failed(base))
    return failure();
  reason = "there is no batch";
  auto getSize = [&](int cls) { return assumeSize(dims.getSize(cls)); };
  std::optional<MmaSchedule> best;
  for (int cls : base->outerClasses) {
    MmaSchedule choice{*base, 1, {}, 0, 0, 0};
    choice.schedule.laneClass = cls;
    choice.schedule.lanes = FragmentBuilder::rowsOfProduct;
    choice.schedule.pointsPerBlock = 1; // nothing is brought in
    Body body(*kernel.getBodyBlock(), dims, choice.schedule);
    if (failed(body.visit(cores, reason)))
      continue;
    if (body.registers > mostRegisters || body.products > mostProducts) {
      reason = llvm::formatv("its layers are too wide: a thread would need {0} registers, and {1} products",
                             body.registers, body.products);
      continue;
    }
    int64_t rows = getSize(cls), others = kernel.getCount();
    for (int outer : base->outerClasses)
      others *= outer == cls ? 1 : getSize(outer);
    choice.element = body.element;
    choice.cost = others * llvm::divideCeil(rows, FragmentBuilder::rowsOfProduct) * body.tileCycles;
    // Otherwise a row of the batch, or an instance, is a thread.
    double rowsInWarps =
        std::min<double>(others * llvm::divideCeil(rows, warpThreads), rows * llvm::divideCeil(others, warpThreads));
    choice.threadCost = rowsInWarps * body.warpCycles;
    if (rows < fewestRows || choice.cost > choice.threadCost) {
      reason = llvm::formatv("{0} rows are too few: {1:F0} cycles are estimated, and {2:F0} without tensor cores", rows,
                             choice.cost, choice.threadCost);
      continue;
    }
    chooseTile(choice, body, rows, others);
    if (!best || choice.cost < best->cost)
      best = choice;
  }
  if (!best)
    return failure();
  return *best;
}
