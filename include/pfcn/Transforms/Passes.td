//===- Passes.td - forming groups and batching them -------------*- tablegen -*-===//
//
// Detection's two passes, with `pfcn.instances` between them.
//
//===---------------------------------------------------------------------------===//

#ifndef PFCN_TRANSFORMS_PASSES_TD
#define PFCN_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"

def PadInstancesPass : Pass<"pfcn-pad-instances", "::mlir::func::FuncOp"> {
  let summary = "Pad with zeros what keeps networks of several widths from being one group";
  let description = [{
    Products that sum different numbers of terms, and are followed by equal ops, get inputs and weights of one size, with zeros
    behind what is short (rules P1 to P4 of docs/Rationale.md). Inputs that are parts of one tensor are gathered into one; weights
    become one `pfcn.parameter_stack` with `sizes`. Where groups of equal size are estimated to be quicker, all stays as it is, and a
    remark gives both estimates and what padding would cost in bytes.
  }];
  let dependentDialects = ["::mlir::pfcn::PfcnDialect"];
}

def FormInstancesPass : Pass<"pfcn-form-instances", "::mlir::func::FuncOp"> {
  let summary = "Gather independent, isomorphic subgraphs into pfcn.instances";
  let description = [{
    Merges equal ops, turns chains of additions over all instances into sums of their stack, then rewrites each group that the analysis finds (rules F1 to F9 of docs/Rationale.md)
    to one `pfcn.instances`. A `pfcn.cat` or `pfcn.stack` of results of groups becomes the destination that
    they write; other results are read from a stacked tensor. Says what it fused and what nearly
    was, and why not, in remarks of category `pfcn.fusion`. Declines, with a remark and no error,
    where nothing is found.
  }];
  let dependentDialects = ["::mlir::pfcn::PfcnDialect"];
}

def KeepInstancesPass : Pass<"pfcn-keep-instances", "::mlir::ModuleOp"> {
  let summary = "Keep the body of each pfcn.instances as a function of one instance";
  let description = [{
    The private function `@<name>_instance`, which the attribute `pfcn.instance` of the group names. It is what torch runs for
    each instance where neither a kernel nor one batched call for each op is estimated to be as fast.
  }];
  let dependentDialects = ["::mlir::pfcn::PfcnDialect", "::mlir::func::FuncDialect"];
}

def InlineComposedPass : Pass<"pfcn-inline-composed", "::mlir::func::FuncOp"> {
  let summary = "Replace each pfcn.composed in a group by its body";
  let description = [{
    Outside of groups, a `pfcn.composed` stays the one call that eager makes.
  }];
  let dependentDialects = ["::mlir::pfcn::PfcnDialect"];
}

def ExpandRecurrencesPass : Pass<"pfcn-expand-recurrences", "::mlir::func::FuncOp"> {
  let summary = "Make torch's recurrent operators in groups ops of the dialect";
  let description = [{
    `aten::lstm.input`, `aten::gru.input`, `aten::rnn_tanh.input` and `aten::rnn_relu.input` in the body of a
    `pfcn.instances` become one `pfcn.recurrence` per layer and direction, whose loop over time is part of the kernel.
    Outside of groups they stay torch's.
  }];
  let options = [
    Option<"differentiate", "differentiate", "bool", /*default=*/"false",
           "leave those of f16 and bf16 to torch, whose gradient rounds at each step">
  ];
  let dependentDialects = ["::mlir::pfcn::PfcnDialect"];
}

def MarkForeignPass : Pass<"pfcn-mark-foreign", "::mlir::func::FuncOp"> {
  let summary = "Mark what in a pfcn.instances has no gradient of the dialect's own";
  let description = [{
    For training. Foreign operators, `pfcn.composed` whose formula has another gradient than the operator, and ops whose
    vector-Jacobian product fails get the attribute `pfcn.not_differentiable`, which says why. The group is cut at them then, and
    they are torch's, with torch's gradient. What gives or takes no floating-point number is left alone.
  }];
  let dependentDialects = ["::mlir::pfcn::PfcnDialect", "::mlir::tensor::TensorDialect"];
}

def SplitInstancesPass : Pass<"pfcn-split-instances", "::mlir::func::FuncOp"> {
  let summary = "Cut each pfcn.instances at its foreign operators";
  let description = [{
    A `pfcn.opaque` in the body becomes one call for all instances, over operands that are stacked; torch's own batching
    rule runs it. So does a `pfcn.composed` that is marked as having no gradient; another op that is so marked stands outside of groups in
    its batched form. The ops between two of them become a smaller `pfcn.instances` each, all ops of one depth together; ops that
    only move data become views beside the calls. What no foreign operator waits for is computed as late as it can be. A group without foreign operators is left as it is.
  }];
  let dependentDialects = ["::mlir::pfcn::PfcnDialect"];
}

def BatchInstancesPass : Pass<"pfcn-batch-instances", "::mlir::func::FuncOp"> {
  let summary = "Turn each pfcn.instances into one pfcn.kernel over all instances";
  let description = [{
    Each op of the body says itself what it becomes (`BatchingOpInterface`). What no instance changes stays
    without the instance dimension. A kernel reads and writes arithmetic progressions in place;
    other accesses are gathered before it and scattered after it. A group with an op that has no
    batching rule is left as it is, with a remark.
  }];
  let dependentDialects = ["::mlir::pfcn::PfcnDialect"];
}

def DifferentiatePass : Pass<"pfcn-differentiate", "::mlir::ModuleOp"> {
  let summary = "Give each pfcn.instances a function that computes its gradients";
  let description = [{
    Reverse mode on the body: each op says itself what its vector-Jacobian product is
    (`DifferentiableOpInterface`). The function `@<name>_backward` takes the inputs of the group and the gradients of its
    results, and returns the gradients of its inputs: all of floating point, or those that the
    attribute `pfcn.wanted` of the group lists, save those that no gradient flows to; its own attribute of that name says which. It is one `pfcn.instances` again, which computes what it needs of the forward
    anew, so nothing is kept between the two. What an input's instances see of it is where its gradient is written; the gradients of an
    input that they share are summed.

    A group with an op that has no gradient is left without such a function, with a remark and the reason as its attribute
    `pfcn.not_differentiable`.
  }];
  let dependentDialects = ["::mlir::pfcn::PfcnDialect", "::mlir::tensor::TensorDialect"];
}

def CheckIndicesPass : Pass<"pfcn-check-indices", "::mlir::func::FuncOp"> {
  let summary = "Look at class numbers and indices before a group reads by them";
  let description = [{
    In a group, the indices of `one_hot`, `embedding` and losses over classes go through `pfcn::check_index`, a foreign operator
    that gives them back or raises what torch's operator would have. What a kernel computes from an index that is out of
    bounds would be wrong in silence. Places of a largest element need no check.
  }];
  let dependentDialects = ["::mlir::pfcn::PfcnDialect"];
}

#endif // PFCN_TRANSFORMS_PASSES_TD
