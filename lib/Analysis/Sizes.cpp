//===- Sizes.cpp - where a dynamic size comes from --------------------------------===//
//
// A destination is allocated before its group runs, so its dynamic sizes are traced back
// through the body to a value outside of it, mostly an argument of the function.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Analysis/Isomorphism.h"

#include "llvm/ADT/TypeSwitch.h"

#include <numeric>

using namespace mlir;
using namespace mlir::pfcn;

using MaybeSize = std::optional<SizeSource>;

/// Of operands that broadcast: a dynamic size of one of them. (Where two are dynamic they
/// are equal: a size of 1 is never dynamic in a recording.)
static MaybeSize findBroadcast(ValueRange operands, int64_t fromBack) {
  for (Value operand : operands) {
    int64_t dim = ranked(operand).getRank() - 1 - fromBack;
    if (dim >= 0 && ranked(operand).isDynamicDim(dim))
      return findSize(operand, dim);
  }
  return std::nullopt;
}

static MaybeSize findMatmul(Value lhs, Value rhs, bool transposeRhs, int64_t fromBack) {
  int64_t rank = ranked(rhs).getRank();
  if (fromBack == 0)
    return findSize(rhs, rank - (transposeRhs ? 2 : 1));
  if (fromBack == 1)
    return findSize(lhs, ranked(lhs).getRank() - 2);
  return findBroadcast({lhs, rhs}, fromBack);
}

/// Where all dimensions but `dropped` are kept.
static MaybeSize findKept(Value input, ArrayRef<int64_t> dropped, int64_t dim) {
  for (int64_t from = 0; from < ranked(input).getRank(); ++from)
    if (!llvm::is_contained(dropped, from) && dim-- == 0)
      return findSize(input, from);
  return std::nullopt;
}

static int64_t staticProduct(ArrayRef<int64_t> sizes) {
  int64_t product = 1;
  for (int64_t size : sizes)
    product *= ShapedType::isDynamic(size) ? 1 : size;
  return product;
}

static MaybeSize findReshape(ReshapeOp op, int64_t dim) {
  ArrayRef<int64_t> from = ranked(op.getInput()).getShape(), to = op.getType().getShape();
  std::optional<int64_t> carried = countCarriedDims(from, to);
  if (!carried)
    return std::nullopt;
  if (dim < *carried)
    return findSize(op.getInput(), dim);
  from = from.drop_front(*carried);
  to = to.drop_front(*carried);
  if (staticProduct(to) == 0)
    return std::nullopt;
  int64_t dynamic = *carried + (llvm::find(from, ShapedType::kDynamic) - from.begin());
  MaybeSize size = findSize(op.getInput(), dynamic);
  if (size) {
    size->multiplier *= staticProduct(from);
    size->divisor *= staticProduct(to);
    int64_t common = std::gcd(size->multiplier, size->divisor);
    size->multiplier /= common;
    size->divisor /= common;
  }
  return size;
}

/// What the importer knows of a foreign operator; else its result has to be asked.
static MaybeSize findForeign(OpaqueOp op, Value value, int64_t dim) {
  auto known = op->getAttrOfType<ArrayAttr>(sizesAttrName);
  for (Attribute entry : known ? known.getValue() : ArrayRef<Attribute>()) {
    ArrayRef<int64_t> size = cast<DenseI64ArrayAttr>(entry).asArrayRef();
    if (size[0] == cast<OpResult>(value).getResultNumber() && size[1] == dim)
      return findSize(op.getInputs()[size[2]], size[3]);
  }
  return SizeSource{value, dim};
}

