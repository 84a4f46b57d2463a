//===- SizeExpr.cpp - sizes as torch.export writes them ----------------------------===//

#include "Standalone/SizeExpr.h"

#include "pfcn/Import/InputSpecs.h"

#include <cctype>
#include <vector>

using namespace pfcn;
using llvm::StringRef;

namespace {
/// Calls of functions with integer arguments, innermost first.
class Evaluator {
public:
  Evaluator(StringRef text, const SymbolValues &values) : text(text), rest(text), values(values) {}

  int64_t run() {
    int64_t value = evaluate();
    if (!rest.empty())
      fail();
    return value;
  }

private:
  [[noreturn]] void fail() const {
    throw ImportError("the size '" + text.str() + "' is not understood; give --input-shapes without ?");
  }
  void expect(char c) {
    rest = rest.ltrim();
    if (!rest.consume_front(StringRef(&c, 1)))
      fail();
  }
  int64_t evaluate();
  int64_t symbol();
  int64_t apply(StringRef function, const std::vector<int64_t> &arguments) const;

  StringRef text, rest;
  const SymbolValues &values;
  int depth = 0;
};
} // namespace

int64_t Evaluator::evaluate() {
  rest = rest.ltrim();
  int64_t number;
  if (!rest.consumeInteger(10, number))
    return number;
  StringRef function = rest.take_while([](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; });
  rest = rest.drop_front(function.size());
  if (function.empty() || ++depth > 200)
    fail();
  expect('(');
  if (function == "Symbol")
    return symbol();
  std::vector<int64_t> arguments;
  do
    arguments.push_back(evaluate());
  while (rest.consume_front(","));
  expect(')');
  --depth;
  return apply(function, arguments);
}

/// Symbol('s77', positive=True, integer=True)
int64_t Evaluator::symbol() {
  --depth;
  expect('\'');
  StringRef name = rest.take_until([](char c) { return c == '\''; });
  rest = rest.drop_front(name.size());
  rest = rest.drop_while([](char c) { return c != ')'; });
  expect(')');
  auto value = values.find(name.str());
  if (value == values.end())
    throw ImportError("the size '" + name.str() + "' depends on data, which a compiled model does not support");
  return value->second;
}

static int64_t floorDivide(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

int64_t Evaluator::apply(StringRef function, const std::vector<int64_t> &arguments) const {
  int64_t a = arguments[0], result = a;
  auto fold = [&](auto combine) {
    for (size_t i = 1; i < arguments.size(); ++i)
      result = combine(result, arguments[i]);
    return result;
  };
  if (function == "Integer" && arguments.size() == 1)
    return a;
  if (function == "Add")
    return fold([](uint64_t x, uint64_t y) { return static_cast<int64_t>(x + y); });
  if (function == "Mul")
    return fold([](uint64_t x, uint64_t y) { return static_cast<int64_t>(x * y); });
  if (function == "Max")
    return fold([](int64_t x, int64_t y) { return std::max(x, y); });
  if (function == "Min")
    return fold([](int64_t x, int64_t y) { return std::min(x, y); });
  if (arguments.size() == 3 && function == "ModularIndexing" && arguments[1] > 0 && arguments[2] > 0)
    return floorDivide(a, arguments[1]) % arguments[2];
  if (arguments.size() != 2)
    fail();
  int64_t b = arguments[1];
  if (function == "Pow" && b >= 0 && b < 64) {
    for (result = 1; b > 0; --b)
      result = static_cast<int64_t>(static_cast<uint64_t>(result) * static_cast<uint64_t>(a));
    return result;
  }
  if (b == 0 || b == -1)
    fail();
  if (function == "FloorDiv")
    return floorDivide(a, b);
  if (function == "CeilDiv")
    return -floorDivide(-a, b);
  if ((function == "CleanDiv" || function == "IntTrueDiv") && a % b == 0)
    return a / b;
  if (function == "Mod" || function == "PythonMod")
    return a - floorDivide(a, b) * b;
  fail();
}

int64_t pfcn::evaluateSize(StringRef expression, const SymbolValues &values) {
  return Evaluator(expression, values).run();
}

std::string pfcn::getSymbol(StringRef expression) {
  if (!expression.consume_front("Symbol('"))
    return "";
  return expression.take_until([](char c) { return c == '\''; }).str();
}
