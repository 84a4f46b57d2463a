//===- Views.cpp - reshapes, slices, copies and joins ----------------------------===//
//
// Where the elements stay in order, a view of the tensor; where they do not (permute, expand),
// a nest that copies. A reshape collapses, then expands, each at most once.
//
//===----------------------------------------------------------------------------===//

#include "Lowering.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::pfcn;

using Sizes = SmallVector<OpFoldResult>;
using Groups = SmallVector<ReassociationIndices>;

//===----------------------------------------------------------------------------===//
// Unit dimensions
//===----------------------------------------------------------------------------===//

/// Groups `rank` dimensions so that each group holds one dimension that is not in `units`; empty
/// where all are.
static Groups groupUnits(int64_t rank, ArrayRef<int64_t> units) {
  Groups groups;
  ReassociationIndices pending;
  bool open = false;
  for (int64_t dim = 0; dim < rank; ++dim) {
    bool isUnit = llvm::is_contained(units, dim);
    if (!isUnit && open) {
      groups.push_back(std::exchange(pending, {}));
      open = false;
    }
    pending.push_back(dim);
    open |= !isUnit;
  }
  if (open)
    groups.push_back(pending);
  return groups;
}

Value mlir::pfcn::dropUnitDims(Lowering &lowering, Value tensor, ArrayRef<int64_t> dims) {
  if (dims.empty())
    return tensor;
  // Folds with the expand_shape that a batching rule put in front.
  return lowering.createOrFold<tensor::CollapseShapeOp>(tensor, groupUnits(ranked(tensor).getRank(), dims));
}

Value mlir::pfcn::insertUnitDims(Lowering &lowering, Value tensor, ArrayRef<int64_t> dims) {
  if (dims.empty())
    return tensor;
  RankedTensorType type = ranked(tensor);
  SmallVector<int64_t> shape(type.getShape());
  Sizes sizes = getSizes(lowering, tensor);
  for (int64_t dim : dims) {
    shape.insert(shape.begin() + dim, 1);
    sizes.insert(sizes.begin() + dim, lowering.getIndexAttr(1));
  }
  auto result = RankedTensorType::get(shape, type.getElementType());
  return tensor::ExpandShapeOp::create(lowering, result, tensor, groupUnits(shape.size(), dims), sizes);
}

//===----------------------------------------------------------------------------===//
// Reshape
//===----------------------------------------------------------------------------===//

namespace {
/// Dimensions of the input and of the result of a reshape that hold the same elements.
struct Match {
  ReassociationIndices from, to;
};
} // namespace

static bool hasDynamic(ArrayRef<int64_t> sizes) { return llvm::any_of(sizes, ShapedType::isDynamic); }

/// How many leading dimensions are carried over one by one: as many as are equal and leave a
/// rest that can hold as many elements as the rest of the result.
static std::optional<size_t> getCommonPrefix(ArrayRef<int64_t> from, ArrayRef<int64_t> to) {
  size_t equal = 0;
  while (equal < std::min(from.size(), to.size()) && from[equal] == to[equal])
    ++equal;
  for (size_t prefix = equal + 1; prefix-- > 0;) {
    ArrayRef<int64_t> restFrom = from.drop_front(prefix), restTo = to.drop_front(prefix);
    bool isDynamic = hasDynamic(restFrom);
    if (isDynamic != hasDynamic(restTo) || llvm::count(restTo, ShapedType::kDynamic) > 1)
      continue;
    if (isDynamic || ShapedType::getNumElements(restFrom) == ShapedType::getNumElements(restTo))
      return prefix;
  }
  return std::nullopt;
}

/// Matches static dimensions [i, iEnd) and [j, jEnd) from the left in groups of equal product, as
/// small as possible, up to the first dynamic dimension.
static void matchFromLeft(ArrayRef<int64_t> from, ArrayRef<int64_t> to, size_t &i, size_t &j,
                          SmallVectorImpl<Match> &matches) {
  while (i < from.size() && j < to.size()) {
    size_t nextFrom = i, nextTo = j;
    int64_t productFrom = from[nextFrom++], productTo = to[nextTo++];
    if (ShapedType::isDynamic(productFrom) || ShapedType::isDynamic(productTo))
      return;
    while (productFrom != productTo) {
      bool growFrom = productFrom < productTo;
      ArrayRef<int64_t> side = growFrom ? from : to;
      size_t &next = growFrom ? nextFrom : nextTo;
      if (next == side.size() || ShapedType::isDynamic(side[next]))
        return;
      (growFrom ? productFrom : productTo) *= side[next++];
    }
    matches.push_back(
        {llvm::to_vector<2>(llvm::seq<int64_t>(i, nextFrom)), llvm::to_vector<2>(llvm::seq<int64_t>(j, nextTo))});
    i = nextFrom;
    j = nextTo;
  }
}

