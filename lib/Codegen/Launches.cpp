//===- Launches.cpp - the launches of a lowered model as JSON --------------------------===//
//
// Tensors are named by where a caller finds them; docs/Cuda.md describes the fields.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Codegen/Launches.h"

#include "pfcn/Codegen/CpuKernel.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/ADT/StringExtras.h"

#include <cmath>

using namespace mlir;
using namespace mlir::pfcn;
namespace json = llvm::json;

static json::Value known(int64_t value) {
  return ShapedType::isDynamic(value) ? json::Value(nullptr) : json::Value(value);
}

static json::Array known(ArrayRef<int64_t> values) {
  json::Array array;
  for (int64_t value : values)
    array.push_back(known(value));
  return array;
}

static std::string getTypeName(Type type) {
  std::string name;
  llvm::raw_string_ostream(name) << type;
  return name;
}

/// What paths have in common, with `*` for each part in which they differ.
static std::string getPattern(ArrayAttr paths) {
  SmallVector<StringRef> pattern;
  StringRef first = cast<StringAttr>(paths[0]).getValue();
  first.split(pattern, '.');
  for (Attribute path : paths) {
    SmallVector<StringRef> parts;
    cast<StringAttr>(path).getValue().split(parts, '.');
    if (parts.size() != pattern.size())
      return (first + " ... x" + Twine(paths.size())).str();
    for (auto [common, part] : llvm::zip(pattern, parts))
      if (common != part)
        common = "*";
  }
  return llvm::join(pattern, ".");
}

/// The elements of a constant, in row-major order.
static json::Array getElements(ElementsAttr elements) {
  json::Array array;
  if (isa<FloatType>(elements.getElementType())) {
    for (const APFloat &value : elements.getValues<APFloat>()) {
      APFloat wide = value;
      bool exact;
      wide.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &exact);
      double number = wide.convertToDouble();
      if (std::isfinite(number))
        array.push_back(number);
      else
        array.push_back(std::isnan(number) ? "nan" : number > 0 ? "inf" : "-inf"); // JSON has no numbers for these
    }
  } else {
    for (const APInt &value : elements.getValues<APInt>())
      array.push_back(value.getBitWidth() == 1 ? value.getZExtValue() : value.getSExtValue());
  }
  return array;
}

/// The strides of a tensor of this shape without gaps; dynamic behind a dynamic size.
static SmallVector<int64_t> getDenseStrides(ArrayRef<int64_t> shape) {
  SmallVector<int64_t> strides(shape.size(), ShapedType::kDynamic);
  int64_t stride = 1;
  for (int64_t dim = shape.size() - 1; dim >= 0; --dim) {
    strides[dim] = stride;
    if (ShapedType::isDynamic(shape[dim]))
      break;
    stride *= shape[dim];
  }
  return strides;
}

/// The size of an input that a dynamic size of a tensor always equals, as in `input0.size0`; null where it is none.
static json::Value getSizeName(Value tensor, int64_t dim) {
  if (auto argument = dyn_cast<BlockArgument>(tensor))
    return "input" + std::to_string(argument.getArgNumber()) + ".size" + std::to_string(dim);
  if (auto launch = tensor.getDefiningOp<LaunchOp>())
    return getSizeName(launch.getInits()[cast<OpResult>(tensor).getResultNumber()], dim);
  auto empty = tensor.getDefiningOp<EmptyOp>();
  if (!empty)
    return nullptr;
  auto size = empty.getDynamicSizes()[empty.getType().getDynamicDimIndex(dim)].getDefiningOp<tensor::DimOp>();
  std::optional<int64_t> index = size ? size.getConstantIndex() : std::nullopt;
  return index ? getSizeName(size.getSource(), *index) : json::Value(nullptr);
}

namespace {
/// One tensor of a launch: whose it is, and the part of it that the kernel is given.
class Operand {
public:
  Operand(LaunchOp launch, unsigned tensor, StringRef name) : name(name), count(launch.getCount()) {
    bool isInput = tensor < launch.getInputs().size();
    unsigned index = isInput ? tensor : tensor - launch.getInputs().size();
    whole = isInput ? launch.getInputs()[index] : launch.getInits()[index];
    ArrayAttr accesses = isInput ? launch.getInputAccesses() : launch.getInitAccesses();
    access = cast<AccessAttr>(accesses[index]);
    type = getMemRefType(whole, access, count);
    shape = llvm::to_vector(cast<RankedTensorType>(whole.getType()).getShape());
    strides = getDenseStrides(shape);
  }

