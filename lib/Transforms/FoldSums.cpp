//===- FoldSums.cpp - a sum written as a chain of additions -----------------------===//
//
// Python's `sum(outputs)` is (((0 + y0) + y1) + y2) + ... . Where the y are all the ops of one class,
// that is the sum of their stack, which the group of them writes in place. The additions
// are only reassociated, as those of every reduction are.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Transforms/FoldSums.h"

#include "pfcn/Analysis/Classes.h"
#include "pfcn/Dialect/Pfcn.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace mlir::pfcn;

/// The addition whose left operand is `add`, and nothing else uses it.
static AddOp getNext(AddOp add) {
  if (!add->hasOneUse())
    return {};
  auto next = dyn_cast<AddOp>(*add->getUsers().begin());
  return next && next.getLhs() == add.getResult() && next.getType() == add.getType() ? next : AddOp();
}

/// A constant whose elements are all zero.
static bool isZero(Value value) {
  auto constant = value.getDefiningOp<ConstantOp>();
  auto elements = constant ? dyn_cast<SplatElementsAttr>(constant.getValue()) : SplatElementsAttr();
  return elements && isa<FloatType>(elements.getElementType()) && elements.getSplatValue<APFloat>().isZero();
}

/// What the chain that ends in `last` adds up, in order; empty if it is none of three or more
/// values of the type of the sum.
static SmallVector<Value> getTerms(AddOp last) {
  SmallVector<Value> terms;
  for (AddOp add = last;;) {
    auto before = add.getLhs().getDefiningOp<AddOp>();
    bool isFirst = !before || getNext(before) != add;
    // Python's sum starts at 0, and a loop over `total` at zeros.
    if (!isFirst || !isZero(add.getRhs()))
      terms.push_back(add.getRhs());
    if (!isFirst) {
      add = before;
      continue;
    }
    if (!isZero(add.getLhs()))
      terms.push_back(add.getLhs());
    break;
  }
  std::reverse(terms.begin(), terms.end());
  bool isSum = terms.size() >= 3 && llvm::all_of(terms, [&](Value term) { return term.getType() == last.getType(); });
  return isSum ? terms : SmallVector<Value>();
}

/// Whether the terms are each of the ops of one class once.
static bool areOneClass(ArrayRef<Value> terms, const Classes &classes) {
  DenseSet<unsigned> seen;
  std::optional<unsigned> classId;
  for (Value term : terms) {
    std::optional<unsigned> index = classes.getDefinition(term);
    if (!index || classes[*index].role != Role::Replicated || !seen.insert(*index).second)
      return false;
    if (classId && *classId != classes[*index].classId)
      return false;
    classId = classes[*index].classId;
  }
  return classes.getClassSize(*classId) == terms.size();
}

static void replaceBySum(AddOp last) {
  OpBuilder builder(last);
  Value stacked = StackOp::create(builder, last.getLoc(), getTerms(last), /*dim=*/0);
  Value sum = SumOp::create(builder, last.getLoc(), stacked, ArrayRef<int64_t>{0}, /*keepdim=*/false);
  last.getResult().replaceAllUsesWith(sum);
  for (auto add = last; add && add.use_empty();) { // the chain, from its end
    auto before = add.getLhs().getDefiningOp<AddOp>();
    add.erase();
    add = before;
  }
}

void mlir::pfcn::foldSums(Block &block) {
  SmallVector<AddOp> sums;
  for (auto add : block.getOps<AddOp>())
    if (isa<FloatType>(add.getType().getElementType()) && !getNext(add) && !getTerms(add).empty())
      sums.push_back(add);
  if (sums.empty())
    return;
  Classes classes(block);
  llvm::erase_if(sums, [&](AddOp add) { return !areOneClass(getTerms(add), classes); });
  for (AddOp add : sums)
    replaceBySum(add);
}
