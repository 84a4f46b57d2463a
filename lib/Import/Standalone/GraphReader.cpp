//===- GraphReader.cpp - torch.export's graph as a tape ----------------------------===//

#include "Standalone/GraphReader.h"

#include "Standalone/Schemas.h"

#include <set>

using namespace pfcn;
using c10::IValue;
using llvm::StringRef;
using llvm::json::Array;
using llvm::json::Object;
using llvm::json::Value;

//===----------------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------------===//

static const Object &getObject(const Object &object, StringRef key) {
  if (const Object *found = object.getObject(key))
    return *found;
  throw ImportError("the graph is not as torch.export writes it: '" + key.str() + "' is missing");
}

static const Array &getArray(const Object &object, StringRef key) {
  if (const Array *found = object.getArray(key))
    return *found;
  throw ImportError("the graph is not as torch.export writes it: the list '" + key.str() + "' is missing");
}

static StringRef getString(const Object &object, StringRef key) {
  if (std::optional<StringRef> found = object.getString(key))
    return *found;
  throw ImportError("the graph is not as torch.export writes it: '" + key.str() + "' is missing");
}

/// A union: one key, which says of what kind the value is.
static std::pair<StringRef, const Value *> getUnion(const Value &value) {
  const Object *object = value.getAsObject();
  if (!object || object->size() != 1)
    throw ImportError("the graph is not as torch.export writes it: a value of no kind");
  return {object->begin()->first, &object->begin()->second};
}

/// The name of a tensor argument.
static StringRef getName(const Value &tensor) {
  if (const Object *object = tensor.getAsObject())
    return getString(*object, "name");
  throw ImportError("the graph is not as torch.export writes it: a tensor without a name");
}

/// Torch.export counts element types in its own way.
static at::ScalarType getDtype(int64_t number) {
  static constexpr at::ScalarType types[] = {at::kByte,         at::kChar,          at::kShort,
                                             at::kInt,          at::kLong,          at::kHalf,
                                             at::kFloat,        at::kDouble,        at::ScalarType::ComplexHalf,
                                             at::kComplexFloat, at::kComplexDouble, at::kBool,
                                             at::kBFloat16};
  if (number < 1 || number > static_cast<int64_t>(std::size(types)))
    throw ImportError("tensors of element type " + std::to_string(number) +
                      " (in torch.export's numbers) are not"
                      " supported");
  return types[number - 1];
}

static int64_t getSize(const Value &size, const SymbolValues &symbols) {
  auto [kind, value] = getUnion(size);
  if (std::optional<int64_t> number = value->getAsInteger(); kind == "as_int" && number)
    return *number;
  const Object *expression = value->getAsObject();
  if (kind != "as_expr" || !expression)
    throw ImportError("the graph is not as torch.export writes it: a size that is no number");
  return evaluateSize(getString(*expression, "expr_str"), symbols);
}

static TensorMeta getMeta(const Object &object, const SymbolValues &symbols) {
  TensorMeta meta;
  meta.dtype = getDtype(object.getInteger("dtype").value_or(0));
  if (object.getInteger("layout").value_or(7) != 7)
    throw ImportError("sparse tensors are not supported");
  for (const Value &size : getArray(object, "sizes")) {
    meta.sizes.push_back(getSize(size, symbols));
    if (meta.sizes.back() < 0)
      throw ImportError("a tensor has a negative size");
  }
  for (const Value &stride : getArray(object, "strides"))
    meta.strides.push_back(getSize(stride, symbols));
  return meta;
}

//===----------------------------------------------------------------------------===//
// Symbols
//===----------------------------------------------------------------------------===//

GraphReader::GraphReader(const Object &program, Constants constants, std::string path)
    : constants(std::move(constants)), path(std::move(path)) {
  const Object &module = getObject(program, "graph_module");
  graph = &getObject(module, "graph");
  signature = &getObject(module, "signature");
  tensors = &getObject(*graph, "tensor_values");
  for (const Value &spec : getArray(*signature, "input_specs")) {
    auto [kind, value] = getUnion(spec);
    if (kind != "user_input" || !value->getAsObject())
      continue;
    auto [argument, tensor] = getUnion(*value->getAsObject()->get("arg"));
    if (argument == "as_tensor")
      userInputs.push_back(getName(*tensor).str());
  }
  collectSymbols(program);
}

