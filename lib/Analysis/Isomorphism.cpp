//===- Isomorphism.cpp - groups of independent, isomorphic subgraphs --------------===//
//
// Replicated ops that feed each other are joined to instances, within a stage: the number of
// barriers that lie before an op. A path that leaves an instance crosses a barrier, so it
// never reaches an instance of the same stage: independence needs no search. Instances with
// one canonical form are a group. A fan of equal values that leaves an instance without an
// equal is cut, and the rest tried again.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Analysis/Isomorphism.h"

#include "pfcn/Analysis/NearMisses.h"
#include "pfcn/Analysis/Work.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/Hashing.h"
#include "llvm/ADT/IntEqClasses.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include <map>
#include <unordered_map>

using namespace mlir;
using namespace mlir::pfcn;

bool mlir::pfcn::isContraction(Operation *op) {
  if (auto composed = dyn_cast<ComposedOp>(op))
    return llvm::any_of(*composed.getBodyBlock(), [](Operation &inner) { return isContraction(&inner); });
  return isProduct(op);
}

/// How many ops compute something.
static int64_t countWork(Operation *op) {
  if (auto composed = dyn_cast<ComposedOp>(op)) {
    int64_t count = 0;
    for (Operation &inner : composed.getBodyBlock()->without_terminator())
      count += countWork(&inner);
    return count;
  }
  return isMovement(op) ? 0 : 1;
}

bool mlir::pfcn::isMovement(Operation *op) { return isView(op) || isa<CatOp, StackOp>(op); }

namespace {

/// A replicated op's replicated operand.
struct Edge {
  unsigned producer, consumer;
  /// The consumer reads so many values of the producer's class; the producer has so many
  /// consumers of the consumer's class.
  unsigned fanIn, fanOut;
  bool isCut;
};

/// An instance: its ops in canonical order.
using Instance = SmallVector<unsigned, 4>;

using Key = std::vector<unsigned>;
struct KeyHash {
  size_t operator()(const Key &key) const { return llvm::hash_combine_range(key.begin(), key.end()); }
};

struct Bucket {
  unsigned stage, first; ///< `first`: where its first instance begins
  SmallVector<Instance> instances;
};

class Finder {
public:
  explicit Finder(Block &block) : block(block), classes(block), nodes(classes.getNodes()) {}
  Groups run();

private:
  // Instances.
  void collectEdges();
  void cutFans();
  void numberStages();
  std::vector<Bucket> formInstances();
  void canonicalize(Instance &instance);
  Key getCanonicalForm(const Instance &instance) const;
  SmallVector<int64_t> getLinks(unsigned index) const;
  bool cutAgain(ArrayRef<Bucket> buckets, bool fanOutToo);

  // Groups.
  void addGroup(ArrayRef<Instance> instances, unsigned stage);
  Group makeGroup(ArrayRef<Instance> instances, unsigned stage);
  void addColumns(Group &group);
  unsigned addColumn(Group &group, SmallVector<Value> values, DenseMap<Value, SmallVector<unsigned>> &byFirst);
  bool addSplit(const Group &group, ArrayRef<Instance> instances);
  void classify(Column &column);
  std::optional<Column> asParts(ArrayRef<Value> values);
  std::optional<Column> asResults(ArrayRef<Value> values);
  bool isUsedOutside(const Group &group, unsigned slot) const;
  bool isSizeKnown(const Group &group, Value result, int64_t dim) const;
  std::string whyNot(const Group &group) const;
  void sortInstances(Group &group);
  bool sortByJoin(Group &group);
  bool sortByColumn(Group &group, Column::Kind kind);
  void reorder(Group &group, ArrayRef<int64_t> keys);
  const DenseMap<Value, int64_t> &getPositions(Operation *join);
  void accept(Group group);

  // Results.
  void findJoins();
  std::optional<Join> asJoin(Operation *op);
  std::optional<JoinPart> makePart(unsigned group, SmallVector<unsigned> slots, bool isStack,
                                   const DenseMap<Value, int64_t> &starts, int64_t dim, int64_t joined);
  void findStackedResults();
  bool isAcyclic() const;
  void nameGroups();

