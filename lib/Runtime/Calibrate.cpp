//===- Calibrate.cpp - the cost models' numbers for this machine ----------------------===//

#include "pfcn/Runtime/Calibrate.h"

#include "pfcn/JIT/DiskCache.h"
#include "pfcn/JIT/Target.h"
#include "pfcn/Runtime/MachineProbe.h"

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/TargetParser/Host.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <limits>

using mlir::pfcn::CpuMachine;

namespace pfcn::runtime {

/// ns of a call, the least of several runs.
static double measure(llvm::function_ref<void()> call) {
  using Clock = std::chrono::steady_clock;
  constexpr double enough = 2e6;
  double best = std::numeric_limits<double>::infinity();
  for (int64_t calls = 1, runs = 0; runs < 7;) {
    auto start = Clock::now();
    for (int64_t i = 0; i < calls; ++i)
      call();
    double spent = std::chrono::duration<double, std::nano>(Clock::now() - start).count();
    if (spent < enough) {
      calls *= 2;
      continue;
    }
    best = std::min(best, spent / static_cast<double>(calls));
    ++runs;
  }
  return best;
}

/// The vectors of the processor that kernels are compiled for.
static int64_t getVectorBytes() {
  llvm::Expected<int64_t> bytes = Target().getVectorBytes();
  TORCH_CHECK(bytes, "pfcn: ", llvm::toString(bytes.takeError()));
  return *bytes;
}

CpuMachine measureMachine() {
  at::NoGradGuard noGrad;
  CpuMachine machine;
  machine.vectorBytes = getVectorBytes();
  double lanes = static_cast<double>(machine.vectorBytes) / 4;
  // Kernels reach most of the peak, and not all of it.
  constexpr double reached = 0.7;
  machine.operation = 1e9 * 2 * lanes / (reached * probePeakFlops(/*threads=*/1));
  auto getLine = [](size_t bytes) { return 1e9 * 64 / probeReadBandwidth(bytes, /*threads=*/1); };
  machine.secondCache = getLine(512 << 10);
  machine.lastCache = getLine(8 << 20);
  machine.memory = getLine(128 << 20);

  at::Tensor few = at::ones({16});
  machine.call = measure([&] { at::relu(few); });
  constexpr int64_t many = 1024;
  at::Tensor rows = at::ones({many, 1, 8}), small = at::ones({many, 8, 8});
  machine.matrix = std::max((measure([&] { at::baddbmm(rows, rows, small); }) - machine.call) / many, 1.0);
  constexpr int64_t count = 8, size = 256;
  at::Tensor large = at::ones({count, size, size});
  double products = static_cast<double>(count) * size * size * size / lanes;
  machine.libraryRate = products * machine.operation / measure([&] { at::baddbmm(large, large, large); });
  return machine;
}

static std::string getKey() {
  return "machine\n" + llvm::sys::getHostCPUName().str() + "\n" + std::to_string(getVectorBytes());
}

CpuMachine loadMachine() {
  auto getDefault = [] {
    CpuMachine machine = CpuMachine::of(llvm::sys::getHostCPUName());
    machine.vectorBytes = getVectorBytes();
    return machine;
  };
  CpuMachine machine = getDefault();
  if (std::optional<std::string> text = DiskCache::fromEnvironment().load(getKey()))
    if (llvm::Error error = machine.set(*text)) { // of another version of pfcn
      llvm::consumeError(std::move(error));
      machine = getDefault();
    }
  return machine;
}

void storeMachine(const CpuMachine &machine) { DiskCache::fromEnvironment().store(getKey(), machine.str()); }

} // namespace pfcn::runtime
