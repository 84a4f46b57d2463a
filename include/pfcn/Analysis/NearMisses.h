//===- NearMisses.h - what looks like an instance and is none ---------*- C++ -*-===//
//
// Explains what `findGroups` left over: the first op, in the order of the data, at which it
// differs from an instance, an operator that cannot be batched, or a dependence.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_ANALYSIS_NEARMISSES_H
#define PFCN_ANALYSIS_NEARMISSES_H

#include "pfcn/Analysis/Isomorphism.h"

namespace mlir::pfcn {

/// The first op at which two computations differ, and how `b` differs from `a`.
struct Difference {
  Operation *a, *b;
  std::string text;
};

std::optional<Difference> findDifference(Value a, Value b);

/// The near misses of a block, in program order within each kind of reason.
SmallVector<Miss> findNearMisses(Block &block, const Classes &classes, const Groups &groups);

} // namespace mlir::pfcn

#endif // PFCN_ANALYSIS_NEARMISSES_H
