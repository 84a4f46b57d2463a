//===- FormInstances.cpp - isomorphic subgraphs to pfcn.instances -----------------===//
//
// Builds what the analysis found, behind the old ops; sends the users of the old ops to
// the new results, drops the old ops, and puts the block in order again. Linear throughout:
// 100,000 instances are a normal input.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Analysis/Isomorphism.h"
#include "pfcn/Transforms/Explain.h"
#include "pfcn/Transforms/FoldSums.h"
#include "pfcn/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/Remarks.h"
#include "mlir/Transforms/CSE.h"

#include <mutex>

namespace mlir::pfcn {
#define GEN_PASS_DEF_FORMINSTANCESPASS
#include "pfcn/Transforms/Passes.h.inc"
} // namespace mlir::pfcn

using namespace mlir;
using namespace mlir::pfcn;

namespace {

class Former {
public:
  Former(Block &block, const Groups &groups)
      : block(block), groups(groups), builder(OpBuilder::atBlockTerminator(&block)) {}
  void run();

private:
  /// One result of a group: what the body yields, and where it goes.
  struct Output {
    SmallVector<unsigned> slots;
    Value init;
    AccessAttr access;
    int64_t join; // or -1: stacked
    bool isStacked;
  };

  void buildGroup(unsigned index);
  std::pair<Value, AccessAttr> buildInput(const Column &column);
  Value buildConstants(const Column &column);
  SmallVector<Output> buildOutputs(unsigned index);
  void buildBody(const Group &group, InstancesOp op, ArrayRef<Output> outputs);
  Value buildYielded(OpBuilder &body, ArrayRef<Value> results, const Output &output);
  Value buildEmpty(Location loc, RankedTensorType type, Value like);
  Value buildSize(Location loc, const SizeSource &source);

  void eraseMembers();

  void replaceUses(Operation *user);
  Value getElement(Value result);
  void replaceJoin(Operation *join);
  Value buildRun(ArrayRef<Value> run, int64_t dim, bool isStack);
  size_t getRunLength(ValueRange values, int64_t dim, bool isStack);

  Block &block;
  const Groups &groups;
  OpBuilder builder;
  Places places;
  SmallVector<SmallVector<std::pair<unsigned, const JoinPart *>>> partsOf; // of each group: join, part
  SmallVector<Value> destinations;                                         // of each join, so far
  DenseMap<std::pair<unsigned, unsigned>, Value> stacked;                  // of each group and slot
  DenseMap<Value, Value> elements;
};

} // namespace

static int64_t getJoinDim(Operation *op) {
  return isa<CatOp>(op) ? cast<CatOp>(op).getDim() : cast<StackOp>(op).getDim();
}

//===----------------------------------------------------------------------------===//
// Building a group
//===----------------------------------------------------------------------------===//

static Location getFusedLoc(const Group &group) {
  SmallVector<Location> locs = llvm::map_to_vector(group.getBody(), [](Operation *op) { return op->getLoc(); });
  return FusedLoc::get(locs.front().getContext(), locs);
}

void Former::buildGroup(unsigned index) {
  const Group &group = groups.groups[index];
  SmallVector<Value> inputs, inits;
  SmallVector<Attribute> inputAccesses, initAccesses;
  for (const Column &column : group.columns)
    if (auto [input, access] = buildInput(column); input) {
      inputs.push_back(input);
      inputAccesses.push_back(access);
    }
  SmallVector<Output> outputs = buildOutputs(index);
  for (const Output &output : outputs) {
    inits.push_back(output.init);
    initAccesses.push_back(output.access);
  }
  auto op = InstancesOp::create(builder, getFusedLoc(group), TypeRange(ValueRange(inits)), group.name, group.getCount(),
                                inputs, inits, builder.getArrayAttr(inputAccesses), builder.getArrayAttr(initAccesses));
  buildBody(group, op, outputs);
  for (auto [output, result] : llvm::zip_equal(outputs, op.getResults())) {
    if (output.join >= 0)
      destinations[output.join] = result;
    if (output.isStacked)
      stacked[{index, output.slots.front()}] = result;
  }
}

