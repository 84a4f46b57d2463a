// RUN: pfcn-opt %s --pfcn-mark-foreign | FileCheck %s --check-prefix=MARK
// RUN: pfcn-opt %s --pfcn-mark-foreign --pfcn-split-instances | FileCheck %s --check-prefix=CUT
// What has no gradient, and how groups are cut there.

// One result of an operator that has two: the call says which. The places of extremes, which are integers, are left alone.
// MARK-LABEL: func.func @max
// MARK: pfcn.composed "aten::max.dim"{{.*}}pfcn.not_differentiable
// MARK: pfcn.composed "aten::argmax"
// MARK-NOT: pfcn.not_differentiable
// MARK: pfcn.yield
// CUT-LABEL: func.func @max
// CUT: pfcn.instances "g_part0"
// CUT: pfcn.linear
// CUT: %[[M:.*]] = pfcn.opaque "aten::max.dim"(%{{.*}}) [#pfcn.operand<0>, 1, false] batched [true] {pfcn.group = "g", pfcn.not_differentiable = "its gradient is not that of its formula everywhere", pfcn.result_index = 0 : i64} : (tensor<2x4x5xf32>) -> tensor<2x4xf32>
// CUT: pfcn.instances "g_part1" count 2 ins({{.*}}%[[M]]{{.*}}
// CUT: pfcn.relu
func.func @max(%x: tensor<2x4x8xf32>, %w: tensor<2x5x8xf32>) -> (tensor<2x4xf32>, tensor<2x4xi64>) {
  %init = pfcn.empty : tensor<2x4xf32>
  %places = pfcn.empty : tensor<2x4xi64>
  %y:2 = pfcn.instances "g" count 2 ins(%x, %w : tensor<2x4x8xf32>, tensor<2x5x8xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
      outs(%init, %places : tensor<2x4xf32>, tensor<2x4xi64>) [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4x8xf32>, %b: tensor<5x8xf32>):
    %0 = pfcn.linear %a, %b : tensor<4x8xf32>, tensor<5x8xf32> -> tensor<4x5xf32>
    %1 = pfcn.composed "aten::max.dim"(%0) [#pfcn.operand<0>, 1, false] {index = 0 : i64} : (tensor<4x5xf32>) -> tensor<4xf32> {
    ^bb0(%c: tensor<4x5xf32>):
      %4 = pfcn.amax %c dims [1] : tensor<4x5xf32> -> tensor<4xf32>
      pfcn.yield %4 : tensor<4xf32>
    }
    %2 = pfcn.relu %1 : tensor<4xf32>
    %3 = pfcn.composed "aten::argmax"(%0) [#pfcn.operand<0>, 1, false] : (tensor<4x5xf32>) -> tensor<4xi64> {
    ^bb0(%c: tensor<4x5xf32>):
      %4 = pfcn.amax %c dims [1] : tensor<4x5xf32> -> tensor<4xf32>
      %5 = pfcn.cast %4 : tensor<4xf32> to tensor<4xi64>
      pfcn.yield %5 : tensor<4xi64>
    }
    pfcn.yield %2, %3 : tensor<4xf32>, tensor<4xi64>
  } -> tensor<2x4xf32>, tensor<2x4xi64>
  return %y#0, %y#1 : tensor<2x4xf32>, tensor<2x4xi64>
}

// An op of the dialect stands outside of groups, in its batched form.
// MARK-LABEL: func.func @windows
// MARK: pfcn.max_pool {{.*}}pfcn.not_differentiable = "its gradient has no form in the dialect"
// CUT-LABEL: func.func @windows
// CUT-NOT: pfcn.instances
// CUT: pfcn.max_pool {{.*}}pfcn.group = "g"{{.*}}tensor<2x3x30xf32>
// CUT: pfcn.instances "g_part0"
// CUT-NEXT: ^bb0
// CUT-NEXT: pfcn.relu
func.func @windows(%x: tensor<2x3x100xf32>) -> tensor<2x3x30xf32> {
  %init = pfcn.empty : tensor<2x3x30xf32>
  %y = pfcn.instances "g" count 2 ins(%x : tensor<2x3x100xf32>) [#pfcn.access<select dim 0>]
      outs(%init : tensor<2x3x30xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<3x100xf32>):
    %0 = pfcn.max_pool %a {kernel = array<i64: 71>, stride = array<i64: 1>, padding = array<i64: 0>, dilation = array<i64: 1>} : tensor<3x100xf32> -> tensor<3x30xf32>
    %1 = pfcn.relu %0 : tensor<3x30xf32>
    pfcn.yield %1 : tensor<3x30xf32>
  } -> tensor<2x3x30xf32>
  return %y : tensor<2x3x30xf32>
}
