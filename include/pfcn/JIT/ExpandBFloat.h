//===- ExpandBFloat.h - bf16 by integers ----------------------------------*- C++ -*-===//

#ifndef PFCN_JIT_EXPANDBFLOAT_H
#define PFCN_JIT_EXPANDBFLOAT_H

#include "mlir/Pass/Pass.h"

namespace pfcn {

/// Computes bf16 in f32, rounds to it by integer operations, and keeps it as i16: afterwards no op has the type.
std::unique_ptr<mlir::Pass> createExpandBFloatPass();

} // namespace pfcn

#endif // PFCN_JIT_EXPANDBFLOAT_H
