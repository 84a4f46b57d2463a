//===- SplitKernel.cpp - a kernel as several kernels and library calls ----------------===//
//
// Views and constants belong to no piece: each piece has its own of what it reads.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Codegen/SplitKernel.h"

#include "pfcn/Analysis/Isomorphism.h"
#include "pfcn/Analysis/Work.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace mlir::pfcn;

namespace {
class Splitter {
public:
  Splitter(KernelOp kernel, ArrayRef<Piece> pieces) : kernel(kernel), pieces(pieces), builder(kernel) {}

  LogicalResult check();
  void run();

private:
  /// A tensor of the caller, and how the instances see it.
  struct Whole {
    Value tensor;
    AccessAttr access;
  };

  bool isBatched(Value value);
  Value getRoot(Value value);
  int getPiece(Value root) { return owners.lookup(root.getDefiningOp()); }
  SmallVector<Value> collectRoots(int piece);
  bool isNeededLater(Value value, int piece);
  std::optional<SmallVector<SizeSource>> findSizes(Value value);
  Value cloneInto(OpBuilder &at, Value value, IRMapping &mapping);
  Value createEmpty(Value value);
  Value asStack(Value root);
  void createKernel(int piece);
  void createCall(int piece);

  KernelOp kernel;
  ArrayRef<Piece> pieces;
  OpBuilder builder;
  llvm::SmallPtrSet<Operation *, 16> batched;
  DenseMap<Operation *, int> owners;
  DenseMap<Value, Whole> wholes;
  SmallVector<Value> results;
};
} // namespace

/// Whether a value of the body has the instances as its first dimension.
bool Splitter::isBatched(Value value) {
  if (auto argument = dyn_cast<BlockArgument>(value))
    return !kernel.getInputAccess(argument.getArgNumber()).isShared();
  return batched.contains(value.getDefiningOp());
}

/// What a chain of views looks at; a constant stands for itself.
Value Splitter::getRoot(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (!isFree(op) || op->getNumOperands() == 0)
      break;
    value = op->getOperand(0);
  }
  return value;
}

/// Where the dynamic sizes of a stacked value come from.
std::optional<SmallVector<SizeSource>> Splitter::findSizes(Value value) {
  SmallVector<SizeSource> sources;
  for (int64_t dim = 0; dim < ranked(value).getRank(); ++dim) {
    if (!ranked(value).isDynamicDim(dim))
      continue;
    std::optional<SizeSource> source = findSize(value, dim);
    auto argument = source ? dyn_cast<BlockArgument>(source->whole) : BlockArgument();
    if (!argument || argument.getOwner() != kernel.getBodyBlock() || source->multiplier != 1 || source->divisor != 1)
      return std::nullopt;
    AccessAttr access = kernel.getInputAccess(argument.getArgNumber());
    // The dimension of the whole tensor that the body sees as this one.
    int64_t at = access.isShared() ? source->dim : source->dim - 1;
    if (!access.isShared() && access.isSelect() && at >= access.getDim())
      ++at;
    sources.push_back({kernel.getInputs()[argument.getArgNumber()], at});
  }
  return sources;
}

LogicalResult Splitter::check() {
  for (Operation &op : *kernel.getBodyBlock())
    if (llvm::any_of(op.getOperands(), [&](Value operand) { return isBatched(operand); }))
      batched.insert(&op);
  for (auto [i, piece] : llvm::enumerate(pieces))
    for (Operation *op : piece.ops) {
      owners[op] = i;
      if (!isBatched(op->getResult(0)) || !findSizes(op->getResult(0)))
        return failure();
    }
  for (Value value : kernel.getYielded()) {
    Value root = getRoot(value);
    if (!owners.count(root.getDefiningOp()) || pieces[getPiece(root)].kind == Piece::Call)
      return failure();
  }
  return success();
}

/// The values that a piece reads: arguments, and results of earlier pieces.
SmallVector<Value> Splitter::collectRoots(int piece) {
  llvm::SetVector<Value> roots;
  for (Operation *op : pieces[piece].ops)
    for (Value operand : op->getOperands()) {
      Value root = getRoot(operand);
      Operation *source = root.getDefiningOp();
      bool isOutside = !source || (owners.count(source) && getPiece(root) != piece);
      if (isOutside)
        roots.insert(root);
    }
  return roots.takeVector();
}

/// Whether another piece reads a result, through views or not.
bool Splitter::isNeededLater(Value value, int piece) {
  return llvm::any_of(value.getUsers(), [&](Operation *user) {
    if (isa<YieldOp>(user))
      return false;
    return isFree(user) ? isNeededLater(user->getResult(0), piece) : owners.lookup(user) != piece;
  });
}

