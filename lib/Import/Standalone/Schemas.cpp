//===- Schemas.cpp - torch's operators, without torch ------------------------------===//

#include "Standalone/Schemas.h"

#include "llvm/ADT/StringMap.h"

#include <memory>
#include <mutex>

using namespace pfcn;
using c10::IValue;
using llvm::StringRef;

static constexpr const char *kSchemas[] = {
#include "AtenSchemas.inc"
};

/// "[1, 1]", "1e-05", "True", "\"none\"", "None"
static IValue parseDefault(StringRef text) {
  text = text.trim();
  int64_t integer;
  double real;
  if (text == "True" || text == "False")
    return text == "True";
  if (!text.getAsInteger(10, integer))
    return integer;
  if (!text.getAsDouble(real))
    return real;
  if (text.consume_front("\""))
    return text.drop_back().str();
  if (!text.consume_front("["))
    return {};
  std::vector<IValue> elements;
  bool ofInts = true;
  llvm::SmallVector<StringRef> parts;
  text.drop_back().split(parts, ',', -1, /*KeepEmpty=*/false);
  for (StringRef part : parts) {
    elements.push_back(parseDefault(part));
    ofInts &= elements.back().isInt();
  }
  IValue list = IValue::makeList(std::move(elements));
  return ofInts ? IValue(list.toIntVector()) : list;
}

/// "int[2] padding=0"; the list of a single number repeats it.
static c10::Argument parseArgument(StringRef text) {
  c10::Argument argument;
  auto [declared, value] = text.split('=');
  auto [type, name] = declared.rsplit(' ');
  argument.type = type.str();
  argument.name = name.str();
  argument.isRequired = !text.contains('=');
  argument.defaultValue = parseDefault(value);
  size_t open = type.find('[');
  int64_t count;
  if (argument.defaultValue.isInt() && open != StringRef::npos &&
      !type.drop_front(open + 1).take_until([](char c) { return c == ']'; }).getAsInteger(10, count))
    argument.defaultValue = std::vector<int64_t>(count, argument.defaultValue.toInt());
  return argument;
}

/// Splits at commas outside of brackets and parentheses.
static llvm::SmallVector<StringRef> splitArguments(StringRef text) {
  llvm::SmallVector<StringRef> parts;
  int depth = 0;
  size_t start = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    char c = i < text.size() ? text[i] : ',';
    depth += c == '(' || c == '[' ? 1 : c == ')' || c == ']' ? -1 : 0;
    if (c != ',' || depth != 0)
      continue;
    if (StringRef part = text.slice(start, i).trim(); !part.empty() && part != "*")
      parts.push_back(part);
    start = i + 1;
  }
  return parts;
}

static std::unique_ptr<KnownOperator> parseSchema(StringRef text) {
  bool isRandom = text.consume_front("~");
  StringRef name = text.take_until([](char c) { return c == '('; });
  StringRef arguments = text.drop_front(name.size() + 1);
  arguments = arguments.take_front(arguments.find(") -> "));
  std::vector<c10::Argument> parsed;
  for (StringRef argument : splitArguments(arguments))
    parsed.push_back(parseArgument(argument));
  auto [base, overload] = name.split('.');
  return std::make_unique<KnownOperator>(
      KnownOperator{{"aten::" + base.str(), overload.str(), std::move(parsed)}, isRandom});
}

const KnownOperator *pfcn::findOperator(StringRef name) {
  struct Entry {
    StringRef text;
    std::unique_ptr<KnownOperator> parsed;
  };
  static std::mutex mutex;
  static llvm::StringMap<Entry> entries = [] {
    llvm::StringMap<Entry> result;
    for (StringRef text : kSchemas)
      result[text.ltrim('~').take_until([](char c) { return c == '('; })].text = text;
    return result;
  }();
  if (!name.consume_front("aten::"))
    return nullptr;
  std::lock_guard lock(mutex);
  auto found = entries.find(name);
  if (found == entries.end())
    return nullptr;
  Entry &entry = found->second;
  if (!entry.parsed)
    entry.parsed = parseSchema(entry.text);
  return entry.parsed.get();
}
