//===- PfcnToLinalg.cpp - lowers the bodies of kernels ---------------------------===//
//
// A kernel is lowered on a copy, which takes its place if no op of it was declined: so no
// predicate has to foresee what a lowering can do, and a kernel is never left half lowered.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Conversion/PfcnToLinalg/ConvertBody.h"
#include "pfcn/Conversion/PfcnToLinalg/Passes.h"

#include "Lowering.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Remarks.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/FormatVariadic.h"

namespace mlir::pfcn {
#define GEN_PASS_DEF_CONVERTPFCNTOLINALG
#include "pfcn/Conversion/PfcnToLinalg/Passes.h.inc"
} // namespace mlir::pfcn

using namespace mlir;
using namespace mlir::pfcn;

static bool isSupported(Type elementType) {
  return elementType.isF16() || elementType.isBF16() || elementType.isF32() || elementType.isF64() ||
         elementType.isInteger();
}

/// The constant as an arith.constant; lowered ops have captured what they need of it.
static FailureOr<Value> lowerConstant(Lowering &lowering, ConstantOp op) {
  auto value = dyn_cast<TypedAttr>(op.getValue());
  if (!value)
    return lowering.decline("its value has no type");
  return arith::ConstantOp::create(lowering, value).getResult();
}

static FailureOr<Value> lower(Lowering &lowering, Operation *op) {
  for (Type type : llvm::concat<const Type>(op->getOperandTypes(), op->getResultTypes())) {
    // Slices of them are out of bounds for tensor.extract_slice, and extremes of them are an error in torch.
    if (llvm::is_contained(cast<RankedTensorType>(type).getShape(), 0))
      return lowering.decline("it has a tensor without elements");
    if (!isSupported(getElementTypeOrSelf(type)))
      return lowering.decline(llvm::formatv("no lowering for elements of type {0}", getElementTypeOrSelf(type)).str());
  }
  return TypeSwitch<Operation *, FailureOr<Value>>(op)
      .Case([&](ConstantOp constant) { return lowerConstant(lowering, constant); })
      .Case<LinearOp, MatmulOp, AddmmOp, BatchMatmulOp>([&](auto) { return lowerContraction(lowering, op); })
      .Case<ConvOp, MaxPoolOp, AvgPoolOp, PadOp, FlipOp>([&](auto) { return lowerWindows(lowering, op); })
      .Case<SumOp, MeanOp, AmaxOp, AminOp, ProdOp, SoftmaxOp, LogSoftmaxOp, LayerNormOp, BatchNormOp>(
          [&](auto) { return lowerReduction(lowering, op); })
      .Case([&](RecurrenceOp recurrence) { return lowerRecurrence(lowering, recurrence); })
      .Case([&](RecurrenceAdjointOp adjoint) { return lowerRecurrenceAdjoint(lowering, adjoint); })
      .Case<ReshapeOp, PermuteOp, SliceOp, SelectOp, UnsqueezeOp, SqueezeOp, ExpandOp, CatOp, StackOp>(
          [&](auto) { return lowerView(lowering, op); })
      .Default([&](Operation *) { return lowerPointwise(lowering, op); });
}

/// Puts the lowering of an op in its place.
static LogicalResult replaceWithLowering(Operation *op, std::string &reason) {
  Lowering lowering(op);
  FailureOr<Value> value = lower(lowering, op);
  if (failed(value)) {
    reason = lowering.reason;
    return failure();
  }
  Value result = *value;
  if (result.getType() != op->getResult(0).getType())
    result = tensor::CastOp::create(lowering, op->getResult(0).getType(), result);
  op->getResult(0).replaceAllUsesWith(result);
  op->erase();
  return success();
}

/// Whether this pass is the one to lower the op: all of the dialect but parameters, groups and the like.
static bool isComputeOp(Operation *op) { return isa<BatchingOpInterface, ConstantOp>(op); }

/// Constants whose elements went into payloads have no user left, nor have sizes that were not needed.
static void eraseDeadOps(Block &block) {
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
    if (isOpTriviallyDead(&op))
      op.erase();
}

LogicalResult mlir::pfcn::convertBodyToLinalg(KernelOp draft, OpDecline &decline) {
  for (Operation &op : llvm::make_early_inc_range(draft.getBodyBlock()->without_terminator())) {
    decline = {&op, "the op is not a compute op of the dialect"};
    bool isForeign = op.getDialect() == draft->getDialect() && !isComputeOp(&op);
    if (isForeign || (isComputeOp(&op) && failed(replaceWithLowering(&op, decline.reason))))
      return failure();
  }
  eraseDeadOps(*draft.getBodyBlock());
  return success();
}

static void reportMissed(KernelOp kernel, const OpDecline &decline) {
  remark::missed(decline.op->getLoc(), remark::RemarkOpts::name("KernelNotLowered").category("pfcn.lowering"))
      << remark::add("kernel '{0}' runs op by op: {1} has no lowering here", kernel.getName().str(),
                     decline.op->getName().getStringRef().str())
      << remark::reason("{0}", decline.reason);
  kernel->setAttr(declinedAttrName, StringAttr::get(kernel.getContext(), decline.str()));
}

static void lowerKernel(KernelOp kernel) {
  OpBuilder builder(kernel);
  auto draft = cast<KernelOp>(builder.clone(*kernel));
  OpDecline decline;
  if (failed(convertBodyToLinalg(draft, decline))) {
    reportMissed(kernel, decline);
    draft.erase();
    return;
  }
  kernel.replaceAllUsesWith(draft);
  kernel.erase();
}

static void lowerFunction(FunctionOpInterface function) {
  for (Block &block : function.getFunctionBody()) {
    std::string reason;
    for (Operation &op : llvm::make_early_inc_range(block))
      if (isComputeOp(&op) && failed(replaceWithLowering(&op, reason)))
        remark::missed(op.getLoc(), remark::RemarkOpts::name("OpNotLowered").category("pfcn.lowering"))
            << remark::add("{0} has no lowering here", op.getName().getStringRef().str())
            << remark::reason("{0}", reason);
    eraseDeadOps(block);
  }
}

namespace {
struct ConvertPfcnToLinalg : public mlir::pfcn::impl::ConvertPfcnToLinalgBase<ConvertPfcnToLinalg> {
  using ConvertPfcnToLinalgBase::ConvertPfcnToLinalgBase;

  void runOnOperation() override {
    SmallVector<KernelOp> kernels;
    getOperation()->walk([&](KernelOp kernel) { kernels.push_back(kernel); });
    llvm::for_each(kernels, lowerKernel);
    if (everywhere)
      getOperation()->walk(lowerFunction);
  }
};
} // namespace