/// The dimensions in as many groups as are not of size 1; those that are go with the one before them, or the first.
static SmallVector<SmallVector<int64_t, 2>> groupUnits(ArrayRef<int64_t> shape) {
  SmallVector<SmallVector<int64_t, 2>> groups;
  SmallVector<int64_t, 2> leading;
  for (auto [dim, size] : llvm::enumerate(shape)) {
    if (size != 1)
      groups.emplace_back(std::exchange(leading, {}));
    (groups.empty() ? leading : groups.back()).push_back(static_cast<int64_t>(dim));
  }
  return groups;
}

/// The match of shapes that differ in dimensions of size 1 only. Of two dynamic dimensions it would not be known which
/// is which.
static std::optional<SmallVector<Match>> matchBesideUnits(ArrayRef<int64_t> from, ArrayRef<int64_t> to) {
  auto isUnit = [](int64_t size) { return size == 1; };
  SmallVector<int64_t> others(from), othersTo(to);
  llvm::erase_if(others, isUnit);
  llvm::erase_if(othersTo, isUnit);
  if (others != othersTo || others.empty() || llvm::count(others, ShapedType::kDynamic) > 1)
    return std::nullopt;
  SmallVector<Match> matches;
  for (auto [groupFrom, groupTo] : llvm::zip_equal(groupUnits(from), groupUnits(to)))
    matches.push_back({groupFrom, groupTo});
  return matches;
}

/// Groups the dimensions of both shapes; empty where one side has rank 0.
static std::optional<SmallVector<Match>> matchShapes(ArrayRef<int64_t> from, ArrayRef<int64_t> to) {
  if (std::optional<SmallVector<Match>> beside = matchBesideUnits(from, to))
    return beside;
  std::optional<size_t> prefix = getCommonPrefix(from, to);
  if (!prefix)
    return std::nullopt;
  SmallVector<Match> matches;
  for (size_t dim = 0; dim < *prefix; ++dim)
    matches.push_back({{static_cast<int64_t>(dim)}, {static_cast<int64_t>(dim)}});
  size_t i = *prefix, j = *prefix;
  matchFromLeft(from, to, i, j, matches);
  // What is left holds a dynamic dimension on each side, or is of size 1 on one.
  size_t iEnd = from.size(), jEnd = to.size();
  SmallVector<Match> suffix;
  while (iEnd > i + 1 && jEnd > j + 1 && from[iEnd - 1] == to[jEnd - 1] && !ShapedType::isDynamic(to[jEnd - 1])) {
    --iEnd, --jEnd;
    suffix.push_back({{static_cast<int64_t>(iEnd)}, {static_cast<int64_t>(jEnd)}});
  }
  auto restFrom = llvm::seq<int64_t>(i, iEnd), restTo = llvm::seq<int64_t>(j, jEnd);
  if (!restFrom.empty() && !restTo.empty()) {
    matches.push_back({llvm::to_vector<2>(restFrom), llvm::to_vector<2>(restTo)});
  } else if (!matches.empty()) {
    llvm::append_range(matches.back().from, restFrom);
    llvm::append_range(matches.back().to, restTo);
  }
  llvm::append_range(matches, llvm::reverse(suffix));
  return matches;
}

static Value collapse(Lowering &lowering, Value tensor, ArrayRef<Match> matches) {
  if (llvm::all_of(matches, [](const Match &match) { return match.from.size() == 1; }) &&
      static_cast<int64_t>(matches.size()) == ranked(tensor).getRank())
    return tensor;
  Groups groups = llvm::map_to_vector(matches, [](const Match &match) { return match.from; });
  return tensor::CollapseShapeOp::create(lowering, tensor, groups);
}

/// The size of the one dynamic dimension of a group: the elements of the group over those of
/// its static dimensions.
static OpFoldResult inferSize(Lowering &lowering, OpFoldResult groupSize, ArrayRef<int64_t> sizes) {
  int64_t others = 1;
  for (int64_t size : sizes)
    others *= ShapedType::isDynamic(size) ? 1 : size;
  if (others == 1)
    return groupSize;
  Value divisor = arith::ConstantIndexOp::create(lowering, others);
  return arith::DivUIOp::create(lowering, cast<Value>(groupSize), divisor).getResult();
}

