//===- SplitInstances.cpp - groups cut at foreign operators ------------------------===//
//
// Foreign is also what has no gradient, where one is wanted. A foreign operator is as deep as the number of others
// before it, and any other op as deep as what first waits for it. Ops of one depth become one smaller group, foreign
// operators one call each over the stacked instances, and what only moves data views beside these calls.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Analysis/Isomorphism.h"
#include "pfcn/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/SetVector.h"

namespace mlir::pfcn {
#define GEN_PASS_DEF_SPLITINSTANCESPASS
#include "pfcn/Transforms/Passes.h.inc"
} // namespace mlir::pfcn

using namespace mlir;
using namespace mlir::pfcn;

namespace {

/// A value of the body, as it is outside of the group.
struct Outer {
  Value whole;
  AccessAttr access;
};

class Splitter {
public:
  explicit Splitter(InstancesOp op) : op(op), count(op.getCount()), builder(op) {}
  void run();

private:
  void measure();
  void splitDepth(ArrayRef<Operation *> ops);
  bool tryViews(ArrayRef<Operation *> ops);
  void buildPiece(ArrayRef<Operation *> ops);
  void buildBody(InstancesOp piece, ArrayRef<Operation *> ops, ArrayRef<Value> inputs, ArrayRef<Value> outputs);
  SmallVector<Value> findOutputs(ArrayRef<Operation *> ops) const;
  Value buildEmpty(Value result);
  Value buildSize(Location loc, const SizeSource &source);
  std::optional<unsigned> getDestination(Value value) const;
  void buildForeign(Operation *foreign);
  Operation *buildCall(Operation *call, ArrayRef<BatchedValue> operands, bool isOne);
  void replaceResults();

  AccessAttr own() { return AccessAttr::getSelect(op.getContext(), 0); }
  AccessAttr shared() { return AccessAttr::getShared(op.getContext()); }
  bool isStack(const Outer &value) const {
    return value.access == AccessAttr::getSelect(value.whole.getContext(), 0) &&
           ranked(value.whole).getDimSize(0) == count;
  }
  BatchedValue getBatched(Value value);
  Value getStacked(Value value);
  RankedTensorType getStackedType(Value value) const {
    SmallVector<int64_t> shape(ranked(value).getShape());
    shape.insert(shape.begin(), count);
    return RankedTensorType::get(shape, ranked(value).getElementType());
  }

  InstancesOp op;
  int64_t count;
  OpBuilder builder;
  DenseMap<Operation *, unsigned> depths;
  DenseMap<Value, Outer> outers;
  DenseMap<Value, BatchedValue> batchedValues;
  DenseSet<unsigned> written; // results of the group that a piece wrote in their place
  unsigned pieces = 0;
};

} // namespace

/// Whether any operand is each instance's own.
static bool differs(ArrayRef<BatchedValue> operands) {
  return llvm::any_of(operands, [](const BatchedValue &operand) { return operand.batched; });
}

/// An op that is the same for all instances.
static Operation *cloneOnce(OpBuilder &builder, Operation *op, ArrayRef<BatchedValue> operands) {
  Operation *copy = builder.clone(*op);
  for (auto [i, operand] : llvm::enumerate(operands))
    copy->setOperand(i, operand.value);
  return copy;
}

static bool isForeign(Operation *op) { return isa<OpaqueOp>(op) || op->hasAttr(notDifferentiableAttrName); }

//===----------------------------------------------------------------------------===//
// Values outside
//===----------------------------------------------------------------------------===//

/// As operators outside see it: stacked, or one for all.
BatchedValue Splitter::getBatched(Value value) {
  if (auto it = batchedValues.find(value); it != batchedValues.end())
    return it->second;
  if (auto constant = value.getDefiningOp<ConstantOp>())
    outers[value] = {builder.clone(*constant)->getResult(0), shared()};
  const Outer &outer = outers.at(value);
  BatchedValue result{outer.whole, !outer.access.isShared()};
  if (result.batched && !isStack(outer))
    result.value = GatherInstancesOp::create(builder, value.getLoc(), getStackedType(value), outer.whole, outer.access,
                                             /*sizes=*/nullptr);
  return batchedValues[value] = result;
}

