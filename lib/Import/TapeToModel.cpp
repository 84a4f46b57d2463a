//===- TapeToModel.cpp - a recording in the pfcn dialect ---------------------------===//
//
// Calls in order, those that no output needs left out. Parameters stand before their first
// use. An op whose type is not what was recorded is taken back, and the call stays opaque.
// A tensor that is written part by part (`out[:, i] = ...`) is the concatenation of its parts.
//
//===----------------------------------------------------------------------------===//

#include "AtenTable.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/MapVector.h"

#include <ATen/core/ivalue.h>

namespace pfcn {
using namespace mlir;
using namespace mlir::pfcn;
using c10::IValue;

/// Constants of more elements are leaves of the model, beside its parameters.
static constexpr int64_t kMaxInlineElements = 64;

namespace {
/// A call that replaces [start, end) of dimension `dim` of `base` by `part`, which lacks the
/// dimension if `isSelect`.
struct Scatter {
  int base, part;
  int64_t dim, start, end;
  bool isSelect;
};

class ModelBuilder {
public:
  ModelBuilder(const Tape &tape, Model &model)
      : tape(tape), model(model), context(model.context.get()), builder(context), values(tape.values.size()),
        locations(tape.strings.size()) {}

  void build();

private:
  std::vector<bool> findNeeded() const;
  void importCall(const TapeCall &call);
  bool tryTable(const TapeCall &call, CallBuilder build);
  bool tryComposed(const TapeCall &call, const TableEntry &entry);
  ComposedOp buildComposed(const TapeCall &call, const TableEntry &entry, size_t index);
  ArrayAttr getArguments(const TapeCall &call, SmallVectorImpl<Value> &operands);
  void buildOpaque(const TapeCall &call);
  Attribute getAttribute(const IValue &value);
  ArrayAttr getSizes(const TapeCall &call);
  void materialize(int value, Location loc);
  Location getLocation(const Place &place);
  StringAttr getString(int index);
  std::optional<Scatter> getScatter(const TapeCall &call) const;
  bool isOverwritten(const TapeCall &call) const;
  bool tryScatters(const TapeCall &call);
  SmallVector<Value> buildWrites(func::FuncOp function);
  void removeDead();
  void countUses(const std::vector<bool> &needed);

