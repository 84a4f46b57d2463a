//===- Runtime.cpp - plans, weights and calls, for Python --------------------------===//

#include "Dispatcher.h"
#include "GraphCalls.h"
#include "Guards.h"
#include "Module.h"

#include "pfcn/Runtime/Binding.h"
#include "pfcn/Runtime/Calibrate.h"
#include "pfcn/Runtime/Compile.h"
#include "pfcn/Runtime/CudaLaunch.h"
#include "pfcn/Runtime/MachineProbe.h"
#include "pfcn/Runtime/Reproducer.h"
#include "pfcn/Runtime/StackedLeaf.h"

#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>

namespace py = pybind11;
using namespace pfcn;
using namespace pfcn::runtime;

/// `pfcn.CudaError`, with the driver's name for the error and what to do.
static void raise(const CudaFailure &failure) {
  py::object type = py::module_::import("pfcn.errors").attr("CudaError");
  PyErr_SetObject(type.ptr(), type(failure.name, failure.what(), failure.remedy).ptr());
}

/// `pfcn.CompileError`, with a file that reproduces it.
static void raise(const CompileFailure &failure) {
  py::object make = py::module_::import("pfcn.errors").attr("compile_failure");
  py::object error = make(failure.phase, failure.what(), failure.reproducer, failure.flags);
  PyErr_SetObject(py::type::of(error).ptr(), error.ptr());
}

/// The Python callable of a dispatcher, of a tuple and a dictionary: NotImplemented where Python has to decide.
static PyObject *callDispatcher(PyObject *capsule, PyObject *const *args, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  if (count != 2 || !PyTuple_CheckExact(args[0]) || !PyDict_CheckExact(args[1]) || PyDict_GET_SIZE(args[1]) != 0)
    Py_RETURN_NOTIMPLEMENTED;
  auto *dispatcher = static_cast<std::shared_ptr<Dispatcher> *>(PyCapsule_GetPointer(capsule, nullptr));
  PyObject *result = nullptr;
  try {
    result =
        (*dispatcher)->call({PySequence_Fast_ITEMS(args[0]), static_cast<size_t>(PyTuple_GET_SIZE(args[0]))}, args[1]);
  } catch (const CudaFailure &failure) {
    raise(failure);
  }
  if (!result && !PyErr_Occurred())
    Py_RETURN_NOTIMPLEMENTED;
  return result;
  END_HANDLE_TH_ERRORS
}

static py::object makeCallable(const std::shared_ptr<Dispatcher> &dispatcher) {
  static PyMethodDef method = {"dispatch", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&callDispatcher)),
                               METH_FASTCALL, "Runs the plan that fits `(args, kwargs)`, or returns NotImplemented."};
  auto *owner = new std::shared_ptr<Dispatcher>(dispatcher);
  auto capsule = py::reinterpret_steal<py::object>(PyCapsule_New(owner, nullptr, [](PyObject *object) {
    delete static_cast<std::shared_ptr<Dispatcher> *>(PyCapsule_GetPointer(object, nullptr));
  }));
  return py::reinterpret_steal<py::object>(PyCFunction_New(&method, capsule.ptr()));
}

static std::vector<at::Tensor> runBound(const BoundPlan &bound, const std::vector<at::Tensor> &inputs,
                                        bool isFollowed) {
  if (isFollowed) {
    (void)bound.getGradPattern(); // looks at the parameters that train as one
    llvm::SmallVector<std::shared_ptr<const Stack>, 8> stacks;
    auto leaves = bound.getFollowed(stacks);
    py::gil_scoped_release noGil;
    std::vector<at::Tensor> results = bound.getPlan().runFollowed(inputs, leaves, stacks);
    bound.writeBack(results);
    return results;
  }
  auto leaves = bound.getLeaves();
  py::gil_scoped_release noGil;
  std::vector<at::Tensor> results = bound.getPlan().run(inputs, leaves);
  bound.writeBack(results);
  return results;
}

