// The probes feed the benchmark's bound. A speed that no machine has would mean that the optimiser removed the loop;
// one that is too low to be true, that it did something else as well.

#include "pfcn/Runtime/MachineProbe.h"

#include <gtest/gtest.h>

using namespace pfcn::runtime;

namespace {

TEST(MachineProbe, BandwidthIsPossibleAtAnySize) {
  for (size_t bytes : {size_t(0), size_t(1), size_t(4097), size_t(1) << 20, size_t(5'000'001)})
    for (unsigned threads : {0u, 1u, 2u, 3u}) {
      double rate = probeReadBandwidth(bytes, threads);
      EXPECT_GT(rate, 1e8) << bytes << " bytes, " << threads << " threads";
      EXPECT_LT(rate, 1e14) << bytes << " bytes, " << threads << " threads";
    }
}

TEST(MachineProbe, PeakFlopsIsPossible) {
  for (unsigned threads : {0u, 1u, 2u}) {
    double rate = probePeakFlops(threads);
    EXPECT_GT(rate, 1e8) << threads << " threads";
    EXPECT_LT(rate, 1e13 * (threads + 1)) << threads << " threads";
  }
}

} // namespace
