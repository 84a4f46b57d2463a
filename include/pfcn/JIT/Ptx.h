//===- Ptx.h - kernels as PTX -------------------------------------------*- C++ -*-===//
//
// Needs no CUDA installation: LLVM's own NVPTX back end, and formulas in place of libdevice.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_JIT_PTX_H
#define PFCN_JIT_PTX_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/Error.h"

#include <string>

namespace pfcn {

/// The `gpu.module` of kernels in `module` as PTX for a chip ("sm_90"). `module` stays as it is.
llvm::Expected<std::string> compileKernelsToPtx(mlir::ModuleOp module, const std::string &chip);

} // namespace pfcn

#endif // PFCN_JIT_PTX_H
