//===- Schedule.cpp - how a kernel's parallel dimensions are walked ----------------===//

#include "pfcn/Codegen/Schedule.h"

#include "pfcn/Analysis/Work.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Matchers.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::pfcn;

bool mlir::pfcn::isPackable(KernelOp kernel, unsigned input) {
  AccessAttr access = kernel.getInputAccess(input);
  Value whole = kernel.getInputs()[input];
  auto type = cast<RankedTensorType>(whole.getType());
  return whole.getDefiningOp<ParameterStackOp>() && access.isSelect() && access.isAffine() && access.getDim() == 0 &&
         access.getStride() == 1 && access.getOffset() == 0 && type.hasStaticShape() &&
         type.getNumElements() > type.getDimSize(0);
}

//===----------------------------------------------------------------------------===//
// What may be walked outside of the ops
//===----------------------------------------------------------------------------===//

static int64_t countDims(Value value, const ParallelDims &dims, int cls) {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  return type ? llvm::count_if(llvm::seq<int64_t>(0, type.getRank()),
                               [&](int64_t dim) { return dims.getClass(value, dim) == cls; })
              : 0;
}

/// A class can be walked outside of the ops if a point of it owns a part of every result, and
/// if no value has two dimensions of it, as an outer product of a tensor with itself has: no single index
/// then says which element is meant.
static bool isWalkable(KernelOp kernel, const ParallelDims &dims, int cls) {
  auto twice = [&](Value value) { return countDims(value, dims, cls) > 1; };
  Block &body = *kernel.getBodyBlock();
  return dims.isParallel(cls) &&
         llvm::all_of(kernel.getYielded(), [&](Value value) { return countDims(value, dims, cls) == 1; }) &&
         llvm::none_of(body.getArguments(), twice) &&
         !body.walk([&](Operation *op) {
                return llvm::any_of(op->getResults(), twice) ? WalkResult::interrupt() : WalkResult::advance();
              })
              .wasInterrupted();
}

/// Whether parameters have the dimension: output features, say, in contrast to the batch.
static bool isFeature(KernelOp kernel, const ParallelDims &dims, int cls) {
  return llvm::any_of(llvm::zip(kernel.getInputs(), kernel.getBodyBlock()->getArguments()), [&](auto pair) {
    Operation *leaf = std::get<0>(pair).getDefiningOp();
    return isa_and_nonnull<ParameterStackOp, ParameterOp>(leaf) && countDims(std::get<1>(pair), dims, cls) != 0;
  });
}

/// The dimensions of the first result in their order. The innermost is left to the ops, for that is where a
/// contraction blocks its accumulators; where it is the batch, there is no contraction's dimension left.
static SmallVector<int> collectOuterClasses(KernelOp kernel, const ParallelDims &dims, int instanceClass,
                                            bool everyClass) {
  SmallVector<int> classes;
  Value first = kernel.getYielded().front();
  int64_t rank = cast<RankedTensorType>(first.getType()).getRank();
  for (int64_t dim = 1; dim < rank; ++dim) {
    int cls = dims.getClass(first, dim);
    bool wanted =
        everyClass || dim < rank - 1 || ShapedType::isDynamic(dims.getSize(cls)) || !isFeature(kernel, dims, cls);
    if (wanted && dims.getSize(cls) != 1 && cls != instanceClass && !llvm::is_contained(classes, cls) &&
        isWalkable(kernel, dims, cls))
      classes.push_back(cls);
  }
  return classes;
}

//===----------------------------------------------------------------------------===//
// What may be summed over outside of the ops
//===----------------------------------------------------------------------------===//

bool mlir::pfcn::isFloatSum(linalg::GenericOp op) {
  auto add = op.getBody()->getTerminator()->getOperand(0).getDefiningOp<arith::AddFOp>();
  BlockArgument accumulator = op.getMatchingBlockArgument(op.getDpsInitOperand(0));
  return add && accumulator.hasOneUse() && llvm::is_contained(add->getOperands(), accumulator);
}

