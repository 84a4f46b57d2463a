//===- Dispatcher.cpp - from a Python call to a plan, quickly ----------------------===//

#include "Dispatcher.h"

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/autocast_mode.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/jit/frontend/tracer.h>

namespace py = pybind11;

namespace pfcn {

bool allowsTf32() {
  return at::globalContext().float32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL) ==
         at::Float32Precision::TF32;
}

int getMode() {
  int mode = c10::InferenceMode::is_enabled() ? 2 : at::GradMode::is_enabled() ? 1 : 0;
  if (at::autocast::is_autocast_enabled(at::kCPU))
    mode += 8 * (1 + static_cast<int>(at::autocast::get_autocast_dtype(at::kCPU)));
  return allowsTf32() ? mode + 4 : mode;
}

bool isPlainDispatch(bool allowsAutocast) {
  c10::impl::LocalDispatchKeySet now = c10::impl::tls_local_dispatch_key_set();
  if (allowsAutocast)
    now.excluded_ = now.excluded_.add(c10::DispatchKey::AutocastCPU);
  c10::DispatchKeySet included = c10::default_included_set, excluded = c10::default_excluded_set;
  if (c10::InferenceMode::is_enabled()) {
    included = included.remove(c10::DispatchKey::ADInplaceOrView);
    excluded = excluded | c10::autograd_dispatch_keyset;
  }
  return now.included_ == included && now.excluded_ == excluded && !at::impl::torch_function_mode_enabled() &&
         !torch::jit::tracer::isTracing();
}

bool isPlainTensor(PyObject *object) {
  if (!THPVariable_CheckExact(object))
    return false;
  // Everything but the keys of an ordinary tensor, which an inference tensor has fewer of.
  static const c10::DispatchKeySet onCpu = at::empty({0}).key_set();
  static const c10::DispatchKeySet onCuda =
      onCpu.remove_backend(c10::BackendComponent::CPUBit).remove(c10::DispatchKey::AutocastCPU) |
      c10::DispatchKeySet(c10::BackendComponent::CUDABit) | c10::DispatchKeySet(c10::DispatchKey::AutocastCUDA);
  c10::DispatchKeySet keys = THPVariable_Unpack(object).key_set();
  if (keys.has_backend(c10::BackendComponent::CUDABit))
    return (keys.raw_repr() & ~onCuda.raw_repr()) == 0;
  return keys.has_backend(c10::BackendComponent::CPUBit) && (keys.raw_repr() & ~onCpu.raw_repr()) == 0;
}

/// Whether autograd is on in a mode.
static bool isFollowing(int mode) { return mode % 4 == 1; }

bool Dispatcher::matches(const Entry &entry, runtime::TensorRange inputs) const {
  if (entry.inputs.size() != inputs.size())
    return false;
  for (size_t i = 0; i < inputs.size(); ++i)
    if ((isFollowing(entry.mode) && entry.followed[i] != inputs[i].requires_grad()) ||
        !entry.inputs[i].matches(inputs[i]) || inputs[i].strides() != at::IntArrayRef(entry.strides[i]) ||
        inputs[i].device() != entry.device)
      return false;
  return true;
}

const Dispatcher::Entry *Dispatcher::find(llvm::ArrayRef<PyObject *> args, llvm::SmallVectorImpl<at::Tensor> &inputs) {
  int mode = getMode();
  const CallShape *flattened = nullptr; // entries share the shapes that are equal
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].mode != mode)
      continue;
    if (flattened != entries[i].shape.get()) {
      inputs.clear();
      flattened = entries[i].shape->arguments.flattenAll(args, inputs) ? entries[i].shape.get() : nullptr;
    }
    if (!flattened || !matches(entries[i], inputs))
      continue;
    if (i > 0)
      std::rotate(entries.begin(), entries.begin() + static_cast<ptrdiff_t>(i),
                  entries.begin() + static_cast<ptrdiff_t>(i) + 1);
    return &entries.front();
  }
  return nullptr;
}

PyObject *Dispatcher::call(llvm::ArrayRef<PyObject *> args, PyObject *kwargs) {
  if (entries.empty() || !isPlainDispatch(/*allowsAutocast=*/true) || haveHooksChanged())
    return nullptr;
  for (const py::dict &dict : hooks)
    if (PyDict_GET_SIZE(dict.ptr()) != 0)
      return nullptr;
  llvm::SmallVector<at::Tensor, 4> inputs;
  const Entry *entry = find(args, inputs);
  if (!entry || !entry->plan->isCurrent() || (guards && !guards->areUnchanged(kwargs)))
    return nullptr;
  if (isFollowing(entry->mode) && entry->plan->getGradPattern() != entry->gradPattern)
    return nullptr;
  if (weights && !weights->isSettled() && !weights->settle())
    return nullptr;
  bool isFollowed = entry->isFollowed();
  if (isFollowed && weights && !weights->areLeavesAtHome())
    return nullptr;
  llvm::SmallVector<std::shared_ptr<const runtime::Stack>, 8> stacks;
  llvm::SmallVector<at::Tensor, 8> leaves = isFollowed ? entry->plan->getFollowed(stacks) : entry->plan->getLeaves();
  std::shared_ptr<runtime::BoundPlan> plan = entry->plan; // another thread may replace the entries
  std::shared_ptr<const CallShape> shape = entry->shape;
  ++hits;
  std::vector<at::Tensor> results;
  {
    py::gil_scoped_release noGil;
    results =
        isFollowed ? plan->getPlan().runFollowed(inputs, leaves, stacks) : plan->getPlan().runUnchecked(inputs, leaves);
    plan->writeBack(results);
  }
  llvm::MutableArrayRef<at::Tensor> rest(results);
  return shape->result.build(rest).release().ptr();
}

py::object countHooks() {
  static PyObject *handleClass =
      py::object(py::module_::import("torch.utils.hooks").attr("RemovableHandle")).release().ptr();
  static PyObject *name = PyUnicode_InternFromString("next_id");
  return py::reinterpret_steal<py::object>(PyObject_GetAttr(handleClass, name));
}

bool Dispatcher::haveHooksChanged() const {
  // The number is an object that lives as long as it is the current one, so identity is equality.
  return !countHooks().is(hookCount);
}

void Dispatcher::noteHooks() { hookCount = countHooks(); }

} // namespace pfcn
