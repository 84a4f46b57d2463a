// RUN: pfcn-opt %s --convert-pfcn-to-linalg=everywhere=true --split-input-file | FileCheck %s
// Elements that stay in order are a view; permute and expand copy; joins insert.

// CHECK-LABEL: func.func @collapse
// CHECK: tensor.collapse_shape %{{.*}} {{\[\[}}0], [1], [2, 3]] : tensor<2x?x4x5xf32> into tensor<2x?x20xf32>
// CHECK-NOT: tensor.expand_shape
func.func @collapse(%x: tensor<2x?x4x5xf32>) -> tensor<2x?x20xf32> {
  %0 = pfcn.reshape %x : tensor<2x?x4x5xf32> to tensor<2x?x20xf32>
  return %0 : tensor<2x?x20xf32>
}

// CHECK-LABEL: func.func @expand
// CHECK-NOT: tensor.collapse_shape
// CHECK: %[[D:.*]] = tensor.dim
// CHECK: tensor.expand_shape %{{.*}} {{\[\[}}0], [1, 2]] output_shape [%[[D]], 4, 5] : tensor<?x20xf32> into tensor<?x4x5xf32>
func.func @expand(%x: tensor<?x20xf32>) -> tensor<?x4x5xf32> {
  %0 = pfcn.reshape %x : tensor<?x20xf32> to tensor<?x4x5xf32>
  return %0 : tensor<?x4x5xf32>
}

// CHECK-LABEL: func.func @both
// CHECK: %[[C:.*]] = tensor.collapse_shape %{{.*}} {{\[\[}}0, 1], [2]] : tensor<2x6x5xf32> into tensor<12x5xf32>
// CHECK: tensor.expand_shape %[[C]] {{\[\[}}0, 1], [2]] output_shape [4, 3, 5] : tensor<12x5xf32> into tensor<4x3x5xf32>
func.func @both(%x: tensor<2x6x5xf32>) -> tensor<4x3x5xf32> {
  %0 = pfcn.reshape %x : tensor<2x6x5xf32> to tensor<4x3x5xf32>
  return %0 : tensor<4x3x5xf32>
}

// Dimensions of size 1 move past one of unknown size, which stays a dimension of its own.
// CHECK-LABEL: func.func @units
// CHECK: %[[C:.*]] = tensor.collapse_shape %{{.*}} {{\[\[}}0], [1], [2, 3]] : tensor<2x?x16x1xf32> into tensor<2x?x16xf32>
// CHECK: %[[D:.*]] = tensor.dim %{{.*}}, %c1
// CHECK: tensor.expand_shape %[[C]] {{\[\[}}0, 1], [2], [3]] output_shape [2, 1, %[[D]], 16] : tensor<2x?x16xf32> into tensor<2x1x?x16xf32>
func.func @units(%x: tensor<2x?x16x1xf32>) -> tensor<2x1x?x16xf32> {
  %0 = pfcn.reshape %x : tensor<2x?x16x1xf32> to tensor<2x1x?x16xf32>
  return %0 : tensor<2x1x?x16xf32>
}

// The leading dimension is not carried over where the rest does not fit.
// CHECK-LABEL: func.func @inferred
// CHECK: %[[C:.*]] = tensor.collapse_shape %{{.*}} {{\[\[}}0, 1]] : tensor<?x6xf32> into tensor<?xf32>
// CHECK: %[[D:.*]] = tensor.dim %[[C]]
// CHECK: %[[THREE:.*]] = arith.constant 3 : index
// CHECK: %[[SIZE:.*]] = arith.divui %[[D]], %[[THREE]] : index
// CHECK: tensor.expand_shape %[[C]] {{\[\[}}0, 1]] output_shape [%[[SIZE]], 3]
func.func @inferred(%x: tensor<?x6xf32>) -> tensor<?x3xf32> {
  %0 = pfcn.reshape %x : tensor<?x6xf32> to tensor<?x3xf32>
  return %0 : tensor<?x3xf32>
}

// CHECK-LABEL: func.func @to_scalar
// CHECK: tensor.collapse_shape %{{.*}} [] : tensor<1x1xf32> into tensor<f32>
func.func @to_scalar(%x: tensor<1x1xf32>) -> tensor<f32> {
  %0 = pfcn.reshape %x : tensor<1x1xf32> to tensor<f32>
  return %0 : tensor<f32>
}

// CHECK-LABEL: func.func @unknown
// CHECK: pfcn.reshape
func.func @unknown(%x: tensor<?xf32>) -> tensor<4x2xf32> {
  %0 = pfcn.reshape %x : tensor<?xf32> to tensor<4x2xf32>
  return %0 : tensor<4x2xf32>
}

// CHECK-LABEL: func.func @no_elements
// CHECK: pfcn.reshape
// CHECK: pfcn.slice
func.func @no_elements(%x: tensor<0x4xf32>, %y: tensor<3xf32>) -> (tensor<2x0xf32>, tensor<0xf32>) {
  %0 = pfcn.reshape %x : tensor<0x4xf32> to tensor<2x0xf32>
  %1 = pfcn.slice %y dim 0 from 3 to 3 : tensor<3xf32> -> tensor<0xf32>
  return %0, %1 : tensor<2x0xf32>, tensor<0xf32>
}

// CHECK-LABEL: func.func @squeeze
// CHECK: tensor.collapse_shape %{{.*}} {{\[\[}}0, 1, 2], [3]] : tensor<1x?x1x5xf32> into tensor<?x5xf32>
func.func @squeeze(%x: tensor<1x?x1x5xf32>) -> tensor<?x5xf32> {
  %0 = pfcn.squeeze %x dims [0, 2] : tensor<1x?x1x5xf32> -> tensor<?x5xf32>
  return %0 : tensor<?x5xf32>
}

