//===- Target.h - the processor that kernels are compiled for -----------*- C++ -*-===//

#ifndef PFCN_JIT_TARGET_H
#define PFCN_JIT_TARGET_H

#include "llvm/Support/Error.h"
#include "llvm/Target/TargetMachine.h"

#include <memory>
#include <string>

namespace pfcn {

struct Target {
  /// As LLVM names it ("znver4", "x86-64-v3"); empty for this machine's.
  std::string cpu;

  /// Bytes of a SIMD register: 64 with AVX-512, 32 with AVX, 16 otherwise.
  llvm::Expected<int64_t> getVectorBytes() const;
  llvm::Expected<std::unique_ptr<llvm::TargetMachine>> createTargetMachine() const;
};

} // namespace pfcn

#endif // PFCN_JIT_TARGET_H
