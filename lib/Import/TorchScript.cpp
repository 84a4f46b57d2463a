//===- TorchScript.cpp - imports scripted, traced and frozen modules -------------===//
//
// An interpreter of TorchScript graphs. Control flow is run, lists, tuples, dicts and
// numbers are concrete; weights are stand-ins on the meta device. Calls of methods are
// followed rather than inlined, so the path of the module is known at each operator.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Import/TorchScript.h"

#include "TorchScriptOps.h"
#include "pfcn/Import/Recorder.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <c10/core/GradMode.h>
#include <c10/util/ScopeExit.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/operator.h>
#include <torch/csrc/jit/serialization/import.h>

#include <llvm/ADT/StringExtras.h>
#include <llvm/ADT/StringRef.h>
#include <llvm/Support/FileSystem.h>
#include <llvm/Support/raw_ostream.h>

#include <array>
#include <unordered_set>

namespace jit = torch::jit;
using namespace pfcn;
using c10::IValue;

//===----------------------------------------------------------------------------===//
// The interpreter
//===----------------------------------------------------------------------------===//

namespace {
/// Values of one call of a method, and where that call stands.
struct Frame {
  std::unordered_map<const jit::Value *, IValue> values;
  Place place; // of the call, in the user's code

  IValue &operator[](const jit::Value *value) { return values[value]; }
  const IValue &at(const jit::Value *value) const { return values.at(value); }
};

class Interpreter {
public:
  Interpreter(const jit::Module &module, const TorchScriptLimits &limits);
  std::shared_ptr<Tape> run(const std::vector<InputSpec> &inputs);

private:
  IValue makeArgument(const c10::TypePtr &type, llvm::ArrayRef<InputSpec> &inputs, bool isLast);
  std::vector<IValue> makeArguments(const c10::FunctionSchema &schema, llvm::ArrayRef<InputSpec> inputs);
  void addOutputs(const IValue &value);

  IValue call(jit::Function &function, std::vector<IValue> arguments, const jit::Node *site, Frame *caller);
  void runBlock(const jit::Block *block, Frame &frame);
  void runNode(const jit::Node *node, Frame &frame);
  void runLoop(const jit::Node *node, Frame &frame);
  void runOperator(const jit::Node *node, Frame &frame);
  IValue makeList(const jit::Node *node, const Frame &frame);
  IValue makeDict(const jit::Node *node, const Frame &frame);
  IValue getAttribute(const c10::intrusive_ptr<c10::ivalue::Object> &object, const std::string &name);
  /// Runs what only computes numbers, or a literal, without recording it.
  template <typename Run> void runUnrecorded(Run run);

  IValue standIn(const IValue &value, const std::string &name);
  /// A name for a tensor that the module has none for.
  std::string nameConstant();
  void moveToMeta(const c10::FunctionSchema *schema, const jit::Node *node, jit::Stack &stack);
  Place locate(const jit::Node *node, const Frame &frame);
  [[noreturn]] void fail(const std::string &message, const jit::Node *node, const Frame &frame);

  const jit::Module &module;
  TorchScriptLimits limits;
  Recorder recorder;
  Place place;
  std::unordered_map<const at::TensorImpl *, std::string> names; // of parameters and buffers
  std::unordered_set<std::string> takenNames;
  std::unordered_map<const at::TensorImpl *, at::Tensor> standIns; // on the meta device
  std::unordered_map<const c10::ivalue::Object *, int> paths;
  std::unordered_map<const jit::Node *, Place> places; // the user's line; no file for torch's own
  std::vector<int> modules;
  std::unordered_map<const c10::ivalue::Object *, std::unordered_map<std::string, IValue>> attributes;
  int64_t steps = 0;
  Budget budget;
  int constants = 0;
};
} // namespace

