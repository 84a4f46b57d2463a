//===- GpuFrame.h - the frame of a kernel on a GPU -----------------------*- C++ -*-===//
//
// `gpu.func @kernel(pointers, sizes, strides)`: a block for each tile of instances (x) and each share of the
// first outer dimension (y). Per tensor the parameters are its base pointer, then those of its sizes and strides
// that are not known. What a block does with its tile is up to GpuKernel and MmaKernel.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_GPUFRAME_H
#define PFCN_CODEGEN_GPUFRAME_H

#include "pfcn/Codegen/KernelEmitter.h"
#include "pfcn/Codegen/ThreadBuilder.h"

namespace mlir::pfcn {

class GpuFrame : public KernelEmitter {
public:
  gpu::GPUFuncOp getFunction() { return function; }
  /// Dynamic sizes that have to be equal: per group, (tensor, dimension) pairs. The caller checks them.
  ArrayAttr getEqualSizes();

protected:
  GpuFrame(KernelOp kernel, const ParallelDims &dims, const Schedule &schedule, const EmitOptions &options,
           int64_t warps, ThreadBuilder &threads)
      : KernelEmitter(kernel, dims, schedule, options, threads), threads(threads), warps(warps) {}

  void createFunction() override;
  Value placeConstant(DenseElementsAttr elements) override;
  void emitTiles() override;
  OpFoldResult placeLanes(OpFoldResult start, OpFoldResult size) override;
  void walkOuter(size_t depth, OpFoldResult size, int64_t step, function_ref<void(OpFoldResult)> body) override;

  ThreadBuilder &threads;
  int64_t warps;
  SmallVector<Buffer> inputs, results;

private:
  /// What the function has for a tensor of the caller: consumes its parameters from `next` on.
  Buffer viewTensor(ArrayRef<MemRefType> tensors, unsigned tensor, Value bodyValue, unsigned &next);

  gpu::GPUFuncOp function;
  /// The blocks of a tile that have something to do, where that is not all.
  Value blocks;
  DenseMap<int, SmallVector<int64_t>> dynamicSizes;
};

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_GPUFRAME_H
