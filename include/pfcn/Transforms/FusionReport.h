//===- FusionReport.h - what was fused and what was not ---------------*- C++ -*-===//
//
// Plain text and numbers, ready to show; free of MLIR, so that every language can have it.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_TRANSFORMS_FUSIONREPORT_H
#define PFCN_TRANSFORMS_FUSIONREPORT_H

#include <cstdint>
#include <string>
#include <vector>

namespace mlir::pfcn {

struct FusionReport {
  struct Group {
    std::string name;
    int64_t instances;
    std::vector<std::string> ops;      ///< of the body, in order
    std::vector<std::string> operands; ///< how each input varies with the instance
    /// Of all instances: floating-point operations, and bytes that are moved op by op and as one.
    double flops = 0, bytesBefore = 0, bytesAfter = 0;
    std::string reason, where;
    /// What is padded with zeros, and what that costs; empty where nothing is.
    std::string padding;
  };
  struct Miss {
    std::string reason, suggestion;
    std::string where, other; ///< the ops that differ: module path, file and line
  };
  std::vector<Group> groups;
  std::vector<Miss> missed;
};

} // namespace mlir::pfcn

#endif // PFCN_TRANSFORMS_FUSIONREPORT_H
