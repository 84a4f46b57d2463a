//===- TorchScriptOps.cpp - what an import may run, and how much of it -------------===//
//
// A TorchScript file is a program, and may be anybody's. What runs of it is on these lists: no file is read or
// written, no process-wide state is changed, nothing grows beyond its budget, and no instruction traps.
//
//===----------------------------------------------------------------------------===//

#include "TorchScriptOps.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <limits>
#include <unordered_set>

using namespace pfcn;
using c10::IValue;

using Names = std::unordered_set<std::string>;

/// Operators that only TorchScript has, of numbers, strings, lists, dicts and properties of tensors.
static const Names &getScriptOperators() {
  static const Names names = {
      // Numbers.
      "aten::Bool", "aten::Float", "aten::Int", "aten::Complex", "aten::FloatImplicit", "aten::IntImplicit",
      "aten::ComplexImplicit", "aten::ScalarImplicit", "aten::abs", "aten::acos", "aten::acosh", "aten::add",
      "aten::asin", "aten::asinh", "aten::atan", "aten::atan2", "aten::atanh", "aten::ceil", "aten::copysign",
      "aten::cos", "aten::cosh", "aten::degrees", "aten::div", "aten::divmod", "aten::eq", "aten::erf", "aten::erfc",
      "aten::exp", "aten::expm1", "aten::fabs", "aten::floor", "aten::floordiv", "aten::fmod", "aten::ge", "aten::gt",
      "aten::isfinite", "aten::isinf", "aten::isnan", "aten::le", "aten::lgamma", "aten::log", "aten::log10",
      "aten::log1p", "aten::lt", "aten::mathremainder", "aten::mul", "aten::ne", "aten::neg", "aten::pow",
      "aten::radians", "aten::remainder", "aten::round", "aten::sin", "aten::sinh", "aten::sqrt", "aten::sub",
      "aten::tan", "aten::tanh", "aten::__and__", "aten::__or__", "aten::__xor__", "aten::__not__", "aten::__lshift__",
      "aten::__rshift__", "aten::__is__", "aten::__isnot__", "aten::__round_to_zero_floordiv", "aten::__range_length",
      "aten::__derive_index", "prim::abs", "prim::max", "prim::min", "prim::NumToTensor",
      // Lists, dicts, tuples and enumerations.
      "aten::Delete", "aten::Size", "aten::__contains__", "aten::__getitem__", "aten::_set_item", "aten::add_",
      "aten::all", "aten::any", "aten::append", "aten::clear", "aten::copy", "aten::count", "aten::dict",
      "aten::extend", "aten::get", "aten::index", "aten::insert", "aten::items", "aten::keys", "aten::len",
      "aten::list", "aten::mul_", "aten::pop", "aten::popitem", "aten::remove", "aten::reverse", "aten::select",
      "aten::setdefault", "aten::slice", "aten::sort", "aten::sorted", "aten::sum", "aten::update", "aten::values",
      "aten::_unwrap_optional", "prim::rangelist", "prim::TupleIndex", "prim::TupleUnpack", "prim::TupleSlice",
      "prim::IfThenElse", "prim::ModuleContainerIndex", "prim::EnumName", "prim::EnumValue", "prim::isinstance",
      // Strings, as messages and names of things.
      "aten::str", "aten::format", "aten::join", "aten::split", "aten::strip", "aten::lstrip", "aten::rstrip",
      "aten::startswith", "aten::endswith", "aten::find", "aten::replace", "aten::upper", "aten::lower", "aten::ord",
      "aten::chr", "aten::isdigit", "prim::StringIndex",
      // Sizes and properties.
      "aten::_infer_size", "aten::_size_if_not_equal", "aten::broadcast_shapes", "aten::device", "aten::element_size",
      "aten::is_non_overlapping_and_dense", "aten::is_scripting", "aten::is_grad_enabled", "aten::set_grad_enabled",
      "aten::is_autocast_enabled", "aten::is_autocast_cpu_enabled", "aten::get_autocast_dtype",
      "aten::_get_tracing_state", "aten::has_torch_function", "aten::size", "aten::stride", "aten::sym_size",
      "aten::sym_stride", "aten::is_strides_like_format", "prim::data", "prim::device", "prim::dtype", "prim::index",
      "prim::is_cpu", "prim::is_cuda", "prim::is_ipu", "prim::is_maia", "prim::is_meta", "prim::is_mkldnn",
      "prim::is_mps", "prim::is_mtia", "prim::is_nested", "prim::is_quantized", "prim::is_sparse",
      "prim::is_sparse_csr", "prim::is_vulkan", "prim::is_xla", "prim::is_xpu", "prim::itemsize", "prim::layout",
      "prim::name", "prim::nbytes", "prim::requires_grad", "prim::type",
      // Forms of tensor operators.
      "aten::tensor", "aten::as_tensor", "aten::to", "aten::cpu", "aten::cuda", "aten::copy_", "aten::einsum",
      "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index", "aten::_unsafe_index_put",
      "aten::__interpolate", "aten::__upsample", "aten::__upsample_bilinear", "aten::__upsample_nearest",
      "aten::_grad_sum_to_size", "aten::_list_to_tensor", "aten::_tensor_to_list", "aten::_ncf_unsqueeze",
      "aten::_ncf_view", "aten::_no_grad_fill_", "aten::_no_grad_zero_", "aten::_no_grad_normal_",
      "aten::_no_grad_uniform_", "aten::_no_grad_embedding_renorm_", "aten::_pack_sequence", "aten::dequantize",
      "aten::mH", "aten::mT", "aten::matrix_H", "aten::numpy_T", "prim::AutogradZero", "prim::BroadcastSizes",
      "prim::ConstantChunk", "prim::ReductionSizes", "prim::VarConcat", "prim::VarStack", "prim::tolist"};
  return names;
}

