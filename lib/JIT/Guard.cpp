//===- Guard.cpp - LLVM's fatal errors as errors -------------------------------------===//

#include "pfcn/JIT/Guard.h"

#include "llvm/Support/CrashRecoveryContext.h"
#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/raw_ostream.h"

#include <mutex>

using namespace pfcn;

static std::mutex recoveryLock;
static int recoveries = 0; // that live

CrashRecovery::CrashRecovery() {
  std::lock_guard<std::mutex> lock(recoveryLock);
  if (recoveries++ == 0)
    llvm::CrashRecoveryContext::Enable();
}

CrashRecovery::~CrashRecovery() {
  std::lock_guard<std::mutex> lock(recoveryLock);
  if (--recoveries == 0)
    llvm::CrashRecoveryContext::Disable();
}

/// What this thread's fatal error was; empty for a signal.
static thread_local std::string fatalMessage;

static void handleFatalError(void *, const char *reason, bool) {
  auto *context = llvm::CrashRecoveryContext::GetCurrent();
  if (!context) {
    llvm::errs() << "LLVM ERROR: " << reason << "\n"; // the caller ends the process, as LLVM does by itself
    return;
  }
  fatalMessage = reason;
  context->HandleExit(1);
}

llvm::Error pfcn::runGuarded(llvm::function_ref<llvm::Error()> body) {
  static std::once_flag once;
  std::call_once(once, [] { llvm::install_fatal_error_handler(handleFatalError); });
  CrashRecovery recovery;
  llvm::CrashRecoveryContext context;
  llvm::Error error = llvm::Error::success();
  fatalMessage.clear();
  if (context.RunSafely([&] { error = body(); }))
    return error;
  llvm::consumeError(std::move(error));
  if (!fatalMessage.empty())
    return llvm::createStringError("LLVM gave up: " + fatalMessage);
  return llvm::createStringError("LLVM crashed (exit status " + std::to_string(context.RetCode) + ")");
}