/// A small constant that the body has itself.
static ConstantOp getInlined(const Column &column) {
  constexpr int64_t kMaxElements = 16;
  auto constant = column.kind == Column::Shared ? column.values.front().getDefiningOp<ConstantOp>() : ConstantOp();
  bool isSmall = constant && (constant.getValue().getNumElements() <= kMaxElements || constant.getValue().isSplat());
  return isSmall ? constant : ConstantOp();
}

/// The tensor in which the instances find their operand, and how; null where it is inlined.
std::pair<Value, AccessAttr> Former::buildInput(const Column &column) {
  MLIRContext *context = builder.getContext();
  Location loc = column.values.front().getLoc();
  AccessAttr own = AccessAttr::getSelect(context, 0);
  switch (column.kind) {
  case Column::Shared:
    if (getInlined(column))
      return {};
    return {column.values.front(), AccessAttr::getShared(context)};
  case Column::Part:
    return {column.whole, AccessAttr::getForStarts(context, column.dim, column.size, column.starts)};
  case Column::Results:
    return {stacked.at({column.group, column.slot}), AccessAttr::getForStarts(context, 0, -1, column.starts)};
  case Column::Constants:
    return {buildConstants(column), own};
  case Column::Copies:
    return {StackOp::create(builder, loc, column.values, 0), own};
  case Column::Parameters: {
    SmallVector<Attribute> paths;
    for (Value value : column.values)
      paths.push_back(value.getDefiningOp<ParameterOp>().getPathAttr());
    SmallVector<int64_t> shape(ranked(column.values.front()).getShape());
    shape.insert(shape.begin(), column.values.size());
    auto type = RankedTensorType::get(shape, ranked(column.values.front()).getElementType());
    return {
        ParameterStackOp::create(builder, loc, type, builder.getArrayAttr(paths), /*dim=*/nullptr, /*sizes=*/nullptr),
        own};
  }
  }
  llvm_unreachable("unknown kind of column");
}

Value Former::buildConstants(const Column &column) {
  auto one = ranked(column.values.front());
  SmallVector<int64_t> shape(one.getShape());
  shape.insert(shape.begin(), column.values.size());
  SmallVector<Attribute> elements;
  for (Value value : column.values)
    llvm::append_range(elements,
                       cast<DenseElementsAttr>(value.getDefiningOp<ConstantOp>().getValue()).getValues<Attribute>());
  auto type = RankedTensorType::get(shape, one.getElementType());
  return ConstantOp::create(builder, column.values.front().getLoc(), type, DenseElementsAttr::get(type, elements));
}

SmallVector<Former::Output> Former::buildOutputs(unsigned index) {
  const Group &group = groups.groups[index];
  SmallVector<Output> outputs;
  for (auto [join, part] : partsOf[index]) {
    Operation *op = groups.joins[join].op;
    if (!destinations[join])
      destinations[join] = buildEmpty(op->getLoc(), ranked(op->getResult(0)), op->getResult(0));
    AccessAttr access = AccessAttr::getForStarts(op->getContext(), getJoinDim(op), part->size, part->starts);
    outputs.push_back({part->slots, destinations[join], access, join, part->isStackedResult});
  }
  for (unsigned slot : group.stacked) {
    Value result = group.getResult(0, slot);
    SmallVector<int64_t> shape(ranked(result).getShape());
    shape.insert(shape.begin(), group.getCount());
    Value init = buildEmpty(result.getLoc(), RankedTensorType::get(shape, ranked(result).getElementType()), result);
    outputs.push_back({{slot}, init, AccessAttr::getSelect(builder.getContext(), 0), -1, true});
  }
  return outputs;
}

/// An empty tensor whose dynamic sizes are those of `like`.
Value Former::buildEmpty(Location loc, RankedTensorType type, Value like) {
  SmallVector<Value> sizes;
  for (int64_t dim = 0; dim < ranked(like).getRank(); ++dim)
    if (ranked(like).isDynamicDim(dim)) {
      std::optional<SizeSource> source = findSize(like, dim);
      assert(source && "the analysis leaves out groups whose sizes are not known");
      sizes.push_back(buildSize(loc, *source));
    }
  return EmptyOp::create(builder, loc, type, sizes);
}