static void bindPlan(py::module_ &module) {
  py::class_<Plan, std::shared_ptr<Plan>>(module, "Plan", "A compiled model as steps; it holds no weights.")
      .def_property_readonly(
          "steps",
          [](const Plan &plan) {
            std::vector<std::pair<std::string, std::string>> steps;
            for (const Step &step : plan.getSteps())
              steps.emplace_back(getName(step.kind), step.name);
            return steps;
          },
          "(kind, name) of each step; the kinds are kernel, library, operator, view, allocation, copy.")
      .def_property_readonly("inputs",
                             [](const Plan &plan) {
                               std::vector<std::string> inputs;
                               for (const TensorSpec &spec : plan.getInputs())
                                 inputs.push_back(spec.str());
                               return inputs;
                             })
      .def_property_readonly(
          "leaves",
          [](const Plan &plan) {
            std::vector<std::vector<std::string>> leaves;
            for (const Leaf &leaf : plan.getLeaves())
              leaves.push_back(leaf.paths);
            return leaves;
          },
          "The paths of the parameters of each weight.");

  py::class_<BoundPlan, std::shared_ptr<BoundPlan>>(module, "BoundPlan", "A plan with the weights of a model.")
      .def(py::init([](const std::shared_ptr<Plan> &plan, const NamedTensors &tensors, Weights &weights, bool freeze) {
             return std::make_shared<BoundPlan>(plan, tensors, weights, freeze);
           }),
           py::arg("plan"), py::arg("tensors"), py::arg("weights"), py::arg("freeze") = false)
      .def_property_readonly("grad_pattern", &BoundPlan::getGradPattern,
                             "A number for which of its parameters autograd follows; 0 for none.")
      .def("is_current", &BoundPlan::isCurrent, "Whether its single parameters still have their types.")
      .def("run", &runBound, py::arg("inputs"), py::arg("followed") = false,
           "The results as a list of tensors, followed by autograd or not.");
}

/// Of a tensor that has a hook of either kind.
static std::function<StackedLeaf::Hooks()> watchHooks(const at::Tensor &tensor) {
  return [weak = WeakTensor(tensor.getIntrusivePtr())] {
    py::gil_scoped_acquire gil;
    auto object = py::reinterpret_steal<py::object>(THPVariable_Wrap(lock(weak)));
    auto *variable = reinterpret_cast<THPVariable *>(object.ptr());
    auto haveMore = [](PyObject *hooks) { return hooks && PyObject_Size(hooks) > 1; };
    return StackedLeaf::Hooks{haveMore(variable->backward_hooks) || haveMore(variable->post_accumulate_grad_hooks),
                              countHooks().cast<int64_t>()};
  };
}

static void bindWeights(py::module_ &module) {
  py::class_<StackedLeaf, std::shared_ptr<StackedLeaf>>(module, "StackedLeaf", "n parameters that train as one.")
      .def_property_readonly("parameter", &StackedLeaf::getParameter)
      .def("get_grad",
           [](StackedLeaf &leaf) {
             at::Tensor grad = leaf.getGrad();
             return grad.defined() ? std::optional<at::Tensor>(grad) : std::nullopt;
           })
      .def("set_grad",
           [](StackedLeaf &leaf, const std::optional<at::Tensor> &grad) { leaf.setGrad(grad.value_or(at::Tensor())); })
      .def("before_accumulation", &StackedLeaf::beforeAccumulation)
      .def("after_accumulation", &StackedLeaf::afterAccumulation)
      .def_property_readonly("members", &StackedLeaf::getMembers);
  py::class_<Weights, std::shared_ptr<Weights>>(module, "Weights", "The homes of a model's stacked parameters.")
      .def(py::init<>())
      .def(
          "home", [](const Weights &weights, size_t index) { return weights.getStacks().at(index)->get(); },
          "The stacked tensor of a stack.")
      .def("members",
           [](const Weights &weights, size_t index) {
             std::vector<at::Tensor> members;
             for (const WeakTensor &member : weights.getStacks().at(index)->getMembers())
               members.push_back(lock(member));
             return members;
           })
      .def(
          "leaf", [](const Weights &weights, size_t index) { return weights.getStacks().at(index)->getLeaf(); },
          "The leaf that was made of a stack, or None.")
      .def(
          "add_leaf",
          [](Weights &weights, size_t index, const at::Tensor &parameter) {
            return weights.addLeaf(index, parameter, watchHooks(parameter));
          },
          py::arg("index"), py::arg("parameter"),
          "Makes a stack a leaf of autograd: `parameter` lies where the stack does, and has a hook of either kind.")
      .def("take_leaves", &Weights::takeLeaves, "The leaves of what was known of the model before it changed.")
      .def("is_settled", &Weights::isSettled, "Whether every parameter is where it was put.")
      .def("settle", &Weights::settle, "Finds homes for parameters that moved; False where one changed its type.")
      .def_property_readonly(
          "stacks",
          [](const Weights &weights) {
            std::vector<std::pair<size_t, std::string>> stacks;
            for (const std::shared_ptr<Stack> &stack : weights.getStacks())
              stacks.emplace_back(stack->size(), stack->getReason());
            return stacks;
          },
          "(number of parameters, why they are copied for each call or '') of each stack.");
  module.def("pack_interleaved", &packInterleaved, py::arg("stacked"), py::arg("lanes"));
}

