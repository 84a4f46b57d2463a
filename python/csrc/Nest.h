//===- Nest.h - tensors in lists, tuples and dicts ----------------------*- C++ -*-===//
//
// The shape of a call's arguments or results, so that a call with a list of tensors is
// answered as quickly as one with a tensor.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_PYTHON_NEST_H
#define PFCN_PYTHON_NEST_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"

#include <torch/csrc/utils/pybind.h>

#include <optional>
#include <vector>

namespace pfcn {

class Nest {
public:
  /// Of a nest that has `tensor` for each tensor; nothing where it holds more than lists, tuples, dicts with strings
  /// as keys, strings, integers, booleans and None, all of no subclass.
  static std::optional<Nest> of(pybind11::handle nest, pybind11::handle tensor);

  /// Appends the tensors of a nest; false where it is of another shape, or a tensor is not plain.
  bool flatten(PyObject *nest, llvm::SmallVectorImpl<at::Tensor> &tensors) const;
  /// The same for the elements of a tuple, given one by one.
  bool flattenAll(llvm::ArrayRef<PyObject *> elements, llvm::SmallVectorImpl<at::Tensor> &tensors) const;
  /// A nest of this shape; takes as many tensors from the front as it needs.
  pybind11::object build(llvm::MutableArrayRef<at::Tensor> &tensors) const;

private:
  enum class Kind { Tensor, List, Tuple, Dict, Constant };

  bool holdsConstant(PyObject *object) const;

  Kind kind = Kind::Tensor;
  std::vector<Nest> children;
  std::vector<pybind11::object> keys; ///< of a dict, in its order
  pybind11::object constant;
};

} // namespace pfcn

#endif // PFCN_PYTHON_NEST_H
