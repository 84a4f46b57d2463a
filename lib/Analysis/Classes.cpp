//===- Classes.cpp - which ops of a model are copies of each other ----------------===//
//
// Round by round: an op is looked at when the roles of all its operands are known, so the
// ops of one class always meet in one round. Parts of shared values (slices) are settled
// before the round's ops, and cost no round of their own.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Analysis/Classes.h"

#include "pfcn/Dialect/Pfcn.h"

#include "llvm/ADT/Hashing.h"

#include <unordered_map>

using namespace mlir;
using namespace mlir::pfcn;

std::optional<Part> mlir::pfcn::getPart(Operation *op) {
  if (auto slice = dyn_cast<SliceOp>(op)) {
    int64_t dim = slice.getDim();
    int64_t size = cast<RankedTensorType>(slice.getType()).getDimSize(dim);
    if (slice.getStep() == 1 && !ShapedType::isDynamic(size))
      return Part{slice.getInput(), dim, size, static_cast<int64_t>(slice.getStart())};
  }
  if (auto select = dyn_cast<SelectOp>(op))
    return Part{select.getInput(), static_cast<int64_t>(select.getDim()), -1, static_cast<int64_t>(select.getIndex())};
  return std::nullopt;
}

std::optional<unsigned> Classes::getDefinition(Value value) const {
  auto it = indices.find(value.getDefiningOp());
  if (it == indices.end())
    return std::nullopt;
  return it->second;
}

namespace {

using Key = std::vector<uintptr_t>;
struct KeyHash {
  size_t operator()(const Key &key) const { return llvm::hash_combine_range(key.begin(), key.end()); }
};
using Buckets = std::unordered_map<Key, SmallVector<unsigned>, KeyHash>;

/// How many different parts are taken of one value.
struct PartCounts {
  DenseMap<std::tuple<Value, int64_t, int64_t>, unsigned> ofKind; // value, dim, size
  DenseMap<Value, unsigned> most;                                 // over the kinds of parts
};

/// Of the parameters of one type: how many are taken apart, and in how many parts at most.
struct ParameterParts {
  unsigned parameters = 0, selects = 0, slices = 0;
};

template <typename T> uintptr_t opaque(T value) { return reinterpret_cast<uintptr_t>(value.getAsOpaquePointer()); }

} // namespace

namespace mlir::pfcn {

class Classifier {
public:
  Classifier(Block &block, Classes &classes) : block(block), classes(classes) {}
  void run();

private:
  void number();
  void countParts();
  bool isSharedParameter(Value parameter) const;
  bool settleLeaf(Node &node);
  bool settlePart(Node &node);
  std::optional<bool> isSharedWhole(Value value) const;
  void release(const Node &node, SmallVectorImpl<unsigned> &ready);
  void classify(ArrayRef<unsigned> round);
  void makeClass(ArrayRef<unsigned> members);
  Key getKey(unsigned index, bool blind) const;
  void appendOperand(Key &key, Value operand, unsigned definition, bool blind) const;

  Block &block;
  Classes &classes;
  std::vector<unsigned> pending;
  PartCounts counts;
  DenseMap<Type, ParameterParts> parameterParts;
};

} // namespace mlir::pfcn

Classes::Classes(Block &block) { Classifier(block, *this).run(); }

void Classifier::run() {
  number();
  countParts();
  SmallVector<unsigned> ready;
  for (auto [index, count] : llvm::enumerate(pending))
    if (count == 0)
      ready.push_back(index);
  while (!ready.empty()) {
    SmallVector<unsigned> round;
    for (size_t i = 0; i < ready.size(); ++i) { // `ready` grows
      Node &node = classes.nodes[ready[i]];
      if (settleLeaf(node) || settlePart(node))
        release(node, ready);
      else
        round.push_back(ready[i]);
    }
    classify(round);
    ready.clear();
    for (unsigned index : round)
      release(classes.nodes[index], ready);
  }
}

void Classifier::number() {
  size_t numOps = block.getOperations().size();
  classes.indices.reserve(numOps);
  classes.nodes.reserve(numOps);
  for (Operation &op : block) {
    classes.indices[&op] = classes.nodes.size();
    classes.nodes.push_back({&op});
  }
  for (const Node &node : classes.nodes) {
    classes.firstOperand.push_back(classes.operands.size());
    for (Value operand : node.op->getOperands())
      classes.operands.push_back(classes.getDefinition(operand).value_or(Classes::kNone));
    auto mine = ArrayRef(classes.operands).drop_front(classes.firstOperand.back());
    pending.push_back(mine.size() - llvm::count(mine, Classes::kNone));
  }
  classes.firstOperand.push_back(classes.operands.size());
}

void Classifier::countParts() {
  for (const Node &node : classes.nodes) {
    std::optional<Part> part = getPart(node.op);
    if (!part)
      continue;
    unsigned count = ++counts.ofKind[{part->whole, part->dim, part->size}];
    unsigned &most = counts.most[part->whole];
    bool isFirst = most == 0;
    most = std::max(most, count);
    if (!part->whole.getDefiningOp<ParameterOp>())
      continue;
    ParameterParts &parts = parameterParts[part->whole.getType()];
    if (isFirst)
      ++parts.parameters;
    unsigned &ofOne = part->size < 0 ? parts.selects : parts.slices;
    ofOne = std::max(ofOne, count);
  }
}

/// A stacked parameter of which every instance takes its part, rather than a parameter of
/// each instance that is taken apart in its body, as the gates of an LSTM are.
bool Classifier::isSharedParameter(Value parameter) const {
  ParameterParts parts = parameterParts.lookup(parameter.getType());
  return parts.parameters == 1 || parts.selects > parts.parameters ||
         parts.slices > std::max(parts.parameters, kMaxFan);
}