Value Former::buildSize(Location loc, const SizeSource &source) {
  Value size = tensor::DimOp::create(builder, loc, source.whole, source.dim);
  if (source.multiplier != 1)
    size = arith::MulIOp::create(builder, loc, size, arith::ConstantIndexOp::create(builder, loc, source.multiplier));
  if (source.divisor != 1)
    size = arith::DivUIOp::create(builder, loc, size, arith::ConstantIndexOp::create(builder, loc, source.divisor));
  return size;
}

void Former::buildBody(const Group &group, InstancesOp op, ArrayRef<Output> outputs) {
  Block *body = op.getBody().empty() ? &op.getBody().emplaceBlock() : op.getBodyBlock();
  if (!body->empty())
    body->clear();
  OpBuilder inner = OpBuilder::atBlockEnd(body);
  SmallVector<Value> columns;
  unsigned input = 0;
  for (const Column &column : group.columns) {
    if (ConstantOp constant = getInlined(column)) {
      columns.push_back(inner.clone(*constant)->getResult(0));
      continue;
    }
    AccessAttr access = op.getInputAccess(input);
    columns.push_back(
        body->addArgument(access.getInstanceType(ranked(op.getInputs()[input])), column.values.front().getLoc()));
    ++input;
  }
  SmallVector<Value> results;
  for (auto [sources, model] : llvm::zip_equal(group.operands, group.getBody())) {
    SmallVector<Value> operands = llvm::map_to_vector(
        sources, [&](const auto &source) { return source.isInternal ? results[source.index] : columns[source.index]; });
    Operation *copy = inner.insert(model->clone());
    copy->setOperands(operands);
    llvm::append_range(results, copy->getResults());
  }
  SmallVector<Value> yielded;
  for (const Output &output : outputs)
    yielded.push_back(buildYielded(inner, results, output));
  YieldOp::create(inner, op.getLoc(), yielded);
}

/// Several results that a join has side by side are joined in the body.
Value Former::buildYielded(OpBuilder &body, ArrayRef<Value> results, const Output &output) {
  if (output.slots.size() == 1)
    return results[output.slots.front()];
  Operation *join = groups.joins[output.join].op;
  SmallVector<Value> parts;
  for (unsigned slot : output.slots)
    parts.push_back(isa<StackOp>(join)
                        ? Value(UnsqueezeOp::create(body, join->getLoc(), results[slot], getJoinDim(join)))
                        : results[slot]);
  return CatOp::create(body, join->getLoc(), parts, getJoinDim(join));
}

//===----------------------------------------------------------------------------===//
// The users of the old ops
//===----------------------------------------------------------------------------===//

/// The result of one instance, from the stacked results of its group.
Value Former::getElement(Value result) {
  std::optional<Place> place = getPlace(places, result);
  if (!place)
    return result;
  Value &element = elements[result];
  if (!element)
    element = SelectOp::create(builder, result.getLoc(), stacked.at({place->group, place->slot}), 0, place->instance);
  return element;
}

void Former::replaceUses(Operation *user) {
  if (llvm::none_of(user->getOperands(), [&](Value operand) { return getPlace(places, operand); }))
    return;
  if (isa<CatOp, StackOp>(user))
    return replaceJoin(user);
  for (OpOperand &operand : user->getOpOperands())
    operand.set(getElement(operand.get()));
}

/// How many of the leading values are results of successive instances, and can be read
/// from the stacked result as one tensor.
size_t Former::getRunLength(ValueRange values, int64_t dim, bool isStack) {
  std::optional<Place> first = getPlace(places, values.front());
  if (!first)
    return 1;
  ArrayRef<int64_t> behind = ranked(values.front()).getShape().drop_front(dim);
  if (!isStack && llvm::count(behind, ShapedType::kDynamic) > 1)
    return 1;
  size_t length = 1;
  for (; length < values.size(); ++length) {
    std::optional<Place> next = getPlace(places, values[length]);
    if (!next || next->group != first->group || next->slot != first->slot || next->instance != first->instance + length)
      break;
  }
  return length;
}