// CHECK-LABEL: func.func @unsqueeze
// CHECK: tensor.expand_shape %{{.*}} {{\[\[}}0], [1, 2]] output_shape [%{{.*}}, 5, 1] : tensor<?x5xf32> into tensor<?x5x1xf32>
func.func @unsqueeze(%x: tensor<?x5xf32>) -> tensor<?x5x1xf32> {
  %0 = pfcn.unsqueeze %x dim 2 : tensor<?x5xf32> -> tensor<?x5x1xf32>
  return %0 : tensor<?x5x1xf32>
}

// CHECK-LABEL: func.func @slice
// CHECK: tensor.extract_slice %{{.*}}[0, 1] [3, 2] [1, 4] : tensor<3x7xf32> to tensor<3x2xf32>
func.func @slice(%x: tensor<3x7xf32>) -> tensor<3x2xf32> {
  %0 = pfcn.slice %x dim 1 from 1 to 7 {step = 4 : i64} : tensor<3x7xf32> -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}

// CHECK-LABEL: func.func @slice_to_end
// CHECK: %[[D:.*]] = tensor.dim
// CHECK: %[[LENGTH:.*]] = arith.subi %[[D]], %{{.*}}
// CHECK: %[[SIZE:.*]] = arith.maxsi %[[LENGTH]], %{{.*}}
// CHECK: tensor.extract_slice %{{.*}}[2, 0] [%[[SIZE]], 7] [1, 1] : tensor<?x7xf32> to tensor<?x7xf32>
func.func @slice_to_end(%x: tensor<?x7xf32>) -> tensor<?x7xf32> {
  %0 = pfcn.slice %x dim 0 from 2 to 9223372036854775807 : tensor<?x7xf32> -> tensor<?x7xf32>
  return %0 : tensor<?x7xf32>
}

// CHECK-LABEL: func.func @select
// CHECK: tensor.extract_slice %{{.*}}[0, 2] [%{{.*}}, 1] [1, 1] : tensor<?x7xf32> to tensor<?xf32>
func.func @select(%x: tensor<?x7xf32>) -> tensor<?xf32> {
  %0 = pfcn.select %x dim 1 at 2 : tensor<?x7xf32> -> tensor<?xf32>
  return %0 : tensor<?xf32>
}

// CHECK-LABEL: func.func @cat
// CHECK: %[[D:.*]] = arith.addi
// CHECK: %[[E:.*]] = tensor.empty(%[[D]]) : tensor<?x3xf32>
// CHECK: %[[F:.*]] = tensor.insert_slice %{{.*}} into %[[E]][0, 0] [%[[A:.*]], 3] [1, 1]
// CHECK: tensor.insert_slice %{{.*}} into %[[F]][%{{.*}}, 0] [2, 3] [1, 1]
func.func @cat(%x: tensor<?x3xf32>, %y: tensor<2x3xf32>) -> tensor<?x3xf32> {
  %0 = pfcn.cat %x, %y dim 0 : (tensor<?x3xf32>, tensor<2x3xf32>) -> tensor<?x3xf32>
  return %0 : tensor<?x3xf32>
}

// CHECK-LABEL: func.func @stack
// CHECK: %[[E:.*]] = tensor.empty() : tensor<3x2x5xf32>
// CHECK: %[[F:.*]] = tensor.insert_slice %{{.*}} into %[[E]][0, 0, 0] [3, 1, 5] [1, 1, 1] : tensor<3x5xf32> into tensor<3x2x5xf32>
// CHECK: tensor.insert_slice %{{.*}} into %[[F]][0, 1, 0] [3, 1, 5] [1, 1, 1]
func.func @stack(%x: tensor<3x5xf32>, %y: tensor<3x5xf32>) -> tensor<3x2x5xf32> {
  %0 = pfcn.stack %x, %y dim 1 : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x2x5xf32>
  return %0 : tensor<3x2x5xf32>
}

// -----

// CHECK-DAG: #[[IN:.*]] = affine_map<(d0, d1, d2) -> (d1, d2, d0)>
// CHECK-DAG: #[[OUT:.*]] = affine_map<(d0, d1, d2) -> (d0, d1, d2)>
// CHECK-LABEL: func.func @permute
// CHECK: linalg.generic {indexing_maps = [#[[IN]], #[[OUT]]], iterator_types = ["parallel", "parallel", "parallel"]}
// CHECK: ^bb0(%[[X:.*]]: f32, %{{.*}}: f32):
// CHECK-NEXT: linalg.yield %[[X]]
func.func @permute(%x: tensor<2x3x5xf32>) -> tensor<5x2x3xf32> {
  %0 = pfcn.permute %x dims [2, 0, 1] : tensor<2x3x5xf32> -> tensor<5x2x3xf32>
  return %0 : tensor<5x2x3xf32>
}

// -----

// CHECK-DAG: #[[IN:.*]] = affine_map<(d0, d1, d2) -> (d1)>
// CHECK-LABEL: func.func @broadcast
// CHECK: %[[C:.*]] = tensor.collapse_shape %{{.*}} {{\[\[}}0, 1]] : tensor<?x1xf32> into tensor<?xf32>
// CHECK: linalg.generic {indexing_maps = [#[[IN]], #{{.*}}]
func.func @broadcast(%x: tensor<?x1xf32>) -> tensor<2x?x5xf32> {
  %0 = pfcn.expand %x : tensor<?x1xf32> to tensor<2x?x5xf32>
  return %0 : tensor<2x?x5xf32>
}
