//===- Passes.td - forming groups and batching them -------------*- tablegen -*-===//
//
// Detection's two passes, with `pfcn.instances` between them.
//
//===---------------------------------------------------------------------------===//

#ifndef PFCN_TRANSFORMS_PASSES_TD
#define PFCN_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"

def FormInstancesPass : Pass<"pfcn-form-instances", "::mlir::func::FuncOp"> {
  let summary = "Gather independent, isomorphic subgraphs into pfcn.instances";
  let description = [{
    Merges equal ops, turns chains of additions over all instances into sums of their stack, then rewrites each group that the analysis finds (rules F1 to F9 of docs/Rationale.md)
    to one `pfcn.instances`. A `pfcn.cat` or `pfcn.stack` of results of groups becomes the destination that
    they write; other results are read from a stacked tensor. Says what it fused and what nearly
    was, and why not, in remarks of category `pfcn.fusion`. Declines, with a remark and no error,
    where nothing is found.

    ```mlir
    %x0 = pfcn.slice %x dim 1 from 0 to 20 : tensor<1x40xf32> -> tensor<1x20xf32>
    %y0 = pfcn.linear %x0, %w0 : tensor<1x20xf32>, tensor<10x20xf32> -> tensor<1x10xf32>
    %x1 = pfcn.slice %x dim 1 from 20 to 40 : tensor<1x40xf32> -> tensor<1x20xf32>
    %y1 = pfcn.linear %x1, %w1 : tensor<1x20xf32>, tensor<10x20xf32> -> tensor<1x10xf32>
    %y = pfcn.cat %y0, %y1 dim 1 : (tensor<1x10xf32>, tensor<1x10xf32>) -> tensor<1x20xf32>
    ```
    becomes
    ```mlir
    %w = pfcn.parameter_stack ["models.0.weight", "models.1.weight"] : tensor<2x10x20xf32>
    %init = pfcn.empty : tensor<1x20xf32>
    %y = pfcn.instances "linear20x10_x2" count 2 ins(%x, %w : tensor<1x40xf32>, tensor<2x10x20xf32>)
        [#pfcn.access<slice dim 1 size 20 stride 20>, #pfcn.access<select dim 0>]
        outs(%init : tensor<1x20xf32>) [#pfcn.access<slice dim 1 size 10 stride 10>] {
    ^bb0(%a: tensor<1x20xf32>, %b: tensor<10x20xf32>):
      %0 = pfcn.linear %a, %b : tensor<1x20xf32>, tensor<10x20xf32> -> tensor<1x10xf32>
      pfcn.yield %0 : tensor<1x10xf32>
    } -> tensor<1x20xf32>
    ```
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
  let dependentDialects = ["::mlir::pfcn::PfcnDialect"];
}

def SplitInstancesPass : Pass<"pfcn-split-instances", "::mlir::func::FuncOp"> {
  let summary = "Cut each pfcn.instances at its foreign operators";
  let description = [{
    A `pfcn.opaque` in the body becomes one call for all instances, over operands that are stacked; torch's own batching
    rule runs it. The ops between two of them become a smaller `pfcn.instances` each, all ops of one depth together; ops that
    only move data become views beside the calls. A group without foreign operators is left as it is.

    ```mlir
    %y = pfcn.instances "cumsum_relu_x2" count 2 ins(%x : tensor<2x5xf32>) [#pfcn.access<select dim 0>]
        outs(%init : tensor<2x5xf32>) [#pfcn.access<select dim 0>] {
    ^bb0(%a: tensor<5xf32>):
      %0 = pfcn.opaque "aten::cumsum"(%a) [#pfcn.operand<0>, 0, unit] : (tensor<5xf32>) -> tensor<5xf32>
      %1 = pfcn.relu %0 : tensor<5xf32>
      pfcn.yield %1 : tensor<5xf32>
    } -> tensor<2x5xf32>
    ```
    becomes
    ```mlir
    %0 = pfcn.opaque "aten::cumsum"(%x) [#pfcn.operand<0>, 0, unit] batched [true] {pfcn.group = "cumsum_relu_x2"}
        : (tensor<2x5xf32>) -> tensor<2x5xf32>
    %y = pfcn.instances "cumsum_relu_x2_part0" count 2 ins(%0 : tensor<2x5xf32>) [#pfcn.access<select dim 0>]
        outs(%init : tensor<2x5xf32>) [#pfcn.access<select dim 0>] {
    ^bb0(%a: tensor<5xf32>):
      %1 = pfcn.relu %a : tensor<5xf32>
      pfcn.yield %1 : tensor<5xf32>
    } -> tensor<2x5xf32>
    ```
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

    ```mlir
    %y = pfcn.instances "relu_x2" count 2 ins(%x : tensor<1x8xf32>) [#pfcn.access<slice dim 1 size 4 stride 4>]
        outs(%init : tensor<1x8xf32>) [#pfcn.access<slice dim 1 size 4 stride 4>] {
    ^bb0(%a: tensor<1x4xf32>):
      %0 = pfcn.relu %a : tensor<1x4xf32>
      pfcn.yield %0 : tensor<1x4xf32>
    } -> tensor<1x8xf32>
    ```
    gets
    ```mlir
    func.func private @relu_x2_backward(%x: tensor<1x8xf32>, %g: tensor<1x8xf32>) -> tensor<1x8xf32>
        attributes {pfcn.wanted = array<i64: 0>} {
      %init = pfcn.empty : tensor<1x8xf32>
      %gx = pfcn.instances "relu_x2_gradient" count 2 ins(%x, %g : tensor<1x8xf32>, tensor<1x8xf32>)
          [#pfcn.access<slice dim 1 size 4 stride 4>, #pfcn.access<slice dim 1 size 4 stride 4>]
          outs(%init : tensor<1x8xf32>) [#pfcn.access<slice dim 1 size 4 stride 4>] {
      ^bb0(%a: tensor<1x4xf32>, %b: tensor<1x4xf32>):
        %0 = pfcn.relu %a : tensor<1x4xf32>
        %zero = pfcn.constant dense<0.0> : tensor<f32>
        %1 = pfcn.compare le %0, %zero : tensor<1x4xf32>, tensor<f32> -> tensor<1x4xi1>
        %2 = pfcn.where %1, %zero, %b : tensor<1x4xi1>, tensor<f32>, tensor<1x4xf32> -> tensor<1x4xf32>
        pfcn.yield %2 : tensor<1x4xf32>
      } -> tensor<1x8xf32>
      return %gx : tensor<1x8xf32>
    }
    ```
  }];
  let dependentDialects = ["::mlir::pfcn::PfcnDialect", "::mlir::tensor::TensorDialect"];
}

#endif // PFCN_TRANSFORMS_PASSES_TD
