//===- GraphCalls.cpp - calls of a graph that is given its weights -----------------===//

#include "GraphCalls.h"

#include "Dispatcher.h"

#include <pybind11/stl.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>

namespace py = pybind11;
using namespace pfcn;
using namespace pfcn::runtime;

/// Shapes whose plan is at hand, for each set of weights.
static constexpr size_t kMostEntries = 64;

GraphCalls::GraphCalls(size_t count, const std::vector<size_t> &positions) : weights(positions) {
  std::vector<bool> isWeight(count);
  for (size_t position : positions)
    isWeight.at(position) = true;
  for (size_t i = 0; i < count; ++i)
    if (!isWeight[i])
      others.push_back(i);
}

//===----------------------------------------------------------------------------===//
// Which plan
//===----------------------------------------------------------------------------===//

static const at::TensorImpl *getImpl(PyObject *object) {
  return THPVariable_CheckExact(object) ? THPVariable_Unpack(object).unsafeGetTensorImpl() : nullptr;
}

GraphCalls::Owner *GraphCalls::findOwner(PyObject *const *args) {
  auto owns = [&](const Owner &owner) {
    for (size_t i = 0; i < weights.size(); ++i)
      if (getImpl(args[weights[i]]) != owner.weights[i]._unsafe_get_target())
        return false;
    return true;
  };
  auto it = std::find_if(owners.begin(), owners.end(), owns);
  return it == owners.end() ? nullptr : &*it;
}

/// Tensors, and what is not; none where there is a tensor of a subclass or inside of a transform.
std::optional<GraphCalls::Arguments> GraphCalls::split(PyObject *const *args) const {
  Arguments arguments;
  for (size_t position : others) {
    PyObject *object = args[position];
    if (!THPVariable_Check(object))
      arguments.second.push_back(object);
    else if (isPlainTensor(object))
      arguments.first.push_back(THPVariable_Unpack(object));
    else
      return std::nullopt;
  }
  return arguments;
}

/// 1, 1.0 and True are three things.
static bool isSame(PyObject *a, PyObject *b) {
  if (a == b)
    return true;
  if (Py_TYPE(a) != Py_TYPE(b))
    return false;
  int equal = PyObject_RichCompareBool(a, b, Py_EQ);
  if (equal < 0)
    PyErr_Clear();
  return equal == 1;
}

const GraphCalls::Entry *GraphCalls::findEntry(Owner &owner, const Arguments &arguments) {
  const auto &[tensors, numbers] = arguments;
  int mode = getMode();
  bool isFollowing = at::GradMode::is_enabled();
  auto fits = [&](const Entry &entry) {
    if (entry.mode != mode || entry.specs.size() != tensors.size() || entry.numbers.size() != numbers.size())
      return false;
    for (size_t i = 0; i < numbers.size(); ++i)
      if (!isSame(entry.numbers[i].ptr(), numbers[i]))
        return false;
    for (size_t i = 0; i < tensors.size(); ++i)
      if ((isFollowing && entry.followed[i] != tensors[i].requires_grad()) || !entry.specs[i].matches(tensors[i]) ||
          tensors[i].strides() != at::IntArrayRef(entry.strides[i]) || tensors[i].device() != entry.device)
        return false;
    return !isFollowing || entry.plan->getGradPattern() == entry.gradPattern;
  };
  auto it = std::find_if(owner.entries.begin(), owner.entries.end(), fits);
  if (it == owner.entries.end())
    return nullptr;
  std::rotate(owner.entries.begin(), it, it + 1);
  return &owner.entries.front();
}

//===----------------------------------------------------------------------------===//
// Calls
//===----------------------------------------------------------------------------===//

static PyObject *wrap(std::vector<at::Tensor> &&results, const std::vector<py::object> &outputs) {
  PyObject *tuple = PyTuple_New(static_cast<Py_ssize_t>(outputs.size()));
  auto next = results.begin();
  for (size_t i = 0; i < outputs.size(); ++i)
    PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i),
                     outputs[i] ? outputs[i].inc_ref().ptr() : THPVariable_Wrap(std::move(*next++)));
  return tuple;
}

PyObject *GraphCalls::call(PyObject *const *args, size_t count) {
  if (owners.empty() || count != weights.size() + others.size() || !isPlainDispatch())
    return nullptr;
  Owner *owner = findOwner(args);
  std::optional<Arguments> arguments = owner ? split(args) : std::nullopt;
  if (!arguments)
    return nullptr;
  const Entry *entry = findEntry(*owner, *arguments);
  if (!entry || !entry->plan->isCurrent())
    return nullptr;
  if (!owner->homes->isSettled() && !owner->homes->settle()) {
    forget(owner->number);
    return nullptr;
  }
  bool isFollowed = entry->isFollowed();
  llvm::SmallVector<std::shared_ptr<const Stack>, 8> stacks;
  llvm::SmallVector<at::Tensor, 8> leaves = isFollowed ? entry->plan->getFollowed(stacks) : entry->plan->getLeaves();
  std::shared_ptr<BoundPlan> plan = entry->plan; // another thread may change the entries
  std::vector<py::object> outputs = entry->outputs;
  ++hits;
  std::vector<at::Tensor> results;
  {
    py::gil_scoped_release noGil;
    results = isFollowed ? plan->getPlan().runFollowed(arguments->first, leaves, stacks)
                         : plan->getPlan().runUnchecked(arguments->first, leaves);
  }
  return wrap(std::move(results), outputs);
}

