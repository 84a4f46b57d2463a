//===- LibraryCost.h - what a kernel would cost on torch's functions ----*- C++ -*-===//
//
// The other side of the comparison that decides whether a kernel is worth it, in the unit of `Schedule::cost`.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_LIBRARYCOST_H
#define PFCN_CODEGEN_LIBRARYCOST_H

#include "pfcn/Codegen/CpuMachine.h"
#include "pfcn/Dialect/Pfcn.h"

#include <optional>

namespace mlir::pfcn {

struct LibraryCost {
  /// One call of each op for all instances.
  double batched;
  /// Each instance by itself, by its `pfcn.instance`, if it has one that can be estimated.
  std::optional<double> single;
  bool hasProduct;

  bool prefersSingle() const { return single && *single < batched; }
  double getLeast() const { return prefersSingle() ? *single : batched; }
};

/// Vector operations that the ops of a kernel take one by one. None where the body is no longer made of ops of the
/// dialect.
std::optional<LibraryCost> estimateLibrary(KernelOp kernel, const CpuMachine &machine);

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_LIBRARYCOST_H
