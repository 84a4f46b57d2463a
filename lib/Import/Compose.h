//===- Compose.h - operands and results of composed operators ---------*- C++ -*-===//

#ifndef PFCN_LIB_IMPORT_COMPOSE_H
#define PFCN_LIB_IMPORT_COMPOSE_H

#include "Expr.h"

namespace pfcn {

/// What a loss does with those of its elements, as torch numbers it.
enum Reduction : int64_t { kNone = 0, kMean = 1, kSum = 2 };

/// Argument `i`, a tensor or a number, in the given element type.
inline Expr in(CallImporter &call, size_t i, at::ScalarType dtype) {
  return {&call.builder, call.loc, call.operand(i, dtype)};
}

/// Where torch computes with f16 and bf16: f32.
inline at::ScalarType getComputeDtype(at::ScalarType dtype) {
  return dtype == at::kHalf || dtype == at::kBFloat16 ? at::kFloat : dtype;
}

/// Argument `i` in the floating-point type in which torch computes the result; false where that is none.
inline Expr wide(CallImporter &call, size_t i, size_t result = 0) {
  at::ScalarType dtype = call.resultDtype(result);
  Expr x = at::isFloatingType(dtype) ? in(call, i, dtype) : Expr();
  return x ? x.with(call.cast(x.value, getComputeDtype(dtype))) : x;
}

/// Leaves the value, rounded to the element type of the result.
inline bool finish(CallImporter &call, Expr value) {
  return call.finish(call.cast(value.value, call.resultDtype(call.results.size())));
}

/// Of a loss, the mean or the sum, or the elements themselves.
inline bool reduceLoss(CallImporter &call, Expr loss, int64_t reduction) {
  auto dims = llvm::to_vector(llvm::seq<int64_t>(0, loss.rank()));
  if (reduction == kMean)
    loss = loss.reduce<mlir::pfcn::MeanOp>(dims);
  else if (reduction == kSum)
    loss = loss.reduce<mlir::pfcn::SumOp>(dims);
  return finish(call, loss);
}

} // namespace pfcn

#endif // PFCN_LIB_IMPORT_COMPOSE_H
