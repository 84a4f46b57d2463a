//===- OpLanes.cpp - lanes that each op chooses for itself --------------------------===//

#include "pfcn/Codegen/OpLanes.h"

#include "pfcn/Analysis/Work.h"
#include "pfcn/Codegen/Schedule.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::pfcn;

// Of a vector; see Schedule. Turning a value takes its loops besides.
constexpr double transposeCost = 4, turnCost = 32;

static ArrayRef<int64_t> getShape(Value value) { return cast<RankedTensorType>(value.getType()).getShape(); }

std::optional<SmallVector<int64_t>> mlir::pfcn::getSteps(AffineMap map, unsigned loop) {
  SmallVector<int64_t> steps;
  AffineExpr dim = getAffineDimExpr(loop, map.getContext());
  for (AffineExpr expr : map.getResults()) {
    auto step =
        dyn_cast<AffineConstantExpr>(simplifyAffineExpr(expr.replace(dim, dim + 1) - expr, map.getNumDims(), 0));
    if (!step)
      return std::nullopt;
    steps.push_back(step.getValue());
  }
  return steps;
}

namespace mlir::pfcn {

/// Walks a body, and chooses for each op what is cheapest for it.
class LaneChooser {
public:
  LaneChooser(KernelOp kernel, const ParallelDims &dims, const Schedule &schedule, int64_t width)
      : kernel(kernel), dims(dims), schedule(schedule), width(width) {
    result.width = width;
  }

  LogicalResult run();
  OpLanes result;

private:
  using Choice = OpLanes::Choice;

  /// What a choice of lanes takes: arguments packed once, and operands turned each time, by the dimension that then is
  /// innermost.
  struct Demands {
    double once = 0; // to pack, for all points of a tile
    SmallVector<std::pair<BlockArgument, int64_t>> packed;
    SmallVector<std::pair<OpOperand *, int64_t>> turned;
  };

  LogicalResult visit(Operation *op);
  LogicalResult visitLoop(scf::ForOp loop);
  void visitReshape(Operation *op);
  void visitSlice(tensor::ExtractSliceOp op);
  void visitInsert(tensor::InsertSliceOp op);
  void visitArgument(unsigned i);
  void visitGeneric(linalg::GenericOp op);
  double getCost(linalg::GenericOp op, Choice choice, Demands &demands) const;
  void revisitViews(Value value);
  void visitYield(unsigned i);
  int64_t getLastDim(Value value) const;
  double countInner(Value value) const;
  double countPoints() const;
  bool hasOuter(Value value) const;
  bool isKnown(Value value) const { return result.innermost.contains(value); }
  /// What is done as often as the loops around it say.
  void add(Value value, double cost) { addOnce(value, times * cost); }
  void addOnce(Value value, double cost) { (hasOuter(value) ? result.perPoint : result.perTile) += cost; }

  KernelOp kernel;
  const ParallelDims &dims;
  const Schedule &schedule;
  int64_t width;
  /// Iterations of the loops around the op that is visited.
  double times = 1;
};

} // namespace mlir::pfcn

//===----------------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------------===//

bool LaneChooser::hasOuter(Value value) const {
  return llvm::any_of(llvm::seq<int64_t>(0, getShape(value).size()), [&](int64_t dim) {
    return llvm::is_contained(schedule.outerClasses, dims.getClass(value, dim));
  });
}

/// Of the outer loops, in a tile.
double LaneChooser::countPoints() const {
  double points = 1;
  for (int cls : schedule.outerClasses)
    points *= static_cast<double>(schedule.countSteps(dims, cls));
  return points;
}

double LaneChooser::countInner(Value value) const {
  double elements = 1;
  for (auto [dim, size] : llvm::enumerate(getShape(value)))
    if (!schedule.isOuter(dims.getClass(value, dim)))
      elements *= static_cast<double>(size);
  return elements;
}

/// The innermost dimension of a row-major tensor that has more than one element.
int64_t LaneChooser::getLastDim(Value value) const {
  for (int64_t dim = getShape(value).size() - 1; dim >= 0; --dim)
    if (getShape(value)[dim] != 1)
      return schedule.isOuter(dims.getClass(value, dim)) ? -1 : dim;
  return -1;
}

