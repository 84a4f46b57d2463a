//===- Explain.h - groups and misses in words -------------------------*- C++ -*-===//
//
// The one source of the texts of remarks and reports.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_TRANSFORMS_EXPLAIN_H
#define PFCN_TRANSFORMS_EXPLAIN_H

#include "pfcn/Analysis/Isomorphism.h"
#include "pfcn/Transforms/FusionReport.h"

#include <mutex>

namespace mlir::pfcn {

/// The location in one line: module path and source line as the front end gave them.
std::string describe(Location loc);

FusionReport::Group explain(const Group &group);
FusionReport::Miss explain(const Miss &miss);

/// Functions are processed in parallel; MLIR's remark engine and the report are not made for it.
std::mutex &getExplainMutex();

} // namespace mlir::pfcn

#endif // PFCN_TRANSFORMS_EXPLAIN_H