/// The same, repeated where it is one for all.
Value Splitter::getStacked(Value value) {
  BatchedValue result = getBatched(value);
  if (result.batched)
    return result.value;
  Value one = UnsqueezeOp::create(builder, value.getLoc(), result.value, 0);
  return ExpandOp::create(builder, value.getLoc(), getStackedType(value), one);
}

//===----------------------------------------------------------------------------===//
// Pieces
//===----------------------------------------------------------------------------===//

void Splitter::measure() {
  unsigned deepest = 0;
  for (Operation &inner : op.getBodyBlock()->without_terminator()) {
    unsigned &depth = depths[&inner];
    for (Value operand : inner.getOperands())
      if (Operation *definition = operand.getDefiningOp())
        depth = std::max(depth, depths.lookup(definition) + (isForeign(definition) ? 1 : 0));
    deepest = std::max(deepest, depth);
  }
  // As late as can be: what a call does not wait for stays together with what follows the call.
  for (Operation &inner : llvm::reverse(op.getBodyBlock()->without_terminator())) {
    if (isForeign(&inner))
      continue;
    std::optional<unsigned> first;
    for (Operation *user : inner.getUsers())
      if (!isa<YieldOp>(user))
        first = std::min(first.value_or(depths.at(user)), depths.at(user));
    depths[&inner] = first.value_or(deepest);
  }
}

/// The ops of one depth, apart from foreign ones: those that compute are one piece.
void Splitter::splitDepth(ArrayRef<Operation *> ops) {
  DenseSet<Operation *> inside(ops.begin(), ops.end());
  llvm::EquivalenceClasses<Operation *> linked;
  for (Operation *inner : ops) {
    linked.insert(inner);
    for (Value operand : inner->getOperands())
      if (Operation *definition = operand.getDefiningOp(); inside.contains(definition))
        linked.unionSets(inner, definition);
  }
  DenseSet<Operation *> computing;
  for (Operation *inner : ops)
    if (!isMovement(inner))
      computing.insert(linked.getLeaderValue(inner));
  SmallVector<Operation *> views, piece;
  for (Operation *inner : ops)
    (computing.contains(linked.getLeaderValue(inner)) ? piece : views).push_back(inner);
  if (!tryViews(views)) {
    llvm::append_range(piece, views);
    llvm::sort(piece, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });
  }
  if (!piece.empty())
    buildPiece(piece);
}

/// Ops that move data, on stacked tensors: nearly all are views of torch's.
bool Splitter::tryViews(ArrayRef<Operation *> ops) {
  for (Operation *inner : ops) {
    SmallVector<BatchedValue> operands =
        llvm::map_to_vector(inner->getOperands(), [&](Value operand) { return getBatched(operand); });
    if (!differs(operands)) {
      outers[inner->getResult(0)] = {cloneOnce(builder, inner, operands)->getResult(0), shared()};
      continue;
    }
    FailureOr<SmallVector<Value>> results = cast<BatchingOpInterface>(inner).batch(builder, operands, count);
    if (failed(results))
      return false;
    outers[inner->getResult(0)] = {results->front(), own()};
  }
  return true;
}

/// What is read outside of the piece.
SmallVector<Value> Splitter::findOutputs(ArrayRef<Operation *> ops) const {
  DenseSet<Operation *> inside(ops.begin(), ops.end());
  SmallVector<Value> outputs;
  for (Operation *inner : ops)
    for (Value result : inner->getResults())
      if (llvm::any_of(result.getUsers(), [&](Operation *user) { return !inside.contains(user); }))
        outputs.push_back(result);
  return outputs;
}

/// The result of the group that `value` is and nothing else, which a piece can write in place.
std::optional<unsigned> Splitter::getDestination(Value value) const {
  if (!value.hasOneUse() || !isa<YieldOp>(*value.getUsers().begin()))
    return std::nullopt;
  return value.getUses().begin()->getOperandNumber();
}

/// A fresh tensor for what the instances compute. Its dynamic sizes are traced back to arguments of the body, or to
/// results of foreign operators, which are there by now.
Value Splitter::buildEmpty(Value result) {
  SmallVector<Value> sizes;
  for (int64_t dim = 0; dim < ranked(result).getRank(); ++dim)
    if (ranked(result).isDynamicDim(dim)) {
      std::optional<SizeSource> source = findSize(result, dim);
      if (!source)
        return {};
      sizes.push_back(buildSize(result.getLoc(), *source));
    }
  return EmptyOp::create(builder, result.getLoc(), getStackedType(result), sizes);
}