void GraphReader::collectHints(const Value &size) {
  auto [kind, value] = getUnion(size);
  const Object *expression = kind == "as_expr" ? value->getAsObject() : nullptr;
  if (!expression)
    return;
  std::string name = getSymbol(getString(*expression, "expr_str"));
  auto symbol = symbols.find(name);
  const Object *hint = expression->getObject("hint");
  if (symbol != symbols.end() && hint && hint->getInteger("as_int"))
    symbol->second.hint = *hint->getInteger("as_int");
}

void GraphReader::collectSymbols(const Object &program) {
  if (const Object *ranges = program.getObject("range_constraints"))
    for (const auto &[name, value] : *ranges) {
      Symbol &symbol = symbols[name.str()];
      const Object *range = value.getAsObject();
      if (!range)
        continue;
      symbol.min = std::max<int64_t>(range->getInteger("min_val").value_or(2), 2);
      symbol.max = std::min(range->getInteger("max_val").value_or(symbol.max), symbol.max);
    }
  for (const std::string &name : userInputs)
    for (const Value &size : getArray(getObject(*tensors, name), "sizes"))
      collectHints(size);
}

/// Far apart and different for each symbol, so that what is equal by chance at one is not at another. Multiples of the
/// size at export keep what divides it.
std::vector<SymbolValues> GraphReader::getSamples() const {
  bool isOpen = llvm::any_of(symbols, [](const auto &symbol) { return !symbol.second.isFixed; });
  std::vector<SymbolValues> samples(isOpen ? 3 : 1);
  int64_t number = 0;
  for (const auto &[name, symbol] : symbols) {
    std::set<int64_t> taken;
    for (size_t i = 0; i < samples.size(); ++i) {
      int64_t value = symbol.hint * (i == 0 ? 1 : static_cast<int64_t>(i) + 1 + number);
      for (int64_t other : {value, symbol.max, symbol.min, symbol.hint - 1, symbol.hint + 1})
        if (!symbol.isFixed && (value < symbol.min || value > symbol.max || taken.contains(value)))
          value = other;
      taken.insert(value);
      samples[i][name] = value;
    }
    number += symbol.isFixed ? 0 : 1;
  }
  return samples;
}

void GraphReader::fixSize(const Value &size, int64_t value, const std::string &what) {
  auto [kind, content] = getUnion(size);
  std::string name = kind == "as_expr" && content->getAsObject()
                         ? getSymbol(getString(*content->getAsObject(), "expr_str"))
                         : std::string();
  auto symbol = symbols.find(name);
  if (value == kDynamicSize) {
    if (kind == "as_int")
      throw ImportError(what + " is left open, and the program was exported for " + std::to_string(getSize(size, {})) +
                        " only");
    return;
  }
  if (symbol == symbols.end()) {
    if (kind == "as_int" && getSize(size, {}) != value)
      throw ImportError(what + " is " + std::to_string(value) + ", and the program was exported for " +
                        std::to_string(getSize(size, {})));
    return; // an expression: compared once the symbols have their values
  }
  Symbol &entry = symbol->second;
  if (entry.isFixed && entry.hint != value)
    throw ImportError(what + " is " + std::to_string(value) + ", and must be " + std::to_string(entry.hint) +
                      " as another size is");
  if (value < entry.min || value > entry.max)
    throw ImportError(what + " is " + std::to_string(value) + ", and the program was exported for " +
                      std::to_string(entry.min) + " to " + std::to_string(entry.max));
  entry.isFixed = true;
  entry.hint = value;
}

