// RUN: pfcn-opt %s --convert-pfcn-to-linalg=everywhere=true --split-input-file | FileCheck %s
// A reduction combines what it reads with the accumulator, and nothing else.

// CHECK-DAG: #[[IN:.*]] = affine_map<(d0, d1, d2) -> (d2, d0, d1)>
// CHECK-DAG: #[[OUT:.*]] = affine_map<(d0, d1, d2) -> (d0, d1)>
// CHECK-LABEL: func.func @sum
func.func @sum(%x: tensor<3x5x7xf32>) -> tensor<5x7xf32> {
  // CHECK: linalg.fill ins(%{{.*}} : f32) outs(%{{.*}} : tensor<5x7xf32>)
  // CHECK: linalg.generic {indexing_maps = [#[[IN]], #[[OUT]]], iterator_types = ["parallel", "parallel", "reduction"]}
  // CHECK: arith.addf %{{.*}}, %{{.*}} fastmath<reassoc,contract> : f32
  %0 = pfcn.sum %x dims [0] : tensor<3x5x7xf32> -> tensor<5x7xf32>
  return %0 : tensor<5x7xf32>
}

// -----

// CHECK-LABEL: func.func @keepdim
func.func @keepdim(%x: tensor<?x5x7xf32>) -> tensor<?x1x1xf32> {
  // CHECK: %[[SUM:.*]] = linalg.generic {{.*}} iterator_types = ["parallel", "reduction", "reduction"]
  // CHECK: tensor.expand_shape %[[SUM]] {{\[\[}}0, 1, 2]] output_shape [%{{.*}}, 1, 1] : tensor<?xf32> into tensor<?x1x1xf32>
  %0 = pfcn.sum %x dims [1, 2] {keepdim = true} : tensor<?x5x7xf32> -> tensor<?x1x1xf32>
  return %0 : tensor<?x1x1xf32>
}

// -----

