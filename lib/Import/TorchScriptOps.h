//===- TorchScriptOps.h - what an import may run, and how much of it -----*- C++ -*-===//

#ifndef PFCN_LIB_IMPORT_TORCHSCRIPTOPS_H
#define PFCN_LIB_IMPORT_TORCHSCRIPTOPS_H

#include "pfcn/Import/TorchScript.h"

#include <torch/csrc/jit/ir/ir.h>

namespace pfcn {

/// Whether the operator of a node does nothing but compute its results, of numbers, lists, strings and meta tensors.
bool mayRun(const torch::jit::Node *node);

/// Whether it computes with single numbers only, so that it may be run on a tensor that holds one.
bool isArithmetic(const std::string &name);

/// What operators cost beside the tensors that they make: elements of lists, characters, tensors in a list.
class Budget {
public:
  explicit Budget(int64_t elements) : left(elements), limit(elements) {}

  /// Counts a call before it runs, from its arguments. Throws `ImportError` where it would be too much.
  void spend(const std::string &name, const torch::jit::Stack &stack);
  void spend(int64_t elements);

private:
  int64_t left, limit;
};

} // namespace pfcn

#endif // PFCN_LIB_IMPORT_TORCHSCRIPTOPS_H
