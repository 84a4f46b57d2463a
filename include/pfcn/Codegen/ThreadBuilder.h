//===- ThreadBuilder.h - lanes as the threads of a warp ------------------*- C++ -*-===//
//
// A block is `warps` warps of 32 threads. The code of a lane is scalar code of a thread; scratch is shared
// memory, in which a tile is brought together by all threads of a warp or block, and a thread has a column of
// its own for intermediates. Where a tile is not full, threads without a lane repeat the last
// one's work, and store nothing to global memory.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_THREADBUILDER_H
#define PFCN_CODEGEN_THREADBUILDER_H

#include "pfcn/Codegen/LaneBuilder.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"

namespace mlir::pfcn {

class ThreadBuilder : public LaneBuilder {
public:
  static constexpr int64_t warpSize = 32;
  /// Of the widest access of a thread.
  static constexpr int64_t accessBytes = 16;

  /// `sharesLanes`: a lane is a thread of each of several groups, which share what there is to do for it.
  ThreadBuilder(OpBuilder at, Location loc, int64_t lanes, int64_t warps, bool sharesLanes = false)
      : LaneBuilder(at, loc, lanes), warps(warps), sharesLanes(sharesLanes) {}

  /// Enters a function: reads which thread this is.
  virtual void enter(gpu::GPUFuncOp function);
  /// `active` of the lanes hold elements from here on.
  virtual void setActive(OpFoldResult active);
  /// Who brings tiles together from here on: all threads of the block, or those of a warp.
  void setCooperation(bool wholeBlock);
  Value getWarp() { return warp; }
  /// How many walk a loop side by side, each at points of its own, and which this is: the warps of a block, unless they
  /// share lanes.
  int64_t getWalkers() { return sharesLanes ? 1 : warps; }
  OpFoldResult getWalker() { return sharesLanes ? constant(0) : OpFoldResult(warp); }
  /// How many threads have a lane, and which this is.
  int64_t getGroups() { return sharesLanes ? warps * warpSize / lanes : 1; }
  Value getGroup() { return group; }

  Type getLaneType(Type element) override { return element; }
  Value broadcast(Value value) override { return value; }
  int64_t getLanePitch(bool isTile) override;
  int64_t getAllocated(Type element, int64_t size) override;
  Value allocate(Type element, int64_t size) override;
  void pack(const Buffer &rows, OpFoldResult address, OpFoldResult laneStride, const Buffer &scratch,
            OpFoldResult scratchAddress, int64_t count) override;
  void unpack(const Buffer &scratch, OpFoldResult scratchAddress, const Buffer &rows, OpFoldResult address,
              OpFoldResult laneStride, int64_t count) override;

  /// `count` consecutive elements, the same for all lanes, into scratch.
  void stage(const Buffer &source, OpFoldResult address, const Buffer &scratch, OpFoldResult scratchAddress,
             int64_t count);
  void syncBlock();
  void syncWarp();
  /// Waits for whom lanes are shared with.
  void syncGroups();

protected:
  /// The thread in its warp.
  Value thread;

private:
  Value loadLanes(const Buffer &buffer, OpFoldResult address) override;
  void storeLanes(Value value, const Buffer &buffer, OpFoldResult address) override;

  /// Walks [0, total) with the cooperating threads side by side, `width` elements a thread.
  void share(OpFoldResult total, int64_t width, function_ref<void(Value)> body);
  /// The same over elements that are contiguous in global memory from `address` on, in accesses of
  /// 128 bits where they are aligned. `store` is given each value and its position.
  void shareLoads(const Buffer &source, OpFoldResult address, OpFoldResult total,
                  function_ref<void(Value, Value)> store);

  void rotate(MutableArrayRef<Value> elements, Value by);

  int64_t warps;
  bool sharesLanes;
  gpu::GPUFuncOp function;
  /// The thread in its block; where it keeps intermediates.
  Value inBlock, warp, column;
  Value group;
  /// The lane that this thread has, and the one whose work it does.
  Value ownLane, lane;
  OpFoldResult active;
  Value worker;
  int64_t workers = 0;
};

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_THREADBUILDER_H
