//===- Product.cpp - a matrix product for tensor cores -------------------------------===//

#include "pfcn/Codegen/Product.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::pfcn;

TensorCores TensorCores::of(StringRef chip, bool allowTf32) {
  int64_t capability = 0;
  if (!chip.consume_front("sm_") || chip.consumeInteger(10, capability))
    return {};
  TensorCores cores;
  cores.f16 = capability >= 75;
  cores.bf16 = capability >= 80;
  cores.tf32 = capability >= 80 && allowTf32;
  cores.depth = capability >= 80 ? 16 : 8;
  return cores;
}

bool TensorCores::multiplies(Type element) const {
  return (element.isF16() && f16) || (element.isBF16() && bf16) || (element.isF32() && tf32);
}

std::string TensorCores::getInstruction(Type element) const {
  StringRef type = element.isF16() ? "f16" : element.isBF16() ? "bf16" : "tf32";
  return ("mma.m16n8k" + Twine(getDepth(element)) + "." + type).str();
}

FailureOr<FragmentShape> FragmentShape::of(Value value, const ParallelDims &dims, const Schedule &schedule) {
  FragmentShape shape;
  for (auto [dim, size] : llvm::enumerate(cast<RankedTensorType>(value.getType()).getShape())) {
    int cls = dims.getClass(value, dim);
    shape.hasRows |= cls == schedule.laneClass;
    if (schedule.isOuter(cls) || size == 1)
      continue;
    if (shape.features != 0 || ShapedType::isDynamic(size) || size == 0)
      return failure();
    shape.features = size;
    shape.featureDim = dim;
  }
  return shape;
}

/// accumulator + lhs * rhs, where each factor may be widened.
static bool isMultiplyAccumulate(linalg::GenericOp op) {
  Block &body = *op.getBody();
  auto add = body.getTerminator()->getOperand(0).getDefiningOp<arith::AddFOp>();
  BlockArgument accumulator = body.getArgument(2);
  if (!add || !accumulator.hasOneUse() || !llvm::is_contained(add->getOperands(), accumulator))
    return false;
  Value term = add.getLhs() == accumulator ? add.getRhs() : add.getLhs();
  auto multiply = term.getDefiningOp<arith::MulFOp>();
  if (!multiply || !add.getType().isF32())
    return false;
  auto getFactor = [](Value factor) {
    auto widen = factor.getDefiningOp<arith::ExtFOp>();
    return widen ? widen.getIn() : factor;
  };
  Value first = getFactor(multiply.getLhs()), second = getFactor(multiply.getRhs());
  Value lhs = body.getArgument(0), rhs = body.getArgument(1);
  return (first == lhs && second == rhs) || (first == rhs && second == lhs);
}

std::optional<Product> mlir::pfcn::matchProduct(linalg::GenericOp op, const ParallelDims &dims,
                                                const Schedule &schedule) {
  SmallVector<unsigned> reductions;
  op.getReductionDims(reductions);
  if (reductions.size() != 1 || op.getNumDpsInputs() != 2 || op.getNumDpsInits() != 1 || !isMultiplyAccumulate(op))
    return std::nullopt;
  if (!llvm::all_of(op.getIndexingMapsArray(), [](AffineMap map) { return map.isProjectedPermutation(); }))
    return std::nullopt; // windows
  unsigned depthLoop = reductions.front();
  SmallVector<int64_t> sizes = op.getStaticLoopRanges();
  if (ShapedType::isDynamic(sizes[depthLoop]) || sizes[depthLoop] == 0)
    return std::nullopt;
  auto hasRows = [&](OpOperand *operand) {
    auto rank = cast<RankedTensorType>(operand->get().getType()).getRank();
    return llvm::any_of(llvm::seq(rank),
                        [&](int64_t dim) { return dims.getClass(operand->get(), dim) == schedule.laneClass; });
  };
  Product product{op.getDpsInputOperand(0), op.getDpsInputOperand(1)};
  if (hasRows(product.rhs))
    std::swap(product.lhs, product.rhs);
  if (!hasRows(product.lhs) || hasRows(product.rhs) ||
      product.getElementType() != getElementTypeOrSelf(product.rhs->get()))
    return std::nullopt;
  product.depth = sizes[depthLoop];
  for (auto [dim, expr] : llvm::enumerate(op.getMatchingIndexingMap(product.rhs).getResults())) {
    unsigned loop = cast<AffineDimExpr>(expr).getPosition();
    if (loop == depthLoop) {
      product.depthDim = dim;
    } else if (!schedule.isOuter(dims.getClass(op, loop)) && sizes[loop] != 1) {
      if (product.columnDim >= 0 || ShapedType::isDynamic(sizes[loop]))
        return std::nullopt;
      product.columnDim = dim;
      product.columns = sizes[loop];
    }
  }
  // The rows have their features along the depth only, and the result has them along the columns.
  FailureOr<FragmentShape> rows = FragmentShape::of(product.lhs->get(), dims, schedule);
  FailureOr<FragmentShape> result = FragmentShape::of(op->getResult(0), dims, schedule);
  int64_t lhsDepth = llvm::count_if(op.getMatchingIndexingMap(product.lhs).getResults(), [&](AffineExpr expr) {
    return cast<AffineDimExpr>(expr).getPosition() == depthLoop;
  });
  bool fits = succeeded(rows) && succeeded(result) && product.depthDim >= 0 && lhsDepth == 1 &&
              rows->features == (product.depth == 1 ? 0 : product.depth) &&
              result->features == (product.columns == 1 ? 0 : product.columns);
  return fits ? std::optional(product) : std::nullopt;
}
