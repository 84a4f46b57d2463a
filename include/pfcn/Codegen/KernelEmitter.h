//===- KernelEmitter.h - one kernel as one function ---------------------*- C++ -*-===//
//
// Emits the function of a kernel: tiles of instances, the other shared dimensions as loops inside,
// and in them the ops of the body, each as a nest of loops over what remains of its domain. What targets
// differ in is the frame (CpuKernel) and the lanes (LaneBuilder).
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_KERNELEMITTER_H
#define PFCN_CODEGEN_KERNELEMITTER_H

#include "pfcn/Codegen/LaneBuilder.h"
#include "pfcn/Codegen/Schedule.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"

namespace mlir::pfcn {

struct EmitOptions {
  int64_t maxScratch;
  /// Accumulators that a contraction keeps in registers.
  int64_t accumulators;
  bool packWeights;
};

/// Some neighbours along a loop of an op.
struct BlockedLoop {
  unsigned loop;
  int64_t count;
};

/// How many of `size` accumulators are kept at a time: at most `limit`, in equal parts where the size allows it.
int64_t chooseBlock(int64_t size, int64_t limit);

class KernelEmitter {
public:
  KernelEmitter(KernelOp kernel, const ParallelDims &dims, const Schedule &schedule, const EmitOptions &options,
                LaneBuilder &builder)
      : kernel(kernel), body(*kernel.getBodyBlock()), dims(dims), schedule(schedule), options(options),
        builder(builder) {}
  virtual ~KernelEmitter() = default;

  /// Emits the function at the builder's place. Fails with the reason; the caller then erases
  /// what has been emitted.
  LogicalResult emit(std::string &reason);

protected:
  // The frame.
  /// Creates the function and sets the builder into its body.
  virtual void createFunction() = 0;
  /// Walks the tiles, with `emitTile` for each.
  virtual void emitTiles() = 0;
  /// The place of scratch, which all tiles share.
  virtual void setInsertionPointToScratch() = 0;
  /// Where a vector of lanes starts, so that it ends inside of the dimension.
  virtual OpFoldResult placeLanes(OpFoldResult start, OpFoldResult size) = 0;
  /// Walks an outer dimension in the given steps.
  virtual void walkOuter(size_t depth, OpFoldResult size, int64_t step, function_ref<void(OpFoldResult)> body) = 0;
  /// Read-only memory with the elements of a constant, of rank 1; null where the target has none.
  virtual Value placeConstant(DenseElementsAttr elements) { return {}; }
  /// Called before and after the arguments of a level are brought where the ops read them.
  virtual void beginArguments(int level) {}
  virtual void finishArguments(int level) {}
  /// The place of a tile of `size` scalars.
  virtual void placeTile(Buffer &tile, Type element, int64_t size, int level);
  /// Whether an argument that is the same in all lanes is brought into scratch, and how.
  virtual bool stagesUniform(Value value) { return false; }
  virtual void stage(const Buffer &source, OpFoldResult from, const Buffer &scratch, OpFoldResult to, int64_t count) {}
  /// The dimension of a value whose elements are neighbours in scratch; -1 where that is the last one.
  virtual int64_t getInnermostDim(Value value) { return -1; }
  /// Whether the op that computes a result stores it where the caller wants it.
  virtual bool storesDirectly(Value value, const Buffer &output) { return output.perLane; }
  /// Whether scratch that is the same in all lanes is kept by each lane nevertheless.
  virtual bool keepsScratchPerLane() const { return false; }

  /// How many share the work of a lane.
  virtual int64_t getSharers() { return 1; }
  /// Walks a loop of independent iterations, which they share; what none of them may do twice; and waits for all.
  virtual void walkShared(int64_t size, int64_t step, function_ref<void(OpFoldResult)> body) {
    builder.loop(builder.constant(size), step, body);
  }
  virtual void runOnce(function_ref<void()> body) { body(); }
  virtual void finishShared() {}

  /// The whole kernel for a tile, which `tileIndex` names.
  void emitTile();
  /// Makes an argument of the kernel known under what the function has for it.
  void setArguments(ArrayRef<Buffer> inputs, ArrayRef<Buffer> results);

  // What lies where.
  bool isLane(Value value, int64_t dim) { return dims.getClass(value, dim) == schedule.laneClass; }
  bool hasLanes(Value value);
  /// 0 for what only depends on the tile, 1 for what also depends on the loops inside it, 2 for what is summed over
  /// these.
  int getLevel(Value value);
  int getLevel(Operation *op);
  SmallVector<int64_t> getInnerShape(Value value);
  SmallVector<OpFoldResult> getIndices(Value value, ArrayRef<OpFoldResult> inner);
  SmallVector<OpFoldResult> getScratchStrides(Value value, bool isTile, int64_t &size);
  bool isPerLane(Value value, bool isTile) { return hasLanes(value) || (!isTile && keepsScratchPerLane()); }
  void placeScratch(Buffer &buffer, Type element, int64_t size);
  Buffer allocate(Value value, bool isTile = false);
  void computeLifetimes();
  void releaseScratch(Operation *op);
  Value reuseScratch(Type element, int64_t size);

