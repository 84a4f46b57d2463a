//===- Passes.td - from pfcn ops to loop nests on tensors -------*- tablegen -*-===//
//
// The hand-over from torch's ops to the code generators.
//
//===---------------------------------------------------------------------------===//

#ifndef PFCN_CONVERSION_PFCNTOLINALG_PASSES_TD
#define PFCN_CONVERSION_PFCNTOLINALG_PASSES_TD

include "mlir/Pass/PassBase.td"

def ConvertPfcnToLinalg : Pass<"convert-pfcn-to-linalg"> {
  let summary = "lowers the bodies of kernels to linalg on tensors";
  let description = [{
    Replaces the ops in the region of every `pfcn.kernel`; the kernel, its
    arguments and `pfcn.yield` stay. Afterwards the region holds only
    - `linalg.generic` whose maps are projected permutations: pointwise nests, and nests with
      the parallel loops first, in the order of the result, and the reduction loops behind them, whose
      init is a `linalg.fill`;
    - `tensor` ops for views and joins: `expand_shape`, `collapse_shape`, `extract_slice`, `insert_slice` into
      `empty`, and `dim`;
    - `arith` constants, and arithmetic on dynamic sizes.

    A dimension of size 1 that broadcasts is collapsed away, and the map omits its loop.
    f16 and bf16 compute in f32 and round once, at the end of an op.

    A kernel is lowered as a whole or not at all: one op without a lowering leaves its
    kernel as it was, and a remark names that op and the reason. Such a
    kernel runs op by op.
  }];
  let options = [
    Option<"everywhere", "everywhere", "bool", /*default=*/"false",
           "also lower each op in the bodies of functions that has a lowering">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::linalg::LinalgDialect", "::mlir::math::MathDialect",
    "::mlir::tensor::TensorDialect"
  ];
}

#endif // PFCN_CONVERSION_PFCNTOLINALG_PASSES_TD
