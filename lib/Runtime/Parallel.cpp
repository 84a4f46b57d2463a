//===- Parallel.cpp - tiles of a kernel on torch's own threads ---------------------===//
//
// What `#pragma omp parallel` compiles to under gcc, written out, since torch is built by gcc.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Runtime/Parallel.h"

#include <ATen/Parallel.h>

#include <algorithm>

// The entry points of GNU's OpenMP runtime, which torch ships with and is linked to.
extern "C" void GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
extern "C" int omp_get_thread_num();
extern "C" int omp_get_num_threads();

namespace pfcn::runtime {

namespace {

/// A part takes some 50 µs then: much more than a fork and join (5 µs), and worth the risk that another process
/// has the core, when the join waits for a time slice.
constexpr int64_t kBytesPerThread = 1024 * 1024;
/// The same of a kernel whose arithmetic is estimated to take longer than its bytes.
constexpr double kMicrosecondsPerThread = 50;

struct Region {
  int64_t tiles;
  llvm::function_ref<void(int64_t, int64_t)> body;
};

} // namespace

static void runPart(void *data) {
  auto &region = *static_cast<Region *>(data);
  // The runtime may grant fewer threads than asked for.
  int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
  int64_t begin = region.tiles * thread / threads, end = region.tiles * (thread + 1) / threads;
  if (begin == end)
    return;
  at::internal::ThreadIdGuard guard(static_cast<int>(thread));
  region.body(begin, end);
}

void runTiles(int64_t tiles, int64_t bytes, double microseconds, llvm::function_ref<void(int64_t, int64_t)> body) {
  if (tiles <= 0)
    return;
  int64_t threads = 1;
  int64_t parts = std::max(bytes / kBytesPerThread, static_cast<int64_t>(microseconds / kMicrosecondsPerThread));
  if (tiles > 1 && parts > 1 && !at::in_parallel_region()) {
    at::internal::lazy_init_num_threads();
    threads = std::min({static_cast<int64_t>(at::get_num_threads()), tiles, parts});
  }
  if (threads <= 1) {
    body(0, tiles);
    return;
  }
  Region region{tiles, body};
  GOMP_parallel(runPart, &region, static_cast<unsigned>(threads), 0);
}

} // namespace pfcn::runtime