Interpreter::Interpreter(const jit::Module &module, const TorchScriptLimits &limits)
    : module(module), limits(limits),
      recorder({.locate = [this](Tape &) { return place; }, .isAbstract = true, .getAutogradFunction = {}}),
      budget(limits.elements) {
  for (const auto &named : module.named_modules())
    paths.try_emplace(named.value._ivalue().get(), recorder.getTape().intern(named.name));
  for (const auto &named : module.named_parameters())
    names.try_emplace(named.value.unsafeGetTensorImpl(), named.name);
  for (const auto &named : module.named_buffers())
    names.try_emplace(named.value.unsafeGetTensorImpl(), named.name);
  for (const auto &named : module.named_attributes())
    if (named.value.isTensor())
      names.try_emplace(named.value.toTensor().unsafeGetTensorImpl(), named.name);
  for (const auto &[tensor, name] : names)
    takenNames.insert(name);
}

void Interpreter::fail(const std::string &message, const jit::Node *node, const Frame &frame) {
  std::string where = recorder.getTape().describe(locate(node, frame));
  throw ImportError(where.empty() ? message : message + " in " + where);
}

static bool isTorchSource(const std::string &file) {
  return file.find("/torch/nn/") != std::string::npos || file.find("/torch/functional.py") != std::string::npos ||
         file.find("/torch/_") != std::string::npos || file.find("/torch/jit/") != std::string::npos;
}

/// A line of the source as the user wrote it: of a saved module, not of the code that torch
/// generated from it.
static std::optional<std::tuple<std::string, size_t, size_t>> getLine(const jit::SourceRange &range) {
  std::optional<jit::SourceRange> original = range.findSourceRangeThatGenerated();
  return original ? original->file_line_col() : range.file_line_col();
}

/// The innermost line that is not torch's own.
Place Interpreter::locate(const jit::Node *node, const Frame &frame) {
  auto [it, isNew] = places.try_emplace(node);
  if (isNew)
    if (auto line = getLine(node->sourceRange()); line && !isTorchSource(std::get<0>(*line))) {
      it->second.file = recorder.getTape().intern(std::get<0>(*line));
      it->second.line = static_cast<int>(std::get<1>(*line));
    }
  Place result = it->second.file >= 0 ? it->second : frame.place;
  if (result.file < 0) // a node that torch made up: the line before
    result = place;
  result.module = modules.empty() ? -1 : modules.back();
  return result;
}

template <typename Run> void Interpreter::runUnrecorded(Run run) {
  recorder.stop();
  auto resume = c10::make_scope_exit([&] { recorder.start(); });
  run();
}

std::string Interpreter::nameConstant() {
  std::string name;
  do
    name = "constants." + std::to_string(constants++);
  while (takenNames.contains(name));
  return name;
}

/// A tensor of the model as one of the meta device.
IValue Interpreter::standIn(const IValue &value, const std::string &fallbackName) {
  if (!value.isTensor() || !value.toTensor().defined() || value.toTensor().is_meta())
    return value;
  const at::Tensor &tensor = value.toTensor();
  at::Tensor &meta = standIns[tensor.unsafeGetTensorImpl()];
  if (meta.defined())
    return meta;
  if (tensor.layout() != at::kStrided || tensor.is_quantized())
    throw ImportError("a weight is sparse or quantized, which is not supported");
  auto it = names.find(tensor.unsafeGetTensorImpl());
  runUnrecorded([&] {
    meta = at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(at::kMeta).requires_grad(false));
    recorder.addLeaf(it == names.end() ? fallbackName : it->second, meta, tensor);
  });
  return meta;
}

IValue Interpreter::getAttribute(const c10::intrusive_ptr<c10::ivalue::Object> &object, const std::string &name) {
  IValue &cached = attributes[object.get()][name];
  if (!cached.isNone())
    return cached;
  IValue value = object->getAttr(name);
  auto path = paths.find(object.get());
  std::string prefix = path == paths.end() ? "" : recorder.getTape().strings[path->second];
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor &tensor : value.toTensorVector())
      list.push_back(standIn(tensor, nameConstant()).toTensor());
    value = list;
  }
  return cached = standIn(value, prefix.empty() ? name : prefix + "." + name);
}