  json::Object describe(json::Object source) const {
    json::Object object = std::move(source);
    SmallVector<int64_t> viewed;
    for (int64_t dim = 0; dim < type.getRank(); ++dim)
      viewed.push_back(getStride(dim));
    object["kind"] = "buffer";
    object["name"] = name;
    object["dtype"] = getTypeName(type.getElementType());
    object["shape"] = known(type.getShape());
    object["strides"] = known(viewed);
    object["offset"] = access.isShared() ? json::Value(0) : known(times(strides[access.getDim()], access.getOffset()));
    json::Array sizes;
    for (auto [dim, size] : llvm::enumerate(shape))
      sizes.push_back(ShapedType::isDynamic(size) ? getSizeName(whole, dim) : json::Value(size));
    object["tensor_shape"] = std::move(sizes);
    if (access.isShared())
      object["access"] = nullptr;
    else
      object["access"] = json::Object{{"kind", access.isSelect() ? "select" : "slice"},
                                      {"dim", access.getDim()},
                                      {"start", access.getOffset()},
                                      {"step", access.getStride()},
                                      {"size", access.isSelect() ? 1 : access.getSize()},
                                      {"instances", count}};
    return object;
  }

  /// A size or stride that the kernel takes as a parameter, in terms of the whole tensor.
  json::Object describeScalar(bool isSize, int64_t dim) const {
    int64_t ofWhole = getDim(dim), factor = isInstance(dim) ? access.getStride() : 1;
    std::string what = isSize ? "size" : "stride";
    json::Object object{{"kind", "scalar"}, {"name", name + "." + what + std::to_string(ofWhole)},
                        {"dtype", "i64"},   {"value", known(isSize ? type.getDimSize(dim) : getStride(dim))},
                        {"tensor", name},   {"of", what},
                        {"dim", ofWhole},   {"factor", factor}};
    if (isSize && type.isDynamicDim(dim))
      object["equals"] = getSizeName(whole, ofWhole);
    return object;
  }

private:
  static int64_t times(int64_t a, int64_t b) {
    return b == 0 ? 0 : ShapedType::isDynamic(a) ? ShapedType::kDynamic : a * b;
  }
  bool isInstance(int64_t dim) const { return !access.isShared() && dim == 0; }
  /// The dimension of the whole tensor that one of the kernel's walks.
  int64_t getDim(int64_t dim) const {
    if (access.isShared())
      return dim;
    if (dim == 0)
      return access.getDim();
    return access.isSelect() && dim - 1 >= access.getDim() ? dim : dim - 1;
  }
  int64_t getStride(int64_t dim) const { return times(strides[getDim(dim)], isInstance(dim) ? access.getStride() : 1); }

  std::string name;
  int64_t count;
  Value whole;
  AccessAttr access;
  MemRefType type;
  SmallVector<int64_t> shape, strides;
};

/// Describes the launches of a module in order, and numbers the tensors that pass between steps.
class Describer {
public:
  explicit Describer(gpu::GPUModuleOp kernels) : kernels(kernels) {}

  void visit(LaunchOp launch);
  json::Array launches;

private:
  /// The tensor as a caller knows it: `name`, and where it comes from.
  json::Object describe(Value value);
  json::Object describeIntermediate(Value value);
  json::Object describeDestination(LaunchOp launch, unsigned index);

  gpu::GPUModuleOp kernels;
  DenseMap<Value, unsigned> numbers;
};
} // namespace

/// Where a result ends up: several groups may write one tensor in turn.
static Value followDestination(Value value) {
  while (value.hasOneUse()) {
    OpOperand &use = *value.use_begin();
    auto launch = dyn_cast<LaunchOp>(use.getOwner());
    if (!launch || use.getOperandNumber() < launch.getInputs().size())
      break;
    value = launch.getResult(use.getOperandNumber() - launch.getInputs().size());
  }
  return value;
}

json::Object Describer::describeIntermediate(Value value) {
  value = followDestination(value);
  for (OpOperand &use : value.getUses())
    if (isa<func::ReturnOp>(use.getOwner()))
      return json::Object{{"name", "result" + std::to_string(use.getOperandNumber())},
                          {"role", "result"},
                          {"index", static_cast<int64_t>(use.getOperandNumber())}};
  unsigned number = numbers.try_emplace(value, numbers.size()).first->second;
  json::Object object{{"name", "tmp" + std::to_string(number)}, {"role", "intermediate"}};
  if (Operation *op = value.getDefiningOp())
    object["producer"] = isa<LaunchOp>(op) ? cast<LaunchOp>(op).getKernel().str() : op->getName().getStringRef().str();
  return object;
}