  Block &block;
  Classes classes;
  ArrayRef<Node> nodes;
  std::vector<Edge> edges;                 // sorted by consumer
  std::vector<unsigned> stages;            // of each node
  std::vector<unsigned> components, ranks; // of each node: its instance, and where it stands there
  Groups result;
  Places places;
  DenseMap<Operation *, DenseMap<Value, int64_t>> positions;
  DenseSet<Operation *> inPlace;
};

} // namespace

//===----------------------------------------------------------------------------===//
// Instances
//===----------------------------------------------------------------------------===//

void Finder::collectEdges() {
  DenseMap<std::pair<unsigned, unsigned>, unsigned> fanOut; // producer, class of the consumer
  for (auto [index, node] : llvm::enumerate(nodes)) {
    if (node.role != Role::Replicated)
      continue;
    size_t first = edges.size();
    for (unsigned producer : classes.getOperands(index)) {
      if (producer == Classes::kNone || nodes[producer].role != Role::Replicated)
        continue;
      auto mine = llvm::drop_begin(edges, first);
      if (llvm::any_of(mine, [&](const Edge &edge) { return edge.producer == producer; }))
        continue;
      edges.push_back({producer, static_cast<unsigned>(index), 0, 0, false});
      ++fanOut[{producer, node.classId}];
    }
    for (Edge &edge : llvm::drop_begin(edges, first))
      edge.fanIn = llvm::count_if(llvm::drop_begin(edges, first), [&](const Edge &other) {
        return nodes[other.producer].classId == nodes[edge.producer].classId;
      });
  }
  for (Edge &edge : edges)
    edge.fanOut = fanOut[{edge.producer, nodes[edge.consumer].classId}];
}

/// Rule F7: a fan joins its ops to one instance where that leaves as many instances as the fan is
/// wide; a value that is one of many on both sides belongs to no one instance.
void Finder::cutFans() {
  for (size_t first = 0, end; first < edges.size(); first = end) {
    for (end = first; end < edges.size() && edges[end].consumer == edges[first].consumer;)
      ++end;
    MutableArrayRef<Edge> operands(&edges[first], end - first);
    for (Edge &edge : operands) {
      unsigned widest = 1; // of the fan-outs that meet in this fan-in
      for (const Edge &other : operands)
        if (nodes[other.producer].classId == nodes[edge.producer].classId)
          widest = std::max(widest, other.fanOut);
      unsigned producers = classes.getClassSize(nodes[edge.producer].classId);
      unsigned consumers = classes.getClassSize(nodes[edge.consumer].classId);
      edge.isCut = edge.fanIn > 1 ? widest > 1 || edge.fanIn > std::min(kMaxFan, consumers)
                                  : edge.fanOut > std::min(kMaxFan, producers);
    }
  }
}

void Finder::numberStages() {
  stages.assign(nodes.size(), 0);
  size_t nextEdge = 0;
  unsigned lastEffect = 0;
  for (auto [index, node] : llvm::enumerate(nodes)) {
    unsigned &stage = stages[index];
    for (unsigned definition : classes.getOperands(index))
      if (definition != Classes::kNone) {
        bool isBarrier = node.role == Role::Shared && nodes[definition].role == Role::Replicated;
        stage = std::max(stage, stages[definition] + (isBarrier ? 1 : 0));
      }
    for (; nextEdge < edges.size() && edges[nextEdge].consumer == index; ++nextEdge)
      stage = std::max(stage, stages[edges[nextEdge].producer] + (edges[nextEdge].isCut ? 1 : 0));
    if (keepsOrder(node.op)) { // these keep their order, as if each read the last
      stage = std::max(stage, lastEffect);
      lastEffect = stage;
    }
  }
}

/// Where the operands of an op of an instance come from in it, and then which parts it reads.
SmallVector<int64_t> Finder::getLinks(unsigned index) const {
  SmallVector<int64_t> links, starts;
  for (auto [operand, definition] : llvm::zip_equal(nodes[index].op->getOperands(), classes.getOperands(index))) {
    bool isKnown = definition != Classes::kNone;
    bool isInternal =
        isKnown && nodes[definition].role == Role::Replicated && components[definition] == components[index];
    links.push_back(isInternal ? ranks[definition] : -1); // which of its results is in the classes
    if (isKnown && nodes[definition].role == Role::Part)
      starts.push_back(nodes[definition].part.start);
  }
  links.append(starts);
  return links;
}

