//===- Schedule.h - how a kernel's parallel dimensions are walked -------*- C++ -*-===//
//
// The instance dimension is cut into tiles, which threads share. The other dimensions that the whole
// region shares (the batch, first of all) are loops inside a tile. One of them all lies
// across the SIMD lanes: every op of the body then computes `lanes` elements of it at once.
// Which one is chosen by an estimate of the vector operations that each choice needs.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_SCHEDULE_H
#define PFCN_CODEGEN_SCHEDULE_H

#include "pfcn/Codegen/CpuMachine.h"
#include "pfcn/Codegen/OpLanes.h"
#include "pfcn/Codegen/ParallelDims.h"
#include "pfcn/Dialect/Pfcn.h"

#include <memory>
#include <vector>

namespace mlir::pfcn {

struct ScheduleOptions {
  CpuMachine machine;
  /// Lanes to use instead of the width of the register; 0 to let the schedule choose.
  int64_t lanes = 0;
  /// Bytes of scratch that a tile may take.
  int64_t maxScratch = 262144;
  /// Stacks of parameters are packed in tiles of lanes already.
  bool packWeights = false;
  /// Whether ops choose lanes of their own: `auto` where that is estimated to be quicker, `never`, `always`, or
  /// `blocks`, for blocks of rows where that can be.
  StringRef opLanes = "auto";
};

struct Schedule {
  /// The class of the instance dimension.
  int instanceClass;
  /// The other classes that are walked outside of the ops, outermost first.
  SmallVector<int> outerClasses;
  /// The class that lies across the lanes, one of the above, and how many lanes.
  int laneClass;
  int64_t lanes;
  /// The one outer class over which ops sum, or -1: their accumulators live around its loop, and what is made of the
  /// sums is computed behind it. The batch of a backward is such a class.
  int summedClass = -1;
  /// On a GPU: threads beside the lanes share the features of each op, instead of the points of the first outer class.
  bool sharesLanes = false;
  /// Then: operands of a tile are brought in where an op first reads them, and give way to others when they are read.
  bool bringsInLate = false;
  /// On a GPU: how many points of the first outer class a block takes at least, for what it brings in for all of them.
  int64_t pointsPerBlock = 32;
  /// On a CPU: into so many equal parts the first outer class is cut, which threads share like tiles. Only few
  /// instances with many rows each are cut.
  int64_t parts = 1;
  /// The lanes of each op where there is no class for all of them; `lanes` is 1 then.
  std::shared_ptr<const OpLanes> opLanes;
  /// The outer class that is walked by blocks, with a dimension of a block's size in the ops, or -1; and its own size.
  int blockedClass = -1;
  int64_t blockedSize = 0;
  /// Vector operations, estimated.
  double cost = 0;

  /// Whether the ops have no loop over a class.
  bool isOuter(int cls) const {
    return cls == instanceClass || (cls != blockedClass && llvm::is_contained(outerClasses, cls));
  }
  /// How often the loop of an outer class runs, with one point or one block each time.
  int64_t countSteps(const ParallelDims &dims, int cls) const;
  /// Whether an op adds to accumulators that live around the loop of the summed class.
  bool accumulates(linalg::GenericOp op, const ParallelDims &dims) const;
  bool lanesAreInstances() const { return laneClass == instanceClass; }
  /// How many points of the first outer class a block of so many walkers takes, if it is to have any.
  int64_t getChunk(int64_t walkers) const {
    bool crossesLanes = !outerClasses.empty() && outerClasses.front() == laneClass;
    return std::max(walkers * (crossesLanes ? lanes : 1), pointsPerBlock);
  }
  /// Tiles of the instance dimension; the last overlaps its neighbour where `count` is no multiple.
  int64_t getTiles(int64_t count) const { return lanesAreInstances() ? llvm::divideCeil(count, lanes) : count; }

  /// Cuts the first outer class where there are too few tiles to share among threads.
  void cut(const ParallelDims &dims, int64_t count);

  /// The choice in words.
  std::string describe() const;

  /// What choices have in common; fails where instances cannot be walked on their own. `everyClass`: the innermost
  /// dimension is not left to the ops.
  static FailureOr<Schedule> getBase(KernelOp kernel, const ParallelDims &dims, std::string &reason,
                                     bool everyClass = false);
  /// Chooses a schedule for a kernel whose body is linalg on tensors.
  static FailureOr<Schedule> choose(KernelOp kernel, const ParallelDims &dims, const ScheduleOptions &options,
                                    std::string &reason);
  /// Of `kernel`, whose ops compute a block of the outer class that dimension `dim` of its first result has, of `size`
  /// in all; none where ops have no lanes of their own.
  static std::optional<Schedule> chooseForBlocks(KernelOp kernel, const ParallelDims &dims,
                                                 const ScheduleOptions &options, int64_t dim, int64_t size);
  /// The same for a GPU: schedules to try, the best first; the first whose tile fits shared memory is taken.
  static std::vector<Schedule> chooseForGpu(KernelOp kernel, const ParallelDims &dims, std::string &reason);
};

/// Whether a reduction adds what it computes to its accumulator, in floating point.
bool isFloatSum(linalg::GenericOp op);

/// Whether an input of a kernel is a stack of parameters that a caller can hold packed in tiles of
/// lanes: `[tile, element, lane]`.
bool isPackable(KernelOp kernel, unsigned input);

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_SCHEDULE_H