void GraphReader::setInputs(const std::vector<InputSpec> &inputs) {
  if (inputs.size() != userInputs.size())
    throw ImportError("--input-shapes has " + std::to_string(inputs.size()) + " inputs, and the program has " +
                      std::to_string(userInputs.size()));
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Object &meta = getObject(*tensors, userInputs[i]);
    const Array &sizes = getArray(meta, "sizes");
    std::string what = "input '" + userInputs[i] + "'";
    if (inputs[i].constant || !inputs[i].key.empty() || inputs[i].meta.sizes.size() != sizes.size() ||
        inputs[i].meta.dtype != getDtype(meta.getInteger("dtype").value_or(0)))
      throw ImportError("--input-shapes: " + what + " is a tensor of rank " + std::to_string(sizes.size()) + " of " +
                        c10::toString(getDtype(meta.getInteger("dtype").value_or(0))));
    for (size_t dim = 0; dim < sizes.size(); ++dim)
      fixSize(sizes[dim], inputs[i].meta.sizes[dim], "size " + std::to_string(dim) + " of " + what);
  }
  SymbolValues values = getSamples().front();
  for (size_t i = 0; i < inputs.size(); ++i)
    for (auto [size, wanted] :
         llvm::zip_equal(getArray(getObject(*tensors, userInputs[i]), "sizes"), inputs[i].meta.sizes))
      if (wanted != kDynamicSize && getSize(size, values) != wanted)
        throw ImportError("--input-shapes: a size of input '" + userInputs[i] + "' is " + std::to_string(wanted) +
                          ", and follows from others as " + std::to_string(getSize(size, values)));
}

//===----------------------------------------------------------------------------===//
// The graph
//===----------------------------------------------------------------------------===//

namespace {
/// One reading, at given values of the symbols.
class Reading {
public:
  Reading(const Object &graph, const Object &signature, const Object &tensors, const Constants &constants,
          const SymbolValues &symbols)
      : graph(graph), signature(signature), tensors(tensors), constants(constants), symbols(symbols) {}

  Tape run();

private:
  int addValue(StringRef name, TapeValue::Kind kind);
  int lookUp(StringRef name) const;
  void addInputs();
  void addConstant(StringRef value, StringRef name);
  void addNode(const Object &node);
  void addOutputs();
  std::vector<int> addResults(const Array &outputs);
  TapeArgument encode(const Value &argument) const;
  IValue getConstant(StringRef kind, const Value &value) const;
  int64_t getSymInt(const Value &value) const;
  Place locate(const Object &node);

  const Object &graph, &signature, &tensors;
  const Constants &constants;
  const SymbolValues &symbols;
  Tape tape;
  std::map<std::string, int> values;
};
} // namespace

Tape GraphReader::read(const SymbolValues &values) const {
  return Reading(*graph, *signature, *tensors, constants, values).run();
}

Tape Reading::run() {
  addInputs();
  for (const Value &node : getArray(graph, "nodes")) {
    if (!node.getAsObject())
      throw ImportError("the graph is not as torch.export writes it: a node of no kind");
    addNode(*node.getAsObject());
  }
  addOutputs();
  return std::move(tape);
}

int Reading::addValue(StringRef name, TapeValue::Kind kind) {
  tape.values.push_back({kind, getMeta(getObject(tensors, name), symbols), {}, {}});
  int value = static_cast<int>(tape.values.size()) - 1;
  if (!values.emplace(name.str(), value).second)
    throw ImportError("the graph is not as torch.export writes it: '" + name.str() + "' has two values");
  return value;
}

int Reading::lookUp(StringRef name) const {
  auto found = values.find(name.str());
  if (found == values.end())
    throw ImportError("the graph reads '" + name.str() + "' before it has a value");
  return found->second;
}

/// What the signature says of each input of the graph.
void Reading::addInputs() {
  static const std::map<StringRef, StringRef> leaves = {
      {"parameter", "parameter_name"}, {"buffer", "buffer_name"}, {"tensor_constant", "tensor_constant_name"}};
  for (const Value &spec : getArray(signature, "input_specs")) {
    auto [kind, content] = getUnion(spec);
    const Object *input = content->getAsObject();
    if (!input || kind == "token" || kind == "custom_obj")
      throw ImportError("an input of kind '" + kind.str() + "' is not supported");
    if (kind == "constant_input")
      continue;
    if (auto leaf = leaves.find(kind); leaf != leaves.end()) {
      StringRef value = getString(getObject(*input, "arg"), "name");
      addConstant(value, getString(*input, leaf->second));
      continue;
    }
    const Value *argument = input->get("arg");
    if (kind != "user_input" || !argument)
      throw ImportError("an input of kind '" + kind.str() + "' is not supported");
    auto [argumentKind, tensor] = getUnion(*argument);
    if (argumentKind == "as_tensor")
      tape.inputs.push_back(addValue(getName(*tensor), TapeValue::Kind::Input));
    else if (argumentKind.starts_with("as_sym"))
      throw ImportError("an input that is a number and may vary is not supported");
  }
}