/// The order of an instance's ops that is the same for all instances of one shape, however
/// they are interleaved: by class, then by links. Operands come before their users.
void Finder::canonicalize(Instance &instance) {
  llvm::sort(instance,
             [&](unsigned a, unsigned b) { return std::pair(nodes[a].classId, a) < std::pair(nodes[b].classId, b); });
  for (size_t first = 0, end; first < instance.size(); first = end) {
    unsigned classId = nodes[instance[first]].classId;
    for (end = first + 1; end < instance.size() && nodes[instance[end]].classId == classId;)
      ++end;
    MutableArrayRef<unsigned> equals(&instance[first], end - first);
    if (equals.size() > 1) {
      SmallVector<std::pair<SmallVector<int64_t>, unsigned>> keyed;
      for (unsigned index : equals)
        keyed.push_back({getLinks(index), index});
      llvm::sort(keyed);
      for (auto [index, entry] : llvm::zip_equal(equals, keyed))
        index = entry.second;
    }
    for (auto [i, index] : llvm::enumerate(equals))
      ranks[index] = first + i;
  }
}

/// Equal forms are isomorphic instances: equal ops, and equal links between them.
Key Finder::getCanonicalForm(const Instance &instance) const {
  Key key{stages[instance.front()]};
  for (unsigned index : instance) {
    key.push_back(nodes[index].classId);
    SmallVector<int64_t> links = getLinks(index);
    for (int64_t link : ArrayRef(links).take_front(nodes[index].op->getNumOperands()))
      key.push_back(link + 1);
  }
  return key;
}

std::vector<Bucket> Finder::formInstances() {
  numberStages();
  llvm::IntEqClasses joined(nodes.size());
  for (const Edge &edge : edges)
    if (!edge.isCut && stages[edge.producer] == stages[edge.consumer])
      joined.join(edge.producer, edge.consumer);
  joined.compress();
  components.assign(nodes.size(), 0);
  ranks.assign(nodes.size(), 0);
  std::vector<Instance> instances(joined.getNumClasses());
  for (auto [index, node] : llvm::enumerate(nodes)) {
    components[index] = joined[index];
    if (node.role == Role::Replicated)
      instances[joined[index]].push_back(index);
  }
  std::unordered_map<Key, unsigned, KeyHash> forms;
  std::vector<Bucket> buckets;
  for (Instance &instance : instances) {
    if (instance.empty())
      continue;
    canonicalize(instance);
    auto [it, isNew] = forms.try_emplace(getCanonicalForm(instance), buckets.size());
    if (isNew)
      buckets.push_back({stages[instance.front()], *llvm::min_element(instance), {}});
    buckets[it->second].instances.push_back(std::move(instance));
  }
  llvm::sort(buckets, [](const Bucket &a, const Bucket &b) {
    return std::pair(a.stage, a.first) < std::pair(b.stage, b.first);
  });
  return buckets;
}

/// Cuts the fans inside instances that found no equal. Returns whether there were any.
bool Finder::cutAgain(ArrayRef<Bucket> buckets, bool fanOutToo) {
  DenseSet<unsigned> alone;
  for (const Bucket &bucket : buckets)
    if (bucket.instances.size() == 1)
      alone.insert(components[bucket.instances.front().front()]);
  bool changed = false;
  for (Edge &edge : edges)
    if (!edge.isCut && components[edge.producer] == components[edge.consumer] &&
        alone.contains(components[edge.consumer]) && (edge.fanIn > 1 || (fanOutToo && edge.fanOut > 1)))
      changed = edge.isCut = true;
  return changed;
}

Groups Finder::run() {
  collectEdges();
  cutFans();
  std::vector<Bucket> buckets = formInstances();
  for (bool fanOutToo : {false, true})
    if (cutAgain(buckets, fanOutToo))
      buckets = formInstances();
  for (const Bucket &bucket : buckets)
    if (bucket.instances.size() > 1)
      addGroup(bucket.instances, bucket.stage);
  if (!isAcyclic()) { // ruled out by the stages; a wrong answer is worth a second look
    result.groups.clear();
    places.clear();
  }
  findJoins();
  findStackedResults();
  nameGroups();
  llvm::append_range(result.misses, findNearMisses(block, classes, result));
  return std::move(result);
}

