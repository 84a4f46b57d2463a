//===- GpuKernel.h - the frame of a kernel on a GPU ----------------------*- C++ -*-===//
//
// `gpu.func @kernel(pointers, sizes, strides)`: a block for each tile of instances (x) and each share of the
// first outer dimension (y). Per tensor the parameters are its base pointer, then those of its sizes and strides
// that are not known.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_GPUKERNEL_H
#define PFCN_CODEGEN_GPUKERNEL_H

#include "pfcn/Codegen/KernelEmitter.h"
#include "pfcn/Codegen/ThreadBuilder.h"

namespace mlir::pfcn {

class GpuKernel final : public KernelEmitter {
public:
  GpuKernel(KernelOp kernel, const ParallelDims &dims, const Schedule &schedule, const EmitOptions &options,
            int64_t warps, OpBuilder at)
      : KernelEmitter(kernel, dims, schedule, options, threads), threads(at, kernel.getLoc(), schedule.lanes, warps),
        warps(warps) {}

  gpu::GPUFuncOp getFunction() { return function; }
  /// Dynamic sizes that have to be equal: per group, (tensor, dimension) pairs. The caller checks them.
  ArrayAttr getEqualSizes();

private:
  void createFunction() override;
  void emitTiles() override;
  void setInsertionPointToScratch() override {}
  OpFoldResult placeLanes(OpFoldResult start, OpFoldResult size) override;
  void walkOuter(size_t depth, OpFoldResult size, int64_t step, function_ref<void(OpFoldResult)> body) override;
  void beginArguments(int level) override;
  void finishArguments(int level) override;
  bool keepsScratchPerLane() const override { return true; }
  void placeTile(Buffer &tile, Type element, int64_t size, int level) override;
  bool stagesUniform(Value value) override;
  void stage(const Buffer &source, OpFoldResult from, const Buffer &scratch, OpFoldResult to, int64_t count) override;

  /// What the function has for a tensor of the caller: consumes its parameters from `next` on.
  Buffer viewTensor(ArrayRef<MemRefType> tensors, unsigned tensor, Value bodyValue, unsigned &next);

  ThreadBuilder threads;
  int64_t warps;
  gpu::GPUFuncOp function;
  SmallVector<Buffer> inputs, results;
  DenseMap<int, SmallVector<int64_t>> dynamicSizes;
};

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_GPUKERNEL_H
