//===- GpuKernel.h - a kernel whose lanes are threads --------------------*- C++ -*-===//
//
// Operands of a tile are brought into shared memory by all threads together; intermediates of a thread lie there too.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_GPUKERNEL_H
#define PFCN_CODEGEN_GPUKERNEL_H

#include "pfcn/Codegen/GpuFrame.h"

namespace mlir::pfcn {

class GpuKernel final : public GpuFrame {
public:
  GpuKernel(KernelOp kernel, const ParallelDims &dims, const Schedule &schedule, const EmitOptions &options,
            int64_t warps, OpBuilder at)
      : GpuFrame(kernel, dims, schedule, options, warps, lanes),
        lanes(at, kernel.getLoc(), schedule.lanes, warps, schedule.sharesLanes) {}

private:
  void setInsertionPointToScratch() override {}
  void beginArguments(int level) override;
  void finishArguments(int level) override;
  bool keepsScratchPerLane() const override { return true; }
  void placeTile(Buffer &tile, Type element, int64_t size, int level) override;
  bool stagesUniform(Value value) override;
  int64_t getSharers() override { return lanes.getGroups(); }
  void walkShared(int64_t size, int64_t step, function_ref<void(OpFoldResult)> body) override;
  void runOnce(function_ref<void()> body) override;
  void finishShared() override;
  void stage(const Buffer &source, OpFoldResult from, const Buffer &scratch, OpFoldResult to, int64_t count) override;

  ThreadBuilder lanes;
};

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_GPUKERNEL_H
