//===- Emit.h - --emit: what to print of a lowered module ---------------*- C++ -*-===//

#ifndef PFCN_OPT_EMIT_H
#define PFCN_OPT_EMIT_H

#include "mlir/IR/DialectRegistry.h"
#include "llvm/Support/LogicalResult.h"
#include "llvm/Support/raw_ostream.h"

#include <string>

/// Whether --emit asks for anything but the module itself.
bool emitsMachineCode();

/// The GPU that --chip names; sm_90 where it names none.
std::string getGpuChip();

/// Prints what --emit asks for, for --chip, of a module given as text.
llvm::LogicalResult emitModule(llvm::StringRef text, mlir::DialectRegistry &registry, llvm::raw_ostream &output);

#endif // PFCN_OPT_EMIT_H