bool Schedule::accumulates(linalg::GenericOp op, const ParallelDims &dims) const {
  SmallVector<unsigned> reductions;
  op.getReductionDims(reductions);
  return summedClass >= 0 &&
         llvm::any_of(reductions, [&](unsigned loop) { return dims.getClass(op, loop) == summedClass; });
}

static bool startsWithZero(linalg::GenericOp op) {
  auto fill = op.getDpsInitOperand(0)->get().getDefiningOp<linalg::FillOp>();
  return fill && (matchPattern(fill.value(), m_AnyZeroFloat()) || matchPattern(fill.value(), m_PosZeroFloat()));
}

/// A class can be summed over outside of the ops if each reduction of it is a sum, and nothing that is made of a sum
/// has the class again.
static bool isSummable(KernelOp kernel, const ParallelDims &dims, const Schedule &schedule) {
  int cls = schedule.summedClass;
  llvm::DenseSet<Value> behind;
  for (BlockArgument argument : kernel.getBodyBlock()->getArguments())
    if (countDims(argument, dims, cls) > 1)
      return false;
  for (Operation &op : kernel.getBodyBlock()->without_terminator()) {
    bool isBehind = llvm::any_of(getReads(&op), [&](Value read) { return behind.contains(read); });
    WalkResult sums = op.walk([&](linalg::GenericOp inner) {
      bool isInLoop = inner != &op && schedule.accumulates(inner, dims); // where there is no accumulator
      return isInLoop ? WalkResult::interrupt() : WalkResult::advance();
    });
    if (sums.wasInterrupted())
      return false;
    if (auto generic = dyn_cast<linalg::GenericOp>(op)) {
      bool accumulates = schedule.accumulates(generic, dims);
      if (accumulates && (isBehind || !isFloatSum(generic) || !startsWithZero(generic)))
        return false;
      isBehind |= accumulates;
    }
    for (Value result : op.getResults()) {
      int64_t count = countDims(result, dims, cls);
      if (count > 1 || (isBehind && count != 0))
        return false;
      if (isBehind)
        behind.insert(result);
    }
  }
  return true;
}

/// Whether each dimension of unknown size is walked outside of the ops, which have no loops over such.
static bool walksDynamic(KernelOp kernel, const ParallelDims &dims, const Schedule &schedule) {
  auto isFine = [&](Value value) {
    auto type = dyn_cast<RankedTensorType>(value.getType());
    return !type || llvm::all_of(llvm::seq<int64_t>(0, type.getRank()), [&](int64_t dim) {
      return !type.isDynamicDim(dim) || schedule.isOuter(dims.getClass(value, dim));
    });
  };
  Block &body = *kernel.getBodyBlock();
  return llvm::all_of(body.getArguments(), isFine) &&
         llvm::all_of(body, [&](Operation &op) { return llvm::all_of(op.getResults(), isFine); });
}

/// The schedules that sum over a class around the ops, with instances across the lanes.
static SmallVector<Schedule> collectSummed(KernelOp kernel, const ParallelDims &dims, const Schedule &base) {
  SmallVector<Schedule> schedules;
  llvm::SmallDenseSet<int> seen;
  for (BlockArgument argument : kernel.getBodyBlock()->getArguments())
    for (int64_t dim = 0; dim < cast<RankedTensorType>(argument.getType()).getRank(); ++dim) {
      int cls = dims.getClass(argument, dim);
      if (cls == base.instanceClass || dims.getSize(cls) == 1 || !dims.isReducedOnly(cls) ||
          isFeature(kernel, dims, cls) || !seen.insert(cls).second)
        continue;
      Schedule schedule = base;
      schedule.outerClasses = {cls};
      schedule.laneClass = base.instanceClass;
      schedule.summedClass = cls;
      if (isSummable(kernel, dims, schedule))
        schedules.push_back(schedule);
    }
  return schedules;
}

//===----------------------------------------------------------------------------===//
// What a choice costs
//====----------------------------------------------------------------------------===//

