//===- LowerEachKernel.h - kernels, each lowered as a whole or not at all -*- C++ -*-===//
//
// A kernel is lowered on a copy: it goes to linalg, is fused, and becomes a function. Where one of these
// declines, the kernel itself is left as it was, so it can still run op by op.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_LOWEREACHKERNEL_H
#define PFCN_CODEGEN_LOWEREACHKERNEL_H

#include "pfcn/Dialect/Pfcn.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Rewrite/FrozenRewritePatternSet.h"

namespace mlir::pfcn {

/// The patterns of `pfcn-fuse-elementwise`.
FrozenRewritePatternSet getFuseElementwisePatterns(MLIRContext *context);

/// What these patterns ask of tensor ops: their sizes.
void registerFusionModels(DialectRegistry &registry);

/// Calls `lower` with each kernel and a copy of it, whose body is linalg. `lower` replaces the copy, or fails with the
/// reason; then the kernel gets that as an attribute, and a remark of the pass says so. Kernels that have such an
/// attribute stay as they are.
void lowerEachKernel(ModuleOp module, StringRef pass,
                     function_ref<LogicalResult(KernelOp kernel, KernelOp draft, std::string &reason)> lower);

/// Puts a launch of `function` in the place of a kernel. `equalSizes`: the dynamic sizes that the function takes to be
/// equal, which its caller has to check.
LaunchOp replaceWithLaunch(KernelOp kernel, StringRef function, int64_t tiles, ArrayAttr equalSizes);

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_LOWEREACHKERNEL_H
