//===- ExpandMath.h - functions for which a GPU has no instruction --------*- C++ -*-===//

#ifndef PFCN_JIT_EXPANDMATH_H
#define PFCN_JIT_EXPANDMATH_H

#include "mlir/Pass/Pass.h"

namespace pfcn {

/// Whether an op is a function that the chip has no instruction and this compiler no formula for. Only libdevice has
/// it, and that takes a CUDA installation.
bool hasNoFormula(mlir::Operation *op);

/// A pass over any op that writes out scalar functions that upstream would call libdevice for: those of f64 to a
/// few units in the last place; sine and cosine of f32, whose arguments are reduced exactly, however large; and the
/// rarer functions of f32 by way of f64.
std::unique_ptr<mlir::Pass> createExpandMathPass();

} // namespace pfcn

#endif // PFCN_JIT_EXPANDMATH_H