namespace {
// In vector operations. A transpose takes a load, a store and two to four shuffles per vector; a gather
// of scalars one load and one insert per lane.
constexpr double transposeCost = 4;
constexpr double transcendentalCost = 16;
constexpr double divisionCost = 6;
constexpr int64_t panelWidth = 4;
constexpr int64_t firstCacheBytes = 32 << 10, secondCacheBytes = 1 << 20;

} // namespace

double mlir::pfcn::estimatePayload(linalg::GenericOp op) {
  double cost = 0;
  for (Operation &inner : op.getBody()->without_terminator()) {
    if (isa<math::MathDialect>(inner.getDialect()) && !isa<math::AbsFOp, math::SqrtOp>(inner))
      cost += transcendentalCost;
    else
      cost += isa<arith::DivFOp, math::SqrtOp>(inner) ? divisionCost : 0.5;
  }
  return cost;
}

namespace {

/// The cost of one schedule: what one tile does once, and what it does per point of the outer classes.
class CostModel {
public:
  CostModel(KernelOp kernel, const ParallelDims &dims, const ScheduleOptions &options, const Schedule &schedule)
      : kernel(kernel), dims(dims), options(options), schedule(schedule) {
    for (BlockArgument argument : kernel.getBodyBlock()->getArguments())
      if (!argument.use_empty())
        addArgument(argument);
    for (Operation &op : *kernel.getBodyBlock()) {
      addOp(op, 1);
      releaseDead(op);
    }
    for (auto [i, value] : llvm::enumerate(kernel.getYielded()))
      addTranspose(value, kernel.getInitAccess(i), kernel.getInits()[i]);
    if (schedule.opLanes) {
      perTile = schedule.opLanes->getCostPerTile();
      perPoint = schedule.opLanes->getCostPerPoint();
    }
  }

  double getCost() {
    double points = 1;
    for (int cls : schedule.outerClasses) {
      double size = schedule.countSteps(dims, cls);
      points *= cls == schedule.laneClass ? std::ceil(size / schedule.lanes) : size;
    }
    double tiles = schedule.getTiles(kernel.getCount());
    // What a tile holds is read again at each of its points, by vectors where instances or an op's features are across
    // the lanes. Vectors and blocks of points share it: blocks for the price of more instructions.
    bool isBlocked = schedule.blockedClass >= 0;
    bool sharesLoads = schedule.opLanes ? isBlocked : !schedule.lanesAreInstances();
    double held = scratchBytes + (points > 1 ? packedBytes : 0);
    double first = isBlocked ? 1.45 : 1.0, second = sharesLoads ? 1.0 : 1.5;
    double slow = held > secondCacheBytes ? (sharesLoads ? 2.0 : 4.0) : held > firstCacheBytes ? second : first;
    double each = perPoint * slow;
    if (schedule.opLanes && points > 1) // which read what the tile has where it lies, point by point
      each = std::max(each, options.machine.getStreamCost(tileBytes));
    if (isBlocked && held > firstCacheBytes) // which half hides behind arithmetic
      each += options.machine.getStreamCost(tileBytes) / 2;
    return std::max(tiles * (perTile + points * each), options.machine.getStreamCost(tiles * tileBytes));
  }
  int64_t getScratchBytes() const { return scratchBytes; }

private:
  int64_t sizeOf(int cls) const { return assumeSize(dims.getSize(cls)); }
  bool hasOuter(Value value) const {
    return llvm::any_of(schedule.outerClasses, [&](int cls) { return countDims(value, dims, cls) != 0; });
  }
  bool hasLanes(Value value) const { return countDims(value, dims, schedule.laneClass) != 0; }
  double innerElements(Value value) const {
    double elements = 1;
    for (int64_t dim = 0; dim < cast<RankedTensorType>(value.getType()).getRank(); ++dim)
      if (int cls = dims.getClass(value, dim); !schedule.isOuter(cls))
        elements *= sizeOf(cls);
    return elements;
  }

