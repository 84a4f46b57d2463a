//===- Lowering.h - what the lowerings of all op classes share --------*- C++ -*-===//
//
// Each class of ops has one function that builds the replacement of an op, or says why
// there is none. All of them describe loops through `LoopNest`.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_LIB_CONVERSION_PFCNTOLINALG_LOWERING_H
#define PFCN_LIB_CONVERSION_PFCNTOLINALG_LOWERING_H

#include "pfcn/Dialect/Pfcn.h"

#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::pfcn {

/// Builds the replacement of one op at its place.
class Lowering : public ImplicitLocOpBuilder {
public:
  explicit Lowering(Operation *op) : ImplicitLocOpBuilder(op->getLoc(), op) {}

  /// States why the op stays as it is.
  LogicalResult decline(const Twine &why) {
    reason = why.str();
    return failure();
  }

  std::string reason;
};

FailureOr<Value> lowerPointwise(Lowering &lowering, Operation *op);
FailureOr<Value> lowerContraction(Lowering &lowering, Operation *op);
FailureOr<Value> lowerReduction(Lowering &lowering, Operation *op);
FailureOr<Value> lowerWindows(Lowering &lowering, Operation *op);
FailureOr<Value> lowerRecurrence(Lowering &lowering, RecurrenceOp op);
FailureOr<Value> lowerRecurrenceAdjoint(Lowering &lowering, RecurrenceAdjointOp op);
FailureOr<Value> lowerView(Lowering &lowering, Operation *op);

/// Computes one element: the elements read, and for a reduction the accumulator behind them.
using Payload = function_ref<Value(ImplicitLocOpBuilder &builder, ValueRange elements)>;

/// A nest of loops over tensors: parallel loops that walk the result, then reduction loops.
class LoopNest {
public:
  LoopNest(Lowering &lowering, ArrayRef<int64_t> parallel, ArrayRef<int64_t> reduced = {});

  /// Reads a tensor whose dimension i is walked by loop `loops[i]`. A dimension of size 1 under
  /// a longer loop broadcasts.
  void read(Value tensor, ArrayRef<int64_t> loops);
  /// Reads a tensor whose last dimension is walked by the last parallel loop, and so on.
  void readTrailing(Value tensor);
  /// Reads a tensor whose dimension i is at `exprs[i]` of the loops.
  void readAt(Value tensor, ArrayRef<AffineExpr> exprs);

  /// The nest without reduction loops.
  FailureOr<Value> map(Type elementType, Payload payload);
  /// The nest whose accumulators, of the type of `init`, start with it.
  FailureOr<Value> reduce(TypedAttr init, Payload payload);

private:
  FailureOr<Value> makeEmpty(Type elementType);
  Value build(Value init, Payload payload);

  Lowering &lowering;
  SmallVector<int64_t> sizes;
  unsigned parallelCount;
  /// Where the size of a dynamic loop is found: a tensor and its dimension.
  SmallVector<std::pair<Value, int64_t>> origins;
  SmallVector<Value> tensors;
  SmallVector<AffineMap> maps;
};

/// lhs [*B, M, K] times rhs [*B, K, N], or [*B, N, K], to `shape` [*B, M, N] of the compute type.
FailureOr<Value> contract(Lowering &lowering, Value lhs, Value rhs, bool transposeRhs, ArrayRef<int64_t> shape);

/// Where f16 and bf16 accumulate and compute: f32. Other types stay as they are.
Type getComputeType(Type elementType);
/// The floating-point scalar in another floating-point type.
Value convertFloat(ImplicitLocOpBuilder &builder, Value scalar, Type type);

/// Adds the product of the first two elements to the third.
Value multiplyAccumulate(ImplicitLocOpBuilder &builder, ValueRange elements);
/// The product in the element type of the result, which takes a nest only for f16 and bf16.
FailureOr<Value> roundTo(Lowering &lowering, Value product, Type elementType);
/// beta * addend + alpha * product, rounded once.
FailureOr<Value> addTo(Lowering &lowering, Value product, Value addend, double alpha, double beta, Type elementType);

/// The size of a dimension, from where the tensor's size came: an op that only needs the size of an
/// intermediate result must not keep it from being fused away.
OpFoldResult getSize(Lowering &lowering, Value tensor, int64_t dim);
SmallVector<OpFoldResult> getSizes(Lowering &lowering, Value tensor);

/// The tensor without the given dimensions, each of static size 1.
Value dropUnitDims(Lowering &lowering, Value tensor, ArrayRef<int64_t> dims);
/// The tensor with dimensions of size 1, which are the dimensions `dims` of the result.
Value insertUnitDims(Lowering &lowering, Value tensor, ArrayRef<int64_t> dims);

} // namespace mlir::pfcn

#endif // PFCN_LIB_CONVERSION_PFCNTOLINALG_LOWERING_H
