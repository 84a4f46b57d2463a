//===- BlockRows.h - ops that compute several rows of a batch ------------*- C++ -*-===//
//
// Where ops have lanes of their own, and the batch is walked around them, each row reads all weights again. For a block
// of rows, ops have one loop more, and use what they load for several rows.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_BLOCKROWS_H
#define PFCN_CODEGEN_BLOCKROWS_H

#include "pfcn/Codegen/Schedule.h"

#include "mlir/IR/OwningOpRef.h"

#include <optional>

namespace mlir::pfcn {

/// A copy of a kernel whose body computes a block of rows, with its own classes and schedule.
struct RowBlocks {
  OwningOpRef<KernelOp> kernel;
  ParallelDims dims;
  Schedule schedule;
};

/// The quickest blocks, by estimate; none where the kernel has no outer class beside the instances, where an op knows
/// positions in it, or where ops have no lanes of their own.
std::optional<RowBlocks> chooseRowBlocks(KernelOp kernel, const ParallelDims &dims, const ScheduleOptions &options);

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_BLOCKROWS_H