static void bindCalls(py::module_ &module) {
  py::class_<Guards, std::shared_ptr<Guards>>(module, "Guards", "Whether dictionaries are as they were.")
      .def(py::init<const std::vector<py::dict> &, const std::vector<py::object> &>(), py::arg("dicts"),
           py::arg("scripted") = std::vector<py::object>())
      .def("are_unchanged", [](const Guards &self) { return self.areUnchanged(); })
      .def("rearm", &Guards::rearm)
      .def("have_changed", &Guards::haveChanged, "Whether one holds other objects than before.");

  py::class_<CallShape, std::shared_ptr<CallShape>>(module, "CallShape", "How tensors lie in arguments and result.")
      .def_static(
          "of",
          [](const py::tuple &arguments, py::handle result, py::handle tensor) -> std::shared_ptr<CallShape> {
            std::optional<Nest> in = Nest::of(arguments, tensor), out = Nest::of(result, tensor);
            return in && out ? std::make_shared<CallShape>(CallShape{std::move(*in), std::move(*out)}) : nullptr;
          },
          py::arg("arguments"), py::arg("result"), py::arg("tensor"),
          "Of nests with `tensor` for each tensor; None where Python has to take them apart.");

  py::class_<Dispatcher, std::shared_ptr<Dispatcher>>(module, "Dispatcher", "From a Python call to a plan.")
      .def(py::init<>())
      .def("callable", &makeCallable)
      .def("clear",
           [](Dispatcher &self) {
             self.entries.clear();
             self.weights = nullptr; // what is made next may move its parameters
           })
      .def(
          "add",
          [](Dispatcher &self, std::shared_ptr<BoundPlan> plan, const std::vector<at::Tensor> &inputs, int mode,
             std::shared_ptr<const CallShape> shape, std::vector<bool> followed, uint64_t gradPattern) {
            std::vector<TensorSpec> specs;
            std::vector<std::vector<int64_t>> strides;
            for (const at::Tensor &input : inputs) {
              specs.push_back({input.sizes().vec(), input.scalar_type()});
              strides.push_back(input.strides().vec());
            }
            c10::Device device = plan->getPlan().getDevice();
            self.entries.insert(self.entries.begin(), {std::move(plan), std::move(specs), std::move(strides), device,
                                                       mode, std::move(shape), std::move(followed), gradPattern});
          },
          py::arg("plan"), py::arg("inputs"), py::arg("mode"), py::arg("shape"), py::arg("followed"),
          py::arg("grad_pattern"))
      .def(
          "watch",
          [](Dispatcher &self, std::shared_ptr<Guards> guards, std::shared_ptr<Weights> weights,
             std::vector<py::dict> hooks) {
            self.guards = std::move(guards);
            self.weights = std::move(weights);
            self.hooks = std::move(hooks);
          },
          py::arg("guards").none(true), py::arg("weights").none(true), py::arg("hooks"))
      .def("have_hooks_changed", &Dispatcher::haveHooksChanged)
      .def("note_hooks", &Dispatcher::noteHooks)
      .def_property_readonly(
          "hits", [](const Dispatcher &self) { return self.hits; }, "Calls answered without Python.");

  module.def("get_mode", &getMode,
             "0: no grad, 1: grad, 2: inference; 4 more where f32 may be multiplied as tf32, 8 and more for autocast.");
  module.def("allows_tf32", &allowsTf32, "Whether torch's settings allow it for matrix products on a GPU.");
  module.def("is_plain_dispatch", &isPlainDispatch, py::kw_only(), py::arg("allows_autocast") = false,
             "No modes, transforms, autocast or tracing on this thread.");
  module.def("is_plain_tensor", [](py::handle object) { return isPlainTensor(object.ptr()); });
}

