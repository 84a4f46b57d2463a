//===- Schemas.h - torch's operators, without torch ----------------------*- C++ -*-===//
//
// What tools/dev/aten_schemas.py wrote down: names, order and defaults of arguments. Operators
// that write to an argument are not among them.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_LIB_IMPORT_STANDALONE_SCHEMAS_H
#define PFCN_LIB_IMPORT_STANDALONE_SCHEMAS_H

#include "Standalone/Types.h"

#include "llvm/ADT/StringRef.h"

namespace pfcn {

struct KnownOperator {
  c10::FunctionSchema schema;
  bool isRandom;
};

/// Of "aten::add.Tensor"; null for operators that write to an argument, and for others than torch's own.
const KnownOperator *findOperator(llvm::StringRef name);

} // namespace pfcn

#endif // PFCN_LIB_IMPORT_STANDALONE_SCHEMAS_H
