//===- Padding.cpp - instances that differ in the size of one dimension -----------===//
//
// What follows a product is its region: ops that depend on no other such product. Products of one
// type whose regions are alike are one family, whatever number of terms they sum. The sizes
// of a family are cut into runs, each padded to its largest, by dynamic programming over an
// estimate of what the calls, the copies and the arithmetic cost.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Analysis/Padding.h"

#include "pfcn/Analysis/Work.h"

#include "mlir/IR/Matchers.h"
#include "llvm/ADT/Hashing.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/Support/FormatVariadic.h"

#include <map>

using namespace mlir;
using namespace mlir::pfcn;

std::optional<Factors> mlir::pfcn::getFactors(Operation *op) {
  std::optional<Factors> factors;
  if (isa<LinearOp>(op))
    factors = Factors{&op->getOpOperand(0), &op->getOpOperand(1), 1};
  else if (isa<MatmulOp>(op))
    factors = Factors{&op->getOpOperand(0), &op->getOpOperand(1), 0};
  else if (isa<AddmmOp>(op))
    factors = Factors{&op->getOpOperand(1), &op->getOpOperand(2), 0};
  bool isPlain = factors && factors->weight->get().getDefiningOp<ParameterOp>() &&
                 ranked(factors->weight->get()).getRank() == 2 && ranked(factors->input->get()).getRank() >= 1;
  return isPlain ? factors : std::nullopt;
}

Value mlir::pfcn::getCodes(Value value) {
  while (auto cast = value.getDefiningOp<CastOp>())
    value = cast.getInput();
  auto composed = value.getDefiningOp<ComposedOp>();
  return composed && composed.getName() == "aten::one_hot" ? composed.getInputs().front() : Value();
}

namespace {

/// A product that may be padded.
struct Candidate {
  Operation *product;
  int64_t size;
  Value whole, codes;
  int64_t start;
};

/// Candidates that differ in nothing but their size.
struct Family {
  SmallVector<Candidate> members;
  /// Ops of a region, which a member that stays alone runs one by one.
  double regionOps = 0;
};

class PaddingFinder {
public:
  explicit PaddingFinder(Block &block) : block(block) {}
  Paddings run();

private:
  void collectCandidates();
  void labelRegions();
  uint64_t hashBehind(Operation *op);
  void choose(Family &family, Paddings &result);

  Block &block;
  std::vector<Candidate> candidates;
  DenseMap<Operation *, unsigned> labels; // of ops in regions
  std::vector<double> regionOps;          // of each candidate
  DenseMap<Operation *, uint64_t> hashes;
};

/// A part of a tensor along its last dimension; slices of slices are one.
std::optional<Part> getLastPart(Value value) {
  std::optional<Part> part;
  while (auto slice = value.getDefiningOp<SliceOp>()) {
    std::optional<Part> next = getPart(slice);
    if (!next || next->dim != ranked(value).getRank() - 1)
      break;
    part = Part{next->whole, next->dim, part ? part->size : next->size, next->start + (part ? part->start : 0)};
    value = next->whole;
  }
  return part;
}

} // namespace

/// Those of which there are several sizes (rule P1).
void PaddingFinder::collectCandidates() {
  std::map<std::vector<const void *>, SmallVector<Candidate>> byType;
  for (Operation &op : block) {
    std::optional<Factors> factors = getFactors(&op);
    if (!factors)
      continue;
    int64_t size = ranked(factors->input->get()).getShape().back();
    if (ShapedType::isDynamic(size) || size == 0)
      continue;
    std::optional<Part> part = getLastPart(factors->input->get());
    Candidate candidate{&op, size, part ? part->whole : Value(), getCodes(factors->input->get()),
                        part ? part->start : 0};
    std::vector<const void *> key{op.getName().getAsOpaquePointer(), op.getResult(0).getType().getAsOpaquePointer(),
                                  candidate.whole.getAsOpaquePointer(),
                                  candidate.codes ? candidate.codes.getType().getAsOpaquePointer() : nullptr};
    byType[key].push_back(candidate);
  }
  for (auto &[key, members] : byType)
    if (llvm::any_of(members, [&](const Candidate &other) { return other.size != members.front().size; }))
      candidates.insert(candidates.end(), members.begin(), members.end());
  llvm::sort(candidates, [](const Candidate &a, const Candidate &b) { return a.product->isBeforeInBlock(b.product); });
}