IValue Interpreter::makeList(const jit::Node *node, const Frame &frame) {
  c10::TypePtr type = node->output()->type()->expectRef<c10::ListType>().getElementType();
  c10::impl::GenericList list(type);
  for (const jit::Value *input : node->inputs())
    list.push_back(frame.at(input));
  if (type->isSubtypeOf(*c10::TensorType::get()))
    return c10::impl::toTypedList<at::Tensor>(list);
  switch (type->kind()) {
  case c10::TypeKind::IntType:
    return c10::impl::toTypedList<int64_t>(list);
  case c10::TypeKind::FloatType:
    return c10::impl::toTypedList<double>(list);
  case c10::TypeKind::BoolType:
    return c10::impl::toTypedList<bool>(list);
  default:
    return list;
  }
}

IValue Interpreter::makeDict(const jit::Node *node, const Frame &frame) {
  const auto &type = node->output()->type()->expectRef<c10::DictType>();
  c10::impl::GenericDict dict(type.getKeyType(), type.getValueType());
  for (size_t i = 0; i + 1 < node->inputs().size(); i += 2)
    dict.insert_or_assign(frame.at(node->input(i)), frame.at(node->input(i + 1)));
  return dict;
}

void Interpreter::runLoop(const jit::Node *node, Frame &frame) {
  const jit::Block *body = node->blocks()[0];
  int64_t maximum = frame.at(node->input(0)).toInt();
  bool goesOn = frame.at(node->input(1)).toBool();
  std::vector<IValue> carried;
  for (size_t i = 2; i < node->inputs().size(); ++i)
    carried.push_back(frame.at(node->input(i)));
  for (int64_t trip = 0; trip < maximum && goesOn; ++trip) {
    if (++steps > limits.steps)
      fail("the model does not end within " + std::to_string(limits.steps) + " steps", node, frame);
    frame[body->inputs()[0]] = trip;
    for (size_t i = 0; i < carried.size(); ++i)
      frame[body->inputs()[i + 1]] = carried[i];
    runBlock(body, frame);
    goesOn = frame.at(body->outputs()[0]).toBool();
    for (size_t i = 0; i < carried.size(); ++i)
      carried[i] = frame.at(body->outputs()[i + 1]);
  }
  for (size_t i = 0; i < carried.size(); ++i)
    frame[node->output(i)] = carried[i];
}

/// Whether the tensor holds a number that the graph computes with, not one of the model's data.
static bool isConcrete(const at::Tensor &tensor) { return tensor.defined() && !tensor.is_meta(); }

/// New tensors go to the meta device, wherever the graph asks for them.
void Interpreter::moveToMeta(const c10::FunctionSchema *schema, const jit::Node *node, jit::Stack &stack) {
  bool readsTensor = false;
  for (IValue &value : stack) {
    readsTensor |= value.isTensor() || value.isTensorList();
    if (value.isDevice())
      value = at::Device(at::kMeta);
  }
  if (!schema || readsTensor || schema->arguments().size() != stack.size())
    return;
  for (size_t i = 0; i < stack.size(); ++i)
    if (schema->arguments()[i].name() == "device" && stack[i].isNone())
      stack[i] = at::Device(at::kMeta);
}

