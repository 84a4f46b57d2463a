//===- MachineProbe.cpp - What this machine can do at best ----------------===//
//
// Two loops, each compiled for several vector widths and chosen by what the
// CPU has, because a portable build would measure the compiler's default
// instead of the machine.
//
//===----------------------------------------------------------------------===//

#include "pfcn/Runtime/MachineProbe.h"

#include <algorithm>
#include <barrier>
#include <chrono>
#include <memory>
#include <new>
#include <thread>
#include <vector>

using namespace pfcn::runtime;

namespace {

constexpr size_t kLine = 64;         // bytes in a cache line
constexpr unsigned kChains = 12;     // enough to hide latency × ports, and fits
                                     // in 16 vector registers
constexpr double kRunSeconds = 4e-3; // long beside a thread's start
constexpr unsigned kRuns = 7;

template <unsigned Bytes> struct Vector {
  typedef float type __attribute__((vector_size(Bytes), aligned(Bytes)));
};

/// Keeps a value, and with it the work that made it, alive.
template <typename T> __attribute__((always_inline)) inline void keep(T &value) {
  asm volatile("" : : "m"(value) : "memory");
}

/// Reads `count` floats (whole cache lines) `passes` times.
template <unsigned Bytes>
__attribute__((always_inline)) inline void readLoop(const float *data, size_t count, size_t passes) {
  using V = typename Vector<Bytes>::type;
  constexpr size_t lanes = Bytes / sizeof(float);
  constexpr size_t unroll = 8;
  const V *vectors = reinterpret_cast<const V *>(data);
  const size_t total = count / lanes;
  V sum[unroll] = {};
  for (size_t pass = 0; pass < passes; ++pass) {
    size_t i = 0;
    for (; i + unroll <= total; i += unroll)
      for (size_t k = 0; k < unroll; ++k)
        sum[k] += vectors[i + k];
    for (; i < total; ++i)
      sum[0] += vectors[i];
    // The buffer may have changed, as far as the compiler knows: read it again.
    asm volatile("" : : "r"(data) : "memory");
  }
  keep(sum);
}

/// `steps` multiply-adds on each of kChains independent vectors.
template <unsigned Bytes> __attribute__((always_inline)) inline void flopLoop(size_t steps) {
  using V = typename Vector<Bytes>::type;
  V chain[kChains] = {};
  V factor = V{} + 0.5f, term = V{} + 1.0f;
  asm volatile("" : "+m"(factor), "+m"(term));
  for (size_t step = 0; step < steps; ++step)
    for (unsigned k = 0; k < kChains; ++k)
      chain[k] = chain[k] * factor + term;
  keep(chain);
}

#define PFCN_PROBE_VARIANT(NAME, BYTES, TARGET)                                                                        \
  TARGET void read##NAME(const float *data, size_t count, size_t passes) { readLoop<BYTES>(data, count, passes); }     \
  TARGET void flop##NAME(size_t steps) { flopLoop<BYTES>(steps); }

PFCN_PROBE_VARIANT(Base, 16, )
#ifdef __x86_64__
PFCN_PROBE_VARIANT(AVX2, 32, __attribute__((target("avx2,fma"))))
PFCN_PROBE_VARIANT(AVX512, 64, __attribute__((target("avx512f,avx2,fma"))))
#endif

struct Variant {
  unsigned bytes;
  void (*read)(const float *, size_t, size_t);
  void (*flop)(size_t);
};

Variant widest() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512f"))
    return {64, readAVX512, flopAVX512};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return {32, readAVX2, flopAVX2};
#endif
  return {16, readBase, flopBase};
}

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

/// Seconds that the slowest of `threads` threads takes for `work(thread)`,
/// all of them starting together.
template <typename Work> double timeThreads(unsigned threads, const Work &work) {
  if (threads == 1) {
    auto start = Clock::now();
    work(0u);
    return seconds(Clock::now() - start);
  }
  std::vector<double> times(threads);
  std::barrier together(threads);
  std::vector<std::thread> pool;
  pool.reserve(threads);
  for (unsigned t = 0; t < threads; ++t)
    pool.emplace_back([&, t] {
      together.arrive_and_wait();
      auto start = Clock::now();
      work(t);
      times[t] = seconds(Clock::now() - start);
    });
  for (std::thread &thread : pool)
    thread.join();
  return *std::max_element(times.begin(), times.end());
}

/// Repetitions per second of `run(repetitions)` → seconds, best of kRuns,
/// after doubling the repetitions until one run is long enough to time.
template <typename Run> double bestRate(const Run &run) {
  size_t repetitions = 1;
  while (run(repetitions) < kRunSeconds)
    repetitions *= 2;
  double best = 0;
  for (unsigned i = 0; i < kRuns; ++i)
    best = std::max(best, static_cast<double>(repetitions) / run(repetitions));
  return best;
}

} // namespace

double pfcn::runtime::probeReadBandwidth(size_t bytes, unsigned threads) {
  threads = std::max(threads, 1u);
  const size_t lines = std::max<size_t>(1, (bytes + threads * kLine - 1) / (threads * kLine));
  const size_t count = lines * kLine / sizeof(float); // floats for each thread
  struct AlignedDelete {
    void operator()(float *p) const { ::operator delete[](p, std::align_val_t(kLine)); }
  };
  std::unique_ptr<float[], AlignedDelete> data(new (std::align_val_t(kLine)) float[count * threads]);
  // Written, so that each page is a real one and not the shared page of zeros.
  std::fill_n(data.get(), count * threads, 1.0f);
  const Variant variant = widest();
  double passes = bestRate([&](size_t repetitions) {
    return timeThreads(threads,
                       [&](unsigned thread) { variant.read(data.get() + thread * count, count, repetitions); });
  });
  return passes * static_cast<double>(count * threads * sizeof(float));
}

double pfcn::runtime::probePeakFlops(unsigned threads) {
  threads = std::max(threads, 1u);
  const Variant variant = widest();
  constexpr size_t steps = 1000;
  double blocks = bestRate(
      [&](size_t repetitions) { return timeThreads(threads, [&](unsigned) { variant.flop(repetitions * steps); }); });
  const size_t lanes = variant.bytes / sizeof(float);
  return blocks * steps * kChains * static_cast<double>(lanes) * 2 * threads;
}
