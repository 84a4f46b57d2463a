// RUN: pfcn-opt %s --convert-pfcn-to-linalg --split-input-file | FileCheck %s
// RUN: pfcn-opt %s --convert-pfcn-to-linalg --remarks-filter='pfcn\.lowering' --split-input-file 2>&1 >/dev/null | FileCheck %s --check-prefix=REMARK
// A kernel with one op that has no lowering stays as it was, all of it, and a remark says why.

// REMARK: [Missed] KernelNotLowered | Category:pfcn.lowering
// REMARK-SAME: Reason="no lowering for elements of type complex<f32>"
// REMARK-SAME: kernel 'complex' runs op by op: pfcn.exp has no lowering here
// CHECK-LABEL: func.func @complex
func.func @complex(%x: tensor<2x4xcomplex<f32>>, %f: tensor<2x4xf32>, %init: tensor<2x4xcomplex<f32>>, %g: tensor<2x4xf32>)
    -> (tensor<2x4xcomplex<f32>>, tensor<2x4xf32>) {
  // CHECK: pfcn.kernel
  // CHECK-SAME: pfcn.declined = "pfcn.exp has no lowering here: no lowering for elements of type complex<f32>"
  %y:2 = pfcn.kernel "complex" count 2 ins(%x, %f : tensor<2x4xcomplex<f32>>, tensor<2x4xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
      outs(%init, %g : tensor<2x4xcomplex<f32>>, tensor<2x4xf32>) [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<2x4xcomplex<f32>>, %b: tensor<2x4xf32>):
    // CHECK: pfcn.relu
    // CHECK-NEXT: pfcn.exp
    // CHECK-NEXT: pfcn.yield
    %0 = pfcn.relu %b : tensor<2x4xf32>
    %1 = pfcn.exp %a : tensor<2x4xcomplex<f32>>
    pfcn.yield %1, %0 : tensor<2x4xcomplex<f32>>, tensor<2x4xf32>
  } -> tensor<2x4xcomplex<f32>>, tensor<2x4xf32>
  return %y#0, %y#1 : tensor<2x4xcomplex<f32>>, tensor<2x4xf32>
}

// -----

// REMARK: [Missed] KernelNotLowered | Category:pfcn.lowering
// REMARK-SAME: Reason="the op is not a compute op of the dialect"
// REMARK-SAME: kernel 'opaque' runs op by op: pfcn.opaque has no lowering here
// CHECK-LABEL: func.func @opaque
func.func @opaque(%x: tensor<2x4xf32>, %init: tensor<2x4xf32>) -> tensor<2x4xf32> {
  %y = pfcn.kernel "opaque" count 2 ins(%x : tensor<2x4xf32>) [#pfcn.access<select dim 0>]
      outs(%init : tensor<2x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<2x4xf32>):
    // CHECK: pfcn.opaque "aten::cumsum"
    %0 = pfcn.opaque "aten::cumsum"(%a) [#pfcn.operand<0>, 1, unit] : (tensor<2x4xf32>) -> tensor<2x4xf32>
    // CHECK: pfcn.relu
    %1 = pfcn.relu %0 : tensor<2x4xf32>
    pfcn.yield %1 : tensor<2x4xf32>
  } -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}

// -----

// REMARK: [Missed] KernelNotLowered | Category:pfcn.lowering
// REMARK-SAME: Reason="it is lowered for floating-point numbers only"
// REMARK-SAME: kernel 'int_pow' runs op by op: pfcn.pow has no lowering here
// CHECK-LABEL: func.func @int_pow
func.func @int_pow(%x: tensor<2x4xi64>, %init: tensor<2x4xi64>) -> tensor<2x4xi64> {
  %y = pfcn.kernel "int_pow" count 2 ins(%x : tensor<2x4xi64>) [#pfcn.access<select dim 0>]
      outs(%init : tensor<2x4xi64>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<2x4xi64>):
    // CHECK: pfcn.constant
    %c = pfcn.constant dense<2> : tensor<i64>
    // CHECK: pfcn.pow
    %0 = pfcn.pow %a, %c : tensor<2x4xi64>, tensor<i64> -> tensor<2x4xi64>
    pfcn.yield %0 : tensor<2x4xi64>
  } -> tensor<2x4xi64>
  return %y : tensor<2x4xi64>
}

// -----

// REMARK: [Missed] KernelNotLowered | Category:pfcn.lowering
// REMARK-SAME: Reason="the size of dimension 1 of the result follows from no operand"
// REMARK-SAME: kernel 'unknown_size' runs op by op: pfcn.expand has no lowering here
// CHECK-LABEL: func.func @unknown_size
func.func @unknown_size(%x: tensor<2x1xf32>, %init: tensor<2x?xf32>) -> tensor<2x?xf32> {
  %y = pfcn.kernel "unknown_size" count 2 ins(%x : tensor<2x1xf32>) [#pfcn.access<select dim 0>]
      outs(%init : tensor<2x?xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<2x1xf32>):
    // CHECK: pfcn.expand
    %0 = pfcn.expand %a : tensor<2x1xf32> to tensor<2x?xf32>
    pfcn.yield %0 : tensor<2x?xf32>
  } -> tensor<2x?xf32>
  return %y : tensor<2x?xf32>
}