static py::dict describeGroup(const GroupInfo &group) {
  using namespace py::literals;
  return py::dict("name"_a = group.name, "instances"_a = group.instances, "ops"_a = group.ops,
                  "operands"_a = group.operands, "kernels"_a = group.kernels, "calls"_a = group.calls,
                  "tensor_cores"_a = group.tensorCores, "reason"_a = group.reason, "declined"_a = group.declined,
                  "choice"_a = group.choice, "padding"_a = group.padding, "where"_a = group.where,
                  "flops"_a = group.flops, "bytes_before"_a = group.bytesBefore, "bytes_after"_a = group.bytesAfter);
}

static py::dict describeMiss(const Miss &miss) {
  using namespace py::literals;
  return py::dict("reason"_a = miss.reason, "suggestion"_a = miss.suggestion, "where"_a = miss.where,
                  "other"_a = miss.other);
}

template <typename T> static py::list describeAll(const std::vector<T> &items, py::dict (*describe)(const T &)) {
  py::list result;
  for (const T &item : items)
    result.append(describe(item));
  return result;
}

static void bindCompile(py::module_ &module) {
  py::class_<Compilation, std::shared_ptr<Compilation>>(module, "Compilation", "A plan, and how it came about.")
      .def_property_readonly("plan", [](const Compilation &self) { return std::const_pointer_cast<Plan>(self.plan); })
      .def_property_readonly("groups", [](const Compilation &self) { return describeAll(self.groups, &describeGroup); })
      .def_property_readonly("missed", [](const Compilation &self) { return describeAll(self.missed, &describeMiss); })
      .def_readonly("seconds", &Compilation::seconds, "(phase, seconds) in order.")
      .def_readonly("fused_text", &Compilation::fusedText, "The module after detection.")
      .def_readonly("lowered_text", &Compilation::loweredText, "The module as it is executed.");

  module.def(
      "compile",
      [](const Model &model, bool freeze, bool useKernels, bool fuse, std::vector<std::vector<int64_t>> outputStrides,
         std::optional<int> cudaDevice, bool cudaCopies, bool differentiate, bool allowTf32) {
        CompileOptions options{freeze,     useKernels,    fuse,      cudaDevice,
                               cudaCopies, differentiate, allowTf32, std::move(outputStrides)};
        return compile(model, options);
      },
      py::arg("model"), py::kw_only(), py::arg("freeze") = false, py::arg("use_kernels") = true, py::arg("fuse") = true,
      py::arg("output_strides") = std::vector<std::vector<int64_t>>(), py::arg("cuda_device") = py::none(),
      py::arg("cuda_copies") = false, py::arg("differentiate") = false, py::arg("allow_tf32") = false);
  module.def(
      "find_cuda_device",
      [](int ordinal) {
        cuda::Device *device = valueOrThrow(cuda::getDevice(ordinal));
        return std::make_pair(device->getName(), device->getChip());
      },
      py::arg("ordinal"), "(name, chip) of a CUDA device; raises CudaError where there is none.");
  module.def("inject_failure", &injectFailure, py::arg("phase"),
             "For tests: detect, lower, kernels or plan fails from now on; '' for none.");
  module.def("parse", &parseModel, py::arg("text"), py::arg("tensors"), "A model from MLIR text.");
}

void pfcn::bindRuntime(py::module_ &module) {
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      std::rethrow_exception(pointer);
    } catch (const CudaFailure &failure) {
      raise(failure);
    } catch (const CompileFailure &failure) {
      raise(failure);
    }
  });
  bindPlan(module);
  bindWeights(module);
  bindCalls(module);
  bindGraphCalls(module);
  module.def("probe_read_bandwidth", &probeReadBandwidth, py::arg("bytes"), py::arg("threads"),
             py::call_guard<py::gil_scoped_release>(), "Bytes per second of reading a working set of this size.");
  module.def("probe_peak_flops", &probePeakFlops, py::arg("threads"), py::call_guard<py::gil_scoped_release>(),
             "Single-precision operations per second of multiply-adds alone.");
  module.def(
      "calibrate",
      [](const std::string &text) {
        mlir::pfcn::CpuMachine machine = text.empty() ? measureMachine() : loadMachine();
        llvm::Error error = machine.set(text);
        TORCH_CHECK_VALUE(!error, "pfcn: ", llvm::toString(std::move(error)));
        storeMachine(machine);
        return loadMachine().str();
      },
      py::arg("text"), "Measures what the cost models know of this machine, or sets it; stores and returns it.");
  bindCompile(module);
}
