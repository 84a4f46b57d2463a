//===- Differentiate.cpp - a function for the gradients of each group --------------===//
//
// Reverse mode on the body of `pfcn.instances`, so its cost does not depend on the number of instances.
// The forward is computed anew inside of the backward, which therefore is a group like any other.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Transforms/Explain.h"
#include "pfcn/Transforms/Passes.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/Remarks.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Transforms/CSE.h"

namespace mlir::pfcn {
#define GEN_PASS_DEF_DIFFERENTIATEPASS
#include "pfcn/Transforms/Passes.h.inc"
} // namespace mlir::pfcn

using namespace mlir;
using namespace mlir::pfcn;

//===----------------------------------------------------------------------------===//
// Accesses
//===----------------------------------------------------------------------------===//

/// The starts of the instances in order, and how far each reaches.
static SmallVector<int64_t> getSortedStarts(AccessAttr access, int64_t count) {
  auto starts = llvm::map_to_vector(llvm::seq(count), [&](int64_t i) { return access.getStart(i); });
  llvm::sort(starts);
  return starts;
}

static int64_t getWidth(AccessAttr access) { return access.isSelect() ? 1 : access.getSize(); }

static bool isDisjoint(AccessAttr access, int64_t count) {
  if (access.isShared())
    return count == 1;
  SmallVector<int64_t> starts = getSortedStarts(access, count);
  for (size_t i = 1; i < starts.size(); ++i)
    if (starts[i] - starts[i - 1] < getWidth(access))
      return false;
  return true;
}

/// Whether disjoint instances make up all of a tensor.
static bool coversAll(AccessAttr access, int64_t count, RankedTensorType whole) {
  return whole.getDimSize(access.getDim()) == count * getWidth(access);
}

//===----------------------------------------------------------------------------===//
// The body
//===----------------------------------------------------------------------------===//

namespace {

/// Builds the body of the backward: its arguments are what the instances see of the inputs and of the
/// upstream gradients, its results the gradients of the wanted inputs.
class BodyDifferentiator {
public:
  BodyDifferentiator(InstancesOp op, ArrayRef<unsigned> wanted, Block &body)
      : op(op), wanted(wanted), body(body), builder(op->getContext()) {
    builder.setInsertionPointToEnd(&body);
  }

  /// The op that has no gradient, or null: then the gradients are there, null where none flows to an input.
  Operation *run();
  SmallVector<Value> gradients;

private:
  void cloneForward();
  Operation *pullBack();
  void accumulate(Value value, Value gradient);
  FailureOr<Value> getGradient(unsigned input);

  InstancesOp op;
  ArrayRef<unsigned> wanted;
  Block &body;
  OpBuilder builder;
  SmallVector<Operation *> forward;
  SmallVector<Value> yielded;
  /// What a wanted gradient depends on.
  DenseSet<Value> active;
  DenseMap<Value, Value> upstream;
};

} // namespace

void BodyDifferentiator::cloneForward() {
  IRMapping mapping;
  for (BlockArgument argument : op.getBodyBlock()->getArguments())
    mapping.map(argument, body.addArgument(argument.getType(), argument.getLoc()));
  for (unsigned i : wanted)
    active.insert(body.getArgument(i));
  for (Operation &inner : op.getBodyBlock()->without_terminator()) {
    Operation *copy = builder.clone(inner, mapping);
    forward.push_back(copy);
    if (llvm::any_of(copy->getOperands(), [&](Value operand) { return active.contains(operand); }))
      for (Value result : copy->getResults())
        if (isFloat(result))
          active.insert(result);
  }
  for (Value value : op.getYielded())
    yielded.push_back(mapping.lookup(value));
}

void BodyDifferentiator::accumulate(Value value, Value gradient) {
  Value &sum = upstream[value];
  sum = sum ? AddOp::create(builder, value.getLoc(), sum, gradient).getResult() : gradient;
}

Operation *BodyDifferentiator::pullBack() {
  for (Operation *inner : llvm::reverse(forward)) {
    Value gradient = upstream.lookup(inner->getResult(0));
    if (!gradient || !active.contains(inner->getResult(0)))
      continue;
    auto differentiable = dyn_cast<DifferentiableOpInterface>(inner);
    if (!differentiable || inner->hasAttr(roughAttrName))
      return inner;
    auto isWanted = llvm::map_to_vector(inner->getOperands(), [&](Value operand) { return active.contains(operand); });
    FailureOr<SmallVector<Value>> results = differentiable.vjp(builder, gradient, isWanted);
    if (failed(results))
      return inner;
    for (auto [operand, result, needed] : llvm::zip_equal(inner->getOperands(), *results, isWanted))
      if (result && needed)
        accumulate(operand, result);
  }
  return nullptr;
}

