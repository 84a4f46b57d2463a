//===- Cubin.h - PTX to machine code of a chip ---------------------------*- C++ -*-===//

#ifndef PFCN_JIT_CUBIN_H
#define PFCN_JIT_CUBIN_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <string>

namespace pfcn {

/// Assembles PTX with ptxas, found in CUDA_ROOT, CUDA_HOME or PATH; fails with what to install where it is not.
llvm::Expected<std::string> assemblePtx(llvm::StringRef ptx, llvm::StringRef chip);

} // namespace pfcn

#endif // PFCN_JIT_CUBIN_H
