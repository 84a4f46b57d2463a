//===- PerfMap.h - names of compiled kernels for perf ------------------*- C++ -*-===//
//
// `perf` reads the names of code that was compiled at run time from /tmp/perf-<pid>.map. (LLVM's own jitdump
// support keeps one state a process, and each compilation here has a JIT of its own.)
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_JIT_PERFMAP_H
#define PFCN_JIT_PERFMAP_H

#include "llvm/ExecutionEngine/Orc/LLJIT.h"

namespace pfcn {

/// Adds what `jit` links to the map, if PFCN_PERF is 1.
void writePerfMapIfAsked(llvm::orc::LLJIT &jit);

} // namespace pfcn

#endif // PFCN_JIT_PERFMAP_H