bool Classifier::settleLeaf(Node &node) {
  if (isa<ParameterOp>(node.op))
    node.role = Role::Parameter;
  else if (isa<ConstantOp>(node.op))
    node.role = Role::Constant;
  else
    return false;
  return true;
}

/// Whether parts of `value` are accesses; nothing where it is a part itself.
std::optional<bool> Classifier::isSharedWhole(Value value) const {
  std::optional<unsigned> definition = classes.getDefinition(value);
  if (!definition)
    return true;
  switch (classes[*definition].role) {
  case Role::Parameter:
    return isSharedParameter(value);
  case Role::Part:
    return std::nullopt;
  case Role::Replicated:
    return false;
  case Role::Constant:
  case Role::Shared:
    return true;
  }
  llvm_unreachable("unknown role");
}

bool Classifier::settlePart(Node &node) {
  std::optional<Part> part = getPart(node.op);
  if (!part)
    return false;
  std::optional<bool> shared = isSharedWhole(part->whole);
  if (!shared) { // a part of a part: one access where both are of one dimension
    const Part &outer = classes[*classes.getDefinition(part->whole)].part;
    if (outer.size < 0 || outer.dim != part->dim)
      return false;
    node.part = {outer.whole, part->dim, part->size, outer.start + part->start};
    node.role = Role::Part;
    return true;
  }
  if (!*shared)
    return false;
  // The only part of its kind does not vary between instances.
  if (counts.ofKind.lookup({part->whole, part->dim, part->size}) > 1) {
    node.part = *part;
    node.role = Role::Part;
  }
  return true;
}

void Classifier::release(const Node &node, SmallVectorImpl<unsigned> &ready) {
  for (Value result : node.op->getResults())
    for (OpOperand &use : result.getUses()) {
      auto it = classes.indices.find(use.getOwner());
      if (it != classes.indices.end() && --pending[it->second] == 0)
        ready.push_back(it->second);
    }
}

/// Ops that an instance may contain (rule F3): those with a batching rule or composed of such, and foreign ones that
/// keep no order.
static bool isReplicable(Operation *op) {
  if (!isa<BatchingOpInterface, ComposedOp, OpaqueOp>(op) || op->getNumResults() == 0)
    return false;
  if (isa<CatOp, StackOp>(op) && op->getNumOperands() > kMaxFan)
    return false;
  return !keepsOrder(op);
}

void Classifier::classify(ArrayRef<unsigned> round) {
  // First by the identity of the shared values; what is alone so, blind to it.
  SmallVector<unsigned> open;
  for (unsigned index : round)
    if (isReplicable(classes.nodes[index].op))
      open.push_back(index);
  for (bool blind : {false, true}) {
    Buckets buckets;
    SmallVector<const SmallVector<unsigned> *> inOrder;
    for (unsigned index : open) {
      auto [it, isNew] = buckets.try_emplace(getKey(index, blind));
      it->second.push_back(index);
      if (isNew)
        inOrder.push_back(&it->second);
    }
    open.clear();
    for (const SmallVector<unsigned> *members : inOrder) {
      if (members->size() > 1)
        makeClass(*members);
      else
        open.push_back(members->front());
    }
    llvm::sort(open);
  }
}

void Classifier::makeClass(ArrayRef<unsigned> members) {
  // Values of which more parts are taken than there are of them are wholes that the
  // instances share, not values inside an instance.
  unsigned limit = std::max<unsigned>(members.size(), kMaxFan);
  for (unsigned index : members)
    for (Value result : classes.nodes[index].op->getResults())
      if (counts.most.lookup(result) > limit)
        return;
  for (unsigned index : members) {
    classes.nodes[index].role = Role::Replicated;
    classes.nodes[index].classId = classes.sizes.size();
  }
  classes.sizes.push_back(members.size());
}

Key Classifier::getKey(unsigned index, bool blind) const {
  Operation *op = classes.nodes[index].op;
  ArrayRef<unsigned> definitions = classes.getOperands(index);
  Key key{opaque(op->getName()), opaque(op->getDiscardableAttrDictionary())};
  if (op->getPropertiesStorageSize())
    key.push_back(opaque(op->getPropertiesAsAttribute()));
  for (Type type : op->getResultTypes())
    key.push_back(opaque(type));
  for (auto [i, operand] : llvm::enumerate(op->getOperands())) {
    // Which operands are one value is part of the signature: x * x is not x * y.
    auto first = llvm::find(op->getOperands(), operand);
    key.push_back(first - op->operand_begin());
    if (static_cast<size_t>(first - op->operand_begin()) == i)
      appendOperand(key, operand, definitions[i], blind);
  }
  return key;
}

void Classifier::appendOperand(Key &key, Value operand, unsigned definition, bool blind) const {
  const Node *node = definition == Classes::kNone ? nullptr : &classes[definition];
  Role role = node ? node->role : Role::Shared;
  if (blind && role != Role::Parameter && role != Role::Replicated)
    role = Role::Shared;
  key.push_back(static_cast<uintptr_t>(role));
  if (role == Role::Replicated) {
    key.insert(key.end(), {node->classId, cast<OpResult>(operand).getResultNumber()});
  } else if (role == Role::Parameter || blind) {
    key.push_back(opaque(operand.getType()));
  } else if (role == Role::Part) {
    const Part &part = node->part;
    key.insert(key.end(), {opaque(part.whole), static_cast<uintptr_t>(part.dim), static_cast<uintptr_t>(part.size)});
  } else {
    key.push_back(opaque(operand));
  }
}
