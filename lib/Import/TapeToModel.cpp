//===- TapeToModel.cpp - a recording in the pfcn dialect ---------------------------===//
//
// Calls in order, those that no output needs left out. Parameters stand before their first
// use. An op whose type is not what was recorded is taken back, and the call stays opaque.
//
//===----------------------------------------------------------------------------===//

#include "AtenTable.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"

#include <ATen/core/ivalue.h>

namespace pfcn {
using namespace mlir;
using namespace mlir::pfcn;
using c10::IValue;

/// Constants of more elements are leaves of the model, beside its parameters.
static constexpr int64_t kMaxInlineElements = 64;

namespace {
class ModelBuilder {
public:
  ModelBuilder(const Tape &tape, Model &model)
      : tape(tape), model(model), context(model.context.get()), builder(context), values(tape.values.size()),
        locations(tape.strings.size()) {}

  void build();

private:
  std::vector<bool> findNeeded() const;
  void importCall(const TapeCall &call);
  bool tryTable(const TapeCall &call);
  void buildOpaque(const TapeCall &call);
  Attribute getAttribute(const IValue &value);
  void materialize(int value, Location loc);
  Location getLocation(const Place &place);
  StringAttr getString(int index);

  const Tape &tape;
  Model &model;
  MLIRContext *context;
  OpBuilder builder;
  std::vector<Value> values;
  std::vector<StringAttr> locations;
  int constants = 0;
};
} // namespace

StringAttr ModelBuilder::getString(int index) {
  StringAttr &text = locations[index];
  if (!text)
    text = StringAttr::get(context, tape.strings[index]);
  return text;
}

Location ModelBuilder::getLocation(const Place &place) {
  Location line = UnknownLoc::get(context);
  if (place.file >= 0)
    line = FileLineColLoc::get(getString(place.file), place.line, 0);
  return place.module < 0 || tape.strings[place.module].empty() ? line : NameLoc::get(getString(place.module), line);
}

/// Which calls an output or an effect needs.
std::vector<bool> ModelBuilder::findNeeded() const {
  std::vector<bool> used(tape.values.size()), needed(tape.calls.size());
  for (int output : tape.outputs)
    used[output] = true;
  for (size_t i = tape.calls.size(); i-- > 0;) {
    const TapeCall &call = tape.calls[i];
    needed[i] = call.hasEffect || llvm::any_of(call.results, [&](int result) { return used[result]; });
    if (!needed[i])
      continue;
    for (const TapeArgument &argument : call.arguments)
      for (int value : argument.tensors)
        if (value >= 0)
          used[value] = true;
  }
  return needed;
}

void ModelBuilder::materialize(int index, Location loc) {
  Value &value = values[index];
  if (value)
    return;
  const TapeValue &source = tape.values[index];
  RankedTensorType type = getType(context, source.meta);
  if (source.kind == TapeValue::Kind::Leaf) {
    value = ParameterOp::create(builder, loc, type, source.name);
    model.tensors[source.name] = tape.leaves.at(source.name);
  } else if (source.kind == TapeValue::Kind::Constant && source.constant.numel() <= kMaxInlineElements &&
             !source.constant.is_complex()) {
    value = ConstantOp::create(builder, loc, getData(context, source.constant));
  } else if (source.kind == TapeValue::Kind::Constant) {
    std::string name = "constants." + std::to_string(constants++);
    value = ParameterOp::create(builder, loc, type, name);
    model.tensors[name] = source.constant;
  }
  assert(value && "a call uses the result of one that was left out");
}

Attribute ModelBuilder::getAttribute(const IValue &value) {
  if (value.isNone())
    return builder.getUnitAttr();
  if (value.isBool())
    return builder.getBoolAttr(value.toBool());
  if (value.isInt())
    return builder.getI64IntegerAttr(value.toInt());
  if (value.isDouble())
    return builder.getF64FloatAttr(value.toDouble());
  if (value.isString())
    return builder.getStringAttr(value.toStringRef());
  if (value.isDevice())
    return builder.getStringAttr(value.toDevice().str());
  if (value.isList()) {
    SmallVector<Attribute> elements;
    for (const IValue &element : value.toListRef())
      elements.push_back(getAttribute(element));
    return builder.getArrayAttr(elements);
  }
  throw std::runtime_error("an argument of kind " + value.tagKind() + " cannot be written in the pfcn dialect");
}

void ModelBuilder::buildOpaque(const TapeCall &call) {
  SmallVector<Value> operands;
  auto operand = [&](int value) -> Attribute {
    if (value < 0)
      return builder.getUnitAttr();
    operands.push_back(values[value]);
    return OperandAttr::get(context, operands.size() - 1);
  };
  SmallVector<Attribute> arguments;
  for (const TapeArgument &argument : call.arguments) {
    if (argument.kind == TapeArgument::Kind::Constant)
      arguments.push_back(getAttribute(argument.constant));
    else if (argument.kind == TapeArgument::Kind::Tensor)
      arguments.push_back(operand(argument.tensors[0]));
    else
      arguments.push_back(builder.getArrayAttr(llvm::map_to_vector(argument.tensors, operand)));
  }
  SmallVector<Type> types;
  for (int result : call.results)
    types.push_back(getType(context, tape.values[result].meta));
  auto op = OpaqueOp::create(builder, getLocation(call.place), types, call.getName(), operands,
                             builder.getArrayAttr(arguments), call.hasEffect);
  for (auto [result, value] : llvm::zip_equal(call.results, op.getResults()))
    values[result] = value;
}

/// Builds the call from the table; builds nothing where the table declines, or says
/// something of another type than what torch computed.
bool ModelBuilder::tryTable(const TapeCall &call) {
  CallBuilder build = call.hasEffect ? nullptr : lookUpBuilder(call.getName());
  if (!build)
    return false;
  Block *block = builder.getInsertionBlock();
  Operation *last = block->empty() ? nullptr : &block->back();
  CallImporter importer(builder, getLocation(call.place), tape, call, values);
  bool isExact = build(importer) && importer.results.size() == call.results.size();
  for (size_t i = 0; isExact && i < call.results.size(); ++i)
    isExact =
        importer.results[i] && importer.results[i].getType() == getType(context, tape.values[call.results[i]].meta);
  ScopedDiagnosticHandler silence(context, [](Diagnostic &) { return success(); });
  auto first = last ? std::next(last->getIterator()) : block->begin();
  for (Operation &op : llvm::make_range(first, block->end()))
    isExact = isExact && succeeded(op.getName().verifyInvariants(&op));
  if (!isExact) {
    while (!block->empty() && &block->back() != last)
      block->back().erase();
    return false;
  }
  for (auto [result, value] : llvm::zip_equal(call.results, importer.results))
    values[result] = value;
  return true;
}

void ModelBuilder::importCall(const TapeCall &call) {
  Location loc = getLocation(call.place);
  // A number that becomes a scalar operand is built anew, in the type that it takes there.
  CallBuilder builder = call.hasEffect ? nullptr : lookUpBuilder(call.getName());
  for (const TapeArgument &argument : call.arguments)
    for (int value : argument.tensors)
      if (value >= 0 && !(builder && tape.values[value].isScalar()))
        materialize(value, loc);
  if (tryTable(call))
    return;
  for (const TapeArgument &argument : call.arguments)
    for (int value : argument.tensors)
      if (value >= 0)
        materialize(value, loc);
  buildOpaque(call);
}

void ModelBuilder::build() {
  auto typesOf = [&](ArrayRef<int> indices) {
    return llvm::map_to_vector(indices, [&](int i) -> Type { return getType(context, tape.values[i].meta); });
  };
  Location unknown = UnknownLoc::get(context);
  model.module = ModuleOp::create(unknown);
  builder.setInsertionPointToEnd(model.module->getBody());
  auto function = func::FuncOp::create(builder, unknown, "forward",
                                       builder.getFunctionType(typesOf(tape.inputs), typesOf(tape.outputs)));
  Block *block = function.addEntryBlock();
  builder.setInsertionPointToEnd(block);
  for (auto [input, argument] : llvm::zip_equal(tape.inputs, block->getArguments()))
    values[input] = argument;
  std::vector<bool> needed = findNeeded();
  for (size_t i = 0; i < tape.calls.size(); ++i)
    if (needed[i])
      importCall(tape.calls[i]);
  for (int output : tape.outputs)
    materialize(output, unknown);
  func::ReturnOp::create(builder, unknown,
                         llvm::map_to_vector(tape.outputs, [&](int output) { return values[output]; }));
}

std::shared_ptr<Model> buildModel(const Tape &tape) {
  auto model = std::make_shared<Model>();
  ModelBuilder(tape, *model).build();
  return model;
}

} // namespace pfcn
