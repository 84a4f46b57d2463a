//===- Opaque.h - foreign operators through torch's dispatcher -----------*- C++ -*-===//
//
// `pfcn.opaque` names an operator of torch and carries one attribute per argument of its
// schema; the call is rebuilt from these, typed by the schema.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_RUNTIME_OPAQUE_H
#define PFCN_RUNTIME_OPAQUE_H

#include "pfcn/Dialect/Pfcn.h"
#include "pfcn/Runtime/Evaluate.h"

namespace pfcn::runtime {

/// Throws `c10::Error` where torch does not know the operator, or an argument does not fit
/// its schema.
Evaluator makeOpaqueEvaluator(mlir::pfcn::OpaqueOp op);
/// The same for an op that says what its operator is composed of.
Evaluator makeComposedEvaluator(mlir::pfcn::ComposedOp op);

/// A call for n instances, over stacked operands.
struct BatchedCall {
  Evaluator evaluate;
  /// Why torch's operator runs once per instance; empty where torch has a batching rule for it.
  std::string loopReason;
};

/// Tries torch's rule on operands of the recorded types, and compares what it gives with a loop.
BatchedCall makeBatchedCall(mlir::pfcn::OpaqueOp op);

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_OPAQUE_H
