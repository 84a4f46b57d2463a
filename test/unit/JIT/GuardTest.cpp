//===- GuardTest.cpp - LLVM's fatal errors as errors ---------------------------------===//

#include "pfcn/JIT/Guard.h"

#include "llvm/Support/ErrorHandling.h"
#include "gtest/gtest.h"

#include <csignal>
#include <thread>
#include <vector>

using namespace pfcn;

static std::string messageOf(llvm::Error error) { return llvm::toString(std::move(error)); }

TEST(Guard, PassesOnWhatTheBodyReturns) {
  EXPECT_FALSE(runGuarded([] { return llvm::Error::success(); }));
  EXPECT_EQ(messageOf(runGuarded([] { return llvm::createStringError("no"); })), "no");
}

TEST(Guard, AFatalErrorIsAnError) {
  EXPECT_EQ(messageOf(runGuarded([]() -> llvm::Error { llvm::report_fatal_error("cannot select"); })),
            "LLVM gave up: cannot select");
  EXPECT_EQ(messageOf(runGuarded([]() -> llvm::Error { llvm::reportFatalUsageError("no such chip"); })),
            "LLVM gave up: no such chip");
  EXPECT_FALSE(runGuarded([] { return llvm::Error::success(); }));
}

TEST(Guard, ACrashIsAnErrorAndSignalsAreGivenBack) {
  auto *before = std::signal(SIGSEGV, SIG_DFL);
  std::string message = messageOf(runGuarded([]() -> llvm::Error {
    std::raise(SIGSEGV);
    return llvm::Error::success();
  }));
  EXPECT_NE(message.find("LLVM crashed"), std::string::npos) << message;
  EXPECT_EQ(std::signal(SIGSEGV, before), SIG_DFL);
}

TEST(Guard, ThreadsFailEachForItself) {
  std::vector<std::string> messages(8);
  std::vector<std::thread> threads;
  threads.reserve(messages.size());
  for (size_t i = 0; i < messages.size(); ++i)
    threads.emplace_back([&, i] {
      messages[i] = messageOf(runGuarded([&]() -> llvm::Error {
        if (i % 2)
          llvm::report_fatal_error(llvm::Twine(i));
        return llvm::createStringError("own " + std::to_string(i));
      }));
    });
  for (std::thread &thread : threads)
    thread.join();
  for (size_t i = 0; i < messages.size(); ++i)
    EXPECT_EQ(messages[i], (i % 2 ? "LLVM gave up: " : "own ") + std::to_string(i));
}