/// A parameter or buffer by its path; small constants with their values.
void Reading::addConstant(StringRef value, StringRef name) {
  constexpr int64_t kMostElements = 64;
  int number = addValue(value, TapeValue::Kind::Leaf);
  TapeValue &leaf = tape.values[number];
  leaf.name = name.str();
  at::Tensor data(leaf.meta.dtype, leaf.meta.sizes, {});
  auto raw = constants.find(leaf.name);
  if (raw != constants.end() && data.numel() <= kMostElements) {
    TensorMeta meta = getMeta(raw->second.meta, {});
    size_t element = at::elementSize(meta.dtype);
    int64_t offset = getSize(*raw->second.meta.get("storage_offset"), {});
    std::string bytes;
    for (int64_t i = 0; i < data.numel(); ++i) {
      int64_t at = offset, rest = i;
      for (size_t dim = meta.sizes.size(); dim-- > 0; rest /= meta.sizes[dim])
        at += rest % meta.sizes[dim] * meta.strides[dim];
      if (at < 0 || (at + 1) * element > raw->second.data.size())
        throw ImportError("the data of constant '" + leaf.name + "' are cut short");
      bytes += raw->second.data.substr(at * element, element);
    }
    data = at::Tensor(meta.dtype, meta.sizes, std::move(bytes));
    leaf.kind = TapeValue::Kind::Constant;
    leaf.constant = data;
    leaf.name.clear();
    return;
  }
  tape.leaves[leaf.name] = data;
}

//===----------------------------------------------------------------------------===//
// Arguments
//===----------------------------------------------------------------------------===//

/// A number, or the name of one that the graph computes from sizes.
int64_t Reading::getSymInt(const Value &value) const {
  auto [kind, content] = getUnion(value);
  if (std::optional<int64_t> number = content->getAsInteger(); kind == "as_int" && number)
    return *number;
  std::optional<StringRef> name = content->getAsString();
  if (kind != "as_name" || !name)
    throw ImportError("the graph is not as torch.export writes it: a number of no kind");
  const Value *known = getObject(graph, "sym_int_values").get(*name);
  if (!known)
    throw ImportError("the graph reads the number '" + name->str() + "' before it has a value");
  return getSize(*known, symbols);
}

static IValue getFloat(const Value &value) {
  if (std::optional<double> number = value.getAsNumber())
    return *number;
  double number; // "Infinity", "NaN"
  if (std::optional<StringRef> text = value.getAsString(); text && !text->getAsDouble(number))
    return number;
  throw ImportError("the graph is not as torch.export writes it: a number of no kind");
}

template <typename Get> static IValue getList(const Value &value, Get get) {
  std::vector<IValue> elements;
  if (!value.getAsArray())
    throw ImportError("the graph is not as torch.export writes it: a list of no kind");
  for (const Value &element : *value.getAsArray())
    elements.push_back(get(element));
  return IValue::makeList(std::move(elements));
}

static IValue getInt(const Value &value) {
  if (std::optional<int64_t> number = value.getAsInteger())
    return *number;
  throw ImportError("the graph is not as torch.export writes it: a number of no kind");
}

static IValue getBool(const Value &value) {
  if (std::optional<bool> flag = value.getAsBoolean())
    return *flag;
  throw ImportError("the graph is not as torch.export writes it: a flag of no kind");
}

IValue Reading::getConstant(StringRef kind, const Value &value) const {
  if (kind == "as_none")
    return {};
  if (kind == "as_int")
    return getInt(value);
  if (kind == "as_float")
    return getFloat(value);
  if (kind == "as_bool")
    return getBool(value);
  if (kind == "as_string")
    return value.getAsString().value_or("").str();
  if (kind == "as_ints")
    return getList(value, getInt).toIntVector();
  if (kind == "as_floats")
    return getList(value, getFloat);
  if (kind == "as_bools")
    return getList(value, getBool);
  if (kind == "as_sym_int")
    return getSymInt(value);
  if (kind == "as_sym_ints")
    return getList(value, [&](const Value &element) { return IValue(getSymInt(element)); }).toIntVector();
  std::optional<int64_t> number = value.getAsInteger();
  if (kind == "as_scalar_type" && number)
    return static_cast<int64_t>(getDtype(*number));
  if (kind == "as_layout" && number == 7)
    return int64_t(0);
  if (kind == "as_memory_format" && number && *number >= 1 && *number <= 4) {
    static constexpr int64_t numbers[] = {0, 2, 3, 1}; // torch's
    return numbers[*number - 1];
  }
  if (const Object *device = value.getAsObject(); kind == "as_device" && device)
    return c10::Device{getString(*device, "type").str()};
  throw ImportError("an argument of kind '" + kind.str() + "' is not supported");
}

