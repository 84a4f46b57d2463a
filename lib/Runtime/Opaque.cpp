//===- Opaque.cpp - foreign operators through torch's dispatcher -------------------===//
//
// Constant arguments become IValues once; only tensor operands are filled in per call.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Runtime/Opaque.h"

#include "pfcn/Transforms/Passes.h"

#include "mlir/IR/BuiltinAttributes.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>

using namespace mlir::pfcn;

namespace pfcn::runtime {

namespace {

/// An argument of the call, given the operands of this run.
using Argument = std::function<c10::IValue(TensorRange operands)>;

Argument constant(c10::IValue value) {
  return [value = std::move(value)](TensorRange) { return value; };
}

bool isTensor(const c10::Type &type) { return type.kind() == c10::TypeKind::TensorType; }

c10::TypePtr withoutOptional(const c10::TypePtr &type) {
  auto optional = type->cast<c10::OptionalType>();
  return optional ? optional->getElementType() : type;
}

/// A list of tensors, any of which may be None.
Argument makeTensorList(mlir::ArrayAttr list, bool isOptional) {
  std::vector<int64_t> indices; // -1 for None
  for (mlir::Attribute element : list) {
    auto operand = mlir::dyn_cast<OperandAttr>(element);
    indices.push_back(operand ? operand.getIndex() : -1);
  }
  if (!isOptional)
    return [indices](TensorRange operands) -> c10::IValue {
      c10::List<at::Tensor> tensors;
      for (int64_t index : indices)
        tensors.push_back(index < 0 ? at::Tensor() : operands[index]);
      return tensors;
    };
  return [indices](TensorRange operands) -> c10::IValue {
    c10::List<std::optional<at::Tensor>> tensors;
    for (int64_t index : indices)
      tensors.push_back(index < 0 ? std::nullopt : std::optional<at::Tensor>(operands[index]));
    return tensors;
  };
}

c10::IValue makeScalar(mlir::Attribute attribute, const c10::Type &type, const std::string &where) {
  if (auto flag = mlir::dyn_cast<mlir::BoolAttr>(attribute))
    return flag.getValue();
  if (auto integer = mlir::dyn_cast<mlir::IntegerAttr>(attribute)) {
    int64_t value = integer.getInt();
    return type.kind() == c10::TypeKind::FloatType ? c10::IValue(static_cast<double>(value)) : c10::IValue(value);
  }
  if (auto number = mlir::dyn_cast<mlir::FloatAttr>(attribute))
    return number.getValueAsDouble();
  if (auto typeAttr = mlir::dyn_cast<mlir::TypeAttr>(attribute))
    return static_cast<int64_t>(getScalarType(typeAttr.getValue()));
  if (auto text = mlir::dyn_cast<mlir::StringAttr>(attribute)) {
    if (type.kind() == c10::TypeKind::DeviceObjType)
      return c10::Device(text.str());
    return text.str();
  }
  TORCH_CHECK_NOT_IMPLEMENTED(false, "pfcn: ", where, " cannot be passed to torch");
}

c10::IValue makeList(mlir::ArrayAttr list, const c10::TypePtr &elementType, const std::string &where) {
  c10::impl::GenericList values(elementType);
  for (mlir::Attribute element : list)
    values.push_back(makeScalar(element, *elementType, where));
  return values;
}

/// `int[2]` of a schema may be given as one integer.
c10::IValue repeat(mlir::Attribute element, const c10::Argument &argument, const c10::TypePtr &elementType,
                   const std::string &where) {
  c10::impl::GenericList values(elementType);
  for (int32_t i = 0; i < argument.N().value_or(1); ++i)
    values.push_back(makeScalar(element, *elementType, where));
  return values;
}

Argument makeArgument(mlir::Attribute attribute, const c10::Argument &argument, const std::string &callee) {
  std::string where = "argument '" + argument.name() + "' of " + callee;
  if (auto operand = mlir::dyn_cast<OperandAttr>(attribute))
    return [index = operand.getIndex()](TensorRange operands) -> c10::IValue { return operands[index]; };
  if (mlir::isa<mlir::UnitAttr>(attribute))
    return constant(c10::IValue());
  c10::TypePtr type = withoutOptional(argument.type());
  auto listType = type->cast<c10::ListType>();
  if (!listType) {
    TORCH_CHECK_NOT_IMPLEMENTED(!mlir::isa<mlir::ArrayAttr>(attribute), "pfcn: ", where, " takes no list");
    return constant(makeScalar(attribute, *type, where));
  }
  c10::TypePtr elementType = listType->getElementType();
  auto list = mlir::dyn_cast<mlir::ArrayAttr>(attribute);
  if (!list)
    return constant(repeat(attribute, argument, elementType, where));
  if (isTensor(*withoutOptional(elementType)))
    return makeTensorList(list, elementType->kind() == c10::TypeKind::OptionalType);
  return constant(makeList(list, elementType, where));
}

void appendResult(const c10::IValue &value, TensorVector &results, const std::string &callee) {
  auto append = [&](const at::Tensor &tensor) { // what the recorder left out is left out again
    if (tensor.defined())
      results.push_back(tensor);
  };
  if (value.isTensor())
    append(value.toTensor());
  else if (value.isTensorList())
    llvm::for_each(value.toTensorVector(), append);
  else
    TORCH_CHECK_NOT_IMPLEMENTED(value.isNone(), "pfcn: ", callee, " returns something that is not a tensor");
}

c10::OperatorHandle findOperator(llvm::StringRef qualified) {
  // "aten::add.Tensor": the overload follows the first dot behind the namespace.
  size_t dot = qualified.find('.', qualified.find("::"));
  c10::OperatorName name(qualified.substr(0, dot).str(),
                         dot == llvm::StringRef::npos ? "" : qualified.substr(dot + 1).str());
  std::optional<c10::OperatorHandle> handle = c10::Dispatcher::singleton().findSchema(name);
  TORCH_CHECK_NOT_IMPLEMENTED(handle, "pfcn: torch has no operator ", qualified.str(),
                              "; import the library that registers it first");
  return *handle;
}

} // namespace

/// Calls what the op names with the arguments that it gives.
template <typename Op> static Evaluator makeCall(Op op) {
  c10::OperatorHandle handle = findOperator(op.getName());
  const c10::FunctionSchema &schema = handle.schema();
  std::string callee = op.getName().str();
  mlir::ArrayAttr given = op.getArguments();
  TORCH_CHECK(given.size() == schema.arguments().size(), "pfcn: ", callee, " takes ", schema.arguments().size(),
              " arguments, and ", describe(op), " has ", given.size());
  std::vector<Argument> arguments;
  arguments.reserve(given.size());
  for (size_t i = 0; i < given.size(); ++i)
    arguments.push_back(makeArgument(given[i], schema.arguments()[i], callee));
  return [handle, arguments, callee](TensorRange operands) -> TensorVector {
    torch::jit::Stack stack;
    for (const Argument &argument : arguments)
      stack.push_back(argument(operands));
    handle.callBoxed(stack);
    TensorVector results;
    for (const c10::IValue &value : stack)
      appendResult(value, results, callee);
    return results;
  };
}

/// One result of the operator, of those that it returns.
template <typename Op> static Evaluator makeCallForOne(Op op, size_t index) {
  return [call = makeCall(op), callee = op.getName().str(), index](TensorRange operands) -> TensorVector {
    TensorVector results = call(operands);
    TORCH_CHECK(results.size() > index, "pfcn: ", callee, " returned ", results.size(), " tensors, and result ", index,
                " was recorded");
    return {results[index]};
  };
}

Evaluator makeOpaqueEvaluator(OpaqueOp op) {
  if (auto index = op->getAttrOfType<mlir::IntegerAttr>(resultIndexAttrName))
    return makeCallForOne(op, index.getInt());
  return [call = makeCall(op), callee = op.getName().str(),
          count = op->getNumResults()](TensorRange operands) -> TensorVector {
    TensorVector results = call(operands);
    TORCH_CHECK(results.size() == count, "pfcn: ", callee, " returned ", results.size(), " tensors where ", count,
                " were recorded");
    return results;
  };
}

Evaluator makeComposedEvaluator(ComposedOp op) { return makeCallForOne(op, op.getIndex()); }

} // namespace pfcn::runtime
