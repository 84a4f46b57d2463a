//===- NearMisses.cpp - what looks like an instance and is none -------------------===//
//
// Looks only where a user would expect a group: at what is joined with instances, at
// operators called many times, at equal contractions. Equal reasons are told once.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Analysis/NearMisses.h"

#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include <map>

using namespace mlir;
using namespace mlir::pfcn;

namespace {

template <typename T> std::string print(T what) {
  std::string text;
  llvm::raw_string_ostream(text) << what;
  return text;
}

class Comparison {
public:
  std::optional<Difference> compare(Value a, Value b);

private:
  std::optional<Difference> compareOps(Operation *a, Operation *b);
  std::optional<Difference> compareOperands(Operation *a, Operation *b);
  DenseSet<std::pair<Value, Value>> seen;
  int budget = 1024; // pairs of ops: more is no body of an instance
};

class Explainer {
public:
  Explainer(Block &block, const Classes &classes, const Groups &groups);
  SmallVector<Miss> run();

private:
  void explainJoin(Operation *join);
  void explainOperators();
  void explainChains();
  void explainUses();
  std::string explainEqual(Operation *model, Operation *other);
  void report(Miss miss);

  Block &block;
  const Classes &classes;
  DenseMap<Operation *, unsigned> groupOf;
  DenseMap<unsigned, Operation *> groupedOfClass;
  SmallVector<std::pair<Miss, unsigned>, 2> misses; // each with how often it was found
  std::map<std::pair<Operation *, std::string>, size_t> missOf;
  DenseSet<Operation *> explained;
};

} // namespace

//===----------------------------------------------------------------------------===//
// The first difference
//===----------------------------------------------------------------------------===//

std::optional<Difference> mlir::pfcn::findDifference(Value a, Value b) { return Comparison().compare(a, b); }

std::optional<Difference> Comparison::compare(Value a, Value b) {
  if (a == b || !seen.insert({a, b}).second || --budget < 0)
    return std::nullopt;
  Operation *defA = a.getDefiningOp(), *defB = b.getDefiningOp();
  if (defA && defB)
    return compareOps(defA, defB);
  Operation *known = defB ? defB : defA; // the other is an argument of the function
  if (known && !getPart(known) && !isa<ParameterOp, ConstantOp>(known))
    return Difference{defA ? defA : known, known,
                      (known->getName().getStringRef() + " where the other has an input of the model").str()};
  return std::nullopt;
}

/// Whether two ops have operands that invite comparing, though the ops differ.
static bool haveLikeOperands(Operation *a, Operation *b) {
  if (a->getNumOperands() == 0 || b->getNumOperands() == 0)
    return false;
  Operation *defA = a->getOperand(0).getDefiningOp(), *defB = b->getOperand(0).getDefiningOp();
  return defA && defB && defA->getName() == defB->getName();
}

static std::string describeAttributes(Operation *a, Operation *b) {
  DictionaryAttr ofA = a->getAttrDictionary(), ofB = b->getAttrDictionary();
  for (NamedAttribute attr : ofB)
    if (Attribute other = ofA.get(attr.getName()); other != attr.getValue())
      return llvm::formatv("{0} with {1} = {2} where the other has {3}", b->getName().getStringRef(),
                           attr.getName().getValue(), print(attr.getValue()), other ? print(other) : "none");
  for (NamedAttribute attr : ofA)
    if (!ofB.get(attr.getName()))
      return llvm::formatv("{0} without {1}, which the other has", b->getName().getStringRef(),
                           attr.getName().getValue());
  return "";
}

std::optional<Difference> Comparison::compareOps(Operation *a, Operation *b) {
  auto differ = [&](std::string text) { return Difference{a, b, std::move(text)}; };
  StringRef nameA = a->getName().getStringRef(), nameB = b->getName().getStringRef();
  if (a->getName() != b->getName()) {
    if (haveLikeOperands(a, b))
      if (std::optional<Difference> earlier = compare(a->getOperand(0), b->getOperand(0)))
        return earlier;
    return differ(llvm::formatv("{0} where the other has {1}", nameB, nameA));
  }
  if (auto parameter = dyn_cast<ParameterOp>(a)) {
    auto other = cast<ParameterOp>(b);
    if (parameter.getType() != other.getType())
      return differ(llvm::formatv("parameter {0} is {1} where {2} is {3}", other.getPath(), print(other.getType()),
                                  parameter.getPath(), print(parameter.getType())));
    return std::nullopt;
  }
  if (std::optional<Difference> earlier = compareOperands(a, b))
    return earlier;
  if (a->getResultTypes() != b->getResultTypes())
    return differ(llvm::formatv("{0} gives {1} where the other gives {2}", nameB, print(b->getResult(0).getType()),
                                print(a->getResult(0).getType())));
  if (getPart(a) && getPart(b))
    return std::nullopt; // where a part starts is no difference
  if (std::string text = describeAttributes(a, b); !text.empty())
    return differ(std::move(text));
  return std::nullopt;
}

