//===- JIT.h - kernels as machine code ----------------------------------*- C++ -*-===//
//
// Takes the functions that kernels were lowered to, down to LLVM IR, to object code, or into this process.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_JIT_JIT_H
#define PFCN_JIT_JIT_H

#include "pfcn/JIT/GenerateCode.h"
#include "pfcn/JIT/Target.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace llvm::orc {
class LLJIT;
} // namespace llvm::orc

namespace pfcn {

/// The kernels of `module`, functions marked `llvm.emit_c_interface`, in a module of their own in
/// the LLVM dialect. `module` stays as it is.
llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>> lowerKernelsToLLVM(mlir::ModuleOp module);

/// The same, optimised for the target, as LLVM IR.
llvm::Expected<OwnedModule> translateKernels(mlir::ModuleOp module, const Target &target);

/// The same, as an object file.
llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>> compileKernelsToObject(mlir::ModuleOp module, const Target &target);

/// The kernels of one module, callable in this process for as long as the object lives.
class CompiledKernels {
public:
  /// `arguments`: pointers to begin and end (int64_t), then to a pointer to the memref descriptor of each
  /// input and destination.
  using Kernel = void (*)(void **arguments);

  static llvm::Expected<std::shared_ptr<CompiledKernels>> compile(mlir::ModuleOp module, const Target &target = {});
  ~CompiledKernels();

  /// The kernel of that name, or null.
  Kernel lookup(llvm::StringRef name) const;

private:
  CompiledKernels();
  std::unique_ptr<llvm::orc::LLJIT> jit;
};

} // namespace pfcn

#endif // PFCN_JIT_JIT_H