/// A join of results that are no destination is a join of whole runs of instances.
void Former::replaceJoin(Operation *join) {
  bool isStack = isa<StackOp>(join);
  int64_t dim = getJoinDim(join);
  builder.setInsertionPoint(join);
  SmallVector<Value> pieces;
  for (ValueRange rest = join->getOperands(); !rest.empty();) {
    size_t length = getRunLength(rest, dim, isStack);
    pieces.push_back(buildRun(SmallVector<Value>(rest.take_front(length)), dim, isStack));
    rest = rest.drop_front(length);
  }
  Value joined = pieces.size() == 1 ? pieces.front() : CatOp::create(builder, join->getLoc(), pieces, dim);
  join->getResult(0).replaceAllUsesWith(joined);
  join->erase();
  builder.setInsertionPoint(block.getTerminator());
}

/// One operand of a cat along `dim`: the results of successive instances, or a value alone.
Value Former::buildRun(ArrayRef<Value> run, int64_t dim, bool isStack) {
  Location loc = run.front().getLoc();
  if (run.size() == 1) {
    Value value = getElement(run.front());
    return isStack ? Value(UnsqueezeOp::create(builder, loc, value, dim)) : value;
  }
  Place place = *getPlace(places, run.front());
  int64_t count = run.size();
  Value value = stacked.at({place.group, place.slot});
  if (ranked(value).getDimSize(0) != count)
    value = SliceOp::create(builder, loc, value, 0, place.instance, place.instance + count, 1);
  auto permutation = llvm::to_vector(llvm::seq<int64_t>(1, dim + 1));
  permutation.push_back(0);
  llvm::append_range(permutation, llvm::seq<int64_t>(dim + 1, ranked(value).getRank()));
  if (dim != 0)
    value = PermuteOp::create(builder, loc, value, permutation);
  if (isStack)
    return value;
  SmallVector<int64_t> shape(ranked(run.front()).getShape());
  shape[dim] = ShapedType::isDynamic(shape[dim]) ? shape[dim] : shape[dim] * count;
  return ReshapeOp::create(builder, loc, RankedTensorType::get(shape, ranked(value).getElementType()), value);
}

//===----------------------------------------------------------------------------===//
// The block
//===----------------------------------------------------------------------------===//

static void eraseDeadOps(Block &block) {
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
    if (isOpTriviallyDead(&op))
      op.erase();
}

/// Puts operands before their users again. Ops with effects keep their order.
static void sortTopologically(Block &block) {
  SmallVector<Operation *> order;
  DenseMap<Operation *, Operation *> effectBefore;
  Operation *lastEffect = nullptr, *terminator = block.getTerminator();
  for (Operation &op : block.without_terminator()) {
    order.push_back(&op);
    if (!keepsOrder(&op))
      continue;
    effectBefore[&op] = lastEffect;
    lastEffect = &op;
  }
  DenseSet<Operation *> entered;
  SmallVector<std::pair<Operation *, unsigned>> stack;
  auto enter = [&](Operation *op) {
    if (op && op->getBlock() == &block && entered.insert(op).second)
      stack.push_back({op, 0});
  };
  for (Operation *root : order) {
    enter(root);
    while (!stack.empty()) {
      auto &[op, next] = stack.back();
      if (next == 0)
        if (auto it = effectBefore.find(op); it != effectBefore.end() && it->second) {
          Operation *before = it->second;
          effectBefore.erase(it);
          enter(before);
          continue;
        }
      if (next < op->getNumOperands()) {
        Operation *definition = op->getOperand(next++).getDefiningOp();
        enter(definition);
        continue;
      }
      op->moveBefore(terminator);
      stack.pop_back();
    }
  }
}