/// The beginning of a sum over instances, as Python's `sum` has it: 0 + y.
static bool beginsSum(Operation &op) {
  return isa<AddOp>(op) &&
         llvm::any_of(op.getOperands(), [](Value operand) { return matchPattern(operand, m_AnyZeroFloat()); });
}

void PaddingFinder::labelRegions() {
  regionOps.assign(candidates.size(), 0);
  for (auto [i, candidate] : llvm::enumerate(candidates))
    labels[candidate.product] = i;
  DenseSet<Operation *> joined; // what several regions lead to
  for (Operation &op : block) {
    if (auto own = labels.find(&op); own != labels.end()) {
      ++regionOps[own->second];
      continue;
    }
    std::optional<unsigned> label;
    bool isMixed = op.hasTrait<OpTrait::IsTerminator>() || beginsSum(op);
    for (Value operand : op.getOperands()) {
      isMixed |= joined.contains(operand.getDefiningOp());
      auto found = labels.find(operand.getDefiningOp());
      if (found == labels.end())
        continue;
      isMixed |= label && *label != found->second;
      label = found->second;
    }
    if (isMixed)
      joined.insert(&op);
    if (!label || isMixed)
      continue;
    labels[&op] = *label;
    regionOps[*label] += isView(&op) ? 0 : 1;
  }
}

/// Of an op of a region and all that follows it there. Only a guess at what will be one group: what is padded
/// in vain is slower, and never wrong.
uint64_t PaddingFinder::hashBehind(Operation *op) {
  unsigned label = labels.lookup(op);
  SmallVector<uint64_t> users;
  for (OpOperand &use : op->getUses()) {
    Operation *user = use.getOwner();
    auto found = labels.find(user);
    bool isInside = found != labels.end() && found->second == label;
    users.push_back(llvm::hash_combine(isInside ? use.getOperandNumber() : 0, isInside ? hashes.lookup(user) : 1));
  }
  llvm::sort(users);
  auto types = llvm::map_range(op->getOperandTypes(), [](Type type) { return hash_value(type); });
  bool isProduct = candidates[label].product == op; // whose operands differ in size
  return llvm::hash_combine(op->getName(), op->hashProperties(), op->getDiscardableAttrDictionary(),
                            llvm::hash_combine_range(op->result_type_begin(), op->result_type_end()),
                            isProduct ? llvm::hash_code(op->getNumOperands())
                                      : llvm::hash_combine_range(types.begin(), types.end()),
                            llvm::hash_combine_range(users.begin(), users.end()));
}

//===----------------------------------------------------------------------------===//
// What it costs
//===----------------------------------------------------------------------------===//

namespace {

// In vector operations of about 0.17 ns, as in LibraryCost.cpp: a call of torch's, the launch of a kernel (one of many,
// whose code is in no cache), the copy of one row of a tensor, and finding one parameter.
constexpr double callCost = 12000, launchCost = 18000, rowCost = 40, parameterCost = 120;
// Where each row of a tensor is on a page of its own, an instance that reads its part of all rows waits for each.
constexpr double pageBytes = 4096, cacheBytes = 2 << 20, cachedRowCost = 100, farRowCost = 400;
// Tensors above this come fresh from the system for each call, page by page.
constexpr double largestKept = 32 << 20, freshLineCost = 320;
constexpr double unitSeconds = 0.17e-9;
constexpr double lanes = 16, bytesPerOperation = 64;

/// Of one family.
struct Model {
  explicit Model(const Family &family) : regionOps(family.regionOps) {
    const Candidate &one = family.members.front();
    Factors factors = *getFactors(one.product);
    Value input = factors.input->get();
    rows = countElements(input) / static_cast<double>(one.size);
    outputs = static_cast<double>(ranked(factors.weight->get()).getDimSize(1 - factors.weightDim));
    elementBytes = countBytes(input) / countElements(input);
    isPart = one.whole != nullptr;
    areCodes = one.codes != nullptr;
    regionOps += areCodes ? 2 : 0;
    isTransposed = factors.weightDim == 0;
    double rowBytes = isPart ? countBytes(one.whole) / rows : 0;
    ownRowCost = rowBytes < pageBytes ? 0 : countBytes(one.whole) < cacheBytes ? cachedRowCost : farRowCost;
  }

