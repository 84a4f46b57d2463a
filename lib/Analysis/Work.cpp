//===- Work.cpp - how much an op computes and moves ---------------------------------===//

#include "pfcn/Analysis/Work.h"

#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace mlir::pfcn;

static ArrayRef<int64_t> shapeOf(Value value) { return cast<RankedTensorType>(value.getType()).getShape(); }

double mlir::pfcn::countElements(Value value) {
  double elements = 1;
  for (int64_t size : shapeOf(value))
    elements *= assumeSize(size);
  return elements;
}

static double getElementBytes(Type type) {
  if (auto complex = dyn_cast<ComplexType>(type))
    return 2 * getElementBytes(complex.getElementType());
  return std::max<unsigned>(1, type.getIntOrFloatBitWidth() / 8);
}

double mlir::pfcn::countBytes(Value value) {
  return countElements(value) * getElementBytes(getElementTypeOrSelf(value));
}

double mlir::pfcn::countBytes(Operation *op) {
  double bytes = 0;
  for (Value value : llvm::concat<Value>(op->getOperands(), op->getResults()))
    bytes += countBytes(value);
  return bytes;
}

bool mlir::pfcn::isProduct(Operation *op) { return isa<LinearOp, MatmulOp, AddmmOp, BatchMatmulOp, ConvOp>(op); }

bool mlir::pfcn::isView(Operation *op) {
  return isa<ReshapeOp, PermuteOp, SliceOp, SelectOp, UnsqueezeOp, SqueezeOp, ExpandOp>(op);
}

bool mlir::pfcn::isFree(Operation *op) { return isa<ConstantOp>(op) || isView(op); }

double mlir::pfcn::getDepth(Operation *product) {
  auto conv = dyn_cast<ConvOp>(product);
  if (!conv)
    return assumeSize(shapeOf(product->getOperand(isa<AddmmOp>(product) ? 1 : 0)).back());
  // Input channels and window; a transposed one has output channels there.
  double depth = 1;
  for (int64_t size : shapeOf(conv.getWeight()).take_back(conv.getStride().size() + 1))
    depth *= assumeSize(size);
  return depth;
}

double mlir::pfcn::countFlops(Operation *op) {
  double flops = 0;
  if (auto composed = dyn_cast<ComposedOp>(op)) {
    for (Operation &inner : composed.getBodyBlock()->without_terminator())
      flops += countFlops(&inner);
    return flops;
  }
  if (isa<OpaqueOp>(op) || isFree(op) || op->getNumResults() == 0)
    return 0;
  return countElements(op->getResult(0)) * (isProduct(op) ? 2 * getDepth(op) : 1);
}