  /// A value whose lanes are rows in memory is transposed on its way, vector by vector.
  void addTranspose(Value value, AccessAttr access, Value whole) {
    if (!hasLanes(value) || schedule.lanes == 1)
      return;
    double elements = innerElements(value);
    // Instances that lie side by side in the innermost dimension are vectors already.
    int64_t rank = cast<RankedTensorType>(whole.getType()).getRank();
    bool besides = schedule.lanesAreInstances() && !access.isShared() && access.getDim() == rank - 1 &&
                   access.getSize() == 1 && access.getStride() == 1;
    if (besides || (schedule.lanesAreInstances() && elements == 1 && access.isSelect() && rank == 1))
      return;
    double each = elements < panelWidth ? 2.0 * schedule.lanes : transposeCost;
    (hasOuter(value) ? perPoint : perTile) += elements * each;
  }

  void addArgument(BlockArgument argument) {
    unsigned i = argument.getArgNumber();
    double bytes = innerElements(argument) *
                   std::max<int64_t>(getElementTypeOrSelf(argument).getIntOrFloatBitWidth() / 8, 1) *
                   (hasLanes(argument) ? schedule.lanes : 1);
    if (!hasOuter(argument))
      tileBytes += bytes;
    if (options.packWeights && schedule.lanesAreInstances() && isPackable(kernel, i)) {
      packedBytes += bytes;
      return;
    }
    addTranspose(argument, kernel.getInputAccess(i), kernel.getInputs()[i]);
    if (hasLanes(argument) || (schedule.opLanes && schedule.opLanes->isPacked(argument)))
      addScratch(argument);
  }

  void addScratch(Value value) {
    int64_t bits = cast<RankedTensorType>(value.getType()).getElementTypeBitWidth();
    int64_t bytes = innerElements(value) * std::max<int64_t>(bits / 8, 1) * schedule.lanes;
    liveBytes += bytes;
    scratchBytes = std::max(scratchBytes, liveBytes);
    if (value.getDefiningOp())
      live[value] = bytes;
  }

  /// Scratch of intermediates is used again after the last op that reads them, through views or not.
  void releaseDead(Operation &op) {
    auto isRead = [&](Value value) {
      SmallVector<Value> views = {value};
      while (!views.empty())
        for (Operation *user : views.pop_back_val().getUsers()) {
          Operation *inBody = kernel.getBodyBlock()->findAncestorOpInBlock(*user);
          if (!inBody->isBeforeInBlock(&op) && inBody != &op)
            return true;
          if (isa<tensor::ExpandShapeOp, tensor::CollapseShapeOp, tensor::ExtractSliceOp, tensor::InsertSliceOp>(user))
            views.append(user->result_begin(), user->result_end());
        }
      return false;
    };
    for (Value operand : op.getOperands()) {
      while (operand.getDefiningOp<tensor::ExpandShapeOp>() || operand.getDefiningOp<tensor::CollapseShapeOp>() ||
             operand.getDefiningOp<tensor::ExtractSliceOp>())
        operand = operand.getDefiningOp()->getOperand(0);
      if (auto it = live.find(operand); it != live.end() && !isRead(operand)) {
        liveBytes -= it->second;
        live.erase(it);
      }
    }
  }

  void addOp(Operation &op, double times) {
    if (auto generic = dyn_cast<linalg::GenericOp>(op))
      addGeneric(generic, times);
    if (schedule.opLanes && isa<tensor::InsertSliceOp>(op))
      addScratch(op.getResult(0));
    if (auto loop = dyn_cast<scf::ForOp>(op)) {
      for (Value result : loop.getResults())
        addScratch(result);
      std::optional<APInt> trips = loop.getStaticTripCount();
      for (Operation &inner : loop.getBody()->without_terminator())
        addOp(inner, trips ? times * trips->getSExtValue() : times);
    }
  }

  void addGeneric(linalg::GenericOp op, double times) {
    double points = times, each = 0;
    for (unsigned loop = 0; loop < op.getNumLoops(); ++loop)
      if (int cls = dims.getClass(op, loop); !schedule.isOuter(cls))
        points *= sizeOf(cls);
    each = estimatePayload(op);
    bool accumulates = schedule.accumulates(op, dims);
    if (accumulates)
      each += 1.0; // to and from memory
    (accumulates || hasOuter(op->getResult(0)) ? perPoint : perTile) += points * std::max(each, 0.5);
    addScratch(op->getResult(0));
  }