// CHECK-LABEL: func.func @amax
// CHECK: arith.constant 0xFF800000 : f32
// CHECK: arith.maximumf
func.func @amax(%x: tensor<3x5xf32>) -> tensor<3xf32> {
  %0 = pfcn.amax %x dims [1] : tensor<3x5xf32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @amin
// CHECK: arith.constant 0x7C00 : f16
// CHECK-NOT: extf
// CHECK: arith.minimumf
func.func @amin(%x: tensor<3x5xf16>) -> tensor<3xf16> {
  %0 = pfcn.amin %x dims [1] : tensor<3x5xf16> -> tensor<3xf16>
  return %0 : tensor<3xf16>
}

// CHECK-LABEL: func.func @amax_i32
// CHECK: arith.constant -2147483648 : i32
// CHECK: arith.maxsi
func.func @amax_i32(%x: tensor<3x5xi32>) -> tensor<3xi32> {
  %0 = pfcn.amax %x dims [1] : tensor<3x5xi32> -> tensor<3xi32>
  return %0 : tensor<3xi32>
}

// CHECK-LABEL: func.func @prod
// CHECK: arith.constant 1.0
// CHECK: arith.mulf %{{.*}}, %{{.*}} fastmath<reassoc,contract> : f32
func.func @prod(%x: tensor<3x5xf32>) -> tensor<3xf32> {
  %0 = pfcn.prod %x dims [1] : tensor<3x5xf32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// -----

// The number of elements is read where it is dynamic.
// CHECK-LABEL: func.func @mean
// CHECK-SAME: %[[X:.*]]: tensor<3x?x4xbf16>
func.func @mean(%x: tensor<3x?x4xbf16>) -> tensor<3xbf16> {
  // CHECK: arith.extf %{{.*}} : bf16 to f32
  // CHECK: arith.addf %{{.*}}, %{{.*}} fastmath<reassoc,contract> : f32
  // CHECK: %[[SIZE:.*]] = tensor.dim %[[X]], %{{.*}}
  // CHECK: %[[COUNT:.*]] = arith.muli %[[SIZE]], %{{.*}} : index
  // CHECK: %[[I64:.*]] = arith.index_cast %[[COUNT]] : index to i64
  // CHECK: %[[F32:.*]] = arith.sitofp %[[I64]] : i64 to f32
  // CHECK: arith.divf %{{.*}}, %[[F32]] : f32
  // CHECK: arith.truncf
  %0 = pfcn.mean %x dims [1, 2] : tensor<3x?x4xbf16> -> tensor<3xbf16>
  return %0 : tensor<3xbf16>
}

// -----

// CHECK-LABEL: func.func @softmax
// CHECK: linalg.generic {{.*}} iterator_types = ["parallel", "reduction"]
// CHECK: arith.maximumf
// CHECK: linalg.generic
// CHECK: arith.subf
// CHECK: math.exp
// CHECK: linalg.generic {{.*}} iterator_types = ["parallel", "reduction"]
// CHECK: arith.addf
// CHECK: linalg.generic
// CHECK: arith.divf
// CHECK-NOT: linalg.generic
// CHECK: return
func.func @softmax(%x: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = pfcn.softmax %x dim 1 : tensor<3x5xf32>
  return %0 : tensor<3x5xf32>
}

// CHECK-LABEL: func.func @log_softmax
// CHECK: arith.maximumf
// CHECK: math.exp
// CHECK: arith.addf
// CHECK: math.log
// CHECK: arith.subf
// CHECK: arith.subf
// CHECK-NOT: linalg.generic
// CHECK: return
func.func @log_softmax(%x: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = pfcn.log_softmax %x dim 0 : tensor<3x5xf32>
  return %0 : tensor<3x5xf32>
}

// -----

// Two passes: the variance is that of x - mean. Everything between is f32.
// CHECK-LABEL: func.func @layer_norm
// CHECK-SAME: %{{.*}}: tensor<4x3x7xf16>, %[[W:.*]]: tensor<4x1x7xf16>, %[[B:.*]]: tensor<7xf16>
func.func @layer_norm(%x: tensor<4x3x7xf16>, %w: tensor<4x1x7xf16>, %b: tensor<7xf16>) -> tensor<4x3x7xf16> {
  // CHECK: arith.addf
  // CHECK: arith.divf
  // CHECK: %[[CENTERED:.*]] = linalg.generic
  // CHECK: arith.subf
  // CHECK: linalg.yield %{{.*}} : f32
  // CHECK: linalg.generic {{.*}} ins(%[[CENTERED]] : tensor<4x3x7xf32>)
  // CHECK: arith.mulf %[[C:.*]], %[[C]] : f32
  // CHECK: arith.addf
  // CHECK: %[[SCALE:.*]] = linalg.generic
  // CHECK: arith.divf
  // CHECK: arith.addf
  // CHECK: %[[ROOT:.*]] = math.sqrt
  // CHECK: arith.divf %{{.*}}, %[[ROOT]]
  // CHECK: %[[W1:.*]] = tensor.collapse_shape %[[W]] {{\[\[}}0, 1], [2]]
  // CHECK: linalg.generic {{.*}} ins(%[[CENTERED]], %[[SCALE]], %[[W1]], %[[B]]
  // CHECK: arith.mulf
  // CHECK: arith.mulf
  // CHECK: arith.addf
  // CHECK: arith.truncf %{{.*}} : f32 to f16
  %0 = pfcn.layer_norm %x weight %w : tensor<4x1x7xf16> bias %b : tensor<7xf16> {normalized_rank = 1 : i64, eps = 1.0e-5 : f64} : tensor<4x3x7xf16>
  return %0 : tensor<4x3x7xf16>
}

// -----

// Left as they are: torch computes these in another element type.
// CHECK-LABEL: func.func @declined
func.func @declined(%x: tensor<3x5xi64>, %y: tensor<3x5xi1>) -> (tensor<3xi64>, tensor<3xi1>) {
  // CHECK: pfcn.mean
  // CHECK: pfcn.sum
  %0 = pfcn.mean %x dims [1] : tensor<3x5xi64> -> tensor<3xi64>
  %1 = pfcn.sum %y dims [1] : tensor<3x5xi1> -> tensor<3xi1>
  return %0, %1 : tensor<3xi64>, tensor<3xi1>
}
