//===- Passes.h - forming groups and batching them --------------------*- C++ -*-===//
//
// `createFormInstancesPass(&report)` also fills a report in plain words.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_TRANSFORMS_PASSES_H
#define PFCN_TRANSFORMS_PASSES_H

#include "pfcn/Dialect/Pfcn.h"
#include "pfcn/Transforms/FusionReport.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/Pass.h"

namespace mlir::pfcn {

#define GEN_PASS_DECL
#include "pfcn/Transforms/Passes.h.inc"

/// `report` outlives the pass; each function that it runs on adds to it.
std::unique_ptr<Pass> createPadInstancesPass(FusionReport *report);
std::unique_ptr<Pass> createFormInstancesPass(FusionReport *report);

/// On a foreign operator that takes the place of a composed one: which result of torch's it is.
inline constexpr llvm::StringLiteral resultIndexAttrName = "pfcn.result_index";

#define GEN_PASS_REGISTRATION
#include "pfcn/Transforms/Passes.h.inc"

} // namespace mlir::pfcn

#endif // PFCN_TRANSFORMS_PASSES_H