void LaneChooser::visitArgument(unsigned i) {
  BlockArgument argument = kernel.getBodyBlock()->getArgument(i);
  AccessAttr access = kernel.getInputAccess(i);
  auto whole = cast<RankedTensorType>(kernel.getInputs()[i].getType());
  bool isColumn = access.isSelect() && static_cast<int64_t>(access.getDim()) == whole.getRank() - 1;
  result.innermost[argument] = isColumn ? -1 : getLastDim(argument);
}

/// Each result is copied to where it belongs, but for one that is computed in its order.
void LaneChooser::visitYield(unsigned i) {
  Value value = kernel.getYielded()[i];
  constexpr double copyCost = 1;
  bool isInOrder = result.getInnermostDim(value) == getLastDim(value);
  add(value, countInner(value) / width * (isInOrder ? copyCost : transposeCost));
}

//===----------------------------------------------------------------------------===//
// Ops
//===----------------------------------------------------------------------------===//

/// The argument that a value is a view of, and which of its dimensions has the neighbours that `dim` of the view has.
static std::optional<std::pair<BlockArgument, int64_t>> findArgument(Value value, int64_t dim) {
  while (Operation *op = value.getDefiningOp()) {
    if (auto expand = dyn_cast<tensor::ExpandShapeOp>(op)) {
      int64_t source = expand.getCorrespondingSourceDim(dim);
      auto real = llvm::filter_to_vector(expand.getReassociationIndices()[source],
                                         [&](int64_t part) { return getShape(value)[part] != 1; });
      if (real.empty() || real.back() != dim)
        return std::nullopt;
      dim = source;
    } else if (auto slice = dyn_cast<tensor::ExtractSliceOp>(op)) {
      int64_t kept = -1, source = -1;
      while (kept != dim)
        kept += slice.getDroppedDims().test(++source) ? 0 : 1;
      if (!isConstantIntValue(slice.getMixedStrides()[source], 1))
        return std::nullopt;
      dim = source;
    } else {
      return std::nullopt;
    }
    value = op->getOperand(0);
  }
  return std::pair(cast<BlockArgument>(value), dim);
}

/// What an op costs with one of its loops across the lanes, and what that demands of its operands.
double LaneChooser::getCost(linalg::GenericOp op, Choice choice, Demands &demands) const {
  constexpr double foldCost = 8, blockFactor = 0.75;
  SmallVector<int64_t> sizes = op.getStaticLoopRanges();
  double iterations = 1, results = 1, each = std::max(estimatePayload(op), 0.5), turning = 0;
  bool hasParallel = false, reduces = op.getNumReductionLoops() != 0;
  for (auto [loop, size] : llvm::enumerate(sizes)) {
    if (schedule.isOuter(dims.getClass(op, loop)))
      continue;
    bool isParallel = op.getIteratorTypesArray()[loop] == utils::IteratorType::parallel;
    double steps = loop == choice.loop ? llvm::divideCeil(size, choice.lanes) : size;
    iterations *= steps;
    results *= isParallel ? steps : 1;
    hasParallel |= isParallel && steps > 1;
  }
  if (choice.loop != Choice::none)
    for (OpOperand *operand : op.getDpsInputOperands()) {
      Value value = operand->get();
      if (!isa<RankedTensorType>(value.getType()) || op.getMatchingBlockArgument(operand).use_empty() ||
          !isKnown(value))
        continue;
      std::optional<SmallVector<int64_t>> steps = getSteps(op.getMatchingIndexingMap(operand), choice.loop);
      if (!steps)
        return std::numeric_limits<double>::infinity();
      SmallVector<int64_t> moved;
      for (auto [dim, step] : llvm::enumerate(*steps))
        if (step != 0)
          moved.push_back(dim);
      if (moved.empty())
        continue;
      bool isUnit = moved.size() == 1 && (*steps)[moved.front()] == 1;
      if (isUnit && result.innermost.lookup(value) == moved.front())
        continue;
      double gather = 2.0 * choice.lanes;
      auto argument = isUnit ? findArgument(value, moved.front()) : std::nullopt;
      if (argument && !result.packed.contains(argument->first)) {
        demands.packed.push_back(*argument);
        demands.once += countInner(argument->first) / choice.lanes * transposeCost;
        continue;
      }
      // A call of its own, and tiles that are cut short where the other dimension has few elements.
      double turn = turnCost + countInner(value) / choice.lanes * transposeCost;
      if (isUnit && result.getInnermostDim(value) >= 0 && turn < iterations * gather) {
        demands.turned.push_back({operand, moved.front()});
        turning += turn;
        continue;
      }
      each += gather;
    }
  bool isFolded =
      choice.loop != Choice::none && op.getIteratorTypesArray()[choice.loop] == utils::IteratorType::reduction;
  // What a block of rows loads serves all of them, and leaves the multiplications to wait for.
  if (reduces && !isFolded && choice.lanes == width && schedule.blockedClass >= 0 && hasOuter(op->getResult(0)))
    each *= blockFactor;
  if (reduces && !hasParallel) // one accumulator, whose additions wait for each other
    each = std::max(each, 4.0);
  return times * (iterations * each + turning + (isFolded ? results * foldCost : 0));
}

