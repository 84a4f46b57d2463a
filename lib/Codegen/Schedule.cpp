//===- Schedule.cpp - how a kernel's parallel dimensions are walked ----------------===//

#include "pfcn/Codegen/Schedule.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::pfcn;

/// Whether each of the values has exactly one dimension of the class: only then does
/// a point of the class own a part of every result.
static bool ownsPartOf(ValueRange values, const ParallelDims &dims, int cls) {
  return llvm::all_of(values, [&](Value value) {
    int64_t rank = cast<RankedTensorType>(value.getType()).getRank();
    return llvm::count_if(llvm::seq<int64_t>(0, rank),
                          [&](int64_t dim) { return dims.getClass(value, dim) == cls; }) == 1;
  });
}

/// Whether some value of the body has two dimensions of one class, as an outer product of a tensor
/// with itself has: no single index then says which element is meant.
static bool isDiagonal(Block &body, const ParallelDims &dims, int cls) {
  auto twice = [&](Value value) {
    auto type = dyn_cast<RankedTensorType>(value.getType());
    return type && llvm::count_if(llvm::seq<int64_t>(0, type.getRank()),
                                  [&](int64_t dim) { return dims.getClass(value, dim) == cls; }) > 1;
  };
  return llvm::any_of(body.getArguments(), twice) || llvm::any_of(body, [&](Operation &op) {
           return llvm::any_of(op.getResults(), twice);
         });
}

/// The widest element that the kernel computes with decides how many fit a register; narrower
/// floats are computed in f32.
static int64_t computeBytes(KernelOp kernel) {
  int64_t bytes = 4;
  for (Value value : llvm::concat<Value>(kernel.getInputs(), kernel.getInits()))
    bytes = std::max<int64_t>(bytes, cast<RankedTensorType>(value.getType()).getElementTypeBitWidth() / 8);
  return bytes;
}

FailureOr<Schedule> Schedule::choose(KernelOp kernel, const ParallelDims &dims, const ScheduleOptions &options,
                                     std::string &reason) {
  Block &body = *kernel.getBodyBlock();
  ValueRange yielded = kernel.getYielded();
  if (yielded.empty()) {
    reason = "the kernel has no result";
    return failure();
  }
  Schedule schedule;
  schedule.instanceClass = dims.getClass(yielded.front(), 0);
  auto eligible = [&](int cls) {
    return dims.isParallel(cls) && ownsPartOf(yielded, dims, cls) && !isDiagonal(body, dims, cls);
  };
  if (!eligible(schedule.instanceClass)) {
    reason = "an op of the body mixes instances";
    return failure();
  }

  // The dimensions of the result in their order, the innermost left to the ops: that is where a
  // contraction blocks its accumulators. If it is all there is, it is taken.
  int64_t rank = cast<RankedTensorType>(yielded.front().getType()).getRank();
  for (int64_t dim = 1; dim < rank; ++dim) {
    int cls = dims.getClass(yielded.front(), dim);
    bool isLast = dim == rank - 1;
    bool dynamic = ShapedType::isDynamic(dims.getSize(cls));
    if (dims.getSize(cls) == 1 || !eligible(cls) || schedule.isOuter(cls))
      continue;
    if (!isLast || dynamic || schedule.outerClasses.empty())
      schedule.outerClasses.push_back(cls);
  }

  int64_t width = std::max<int64_t>(1, options.vectorBytes / computeBytes(kernel));
  int64_t count = kernel.getCount();
  schedule.laneClass = schedule.instanceClass;
  schedule.lanes = options.lanes ? options.lanes : width;
  schedule.lanes = std::min<int64_t>(schedule.lanes, llvm::bit_floor<uint64_t>(count));
  // Too few instances to fill the lanes: the longest other dimension lies across them instead,
  // if its size is known (the last vector overlaps its neighbour, and must have room).
  if (schedule.lanes < width && !options.lanes) {
    for (int cls : schedule.outerClasses) {
      int64_t size = dims.getSize(cls);
      if (ShapedType::isDynamic(size))
        continue;
      int64_t lanes = std::min<int64_t>(width, llvm::bit_floor<uint64_t>(size));
      if (lanes > schedule.lanes) {
        schedule.laneClass = cls;
        schedule.lanes = lanes;
      }
    }
  }
  return schedule;
}
