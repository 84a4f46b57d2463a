//===- Import.cpp - the front ends, for Python -------------------------------------===//
//
// The recorder with what only the interpreter knows: which module is being called, and
// which line of the user's code is running.
//
//===----------------------------------------------------------------------------===//

#include "Module.h"

#include "pfcn/Import/Recorder.h"
#include "pfcn/Import/TorchScript.h"

#include <llvm/Support/raw_ostream.h>
#include <pybind11/stl.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/python/module_python.h>

#include <frameobject.h>

namespace py = pybind11;
using namespace pfcn;

//===----------------------------------------------------------------------------===//
// Places
//===----------------------------------------------------------------------------===//

/// By the name of the node's class, which torch does not export.
static std::string getAutogradFunction(const at::Tensor &tensor) {
  const torch::autograd::Node *node = tensor.grad_fn().get();
  bool isPython = node && std::string_view(typeid(*node).name()).find("6PyNode") != std::string_view::npos;
  return isPython ? node->name() : std::string();
}

/// Whether a method of the ScriptModule assigns an attribute.
static bool assignsAttribute(at::ArrayRef<torch::jit::Block *> blocks) {
  for (torch::jit::Block *block : blocks)
    for (torch::jit::Node *node : block->nodes())
      if (node->kind() == c10::prim::SetAttr || assignsAttribute(node->blocks()))
        return true;
  return false;
}

static bool assignsAttribute(py::object source) {
  std::optional<torch::jit::Module> module = torch::jit::as_module(source);
  for (const torch::jit::Method &method : module->get_methods())
    if (torch::jit::Block *block = method.graph()->block(); assignsAttribute(block))
      return true;
  return false;
}

namespace {
/// Finds the innermost frame of the user's code; what it learns of a code object it keeps.
class SourceLines {
public:
  explicit SourceLines(std::vector<std::string> foreignRoots) : foreignRoots(std::move(foreignRoots)) {}

  void locate(Tape &tape, Place &place) {
    PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
    while (frame) {
      PyCodeObject *code = PyFrame_GetCode(frame);
      int file = getFile(tape, code);
      Py_DECREF(code);
      if (file >= 0) {
        place.file = file;
        place.line = PyFrame_GetLineNumber(frame);
        Py_DECREF(frame);
        return;
      }
      PyFrameObject *caller = PyFrame_GetBack(frame);
      Py_DECREF(frame);
      frame = caller;
    }
  }

private:
  /// -1 for the code of torch, of pfcn and of the interpreter itself.
  int getFile(Tape &tape, PyCodeObject *code) {
    auto [it, isNew] = files.try_emplace(code, -1);
    if (!isNew)
      return it->second;
    kept.push_back(py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject *>(code)));
    std::string name = py::cast<std::string>(py::handle(code->co_filename));
    bool isForeign = name.starts_with("<frozen") || name.starts_with("<eval_with_key>");
    for (const std::string &root : foreignRoots)
      isForeign |= name.starts_with(root);
    if (!isForeign)
      it->second = tape.intern(name);
    return it->second;
  }

  std::vector<std::string> foreignRoots;
  std::unordered_map<PyCodeObject *, int> files;
  std::vector<py::object> kept; // so that their addresses are not used again
};

/// A recording of the calling thread, and the modules that it is inside of.
class PythonRecorder {
public:
  PythonRecorder(const std::vector<std::pair<py::object, std::string>> &modules, std::vector<std::string> foreignRoots)
      : lines(std::move(foreignRoots)),
        recorder({.locate = [this](Tape &tape) { return locate(tape); }, .getAutogradFunction = &getAutogradFunction}) {
    for (const auto &[module, path] : modules)
      paths[module.ptr()] = recorder.getTape().intern(path);
  }

  void enter(py::handle module) {
    auto it = paths.find(module.ptr());
    stack.push_back(it == paths.end() ? (stack.empty() ? -1 : stack.back()) : it->second);
  }
  void leave() { stack.pop_back(); }

  /// Where the calls from here on come from, for graphs that say so themselves.
  void setPlace(const std::string &module, const std::string &file, int line) {
    Tape &tape = recorder.getTape();
    place = Place{tape.intern(module), file.empty() ? -1 : tape.intern(file), line};
  }

  Recorder &get() { return recorder; }

private:
  Place locate(Tape &tape) {
    if (place)
      return *place;
    py::gil_scoped_acquire lock;
    Place place;
    place.module = stack.empty() ? -1 : stack.back();
    lines.locate(tape, place);
    return place;
  }

  SourceLines lines;
  Recorder recorder;
  std::unordered_map<PyObject *, int> paths;
  std::vector<int> stack;
  std::optional<Place> place;
};
} // namespace

static std::string print(Model &model, bool locations, bool generic) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  mlir::OpPrintingFlags flags;
  flags.enableDebugInfo(locations, /*prettyForm=*/false);
  flags.printGenericOpForm(generic);
  model.module->print(stream, flags);
  return text;
}