  // The loops.
  void emitOuterLoops(size_t depth);
  void emitBlocksOfPoints(size_t depth, int cls, OpFoldResult size);
  void emitSummedLoop(OpFoldResult size, function_ref<void(OpFoldResult)> body);
  void emitLevel(int level);
  void emitYields(bool areInLoop);
  bool accumulates(linalg::GenericOp op) { return schedule.accumulates(op, dims); }
  SmallVector<Value> getSums();

  // The ops.
  void walkPoints(ArrayRef<int64_t> shape, function_ref<void(ArrayRef<OpFoldResult>)> body);
  virtual void emitArgument(BlockArgument argument);
  void emitRows(Value value, const Buffer &rows, const Buffer &scratch,
                function_ref<void(OpFoldResult, OpFoldResult, OpFoldResult, int64_t)> body);
  virtual void emitOp(Operation *op);
  virtual void emitGeneric(linalg::GenericOp root);
  void emitBlock(linalg::GenericOp root, ArrayRef<linalg::GenericOp> epilogue, SmallVector<OpFoldResult> indices,
                 ArrayRef<BlockedLoop> block);
  void emitEpilogue(linalg::GenericOp root, ArrayRef<linalg::GenericOp> epilogue, SmallVector<OpFoldResult> point,
                    Value value);
  SmallVector<Value> emitReduction(linalg::GenericOp root, ArrayRef<unsigned> reductions,
                                   SmallVector<OpFoldResult> &indices, ArrayRef<BlockedLoop> block,
                                   ArrayRef<Value> accumulators);
  /// Called for each step of the innermost loop of a reduction.
  virtual void prefetchNext(linalg::GenericOp root, ArrayRef<OpFoldResult> indices, ArrayRef<BlockedLoop> block,
                            unsigned loop) {}
  SmallVector<OpFoldResult> getPoint(ArrayRef<OpFoldResult> first, ArrayRef<BlockedLoop> block, int64_t i);
  virtual SmallVector<OpFoldResult> getNeighbour(ArrayRef<OpFoldResult> point, unsigned loop, int64_t distance);
  virtual Value emitPayload(linalg::GenericOp op, ArrayRef<OpFoldResult> indices, Value known, Value knownAs,
                            Value accumulator);
  /// Whether the ops computes an element per lane.
  virtual bool computesLanes(linalg::GenericOp op) { return hasLanes(op->getResult(0)); }
  virtual void storeResult(linalg::GenericOp op, Value value, ArrayRef<OpFoldResult> indices);
  OpFoldResult evaluate(AffineExpr expr, ArrayRef<OpFoldResult> indices);
  virtual Value loadOperand(Value value, AffineMap map, ArrayRef<OpFoldResult> indices);
  virtual void emitView(Operation *op);
  void emitInsert(tensor::InsertSliceOp op);
  void emitFor(scf::ForOp loop);
  /// A size or an offset of the body, as it is in the function.
  OpFoldResult getScalar(OpFoldResult value);
  void emitConstant(arith::ConstantOp op);
  void emitFill(Value value, Value element, const Buffer &buffer);
  void emitAdd(Value value, const Buffer &term, const Buffer &sum);
  virtual void emitCopy(const Buffer &from, Value value, const Buffer &to);
  virtual Buffer makeContiguous(Value value);
  bool isPlainScratch(Value value);
  virtual void emitYield(unsigned result);
  bool makeAvailable(Value value);
  void bringIn(Value value);
  SmallVector<linalg::GenericOp> collectEpilogue(linalg::GenericOp root);
  bool collectLoops(linalg::GenericOp root, SmallVectorImpl<OpFoldResult> &indices,
                    SmallVectorImpl<unsigned> &parallel);
  void placeResult(linalg::GenericOp root, ArrayRef<linalg::GenericOp> epilogue);

  KernelOp kernel;
  Block &body;
  const ParallelDims &dims;
  Schedule schedule;
  const EmitOptions options;
  LaneBuilder &builder;
  /// Why the kernel cannot be emitted; empty while it can.
  std::string failure;
  int64_t scratchBytes = 0;
  OpFoldResult tileIndex;
  /// The tensors of the body by where they lie; raw arguments and results by body value.
  DenseMap<Value, Buffer> buffers;
  SmallVector<Buffer> outputs;
  DenseMap<Value, unsigned> directOutputs;
  DenseMap<int, OpFoldResult> outerIndices;
  DenseMap<int, OpFoldResult> outerSizes;
  /// Arguments that are brought in where an op first reads them.
  llvm::SmallDenseSet<Value> pending;
  /// Ops that were emitted with an earlier one, as its epilogue.
  llvm::SmallDenseSet<Operation *> emitted;
  llvm::DenseMap<Operation *, int> levels;
  IRMapping scalars;
  /// Scratch is used again: where values are last read, who holds which, and what is free.
  DenseMap<Operation *, unsigned> positions;
  DenseMap<Value, unsigned> lastReads;
  SmallVector<std::pair<Value, Value>> inUse;
  SmallVector<Value> released;
};

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_KERNELEMITTER_H