  KernelOp kernel;
  const ParallelDims &dims;
  const ScheduleOptions &options;
  const Schedule &schedule;
  double perTile = 0, perPoint = 0;
  /// Of what a tile reads once, and of those the ones it reads where they lie.
  double tileBytes = 0, packedBytes = 0;
  /// At most, and now.
  int64_t scratchBytes = 0, liveBytes = 0;
  DenseMap<Value, int64_t> live;
};
} // namespace

/// The widest element that the kernel computes with decides how many fit a register; narrower
/// floats are computed in f32.
static int64_t computeBytes(KernelOp kernel) {
  int64_t bytes = 4;
  for (Value value : llvm::concat<Value>(kernel.getInputs(), kernel.getInits()))
    bytes = std::max<int64_t>(bytes, cast<RankedTensorType>(value.getType()).getElementTypeBitWidth() / 8);
  return bytes;
}

FailureOr<Schedule> Schedule::getBase(KernelOp kernel, const ParallelDims &dims, std::string &reason, bool everyClass) {
  if (kernel.getYielded().empty()) {
    reason = "the kernel has no result";
    return failure();
  }
  Schedule base;
  base.instanceClass = dims.getClass(kernel.getYielded().front(), 0);
  if (!isWalkable(kernel, dims, base.instanceClass)) {
    reason = "an op of the body mixes instances";
    return failure();
  }
  base.outerClasses = collectOuterClasses(kernel, dims, base.instanceClass, everyClass);
  return base;
}

/// Each op with lanes of its own: what parameters have stays inside of the ops then.
static std::optional<Schedule> getOpLanes(KernelOp kernel, const ParallelDims &dims, const ScheduleOptions &options,
                                          Schedule base, int64_t width) {
  if (options.opLanes == "never" || options.lanes != 0)
    return std::nullopt;
  llvm::erase_if(base.outerClasses,
                 [&](int cls) { return !ShapedType::isDynamic(dims.getSize(cls)) && isFeature(kernel, dims, cls); });
  base.laneClass = -1;
  base.lanes = 1;
  if (!walksDynamic(kernel, dims, base))
    return std::nullopt;
  FailureOr<OpLanes> lanes = OpLanes::choose(kernel, dims, base, width);
  if (failed(lanes))
    return std::nullopt;
  base.opLanes = std::make_shared<const OpLanes>(std::move(*lanes));
  return base;
}

std::optional<Schedule> Schedule::chooseForBlocks(KernelOp kernel, const ParallelDims &dims,
                                                  const ScheduleOptions &options, int64_t dim, int64_t size) {
  std::string ignored;
  FailureOr<Schedule> base = getBase(kernel, dims, ignored);
  if (failed(base))
    return std::nullopt;
  base->blockedClass = dims.getClass(kernel.getYielded().front(), dim);
  base->blockedSize = size;
  std::optional<Schedule> schedule =
      getOpLanes(kernel, dims, options, *base, options.machine.vectorBytes / computeBytes(kernel));
  if (!schedule || !llvm::is_contained(schedule->outerClasses, schedule->blockedClass))
    return std::nullopt;
  // Sums across the lanes are made row by row, each of which reads all of the other operand.
  bool isRowByRow =
      kernel.getBody()
          .walk([&](linalg::GenericOp op) {
            auto lacksClass = [&](Value operand) {
              return isa<RankedTensorType>(operand.getType()) && countDims(operand, dims, schedule->blockedClass) == 0;
            };
            bool reads = schedule->opLanes->isFolded(op) && !lacksClass(op->getResult(0)) &&
                         llvm::any_of(op.getInputs(), lacksClass);
            return reads ? WalkResult::interrupt() : WalkResult::advance();
          })
          .wasInterrupted();
  if (isRowByRow)
    return std::nullopt;
  CostModel model(kernel, dims, options, *schedule);
  schedule->cost = model.getCost();
  if (model.getScratchBytes() > options.maxScratch)
    return std::nullopt;
  return schedule;
}