  /// Zeros of one instance that is padded.
  double getWeightBytes(int64_t padding) const { return static_cast<double>(padding) * outputs * elementBytes; }
  double getInputBytes(int64_t padding) const { return static_cast<double>(padding) * rows * elementBytes; }

  /// Of `count` instances, each with as many terms.
  double getGroup(double count, double size) const {
    double compute = 2 * rows * outputs * size / lanes;
    double weights = outputs * size * elementBytes / bytesPerOperation;
    return launchCost + count * (compute + weights);
  }

  double getPadded(double count, double size) const {
    double bytes = 2 * ((areCodes ? 0 : rows) + outputs) * size * elementBytes;
    // Longer codes, a gather, or a call of torch's for each.
    double input = areCodes ? rows * size / lanes : isPart ? rows * rowCost : callCost;
    double weight = parameterCost + (isTransposed ? 1 : outputs) * rowCost;
    double copied = areCodes ? 0 : count * rows * size * elementBytes;
    double fresh = copied > largestKept ? copied / bytesPerOperation * freshLineCost : 0;
    return getGroup(count, size) + callCost + count * (input + weight + bytes / bytesPerOperation) + fresh;
  }

  double getEqual(double count, double size) const {
    double calls = count > 1 ? 0 : regionOps * callCost - launchCost;
    return getGroup(count, size) + calls + count * rows * ownRowCost;
  }

  double regionOps, rows, outputs, elementBytes, ownRowCost;
  bool isPart, areCodes, isTransposed;
};

/// A run of sizes that are padded to the last of them; of one, no padding.
struct Run {
  size_t first, last;
};

} // namespace

/// The cheapest way to cut the sizes into runs, in O(k²) for k sizes that differ.
static SmallVector<Run> cutSizes(ArrayRef<std::pair<int64_t, int64_t>> sizes, const Model &model) {
  std::vector<double> best(sizes.size() + 1, 0);
  std::vector<size_t> from(sizes.size() + 1, 0);
  for (size_t end = 1; end <= sizes.size(); ++end) {
    auto size = static_cast<double>(sizes[end - 1].first);
    double count = static_cast<double>(sizes[end - 1].second);
    best[end] = best[end - 1] + model.getEqual(count, size);
    from[end] = end - 1;
    for (size_t first = end - 1; first-- > 0;) {
      count += static_cast<double>(sizes[first].second);
      if (double cost = best[first] + model.getPadded(count, size); cost < best[end]) {
        best[end] = cost;
        from[end] = first;
      }
    }
  }
  SmallVector<Run> runs;
  for (size_t end = sizes.size(); end > 0; end = from[end])
    runs.push_back({from[end], end - 1});
  std::reverse(runs.begin(), runs.end());
  return runs;
}

static std::string inMicroseconds(double cost) { return llvm::formatv("{0:F1} us", cost * unitSeconds * 1e6).str(); }

