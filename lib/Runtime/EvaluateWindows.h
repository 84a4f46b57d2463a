//===- EvaluateWindows.h - convolutions and pooling on torch tensors -----*- C++ -*-===//

#ifndef PFCN_LIB_RUNTIME_EVALUATEWINDOWS_H
#define PFCN_LIB_RUNTIME_EVALUATEWINDOWS_H

#include "pfcn/Dialect/Pfcn.h"
#include "pfcn/Runtime/Evaluate.h"

namespace pfcn::runtime {

Evaluator makeConvEvaluator(mlir::pfcn::ConvOp op);
Evaluator makeBatchNormEvaluator(mlir::pfcn::BatchNormOp op);
Evaluator makeMaxPoolEvaluator(mlir::pfcn::MaxPoolOp op);
Evaluator makeAvgPoolEvaluator(mlir::pfcn::AvgPoolOp op);

} // namespace pfcn::runtime

#endif // PFCN_LIB_RUNTIME_EVALUATEWINDOWS_H