/// The gradient of an input, of its type; fails where its sizes cannot be said.
FailureOr<Value> BodyDifferentiator::getGradient(unsigned input) {
  Value argument = body.getArgument(input), gradient = upstream.lookup(argument);
  if (!gradient || gradient.getType() == argument.getType())
    return gradient;
  // Sizes may be known of the one and not of the other.
  if (!countCarriedDims(ranked(gradient).getShape(), ranked(argument).getShape()))
    return failure();
  return ReshapeOp::create(builder, argument.getLoc(), argument.getType(), gradient).getResult();
}

Operation *BodyDifferentiator::run() {
  cloneForward();
  for (auto [i, value] : llvm::enumerate(yielded)) {
    if (!isFloat(value))
      continue;
    Value gradient = body.addArgument(value.getType(), value.getLoc());
    if (active.contains(value))
      accumulate(value, gradient);
  }
  if (Operation *culprit = pullBack())
    return culprit;
  for (unsigned input : wanted) {
    FailureOr<Value> gradient = getGradient(input);
    if (failed(gradient))
      return *body.getArgument(input).getUsers().begin();
    gradients.push_back(*gradient);
  }
  return nullptr;
}

//===----------------------------------------------------------------------------===//
// The group and its function
//===----------------------------------------------------------------------------===//

namespace {

class Differentiator {
public:
  explicit Differentiator(InstancesOp op) : op(op), builder(op->getContext()) {}

  /// The op that has no gradient, or null: then the function is there.
  Operation *run(ModuleOp module);

private:
  SmallVector<unsigned> getWanted();
  template <typename Fresh> Value buildFresh(RankedTensorType type, Value like, int64_t added);
  /// Where the instances write the gradient of an input, and how; and what then is the gradient itself.
  void addDestination(Value input, AccessAttr access);
  Value finish(unsigned i, Value result);

  InstancesOp op;
  OpBuilder builder;
  SmallVector<Value> inputs, inits;
  SmallVector<AccessAttr> accesses, initAccesses;
};

} // namespace

SmallVector<unsigned> Differentiator::getWanted() {
  SmallVector<unsigned> wanted;
  auto listed = op->getAttrOfType<DenseI64ArrayAttr>(wantedAttrName);
  for (unsigned i = 0; i < op.getInputs().size(); ++i)
    if (listed ? llvm::is_contained(listed.asArrayRef(), i) : isFloat(op.getInputs()[i]))
      wanted.push_back(i);
  return wanted;
}

/// A tensor with the dynamic sizes of `like`, behind `added` dimensions.
template <typename Fresh> Value Differentiator::buildFresh(RankedTensorType type, Value like, int64_t added) {
  SmallVector<Value> sizes;
  for (int64_t dim = 0; dim < ranked(like).getRank(); ++dim)
    if (type.isDynamicDim(added + dim))
      sizes.push_back(tensor::DimOp::create(builder, op.getLoc(), like, dim));
  return Fresh::create(builder, op.getLoc(), type, sizes);
}

void Differentiator::addDestination(Value input, AccessAttr access) {
  int64_t count = op.getCount();
  RankedTensorType type = ranked(input);
  if (!access.isShared() && isDisjoint(access, count)) {
    inits.push_back(coversAll(access, count, type) ? buildFresh<EmptyOp>(type, input, 0)
                                                   : buildFresh<ZerosOp>(type, input, 0));
    initAccesses.push_back(access);
    return;
  }
  SmallVector<int64_t> shape(access.getInstanceType(type).getShape());
  bool isSelect = access.isSelect();
  shape.insert(shape.begin(), count);
  auto stacked = RankedTensorType::get(shape, type.getElementType());
  SmallVector<Value> sizes;
  for (int64_t dim = 0, next = 1; dim < type.getRank(); ++dim) {
    if (isSelect && dim == access.getDim())
      continue;
    if (stacked.isDynamicDim(next++))
      sizes.push_back(tensor::DimOp::create(builder, op.getLoc(), input, dim));
  }
  inits.push_back(EmptyOp::create(builder, op.getLoc(), stacked, sizes));
  initAccesses.push_back(AccessAttr::getSelect(op.getContext(), 0));
}

/// The gradient of input i from what the group has written for it.
Value Differentiator::finish(unsigned i, Value result) {
  AccessAttr access = accesses[i];
  Value input = inputs[i];
  if (access.isShared())
    return SumOp::create(builder, op.getLoc(), result, ArrayRef<int64_t>{0}, /*keepdim=*/false);
  if (isDisjoint(access, op.getCount()))
    return result;
  Value zeros = buildFresh<ZerosOp>(ranked(input), input, 0);
  return ScatterInstancesOp::create(builder, op.getLoc(), zeros.getType(), result, zeros, access, /*accumulate=*/true);
}

