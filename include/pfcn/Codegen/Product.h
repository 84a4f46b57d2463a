//===- Product.h - a matrix product for tensor cores -----------------------*- C++ -*-===//
//
// Which linalg ops are products of a warp's rows with a matrix, what of a value a warp holds, and what
// the tensor cores of a chip can multiply.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_PRODUCT_H
#define PFCN_CODEGEN_PRODUCT_H

#include "pfcn/Codegen/Schedule.h"

namespace mlir::pfcn {

/// What the tensor cores of a chip multiply, each with accumulators of f32.
struct TensorCores {
  bool f16 = false, bf16 = false, tf32 = false;
  /// The depth of a product of 16-bit elements: 16, or 8 on the first chips.
  int64_t depth = 16;

  /// Those of a chip named as in sm_90. f32 is rounded to tf32 only if that is allowed.
  static TensorCores of(StringRef chip, bool allowTf32);
  bool multiplies(Type element) const;
  /// The instruction, as in `mma.m16n8k16.bf16`.
  std::string getInstruction(Type element) const;
  int64_t getDepth(Type element) const { return element.isF32() ? 8 : depth; }
};

/// What of a value a warp holds: its rows or what they share, and at most one dimension of features beside.
struct FragmentShape {
  bool hasRows = false;
  /// 0 where there is but one.
  int64_t features = 0;
  /// The dimension of the value that the features are.
  int64_t featureDim = -1;

  /// Fails for a value of two dimensions of features.
  static FailureOr<FragmentShape> of(Value value, const ParallelDims &dims, const Schedule &schedule);
};

/// result[row, column] += lhs[row, k] * rhs[column, k], over what the schedule walks outside.
struct Product {
  OpOperand *lhs, *rhs;
  /// The dimensions of rhs; `columnDim` is -1 for a single column.
  int64_t columnDim = -1, depthDim = -1;
  int64_t columns = 1, depth = 1;

  Type getElementType() const { return getElementTypeOrSelf(lhs->get()); }
};

/// The product that a generic is, if it is one whose rows lie across the lanes of the schedule.
std::optional<Product> matchProduct(linalg::GenericOp op, const ParallelDims &dims, const Schedule &schedule);

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_PRODUCT_H
