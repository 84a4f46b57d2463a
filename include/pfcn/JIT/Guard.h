//===- Guard.h - LLVM's fatal errors as errors --------------------------*- C++ -*-===//
//
// A compiler that lives in a user's process must not end it.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_JIT_GUARD_H
#define PFCN_JIT_GUARD_H

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/Support/Error.h"

namespace pfcn {

/// While any of these live, a crash within `llvm::CrashRecoveryContext` is caught. Afterwards, signals are handled as
/// the process did before.
class CrashRecovery {
public:
  CrashRecovery();
  ~CrashRecovery();
  CrashRecovery(const CrashRecovery &) = delete;
  CrashRecovery &operator=(const CrashRecovery &) = delete;
};

/// Runs `body`. Where LLVM reports a fatal error in it, or crashes, that becomes an error; destructors of what it had
/// on the stack do not run then, and what it worked on must not be touched again.
llvm::Error runGuarded(llvm::function_ref<llvm::Error()> body);

} // namespace pfcn

#endif // PFCN_JIT_GUARD_H