  const Tape &tape;
  Model &model;
  MLIRContext *context;
  OpBuilder builder;
  std::vector<Value> values;
  std::vector<StringAttr> locations;
  int constants = 0;
  std::vector<int> useCounts;              // of each value, by calls and outputs
  std::vector<const TapeCall *> users;     // one of them
  std::vector<const TapeCall *> producers; // of the values that scatters make
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
  for (const auto &[name, value] : tape.writes)
    used[value] = true;
  for (size_t i = tape.calls.size(); i-- > 0;) {
    const TapeCall &call = tape.calls[i];
    needed[i] = llvm::any_of(call.results, [&](int result) { return used[result]; });
    if (!needed[i])
      continue;
    for (const TapeArgument &argument : call.arguments)
      for (int value : argument.tensors)
        if (value >= 0)
          used[value] = true;
  }
  return needed;
}

//===----------------------------------------------------------------------------===//
// Parts written one by one
//===----------------------------------------------------------------------------===//

std::optional<Scatter> ModelBuilder::getScatter(const TapeCall &call) const {
  const std::string &name = call.schema->name();
  bool isSelect = name == "aten::select_scatter";
  if (!isSelect && name != "aten::slice_scatter")
    return std::nullopt;
  int base = call.arguments[0].tensors[0], part = call.arguments[1].tensors[0];
  const TensorMeta &meta = tape.values[base].meta;
  auto integer = [&](size_t i, int64_t none) {
    return call.arguments[i].constant.isNone() ? none : call.arguments[i].constant.toInt();
  };
  int64_t dim = integer(2, 0);
  dim += dim < 0 ? meta.rank() : 0;
  int64_t size = meta.sizes[dim], start = integer(3, 0);
  bool isPlain = size != kDynamicSize && meta.dtype == tape.values[part].meta.dtype && (isSelect || integer(5, 1) == 1);
  if (!isPlain)
    return std::nullopt;
  start = std::clamp<int64_t>(start < 0 ? start + size : start, 0, size);
  int64_t end = isSelect ? start + 1 : integer(4, size);
  end = std::clamp<int64_t>(end < 0 ? end + size : end, start, size);
  return Scatter{base, part, dim, start, end, isSelect};
}

void ModelBuilder::countUses(const std::vector<bool> &needed) {
  useCounts.assign(tape.values.size(), 0);
  users.assign(tape.values.size(), nullptr);
  producers.assign(tape.values.size(), nullptr);
  for (int output : tape.outputs)
    ++useCounts[output];
  for (const auto &[name, value] : tape.writes)
    ++useCounts[value];
  for (auto [call, isNeeded] : llvm::zip_equal(tape.calls, needed))
    for (const TapeArgument &argument : call.arguments)
      for (int value : argument.tensors)
        if (isNeeded && value >= 0) {
          ++useCounts[value];
          users[value] = &call;
        }
}

/// Whether all that becomes of the call's result is that another scatter replaces more of it.
bool ModelBuilder::isOverwritten(const TapeCall &call) const {
  int result = call.results[0];
  if (useCounts[result] != 1 || !users[result])
    return false;
  std::optional<Scatter> scatter = getScatter(call), next = getScatter(*users[result]);
  return next && next->base == result && next->dim == scatter->dim;
}

/// The last of a chain of scatters as a concatenation: of their parts, and of what is left
/// of the tensor that the first was given. Those before it build nothing.
bool ModelBuilder::tryScatters(const TapeCall &call) {
  std::optional<Scatter> scatter = getScatter(call);
  if (!scatter)
    return false;
  producers[call.results[0]] = &call;
  if (isOverwritten(call))
    return true;
  int64_t dim = scatter->dim;
  std::vector<Scatter> chain = {*scatter};
  while (producers[chain.back().base] && !values[chain.back().base])
    chain.push_back(*getScatter(*producers[chain.back().base]));
  struct Piece {
    int64_t end, origin; // `origin`: where the source's first element would lie
    int source;
    bool isSelect;
  };
  int base = chain.back().base;
  std::map<int64_t, Piece> pieces = {{0, {tape.values[base].meta.sizes[dim], 0, base, false}}};
  for (const Scatter &write : llvm::reverse(chain)) {
    if (write.start == write.end)
      continue;
    for (int64_t cut : {write.start, write.end})
      if (auto it = std::prev(pieces.upper_bound(cut)); it->first < cut && cut < it->second.end) {
        pieces[cut] = it->second;
        it->second.end = cut;
      }
    pieces.erase(pieces.lower_bound(write.start), pieces.lower_bound(write.end));
    pieces[write.start] = {write.end, write.start, write.part, write.isSelect};
  }
  Location loc = getLocation(call.place);
  SmallVector<Value> parts;
  for (auto &[start, piece] : pieces) {
    materialize(piece.source, loc);
    Value part = values[piece.source];
    if (piece.isSelect)
      part = builder.createOrFold<UnsqueezeOp>(loc, part, dim);
    else
      part = builder.createOrFold<SliceOp>(loc, part, dim, start - piece.origin, piece.end - piece.origin, int64_t(1));
    parts.push_back(part);
  }
  Value &result = values[call.results[0]];
  result = parts.size() == 1 ? parts.front() : CatOp::create(builder, loc, parts, dim).getResult();
  return true;
}

/// What the concatenations left without a use; the tensors that the rest reads.
void ModelBuilder::removeDead() {
  Block &block = *cast<func::FuncOp>(model.module->getBody()->front()).getBody().begin();
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
    if (isOpTriviallyDead(&op))
      op.erase();
  for (auto op : block.getOps<OpaqueOp>())
    if (isFactory(StringRef(op.getName()).split('.').first.str()))
      for (Value result : op.getResults())
        if (!cast<RankedTensorType>(result.getType()).hasStaticShape())
          throw OpenSizeError("a tensor of open sizes is made by " + op.getName().str());
  std::map<std::string, at::Tensor> read;
  for (auto parameter : block.getOps<ParameterOp>())
    read.insert(model.tensors.extract(parameter.getPath().str()));
  model.tensors = std::move(read);
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
    std::string name;
    do
      name = "constants." + std::to_string(constants++);
    while (tape.leaves.contains(name)); // the model may have a list of that name
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

/// The arguments as a foreign operator has them, and the tensors among them.
ArrayAttr ModelBuilder::getArguments(const TapeCall &call, SmallVectorImpl<Value> &operands) {
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
  return builder.getArrayAttr(arguments);
}

void ModelBuilder::buildOpaque(const TapeCall &call) {
  SmallVector<Value> operands;
  ArrayAttr arguments = getArguments(call, operands);
  SmallVector<Type> types;
  for (int result : call.results)
    types.push_back(getType(context, tape.values[result].meta));
  auto op = OpaqueOp::create(builder, getLocation(call.place), types, call.getName(), operands, arguments,
                             /*effect=*/false, call.isRandom, /*batched=*/DenseBoolArrayAttr());
  if (!call.sizes.empty())
    op->setAttr(sizesAttrName, getSizes(call));
  for (auto [result, value] : llvm::zip_equal(call.results, op.getResults()))
    values[result] = value;
}

ArrayAttr ModelBuilder::getSizes(const TapeCall &call) {
  return builder.getArrayAttr(llvm::map_to_vector(call.sizes, [&](const SizeOrigin &size) -> Attribute {
    return builder.getDenseI64ArrayAttr({size.result, size.dim, size.operand, size.operandDim});
  }));
}

/// Builds the call from the table; builds nothing where the table declines, or says
/// something of another type than what torch computed.
bool ModelBuilder::tryTable(const TapeCall &call, CallBuilder build) {
  Block *block = builder.getInsertionBlock();
  Operation *last = block->empty() ? nullptr : &block->back();
  CallImporter importer(builder, getLocation(call.place), tape, call, values);
  bool isExact = build(importer) && importer.results.size() == call.results.size();
  for (size_t i = 0; isExact && i < call.results.size(); ++i)
    isExact = importer.results[i] ? importer.results[i].getType() == getType(context, tape.values[call.results[i]].meta)
                                  : useCounts[call.results[i]] == 0;
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

/// Result `index` of the call as an op that holds what the table composes it of; null where the table declines.
ComposedOp ModelBuilder::buildComposed(const TapeCall &call, const TableEntry &entry, size_t index) {
  SmallVector<Value> operands;
  ArrayAttr arguments = getArguments(call, operands);
  RankedTensorType type = getType(context, tape.values[call.results[index]].meta);
  Location loc = getLocation(call.place);
  auto op = ComposedOp::create(builder, loc, type, call.getName(), operands, arguments, static_cast<int64_t>(index),
                               entry.isSmooth);
  Block &body = op.getBody().emplaceBlock();
  for (Value operand : operands)
    body.addArgument(operand.getType(), loc);
  // Inside, the call's operands are the arguments of the body.
  std::map<int, Value> outside;
  unsigned next = 0;
  for (const TapeArgument &argument : call.arguments)
    for (int value : argument.tensors)
      if (value >= 0) {
        outside.try_emplace(value, values[value]);
        values[value] = body.getArgument(next++);
      }
  OpBuilder inner = OpBuilder::atBlockEnd(&body);
  CallImporter importer(inner, loc, tape, call, values, /*isComposing=*/true);
  bool isBuilt = entry.build(importer) && importer.results.size() == call.results.size() && importer.results[index] &&
                 importer.results[index].getType() == type;
  for (auto [value, before] : outside)
    values[value] = before;
  op.setSmooth(entry.isSmooth || importer.isSmooth);
  if (isBuilt) {
    YieldOp::create(inner, loc, importer.results[index]);
    for (Operation &dead : llvm::make_early_inc_range(llvm::reverse(body)))
      if (isOpTriviallyDead(&dead))
        dead.erase();
    ScopedDiagnosticHandler silence(context, [](Diagnostic &) { return success(); });
    for (Operation &part : body.without_terminator())
      isBuilt &= succeeded(part.getName().verifyInvariants(&part));
    isBuilt &= succeeded(op->getName().verifyInvariants(op));
  }
  if (isBuilt)
    return op;
  op.erase();
  return {};
}

/// As one op per result that is used. Where there are more than two, the operator alone would run too often.
bool ModelBuilder::tryComposed(const TapeCall &call, const TableEntry &entry) {
  constexpr size_t kMostResults = 2;
  SmallVector<ComposedOp> built;
  for (size_t i = 0; i < call.results.size(); ++i) {
    if (useCounts[call.results[i]] == 0)
      continue;
    ComposedOp op = built.size() < kMostResults ? buildComposed(call, entry, i) : ComposedOp();
    if (!op) {
      for (ComposedOp earlier : llvm::reverse(built))
        earlier.erase();
      return false;
    }
    built.push_back(op);
  }
  for (ComposedOp op : built)
    values[call.results[op.getIndex()]] = op.getResult();
  return true;
}

void ModelBuilder::importCall(const TapeCall &call) {
  Location loc = getLocation(call.place);
  if (tryScatters(call))
    return;
  const TableEntry *entry = call.isRandom ? nullptr : getAtenTable().lookUp(call.getName());
  bool isInline = entry && !entry->isComposed;
  // A number that becomes a scalar operand is built anew, in the type that it takes there.
  auto materializeAll = [&](bool numbersToo) {
    for (const TapeArgument &argument : call.arguments)
      for (int value : argument.tensors)
        if (value >= 0 && (numbersToo || !tape.values[value].isScalar()))
          materialize(value, loc);
  };
  materializeAll(/*numbersToo=*/!isInline);
  if (isInline && tryTable(call, entry->build))
    return;
  materializeAll(/*numbersToo=*/true);
  if (!entry || !entry->isComposed || !tryComposed(call, *entry))
    buildOpaque(call);
}

/// What leaves become, behind the results. Leaves of one type and name are one stack, so that a group writes it in
/// place and the number of results is not that of the instances.
SmallVector<Value> ModelBuilder::buildWrites(func::FuncOp function) {
  llvm::MapVector<std::pair<Type, StringRef>, SmallVector<std::pair<StringRef, Value>>> stacks;
  for (const auto &[path, value] : tape.writes) {
    materialize(value, builder.getUnknownLoc());
    StringRef name = StringRef(path).rsplit('.').second;
    stacks[{values[value].getType(), name.empty() ? StringRef(path) : name}].push_back({path, values[value]});
  }
  SmallVector<Value> results;
  SmallVector<Attribute> writes;
  for (auto &[key, members] : stacks) {
    SmallVector<Attribute> paths;
    SmallVector<Value> parts;
    for (auto [path, value] : members) {
      paths.push_back(builder.getStringAttr(path));
      parts.push_back(value);
    }
    writes.push_back(builder.getArrayAttr(paths));
    results.push_back(parts.size() == 1 ? parts.front()
                                        : StackOp::create(builder, builder.getUnknownLoc(), parts, 0).getResult());
  }
  if (!writes.empty())
    function->setAttr(writesAttrName, builder.getArrayAttr(writes));
  return results;
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
  countUses(needed);
  for (size_t i = 0; i < tape.calls.size(); ++i)
    if (needed[i])
      importCall(tape.calls[i]);
  for (int output : tape.outputs)
    materialize(output, unknown);
  SmallVector<Value> returned = llvm::map_to_vector(tape.outputs, [&](int output) { return values[output]; });
  llvm::append_range(returned, buildWrites(function));
  function.setFunctionType(
      builder.getFunctionType(typesOf(tape.inputs), llvm::to_vector(TypeRange(ValueRange(returned)))));
  func::ReturnOp::create(builder, unknown, returned);
  removeDead();
}

std::shared_ptr<Model> buildModel(const Tape &tape) {
  auto model = std::make_shared<Model>();
  ModelBuilder(tape, *model).build();
  return model;
}

} // namespace pfcn
