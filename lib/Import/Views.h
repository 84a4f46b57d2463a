//===- Views.h - views as values -----------------------------------------*- C++ -*-===//
//
// A view of a tensor is a call that can be made again on a newer value, and (often) has an
// inverse that puts a changed part back.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_LIB_IMPORT_VIEWS_H
#define PFCN_LIB_IMPORT_VIEWS_H

#include "pfcn/Import/Tape.h"

namespace pfcn {

struct View {
  const c10::FunctionSchema *schema;
  std::vector<TapeArgument> arguments;
  size_t source; // the argument that is viewed

  std::vector<TapeArgument> getArguments(int value) const {
    std::vector<TapeArgument> result = arguments;
    result[source].tensors = {value};
    return result;
  }
};

/// Whether the operator returns a view or a copy depending on strides.
bool isLooseView(const std::string &name);

/// Result `index` of the call as a view of argument `source`; a part of `split`, `chunk` or
/// `unbind` becomes a slice or a select. None where that is not known.
std::optional<View> describeView(const TapeCall &call, size_t source, size_t index,
                                 const std::vector<TensorMeta> &results);

struct ViewInverse {
  const c10::FunctionSchema *schema;
  std::vector<TapeArgument> arguments;
};

/// The call that gives `parent` with the viewed part replaced by `part`.
std::optional<ViewInverse> invertView(const View &view, int parent, int part, const TensorMeta &parentMeta);

} // namespace pfcn

#endif // PFCN_LIB_IMPORT_VIEWS_H
