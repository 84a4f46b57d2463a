// RUN: pfcn-opt %s --pfcn-split-instances | FileCheck %s
// Groups cut at foreign operators: calls for all instances, and smaller groups between them.

// Before the call one group, which stacks what it computes; behind it another, which writes where the whole group did.
// CHECK-LABEL: func.func @chain
// CHECK-SAME: %[[X:.*]]: tensor<4x16xf32>, %[[W:.*]]: tensor<2x5x8xf32>
// CHECK: %[[INIT:.*]] = pfcn.empty : tensor<4x10xf32>
// CHECK: %[[E:.*]] = pfcn.empty : tensor<2x4x5xf32>
// CHECK: %[[H:.*]] = pfcn.instances "g_part0" count 2 ins(%[[X]], %[[W]] : {{.*}}) [#pfcn.access<slice dim 1 size 8 stride 8>, #pfcn.access<select dim 0>] outs(%[[E]] : tensor<2x4x5xf32>) [#pfcn.access<select dim 0>]
// CHECK: pfcn.linear
// CHECK: pfcn.yield
// CHECK: %[[C:.*]] = pfcn.opaque "aten::cumsum"(%[[H]]) [#pfcn.operand<0>, 1, unit] batched [true] {pfcn.group = "g"} : (tensor<2x4x5xf32>) -> tensor<2x4x5xf32>
// CHECK: %[[R:.*]] = pfcn.instances "g_part1" count 2 ins(%[[C]] : tensor<2x4x5xf32>) [#pfcn.access<select dim 0>] outs(%[[INIT]] : tensor<4x10xf32>) [#pfcn.access<slice dim 1 size 5 stride 5>]
// CHECK: pfcn.relu
// CHECK: return %[[R]]
func.func @chain(%x: tensor<4x16xf32>, %w: tensor<2x5x8xf32>) -> tensor<4x10xf32> {
  %init = pfcn.empty : tensor<4x10xf32>
  %y = pfcn.instances "g" count 2 ins(%x, %w : tensor<4x16xf32>, tensor<2x5x8xf32>)
      [#pfcn.access<slice dim 1 size 8 stride 8>, #pfcn.access<select dim 0>]
      outs(%init : tensor<4x10xf32>) [#pfcn.access<slice dim 1 size 5 stride 5>] {
  ^bb0(%a: tensor<4x8xf32>, %b: tensor<5x8xf32>):
    %0 = pfcn.linear %a, %b : tensor<4x8xf32>, tensor<5x8xf32> -> tensor<4x5xf32>
    %1 = pfcn.opaque "aten::cumsum"(%0) [#pfcn.operand<0>, 1, unit] : (tensor<4x5xf32>) -> tensor<4x5xf32>
    %2 = pfcn.relu %1 : tensor<4x5xf32>
    pfcn.yield %2 : tensor<4x5xf32>
  } -> tensor<4x10xf32>
  return %y : tensor<4x10xf32>
}

// A call reads a stack as it is, other accesses gathered, and what all share once; its result is the stack that
// the group would have written, or is scattered where the group would have written it.
// CHECK-LABEL: func.func @alone
// CHECK-SAME: %[[X:[^:]*]]: tensor<4x6xf32>, %[[S:[^:]*]]: tensor<4x3xf32>, %[[W:[^:]*]]: tensor<2x3x3xf32>
// CHECK: %[[D:.*]] = pfcn.empty : tensor<4x6xf32>
// CHECK: %[[G:.*]] = pfcn.gather_instances %[[X]] <slice dim 1 size 3 stride 3> : tensor<4x6xf32> -> tensor<2x4x3xf32>
// CHECK: %[[B:.*]] = pfcn.opaque "aten::bilinear"(%[[G]], %[[S]], %[[W]]) [{{.*}}] batched [true, false, true]
// CHECK: pfcn.scatter_instances %[[B]] into %[[D]] <slice dim 1 size 3 stride 3>
// CHECK-NOT: pfcn.instances
func.func @alone(%x: tensor<4x6xf32>, %s: tensor<4x3xf32>, %w: tensor<2x3x3xf32>) -> (tensor<2x4x3xf32>, tensor<4x6xf32>) {
  %init = pfcn.empty : tensor<2x4x3xf32>
  %d = pfcn.empty : tensor<4x6xf32>
  %y:2 = pfcn.instances "g" count 2 ins(%x, %s, %w : tensor<4x6xf32>, tensor<4x3xf32>, tensor<2x3x3xf32>)
      [#pfcn.access<slice dim 1 size 3 stride 3>, #pfcn.access<shared>, #pfcn.access<select dim 0>]
      outs(%init, %d : tensor<2x4x3xf32>, tensor<4x6xf32>) [#pfcn.access<select dim 0>, #pfcn.access<slice dim 1 size 3 stride 3>] {
  ^bb0(%a: tensor<4x3xf32>, %b: tensor<4x3xf32>, %c: tensor<3x3xf32>):
    %0 = pfcn.opaque "aten::bilinear"(%a, %b, %c) [#pfcn.operand<0>, #pfcn.operand<1>, #pfcn.operand<2>, unit] : (tensor<4x3xf32>, tensor<4x3xf32>, tensor<3x3xf32>) -> tensor<4x3xf32>
    pfcn.yield %0, %0 : tensor<4x3xf32>, tensor<4x3xf32>
  } -> tensor<2x4x3xf32>, tensor<4x6xf32>
  return %y#0, %y#1 : tensor<2x4x3xf32>, tensor<4x6xf32>
}

// What only moves data stays outside of kernels, on stacked tensors; constants stand where they are read.
// CHECK-LABEL: func.func @views
// CHECK: %[[P:.*]] = pfcn.permute %{{.*}} dims [0, 2, 1]
// CHECK: pfcn.opaque "aten::cumsum"(%[[P]]) [{{.*}}] batched [true]
// CHECK: pfcn.instances "g_part0"
// CHECK-NEXT: ^bb0
// CHECK-NEXT: pfcn.constant
// CHECK-NEXT: pfcn.add
func.func @views(%x: tensor<2x4x3xf32>) -> tensor<2x3x4xf32> {
  %init = pfcn.empty : tensor<2x3x4xf32>
  %y = pfcn.instances "g" count 2 ins(%x : tensor<2x4x3xf32>) [#pfcn.access<select dim 0>]
      outs(%init : tensor<2x3x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4x3xf32>):
    %k = pfcn.constant dense<1.0> : tensor<f32>
    %0 = pfcn.permute %a dims [1, 0] : tensor<4x3xf32> -> tensor<3x4xf32>
    %1 = pfcn.opaque "aten::cumsum"(%0) [#pfcn.operand<0>, 1, unit] : (tensor<3x4xf32>) -> tensor<3x4xf32>
    %2 = pfcn.add %1, %k : tensor<3x4xf32>, tensor<f32> -> tensor<3x4xf32>
    pfcn.yield %2 : tensor<3x4xf32>
  } -> tensor<2x3x4xf32>
  return %y : tensor<2x3x4xf32>
}

// A draw is a draw per instance even where nothing differs between them; anything else then happens once.
// CHECK-LABEL: func.func @shared
// CHECK: %[[C:.*]] = pfcn.opaque "aten::cumsum"(%{{.*}}) [#pfcn.operand<0>, 0, unit] {{.*}} : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: pfcn.opaque "aten::rand_like"(%[[C]]) [#pfcn.operand<0>] random batched [false] {{.*}} -> tensor<2x4xf32>
func.func @shared(%x: tensor<4xf32>) -> tensor<2x4xf32> {
  %init = pfcn.empty : tensor<2x4xf32>
  %y = pfcn.instances "g" count 2 ins(%x : tensor<4xf32>) [#pfcn.access<shared>]
      outs(%init : tensor<2x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4xf32>):
    %0 = pfcn.opaque "aten::cumsum"(%a) [#pfcn.operand<0>, 0, unit] : (tensor<4xf32>) -> tensor<4xf32>
    %1 = pfcn.opaque "aten::rand_like"(%0) [#pfcn.operand<0>] random : (tensor<4xf32>) -> tensor<4xf32>
    pfcn.yield %1 : tensor<4xf32>
  } -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}

// Dynamic sizes behind a call are those of its result.
// CHECK-LABEL: func.func @dynamic
// CHECK: %[[C:.*]] = pfcn.opaque "aten::cumsum"
// CHECK: %[[N:.*]] = tensor.dim %[[C]], %c1
// CHECK: pfcn.empty(%[[N]]) : tensor<2x?x3xf32>
// CHECK: pfcn.instances "g_part0"
// CHECK: pfcn.opaque "aten::cumsum"
func.func @dynamic(%x: tensor<2x?x3xf32>, %init: tensor<2x?x3xf32>) -> tensor<2x?x3xf32> {
  %y = pfcn.instances "g" count 2 ins(%x : tensor<2x?x3xf32>) [#pfcn.access<select dim 0>]
      outs(%init : tensor<2x?x3xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<?x3xf32>):
    %0 = pfcn.opaque "aten::cumsum"(%a) [#pfcn.operand<0>, 1, unit] : (tensor<?x3xf32>) -> tensor<?x3xf32>
    %1 = pfcn.relu %0 : tensor<?x3xf32>
    %2 = pfcn.opaque "aten::cumsum"(%1) [#pfcn.operand<0>, 1, unit] : (tensor<?x3xf32>) -> tensor<?x3xf32>
    pfcn.yield %2 : tensor<?x3xf32>
  } -> tensor<2x?x3xf32>
  return %y : tensor<2x?x3xf32>
}

// What no call waits for is computed behind it, together with what reads it.
// CHECK-LABEL: func.func @late
// CHECK-NOT: pfcn.instances
// CHECK: %[[C:.*]] = pfcn.opaque "aten::cumsum"
// CHECK: pfcn.instances "g_part0" {{.*}} ins({{.*}}, %[[C]] :
// CHECK: pfcn.relu
// CHECK: pfcn.add
// CHECK-NOT: pfcn.instances
// CHECK: return
func.func @late(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {
  %init = pfcn.empty : tensor<2x4xf32>
  %y = pfcn.instances "g" count 2 ins(%x : tensor<2x4xf32>) [#pfcn.access<select dim 0>]
      outs(%init : tensor<2x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4xf32>):
    %0 = pfcn.relu %a : tensor<4xf32>
    %1 = pfcn.opaque "aten::cumsum"(%a) [#pfcn.operand<0>, 0, unit] : (tensor<4xf32>) -> tensor<4xf32>
    %2 = pfcn.add %0, %1 : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    pfcn.yield %2 : tensor<4xf32>
  } -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}