/// Whether an op has some of the outer dimensions and not the others, for each point of which it is computed again
/// unless they are left to the ops.
static bool computesAgain(KernelOp kernel, const ParallelDims &dims, const Schedule &schedule) {
  return llvm::any_of(kernel.getBodyBlock()->getOps<linalg::GenericOp>(), [&](linalg::GenericOp op) {
    auto had =
        llvm::count_if(schedule.outerClasses, [&](int cls) { return countDims(op->getResult(0), dims, cls) != 0; });
    return had != 0 && had != static_cast<int64_t>(schedule.outerClasses.size());
  });
}

FailureOr<Schedule> Schedule::choose(KernelOp kernel, const ParallelDims &dims, const ScheduleOptions &options,
                                     std::string &reason) {
  FailureOr<Schedule> common = getBase(kernel, dims, reason);
  if (failed(common))
    return failure();
  Schedule base = *common;
  int64_t width =
      options.lanes ? options.lanes : std::max<int64_t>(1, options.machine.vectorBytes / computeBytes(kernel));
  SmallVector<Schedule> bases = {base};
  if (computesAgain(kernel, dims, base))
    for (int cls : base.outerClasses) {
      bases.push_back(base);
      bases.back().outerClasses = {cls};
    }
  llvm::erase_if(bases, [&](const Schedule &schedule) { return !walksDynamic(kernel, dims, schedule); });
  std::optional<Schedule> best;
  int64_t least = std::numeric_limits<int64_t>::max();
  auto compare = [&](Schedule schedule) {
    CostModel model(kernel, dims, options, schedule);
    schedule.cost = model.getCost();
    least = std::min(least, model.getScratchBytes());
    if (model.getScratchBytes() <= options.maxScratch && (!best || schedule.cost < best->cost))
      best = schedule;
  };
  auto consider = [&](Schedule schedule) {
    int cls = schedule.laneClass;
    int64_t size = cls == base.instanceClass ? kernel.getCount() : dims.getSize(cls);
    if (size == 0)
      return;
    // The last vector overlaps its neighbour, so one must fit; a dynamic dimension has a scalar variant.
    schedule.lanes = ShapedType::isDynamic(size) ? width : std::min<int64_t>(width, llvm::bit_floor<uint64_t>(size));
    compare(schedule);
  };
  for (Schedule candidate : bases)
    for (int cls : llvm::concat<const int>(ArrayRef<int>(base.instanceClass), candidate.outerClasses)) {
      candidate.laneClass = cls;
      consider(candidate);
    }
  // Sums that are kept in memory are the last resort: for a batch of unknown size, or one whose intermediates are too
  // large to be there at once.
  if (!best)
    for (const Schedule &schedule : collectSummed(kernel, dims, base))
      if (walksDynamic(kernel, dims, schedule))
        consider(schedule);
  bool isForced = options.opLanes == "always" || options.opLanes == "blocks";
  for (const Schedule &each : bases)
    if (std::optional<Schedule> own = getOpLanes(kernel, dims, options, each, width)) {
      if (std::exchange(isForced, false))
        best = std::nullopt;
      compare(*own);
    }
  if (!best && bases.empty()) {
    reason = "a dynamic dimension is not shared by the whole body";
    return failure();
  }
  if (!best) {
    reason =
        "a tile needs " + std::to_string(least) + " bytes of scratch, more than " + std::to_string(options.maxScratch);
    return failure();
  }
  return *best;
}

int64_t Schedule::countSteps(const ParallelDims &dims, int cls) const {
  return cls == blockedClass ? llvm::divideCeil(blockedSize, dims.getSize(cls)) : assumeSize(dims.getSize(cls));
}