/// After an argument was packed, its views have other neighbours.
void LaneChooser::revisitViews(Value value) {
  for (Operation *user : value.getUsers()) {
    if (!isa<tensor::ExpandShapeOp, tensor::CollapseShapeOp, tensor::ExtractSliceOp>(user) ||
        !isKnown(user->getResult(0)))
      continue;
    if (auto slice = dyn_cast<tensor::ExtractSliceOp>(user))
      visitSlice(slice);
    else
      visitReshape(user);
    revisitViews(user->getResult(0));
  }
}

void LaneChooser::visitGeneric(linalg::GenericOp op) {
  Value value = op->getResult(0);
  SmallVector<int64_t> sizes = op.getStaticLoopRanges();
  Choice best;
  Demands demands;
  double least = getCost(op, best, demands), points = hasOuter(value) ? countPoints() : 1;
  for (auto [loop, size] : llvm::enumerate(sizes)) {
    if (schedule.isOuter(dims.getClass(op, loop)) || size < 2)
      continue;
    bool isParallel = op.getIteratorTypesArray()[loop] == utils::IteratorType::parallel;
    Choice choice{static_cast<unsigned>(loop), std::min<int64_t>(width, llvm::bit_floor<uint64_t>(size))};
    if (!isParallel && (!isFloatSum(op) || choice.lanes < width))
      continue;
    Demands others;
    if (double cost = getCost(op, choice, others); cost + others.once / points < least + demands.once / points) {
      best = choice;
      least = cost;
      demands = others;
    }
  }
  result.choices[op] = best;
  for (auto [argument, dim] : demands.packed) {
    result.packed.insert(argument);
    result.innermost[argument] = dim;
    revisitViews(argument);
    addOnce(argument, countInner(argument) / best.lanes * transposeCost);
  }
  for (auto [operand, dim] : demands.turned)
    result.turned[operand] = dim;
  addOnce(value, least);
  result.innermost[value] = getLastDim(value);
  if (best.loop == Choice::none)
    return;
  AffineMap map = op.getMatchingIndexingMap(op.getDpsInitOperand(0));
  for (auto [dim, expr] : llvm::enumerate(map.getResults()))
    if (expr == getAffineDimExpr(best.loop, op.getContext()))
      result.innermost[value] = dim;
}

/// Strides express it, or the source is copied in torch's order, element by element.
void LaneChooser::visitReshape(Operation *op) {
  bool expands = isa<tensor::ExpandShapeOp>(op);
  auto groups = expands ? cast<tensor::ExpandShapeOp>(op).getReassociationIndices()
                        : cast<tensor::CollapseShapeOp>(op).getReassociationIndices();
  Value source = op->getOperand(0), value = op->getResult(0), wide = expands ? value : source;
  if (!isKnown(source))
    return;
  int64_t from = result.getInnermostDim(source), to = -1;
  bool isCopied = false;
  for (auto [g, group] : llvm::enumerate(groups)) {
    auto real = llvm::filter_to_vector(group, [&](int64_t dim) { return getShape(wide)[dim] != 1; });
    if (expands && static_cast<int64_t>(g) == from && !real.empty())
      to = real.back();
    if (!expands && llvm::is_contained(real, from))
      to = g;
    isCopied |= !expands && real.size() > 1 && from != getLastDim(source);
  }
  if (isCopied)
    add(source, countInner(source));
  result.innermost[value] = isCopied ? getLastDim(value) : to;
}