static std::vector<std::string> getTensorNames(const Model &model) {
  std::vector<std::string> names;
  names.reserve(model.tensors.size());
  for (const auto &[name, tensor] : model.tensors)
    names.push_back(name);
  return names;
}

/// A ScriptModule, or the path of a file that holds one.
static std::shared_ptr<Model> importModule(py::object source, const std::string &shapes) {
  std::vector<InputSpec> inputs = parseInputSpecs(shapes);
  if (std::optional<torch::jit::Module> module = torch::jit::as_module(source))
    return buildModel(*importTorchScript(*module, inputs));
  std::string path = py::cast<std::string>(py::module_::import("os").attr("fspath")(source));
  return buildModel(*importTorchScript(loadTorchScript(path), inputs));
}

void pfcn::bindImport(py::module_ &module) {
  py::register_local_exception_translator([](std::exception_ptr pointer) {
    try {
      std::rethrow_exception(pointer);
    } catch (const ImportError &error) {
      py::object type = py::module_::import("pfcn.errors").attr("ImportError_");
      PyErr_SetString(type.ptr(), error.what());
    }
  });
  module.def("import_torchscript", &importModule, py::arg("source"), py::arg("shapes"),
             "A ScriptModule, or a .pt file, as a Model; shapes as in pfcn-opt --input-shapes.");

  py::class_<Model, std::shared_ptr<Model>>(module, "Model", "A model in the pfcn dialect, and its tensors by name.")
      .def("text", &print, py::arg("locations") = false, py::arg("generic") = false, "The module as MLIR.")
      .def_property_readonly("tensor_names", &getTensorNames)
      .def_property_readonly("tensors", [](const Model &model) { return model.tensors; });

  py::class_<Tape, std::shared_ptr<Tape>>(module, "Tape", "The dispatcher calls of one forward.")
      .def_property_readonly("key", &Tape::getKey)
      .def("__len__", [](const Tape &tape) { return tape.calls.size(); })
      .def_property_readonly(
          "writes",
          [](const Tape &tape) {
            std::vector<std::string> paths;
            paths.reserve(tape.writes.size());
            for (const auto &[path, value] : tape.writes)
              paths.push_back(path);
            return paths;
          },
          "The parameters and buffers that the forward writes.")
      .def_property_readonly(
          "calls",
          [](const Tape &tape) {
            std::vector<std::pair<std::string, std::string>> calls;
            calls.reserve(tape.calls.size());
            for (const TapeCall &call : tape.calls)
              calls.emplace_back(call.getName(), tape.describe(call.place));
            return calls;
          },
          "(operator, place) of each call.")
      .def(
          "release_leaves", [](Tape &tape) { tape.leaves.clear(); },
          "Lets go of the parameters, once the tape is built.")
      .def("build", &buildModel, "The tape in the pfcn dialect.");
  module.def("unify", [](const Tape &a, const Tape &b) -> std::shared_ptr<Tape> {
    std::optional<Tape> joined = unify(a, b);
    return joined ? std::make_shared<Tape>(std::move(*joined)) : nullptr;
  });
  module.def("matches", &matches);

  module.def("assigns_attribute", py::overload_cast<py::object>(&assignsAttribute),
             "Whether a method of a ScriptModule assigns an attribute.");

  py::class_<PythonRecorder>(module, "Recorder")
      .def(py::init<const std::vector<std::pair<py::object, std::string>> &, std::vector<std::string>>())
      .def("add_input", [](PythonRecorder &self, const at::Tensor &tensor) { self.get().addInput(tensor); })
      .def("add_leaf", [](PythonRecorder &self, const std::string &name,
                          const at::Tensor &tensor) { self.get().addLeaf(name, tensor, tensor); })
      .def("allow_writes", [](PythonRecorder &self) { self.get().allowWrites(); })
      .def("finish", [](PythonRecorder &self) { self.get().finish(); })
      .def("start", [](PythonRecorder &self) { self.get().start(); })
      .def("stop", [](PythonRecorder &self) { self.get().stop(); })
      .def("enter", &PythonRecorder::enter)
      .def("leave", &PythonRecorder::leave)
      .def("set_place", &PythonRecorder::setPlace, py::arg("module"), py::arg("file"), py::arg("line"))
      .def("refuse", [](PythonRecorder &self, std::string reason,
                        std::string remedy) { self.get().refuse(std::move(reason), std::move(remedy)); })
      .def_property_readonly("refusal",
                             [](PythonRecorder &self) -> py::object {
                               const std::optional<Refusal> &refusal = self.get().getRefusal();
                               if (!refusal)
                                 return py::none();
                               return py::make_tuple(refusal->reason, refusal->where, refusal->remedy);
                             })
      .def(
          "add_output",
          [](PythonRecorder &self, const at::Tensor &tensor) {
            self.get().addOutput(tensor);
            return self.get().aliasesForeign(tensor);
          },
          "Whether the output shares memory with an input, a parameter or a buffer.")
      .def("check_unwritten", [](PythonRecorder &self) { self.get().checkUnwritten(); })
      .def_property_readonly("tape", [](PythonRecorder &self) { return self.get().getSharedTape(); });
}
