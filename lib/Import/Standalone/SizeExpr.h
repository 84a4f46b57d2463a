//===- SizeExpr.h - sizes as torch.export writes them --------------------*- C++ -*-===//

#ifndef PFCN_LIB_IMPORT_STANDALONE_SIZEEXPR_H
#define PFCN_LIB_IMPORT_STANDALONE_SIZEEXPR_H

#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <map>
#include <string>

namespace pfcn {

/// Values of the symbols that sizes are made of.
using SymbolValues = std::map<std::string, int64_t>;

/// The value of an expression in SymPy's notation, such as
/// "Add(Mul(Integer(2), Symbol('s77', positive=True, integer=True)), Integer(1))".
/// Throws `ImportError` for what is not understood, and for sizes that are no integers.
int64_t evaluateSize(llvm::StringRef expression, const SymbolValues &values);

/// The name, if the expression is a symbol and nothing else; empty otherwise.
std::string getSymbol(llvm::StringRef expression);

} // namespace pfcn

#endif // PFCN_LIB_IMPORT_STANDALONE_SIZEEXPR_H