int64_t GraphCalls::add(const std::vector<py::object> &args, const std::shared_ptr<Plan> &plan,
                        const std::vector<std::string> &names, const NamedTensors &constants,
                        std::vector<py::object> outputs) {
  std::vector<PyObject *> objects;
  objects.reserve(args.size());
  for (const py::object &arg : args)
    objects.push_back(arg.ptr());
  Owner *owner = findOwner(objects.data());
  if (!owner) {
    owners.push_back({ownerCount++, {}, std::make_shared<Weights>(), {}});
    owner = &owners.back();
    for (size_t position : weights)
      owner->weights.emplace_back(THPVariable_Unpack(objects[position]).getIntrusivePtr());
  }
  NamedTensors tensors = constants;
  for (size_t i = 0; i < weights.size(); ++i)
    tensors.emplace(names[i], THPVariable_Unpack(objects[weights[i]]));
  auto bound = std::make_shared<BoundPlan>(plan, tensors, *owner->homes, /*freeze=*/false);
  uint64_t gradPattern = at::GradMode::is_enabled() ? bound->getGradPattern() : 0;
  Entry entry{std::move(bound),  {},        {}, {},         std::move(outputs), constants,
              plan->getDevice(), getMode(), {}, gradPattern};
  for (size_t position : others) {
    if (!THPVariable_Check(objects[position])) {
      entry.numbers.push_back(args[position]);
      continue;
    }
    const at::Tensor &tensor = THPVariable_Unpack(objects[position]);
    entry.specs.push_back({tensor.sizes().vec(), tensor.scalar_type()});
    entry.strides.push_back(tensor.strides().vec());
    entry.followed.push_back(at::GradMode::is_enabled() && tensor.requires_grad());
  }
  owner->entries.insert(owner->entries.begin(), std::move(entry));
  if (owner->entries.size() > kMostEntries)
    owner->entries.pop_back();
  return owner->number;
}

void GraphCalls::forget(int64_t number) {
  std::erase_if(owners, [&](const Owner &owner) { return owner.number == number; });
}

std::vector<std::pair<size_t, std::string>> GraphCalls::getStacks() const {
  std::vector<std::pair<size_t, std::string>> stacks;
  for (const Owner &owner : owners)
    for (const std::shared_ptr<Stack> &stack : owner.homes->getStacks())
      stacks.emplace_back(stack->size(), stack->getReason());
  return stacks;
}

static PyObject *callFromPython(PyObject *capsule, PyObject *args) {
  HANDLE_TH_ERRORS
  auto *calls = static_cast<std::shared_ptr<GraphCalls> *>(PyCapsule_GetPointer(capsule, nullptr));
  auto sequence = py::reinterpret_steal<py::object>(PySequence_Tuple(args));
  PyObject *result = nullptr;
  if (sequence)
    result = (*calls)->call(&PyTuple_GET_ITEM(sequence.ptr(), 0), PyTuple_GET_SIZE(sequence.ptr()));
  if (!result && !PyErr_Occurred())
    Py_RETURN_NOTIMPLEMENTED;
  return result;
  END_HANDLE_TH_ERRORS
}

static py::object makeCallable(const std::shared_ptr<GraphCalls> &calls) {
  static PyMethodDef method = {"call", &callFromPython, METH_O,
                               "Runs the plan that fits a sequence of arguments, or returns NotImplemented."};
  auto *owner = new std::shared_ptr<GraphCalls>(calls);
  auto capsule = py::reinterpret_steal<py::object>(PyCapsule_New(owner, nullptr, [](PyObject *object) {
    delete static_cast<std::shared_ptr<GraphCalls> *>(PyCapsule_GetPointer(object, nullptr));
  }));
  return py::reinterpret_steal<py::object>(PyCFunction_New(&method, capsule.ptr()));
}

void pfcn::bindGraphCalls(py::module_ &module) {
  py::class_<GraphCalls, std::shared_ptr<GraphCalls>>(module, "GraphCalls",
                                                      "Calls of a graph that is given its weights.")
      .def(py::init<size_t, const std::vector<size_t> &>(), py::arg("count"), py::arg("weights"))
      .def("callable", &makeCallable)
      .def(
          "add",
          [](GraphCalls &self, const std::vector<py::object> &args, const std::shared_ptr<Plan> &plan,
             const std::vector<std::string> &names, const NamedTensors &constants, const py::tuple &outputs,
             py::handle tensor) {
            std::vector<py::object> results;
            for (py::handle output : outputs)
              results.push_back(output.is(tensor) ? py::object() : py::reinterpret_borrow<py::object>(output));
            return self.add(args, plan, names, constants, std::move(results));
          },
          py::arg("args"), py::arg("plan"), py::arg("names"), py::arg("constants"), py::arg("outputs"),
          py::arg("tensor"), "`outputs` has `tensor` where a tensor of the plan stands. Returns the owner's number.")
      .def("forget", &GraphCalls::forget, "Lets go of the owner of this number.")
      .def_property_readonly("stacks", &GraphCalls::getStacks)
      .def_property_readonly("owners", &GraphCalls::getOwnerCount)
      .def_property_readonly(
          "hits", [](const GraphCalls &self) { return self.hits; }, "Calls answered without Python.");
}