TapeArgument Reading::encode(const Value &argument) const {
  auto [kind, value] = getUnion(argument);
  TapeArgument result;
  auto addOptional = [&](const Value &element) {
    auto [elementKind, tensor] = getUnion(element);
    result.tensors.push_back(elementKind == "as_none" ? -1 : lookUp(getName(*tensor)));
  };
  if (kind == "as_tensor") {
    result.kind = TapeArgument::Kind::Tensor;
    result.tensors = {lookUp(getName(*value))};
  } else if (kind == "as_optional_tensor") {
    addOptional(*value);
    result.kind = result.tensors[0] < 0 ? TapeArgument::Kind::Constant : TapeArgument::Kind::Tensor;
    if (result.tensors[0] < 0)
      result.tensors.clear();
  } else if ((kind == "as_tensors" || kind == "as_optional_tensors") && value->getAsArray()) {
    result.kind = TapeArgument::Kind::TensorList;
    for (const Value &element : *value->getAsArray())
      if (kind == "as_tensors")
        result.tensors.push_back(lookUp(getName(element)));
      else
        addOptional(element);
  } else {
    result.constant = getConstant(kind, *value);
  }
  return result;
}

//===----------------------------------------------------------------------------===//
// Nodes
//===----------------------------------------------------------------------------===//

/// "torch.ops.aten.linear.default" as "aten::linear", and what is behind the last dot.
static std::string getOperatorName(StringRef target) {
  if (!target.consume_front("torch.ops."))
    return "";
  auto [library, rest] = target.split('.');
  auto [name, overload] = rest.split('.');
  std::string result = (library + "::" + name).str();
  return overload.empty() || overload == "default" ? result : result + "." + overload.str();
}

/// Module path, and the innermost line of the user's code.
Place Reading::locate(const Object &node) {
  Place place;
  const Object *metadata = node.getObject("metadata");
  if (!metadata)
    return place;
  if (std::optional<StringRef> stack = metadata->getString("nn_module_stack")) {
    StringRef innermost = stack->rsplit(';').second.empty() ? *stack : stack->rsplit(';').second;
    place.module = tape.intern(innermost.split(',').second.split(',').first.str());
  }
  StringRef trace = metadata->getString("stack_trace").value_or("");
  for (size_t at = trace.find("File \""); at != StringRef::npos; at = trace.find("File \"", at + 1)) {
    auto [file, rest] = trace.drop_front(at + 6).split('"');
    int line;
    bool isTorchs = file.contains("/torch/nn/") || file.contains("/torch/_") || file.contains("/torch/functional.py");
    if (isTorchs || !rest.consume_front(", line ") || rest.consumeInteger(10, line))
      continue;
    place.file = tape.intern(file.str());
    place.line = line;
  }
  return place;
}

std::vector<int> Reading::addResults(const Array &outputs) {
  std::vector<int> results;
  auto add = [&](const Value &tensor) { results.push_back(addValue(getName(tensor), TapeValue::Kind::Result)); };
  for (const Value &output : outputs) {
    auto [kind, value] = getUnion(output);
    if (kind == "as_tensor")
      add(*value);
    else if (kind == "as_tensors" && value->getAsArray())
      llvm::for_each(*value->getAsArray(), add);
    else if (kind != "as_none")
      throw ImportError("a result of kind '" + kind.str() + "' is not supported");
  }
  return results;
}

/// Numbers that follow from sizes stand in a table of their own; assertions compute nothing.
static bool computesNoTensor(const Array &outputs) {
  return llvm::all_of(outputs, [](const Value &output) { return getUnion(output).first.starts_with("as_sym"); });
}

