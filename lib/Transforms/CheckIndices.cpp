//===- CheckIndices.cpp - what a kernel would not notice, asked before it -----------===//
//
// Torch raises for a class number that is no class. The formula of `one_hot` or of a loss over classes gives zeros for
// it, and a table of embeddings that holds n tables in one gives a row of the next. So the indices go through an
// operator that looks at them, one call for all instances. Outside of groups torch's own operators run, and check.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Transforms/CheckIndices.h"

#include "pfcn/Transforms/Passes.h"

#include "mlir/IR/Builders.h"

namespace mlir::pfcn {
#define GEN_PASS_DEF_CHECKINDICESPASS
#include "pfcn/Transforms/Passes.h.inc"
} // namespace mlir::pfcn

using namespace mlir;
using namespace mlir::pfcn;

static constexpr llvm::StringLiteral kCheckName = "pfcn::check_index";

Value mlir::pfcn::buildLastIndex(OpBuilder &builder, Location loc, int64_t size) {
  auto type = RankedTensorType::get({}, builder.getI64Type());
  return ConstantOp::create(builder, loc, type, DenseElementsAttr::get(type, APInt(64, size - 1, /*isSigned=*/true)));
}

Value mlir::pfcn::buildIndexCheck(OpBuilder &builder, Location loc, Value indices, Value last, StringRef operatorName,
                                  std::optional<int64_t> ignored) {
  Attribute exception = ignored ? Attribute(builder.getI64IntegerAttr(*ignored)) : builder.getUnitAttr();
  Attribute arguments[] = {OperandAttr::get(builder.getContext(), 0), OperandAttr::get(builder.getContext(), 1),
                           builder.getStringAttr(operatorName), exception};
  auto check = OpaqueOp::create(builder, loc, TypeRange{indices.getType()}, kCheckName, ValueRange{indices, last},
                                builder.getArrayAttr(arguments), /*effect=*/false, /*random=*/false,
                                /*batched=*/DenseBoolArrayAttr());
  SmallVector<Attribute> sizes;
  for (int64_t dim = 0; dim < ranked(indices).getRank(); ++dim)
    if (ranked(indices).isDynamicDim(dim))
      sizes.push_back(builder.getDenseI64ArrayAttr({/*result=*/0, dim, /*operand=*/0, dim}));
  if (!sizes.empty())
    check->setAttr(sizesAttrName, builder.getArrayAttr(sizes));
  return check.getResult(0);
}

namespace {

/// What an operator indexes: a dimension of this size, with an operand.
struct Indexing {
  OpOperand *indices;
  int64_t size;
  std::optional<int64_t> ignored;
};

} // namespace

/// The operand that is argument `index` of the torch operator.
static OpOperand *getArgument(Operation *op, ArrayAttr arguments, unsigned index) {
  auto operand = index < arguments.size() ? dyn_cast<OperandAttr>(arguments[index]) : OperandAttr();
  return operand ? &op->getOpOperand(operand.getIndex()) : nullptr;
}

static std::optional<int64_t> getInteger(ArrayAttr arguments, unsigned index) {
  auto integer = index < arguments.size() ? dyn_cast<IntegerAttr>(arguments[index]) : IntegerAttr();
  return integer ? std::optional(integer.getInt()) : std::nullopt;
}

/// Of an operator that nothing checks once it is in a group.
static std::optional<Indexing> getIndexing(Operation *op, StringRef name, ArrayAttr arguments) {
  OpOperand *first = getArgument(op, arguments, 0), *second = getArgument(op, arguments, 1);
  if (!first)
    return std::nullopt;
  if (name == "aten::one_hot")
    return Indexing{first, ranked(op->getResult(0)).getShape().back(), std::nullopt};
  if (!second || !ranked(second->get()).getElementType().isSignlessInteger())
    return std::nullopt;
  if (name == "aten::embedding")
    return Indexing{second, ranked(first->get()).getDimSize(0), std::nullopt};
  if (name == "aten::cross_entropy_loss" || name == "aten::nll_loss" || name == "aten::nll_loss_nd") {
    RankedTensorType logits = ranked(first->get());
    return Indexing{second, logits.getDimSize(logits.getRank() == 1 ? 0 : 1), getInteger(arguments, 4)};
  }
  return std::nullopt;
}

/// Places of a largest element are within the dimension where it was looked for.
static bool isInBounds(Value indices, int64_t size) {
  auto composed = indices.getDefiningOp<ComposedOp>();
  if (!composed || composed.getName() != "aten::argmax")
    return false;
  std::optional<int64_t> dim = getInteger(composed.getArguments(), 1);
  RankedTensorType input = ranked(composed.getInputs().front());
  if (!dim || input.getRank() == 0)
    return false;
  int64_t places = input.getDimSize(*dim < 0 ? *dim + input.getRank() : *dim);
  return !ShapedType::isDynamic(places) && places <= size;
}

static void check(Operation *op, StringRef name, ArrayAttr arguments) {
  std::optional<Indexing> indexing = getIndexing(op, name, arguments);
  if (!indexing || ShapedType::isDynamic(indexing->size) || isInBounds(indexing->indices->get(), indexing->size))
    return;
  OpBuilder builder(op);
  Value last = buildLastIndex(builder, op->getLoc(), indexing->size);
  indexing->indices->set(
      buildIndexCheck(builder, op->getLoc(), indexing->indices->get(), last, name, indexing->ignored));
}

namespace {

struct CheckIndices : mlir::pfcn::impl::CheckIndicesPassBase<CheckIndices> {
  void runOnOperation() override {
    getOperation().walk([](InstancesOp group) {
      for (Operation &op : llvm::make_early_inc_range(*group.getBodyBlock())) {
        if (auto composed = dyn_cast<ComposedOp>(op))
          check(composed, composed.getName(), composed.getArguments());
        else if (auto call = dyn_cast<OpaqueOp>(op))
          check(call, call.getName(), call.getArguments());
      }
    });
  }
};

} // namespace
