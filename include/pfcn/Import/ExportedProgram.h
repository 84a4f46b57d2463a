//===- ExportedProgram.h - reads torch.export's archives, without torch -*- C++ -*-===//
//
// A .pt2 file is a zip archive of a graph as JSON and of weights as they lie in memory. The
// graph becomes a tape as a recording does, and the aten table makes ops of it.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_IMPORT_EXPORTEDPROGRAM_H
#define PFCN_IMPORT_EXPORTEDPROGRAM_H

#include "llvm/Support/Error.h"

#include <string>

namespace pfcn {

/// The module as MLIR with locations. `inputShapes` as in pfcn-opt --input-shapes; empty: those that the program was
/// exported with, sizes that it leaves open included.
llvm::Expected<std::string> importExportedProgram(const std::string &path, const std::string &inputShapes);

} // namespace pfcn

#endif // PFCN_IMPORT_EXPORTEDPROGRAM_H
