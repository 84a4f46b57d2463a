//===- Parallel.h - tiles of a kernel on torch's own threads -------------*- C++ -*-===//
//
// `at::parallel_for` needs OpenMP where it is compiled, and clang's OpenMP brings a runtime and a
// pool of its own beside torch's. This enters the runtime that torch itself uses.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_RUNTIME_PARALLEL_H
#define PFCN_RUNTIME_PARALLEL_H

#include "llvm/ADT/STLFunctionalExtras.h"

#include <cstdint>

namespace pfcn::runtime {

/// Runs `body` on [0, tiles), whole on this thread or in parts on several. `bytes` is what
/// the tiles touch together, `microseconds` what they are estimated to take: below a MB or 50 us for each thread,
/// waking a thread costs more than it saves. Honours torch.set_num_threads, and stays on this thread inside of a
/// parallel region of torch. `body` must not throw.
void runTiles(int64_t tiles, int64_t bytes, double microseconds,
              llvm::function_ref<void(int64_t begin, int64_t end)> body);

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_PARALLEL_H