Value Splitter::buildSize(Location loc, const SizeSource &source) {
  const Outer &outer = outers.at(source.whole);
  bool isBehind = outer.access.isSelect() && static_cast<int64_t>(outer.access.getDim()) <= source.dim;
  auto constant = [&](int64_t value) { return arith::ConstantIndexOp::create(builder, loc, value); };
  Value size = tensor::DimOp::create(builder, loc, outer.whole, source.dim + (isBehind ? 1 : 0));
  if (source.multiplier != 1)
    size = arith::MulIOp::create(builder, loc, size, constant(source.multiplier));
  if (source.divisor != 1)
    size = arith::DivUIOp::create(builder, loc, size, constant(source.divisor));
  return size;
}

/// One smaller group. Results of it that are results of the whole group go where those go.
void Splitter::buildPiece(ArrayRef<Operation *> ops) {
  DenseSet<Operation *> inside(ops.begin(), ops.end());
  llvm::SetVector<Value> inputs;
  for (Operation *inner : ops)
    for (Value operand : inner->getOperands())
      if (Operation *definition = operand.getDefiningOp(); !inside.contains(definition))
        if (!isa_and_nonnull<ConstantOp>(definition))
          inputs.insert(operand);
  SmallVector<Value> wholes, inits;
  SmallVector<Attribute> inputAccesses, initAccesses;
  for (Value input : inputs) {
    wholes.push_back(outers.at(input).whole);
    inputAccesses.push_back(outers.at(input).access);
  }
  SmallVector<Value> outputs = findOutputs(ops);
  for (Value output : outputs) {
    std::optional<unsigned> destination = getDestination(output);
    inits.push_back(destination ? op.getInits()[*destination] : buildEmpty(output));
    initAccesses.push_back(destination ? op.getInitAccess(*destination) : own());
  }
  std::string name = (op.getName() + "_part" + llvm::Twine(pieces++)).str();
  auto piece = InstancesOp::create(builder, op.getLoc(), TypeRange(ValueRange(inits)), name, count, wholes, inits,
                                   builder.getArrayAttr(inputAccesses), builder.getArrayAttr(initAccesses));
  buildBody(piece, ops, inputs.getArrayRef(), outputs);
  for (auto [output, result] : llvm::zip_equal(outputs, piece.getResults())) {
    if (std::optional<unsigned> destination = getDestination(output)) {
      op.getResult(*destination).replaceAllUsesWith(result);
      written.insert(*destination);
    }
    outers[output] = {result, own()};
  }
}

void Splitter::buildBody(InstancesOp piece, ArrayRef<Operation *> ops, ArrayRef<Value> inputs,
                         ArrayRef<Value> outputs) {
  Block &block = piece.getBody().empty() ? piece.getBody().emplaceBlock() : piece.getBody().front();
  block.clear();
  IRMapping mapping;
  for (Value input : inputs)
    mapping.map(input, block.addArgument(input.getType(), input.getLoc()));
  OpBuilder inner = OpBuilder::atBlockEnd(&block);
  for (Operation *member : ops) {
    for (Value operand : member->getOperands())
      if (auto constant = operand.getDefiningOp<ConstantOp>(); constant && !mapping.contains(operand))
        inner.clone(*constant, mapping);
    inner.clone(*member, mapping);
  }
  YieldOp::create(inner, op.getLoc(),
                  llvm::map_to_vector(outputs, [&](Value output) { return mapping.lookup(output); }));
}

//===----------------------------------------------------------------------------===//
// Foreign operators
//===----------------------------------------------------------------------------===//

