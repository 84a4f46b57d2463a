// RUN: pfcn-opt %s --pfcn-batch-instances --convert-pfcn-to-linalg --split-input-file | FileCheck %s
// torch rounds a linear of bf16 once, behind the bias; batched it does too, and no operand is copied in f32.

// CHECK-LABEL: func.func @linear
func.func @linear(%x: tensor<2x3x7xbf16>, %w: tensor<2x5x7xbf16>, %b: tensor<2x5xbf16>, %init: tensor<2x3x5xbf16>) -> tensor<2x3x5xbf16> {
  // CHECK: ^bb0(%[[X:.*]]: tensor<2x3x7xbf16>, %[[W:.*]]: tensor<2x5x7xbf16>, %[[B:.*]]: tensor<2x5xbf16>)
  // CHECK: %[[P:.*]] = linalg.generic {{.*}} "reduction"]} ins(%[[X]], %[[W]] : tensor<2x3x7xbf16>, tensor<2x5x7xbf16>) outs(%{{.*}} : tensor<2x3x5xf32>)
  // CHECK: arith.extf
  // CHECK: arith.extf
  // CHECK-NOT: arith.truncf
  // CHECK: %[[S:.*]] = linalg.generic {{.*}} ins(%[[P]], %{{.*}} : tensor<2x3x5xf32>
  // CHECK: arith.addf
  // CHECK: linalg.generic {{.*}} ins(%[[S]]
  // CHECK: arith.truncf
  // CHECK-NOT: arith.truncf
  // CHECK: pfcn.yield
  %y = pfcn.instances "linear" count 2 ins(%x, %w, %b : tensor<2x3x7xbf16>, tensor<2x5x7xbf16>, tensor<2x5xbf16>)
      [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
      outs(%init : tensor<2x3x5xbf16>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<3x7xbf16>, %v: tensor<5x7xbf16>, %c: tensor<5xbf16>):
    %0 = pfcn.linear %a, %v, %c : tensor<3x7xbf16>, tensor<5x7xbf16>, tensor<5xbf16> -> tensor<3x5xbf16>
    pfcn.yield %0 : tensor<3x5xbf16>
  } -> tensor<2x3x5xbf16>
  return %y : tensor<2x3x5xbf16>
}

// -----

// The product of two ops is rounded before the sum, as in torch.
// CHECK-LABEL: func.func @matmul_add
func.func @matmul_add(%x: tensor<2x3x7xbf16>, %w: tensor<2x7x5xbf16>, %b: tensor<2x3x5xbf16>, %init: tensor<2x3x5xbf16>) -> tensor<2x3x5xbf16> {
  // CHECK: "reduction"]
  // CHECK: arith.truncf
  // CHECK: arith.addf %{{.*}}, %{{.*}} : bf16
  %y = pfcn.instances "matmul_add" count 2 ins(%x, %w, %b : tensor<2x3x7xbf16>, tensor<2x7x5xbf16>, tensor<2x3x5xbf16>)
      [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
      outs(%init : tensor<2x3x5xbf16>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<3x7xbf16>, %v: tensor<7x5xbf16>, %c: tensor<3x5xbf16>):
    %0 = pfcn.matmul %a, %v : tensor<3x7xbf16>, tensor<7x5xbf16> -> tensor<3x5xbf16>
    %1 = pfcn.add %0, %c : tensor<3x5xbf16>, tensor<3x5xbf16> -> tensor<3x5xbf16>
    pfcn.yield %1 : tensor<3x5xbf16>
  } -> tensor<2x3x5xbf16>
  return %y : tensor<2x3x5xbf16>
}
