// RUN: pfcn-opt %s --convert-pfcn-to-linalg=everywhere=true --split-input-file | FileCheck %s
// Broadcasting is a map that omits a loop; every map is a projected permutation.

// CHECK: #[[ROW:.*]] = affine_map<(d0, d1) -> (d0)>
// CHECK: #[[ID:.*]] = affine_map<(d0, d1) -> (d0, d1)>
// CHECK-LABEL: func.func @column
// CHECK-SAME: %[[X:.*]]: tensor<3x1xf32>, %[[Y:.*]]: tensor<3x5xf32>
func.func @column(%x: tensor<3x1xf32>, %y: tensor<3x5xf32>) -> tensor<3x5xf32> {
  // CHECK: %[[C:.*]] = tensor.collapse_shape %[[X]] {{\[\[}}0, 1]] : tensor<3x1xf32> into tensor<3xf32>
  // CHECK: linalg.generic {indexing_maps = [#[[ROW]], #[[ID]], #[[ID]]], iterator_types = ["parallel", "parallel"]} ins(%[[C]], %[[Y]]
  %0 = pfcn.add %x, %y : tensor<3x1xf32>, tensor<3x5xf32> -> tensor<3x5xf32>
  return %0 : tensor<3x5xf32>
}

// -----

// Dimensions of size 1 in operands and result are ordinary loops.
// CHECK: #[[ID:.*]] = affine_map<(d0, d1) -> (d0, d1)>
// CHECK-LABEL: func.func @units
// CHECK-NOT: collapse_shape
// CHECK: linalg.generic {indexing_maps = [#[[ID]], #[[ID]], #[[ID]]]
func.func @units(%x: tensor<1x5xf32>, %y: tensor<1x5xf32>) -> tensor<1x5xf32> {
  %0 = pfcn.add %x, %y : tensor<1x5xf32>, tensor<1x5xf32> -> tensor<1x5xf32>
  return %0 : tensor<1x5xf32>
}

// -----

// A static 1 broadcasts against a dynamic dimension; two dynamic ones are equal.
// CHECK: #[[ROW:.*]] = affine_map<(d0, d1) -> (d0)>
// CHECK: #[[ID:.*]] = affine_map<(d0, d1) -> (d0, d1)>
// CHECK-LABEL: func.func @dynamic
// CHECK-SAME: %[[X:.*]]: tensor<?x1xf32>, %[[Y:.*]]: tensor<?x?xf32>
func.func @dynamic(%x: tensor<?x1xf32>, %y: tensor<?x?xf32>) -> tensor<?x?xf32> {
  // CHECK-DAG: %[[C:.*]] = tensor.collapse_shape %[[X]] {{\[\[}}0, 1]]
  // CHECK-DAG: %[[ROWS:.*]] = tensor.dim %[[X]], %{{.*}}
  // CHECK-DAG: %[[COLUMNS:.*]] = tensor.dim %[[Y]], %{{.*}}
  // CHECK: tensor.empty(%[[ROWS]], %[[COLUMNS]]) : tensor<?x?xf32>
  // CHECK: linalg.generic {indexing_maps = [#[[ROW]], #[[ID]], #[[ID]]]
  %0 = pfcn.add %x, %y : tensor<?x1xf32>, tensor<?x?xf32> -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// -----

// A constant that is the same everywhere goes into the payload; another one is an operand.
// CHECK-LABEL: func.func @constants
func.func @constants(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  // CHECK: %[[DENSE:.*]] = arith.constant dense<[1.000000e+00, 2.000000e+00, 3.000000e+00]> : tensor<3xf32>
  %scalar = pfcn.constant dense<2.0> : tensor<f32>
  %dense = pfcn.constant dense<[1.0, 2.0, 3.0]> : tensor<3xf32>
  // CHECK: linalg.generic {{.*}} ins(%{{[a-z0-9]+}} : tensor<2x3xf32>)
  // CHECK: %[[TWO:.*]] = arith.constant 2.0
  // CHECK: arith.mulf %{{.*}}, %[[TWO]]
  %0 = pfcn.mul %x, %scalar : tensor<2x3xf32>, tensor<f32> -> tensor<2x3xf32>
  // CHECK: linalg.generic {{.*}} ins(%{{.*}}, %[[DENSE]] : tensor<2x3xf32>, tensor<3xf32>)
  %1 = pfcn.add %0, %dense : tensor<2x3xf32>, tensor<3xf32> -> tensor<2x3xf32>
  return %1 : tensor<2x3xf32>
}

// -----

// CHECK-LABEL: func.func @rank_0
// CHECK: linalg.generic {indexing_maps = [#{{.*}}, #{{.*}}], iterator_types = []} ins(%{{.*}} : tensor<f32>)
func.func @rank_0(%x: tensor<f32>) -> tensor<f32> {
  %0 = pfcn.exp %x : tensor<f32>
  return %0 : tensor<f32>
}