//===----------------------------------------------------------------------------===//
// Groups
//===----------------------------------------------------------------------------===//

/// A group of instances of one form, unless few values tell them apart or it does not pay.
void Finder::addGroup(ArrayRef<Instance> instances, unsigned stage) {
  if (instances.size() < 2) // rule F5
    return;
  Group group = makeGroup(instances, stage);
  if (addSplit(group, instances))
    return;
  for (Column &column : group.columns)
    classify(column);
  if (std::string reason = whyNot(group); !reason.empty()) {
    bool isTrivial = llvm::all_of(group.getBody(), isMovement);
    if (!isTrivial)
      result.misses.push_back({group.instances[0].back(), group.instances[1].back(), std::move(reason), ""});
    return;
  }
  sortInstances(group);
  accept(std::move(group));
}

Group Finder::makeGroup(ArrayRef<Instance> instances, unsigned stage) {
  const Instance &model = instances.front();
  auto order = llvm::to_vector(llvm::seq<unsigned>(0, model.size()));
  llvm::sort(order, [&](unsigned a, unsigned b) { return model[a] < model[b]; });
  Group group;
  group.stage = stage;
  for (const Instance &instance : instances)
    group.instances.push_back(llvm::map_to_vector(order, [&](unsigned rank) { return nodes[instance[rank]].op; }));
  for (auto [k, op] : llvm::enumerate(group.getBody())) {
    group.firstSlots.push_back(group.slots.size());
    for (unsigned i = 0; i < op->getNumResults(); ++i)
      group.slots.push_back({k, i});
  }
  addColumns(group);
  return group;
}

void Finder::addColumns(Group &group) {
  DenseMap<Operation *, unsigned> internal;
  DenseMap<Value, SmallVector<unsigned>> byFirst;
  for (auto [k, op] : llvm::enumerate(group.getBody())) {
    SmallVector<Source> &sources = group.operands.emplace_back();
    for (auto [j, operand] : llvm::enumerate(op->getOperands())) {
      if (auto it = internal.find(operand.getDefiningOp()); it != internal.end()) {
        sources.push_back({true, it->second + cast<OpResult>(operand).getResultNumber()});
        continue;
      }
      SmallVector<Value> values;
      for (ArrayRef<Operation *> instance : group.instances)
        values.push_back(instance[k]->getOperand(j));
      sources.push_back({false, addColumn(group, std::move(values), byFirst)});
    }
    internal[op] = group.firstSlots[k];
  }
}

/// The column of these values, which may be there already.
unsigned Finder::addColumn(Group &group, SmallVector<Value> values, DenseMap<Value, SmallVector<unsigned>> &byFirst) {
  SmallVector<unsigned> &candidates = byFirst[values.front()];
  for (unsigned candidate : candidates)
    if (group.columns[candidate].values == values)
      return candidate;
  candidates.push_back(group.columns.size());
  group.columns.emplace_back().values = std::move(values);
  return candidates.back();
}

/// Where an operand takes few values, many instances each, there are as many groups, and
/// in each of them the value is shared: no copy is made of it per instance.
bool Finder::addSplit(const Group &group, ArrayRef<Instance> instances) {
  constexpr unsigned kMaxValues = 8, kMinInstances = 8;
  for (const Column &column : group.columns) {
    if (column.values.front().getDefiningOp<ParameterOp>() || column.values.front().getDefiningOp<ConstantOp>())
      continue;
    llvm::MapVector<Value, SmallVector<Instance>> byValue;
    for (auto [value, instance] : llvm::zip_equal(column.values, instances)) {
      byValue[value].push_back(instance);
      if (byValue.size() > kMaxValues)
        break;
    }
    if (byValue.size() < 2 || byValue.size() > kMaxValues || instances.size() < byValue.size() * kMinInstances)
      continue;
    for (auto &[value, part] : byValue)
      addGroup(part, group.stage);
    return true;
  }
  return false;
}