json::Object Describer::describe(Value value) {
  if (auto argument = dyn_cast<BlockArgument>(value))
    return json::Object{{"name", "input" + std::to_string(argument.getArgNumber())},
                        {"role", "input"},
                        {"index", static_cast<int64_t>(argument.getArgNumber())}};
  if (auto parameter = value.getDefiningOp<ParameterOp>())
    return json::Object{{"name", parameter.getPath()}, {"role", "parameter"}, {"parameter", parameter.getPath()}};
  if (auto stack = value.getDefiningOp<ParameterStackOp>()) {
    json::Array paths;
    for (Attribute path : stack.getPaths())
      paths.push_back(cast<StringAttr>(path).getValue());
    json::Object object{
        {"name", getPattern(stack.getPaths())}, {"role", "parameters"}, {"parameters", std::move(paths)}};
    if (stack.getSizes()) // of dimension `dim` of the stack; what is short ends in zeros
      object["padded"] =
          json::Object{{"dim", static_cast<int64_t>(*stack.getDim())}, {"sizes", json::Array(*stack.getSizes())}};
    return object;
  }
  if (auto constant = value.getDefiningOp<ConstantOp>()) {
    unsigned number = numbers.try_emplace(value, numbers.size()).first->second;
    return json::Object{{"name", "constant" + std::to_string(number)},
                        {"role", "constant"},
                        {"data", getElements(constant.getValue())}};
  }
  return describeIntermediate(value);
}

/// A tensor that a launch writes a part of; `init` names the one whose other parts it keeps.
json::Object Describer::describeDestination(LaunchOp launch, unsigned index) {
  json::Object object = describeIntermediate(launch.getResult(index));
  Value init = launch.getInits()[index];
  if (init.getDefiningOp<EmptyOp>())
    object["init"] = nullptr;
  else
    object["init"] = describe(init).getString("name")->str();
  return object;
}

void Describer::visit(LaunchOp launch) {
  auto function = kernels.lookupSymbol<gpu::GPUFuncOp>(launch.getKernel());
  if (!function)
    return;
  json::Array arguments;
  unsigned inputs = launch.getInputs().size();
  for (Attribute parameter : function->getAttrOfType<ArrayAttr>("pfcn.parameters")) {
    ArrayRef<int64_t> what = cast<DenseI64ArrayAttr>(parameter).asArrayRef();
    unsigned tensor = what[0];
    json::Object source =
        tensor < inputs ? describe(launch.getInputs()[tensor]) : describeDestination(launch, tensor - inputs);
    Operand operand(launch, tensor, *source.getString("name"));
    if (what[1] == 0)
      arguments.push_back(operand.describe(std::move(source)));
    else
      arguments.push_back(operand.describeScalar(/*isSize=*/what[1] == 1, what[2]));
  }
  int64_t shared = 0;
  for (BlockArgument scratch : function.getWorkgroupAttributions()) {
    auto type = cast<MemRefType>(scratch.getType());
    shared += type.getNumElements() * (type.getElementTypeBitWidth() / 8);
  }
  int64_t gridY = launch->getAttrOfType<IntegerAttr>("pfcn.grid_y").getInt();
  auto tensorCores = launch->getAttrOfType<StringAttr>(tensorCoresAttrName);
  launches.push_back(json::Object{{"kernel", launch.getKernel()},
                                  {"tensor_cores", tensorCores ? json::Value(tensorCores.getValue()) : nullptr},
                                  {"grid", json::Array{static_cast<int64_t>(launch.getTiles()), gridY, 1}},
                                  {"block", known(launch->getAttrOfType<DenseI64ArrayAttr>("pfcn.block").asArrayRef())},
                                  {"shared_bytes", 0},
                                  {"static_shared_bytes", shared},
                                  {"args", std::move(arguments)}});
}

json::Array mlir::pfcn::describeLaunches(ModuleOp module) {
  auto kernels = module.getOps<gpu::GPUModuleOp>();
  if (kernels.empty())
    return {};
  Describer describer(*kernels.begin());
  module.walk([&](LaunchOp launch) { describer.visit(launch); });
  return std::move(describer.launches);
}
