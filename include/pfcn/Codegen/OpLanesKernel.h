//===- OpLanesKernel.h - a CPU kernel whose ops choose their lanes -------*- C++ -*-===//

#ifndef PFCN_CODEGEN_OPLANESKERNEL_H
#define PFCN_CODEGEN_OPLANESKERNEL_H

#include "pfcn/Codegen/CpuKernel.h"
#include "pfcn/Codegen/OpLanes.h"

namespace mlir::pfcn {

class OpLanesKernel final : public CpuKernel {
public:
  OpLanesKernel(KernelOp kernel, const ParallelDims &dims, const Schedule &schedule, const EmitOptions &options,
                OpBuilder at)
      : CpuKernel(kernel, dims, schedule, options, at), lanes(*schedule.opLanes), width(lanes.getWidth()) {}

private:
  int64_t getInnermostDim(Value value) override {
    return turnedDim >= 0 ? turnedDim : isRowMajor ? -1 : lanes.getInnermostDim(value);
  }
  bool storesDirectly(Value value, const Buffer &output) override;
  void emitArgument(BlockArgument argument) override;
  void emitYield(unsigned result) override;
  void emitGeneric(linalg::GenericOp root) override;
  Value emitPayload(linalg::GenericOp op, ArrayRef<OpFoldResult> indices, Value known, Value knownAs,
                    Value accumulator) override;
  Value loadOperand(Value value, AffineMap map, ArrayRef<OpFoldResult> indices) override;
  void storeResult(linalg::GenericOp op, Value value, ArrayRef<OpFoldResult> indices) override;
  bool computesLanes(linalg::GenericOp op) override { return activeLoops.contains(op); }
  SmallVector<OpFoldResult> getNeighbour(ArrayRef<OpFoldResult> point, unsigned loop, int64_t distance) override;
  void emitCopy(const Buffer &from, Value value, const Buffer &to) override;
  Buffer makeContiguous(Value value) override;

  void activate(linalg::GenericOp root, unsigned loop, SmallVectorImpl<linalg::GenericOp> &epilogue);
  void turnOperands(linalg::GenericOp op, SmallVectorImpl<std::pair<Value, Buffer>> &before);
  void emitFolded(linalg::GenericOp root, ArrayRef<linalg::GenericOp> epilogue, SmallVector<OpFoldResult> &indices,
                  ArrayRef<unsigned> parallel);
  void emitFoldedBlock(linalg::GenericOp root, ArrayRef<linalg::GenericOp> epilogue, SmallVector<OpFoldResult> &indices,
                       ArrayRef<unsigned> reductions, ArrayRef<BlockedLoop> block);
  void walkLanes(int64_t size, function_ref<void(OpFoldResult)> body);

  const OpLanes &lanes;
  int64_t width;
  /// The loop of an op that lies across the lanes while it is emitted.
  llvm::DenseMap<Operation *, unsigned> activeLoops;
  unsigned activeLoop = OpLanes::Choice::none;
  bool isRowMajor = false;
  /// Of the value for which scratch is allocated, where it is turned.
  int64_t turnedDim = -1;
};

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_OPLANESKERNEL_H