void Finder::classify(Column &column) {
  ArrayRef<Value> values = column.values;
  auto allDefinedBy = [&](auto isa) { return llvm::all_of(values, isa); };
  if (llvm::all_equal(values))
    column.kind = Column::Shared;
  else if (allDefinedBy([](Value value) { return value.getDefiningOp<ParameterOp>() != nullptr; }))
    column.kind = Column::Parameters;
  else if (allDefinedBy([](Value value) {
             auto constant = value.getDefiningOp<ConstantOp>();
             return constant && isa<DenseElementsAttr>(constant.getValue());
           }))
    column.kind = Column::Constants;
  else if (std::optional<Column> parts = asParts(values))
    column = std::move(*parts);
  else if (std::optional<Column> results = asResults(values))
    column = std::move(*results);
  else
    column.kind = Column::Copies;
}

std::optional<Column> Finder::asParts(ArrayRef<Value> values) {
  std::optional<Part> first;
  Column column;
  for (Value value : values) {
    std::optional<unsigned> definition = classes.getDefinition(value);
    if (!definition || nodes[*definition].role != Role::Part)
      return std::nullopt;
    const Part &part = nodes[*definition].part;
    if (first && !first->sameKind(part))
      return std::nullopt;
    first = part;
    column.starts.push_back(part.start);
  }
  column.kind = Column::Part;
  column.values.assign(values.begin(), values.end());
  column.whole = first->whole;
  column.dim = first->dim;
  column.size = first->size;
  return column;
}

std::optional<Place> mlir::pfcn::getPlace(const Places &places, Value value) {
  auto it = places.find(value.getDefiningOp());
  if (it == places.end())
    return std::nullopt;
  Place place = it->second;
  place.slot += cast<OpResult>(value).getResultNumber();
  return place;
}

std::optional<Column> Finder::asResults(ArrayRef<Value> values) {
  Column column;
  for (Value value : values) {
    std::optional<Place> place = getPlace(places, value);
    if (!place || (!column.starts.empty() && (place->group != column.group || place->slot != column.slot)))
      return std::nullopt;
    column.group = place->group;
    column.slot = place->slot;
    column.starts.push_back(place->instance);
  }
  column.kind = Column::Results;
  column.values.assign(values.begin(), values.end());
  return column;
}

/// Whether an instance's result is used outside of the instance.
bool Finder::isUsedOutside(const Group &group, unsigned slot) const {
  return llvm::any_of(llvm::seq<unsigned>(0, group.getCount()), [&](unsigned instance) {
    Value result = group.getResult(instance, slot);
    unsigned own = components[classes.getIndex(result.getDefiningOp())];
    return llvm::any_of(result.getUsers(), [&](Operation *user) {
      unsigned index = classes.getIndex(user);
      return nodes[index].role != Role::Replicated || components[index] != own;
    });
  });
}

/// Whether a dynamic size is known before the group runs.
bool Finder::isSizeKnown(const Group &group, Value result, int64_t dim) const {
  std::optional<SizeSource> source = findSize(result, dim);
  return source && !llvm::is_contained(group.getBody(), source->whole.getDefiningOp());
}

/// What a call of torch's costs, in bytes that could be copied instead.
static constexpr int64_t kMaxCheapCopy = 32 << 10;

/// What has to be copied for one instance; open sizes count as one, so at least 1 where anything has to.
static int64_t countCopiedBytes(const Group &group) {
  int64_t bytes = 0;
  for (const Column &column : group.columns)
    if (column.kind == Column::Copies) {
      auto type = cast<RankedTensorType>(column.values.front().getType());
      int64_t elements = 1;
      for (int64_t size : type.getShape())
        elements *= ShapedType::isDynamic(size) ? 1 : std::max<int64_t>(size, 1);
      auto complex = dyn_cast<ComplexType>(type.getElementType());
      unsigned bits = complex ? 2 * complex.getElementType().getIntOrFloatBitWidth()
                              : type.getElementType().getIntOrFloatBitWidth();
      bytes += elements * std::max(1u, bits / 8);
    }
  return bytes;
}

