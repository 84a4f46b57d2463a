//===- Dispatcher.h - from a Python call to a plan, quickly --------------*- C++ -*-===//
//
// The common call: tensors (or lists and dicts of them) in, a plan that fits, plain dispatch, nothing changed. It is
// answered here; every other call is handed back to Python, which has the time to find out.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_PYTHON_DISPATCHER_H
#define PFCN_PYTHON_DISPATCHER_H

#include "Guards.h"
#include "Nest.h"

#include "pfcn/Runtime/Binding.h"

namespace pfcn {

/// How a call's tensors lie in its positional arguments and in its result.
struct CallShape {
  Nest arguments, result;
};

class Dispatcher {
public:
  struct Entry {
    std::shared_ptr<runtime::BoundPlan> plan;
    /// The inputs that were recorded: a plan may take more shapes and layouts, but the model has to be asked
    /// about each.
    std::vector<runtime::TensorSpec> inputs;
    std::vector<std::vector<int64_t>> strides;
    c10::Device device;
    /// Grad and inference mode under which the plan was recorded.
    int mode;
    std::shared_ptr<const CallShape> shape;
    /// In grad mode: which inputs and parameters autograd followed.
    std::vector<bool> followed;
    uint64_t gradPattern;

    bool isFollowed() const { return gradPattern != 0 || llvm::is_contained(followed, true); }
  };

  /// The result of `model(*args)`, or null with no Python error set where Python has to decide. `kwargs`: the empty
  /// dictionary that came with them.
  PyObject *call(llvm::ArrayRef<PyObject *> args, PyObject *kwargs);

  /// Whether a hook has been registered on any module since this was last taken note of.
  bool haveHooksChanged() const;
  void noteHooks();

  /// The plans to choose from, the most recently used first; none: all calls go to Python.
  std::vector<Entry> entries;
  std::shared_ptr<Guards> guards;
  std::shared_ptr<runtime::Weights> weights;
  /// Dictionaries of hooks, which must be empty.
  std::vector<pybind11::dict> hooks;
  /// Calls that were answered here.
  int64_t hits = 0;

private:
  bool matches(const Entry &entry, runtime::TensorRange inputs) const;
  const Entry *find(llvm::ArrayRef<PyObject *> args, llvm::SmallVectorImpl<at::Tensor> &inputs);

  pybind11::object hookCount;
};

/// A number that grows with every hook that is registered on any module or tensor: `RemovableHandle.next_id`.
pybind11::object countHooks();

/// Whether torch's settings allow to multiply matrices of f32 as tf32 on a GPU.
bool allowsTf32();

/// Which of grad mode, no-grad and inference mode is on, whether tf32 is allowed, and to what autocast casts on the
/// CPU: what a plan was made for.
int getMode();

/// Whether torch would call operators as they are: no modes, transforms or autocast on this thread (or, where that is
/// allowed, autocast on the CPU, whose casts are part of a recording).
bool isPlainDispatch(bool allowsAutocast = false);

/// Whether this is a tensor of no subclass, dense, on the CPU or a CUDA device, that no transform wraps.
bool isPlainTensor(PyObject *object);

} // namespace pfcn

#endif // PFCN_PYTHON_DISPATCHER_H