void Interpreter::runOperator(const jit::Node *node, Frame &frame) {
  jit::Stack stack;
  bool readsConcrete = false, readsMeta = false;
  auto look = [&](const at::Tensor &tensor) { (isConcrete(tensor) ? readsConcrete : readsMeta) |= tensor.defined(); };
  for (const jit::Value *input : node->inputs()) {
    stack.push_back(frame.at(input));
    if (stack.back().isTensor())
      look(stack.back().toTensor());
    else if (stack.back().isTensorList())
      for (const at::Tensor &tensor : stack.back().toTensorVector())
        look(tensor);
  }
  std::string name = node->kind().toQualString();
  if (!mayRun(node))
    fail(name + " is none of the operators that an import runs", node, frame);
  if (static_cast<int64_t>(recorder.getTape().calls.size()) > limits.calls)
    throw ImportError("the model makes more than " + std::to_string(limits.calls) + " calls");
  budget.spend(name, stack);
  const c10::FunctionSchema *schema = node->maybeSchema();
  jit::Operation operation = node->getOperation();
  auto run = [&] {
    if (schema && schema->is_vararg())
      stack.emplace_back(static_cast<int64_t>(node->inputs().size()));
    operation(stack);
  };
  static const std::unordered_set<std::string> literals = {"aten::tensor", "aten::as_tensor", "prim::NumToTensor",
                                                           "aten::_infer_size"};
  if (!readsMeta && (literals.contains(name) || (readsConcrete && isArithmetic(name)))) {
    for (IValue &value : stack)
      if (value.isDevice())
        value = at::Device(at::kCPU);
    runUnrecorded(run);
    for (IValue &value : stack)
      if (value.isTensor() && isConcrete(value.toTensor()) && value.toTensor().dim() > 0)
        value = standIn(value, nameConstant());
  } else {
    if (readsConcrete && !readsMeta) // it would make memory of what is a number
      for (IValue &value : stack)
        value = standIn(value, value.isTensor() ? nameConstant() : "");
    moveToMeta(schema, node, stack);
    run();
  }
  if (stack.size() != node->outputs().size())
    fail(name + " left " + std::to_string(stack.size()) + " values", node, frame);
  for (size_t i = 0; i < stack.size(); ++i)
    frame[node->output(i)] = std::move(stack[i]);
}

void Interpreter::runNode(const jit::Node *node, Frame &frame) {
  using namespace c10;
  if (++steps > limits.steps)
    fail("the model does not end within " + std::to_string(limits.steps) + " steps", node, frame);
  switch (node->kind()) {
  case prim::Constant:
    if (node->output()->type()->kind() == TypeKind::FunctionType) {
      frame[node->output()] = IValue();
      return;
    }
    frame[node->output()] = *jit::toIValue(node->output());
    if (const IValue &value = frame[node->output()];
        value.isTensor() && value.toTensor().defined() && value.toTensor().dim() > 0) {
      bool isKnown = standIns.contains(value.toTensor().unsafeGetTensorImpl());
      frame[node->output()] = standIn(value, isKnown ? "" : nameConstant());
    }
    return;
  case prim::GetAttr:
    frame[node->output()] = getAttribute(frame.at(node->input()).toObject(), node->s(attr::name));
    return;
  case prim::SetAttr:
    fail("forward assigns the attribute '" + node->s(attr::name) + "'", node, frame);
  case prim::CallMethod: {
    std::vector<IValue> arguments;
    for (const jit::Value *input : node->inputs())
      arguments.push_back(frame.at(input));
    auto object = arguments[0].toObject();
    jit::Function &method = object->type()->getMethod(node->s(attr::name));
    auto path = paths.find(object.get());
    modules.push_back(path == paths.end() ? (modules.empty() ? -1 : modules.back()) : path->second);
    auto leave = c10::make_scope_exit([&] { modules.pop_back(); });
    frame[node->output()] = call(method, std::move(arguments), node, &frame);
    return;
  }
  case prim::CallFunction: {
    std::vector<IValue> arguments;
    for (const jit::Value *input : node->inputs().slice(1))
      arguments.push_back(frame.at(input));
    jit::Function &function = *node->input(0)->type()->expectRef<FunctionType>().function();
    frame[node->output()] = call(function, std::move(arguments), node, &frame);
    return;
  }
  case prim::If: {
    const jit::Block *block = node->blocks()[frame.at(node->input()).toBool() ? 0 : 1];
    runBlock(block, frame);
    for (size_t i = 0; i < node->outputs().size(); ++i)
      frame[node->output(i)] = frame.at(block->outputs()[i]);
    return;
  }
  case prim::Loop:
    return runLoop(node, frame);
  case prim::ListConstruct:
    frame[node->output()] = makeList(node, frame);
    return;
  case prim::DictConstruct:
    frame[node->output()] = makeDict(node, frame);
    return;
  case prim::TupleConstruct: {
    std::vector<IValue> elements;
    for (const jit::Value *input : node->inputs())
      elements.push_back(frame.at(input));
    frame[node->output()] = c10::ivalue::Tuple::create(std::move(elements));
    return;
  }
  case prim::TupleUnpack: {
    auto tuple = frame.at(node->input()).toTuple();
    for (size_t i = 0; i < node->outputs().size(); ++i)
      frame[node->output(i)] = tuple->elements()[i];
    return;
  }
  case prim::ListUnpack: {
    IValue list = frame.at(node->input());
    auto elements = list.toListRef();
    if (elements.size() != node->outputs().size())
      fail("a list of " + std::to_string(elements.size()) + " is unpacked into " +
               std::to_string(node->outputs().size()),
           node, frame);
    for (size_t i = 0; i < node->outputs().size(); ++i)
      frame[node->output(i)] = elements[i];
    return;
  }
  case prim::Uninitialized:
    frame[node->output()] = IValue();
    return;
  case prim::unchecked_cast:
  case prim::unchecked_unwrap_optional:
    frame[node->output()] = frame.at(node->input());
    return;
  case prim::Print:
  case aten::warn:
    return;
  case prim::RaiseException: {
    const IValue &message = frame.at(node->input(0));
    fail("the model raises: " + (message.isString() ? message.toStringRef() : std::string("an exception")), node,
         frame);
  }
  case prim::PythonOp:
    fail("a Python function is called from TorchScript", node, frame);
  case prim::fork:
  case prim::Enter:
  case prim::Exit:
  case prim::CreateObject:
  case prim::rpc_async:
    fail(std::string(node->kind().toQualString()) + " is not supported", node, frame);
  default:
    return runOperator(node, frame);
  }
}

