//===- SplitKernel.h - a kernel as several kernels and library calls ------*- C++ -*-===//

#ifndef PFCN_CODEGEN_SPLITKERNEL_H
#define PFCN_CODEGEN_SPLITKERNEL_H

#include "pfcn/Codegen/GpuCost.h"

namespace mlir::pfcn {

/// Replaces a kernel, whose body is of the dialect's ops, by the pieces in order: kernels, and ops in the caller for
/// those that are a library's. What passes between them is stacked tensors. The kernels get the attributes of the
/// original. Fails, with nothing changed, where that cannot be written.
LogicalResult splitKernel(KernelOp kernel, ArrayRef<Piece> pieces);

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_SPLITKERNEL_H