void LaneChooser::visitSlice(tensor::ExtractSliceOp op) {
  if (!isKnown(op.getSource()))
    return;
  int64_t from = result.getInnermostDim(op.getSource()), to = -1, next = 0;
  for (int64_t dim = 0; dim < static_cast<int64_t>(getShape(op.getSource()).size()); ++dim) {
    if (op.getDroppedDims().test(dim))
      continue;
    if (dim == from && isConstantIntValue(op.getMixedStrides()[dim], 1))
      to = next;
    ++next;
  }
  result.innermost[op.getResult()] = to;
}

/// A fresh tensor takes the order of what is put into it first.
void LaneChooser::visitInsert(tensor::InsertSliceOp op) {
  int64_t from = result.getInnermostDim(op.getSource()), to = -1, next = 0;
  for (int64_t dim = 0; dim < static_cast<int64_t>(getShape(op.getResult()).size()); ++dim) {
    if (op.getDroppedDims().test(dim))
      continue;
    if (next++ == from)
      to = dim;
  }
  bool isInPlace = isKnown(op.getDest());
  result.innermost[op.getResult()] = isInPlace ? result.getInnermostDim(op.getDest()) : to;
  add(op.getResult(), 2 * countInner(isInPlace ? op.getSource() : op.getResult()) / width);
}

/// What a loop carries stays row-major; what an iteration yields in another order is copied to it.
LogicalResult LaneChooser::visitLoop(scf::ForOp loop) {
  std::optional<APInt> trips = loop.getStaticTripCount();
  if (!trips)
    return failure();
  for (auto [carried, value] : llvm::zip_equal(loop.getRegionIterArgs(), loop.getResults()))
    result.innermost[carried] = result.innermost[value] = getLastDim(value);
  double before = times;
  times *= static_cast<double>(trips->getSExtValue());
  for (Operation &op : loop.getBody()->without_terminator())
    if (failed(visit(&op)))
      return failure();
  for (auto [yielded, value] : llvm::zip_equal(loop.getYieldedValues(), loop.getResults()))
    if (result.getInnermostDim(yielded) != result.getInnermostDim(value))
      add(value, countInner(value) / width * transposeCost);
  times = before;
  return success();
}

LogicalResult LaneChooser::visit(Operation *op) {
  if (auto loop = dyn_cast<scf::ForOp>(op))
    return visitLoop(loop);
  if (isa<linalg::GenericOp>(op) && op->getNumResults() != 1)
    return failure();
  if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
    auto elements = dyn_cast<DenseElementsAttr>(constant.getValue());
    if (elements && !elements.isSplat())
      result.innermost[constant.getResult()] = getLastDim(constant.getResult());
  }
  llvm::TypeSwitch<Operation *>(op)
      .Case([&](linalg::GenericOp generic) { visitGeneric(generic); })
      .Case<tensor::ExpandShapeOp, tensor::CollapseShapeOp>([&](Operation *reshape) { visitReshape(reshape); })
      .Case([&](tensor::ExtractSliceOp slice) { visitSlice(slice); })
      .Case([&](tensor::InsertSliceOp insert) { visitInsert(insert); });
  return success();
}

LogicalResult LaneChooser::run() {
  for (BlockArgument argument : kernel.getBodyBlock()->getArguments())
    visitArgument(argument.getArgNumber());
  for (Operation &op : kernel.getBodyBlock()->without_terminator())
    if (failed(visit(&op)))
      return failure();
  for (unsigned i = 0; i < kernel.getYielded().size(); ++i)
    visitYield(i);
  return success();
}

bool OpLanes::isFolded(linalg::GenericOp op) const {
  unsigned loop = get(op).loop;
  return loop != Choice::none && op.getIteratorTypesArray()[loop] == utils::IteratorType::reduction;
}

FailureOr<OpLanes> OpLanes::choose(KernelOp kernel, const ParallelDims &dims, const Schedule &schedule, int64_t width) {
  LaneChooser chooser(kernel, dims, schedule, width);
  if (failed(chooser.run()))
    return failure();
  return std::move(chooser.result);
}
