//===- TorchScript.h - imports scripted, traced and frozen modules -----*- C++ -*-===//
//
// The graph of `forward` is interpreted, with everything but tensors concrete and the
// tensors on the meta device, under the same recorder that records a Python model.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_IMPORT_TORCHSCRIPT_H
#define PFCN_IMPORT_TORCHSCRIPT_H

#include "pfcn/Import/InputSpecs.h"

#include <torch/csrc/jit/api/module.h>

namespace pfcn {

torch::jit::Module loadTorchScript(const std::string &path);

struct TorchScriptLimits {
  int64_t steps = 20'000'000;     // nodes interpreted
  int64_t calls = 5'000'000;      // operators recorded
  int64_t elements = 200'000'000; // of lists and strings, of all that are made
  int64_t depth = 500;            // methods within methods
};

/// Where sizes are open, `forward` is interpreted at several sizes far apart, and must do the
/// same at each.
std::shared_ptr<Tape> importTorchScript(const torch::jit::Module &module, const std::vector<InputSpec> &inputs,
                                        const TorchScriptLimits &limits = {});

} // namespace pfcn

/// For the command line, which loads LibTorch only when it is given a `.pt`: the module as MLIR
/// with locations, or an error.
extern "C" bool pfcnImportTorchScript(const char *path, const char *inputShapes, std::string *result);

#endif // PFCN_IMPORT_TORCHSCRIPT_H
