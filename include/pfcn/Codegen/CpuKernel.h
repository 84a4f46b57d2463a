//===- CpuKernel.h - the frame of a kernel on the CPU --------------------*- C++ -*-===//
//
// `func @kernel(begin, end, memrefs...)`: a range of tiles, which the caller shares among threads, and one
// strided memref per input and destination, the instance dimension first.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_CPUKERNEL_H
#define PFCN_CODEGEN_CPUKERNEL_H

#include "pfcn/Codegen/KernelEmitter.h"
#include "pfcn/Codegen/OpLanes.h"
#include "pfcn/Codegen/SimdBuilder.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

namespace mlir::pfcn {

/// The memref of a tensor of the caller under an access.
MemRefType getMemRefType(Value whole, AccessAttr access, int64_t count);

/// A private global of rank 1 with the elements of a constant, at the end of a module; its name is made unique.
memref::GlobalOp createConstantGlobal(Operation *module, Location loc, const Twine &name, DenseElementsAttr elements);

class CpuKernel : public KernelEmitter {
public:
  CpuKernel(KernelOp kernel, const ParallelDims &dims, const Schedule &schedule, const EmitOptions &options,
            OpBuilder at)
      : KernelEmitter(kernel, dims, schedule, options, simd), simd(at, kernel.getLoc(), schedule.lanes) {}

  func::FuncOp getFunction() { return function; }
  /// Per input, the lanes in which it is expected to be packed, 0 for torch's own layout.
  ArrayRef<int64_t> getPackedLanes() const { return packedLanes; }
  /// Erases what has been emitted.
  void erase();
  /// Takes scratch from the heap, once a call, where it is more than a thread's stack should hold.
  void moveScratchOffStack();
  /// Dynamic sizes that the kernel takes to be equal, which its caller has to check: [tensor, dimension] pairs in
  /// a row, tensors counted over inputs and destinations.
  ArrayAttr getEqualSizes();

protected:
  void emitGeneric(linalg::GenericOp root) override;
  void prefetchNext(linalg::GenericOp root, ArrayRef<OpFoldResult> indices, ArrayRef<BlockedLoop> block,
                    unsigned loop) override;
  OpFoldResult getStride(const Buffer &buffer, AffineMap map, unsigned loop);
  void walkBlocks(linalg::GenericOp root, ArrayRef<linalg::GenericOp> epilogue, SmallVector<OpFoldResult> &indices,
                  ArrayRef<BlockedLoop> order);
  SmallVector<BlockedLoop> chooseBlocks(linalg::GenericOp root, ArrayRef<unsigned> parallel);
  SmallVector<BlockedLoop> orderLoops(linalg::GenericOp root, ArrayRef<unsigned> parallel,
                                      SmallVector<BlockedLoop> block);

  SimdBuilder simd;
  /// The loop that lies across the lanes in the op whose blocks are emitted, where that is its own choice.
  unsigned rootLoop = OpLanes::Choice::none;

private:
  void createFunction() override;
  void emitTiles() override;
  void setInsertionPointToScratch() override;
  OpFoldResult placeLanes(OpFoldResult start, OpFoldResult size) override;
  void walkOuter(size_t depth, OpFoldResult size, int64_t step, function_ref<void(OpFoldResult)> body) override;

  Value placeConstant(DenseElementsAttr elements) override;

  Buffer viewArgument(Value argument, Value bodyValue, int64_t packed);
  void emitTileLoop();
  int64_t countSteps(linalg::GenericOp root, unsigned loop);

  /// Where a tile starts in the first outer class, where that is cut.
  OpFoldResult partStart;
  func::FuncOp function;
  DenseMap<Attribute, memref::GlobalOp> constants;
  SmallVector<int64_t> packedLanes;
  DenseMap<int, SmallVector<int64_t>> dynamicSizes;
};

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_CPUKERNEL_H
