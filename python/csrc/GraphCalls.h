//===- GraphCalls.h - calls of a graph that is given its weights ---------*- C++ -*-===//
//
// What torch.compile hands over takes its parameters as arguments, and other parameters in
// another call. Each set of them is an owner, with homes and bound plans of its own; which one
// a call is for is told by identity. Nothing here keeps a parameter alive.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_PYTHON_GRAPHCALLS_H
#define PFCN_PYTHON_GRAPHCALLS_H

#include "pfcn/Runtime/Binding.h"

#include <torch/csrc/utils/pybind.h>

namespace pfcn {

class GraphCalls {
public:
  /// `weights`: which of the `count` arguments are weights.
  GraphCalls(size_t count, const std::vector<size_t> &weights);

  /// The results as a tuple, or null with no Python error set where Python has to decide.
  PyObject *call(PyObject *const *args, size_t count);

  /// What to run for arguments like these, with these weights. `names` has one for each weight; `outputs` the results
  /// that are no tensors, none (a null object) where a tensor of the plan stands. Returns the number of the owner.
  int64_t add(const std::vector<pybind11::object> &args, const std::shared_ptr<runtime::Plan> &plan,
              const std::vector<std::string> &names, const runtime::NamedTensors &constants,
              std::vector<pybind11::object> outputs);
  /// Lets go of an owner, some of whose weights are gone.
  void forget(int64_t number);

  /// (number of parameters, why they are copied for each call or "") of each stack.
  std::vector<std::pair<size_t, std::string>> getStacks() const;
  size_t getOwnerCount() const { return owners.size(); }
  int64_t hits = 0;

private:
  struct Entry {
    std::shared_ptr<runtime::BoundPlan> plan;
    std::vector<runtime::TensorSpec> specs; ///< of the tensors that are no weights, in order
    std::vector<std::vector<int64_t>> strides;
    std::vector<pybind11::object> numbers; ///< the other arguments, in order
    std::vector<pybind11::object> outputs;
    runtime::NamedTensors constants; ///< kept alive for the plan
    c10::Device device;
    int mode;
    /// In grad mode: which of the tensors and parameters autograd followed.
    std::vector<bool> followed;
    uint64_t gradPattern = 0;

    bool isFollowed() const { return gradPattern != 0 || llvm::is_contained(followed, true); }
  };

  struct Owner {
    int64_t number;
    std::vector<runtime::WeakTensor> weights;
    std::shared_ptr<runtime::Weights> homes;
    std::vector<Entry> entries; ///< the most recently used first
  };

  using Arguments = std::pair<llvm::SmallVector<at::Tensor, 8>, llvm::SmallVector<PyObject *, 8>>;

  Owner *findOwner(PyObject *const *args);
  std::optional<Arguments> split(PyObject *const *args) const;
  static const Entry *findEntry(Owner &owner, const Arguments &arguments);

  std::vector<size_t> weights, others; ///< positions
  std::vector<Owner> owners;
  int64_t ownerCount = 0;
};

void bindGraphCalls(pybind11::module_ &module);

} // namespace pfcn

#endif // PFCN_PYTHON_GRAPHCALLS_H