MaybeSize mlir::pfcn::findSize(Value value, int64_t dim) {
  Operation *op = value.getDefiningOp();
  if (!op) {
    auto argument = cast<BlockArgument>(value);
    if (auto composed = dyn_cast<ComposedOp>(argument.getOwner()->getParentOp()))
      return findSize(composed.getInputs()[argument.getArgNumber()], dim);
    return SizeSource{value, dim};
  }
  int64_t fromBack = ranked(value).getRank() - 1 - dim;
  return TypeSwitch<Operation *, MaybeSize>(op)
      .Case<LinearOp>([&](LinearOp linear) {
        return fromBack == 0 ? findSize(linear.getWeight(), 0) : findSize(linear.getInput(), dim);
      })
      .Case<MatmulOp>([&](MatmulOp matmul) { return findMatmul(matmul.getLhs(), matmul.getRhs(), false, fromBack); })
      .Case<BatchMatmulOp>([&](BatchMatmulOp matmul) {
        return findMatmul(matmul.getLhs(), matmul.getRhs(), matmul.getTransposeRhs(), fromBack);
      })
      .Case<AddmmOp>([&](AddmmOp addmm) { return findMatmul(addmm.getLhs(), addmm.getRhs(), false, fromBack); })
      .Case<SumOp, MeanOp, AmaxOp, AminOp, ProdOp>([&](auto reduction) {
        return findKept(reduction.getInput(), reduction.getKeepdim() ? ArrayRef<int64_t>() : reduction.getDims(), dim);
      })
      .Case<ConvOp>([&](ConvOp conv) {
        int64_t sample = conv.getType().getRank() - static_cast<int64_t>(conv.getStride().size()) - 2;
        return dim == sample ? findSize(conv.getInput(), ranked(conv.getInput()).getRank() - 1 - fromBack)
                             : MaybeSize();
      })
      .Case<MaxPoolOp, AvgPoolOp>([&](auto pool) {
        bool isKept = fromBack >= static_cast<int64_t>(pool.getKernel().size());
        return isKept ? findSize(pool.getInput(), dim) : MaybeSize();
      })
      .Case<GatherInstancesOp>([&](GatherInstancesOp gather) {
        bool isSlice = dim > 0 && gather.getAccess().isSlice();
        return isSlice ? findSize(gather.getInput(), dim - 1) : MaybeSize(SizeSource{value, dim});
      })
      .Case<PadOp, LayerNormOp, BatchNormOp>([&](auto other) { return findSize(other.getInput(), dim); })
      .Case<ComposedOp>([&](ComposedOp composed) { return findSize(composed.getYielded(), dim); })
      .Case<ReshapeOp>([&](ReshapeOp reshape) { return findReshape(reshape, dim); })
      .Case<PermuteOp>([&](PermuteOp permute) { return findSize(permute.getInput(), permute.getPermutation()[dim]); })
      .Case<SliceOp>([&](SliceOp slice) {
        bool isWhole = slice.getStart() == 0 && slice.getStep() == 1;
        return static_cast<int64_t>(slice.getDim()) != dim || isWhole ? findSize(slice.getInput(), dim) : MaybeSize();
      })
      .Case<SelectOp>([&](SelectOp select) {
        return findSize(select.getInput(), dim + (dim >= static_cast<int64_t>(select.getDim()) ? 1 : 0));
      })
      .Case<UnsqueezeOp>([&](UnsqueezeOp unsqueeze) {
        return findSize(unsqueeze.getInput(), dim - (dim > static_cast<int64_t>(unsqueeze.getDim()) ? 1 : 0));
      })
      .Case<SqueezeOp>([&](SqueezeOp squeeze) { return findKept(squeeze.getInput(), squeeze.getDims(), dim); })
      .Case<CatOp>([&](CatOp cat) {
        return static_cast<int64_t>(cat.getDim()) == dim ? MaybeSize() : findSize(cat.getInputs().front(), dim);
      })
      .Case<StackOp>([&](StackOp stack) {
        return findSize(stack.getInputs().front(), dim - (dim > static_cast<int64_t>(stack.getDim()) ? 1 : 0));
      })
      .Case<ExpandOp>([&](ExpandOp expand) {
        int64_t from = ranked(expand.getInput()).getRank() - 1 - fromBack;
        bool isKept = from >= 0 && ranked(expand.getInput()).isDynamicDim(from);
        return isKept ? findSize(expand.getInput(), from) : MaybeSize();
      })
      .Case<OpaqueOp>([&](OpaqueOp opaque) { return findForeign(opaque, value, dim); })
      .Case<RecurrenceOp>([&](RecurrenceOp recurrence) { return findSize(recurrence.getInput(), dim); })
      .Case<RecurrenceAdjointOp>([&](RecurrenceAdjointOp adjoint) { return findSize(adjoint.getUpstream(), dim); })
      .Default([&](Operation *other) -> MaybeSize {
        if (!isa<BatchingOpInterface>(other)) // no op of a body, so its own result may be asked
          return SizeSource{value, dim};
        bool isPointwise = other->hasTrait<Pointwise>() || other->hasTrait<OpTrait::SameOperandsAndResultType>();
        return isPointwise ? findBroadcast(other->getOperands(), fromBack) : MaybeSize();
      });
}

bool mlir::pfcn::haveEqualSizes(Value a, Value b) {
  for (int64_t dim = 0; a != b && dim < ranked(a).getRank(); ++dim) {
    if (!ranked(a).isDynamicDim(dim))
      continue;
    MaybeSize ofA = findSize(a, dim), ofB = findSize(b, dim);
    if (!ofA || ofA != ofB)
      return false;
  }
  return true;
}
