//===- MachineProbe.h - What this machine can do at best --------*- C++ -*-===//
//
// Measures the two ceilings of the roofline that the benchmark puts beside
// every system: how fast a working set of a given size can be read, and how
// many floating-point operations a second the vector units do. Each call takes
// some tens of milliseconds; nothing is cached.
//
//===----------------------------------------------------------------------===//

#ifndef PFCN_RUNTIME_MACHINEPROBE_H
#define PFCN_RUNTIME_MACHINEPROBE_H

#include <cstddef>

namespace pfcn::runtime {

/// Bytes per second at which `threads` threads together read a buffer of
/// `bytes` again and again, each its own part of it. A buffer that fits in a
/// cache therefore gives that cache's bandwidth. Best of several runs.
/// `bytes` is rounded up to whole cache lines for each thread; zero threads
/// count as one.
double probeReadBandwidth(size_t bytes, unsigned threads);

/// Single-precision floating-point operations per second of `threads` threads
/// running nothing but independent multiply-adds (two operations each) in the
/// widest vectors this CPU has. Best of several runs.
double probePeakFlops(unsigned threads);

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_MACHINEPROBE_H