/// Operators of tensors that do something else as well: read files, print, or change what other code sees.
static bool hasSideEffects(const std::string &name) {
  static const Names names = {"aten::from_file",
                              "aten::_print",
                              "aten::_backward",
                              "aten::set_data",
                              "aten::_cufft_set_plan_cache_max_size",
                              "aten::_cufft_clear_plan_cache",
                              "aten::record_stream",
                              "aten::_foreach_copy_",
                              "aten::requires_grad_",
                              "aten::retain_grad"};
  return names.contains(name);
}

static bool holdsTensor(const c10::TypePtr &type) {
  return type->kind() == c10::TypeKind::TensorType ||
         std::any_of(type->containedTypes().begin(), type->containedTypes().end(), &holdsTensor);
}

static bool isAboutTensors(const c10::FunctionSchema &schema) {
  auto isTensor = [](const c10::Argument &argument) { return holdsTensor(argument.type()); };
  return std::any_of(schema.arguments().begin(), schema.arguments().end(), isTensor) ||
         std::any_of(schema.returns().begin(), schema.returns().end(), isTensor);
}

bool pfcn::mayRun(const torch::jit::Node *node) {
  std::string name = node->kind().toQualString();
  const c10::FunctionSchema *schema = node->maybeSchema();
  auto op = schema ? c10::Dispatcher::singleton().findSchema(schema->operator_name()) : std::nullopt;
  if (!op)
    return getScriptOperators().contains(name);
  if (name.starts_with("aten::") || name.starts_with("prims::"))
    return !hasSideEffects(name) && (isAboutTensors(*schema) || getScriptOperators().contains(name));
  // Another library's: what it registered for tensors without data only computes shapes.
  return isAboutTensors(*schema) && op->hasKernelForDispatchKey(c10::DispatchKey::Meta);
}

bool pfcn::isArithmetic(const std::string &name) {
  static const Names names = {"aten::Bool",
                              "aten::Float",
                              "aten::Int",
                              "aten::FloatImplicit",
                              "aten::IntImplicit",
                              "aten::item",
                              "aten::ScalarImplicit",
                              "aten::is_nonzero",
                              "aten::__getitem__",
                              "aten::abs",
                              "aten::add",
                              "aten::add_",
                              "aten::bitwise_and",
                              "aten::bitwise_or",
                              "aten::bitwise_not",
                              "aten::ceil",
                              "aten::clamp",
                              "aten::clone",
                              "aten::contiguous",
                              "aten::cpu",
                              "aten::detach",
                              "aten::dim",
                              "aten::div",
                              "aten::div_",
                              "aten::eq",
                              "aten::exp",
                              "aten::floor",
                              "aten::floor_divide",
                              "aten::ge",
                              "aten::gt",
                              "aten::le",
                              "aten::log",
                              "aten::logical_and",
                              "aten::logical_not",
                              "aten::logical_or",
                              "aten::lt",
                              "aten::max",
                              "aten::maximum",
                              "aten::min",
                              "aten::minimum",
                              "aten::mul",
                              "aten::mul_",
                              "aten::ne",
                              "aten::neg",
                              "aten::numel",
                              "aten::pow",
                              "aten::reciprocal",
                              "aten::remainder",
                              "aten::round",
                              "aten::rsub",
                              "aten::rsqrt",
                              "aten::size",
                              "aten::sqrt",
                              "aten::sub",
                              "aten::sub_",
                              "aten::to",
                              "aten::trunc",
                              "aten::type_as",
                              "aten::_tensor_to_list",
                              "aten::alias",
                              "aten::lift_fresh",
                              "aten::lift_fresh_copy",
                              "aten::detach_copy",
                              "aten::square",
                              "prim::data",
                              "prim::device",
                              "prim::dtype",
                              "prim::tolist",
                              "prim::layout",
                              "aten::squeeze",
                              "aten::is_floating_point",
                              "aten::_local_scalar_dense",
                              "aten::copy_",
                              "aten::sign",
                              "aten::expand_as"};
  return names.contains(name);
}

//===----------------------------------------------------------------------------===//
// The budget
//===----------------------------------------------------------------------------===//