/// Why a group does not pay (F6) or cannot be built (F8); empty if it does and can.
std::string Finder::whyNot(const Group &group) const {
  ArrayRef<Operation *> body = group.getBody();
  int64_t work = 0;
  for (Operation *op : body)
    work += countWork(op);
  if (work == 0)
    return "they only move data";
  int64_t copied = countCopiedBytes(group);
  bool paysForCopies = work >= 3 || llvm::any_of(body, isContraction) ||
                       (llvm::any_of(body, llvm::IsaPred<OpaqueOp>) && copied <= kMaxCheapCopy);
  if (copied > 0 && !paysForCopies)
    return "their operands are separate tensors, and too little is computed to pay for gathering them";
  for (const Column &column : group.columns)
    if (column.kind == Column::Copies &&
        !llvm::all_of(column.values, [&](Value value) { return haveEqualSizes(column.values.front(), value); }))
      return "their operands are separate tensors, whose dynamic sizes may differ";
  for (unsigned slot = 0; slot < group.slots.size(); ++slot) {
    Value result = group.getResult(0, slot);
    auto type = cast<RankedTensorType>(result.getType());
    for (int64_t dim = 0; dim < type.getRank(); ++dim)
      if (type.isDynamicDim(dim) && !isSizeKnown(group, result, dim) && isUsedOutside(group, slot))
        return llvm::formatv("dimension {0} of their result is not known before they run", dim);
  }
  return "";
}

//===----------------------------------------------------------------------------===//
// The order of the instances
//===----------------------------------------------------------------------------===//

/// By the join that reads them, else by the part they read, else by the instances they read.
void Finder::sortInstances(Group &group) {
  if (sortByJoin(group) || sortByColumn(group, Column::Part))
    return;
  sortByColumn(group, Column::Results);
}

const DenseMap<Value, int64_t> &Finder::getPositions(Operation *join) {
  auto [it, isNew] = positions.try_emplace(join);
  if (isNew)
    for (auto [i, operand] : llvm::enumerate(join->getOperands()))
      it->second.try_emplace(operand, i);
  return it->second;
}

bool Finder::sortByJoin(Group &group) {
  for (unsigned slot = 0; slot < group.slots.size(); ++slot)
    for (Operation *user : group.getResult(0, slot).getUsers()) {
      if (!isa<CatOp, StackOp>(user))
        continue;
      const DenseMap<Value, int64_t> &position = getPositions(user);
      SmallVector<int64_t> keys;
      for (int64_t instance = 0; instance < group.getCount(); ++instance)
        if (auto it = position.find(group.getResult(instance, slot)); it != position.end())
          keys.push_back(it->second);
      if (static_cast<int64_t>(keys.size()) != group.getCount())
        continue;
      reorder(group, keys);
      return true;
    }
  return false;
}

bool Finder::sortByColumn(Group &group, Column::Kind kind) {
  for (const Column &column : group.columns)
    if (column.kind == kind) {
      reorder(group, SmallVector<int64_t>(column.starts));
      return true;
    }
  return false;
}

void Finder::reorder(Group &group, ArrayRef<int64_t> keys) {
  auto order = llvm::to_vector(llvm::seq<unsigned>(0, keys.size()));
  llvm::sort(order, [&](unsigned a, unsigned b) { return std::pair(keys[a], a) < std::pair(keys[b], b); });
  auto permute = [&](auto &list) {
    std::decay_t<decltype(list)> sorted;
    for (unsigned i : order)
      sorted.push_back(std::move(list[i]));
    list = std::move(sorted);
  };
  permute(group.instances);
  for (Column &column : group.columns) {
    permute(column.values);
    if (!column.starts.empty())
      permute(column.starts);
  }
}

void Finder::accept(Group group) {
  unsigned index = result.groups.size();
  places.reserve(places.size() + group.instances.size() * group.getBody().size());
  for (auto [i, instance] : llvm::enumerate(group.instances))
    for (auto [k, op] : llvm::enumerate(instance))
      places[op] = {index, static_cast<unsigned>(i), group.firstSlots[k]};
  result.groups.push_back(std::move(group));
}

//===----------------------------------------------------------------------------===//
// Results
//===----------------------------------------------------------------------------===//

void Finder::findJoins() {
  for (Operation &op : block)
    if (isa<CatOp, StackOp>(op) && !places.contains(&op))
      if (std::optional<Join> join = asJoin(&op)) {
        inPlace.insert(&op);
        result.joins.push_back(std::move(*join));
      }
}

