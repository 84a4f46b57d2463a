//===- GenerateCode.h - LLVM IR as machine code or assembly -------------*- C++ -*-===//

#ifndef PFCN_JIT_GENERATECODE_H
#define PFCN_JIT_GENERATECODE_H

#include "llvm/IR/Module.h"
#include "llvm/Support/CodeGen.h"
#include "llvm/Target/TargetMachine.h"

#include <memory>

namespace pfcn {

/// A module, and the context that it needs.
struct OwnedModule {
  std::unique_ptr<llvm::LLVMContext> context = std::make_unique<llvm::LLVMContext>();
  std::unique_ptr<llvm::Module> module; // goes first
};

/// Sets data layout and triple, and optimises as `-O3` does.
llvm::Error optimise(OwnedModule &module, llvm::TargetMachine &machine);

/// What LLVM's code generator makes of a module. What LLVM cannot compile is an error, where LLVM by itself would end
/// the process.
llvm::Expected<llvm::SmallVector<char, 0>> generateCode(OwnedModule module, llvm::TargetMachine &machine,
                                                        llvm::CodeGenFileType fileType);

} // namespace pfcn

#endif // PFCN_JIT_GENERATECODE_H
