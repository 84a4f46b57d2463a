//===- Launches.cpp - the launches of a lowered model as JSON --------------------------===//

#include "pfcn/Codegen/Launches.h"

#include "pfcn/Codegen/CpuKernel.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"

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

/// What a tensor is called: its argument, its parameters, or its place among the operands.
static std::string getName(Value value, unsigned index, bool isInput) {
  if (auto parameter = value.getDefiningOp<ParameterOp>())
    return parameter.getPath().str();
  if (auto stack = value.getDefiningOp<ParameterStackOp>()) {
    std::string first = cast<StringAttr>(stack.getPaths()[0]).str();
    return first + " ... x" + std::to_string(stack.getPaths().size());
  }
  if (auto argument = dyn_cast<BlockArgument>(value))
    return "input" + std::to_string(argument.getArgNumber());
  return (isInput ? "operand" : "result") + std::to_string(index);
}

static json::Array describeArguments(LaunchOp launch, gpu::GPUFuncOp function) {
  json::Array arguments;
  unsigned inputs = launch.getInputs().size();
  for (Attribute parameter : function->getAttrOfType<ArrayAttr>("pfcn.parameters")) {
    ArrayRef<int64_t> what = cast<DenseI64ArrayAttr>(parameter).asArrayRef();
    bool isInput = what[0] < inputs;
    unsigned index = isInput ? what[0] : what[0] - inputs;
    Value whole = isInput ? launch.getInputs()[index] : launch.getInits()[index];
    ArrayAttr accesses = isInput ? launch.getInputAccesses() : launch.getInitAccesses();
    MemRefType type = getMemRefType(whole, cast<AccessAttr>(accesses[index]), launch.getCount());
    std::string name = getName(whole, index, isInput);
    SmallVector<int64_t> strides = type.getStridesAndOffset().first;
    if (what[1] == 0) {
      arguments.push_back(json::Object{{"kind", "buffer"},
                                       {"name", name},
                                       {"dtype", getTypeName(type.getElementType())},
                                       {"shape", known(type.getShape())},
                                       {"strides", known(strides)}});
      continue;
    }
    std::string suffix = (what[1] == 1 ? ".size" : ".stride") + std::to_string(what[2]);
    int64_t value = what[1] == 1 ? type.getDimSize(what[2]) : strides[what[2]];
    arguments.push_back(
        json::Object{{"kind", "scalar"}, {"name", name + suffix}, {"dtype", "i64"}, {"value", known(value)}});
  }
  return arguments;
}

json::Array mlir::pfcn::describeLaunches(ModuleOp module) {
  json::Array launches;
  auto kernels = module.getOps<gpu::GPUModuleOp>();
  module.walk([&](LaunchOp launch) {
    if (kernels.empty())
      return;
    auto function = (*kernels.begin()).lookupSymbol<gpu::GPUFuncOp>(launch.getKernel());
    if (!function)
      return;
    int64_t shared = 0;
    for (BlockArgument scratch : function.getWorkgroupAttributions()) {
      auto type = cast<MemRefType>(scratch.getType());
      shared += type.getNumElements() * (type.getElementTypeBitWidth() / 8);
    }
    int64_t gridY = launch->getAttrOfType<IntegerAttr>("pfcn.grid_y").getInt();
    launches.push_back(
        json::Object{{"kernel", launch.getKernel()},
                     {"grid", json::Array{static_cast<int64_t>(launch.getTiles()), gridY, 1}},
                     {"block", known(launch->getAttrOfType<DenseI64ArrayAttr>("pfcn.block").asArrayRef())},
                     {"shared_bytes", shared},
                     {"args", describeArguments(launch, function)}});
  });
  return launches;
}
