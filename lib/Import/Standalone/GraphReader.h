//===- GraphReader.h - torch.export's graph as a tape --------------------*- C++ -*-===//

#ifndef PFCN_LIB_IMPORT_STANDALONE_GRAPHREADER_H
#define PFCN_LIB_IMPORT_STANDALONE_GRAPHREADER_H

#include "Standalone/SizeExpr.h"

#include "pfcn/Import/InputSpecs.h"
#include "pfcn/Import/Tape.h"

#include "llvm/Support/JSON.h"

namespace pfcn {

/// Of the JSON, as torch counts it.
inline constexpr int64_t kSchemaVersion = 8;

/// The bytes of a tensor in the archive, and their type as JSON.
struct RawTensor {
  llvm::StringRef data;
  llvm::json::Object meta;
};
using Constants = std::map<std::string, RawTensor>;

class GraphReader {
public:
  /// Throws `ImportError` for a program that cannot be read; `path` is for messages.
  GraphReader(const llvm::json::Object &program, Constants constants, std::string path);

  /// Gives values to the symbols of the inputs' sizes.
  void setInputs(const std::vector<InputSpec> &inputs);

  /// Values of the symbols at which to read the graph: one where none is open, otherwise three.
  std::vector<SymbolValues> getSamples() const;

  Tape read(const SymbolValues &symbols) const;

private:
  struct Symbol {
    int64_t hint = 4, min = 2, max = 1 << 20;
    bool isFixed = false;
  };

  void collectSymbols(const llvm::json::Object &program);
  void collectHints(const llvm::json::Value &size);
  const llvm::json::Object &getUserInput(size_t index) const;
  void fixSize(const llvm::json::Value &size, int64_t value, const std::string &what);

  const llvm::json::Object *graph, *signature, *tensors;
  Constants constants;
  std::string path;
  std::map<std::string, Symbol> symbols;
  std::vector<std::string> userInputs; ///< names of the tensors among them
};

} // namespace pfcn

#endif // PFCN_LIB_IMPORT_STANDALONE_GRAPHREADER_H