static int64_t getJoinDim(Operation *op) {
  return isa<CatOp>(op) ? cast<CatOp>(op).getDim() : cast<StackOp>(op).getDim();
}

/// Whether two operands of a cat along `joined` have equal sizes in every other dimension.
static bool agree(Value a, Value b, int64_t joined) {
  auto typeA = cast<RankedTensorType>(a.getType()), typeB = cast<RankedTensorType>(b.getType());
  for (int64_t dim = 0; dim < typeA.getRank(); ++dim) {
    if (dim == joined || (!typeA.isDynamicDim(dim) && !typeB.isDynamicDim(dim)))
      continue;
    std::optional<SizeSource> sizeA = findSize(a, dim), sizeB = findSize(b, dim);
    if (!sizeA || sizeA != sizeB)
      return false;
  }
  return true;
}

std::optional<Join> Finder::asJoin(Operation *op) {
  bool isStack = isa<StackOp>(op);
  int64_t dim = getJoinDim(op), end = 0;
  DenseMap<Value, int64_t> starts;
  std::map<unsigned, llvm::SetVector<unsigned>> slots; // of each group, in its order
  for (Value operand : op->getOperands()) {
    std::optional<Place> place = getPlace(places, operand);
    int64_t size = isStack ? 1 : cast<RankedTensorType>(operand.getType()).getDimSize(dim);
    if (!place || ShapedType::isDynamic(size) || !starts.try_emplace(operand, end).second)
      return std::nullopt;
    slots[place->group].insert(place->slot);
    end += size;
  }
  Join join{op, {}};
  size_t covered = 0;
  for (auto &[group, mine] : slots) {
    std::optional<JoinPart> part =
        makePart(group, SmallVector<unsigned>(mine.getArrayRef()), isStack, starts, dim, op->getNumOperands());
    if (!part)
      return std::nullopt;
    // All that write one destination must agree on its sizes; a cat that stays a cat checks that.
    for (unsigned slot : mine)
      if (!agree(op->getOperand(0), result.groups[group].getResult(0, slot), isStack ? -1 : dim))
        return std::nullopt;
    covered += mine.size() * result.groups[group].getCount();
    join.parts.push_back(std::move(*part));
  }
  return covered == op->getNumOperands() ? std::optional(std::move(join)) : std::nullopt;
}

/// What the instances of one group write: each of them its results side by side.
std::optional<JoinPart> Finder::makePart(unsigned groupIndex, SmallVector<unsigned> slots, bool isStack,
                                         const DenseMap<Value, int64_t> &starts, int64_t dim, int64_t joined) {
  const Group &group = result.groups[groupIndex];
  auto getStart = [&](unsigned instance, unsigned slot) -> int64_t {
    auto it = starts.find(group.getResult(instance, slot));
    return it == starts.end() ? -1 : it->second;
  };
  llvm::sort(slots, [&](unsigned a, unsigned b) { return getStart(0, a) < getStart(0, b); });
  JoinPart part{groupIndex, slots, 0, {}};
  SmallVector<int64_t> sizes;
  for (unsigned slot : slots) {
    auto type = cast<RankedTensorType>(group.getResult(0, slot).getType());
    sizes.push_back(isStack ? 1 : type.getDimSize(dim));
    part.size += sizes.back();
  }
  for (unsigned instance = 0; instance < group.getCount(); ++instance) {
    int64_t end = getStart(instance, slots.front());
    part.starts.push_back(end);
    for (auto [slot, size] : llvm::zip_equal(slots, sizes)) {
      int64_t start = getStart(instance, slot);
      if (start < 0 || start != end)
        return std::nullopt;
      end += size;
    }
  }
  if (isStack && slots.size() == 1) {
    part.size = -1;
    part.isStackedResult = dim == 0 && llvm::equal(part.starts, llvm::seq<int64_t>(0, joined));
  }
  return part;
}

