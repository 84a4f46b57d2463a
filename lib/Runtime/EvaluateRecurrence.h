//===- EvaluateRecurrence.h - recurrent layers on torch tensors ----------*- C++ -*-===//

#ifndef PFCN_LIB_RUNTIME_EVALUATERECURRENCE_H
#define PFCN_LIB_RUNTIME_EVALUATERECURRENCE_H

#include "pfcn/Runtime/Evaluate.h"

namespace mlir::pfcn {
class RecurrenceAdjointOp;
class RecurrenceOp;
} // namespace mlir::pfcn

namespace pfcn::runtime {

Evaluator makeRecurrence(mlir::pfcn::RecurrenceOp op);
Evaluator makeRecurrenceAdjoint(mlir::pfcn::RecurrenceAdjointOp op);

} // namespace pfcn::runtime

#endif // PFCN_LIB_RUNTIME_EVALUATERECURRENCE_H