void Schedule::cut(const ParallelDims &dims, int64_t count) {
  // What a tile does once is done for each part, so a part has to have enough points beside it.
  constexpr int64_t enoughTiles = 16, leastPoints = 64, mostParts = 4 * enoughTiles;
  parts = 1;
  int64_t tiles = getTiles(count);
  if (outerClasses.empty() || summedClass >= 0 || tiles == 0 || tiles >= enoughTiles)
    return;
  int cls = outerClasses.front();
  int64_t size = dims.getSize(cls), unit = cls == laneClass ? lanes : 1;
  if (ShapedType::isDynamic(size))
    return;
  if (cls == blockedClass)
    size = blockedSize;
  for (int64_t more = 2; more <= mostParts && parts * tiles < enoughTiles && size / more >= leastPoints; ++more)
    if (size % (more * unit) == 0)
      parts = more;
}

std::string Schedule::describe() const {
  if (opLanes)
    return blockedClass < 0 ? "one kernel, each op with lanes of its own"
                            : "one kernel, each op with lanes of its own, for blocks of the batch";
  std::string what = lanesAreInstances() ? "instances" : summedClass == laneClass ? "what is summed over" : "the batch";
  return lanes == 1 ? "one kernel without lanes"
                    : "one kernel, " + what + " across " + std::to_string(lanes) + " lanes";
}

/// Whether no element of a result is made of several of another value.
static bool isElementwise(KernelOp kernel) {
  return llvm::none_of(*kernel.getBodyBlock(), [](Operation &op) {
    auto generic = dyn_cast<linalg::GenericOp>(op);
    return isa<scf::ForOp>(op) || (generic && generic.getNumReductionLoops() != 0);
  });
}

std::vector<Schedule> Schedule::chooseForGpu(KernelOp kernel, const ParallelDims &dims, std::string &reason) {
  constexpr int64_t warp = 32, enoughBlocks = 2 * 132;
  std::vector<Schedule> schedules;
  auto addLanes = [&](const Schedule &base, int cls, int64_t lanes, bool sharesLanes) {
    schedules.push_back(base);
    schedules.back().laneClass = cls;
    schedules.back().lanes = lanes;
    schedules.back().sharesLanes = sharesLanes;
    if (sharesLanes) {
      schedules.push_back(schedules.back());
      schedules.back().bringsInLate = true;
    }
  };
  // Neighbours in memory to neighbours among threads, where nothing else matters.
  std::string ignored;
  if (FailureOr<Schedule> base = getBase(kernel, dims, ignored, /*everyClass=*/true);
      isElementwise(kernel) && succeeded(base) && !base->outerClasses.empty()) {
    base->pointsPerBlock = 1;
    addLanes(*base, base->outerClasses.back(), warp, /*sharesLanes=*/false);
  }
  FailureOr<Schedule> base = getBase(kernel, dims, reason);
  if (failed(base))
    return schedules;
  int64_t count = kernel.getCount(), points = 1;
  for (int cls : base->outerClasses)
    points = ShapedType::isDynamic(dims.getSize(cls)) ? std::max<int64_t>(points, assumedDynamicSize)
                                                      : points * dims.getSize(cls);
  // A batch that fills warps is best there: weights are then the same for all threads.
  for (int cls : base->outerClasses)
    if (!ShapedType::isDynamic(dims.getSize(cls)) && dims.getSize(cls) >= warp) {
      addLanes(*base, cls, warp, /*sharesLanes=*/count * points / warp < enoughBlocks);
      addLanes(*base, cls, warp, /*sharesLanes=*/false);
    }
  // Instances otherwise: enough blocks for all multiprocessors, before blocks are filled.
  int64_t most = std::min<int64_t>(warp, llvm::bit_ceil<uint64_t>(count));
  int64_t lanes = std::clamp<int64_t>(llvm::bit_ceil<uint64_t>(llvm::divideCeil(count, enoughBlocks)), 1, most);
  for (lanes = std::max<int64_t>(lanes, std::min<int64_t>(most, 4)); lanes >= 1; lanes /= 2)
    addLanes(*base, base->instanceClass, lanes, /*sharesLanes=*/points < 4);
  for (int cls : base->outerClasses)
    addLanes(*base, cls, warp, /*sharesLanes=*/false);
  return schedules;
}
