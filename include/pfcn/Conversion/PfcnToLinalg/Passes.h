//===- Passes.h - from pfcn ops to loop nests on tensors --------------*- C++ -*-===//
//
// The hand-over from torch's ops to the code generators; see Passes.td.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CONVERSION_PFCNTOLINALG_PASSES_H
#define PFCN_CONVERSION_PFCNTOLINALG_PASSES_H

#include "mlir/Pass/Pass.h"

namespace mlir::pfcn {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "pfcn/Conversion/PfcnToLinalg/Passes.h.inc"

} // namespace mlir::pfcn

#endif // PFCN_CONVERSION_PFCNTOLINALG_PASSES_H