void Interpreter::runBlock(const jit::Block *block, Frame &frame) {
  for (const jit::Node *node : block->nodes()) {
    place = locate(node, frame);
    try {
      runNode(node, frame);
    } catch (const ImportError &) {
      throw;
    } catch (const RefusedError &) {
      throw;
    } catch (const c10::Error &error) {
      std::string text = error.what_without_backtrace();
      fail(text.substr(0, text.find('\n')), node, frame);
    } catch (const std::exception &error) {
      std::string text = error.what();
      fail(text.substr(0, text.find('\n')), node, frame);
    }
  }
}

IValue Interpreter::call(jit::Function &function, std::vector<IValue> arguments, const jit::Node *site, Frame *caller) {
  if (!function.isGraphFunction())
    fail("calls the built-in function " + function.name(), site, *caller);
  if (--limits.depth < 0)
    throw ImportError("methods call each other too deeply");
  auto leave = c10::make_scope_exit([&] { ++limits.depth; });
  function.ensure_defined();
  std::shared_ptr<jit::Graph> graph = jit::toGraphFunction(function).graph();
  Frame frame;
  if (site)
    frame.place = locate(site, *caller);
  for (size_t i = 0; i < arguments.size(); ++i)
    frame[graph->inputs()[i]] = std::move(arguments[i]);
  runBlock(graph->block(), frame);
  return frame.at(graph->outputs()[0]);
}

//===----------------------------------------------------------------------------===//
// Arguments and results
//===----------------------------------------------------------------------------===//

static InputSpec take(llvm::ArrayRef<InputSpec> &inputs) {
  if (inputs.empty())
    throw ImportError("too few input shapes");
  InputSpec first = inputs.front();
  inputs = inputs.drop_front();
  return first;
}