void Former::run() {
  size_t members = 0;
  for (const Group &group : groups.groups)
    members += group.instances.size() * group.getBody().size();
  places.reserve(members);
  for (auto [g, group] : llvm::enumerate(groups.groups))
    for (auto [i, instance] : llvm::enumerate(group.instances))
      for (auto [k, op] : llvm::enumerate(instance))
        places[op] = {static_cast<unsigned>(g), static_cast<unsigned>(i), group.firstSlots[k]};
  partsOf.resize(groups.groups.size());
  destinations.resize(groups.joins.size());
  for (auto [j, join] : llvm::enumerate(groups.joins))
    for (const JoinPart &part : join.parts)
      partsOf[part.group].push_back({j, &part});
  for (unsigned index = 0; index < groups.groups.size(); ++index)
    buildGroup(index);
  for (auto [join, destination] : llvm::zip_equal(groups.joins, destinations)) {
    join.op->getResult(0).replaceAllUsesWith(destination);
    join.op->erase();
  }
  for (Operation &op : llvm::make_early_inc_range(block))
    if (!places.contains(&op))
      replaceUses(&op);
  eraseMembers();
  eraseDeadOps(block);
  sortTopologically(block);
  eraseDeadOps(block);
}

void Former::eraseMembers() {
  for (auto &[op, place] : places)
    op->dropAllReferences();
  for (auto &[op, place] : places)
    op->erase();
}

//===----------------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------------===//

static remark::RemarkOpts getRemarkOpts(StringRef name, StringRef function) {
  return remark::RemarkOpts::name(name).category("pfcn.fusion").function(function);
}

static void emitRemarks(func::FuncOp function, const Groups &groups) {
  StringRef name = function.getName();
  for (const Group &group : groups.groups)
    if (auto remark = remark::passed(getFusedLoc(group), getRemarkOpts("FormInstances", name))) {
      FusionReport::Group text = explain(group);
      remark << remark::reason("{0}", text.reason) << remark::metric("group", text.name)
             << remark::metric("instances", text.instances)
             << remark::metric("operands", llvm::join(text.operands, "; "))
             << remark::metric("flops", llvm::formatv("{0:F0}", text.flops).str())
             << remark::metric("bytes-before", llvm::formatv("{0:F0}", text.bytesBefore).str())
             << remark::metric("bytes-after", llvm::formatv("{0:F0}", text.bytesAfter).str());
      if (!text.padding.empty())
        remark << remark::metric("padding", text.padding);
    }
  for (const Miss &miss : groups.misses)
    if (auto remark = remark::missed(miss.where->getLoc(), getRemarkOpts("FormInstances", name))) {
      FusionReport::Miss text = explain(miss);
      remark << remark::reason("{0}", text.reason);
      if (!text.other.empty())
        remark << remark::metric("other", text.other);
      if (!text.suggestion.empty())
        remark << remark::suggest("{0}", text.suggestion);
    }
}

namespace {

struct FormInstances : mlir::pfcn::impl::FormInstancesPassBase<FormInstances> {
  FormInstances() = default;
  explicit FormInstances(FusionReport *report) : report(report) {}

  void runOnOperation() override {
    func::FuncOp function = getOperation();
    if (function.isDeclaration())
      return;
    IRRewriter rewriter(&getContext());
    eliminateCommonSubExpressions(rewriter, getAnalysis<DominanceInfo>(), function);
    if (llvm::hasSingleElement(function.getBody()))
      foldSums(function.getBody().front());
    Groups groups = findGroups(function);
    {
      std::lock_guard<std::mutex> lock(getExplainMutex());
      emitRemarks(function, groups);
    }
    if (report) {
      std::lock_guard<std::mutex> lock(getExplainMutex());
      for (const Group &group : groups.groups)
        report->groups.push_back(explain(group));
      for (const Miss &miss : groups.misses)
        report->missed.push_back(explain(miss));
    }
    if (groups.groups.empty())
      return;
    Former(function.getBody().front(), groups).run();
    // Operators that were composed of ops may have some in common.
    function.walk([&](InstancesOp op) {
      DominanceInfo dominance(op);
      eliminateCommonSubExpressions(rewriter, dominance, op);
    });
  }

  FusionReport *report = nullptr;
};

} // namespace

std::unique_ptr<Pass> mlir::pfcn::createFormInstancesPass(FusionReport *report) {
  return std::make_unique<FormInstances>(report);
}
