//===- ConvertBody.h - the body of one kernel in linalg -----------------*- C++ -*-===//
//
// What `convert-pfcn-to-linalg` does to each kernel, for passes that convert one on a copy.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CONVERSION_PFCNTOLINALG_CONVERTBODY_H
#define PFCN_CONVERSION_PFCNTOLINALG_CONVERTBODY_H

#include "pfcn/Dialect/Pfcn.h"

namespace mlir::pfcn {

/// Why an op has no lowering.
struct OpDecline {
  Operation *op = nullptr;
  std::string reason;

  std::string str() const { return op->getName().getStringRef().str() + " has no lowering here: " + reason; }
};

/// Replaces the compute ops in the body of `draft`. Fails at the first op without a lowering, and
/// leaves the body half converted then: so call it on a copy.
LogicalResult convertBodyToLinalg(KernelOp draft, OpDecline &decline);

} // namespace mlir::pfcn

#endif // PFCN_CONVERSION_PFCNTOLINALG_CONVERTBODY_H