/// A value of the body in its piece, with the views and constants that it is made of.
Value Splitter::cloneInto(OpBuilder &at, Value value, IRMapping &mapping) {
  if (Value known = mapping.lookupOrNull(value))
    return known;
  Operation *op = value.getDefiningOp();
  for (Value operand : op->getOperands())
    cloneInto(at, operand, mapping);
  at.clone(*op, mapping);
  return mapping.lookup(value);
}

Value Splitter::createEmpty(Value value) {
  SmallVector<Value> sizes;
  auto sources = findSizes(value); // which lives as long as the loop
  for (const SizeSource &source : *sources)
    sizes.push_back(tensor::DimOp::create(builder, kernel.getLoc(), source.whole, source.dim));
  return EmptyOp::create(builder, kernel.getLoc(), ranked(value), sizes);
}

void Splitter::createKernel(int piece) {
  Location loc = pieces[piece].ops.front()->getLoc();
  SmallVector<Value> roots = collectRoots(piece), inputs, inits;
  SmallVector<Attribute> inputAccesses, initAccesses;
  for (Value root : roots) {
    inputs.push_back(wholes[root].tensor);
    inputAccesses.push_back(wholes[root].access);
  }
  SmallVector<Value> passed, yielded;
  for (Operation *op : pieces[piece].ops)
    if (isNeededLater(op->getResult(0), piece))
      passed.push_back(op->getResult(0));
  for (Value value : passed) {
    inits.push_back(createEmpty(value));
    initAccesses.push_back(AccessAttr::getSelect(kernel.getContext(), 0));
  }
  SmallVector<unsigned> finished;
  for (auto [i, value] : llvm::enumerate(kernel.getYielded()))
    if (getPiece(getRoot(value)) == piece) {
      finished.push_back(i);
      inits.push_back(kernel.getInits()[i]);
      initAccesses.push_back(kernel.getInitAccess(i));
    }
  auto part = KernelOp::create(builder, loc, TypeRange(ValueRange(inits)), kernel.getName(), kernel.getCount(), inputs,
                               inits, builder.getArrayAttr(inputAccesses), builder.getArrayAttr(initAccesses));
  part->setDiscardableAttrs(kernel->getDiscardableAttrDictionary());
  if (pieces[piece].kind == Piece::CopiedCall)
    part->setAttr(declinedAttrName, builder.getStringAttr("cuBLAS is estimated to be faster"));
  Block &body = part.getBody().emplaceBlock();
  OpBuilder inside = OpBuilder::atBlockEnd(&body);
  IRMapping mapping;
  for (Value root : roots)
    mapping.map(root, body.addArgument(root.getType(), loc));
  for (Operation *op : pieces[piece].ops)
    cloneInto(inside, op->getResult(0), mapping);
  for (Value value : passed)
    yielded.push_back(mapping.lookup(value));
  for (unsigned i : finished)
    yielded.push_back(cloneInto(inside, kernel.getYielded()[i], mapping));
  YieldOp::create(inside, loc, yielded);
  for (auto [i, value] : llvm::enumerate(passed))
    wholes[value] = {part.getResult(i), AccessAttr::getSelect(kernel.getContext(), 0)};
  for (auto [i, result] : llvm::enumerate(finished))
    results[result] = part.getResult(passed.size() + i);
}

/// A tensor as the body sees it.
Value Splitter::asStack(Value root) {
  Whole whole = wholes[root];
  if (whole.tensor.getType() == root.getType() &&
      (whole.access.isShared() || whole.access == AccessAttr::getSelect(kernel.getContext(), 0)))
    return whole.tensor;
  return GatherInstancesOp::create(builder, kernel.getLoc(), ranked(root), whole.tensor, whole.access,
                                   /*sizes=*/nullptr);
}

void Splitter::createCall(int piece) {
  IRMapping mapping;
  for (Value root : collectRoots(piece))
    mapping.map(root, asStack(root));
  Value result = pieces[piece].ops.front()->getResult(0);
  wholes[result] = {cloneInto(builder, result, mapping), AccessAttr::getSelect(kernel.getContext(), 0)};
}

void Splitter::run() {
  for (BlockArgument argument : kernel.getBodyBlock()->getArguments())
    wholes[argument] = {kernel.getInputs()[argument.getArgNumber()], kernel.getInputAccess(argument.getArgNumber())};
  results.resize(kernel.getNumResults());
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].kind == Piece::Call)
      createCall(i);
    else
      createKernel(i);
  }
  kernel->replaceAllUsesWith(results);
  kernel.erase();
}

LogicalResult mlir::pfcn::splitKernel(KernelOp kernel, ArrayRef<Piece> pieces) {
  Splitter splitter(kernel, pieces);
  if (pieces.size() < 2 || failed(splitter.check()))
    return failure();
  splitter.run();
  return success();
}