/// A call of torch's operator for all instances.
static OpaqueOp buildBatchedCall(OpBuilder &builder, Operation *call, TypeRange types,
                                 ArrayRef<BatchedValue> operands) {
  SmallVector<Value> values;
  SmallVector<bool> batched;
  for (const BatchedValue &operand : operands) {
    values.push_back(operand.value);
    batched.push_back(operand.batched);
  }
  DenseBoolArrayAttr isBatched = builder.getDenseBoolArrayAttr(batched);
  if (auto opaque = dyn_cast<OpaqueOp>(call))
    return OpaqueOp::create(builder, call->getLoc(), types, opaque.getName(), values, opaque.getArguments(),
                            opaque.getEffect(), opaque.getRandom(), isBatched);
  auto composed = cast<ComposedOp>(call);
  auto outer = OpaqueOp::create(builder, call->getLoc(), types, composed.getName(), values, composed.getArguments(),
                                /*effect=*/false, /*random=*/false, isBatched);
  outer->setAttr(resultIndexAttrName, composed.getIndexAttr());
  return outer;
}

/// One call for all instances; a plain one where no operand differs between them, and nothing is drawn. Null where an
/// op has no batched form.
Operation *Splitter::buildCall(Operation *call, ArrayRef<BatchedValue> operands, bool isOne) {
  if (isOne)
    return cloneOnce(builder, call, operands);
  if (isa<OpaqueOp, ComposedOp>(call)) {
    auto types = llvm::map_to_vector(call->getResults(), [&](Value result) -> Type { return getStackedType(result); });
    return buildBatchedCall(builder, call, types, operands);
  }
  FailureOr<SmallVector<Value>> results = cast<BatchingOpInterface>(call).batch(builder, operands, count);
  return failed(results) ? nullptr : results->front().getDefiningOp();
}

void Splitter::buildForeign(Operation *foreign) {
  auto operands = llvm::map_to_vector(foreign->getOperands(), [&](Value operand) { return getBatched(operand); });
  auto opaque = dyn_cast<OpaqueOp>(foreign);
  bool isOne = !differs(operands) && !(opaque && opaque.getRandom());
  Operation *outer = buildCall(foreign, operands, isOne);
  if (!outer)
    return buildPiece(foreign);
  outer->setAttr(groupAttrName, op.getNameAttr());
  if (Attribute reason = foreign->getAttr(notDifferentiableAttrName))
    outer->setAttr(notDifferentiableAttrName, reason);
  for (auto [inner, result] : llvm::zip_equal(foreign->getResults(), outer->getResults()))
    outers[inner] = {result, isOne ? shared() : own()};
}

//===----------------------------------------------------------------------------===//
// The group
//===----------------------------------------------------------------------------===//

void Splitter::replaceResults() {
  for (auto [i, value] : llvm::enumerate(op.getYielded())) {
    if (written.contains(i))
      continue;
    Value stacked = getStacked(value), whole = stacked;
    AccessAttr access = op.getInitAccess(i);
    // The stack itself, where that is all of the destination.
    if (op.getInits()[i].getType() != stacked.getType() || access != own())
      whole = ScatterInstancesOp::create(builder, op.getLoc(), stacked, op.getInits()[i], access);
    op.getResult(i).replaceAllUsesWith(whole);
  }
  op.erase();
}

void Splitter::run() {
  measure();
  for (auto [argument, input, access] :
       llvm::zip_equal(op.getBodyBlock()->getArguments(), op.getInputs(), op.getInputAccesses()))
    outers[argument] = {input, cast<AccessAttr>(access)};
  SmallVector<SmallVector<Operation *>> ops;
  SmallVector<SmallVector<Operation *>> calls;
  for (Operation &inner : op.getBodyBlock()->without_terminator()) {
    if (isa<ConstantOp>(inner))
      continue;
    unsigned depth = depths.at(&inner);
    ops.resize(std::max<size_t>(ops.size(), depth + 1));
    calls.resize(ops.size());
    (isForeign(&inner) ? calls : ops)[depth].push_back(&inner);
  }
  for (size_t depth = 0; depth < ops.size(); ++depth) {
    splitDepth(ops[depth]);
    llvm::for_each(calls[depth], [&](Operation *call) { buildForeign(call); });
  }
  replaceResults();
}

namespace {

struct SplitInstances : mlir::pfcn::impl::SplitInstancesPassBase<SplitInstances> {
  void runOnOperation() override {
    SmallVector<InstancesOp> groups;
    getOperation().walk([&](InstancesOp op) {
      if (llvm::any_of(*op.getBodyBlock(), [](Operation &inner) { return isForeign(&inner); }))
        groups.push_back(op);
    });
    for (InstancesOp op : groups)
      Splitter(op).run();
  }
};

} // namespace
