//===- Views.cpp - views as values -----------------------------------------------===//

#include "Views.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <unordered_set>

using namespace pfcn;
using c10::IValue;

static const c10::FunctionSchema *findSchema(const char *name, const char *overload = "") {
  return &c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).schema();
}

static TapeArgument constant(IValue value) { return {TapeArgument::Kind::Constant, std::move(value), {}}; }
static TapeArgument tensor(int value) { return {TapeArgument::Kind::Tensor, {}, {value}}; }

bool pfcn::isLooseView(const std::string &name) {
  static const std::unordered_set<std::string> loose = {
      "aten::reshape", "aten::reshape_as", "aten::flatten",   "aten::ravel",          "aten::contiguous",
      "aten::to",      "aten::type_as",    "aten::expand_as", "aten::_reshape_alias", "aten::_to_cpu"};
  return loose.contains(name);
}

static View slice(int source, int64_t dim, int64_t start, int64_t length) {
  return {findSchema("aten::slice", "Tensor"),
          {tensor(source), constant(dim), constant(start), constant(start + length), constant(int64_t(1))},
          0};
}

/// Where part `index` along `dim` starts, given the parts before it.
static int64_t sumSizes(const std::vector<TensorMeta> &results, size_t index, int64_t dim) {
  int64_t start = 0;
  for (size_t i = 0; i < index; ++i)
    start += results[i].sizes[dim];
  return start;
}

std::optional<View> pfcn::describeView(const TapeCall &call, size_t source, size_t index,
                                       const std::vector<TensorMeta> &results) {
  if (results.size() == 1 && call.arguments[source].kind == TapeArgument::Kind::Tensor)
    return View{call.schema, call.arguments, source};
  const std::string &name = call.schema->name();
  static const std::unordered_set<std::string> splits = {"aten::split", "aten::chunk", "aten::split_with_sizes",
                                                         "aten::tensor_split", "aten::unbind"};
  if (!splits.contains(name) || source != 0)
    return std::nullopt;
  const IValue &last = call.arguments.back().constant;
  if (!last.isInt())
    return std::nullopt;
  int self = call.arguments[0].tensors[0];
  bool isUnbind = name == "aten::unbind";
  int64_t rank = results[index].rank() + (isUnbind ? 1 : 0);
  int64_t dim = last.toInt() < 0 ? last.toInt() + rank : last.toInt();
  if (isUnbind)
    return View{
        findSchema("aten::select", "int"), {tensor(self), constant(dim), constant(static_cast<int64_t>(index))}, 0};
  return slice(self, dim, sumSizes(results, index, dim), results[index].sizes[dim]);
}

static ViewInverse reshapeBack(int part, const TensorMeta &parent) {
  return {findSchema("aten::reshape"), {tensor(part), constant(IValue(at::IntArrayRef(parent.sizes)))}};
}

static std::vector<int64_t> invertPermutation(at::ArrayRef<int64_t> permutation) {
  std::vector<int64_t> inverse(permutation.size());
  for (size_t i = 0; i < permutation.size(); ++i)
    inverse[permutation[i] < 0 ? permutation[i] + permutation.size() : permutation[i]] = static_cast<int64_t>(i);
  return inverse;
}

std::optional<ViewInverse> pfcn::invertView(const View &view, int parent, int part, const TensorMeta &parentMeta) {
  const std::string &name = view.schema->name();
  const std::vector<TapeArgument> &old = view.arguments;
  auto insertPart = [&](const char *scatter) {
    std::vector<TapeArgument> arguments = {tensor(parent), tensor(part)};
    arguments.insert(arguments.end(), old.begin() + 1, old.end());
    return ViewInverse{findSchema(scatter), std::move(arguments)};
  };
  if (name == "aten::slice")
    return insertPart("aten::slice_scatter");
  if (name == "aten::select")
    return insertPart("aten::select_scatter");
  if (name == "aten::diagonal")
    return insertPart("aten::diagonal_scatter");
  if (name == "aten::narrow" && old[2].constant.isInt()) {
    int64_t start = old[2].constant.toInt(), length = old[3].constant.toInt();
    start += start < 0
                 ? parentMeta.sizes[old[1].constant.toInt() + (old[1].constant.toInt() < 0 ? parentMeta.rank() : 0)]
                 : 0;
    return ViewInverse{
        findSchema("aten::slice_scatter"),
        {tensor(parent), tensor(part), old[1], constant(start), constant(start + length), constant(int64_t(1))}};
  }
  if (name == "aten::transpose")
    return ViewInverse{view.schema, {tensor(part), old[1], old[2]}};
  if (name == "aten::t" || name == "aten::numpy_T")
    return ViewInverse{view.schema, {tensor(part)}};
  if (name == "aten::permute")
    return ViewInverse{view.schema, {tensor(part), constant(invertPermutation(old[1].constant.toIntVector()))}};
  static const std::unordered_set<std::string> keepOrder = {
      "aten::reshape",    "aten::_unsafe_view", "aten::flatten", "aten::unflatten",
      "aten::squeeze",    "aten::unsqueeze",    "aten::alias",   "aten::detach",
      "aten::contiguous", "aten::reshape_as",   "aten::view_as", "aten::lift_fresh"};
  if (keepOrder.contains(name) || (name == "aten::view" && view.schema->overload_name().empty()))
    return reshapeBack(part, parentMeta);
  return std::nullopt;
}
