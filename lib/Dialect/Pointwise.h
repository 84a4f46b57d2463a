//===- Pointwise.h - what the ops of several files have in common -------*- C++ -*-===//

#ifndef PFCN_LIB_DIALECT_POINTWISE_H
#define PFCN_LIB_DIALECT_POINTWISE_H

#include "pfcn/Dialect/Pfcn.h"

namespace mlir::pfcn {

/// The type of the given elements and of the shape to which the operands broadcast.
LogicalResult inferBroadcast(std::optional<Location> loc, ArrayRef<Value> operands, Type elementType,
                             SmallVectorImpl<Type> &types);

/// The batched form of a pointwise op, and of all that broadcasts.
FailureOr<SmallVector<Value>> batchPointwise(Operation *op, OpBuilder &builder, ArrayRef<BatchedValue> operands,
                                             int64_t count);

/// The same op with other operands, and a result with the instance dimension.
FailureOr<SmallVector<Value>> cloneBatched(Operation *op, OpBuilder &builder, ValueRange operands, int64_t count);

} // namespace mlir::pfcn

#endif // PFCN_LIB_DIALECT_POINTWISE_H
