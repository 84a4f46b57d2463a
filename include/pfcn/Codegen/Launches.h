//===- Launches.h - the launches of a lowered model as JSON --------------*- C++ -*-===//

#ifndef PFCN_CODEGEN_LAUNCHES_H
#define PFCN_CODEGEN_LAUNCHES_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/JSON.h"

namespace mlir::pfcn {

/// On a launch whose kernel multiplies on tensor cores: the instruction, as text.
inline constexpr llvm::StringLiteral tensorCoresAttrName = "pfcn.tensor_cores";

/// One entry a `pfcn.launch` of a GPU kernel, in program order: `kernel`, `grid`, `block`, `shared_bytes`, and
/// `args`, one per parameter of the kernel, in order. A size that is only known at run time is null.
llvm::json::Array describeLaunches(ModuleOp module);

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_LAUNCHES_H