static Value expand(Lowering &lowering, Value tensor, RankedTensorType type, ArrayRef<Match> matches) {
  if (ranked(tensor) == type)
    return tensor;
  Sizes groupSizes = getSizes(lowering, tensor), sizes;
  Groups groups = llvm::map_to_vector(matches, [](const Match &match) { return match.to; });
  if (groups.empty()) // of rank 0
    sizes.assign(type.getRank(), lowering.getIndexAttr(1));
  for (auto [group, groupSize] : llvm::zip(groups, groupSizes)) {
    SmallVector<int64_t> shape = llvm::map_to_vector(group, [&](int64_t dim) { return type.getDimSize(dim); });
    for (int64_t size : shape)
      sizes.push_back(ShapedType::isDynamic(size) ? inferSize(lowering, groupSize, shape)
                                                  : OpFoldResult(lowering.getIndexAttr(size)));
  }
  return tensor::ExpandShapeOp::create(lowering, type, tensor, groups, sizes);
}

static FailureOr<Value> lowerReshape(Lowering &lowering, ReshapeOp op) {
  RankedTensorType from = ranked(op.getInput()), to = ranked(op.getResult());
  if (from == to)
    return op.getInput();
  std::optional<SmallVector<Match>> matches = matchShapes(from.getShape(), to.getShape());
  if (!matches)
    return lowering.decline("the dynamic dimensions of the result do not follow from those of the input");
  return expand(lowering, collapse(lowering, op.getInput(), *matches), to, *matches);
}

//===----------------------------------------------------------------------------===//
// Copies
//===----------------------------------------------------------------------------===//

static FailureOr<Value> copy(Lowering &lowering, Value input, ArrayRef<int64_t> loops, RankedTensorType type) {
  LoopNest nest(lowering, type.getShape());
  nest.read(input, loops);
  return nest.map(type.getElementType(), [](ImplicitLocOpBuilder &, ValueRange elements) { return elements[0]; });
}

static FailureOr<Value> lowerPermute(Lowering &lowering, PermuteOp op) {
  SmallVector<int64_t> loops(op.getPermutation().size());
  for (auto [loop, dim] : llvm::enumerate(op.getPermutation()))
    loops[dim] = loop;
  return copy(lowering, op.getInput(), loops, ranked(op.getResult()));
}

static FailureOr<Value> lowerExpand(Lowering &lowering, ExpandOp op) {
  int64_t rank = ranked(op.getResult()).getRank();
  auto loops = llvm::to_vector(llvm::seq<int64_t>(rank - ranked(op.getInput()).getRank(), rank));
  return copy(lowering, op.getInput(), loops, ranked(op.getResult()));
}

//===----------------------------------------------------------------------------===//
// Slices
//===----------------------------------------------------------------------------===//

static Value makeIndex(Lowering &lowering, int64_t value) { return arith::ConstantIndexOp::create(lowering, value); }

/// ceil((extent - start) / step), at least 0.
static Value countSteps(Lowering &lowering, Value extent, int64_t start, int64_t step) {
  Value length = arith::SubIOp::create(lowering, extent, makeIndex(lowering, start));
  length = arith::MaxSIOp::create(lowering, length, makeIndex(lowering, 0));
  if (step == 1)
    return length;
  Value padded = arith::AddIOp::create(lowering, length, makeIndex(lowering, step - 1));
  return arith::DivUIOp::create(lowering, padded, makeIndex(lowering, step));
}

/// The whole of a tensor, to be narrowed.
static std::array<Sizes, 3> getWhole(Lowering &lowering, Value tensor) {
  int64_t rank = ranked(tensor).getRank();
  return {Sizes(rank, lowering.getIndexAttr(0)), getSizes(lowering, tensor), Sizes(rank, lowering.getIndexAttr(1))};
}

static FailureOr<Value> lowerSlice(Lowering &lowering, SliceOp op) {
  auto [offsets, sizes, strides] = getWhole(lowering, op.getInput());
  int64_t dim = op.getDim(), start = op.getStart(), step = op.getStep();
  int64_t size = ranked(op.getResult()).getDimSize(dim);
  offsets[dim] = lowering.getIndexAttr(start);
  strides[dim] = lowering.getIndexAttr(step);
  sizes[dim] = ShapedType::isDynamic(size) ? OpFoldResult(countSteps(lowering, cast<Value>(sizes[dim]), start, step))
                                           : OpFoldResult(lowering.getIndexAttr(size));
  return tensor::ExtractSliceOp::create(lowering, ranked(op.getResult()), op.getInput(), offsets, sizes, strides)
      .getResult();
}

