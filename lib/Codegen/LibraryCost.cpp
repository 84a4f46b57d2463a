//===- LibraryCost.cpp - what a kernel would cost on torch's functions -------------===//
//
// A vector operation takes about 0.17 ns. The constants are of torch 2.13 with MKL on one core of a server (AMD
// EPYC, AVX-512); only their ratios matter.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Codegen/LibraryCost.h"

#include "pfcn/Analysis/Work.h"

using namespace mlir;
using namespace mlir::pfcn;

// A call through the dispatcher with its new tensor takes 2 us, a small matrix in a batched product 50 ns.
constexpr double callCost = 12000, matrixCost = 300;
constexpr double transcendentalCost = 16;
// Matrices that are read row by row come from memory less evenly than one stream does.
constexpr double rowsFactor = 1.5;

double mlir::pfcn::getStreamCost(double bytes) {
  double each = bytes > (24 << 20) ? 8 : bytes > (2 << 20) ? 4 : 1;
  return bytes / 64 * each;
}

static RankedTensorType ranked(Value value) { return cast<RankedTensorType>(value.getType()); }

/// A convolution in as many groups as there are instances. Those of few channels run at a fraction of the rate.
static double estimateConv(ConvOp op, double lanes, double rate) {
  constexpr double channelsForFullRate = 64;
  ArrayRef<int64_t> filter = cast<RankedTensorType>(op.getWeight().getType())
                                 .getShape()
                                 .take_back(op.getStride().size() +
                                            1); // input channels and window; a transposed one has output channels there
  double depth = 1;
  for (int64_t size : filter)
    depth *= static_cast<double>(size);
  double part = std::clamp(static_cast<double>(filter.front()) / channelsForFullRate, 0.05, 1.0);
  return countElements(op.getResult()) * depth / lanes / (rate * part);
}

static double estimateProduct(Operation *op, double lanes, double rate) {
  Value lhs = op->getOperand(isa<AddmmOp>(op) ? 1 : 0);
  auto sizes = cast<RankedTensorType>(lhs.getType()).getShape();
  double depth = ShapedType::isDynamic(sizes.back()) ? assumedDynamicSize : sizes.back();
  double matrices = 1;
  for (int64_t size : cast<RankedTensorType>(op->getResult(0).getType()).getShape().drop_back(2))
    matrices *= ShapedType::isDynamic(size) ? assumedDynamicSize : size;
  return countElements(op->getResult(0)) * depth / lanes / rate + matrices * matrixCost;
}

std::optional<double> mlir::pfcn::estimateLibrary(KernelOp kernel, int64_t vectorBytes, double rate) {
  double cost = 0, lanes = vectorBytes / 4.0;
  bool hasProduct = false;
  auto addCall = [&](double compute, double bytes) {
    cost += callCost + std::max(compute, rowsFactor * getStreamCost(bytes));
  };
  // Per step two products and some ten elementwise calls, which read and write tensors of the size of the gates.
  auto addRecurrence = [&](auto op, double states, double depth) {
    double steps = ShapedType::isDynamic(op.getSteps()) ? assumedDynamicSize : op.getSteps();
    double gates = states * RecurrenceOp::getGateCount(op.getKind());
    double multiply = gates * depth / lanes / rate + 2 * kernel.getCount() * matrixCost;
    double pointwise = gates / lanes * transcendentalCost + 10 * rowsFactor * getStreamCost(3 * gates * sizeof(float));
    cost += steps * (12 * callCost + multiply + pointwise);
  };
  for (Operation &op : kernel.getBodyBlock()->without_terminator()) {
    if (op.getDialect() != kernel->getDialect())
      return std::nullopt;
    if (isa<ConstantOp, ReshapeOp, PermuteOp, SliceOp, SelectOp, UnsqueezeOp, SqueezeOp, ExpandOp>(op))
      continue; // mostly views
    if (auto recurrence = dyn_cast<RecurrenceOp>(op)) {
      hasProduct = true;
      addRecurrence(recurrence, countElements(recurrence.getHidden()),
                    ranked(recurrence.getInput()).getShape().back() + recurrence.getWidth());
      continue;
    }
    if (auto adjoint = dyn_cast<RecurrenceAdjointOp>(op)) {
      hasProduct = true;
      double steps = ShapedType::isDynamic(adjoint.getSteps()) ? assumedDynamicSize : adjoint.getSteps();
      addRecurrence(adjoint, countElements(adjoint.getUpstream()) / steps, adjoint.getWidth());
      continue;
    }
    hasProduct |= isProduct(&op);
    if (auto conv = dyn_cast<ConvOp>(op))
      addCall(estimateConv(conv, lanes, rate), countBytes(&op));
    else if (isProduct(&op))
      addCall(estimateProduct(&op, lanes, rate), countBytes(&op));
    else
      addCall(isa<AddOp, SubOp, MulOp, ReluOp>(op) ? 0 : countElements(op.getResult(0)) / lanes * transcendentalCost,
              countBytes(&op));
  }
  for (Value value : kernel.getYielded()) // copied to where it belongs
    addCall(0, 2 * countBytes(value));
  return hasProduct ? std::optional(cost) : std::nullopt;
}