void Finder::findStackedResults() {
  auto isElsewhere = [&](Operation *op, Operation *user) {
    if (inPlace.contains(user))
      return false;
    auto it = places.find(user);
    const Place &place = places.find(op)->second;
    return it == places.end() || it->second.group != place.group || it->second.instance != place.instance;
  };
  DenseSet<std::pair<unsigned, unsigned>> joined; // group and slot: a join is the stacked result
  for (const Join &join : result.joins)
    for (const JoinPart &part : join.parts)
      if (part.isStackedResult)
        joined.insert({part.group, part.slots.front()});
  for (auto [index, group] : llvm::enumerate(result.groups))
    for (unsigned slot = 0; slot < group.slots.size(); ++slot)
      if (!joined.contains({static_cast<unsigned>(index), slot}) &&
          llvm::any_of(llvm::seq<unsigned>(0, group.getCount()), [&](unsigned instance) {
            Value result = group.getResult(instance, slot);
            return llvm::any_of(result.getUsers(),
                                [&](Operation *user) { return isElsewhere(result.getDefiningOp(), user); });
          }))
        group.stacked.push_back(slot);
}

/// Whether the groups can run one after another (F2), looked at without the stages.
bool Finder::isAcyclic() const {
  size_t numGroups = result.groups.size();
  std::vector<size_t> units(nodes.size()); // groups, then single ops
  for (auto [index, node] : llvm::enumerate(nodes)) {
    auto it = node.role == Role::Replicated ? places.find(node.op) : places.end();
    units[index] = it == places.end() ? numGroups + index : it->second.group;
  }
  std::vector<unsigned> pending(numGroups + nodes.size());
  std::vector<SmallVector<size_t, 1>> users(pending.size());
  auto addEdge = [&](size_t from, size_t to) {
    if (units[from] == units[to])
      return;
    users[units[from]].push_back(units[to]);
    ++pending[units[to]];
  };
  size_t lastEffect = Classes::kNone;
  for (auto [index, node] : llvm::enumerate(nodes)) {
    if (node.role == Role::Parameter)
      continue; // a source
    for (unsigned definition : classes.getOperands(index))
      if (definition != Classes::kNone && nodes[definition].role != Role::Parameter)
        addEdge(definition, index);
    if (keepsOrder(node.op)) {
      if (lastEffect != Classes::kNone)
        addEdge(lastEffect, index);
      lastEffect = index;
    }
  }
  SmallVector<size_t> ready;
  for (auto [index, count] : llvm::enumerate(pending))
    if (count == 0)
      ready.push_back(index);
  size_t done = 0;
  for (; done < ready.size(); ++done)
    for (size_t user : users[ready[done]])
      if (--pending[user] == 0)
        ready.push_back(user);
  return done == pending.size();
}

static StringRef getShortName(Operation *op) {
  auto opaque = dyn_cast<OpaqueOp>(op);
  return opaque ? opaque.getName().split("::").second.split('.').first : op->getName().stripDialect();
}

/// What the body computes, with the sizes of its weights: linear20x10_relu_linear10x1_x1000.
void Finder::nameGroups() {
  constexpr size_t kMaxLength = 64;
  std::map<std::string, unsigned> used;
  for (Group &group : result.groups) {
    std::string name;
    llvm::raw_string_ostream os(name);
    for (Operation *op : group.getBody()) {
      if (isMovement(op))
        continue;
      if (name.size() > kMaxLength - 24) {
        os << "etc_";
        break;
      }
      os << getShortName(op);
      if (isContraction(op)) {
        auto weight = cast<RankedTensorType>(op->getOperand(1).getType()).getShape().take_back(2);
        bool isTransposed = isa<LinearOp>(op);
        auto size = [](int64_t extent) { return ShapedType::isDynamic(extent) ? "n" : std::to_string(extent); };
        os << size(weight[isTransposed ? 1 : 0]) << "x" << size(weight[isTransposed ? 0 : 1]);
      }
      os << "_";
    }
    os << "x" << group.getCount();
    unsigned &uses = used[name];
    group.name = uses++ ? name + "_" + std::to_string(uses) : name;
  }
}

Groups mlir::pfcn::findGroups(func::FuncOp function) {
  if (!llvm::hasSingleElement(function.getBody()))
    return {};
  for (Operation &op : function.getBody().front())
    if (op.getNumRegions() != 0 && !op.hasTrait<OpTrait::IsIsolatedFromAbove>()) { // uses values unseen
      Groups none;
      none.misses.push_back({&op, nullptr, "the function has control flow", ""});
      return none;
    }
  return Finder(function.getBody().front()).run();
}