void Budget::spend(int64_t elements) {
  left -= std::min(elements, limit + 1);
  if (left < 0)
    throw ImportError("the model makes lists and strings of more than " + std::to_string(limit) + " elements");
}

/// Elements of a list or dict, characters of a string.
static int64_t getLength(const IValue &value) {
  if (value.isString())
    return static_cast<int64_t>(value.toStringRef().size());
  if (value.isTensorList())
    return static_cast<int64_t>(value.toTensorList().size());
  if (value.isIntList())
    return static_cast<int64_t>(value.toIntList().size());
  if (value.isDoubleList())
    return static_cast<int64_t>(value.toDoubleList().size());
  if (value.isBoolList())
    return static_cast<int64_t>(value.toBoolList().size());
  if (value.isList())
    return static_cast<int64_t>(value.toListRef().size());
  if (value.isGenericDict())
    return static_cast<int64_t>(value.toGenericDict().size());
  if (value.isTuple())
    return static_cast<int64_t>(value.toTupleRef().elements().size());
  return 0;
}

/// All strings and lists in a list; a string inside counts with its characters.
static int64_t getSize(const IValue &value) {
  int64_t size = getLength(value);
  if (value.isList() && size > 0 && value.toListRef()[0].isString())
    for (const IValue &element : value.toListRef())
      size += getLength(element);
  return size;
}

static int64_t saturatingProduct(int64_t a, int64_t b) {
  int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? std::numeric_limits<int64_t>::max() : product;
}

/// The size of one of the first tensor's dimensions, given as argument `i`; the largest where that is none.
static int64_t getExtent(const torch::jit::Stack &stack, size_t i) {
  if (stack.empty() || !stack[0].isTensor() || !stack[0].toTensor().defined())
    return 0;
  c10::IntArrayRef sizes = stack[0].toTensor().sizes();
  int64_t rank = static_cast<int64_t>(sizes.size());
  if (i < stack.size() && stack[i].isInt()) {
    int64_t dim = stack[i].toInt();
    if (dim >= -rank && dim < rank)
      return sizes[dim < 0 ? dim + rank : dim];
  }
  return sizes.empty() ? 1 : *std::max_element(sizes.begin(), sizes.end());
}

/// Operators that make as many tensors as a number or a size says.
static int64_t countTensors(const std::string &name, const torch::jit::Stack &stack) {
  static const Names parts = {"aten::chunk",  "aten::unsafe_chunk", "aten::tensor_split", "aten::hsplit",
                              "aten::vsplit", "aten::dsplit",       "aten::combinations"};
  static const Names pieces = {"aten::split", "aten::unsafe_split", "aten::split_copy"};
  static const Names recurrences = {"aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"};
  int64_t given = stack.size() > 1 && stack[1].isInt() ? stack[1].toInt() : 0;
  if (parts.contains(name))
    return given;
  if (pieces.contains(name))
    return given > 0 ? getExtent(stack, 2) / given : 0;
  if (name == "aten::unbind" || name == "aten::unbind_copy")
    return getExtent(stack, 1);
  if (recurrences.contains(name)) // a step of theirs is a call, or ten
    return saturatingProduct(getExtent(stack, stack.size()), 10);
  return 0;
}

/// Division of the least integer by -1 traps, and so would a range that is longer than an integer.
static void checkIntegers(const std::string &name, const torch::jit::Stack &stack) {
  static const Names divisions = {"aten::floordiv", "aten::remainder",      "aten::__round_to_zero_floordiv",
                                  "aten::divmod",   "aten::__range_length", "aten::__derive_index"};
  if (!divisions.contains(name))
    return;
  for (const IValue &value : stack)
    if (value.isInt() && (value.toInt() > (int64_t(1) << 62) || value.toInt() < -(int64_t(1) << 62)))
      throw ImportError("the model divides integers of more than 62 bits");
}

void Budget::spend(const std::string &name, const torch::jit::Stack &stack) {
  checkIntegers(name, stack);
  spend(countTensors(name, stack));
  static const Names constantTime = {"aten::__getitem__", "aten::_set_item", "aten::len",        "aten::append",
                                     "aten::pop",         "aten::get",       "aten::setdefault", "aten::__is__",
                                     "aten::__isnot__",   "prim::TupleIndex"};
  if (constantTime.contains(name))
    return;
  if (name == "prim::rangelist" && stack[0].isInt())
    return spend(std::max<int64_t>(stack[0].toInt(), 0));
  int64_t sum = 0, product = 1;
  for (const IValue &value : stack) {
    int64_t size = getSize(value);
    sum += size;
    product = saturatingProduct(product, size + 1);
  }
  bool isRepeat = (name == "aten::mul" || name == "aten::mul_") && stack.size() == 2;
  if (isRepeat)
    for (int i : {0, 1})
      if (stack[i].isInt() && getLength(stack[1 - i]) > 0)
        return spend(saturatingProduct(sum, std::max<int64_t>(stack[i].toInt(), 0)));
  spend(name == "aten::replace" || name == "aten::join" ? product : sum);
}
