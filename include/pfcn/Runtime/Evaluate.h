//===- Evaluate.h - the ops of the dialect on torch tensors --------------*- C++ -*-===//
//
// The reference semantics of every compute op, and of foreign operators, by torch's own
// functions. It is also the library path: what no kernel was made for runs here.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_RUNTIME_EVALUATE_H
#define PFCN_RUNTIME_EVALUATE_H

#include "mlir/IR/Operation.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"

#include <ATen/core/Tensor.h>

#include <functional>

namespace pfcn::runtime {

using TensorRange = llvm::ArrayRef<at::Tensor>;
using TensorVector = llvm::SmallVector<at::Tensor, 2>;

/// Computes the results of one op from its operands. Results may be views of operands.
/// It holds what it needs of the op, which may be gone when it runs.
using Evaluator = std::function<TensorVector(TensorRange operands)>;

/// The evaluator of a compute op or of `pfcn.opaque`. Throws `c10::Error` naming the op
/// where there is none, or where its operator is unknown to torch.
Evaluator makeEvaluator(mlir::Operation *op);

/// Torch's name of an MLIR element type. Throws where torch has none.
at::ScalarType getScalarType(mlir::Type elementType);

/// A tensor with the values of a constant.
at::Tensor makeConstant(mlir::ElementsAttr value);

/// Where an op comes from, for messages: its kind, and its location where that is known.
std::string describe(mlir::Operation *op);

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_EVALUATE_H