static FailureOr<Value> lowerSelect(Lowering &lowering, SelectOp op) {
  auto [offsets, sizes, strides] = getWhole(lowering, op.getInput());
  offsets[op.getDim()] = lowering.getIndexAttr(op.getIndex());
  sizes[op.getDim()] = lowering.getIndexAttr(1);
  return tensor::ExtractSliceOp::create(lowering, ranked(op.getResult()), op.getInput(), offsets, sizes, strides)
      .getResult();
}

//===----------------------------------------------------------------------------===//
// Joins
//===----------------------------------------------------------------------------===//

static OpFoldResult add(Lowering &lowering, OpFoldResult a, OpFoldResult b) {
  std::optional<int64_t> x = getConstantIntValue(a), y = getConstantIntValue(b);
  if (x && y)
    return lowering.getIndexAttr(*x + *y);
  Value left = getValueOrCreateConstantIndexOp(lowering, lowering.getLoc(), a);
  Value right = getValueOrCreateConstantIndexOp(lowering, lowering.getLoc(), b);
  return lowering.createOrFold<arith::AddIOp>(left, right);
}

static FailureOr<Value> lowerCat(Lowering &lowering, CatOp op) {
  int64_t dim = op.getDim();
  RankedTensorType type = ranked(op.getResult());
  Sizes starts, total;
  OpFoldResult end = lowering.getIndexAttr(0);
  for (Value input : op.getInputs()) {
    Sizes sizes = getSizes(lowering, input);
    starts.push_back(end);
    end = add(lowering, end, sizes[dim]);
    if (total.empty())
      total = sizes;
    for (int64_t i = 0; i < type.getRank(); ++i)
      total[i] = ShapedType::isDynamic(type.getDimSize(i)) ? total[i]
                                                           : OpFoldResult(lowering.getIndexAttr(type.getDimSize(i)));
  }
  total[dim] = end;
  Value result = tensor::EmptyOp::create(lowering, total, type.getElementType());
  for (auto [input, start] : llvm::zip_equal(op.getInputs(), starts)) {
    auto [offsets, sizes, strides] = getWhole(lowering, input);
    offsets[dim] = start;
    result = tensor::InsertSliceOp::create(lowering, input, result, offsets, sizes, strides);
  }
  return result;
}

static FailureOr<Value> lowerStack(Lowering &lowering, StackOp op) {
  int64_t dim = op.getDim();
  RankedTensorType type = ranked(op.getResult());
  Sizes total = getSizes(lowering, op.getInputs().front());
  total.insert(total.begin() + dim, lowering.getIndexAttr(op.getInputs().size()));
  Value result = tensor::EmptyOp::create(lowering, total, type.getElementType());
  Sizes offsets(type.getRank(), lowering.getIndexAttr(0)), strides(type.getRank(), lowering.getIndexAttr(1));
  for (auto [i, input] : llvm::enumerate(op.getInputs())) {
    Sizes sizes = getSizes(lowering, input);
    sizes.insert(sizes.begin() + dim, lowering.getIndexAttr(1));
    offsets[dim] = lowering.getIndexAttr(i);
    result = tensor::InsertSliceOp::create(lowering, input, result, offsets, sizes, strides);
  }
  return result;
}

FailureOr<Value> mlir::pfcn::lowerView(Lowering &lowering, Operation *op) {
  return TypeSwitch<Operation *, FailureOr<Value>>(op)
      .Case([&](ReshapeOp reshape) { return lowerReshape(lowering, reshape); })
      .Case([&](PermuteOp permute) { return lowerPermute(lowering, permute); })
      .Case([&](ExpandOp expand) { return lowerExpand(lowering, expand); })
      .Case([&](SliceOp slice) { return lowerSlice(lowering, slice); })
      .Case([&](SelectOp select) { return lowerSelect(lowering, select); })
      .Case([&](SqueezeOp squeeze) { return dropUnitDims(lowering, squeeze.getInput(), squeeze.getDims()); })
      .Case([&](UnsqueezeOp unsqueeze) {
        return insertUnitDims(lowering, unsqueeze.getInput(), static_cast<int64_t>(unsqueeze.getDim()));
      })
      .Case([&](CatOp cat) { return lowerCat(lowering, cat); })
      .Case([&](StackOp stack) { return lowerStack(lowering, stack); });
}