IValue Interpreter::makeArgument(const c10::TypePtr &type, llvm::ArrayRef<InputSpec> &inputs, bool isLast) {
  switch (type->kind()) {
  case c10::TypeKind::OptionalType:
    return makeArgument(type->expectRef<c10::OptionalType>().getElementType(), inputs, isLast);
  case c10::TypeKind::TensorType: {
    InputSpec spec = take(inputs);
    if (spec.constant)
      throw ImportError("an input is a tensor, but its shape is given as a number");
    at::Tensor tensor = at::empty(spec.meta.sizes, at::TensorOptions().device(at::kMeta).dtype(spec.meta.dtype));
    recorder.addInput(tensor);
    return tensor;
  }
  case c10::TypeKind::TupleType: {
    std::vector<IValue> elements;
    for (const c10::TypePtr &element : type->expectRef<c10::TupleType>().elements())
      elements.push_back(makeArgument(element, inputs, false));
    return c10::ivalue::Tuple::create(std::move(elements));
  }
  case c10::TypeKind::ListType: {
    if (!isLast)
      throw ImportError("a list must be the last input: the rest of the shapes is taken as its elements");
    c10::TypePtr element = type->expectRef<c10::ListType>().getElementType();
    c10::impl::GenericList list(element);
    while (!inputs.empty())
      list.push_back(makeArgument(element, inputs, false));
    return element->kind() == c10::TypeKind::TensorType ? IValue(c10::impl::toTypedList<at::Tensor>(list))
                                                        : IValue(list);
  }
  case c10::TypeKind::DictType: {
    const auto &dictType = type->expectRef<c10::DictType>();
    c10::impl::GenericDict dict(dictType.getKeyType(), dictType.getValueType());
    while (!inputs.empty() && !inputs.front().key.empty()) {
      std::string key = inputs.front().key;
      dict.insert_or_assign(key, makeArgument(dictType.getValueType(), inputs, false));
    }
    if (dict.empty())
      throw ImportError("an input is a dict: give its entries as key=1x20xf32");
    return dict;
  }
  default: {
    InputSpec spec = take(inputs);
    bool isFit = spec.constant && (type->kind() == c10::TypeKind::NumberType ||
                                   (spec.constant->isInt() && type->kind() == c10::TypeKind::IntType) ||
                                   (spec.constant->isBool() && type->kind() == c10::TypeKind::BoolType) ||
                                   (spec.constant->isDouble() && type->kind() == c10::TypeKind::FloatType));
    if (!isFit)
      throw ImportError("an input is of type " + type->str() + ": give its value in place of a shape");
    return *spec.constant;
  }
  }
}

std::vector<IValue> Interpreter::makeArguments(const c10::FunctionSchema &schema, llvm::ArrayRef<InputSpec> inputs) {
  std::vector<IValue> arguments = {module._ivalue()};
  size_t count = schema.arguments().size(), given = inputs.size();
  size_t wanted = 0;
  for (size_t i = 1; i < count; ++i)
    wanted += !schema.arguments()[i].default_value().has_value();
  std::string shape =
      std::to_string(wanted) + (wanted < count - 1 ? " or more" : "") + (wanted == 1 ? " input" : " inputs");
  for (size_t i = 1; i < count; ++i) {
    const c10::Argument &formal = schema.arguments()[i];
    bool isList = formal.type()->kind() == c10::TypeKind::ListType;
    if (!inputs.empty() || isList) {
      arguments.push_back(makeArgument(formal.type(), inputs, i + 1 == count));
    } else if (formal.default_value()) {
      arguments.push_back(*formal.default_value());
    } else {
      throw ImportError("the model takes " + shape + ", but " + std::to_string(given) +
                        (given == 1 ? " shape is" : " shapes are") + " given");
    }
  }
  if (!inputs.empty())
    throw ImportError("the model takes " + shape + ", but " + std::to_string(given) + " shapes are given");
  return arguments;
}

void Interpreter::addOutputs(const IValue &value) {
  budget.spend(1); // a nest may share its parts, and be longer than what made it
  if (value.isTensor() && value.toTensor().defined()) {
    recorder.addOutput(value.toTensor());
  } else if (value.isTuple()) {
    for (const IValue &element : value.toTuple()->elements())
      addOutputs(element);
  } else if (value.isList()) {
    for (const IValue &element : value.toListRef())
      addOutputs(element);
  } else if (value.isGenericDict()) {
    for (const auto &entry : value.toGenericDict())
      addOutputs(entry.value());
  } else if (value.isObject()) {
    throw ImportError("forward returns an object of class " + value.toObject()->type()->str());
  }
}