void PaddingFinder::choose(Family &family, Paddings &result) {
  std::map<int64_t, int64_t> counts;
  for (const Candidate &member : family.members)
    ++counts[member.size];
  if (counts.size() < 2)
    return;
  SmallVector<std::pair<int64_t, int64_t>> sizes(counts.begin(), counts.end());
  Model model(family);
  auto getSum = [&](size_t first, size_t last, bool padded) {
    double count = 0, cost = 0;
    for (size_t i = first; i <= last; ++i) {
      count += static_cast<double>(sizes[i].second);
      cost += model.getEqual(static_cast<double>(sizes[i].second), static_cast<double>(sizes[i].first));
    }
    return padded ? model.getPadded(count, static_cast<double>(sizes[last].first)) : cost;
  };
  bool isAnyPadded = false;
  for (const Run &run : cutSizes(sizes, model)) {
    if (run.first == run.last)
      continue;
    isAnyPadded = true;
    Padding padding;
    padding.size = sizes[run.last].first;
    padding.whole = family.members.front().whole;
    double weightBytes = 0, inputBytes = 0;
    for (const Candidate &member : family.members) {
      if (member.size < sizes[run.first].first || member.size > padding.size)
        continue;
      padding.products.push_back(member.product);
      padding.sizes.push_back(member.size);
      padding.starts.push_back(member.start);
      weightBytes += model.getWeightBytes(padding.size - member.size);
      inputBytes += member.codes ? 0 : model.getInputBytes(padding.size - member.size);
      if (member.codes)
        padding.codes.push_back(member.codes);
    }
    padding.reason =
        llvm::formatv("{0} to {1} terms are padded with zeros to {1}: {2:F0} bytes of zeros in weights and {3:F0} in "
                      "inputs a call; estimated at {4}, and at {5} as {6} groups and single instances of equal size",
                      sizes[run.first].first, padding.size, weightBytes, inputBytes,
                      inMicroseconds(getSum(run.first, run.last, true)),
                      inMicroseconds(getSum(run.first, run.last, false)), run.last - run.first + 1);
    result.chosen.push_back(std::move(padding));
  }
  if (isAnyPadded)
    return;
  double bytes = 0;
  for (auto [size, count] : sizes)
    bytes += static_cast<double>(count) *
             (model.getWeightBytes(sizes.back().first - size) + model.getInputBytes(sizes.back().first - size));
  const Candidate &first = family.members.front();
  const Candidate &other = *llvm::find_if(family.members, [&](const Candidate &c) { return c.size != first.size; });
  result.kept.push_back(
      {other.product, first.product,
       llvm::formatv("they sum {0} terms and {1}, and padding is estimated to be slower: {2} with {3:F0} bytes of "
                     "zeros, and {4} as {5} groups and single instances of equal size",
                     other.size, first.size, inMicroseconds(getSum(0, sizes.size() - 1, true)), bytes,
                     inMicroseconds(getSum(0, sizes.size() - 1, false)), sizes.size()),
       ""});
}

Paddings PaddingFinder::run() {
  Paddings result;
  collectCandidates();
  if (candidates.empty())
    return result;
  labelRegions();
  for (Operation &op : llvm::reverse(block))
    if (labels.contains(&op))
      hashes[&op] = hashBehind(&op);
  llvm::MapVector<std::pair<uint64_t, void *>, Family> families;
  for (auto [i, candidate] : llvm::enumerate(candidates)) {
    uint64_t form = llvm::hash_combine(hashes[candidate.product], candidate.codes ? candidate.codes.getType() : Type());
    Family &family = families[{form, candidate.whole.getAsOpaquePointer()}];
    family.members.push_back(candidate);
    family.regionOps = std::max(family.regionOps, regionOps[i]);
  }
  for (auto &[key, family] : families)
    choose(family, result);
  return result;
}

bool mlir::pfcn::haveSeveralSizes(Block &block) {
  DenseMap<std::pair<OperationName, Type>, int64_t> sizes;
  return llvm::any_of(block, [&](Operation &op) {
    std::optional<Factors> factors = getFactors(&op);
    if (!factors)
      return false;
    int64_t size = ranked(factors->input->get()).getShape().back();
    return sizes.try_emplace({op.getName(), op.getResult(0).getType()}, size).first->second != size;
  });
}

Paddings mlir::pfcn::findPaddings(Block &block) { return PaddingFinder(block).run(); }