std::optional<Difference> Comparison::compareOperands(Operation *a, Operation *b) {
  if (a->getNumOperands() != b->getNumOperands())
    return Difference{a, b,
                      llvm::formatv("{0} of {1} operands where the other has {2}", b->getName().getStringRef(),
                                    b->getNumOperands(), a->getNumOperands())};
  for (auto [x, y] : llvm::zip_equal(a->getOperands(), b->getOperands()))
    if (std::optional<Difference> difference = compare(x, y))
      return difference;
  return std::nullopt;
}

//===----------------------------------------------------------------------------===//
// Where to look
//===----------------------------------------------------------------------------===//

SmallVector<Miss> mlir::pfcn::findNearMisses(Block &block, const Classes &classes, const Groups &groups) {
  return Explainer(block, classes, groups).run();
}

Explainer::Explainer(Block &block, const Classes &classes, const Groups &groups) : block(block), classes(classes) {
  size_t members = 0;
  for (const Group &group : groups.groups)
    members += group.instances.size() * group.getBody().size();
  groupOf.reserve(members);
  for (auto [index, group] : llvm::enumerate(groups.groups))
    for (ArrayRef<Operation *> instance : group.instances)
      for (Operation *op : instance)
        groupOf[op] = index;
  for (const Group &group : groups.groups)
    for (Operation *op : group.getBody())
      groupedOfClass.try_emplace(classes[classes.getIndex(op)].classId, op);
}

SmallVector<Miss> Explainer::run() {
  for (Operation &op : block)
    if (isa<CatOp, StackOp>(op) && !groupOf.contains(&op))
      explainJoin(&op);
  explainOperators();
  explainChains();
  explainUses();
  SmallVector<Miss> list;
  for (auto &[miss, count] : misses) {
    if (count > 1)
      miss.reason += llvm::formatv(" ({0} times)", count);
    list.push_back(std::move(miss));
  }
  return list;
}

void Explainer::report(Miss miss) {
  auto [it, isNew] = missOf.try_emplace({miss.other, miss.reason}, misses.size());
  if (isNew)
    misses.push_back({std::move(miss), 0});
  ++misses[it->second].second;
}

/// Whether `op` needs the result of `other`, within a bounded number of ops.
static bool dependsOn(Operation *op, llvm::function_ref<bool(Operation *)> isOther, int budget, Operation **found) {
  SmallVector<Operation *> open{op};
  DenseSet<Operation *> seen;
  for (size_t i = 0; i < open.size() && budget-- > 0; ++i)
    for (Value operand : open[i]->getOperands()) {
      Operation *definition = operand.getDefiningOp();
      if (!definition || !seen.insert(definition).second)
        continue;
      if (isOther(definition)) {
        *found = definition;
        return true;
      }
      open.push_back(definition);
    }
  return false;
}

std::string Explainer::explainEqual(Operation *model, Operation *other) {
  Operation *found;
  auto depends = [&](Operation *a, Operation *b) {
    return dependsOn(a, [&](Operation *op) { return op == b; }, 4096, &found);
  };
  if (depends(other, model) || depends(model, other))
    return "equal in form, but one depends on the result of the other";
  return "equal in form, but fed or used differently";
}