std::shared_ptr<Tape> Interpreter::run(const std::vector<InputSpec> &inputs) {
  at::NoGradGuard noGrad;
  jit::Function &forward = module.get_method("forward").function();
  std::vector<IValue> arguments = makeArguments(forward.getSchema(), inputs);
  modules.push_back(recorder.getTape().intern(""));
  recorder.start();
  auto stop = c10::make_scope_exit([&] { recorder.stop(); });
  try {
    Frame top;
    IValue result = call(forward, std::move(arguments), nullptr, &top);
    recorder.checkUnwritten();
    addOutputs(result);
  } catch (const RefusedError &) {
    const Refusal &refusal = *recorder.getRefusal();
    throw ImportError(refusal.reason + (refusal.where.empty() ? "" : " in " + refusal.where));
  }
  return recorder.getSharedTape();
}

//===----------------------------------------------------------------------------===//
// Entry points
//===----------------------------------------------------------------------------===//

torch::jit::Module pfcn::loadTorchScript(const std::string &path) {
  if (!llvm::sys::fs::exists(path))
    throw ImportError("no such file: " + path);
  try {
    return jit::load(path, at::kCPU);
  } catch (const std::exception &error) {
    llvm::StringRef text = error.what();
    throw ImportError(path + " is no TorchScript file, or is damaged: " + text.ltrim().split('\n').first.str());
  }
}

/// The sizes at which a model with open sizes is interpreted: of both parities and far apart,
/// so that a size that decides something shows. Open sizes of one dimension are the same.
static std::vector<InputSpec> withSizes(std::vector<InputSpec> inputs, int trial) {
  static constexpr int kTrials = 3, kDims = 4;
  static constexpr int64_t sizes[kTrials][kDims] = {
      {4, 6, 10, 14}, {1009, 1013, 1019, 1021}, {65537, 65539, 65543, 65551}};
  for (InputSpec &input : inputs)
    for (size_t i = 0; i < input.meta.sizes.size(); ++i)
      if (input.meta.sizes[i] == kDynamicSize)
        input.meta.sizes[i] = sizes[trial][std::min<size_t>(i, kDims - 1)];
  return inputs;
}

std::shared_ptr<Tape> pfcn::importTorchScript(const jit::Module &module, const std::vector<InputSpec> &inputs,
                                              const TorchScriptLimits &limits) {
  if (!module.find_method("forward"))
    throw ImportError("the module has no method forward");
  bool isOpen = std::any_of(inputs.begin(), inputs.end(), [](const InputSpec &input) {
    return std::find(input.meta.sizes.begin(), input.meta.sizes.end(), kDynamicSize) != input.meta.sizes.end();
  });
  std::shared_ptr<Tape> tape = Interpreter(module, limits).run(withSizes(inputs, 0));
  for (int trial = 1; isOpen && trial < 3; ++trial) {
    std::shared_ptr<Tape> other = Interpreter(module, limits).run(withSizes(inputs, trial));
    std::optional<Tape> joined = unify(*tape, *other);
    if (!joined)
      throw ImportError("what the model does depends on a size that is left open (?); give sizes instead");
    tape = std::make_shared<Tape>(std::move(*joined));
  }
  return tape;
}

extern "C" bool pfcnImportTorchScript(const char *path, const char *inputShapes, std::string *result) {
  try {
    std::vector<InputSpec> inputs = parseInputSpecs(inputShapes);
    std::shared_ptr<Model> model = buildModel(*importTorchScript(loadTorchScript(path), inputs));
    result->clear();
    llvm::raw_string_ostream stream(*result);
    model->module->print(stream, mlir::OpPrintingFlags().enableDebugInfo());
    return true;
  } catch (const std::exception &error) {
    *result = error.what();
    return false;
  }
}