/// A schema for an operator that is not torch's own: the arguments that the graph gives it.
static const KnownOperator &getForeignOperator(const std::string &name, const Array &inputs) {
  static std::map<std::string, std::unique_ptr<KnownOperator>> known;
  std::unique_ptr<KnownOperator> &entry = known[name + "/" + std::to_string(inputs.size())];
  if (!entry) {
    std::vector<c10::Argument> arguments;
    for (const Value &input : inputs)
      arguments.push_back({getString(*input.getAsObject(), "name").str(), ""});
    auto [base, overload] = StringRef(name).split('.');
    entry = std::make_unique<KnownOperator>(
        KnownOperator{{base.str(), overload.str(), std::move(arguments)}, /*isRandom=*/true});
  }
  return *entry;
}

/// Random operators that draw nothing with these arguments.
static bool drawsNothing(const TapeCall &call) {
  const std::string &name = call.schema->name();
  auto flag = [&](size_t i) { return call.arguments[i].constant.isBool() && call.arguments[i].constant.toBool(); };
  auto isZero = [&](size_t i) {
    return call.arguments[i].constant.isDouble() && call.arguments[i].constant.toDouble() == 0;
  };
  if (name == "aten::dropout" || name == "aten::feature_dropout" || name == "aten::alpha_dropout")
    return !flag(2) || isZero(1);
  if (name == "aten::scaled_dot_product_attention")
    return isZero(4);
  return name == "aten::rrelu" && !flag(3);
}

static void refuseTraining(const TapeCall &call) {
  const std::string &name = call.schema->name();
  bool isNorm = name == "aten::batch_norm" || name == "aten::instance_norm";
  if (isNorm && call.arguments[5].constant.isBool() && call.arguments[5].constant.toBool() &&
      call.arguments[3].kind == TapeArgument::Kind::Tensor)
    throw ImportError(name + " in training updates its running statistics; export the model after model.eval()");
}

void Reading::addNode(const Object &node) {
  const Array &inputs = getArray(node, "inputs"), &outputs = getArray(node, "outputs");
  if (computesNoTensor(outputs))
    return;
  StringRef target = getString(node, "target");
  std::string name = getOperatorName(target);
  for (const Value &input : inputs)
    if (!input.getAsObject() || !input.getAsObject()->get("arg"))
      throw ImportError("the graph is not as torch.export writes it: an argument of no kind");
  if (name.empty() || StringRef(name).starts_with("higher_order::"))
    throw ImportError("'" + target.str() + "' is not supported; trace the model without control flow on tensors");
  const KnownOperator *known = findOperator(name);
  if (!known && StringRef(name).starts_with("aten::"))
    throw ImportError(name + " writes to its arguments, or is unknown here; save program.run_decompositions({}),"
                             " in which nothing is written in place");
  if (!known)
    known = &getForeignOperator(name, inputs);
  TapeCall call{&known->schema, {}, {}, locate(node)};
  std::map<StringRef, const Value *> given;
  for (const Value &input : inputs)
    given[getString(*input.getAsObject(), "name")] = input.getAsObject()->get("arg");
  for (const c10::Argument &formal : known->schema.arguments()) {
    auto found = given.find(formal.name);
    if (found == given.end() && formal.isRequired)
      throw ImportError("the graph calls " + name + " without '" + formal.name + "'");
    call.arguments.push_back(found == given.end() ? TapeArgument{TapeArgument::Kind::Constant, formal.defaultValue, {}}
                                                  : encode(*found->second));
  }
  refuseTraining(call);
  call.isRandom = known->isRandom && !drawsNothing(call);
  call.results = addResults(outputs);
  tape.calls.push_back(std::move(call));
}

void Reading::addOutputs() {
  for (const Value &spec : getArray(signature, "output_specs")) {
    auto [kind, content] = getUnion(spec);
    const Object *output = content->getAsObject();
    if (!output || (kind != "user_output" && kind != "loss_output")) {
      StringRef what = output && output->getString("buffer_name") ? *output->getString("buffer_name") : "";
      throw ImportError("a result of kind '" + kind.str() + "'" + (what.empty() ? "" : " (of '" + what.str() + "')") +
                        " is not supported: a compiled model writes to nothing of its own");
    }
    const Value *argument = output->get("arg");
    if (!argument)
      throw ImportError("the graph is not as torch.export writes it: a result of no kind");
    if (kind == "loss_output") {
      tape.outputs.push_back(lookUp(getName(*argument)));
      continue;
    }
    auto [argumentKind, tensor] = getUnion(*argument);
    if (argumentKind == "as_tensor")
      tape.outputs.push_back(lookUp(getName(*tensor)));
  }
}
