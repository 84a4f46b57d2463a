//===- InputSpecs.h - types of inputs, as the command line has them ----*- C++ -*-===//

#ifndef PFCN_IMPORT_INPUTSPECS_H
#define PFCN_IMPORT_INPUTSPECS_H

#include "pfcn/Import/Tape.h"

#include <optional>
#include <stdexcept>

namespace pfcn {

/// A file, a shape or a module that cannot be imported: one clear sentence.
struct ImportError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// What stands for one argument of `forward`: a tensor of this type, or a number.
struct InputSpec {
  std::string key; // of an entry of a dict
  TensorMeta meta; // sizes of kDynamicSize are open
  std::optional<c10::IValue> constant;
};

/// "1x20xf32,?x3xi64": one tensor per input, in order; `key=1x20xf32` for an entry of a dict; a
/// bare number or `true` for an argument that is no tensor.
std::vector<InputSpec> parseInputSpecs(const std::string &text);

} // namespace pfcn

#endif // PFCN_IMPORT_INPUTSPECS_H
