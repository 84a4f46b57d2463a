// RUN: pfcn-opt %s --convert-pfcn-to-linalg | FileCheck %s
// RUN: pfcn-opt %s --convert-pfcn-to-linalg --convert-pfcn-to-linalg | FileCheck %s
// A kernel keeps its shell; only its body changes, and ops outside kernels stay.

// CHECK: #[[X:.+]] = affine_map<(d0, d1, d2, d3) -> (d0, d1, d3)>
// CHECK: #[[W:.+]] = affine_map<(d0, d1, d2, d3) -> (d0, d2, d3)>
// CHECK: #[[Y:.+]] = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2)>
// CHECK: #[[ID:.+]] = affine_map<(d0, d1, d2) -> (d0, d1, d2)>
// CHECK: #[[BIAS:.+]] = affine_map<(d0, d1, d2) -> (d0, d2)>

// CHECK-LABEL: func.func @layer
func.func @layer(%x: tensor<?x40xf32>, %w: tensor<2x10x20xf32>, %b: tensor<2x10xf32>, %init: tensor<?x20xf32>) -> tensor<?x20xf32> {
  // CHECK: pfcn.kernel "layer" count 2
  // CHECK-SAME: [#pfcn.access<slice dim 1 size 20 stride 20>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
  %y = pfcn.kernel "layer" count 2 ins(%x, %w, %b : tensor<?x40xf32>, tensor<2x10x20xf32>, tensor<2x10xf32>)
      [#pfcn.access<slice dim 1 size 20 stride 20>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>]
      outs(%init : tensor<?x20xf32>) [#pfcn.access<slice dim 1 size 10 stride 10>] {
  // CHECK: ^bb0(%[[A:.*]]: tensor<2x?x20xf32>, %[[V:.*]]: tensor<2x10x20xf32>, %[[C:.*]]: tensor<2x10xf32>)
  ^bb0(%a: tensor<2x?x20xf32>, %v: tensor<2x10x20xf32>, %c: tensor<2x10xf32>):
    // CHECK: %[[ROWS:.*]] = tensor.dim %[[A]], %{{.*}}
    // CHECK: %[[EMPTY:.*]] = tensor.empty(%[[ROWS]]) : tensor<2x?x10xf32>
    // CHECK: %[[FILL:.*]] = linalg.fill ins(%{{.*}} : f32) outs(%[[EMPTY]]
    // CHECK: %[[PRODUCT:.*]] = linalg.generic {indexing_maps = [#[[X]], #[[W]], #[[Y]]], iterator_types = ["parallel", "parallel", "parallel", "reduction"]} ins(%[[A]], %[[V]]
    // CHECK: arith.mulf %{{.*}}, %{{.*}} fastmath<contract>
    // CHECK: arith.addf %{{.*}}, %{{.*}} fastmath<reassoc,nsz,contract>
    %0 = pfcn.batch_matmul %a, %v {transpose_rhs} : tensor<2x?x20xf32>, tensor<2x10x20xf32> -> tensor<2x?x10xf32>
    // The unsqueeze and the collapse of the broadcast dimension cancel.
    // CHECK-NOT: expand_shape
    // CHECK-NOT: collapse_shape
    // Sizes come from the arguments: an intermediate that is needed for its size alone could not be fused away.
    // CHECK: tensor.empty(%[[ROWS]]) : tensor<2x?x10xf32>
    // CHECK: linalg.generic {indexing_maps = [#[[ID]], #[[BIAS]], #[[ID]]], iterator_types = ["parallel", "parallel", "parallel"]} ins(%[[PRODUCT]], %[[C]]
    // CHECK: arith.addf %{{[^ ]*}}, %{{[^ ]*}} : f32
    %1 = pfcn.unsqueeze %c dim 1 : tensor<2x10xf32> -> tensor<2x1x10xf32>
    %2 = pfcn.add %0, %1 : tensor<2x?x10xf32>, tensor<2x1x10xf32> -> tensor<2x?x10xf32>
    // CHECK: linalg.generic
    // CHECK: %[[ZERO:.*]] = arith.constant 0.0
    // CHECK: arith.maximumf %{{.*}}, %[[ZERO]]
    %3 = pfcn.relu %2 : tensor<2x?x10xf32>
    // CHECK: pfcn.yield %{{.*}} : tensor<2x?x10xf32>
    pfcn.yield %3 : tensor<2x?x10xf32>
  // CHECK: } -> tensor<?x20xf32>
  } -> tensor<?x20xf32>
  // CHECK: pfcn.neg
  %z = pfcn.neg %y : tensor<?x20xf32>
  return %z : tensor<?x20xf32>
}
