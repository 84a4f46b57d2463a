//===- InputSpecs.cpp - types of inputs, as the command line has them --------------===//

#include "pfcn/Import/InputSpecs.h"

#include <llvm/ADT/StringExtras.h>
#include <llvm/ADT/StringRef.h>

using namespace pfcn;
using c10::IValue;

static std::optional<at::ScalarType> parseDtype(llvm::StringRef name) {
  static const std::unordered_map<std::string, at::ScalarType> names = {
      {"f32", at::kFloat}, {"f64", at::kDouble}, {"f16", at::kHalf},  {"bf16", at::kBFloat16}, {"i1", at::kBool},
      {"i8", at::kChar},   {"ui8", at::kByte},   {"i16", at::kShort}, {"i32", at::kInt},       {"i64", at::kLong}};
  auto it = names.find(name.str());
  return it == names.end() ? std::nullopt : std::optional(it->second);
}

static std::optional<IValue> parseNumber(llvm::StringRef text) {
  int64_t integer;
  double real;
  if (text == "true" || text == "false")
    return IValue(text == "true");
  if (!text.getAsInteger(10, integer))
    return IValue(integer);
  if (!text.getAsDouble(real))
    return IValue(real);
  return std::nullopt;
}

static InputSpec parseInputSpec(llvm::StringRef text) {
  InputSpec spec;
  llvm::StringRef whole = text;
  if (auto [key, rest] = text.split('='); !rest.empty()) {
    spec.key = key.str();
    text = rest;
  }
  spec.constant = parseNumber(text);
  if (spec.constant)
    return spec;
  llvm::SmallVector<llvm::StringRef> parts;
  text.split(parts, 'x');
  std::optional<at::ScalarType> dtype = parseDtype(parts.pop_back_val());
  if (!dtype)
    throw ImportError("input shape '" + whole.str() + "' ends in no element type; write it like 1x20xf32 or ?x20xf32");
  spec.meta.dtype = *dtype;
  for (llvm::StringRef part : parts) {
    int64_t size = kDynamicSize;
    if (part != "?" && (part.getAsInteger(10, size) || size < 0))
      throw ImportError("input shape '" + whole.str() + "' has '" + part.str() + "' where a size or ? should be");
    spec.meta.sizes.push_back(size);
  }
  return spec;
}

std::vector<InputSpec> pfcn::parseInputSpecs(const std::string &text) {
  std::vector<InputSpec> specs;
  if (text.empty())
    return specs;
  llvm::SmallVector<llvm::StringRef> parts;
  llvm::StringRef(text).split(parts, ',');
  for (llvm::StringRef part : parts)
    specs.push_back(parseInputSpec(part.trim()));
  return specs;
}