/// The operands of a join that are in no group, against one that is, or the first.
void Explainer::explainJoin(Operation *join) {
  auto isComputed = [](Value value) {
    Operation *op = value.getDefiningOp();
    return op && isa<BatchingOpInterface, ComposedOp, OpaqueOp>(op) && !getPart(op);
  };
  Value model;
  for (Value operand : join->getOperands())
    if (isComputed(operand) &&
        (!model || (!groupOf.contains(model.getDefiningOp()) && groupOf.contains(operand.getDefiningOp()))))
      model = operand;
  if (!model)
    return;
  bool isGrouped = groupOf.contains(model.getDefiningOp());
  int budget = 64; // what the first ones say is enough
  for (Value operand : join->getOperands()) {
    Operation *op = operand.getDefiningOp();
    if (operand == model || !isComputed(operand) || groupOf.contains(op))
      continue;
    if (--budget < 0)
      break;
    if (!isGrouped && op->getName() != model.getDefiningOp()->getName() && !haveLikeOperands(op, model.getDefiningOp()))
      continue;
    explained.insert(op);
    if (std::optional<Difference> difference = findDifference(model, operand)) {
      explained.insert(difference->b);
      report({difference->b, difference->a, difference->text, "make the two alike to fuse them"});
    } else {
      report({op, model.getDefiningOp(), explainEqual(model.getDefiningOp(), op), ""});
    }
  }
}

/// Foreign operators that are called several times, and are in no group.
void Explainer::explainOperators() {
  llvm::MapVector<Attribute, SmallVector<OpaqueOp>> calls;
  for (auto op : block.getOps<OpaqueOp>())
    if (!groupOf.contains(op) && !explained.contains(op))
      calls[op.getNameAttr()].push_back(op);
  for (auto &[key, ops] : calls) {
    if (ops.size() < 2)
      continue;
    bool hasEffect = llvm::any_of(ops, [](OpaqueOp op) { return op.getEffect(); });
    std::string name = ops.front().getName().str();
    if (hasEffect)
      report({ops[0], ops[1],
              llvm::formatv("operator {0} has an effect, so its {1} calls keep their order", name, ops.size()), ""});
    else if (std::optional<Difference> difference = findDifference(ops[0]->getResult(0), ops[1]->getResult(0)))
      report({ops[0], ops[1],
              llvm::formatv("{0} calls of operator {1} run alone: {2}", ops.size(), name, difference->text), ""});
    else
      report({ops[0], ops[1],
              llvm::formatv("{0} calls of operator {1} run alone: {2}", ops.size(), name, explainEqual(ops[0], ops[1])),
              ""});
  }
}

/// Equal contractions that are in no group because one needs the result of another.
void Explainer::explainChains() {
  auto getShape = [](Operation *op) {
    SmallVector<const void *> shape{op->getName().getAsOpaquePointer(), op->getAttrDictionary().getAsOpaquePointer()};
    for (Type type : op->getOperandTypes())
      shape.push_back(type.getAsOpaquePointer());
    return hash_value(ArrayRef<const void *>(shape));
  };
  DenseMap<Operation *, llvm::hash_code> shapes;
  DenseSet<size_t> reported;
  for (Operation &op : block) {
    if (!isContraction(&op) || groupOf.contains(&op))
      continue;
    llvm::hash_code shape = getShape(&op);
    shapes.try_emplace(&op, shape);
    Operation *earlier;
    auto isAlike = [&](Operation *other) {
      auto it = shapes.find(other);
      return it != shapes.end() && it->second == shape;
    };
    if (reported.contains(shape) || !dependsOn(&op, isAlike, 64, &earlier))
      continue;
    reported.insert(shape);
    explained.insert({&op});
    report({&op, earlier, "equal in form, but it depends on the result of the other", ""});
  }
}

/// Ops that equal ops of a group and yet are in none: their results go elsewhere.
void Explainer::explainUses() {
  auto isAlmost = [&](Operation *op) {
    const Node &node = classes[classes.getIndex(op)];
    return node.role == Role::Replicated && !groupOf.contains(op) && groupedOfClass.contains(node.classId);
  };
  for (Operation &op : block) {
    if (!isAlmost(&op) || explained.contains(&op) || isMovement(&op) || llvm::any_of(op.getUsers(), isAlmost))
      continue;
    Operation *found;
    auto isExplained = [&](Operation *other) { return explained.contains(other); };
    if (op.use_empty() || llvm::any_of(op.getUsers(), isExplained) || dependsOn(&op, isExplained, 16, &found))
      continue;
    Operation *model = groupedOfClass.lookup(classes[classes.getIndex(&op)].classId);
    StringRef user = (*op.getUsers().begin())->getName().getStringRef();
    StringRef modelUser = model->use_empty() ? "nothing" : (*model->getUsers().begin())->getName().getStringRef();
    std::string reason = user == modelUser
                             ? "equal to this op of a group, but the ops around it differ"
                             : llvm::formatv("its result goes to {0}, that of the group to {1}", user, modelUser).str();
    report({&op, model, std::move(reason), ""});
  }
}
