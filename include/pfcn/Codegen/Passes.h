//===- Passes.h - from batched kernels to vector code -------------------*- C++ -*-===//

#ifndef PFCN_CODEGEN_PASSES_H
#define PFCN_CODEGEN_PASSES_H

#include "mlir/Pass/Pass.h"

namespace mlir::pfcn {

#define GEN_PASS_DECL
#include "pfcn/Codegen/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "pfcn/Codegen/Passes.h.inc"

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_PASSES_H
