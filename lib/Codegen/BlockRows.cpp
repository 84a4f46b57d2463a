//===- BlockRows.cpp - ops that compute several rows of a batch ---------------------===//

#include "pfcn/Codegen/BlockRows.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::pfcn;

namespace {

/// Makes the dimensions of a class as large as a block.
class RowBlocker {
public:
  RowBlocker(const ParallelDims &dims, int cls, int64_t rows) : dims(dims), cls(cls), rows(rows) {}

  /// Null where an op depends on the size of the class, or on where in it an element is.
  OwningOpRef<KernelOp> run(KernelOp kernel);

private:
  bool hasClass(Value value, int64_t dim) const { return dims.getClass(value, dim) == cls; }
  RankedTensorType getType(Value value) const;
  bool isIndependent(Operation *op) const;
  void retype(Operation *op, Operation *copy) const;
  DenseI64ArrayAttr getSizes(Value value, ArrayRef<int64_t> sizes) const;

  const ParallelDims &dims;
  int cls;
  int64_t rows;
};

} // namespace

RankedTensorType RowBlocker::getType(Value value) const {
  auto type = cast<RankedTensorType>(value.getType());
  return type.clone(getSizes(value, type.getShape()).asArrayRef());
}

DenseI64ArrayAttr RowBlocker::getSizes(Value value, ArrayRef<int64_t> sizes) const {
  SmallVector<int64_t> blocked(sizes);
  for (auto [dim, size] : llvm::enumerate(blocked))
    if (hasClass(value, dim))
      size = rows;
  return DenseI64ArrayAttr::get(value.getContext(), blocked);
}

bool RowBlocker::isIndependent(Operation *op) const {
  if (auto index = dyn_cast<linalg::IndexOp>(op))
    return dims.getClass(index->getParentOfType<linalg::GenericOp>(), index.getDim()) != cls;
  if (isa<tensor::DimOp>(op))
    return false;
  if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
    auto elements = dyn_cast<DenseElementsAttr>(constant.getValue());
    return !elements || elements.isSplat() || getType(constant.getResult()) == constant.getType();
  }
  return true;
}

/// Types of results and of blocks, and the attributes that follow from them.
void RowBlocker::retype(Operation *op, Operation *copy) const {
  auto setType = [&](Value value, Value other) {
    if (isa<RankedTensorType>(value.getType()))
      other.setType(getType(value));
  };
  for (auto [value, other] : llvm::zip_equal(op->getResults(), copy->getResults()))
    setType(value, other);
  for (auto [region, others] : llvm::zip_equal(op->getRegions(), copy->getRegions()))
    for (auto [block, other] : llvm::zip_equal(region, others))
      for (auto [argument, otherArgument] : llvm::zip_equal(block.getArguments(), other.getArguments()))
        setType(argument, otherArgument);
  llvm::TypeSwitch<Operation *>(copy)
      .Case([&](tensor::ExpandShapeOp expand) {
        expand.setStaticOutputShapeAttr(getSizes(op->getResult(0), expand.getStaticOutputShape()));
      })
      .Case([&](tensor::ExtractSliceOp slice) {
        slice.setStaticSizesAttr(getSizes(op->getOperand(0), slice.getStaticSizes()));
      })
      .Case([&](tensor::InsertSliceOp insert) {
        insert.setStaticSizesAttr(getSizes(op->getResult(0), insert.getStaticSizes()));
      })
      .Case([&](arith::ConstantOp constant) {
        if (auto elements = dyn_cast<DenseElementsAttr>(constant.getValue()); elements && elements.isSplat())
          constant.setValueAttr(elements.resizeSplat(cast<ShapedType>(constant.getType())));
      });
}

OwningOpRef<KernelOp> RowBlocker::run(KernelOp kernel) {
  bool isBlockable =
      !kernel.getBody()
           .walk([&](Operation *op) { return isIndependent(op) ? WalkResult::advance() : WalkResult::interrupt(); })
           .wasInterrupted();
  if (!isBlockable)
    return {};
  OwningOpRef<KernelOp> copy(cast<KernelOp>(kernel->clone()));
  SmallVector<Operation *> ops, copies;
  kernel.getBody().walk([&](Operation *op) { ops.push_back(op); });
  copy->getBody().walk([&](Operation *op) { copies.push_back(op); });
  for (auto [op, other] : llvm::zip_equal(ops, copies))
    retype(op, other);
  for (auto [argument, other] :
       llvm::zip_equal(kernel.getBodyBlock()->getArguments(), copy->getBodyBlock()->getArguments()))
    other.setType(getType(argument));
  return copy;
}

std::optional<RowBlocks> mlir::pfcn::chooseRowBlocks(KernelOp kernel, const ParallelDims &dims,
                                                     const ScheduleOptions &options) {
  if (options.opLanes == "never" || options.opLanes == "always")
    return std::nullopt;
  std::string ignored;
  FailureOr<Schedule> base = Schedule::getBase(kernel, dims, ignored);
  if (failed(base) || base->outerClasses.empty())
    return std::nullopt;
  // Six rows beside four vectors fill the registers, or beside two where there are fewer; and reading the weights once
  // for four times six hides behind the arithmetic.
  constexpr int64_t rows = 24;
  std::optional<RowBlocks> best;
  for (int cls : base->outerClasses) {
    int64_t size = dims.getSize(cls), dim = 0;
    Value first = kernel.getYielded().front();
    while (dims.getClass(first, dim) != cls)
      ++dim;
    OwningOpRef<KernelOp> copy;
    if (size >= rows) // which one of an unknown size is not
      copy = RowBlocker(dims, cls, rows).run(kernel);
    if (!copy)
      continue;
    FailureOr<ParallelDims> copyDims = ParallelDims::compute(*copy->getBodyBlock(), ignored);
    if (failed(copyDims))
      continue;
    std::optional<Schedule> schedule = Schedule::chooseForBlocks(*copy, *copyDims, options, dim, size);
    if (schedule && (!best || schedule->cost < best->schedule.cost))
      best = RowBlocks{std::move(copy), std::move(*copyDims), std::move(*schedule)};
  }
  return best;
}
