//===- Work.h - how much an op computes and moves ----------------------*- C++ -*-===//
//
// Counts that follow from types alone, for reports and cost models. A dynamic size counts as `assumedDynamicSize`.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_ANALYSIS_WORK_H
#define PFCN_ANALYSIS_WORK_H

#include "pfcn/Dialect/Pfcn.h"

namespace mlir::pfcn {

constexpr int64_t assumedDynamicSize = 64;

/// A size, or what is assumed of it.
inline int64_t assumeSize(int64_t size) { return ShapedType::isDynamic(size) ? assumedDynamicSize : size; }

double countElements(Value value);
double countBytes(Value value);
/// What an op reads and writes, each operand and result once.
double countBytes(Operation *op);

/// A product of matrices or a convolution.
bool isProduct(Operation *op);

/// Whether an op shows elements of its operand in another shape.
bool isView(Operation *op);

/// Whether an op computes nothing, and mostly moves nothing: constants and views.
bool isFree(Operation *op);

/// How many products are summed for an element of the result of a product (`isProduct`).
double getDepth(Operation *product);

/// Floating-point operations: two for each product that is summed, and one for each element of any other result. Zero
/// for what is foreign to the dialect, of which nothing is known.
double countFlops(Operation *op);

} // namespace mlir::pfcn

#endif // PFCN_ANALYSIS_WORK_H
