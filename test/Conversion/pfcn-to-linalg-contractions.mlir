// RUN: pfcn-opt %s --convert-pfcn-to-linalg=everywhere=true --split-input-file | FileCheck %s
// One nest per contraction: the loops of the result in its order, then the reduction.

// CHECK-DAG: #[[X:.*]] = affine_map<(d0, d1, d2) -> (d0, d2)>
// CHECK-DAG: #[[W:.*]] = affine_map<(d0, d1, d2) -> (d1, d2)>
// CHECK-DAG: #[[Y:.*]] = affine_map<(d0, d1, d2) -> (d0, d1)>
// CHECK-DAG: #[[BIAS:.*]] = affine_map<(d0, d1) -> (d1)>
// CHECK-LABEL: func.func @linear
func.func @linear(%x: tensor<?x20xf32>, %w: tensor<10x20xf32>, %b: tensor<10xf32>) -> tensor<?x10xf32> {
  // CHECK: %[[ZERO:.*]] = arith.constant 0.0
  // CHECK: %[[INIT:.*]] = linalg.fill ins(%[[ZERO]] : f32)
  // CHECK: linalg.generic {indexing_maps = [#[[X]], #[[W]], #[[Y]]], iterator_types = ["parallel", "parallel", "reduction"]}
  // CHECK-SAME: outs(%[[INIT]] : tensor<?x10xf32>)
  // CHECK: ^bb0(%[[A:.*]]: f32, %[[B:.*]]: f32, %[[ACC:.*]]: f32):
  // CHECK: %[[P:.*]] = arith.mulf %[[A]], %[[B]] fastmath<contract> : f32
  // CHECK: %[[S:.*]] = arith.addf %[[ACC]], %[[P]] fastmath<reassoc,nsz,contract> : f32
  // CHECK: linalg.yield %[[S]]
  // CHECK: linalg.generic {indexing_maps = [#{{.*}}, #[[BIAS]], #{{.*}}], iterator_types = ["parallel", "parallel"]}
  // CHECK: arith.addf %{{[a-z0-9_]+}}, %{{[a-z0-9_]+}} : f32
  %0 = pfcn.linear %x, %w, %b : tensor<?x20xf32>, tensor<10x20xf32>, tensor<10xf32> -> tensor<?x10xf32>
  return %0 : tensor<?x10xf32>
}

// -----

// Leading dimensions broadcast; f16 accumulates in f32 and is rounded once.
// CHECK-DAG: #[[X:.*]] = affine_map<(d0, d1, d2, d3, d4) -> (d0, d2, d4)>
// CHECK-DAG: #[[W:.*]] = affine_map<(d0, d1, d2, d3, d4) -> (d1, d4, d3)>
// CHECK-DAG: #[[Y:.*]] = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d3)>
// CHECK-LABEL: func.func @matmul
func.func @matmul(%x: tensor<2x1x3x7xf16>, %y: tensor<4x7x5xf16>) -> tensor<2x4x3x5xf16> {
  // CHECK: %[[C:.*]] = tensor.collapse_shape %{{.*}} {{\[\[}}0, 1], [2], [3]]
  // CHECK: linalg.generic {indexing_maps = [#[[X]], #[[W]], #[[Y]]]
  // CHECK-SAME: outs(%{{.*}} : tensor<2x4x3x5xf32>)
  // CHECK: %[[A:.*]] = arith.extf %{{.*}} : f16 to f32
  // CHECK: %[[B:.*]] = arith.extf %{{.*}} : f16 to f32
  // CHECK: arith.mulf %[[A]], %[[B]] fastmath<contract> : f32
  // CHECK: linalg.generic
  // CHECK: arith.truncf %{{.*}} : f32 to f16
  %0 = pfcn.matmul %x, %y : tensor<2x1x3x7xf16>, tensor<4x7x5xf16> -> tensor<2x4x3x5xf16>
  return %0 : tensor<2x4x3x5xf16>
}

// -----

// An operand without the instance dimension is read by all instances.
// CHECK-DAG: #[[X:.*]] = affine_map<(d0, d1, d2, d3) -> (d1, d3)>
// CHECK-DAG: #[[W:.*]] = affine_map<(d0, d1, d2, d3) -> (d0, d2, d3)>
// CHECK-LABEL: func.func @batch_matmul
func.func @batch_matmul(%x: tensor<3x7xf32>, %w: tensor<9x5x7xf32>) -> tensor<9x3x5xf32> {
  // CHECK: linalg.generic {indexing_maps = [#[[X]], #[[W]], #{{.*}}], iterator_types = ["parallel", "parallel", "parallel", "reduction"]}
  %0 = pfcn.batch_matmul %x, %w {transpose_rhs} : tensor<3x7xf32>, tensor<9x5x7xf32> -> tensor<9x3x5xf32>
  return %0 : tensor<9x3x5xf32>
}

// -----

// CHECK-LABEL: func.func @addmm
func.func @addmm(%i: tensor<5xf32>, %x: tensor<3x7xf32>, %y: tensor<7x5xf32>) -> tensor<3x5xf32> {
  // CHECK: linalg.generic
  // CHECK: linalg.generic
  // CHECK: ^bb0(%[[P:.*]]: f32, %[[I:.*]]: f32, %{{.*}}: f32):
  // CHECK: %[[ALPHA:.*]] = arith.constant 5.0{{0*}}e-01
  // CHECK: %[[SCALED:.*]] = arith.mulf %[[P]], %[[ALPHA]]
  // CHECK: %[[BETA:.*]] = arith.constant 2.0
  // CHECK: %[[TERM:.*]] = arith.mulf %[[I]], %[[BETA]]
  // CHECK: arith.addf %[[SCALED]], %[[TERM]]
  %0 = pfcn.addmm %i, %x, %y {alpha = 0.5 : f64, beta = 2.0 : f64} : tensor<5xf32>, tensor<3x7xf32>, tensor<7x5xf32> -> tensor<3x5xf32>
  return %0 : tensor<3x5xf32>
}

// -----

// CHECK-LABEL: func.func @addmm_ignores_input
// CHECK-SAME: %[[I:.*]]: tensor<5xf32>
// CHECK-NOT: %[[I]]
// CHECK: return
func.func @addmm_ignores_input(%i: tensor<5xf32>, %x: tensor<3x7xf32>, %y: tensor<7x5xf32>) -> tensor<3x5xf32> {
  %0 = pfcn.addmm %i, %x, %y {beta = 0.0 : f64} : tensor<5xf32>, tensor<3x7xf32>, tensor<7x5xf32> -> tensor<3x5xf32>
  return %0 : tensor<3x5xf32>
}