static void eraseDeadOps(Block &block) {
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
    if (isOpTriviallyDead(&op))
      op.erase();
}

Operation *Differentiator::run(ModuleOp module) {
  SmallVector<unsigned> wanted = getWanted();
  Region scratch;
  Block &body = scratch.emplaceBlock();
  BodyDifferentiator differentiator(op, wanted, body);
  if (Operation *culprit = differentiator.run()) {
    // The copy goes with the region; what stands in the group has the location to point at.
    for (Operation &inner : *op.getBodyBlock())
      if (inner.getName() == culprit->getName())
        return &inner;
    return op;
  }
  // What no gradient flows to has none, as in eager: zeros would be another thing to an optimizer.
  SmallVector<unsigned> reached;
  for (auto [input, gradient] : llvm::zip_equal(wanted, differentiator.gradients))
    if (gradient)
      reached.push_back(input);
  wanted = reached;
  llvm::erase(differentiator.gradients, Value());
  builder.setInsertionPointToEnd(&body);
  YieldOp::create(builder, op.getLoc(), differentiator.gradients);
  eraseDeadOps(body);

  SmallVector<Type> types(op.getInputs().getTypes()), resultTypes;
  SmallVector<AccessAttr> seen =
      llvm::map_to_vector(op.getInputAccesses(), [](Attribute access) { return cast<AccessAttr>(access); });
  for (auto [i, result] : llvm::enumerate(op.getResults()))
    if (isFloat(result)) {
      types.push_back(result.getType());
      seen.push_back(op.getInitAccess(i));
    }
  for (unsigned i : wanted)
    resultTypes.push_back(op.getInputs()[i].getType());
  builder.setInsertionPointToEnd(module.getBody());
  std::string name = (op.getName() + "_backward").str(), group = (op.getName() + "_gradient").str();
  auto function = func::FuncOp::create(builder, op.getLoc(), name, builder.getFunctionType(types, resultTypes));
  function.setPrivate();
  function->setAttr(wantedAttrName, builder.getDenseI64ArrayAttr(SmallVector<int64_t>(wanted.begin(), wanted.end())));
  SymbolTable(module).insert(function); // renames it where the name is taken
  builder.setInsertionPointToStart(function.addEntryBlock());
  if (wanted.empty()) {
    func::ReturnOp::create(builder, op.getLoc());
    return nullptr;
  }

  for (unsigned i : wanted)
    addDestination(function.getArgument(i), seen[i]);
  SmallVector<Attribute> inputAccesses;
  SmallVector<Value> used;
  for (unsigned i = 0, next = 0; i < types.size(); ++i) {
    if (body.getArgument(next).use_empty()) {
      body.eraseArgument(next);
      continue;
    }
    used.push_back(function.getArgument(i));
    inputAccesses.push_back(seen[i]);
    ++next;
  }
  SmallVector<Attribute> outputAccesses(initAccesses.begin(), initAccesses.end());
  auto backward = InstancesOp::create(builder, op.getLoc(), ValueRange(inits).getTypes(), group, op.getCount(), used,
                                      inits, builder.getArrayAttr(inputAccesses), builder.getArrayAttr(outputAccesses));
  backward.getBody().takeBody(scratch);

  for (unsigned i : wanted) {
    inputs.push_back(function.getArgument(i));
    accesses.push_back(seen[i]);
  }
  SmallVector<Value> gradients;
  for (unsigned i = 0; i < wanted.size(); ++i)
    gradients.push_back(finish(i, backward.getResult(i)));
  func::ReturnOp::create(builder, op.getLoc(), gradients);
  IRRewriter rewriter(builder);
  DominanceInfo dominance(backward);
  eliminateCommonSubExpressions(rewriter, dominance, backward); // destinations stay one each
  return nullptr;
}

namespace {

struct Differentiate : mlir::pfcn::impl::DifferentiatePassBase<Differentiate> {
  void runOnOperation() override {
    SmallVector<InstancesOp> groups;
    getOperation().walk([&](InstancesOp op) { groups.push_back(op); });
    for (InstancesOp op : groups) {
      Operation *culprit = Differentiator(op).run(getOperation());
      if (!culprit)
        continue;
      std::string reason = (culprit->getName().getStringRef() + " has no gradient").str();
      op->setAttr(notDifferentiableAttrName, StringAttr::get(&getContext(), reason));
      std::lock_guard<std::mutex> lock(getExplainMutex());
      remark::missed(culprit->getLoc(), remark::RemarkOpts::name("Differentiate").category("pfcn.fusion"))
          << remark::reason("{0}, so group {1} is not trained", reason, op.getName());
    }
  }
};

} // namespace
