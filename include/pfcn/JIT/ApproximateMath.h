//===- ApproximateMath.h - transcendental functions as polynomials ------*- C++ -*-===//

#ifndef PFCN_JIT_APPROXIMATEMATH_H
#define PFCN_JIT_APPROXIMATEMATH_H

#include "mlir/Pass/Pass.h"

namespace pfcn {

/// A pass over any op that replaces transcendental functions of f32 by upstream's polynomials. Not those of
/// f64, where libm is exact to the last bit, nor sine and cosine, whose argument reduction is
/// only good for small arguments.
std::unique_ptr<mlir::Pass> createApproximateMathPass();

} // namespace pfcn

#endif // PFCN_JIT_APPROXIMATEMATH_H
