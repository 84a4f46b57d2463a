// RUN: pfcn-opt %s --verify-roundtrip | FileCheck %s
// Sizes follow torch's formulas; a leading instance dimension of any operand is the result's.

// CHECK-LABEL: func.func @conv
func.func @conv(%x: tensor<2x3x9xf32>, %w: tensor<4x3x2xf32>, %b: tensor<4xf32>, %ws: tensor<5x4x3x2xf32>) {
  // CHECK: pfcn.conv %{{.*}}, %{{.*}}, %{{.*}} {dilation = array<i64: 1>, padding = array<i64: 1>, stride = array<i64: 2>} : {{.*}} -> tensor<2x4x5xf32>
  %0 = pfcn.conv %x, %w, %b {stride = array<i64: 2>, padding = array<i64: 1>, dilation = array<i64: 1>}
    : tensor<2x3x9xf32>, tensor<4x3x2xf32>, tensor<4xf32> -> tensor<2x4x5xf32>
  // CHECK: -> tensor<5x2x4x8xf32>
  %1 = pfcn.conv %x, %ws {stride = array<i64: 1>, padding = array<i64: 0>, dilation = array<i64: 1>}
    : tensor<2x3x9xf32>, tensor<5x4x3x2xf32> -> tensor<5x2x4x8xf32>
  return
}

// CHECK-LABEL: func.func @pool
func.func @pool(%x: tensor<?x3x7xf32>) {
  // CHECK: pfcn.max_pool {{.*}} -> tensor<?x3x4xf32>
  %0 = pfcn.max_pool %x {kernel = array<i64: 2>, stride = array<i64: 2>, padding = array<i64: 0>, dilation = array<i64: 1>, ceil_mode = true}
    : tensor<?x3x7xf32> -> tensor<?x3x4xf32>
  // CHECK: pfcn.avg_pool {{.*}} -> tensor<?x3x3xf32>
  %1 = pfcn.avg_pool %x {kernel = array<i64: 2>, stride = array<i64: 2>, padding = array<i64: 0>}
    : tensor<?x3x7xf32> -> tensor<?x3x3xf32>
  // CHECK: pfcn.pad %{{.*}} low [1] high [2] : tensor<?x3x7xf32> -> tensor<?x3x10xf32>
  %2 = pfcn.pad %x low [1] high [2] : tensor<?x3x7xf32> -> tensor<?x3x10xf32>
  // CHECK: pfcn.flip %{{.*}} dims [1, 2] : tensor<?x3x7xf32>
  %3 = pfcn.flip %x dims [1, 2] : tensor<?x3x7xf32>
  return
}

// CHECK-LABEL: func.func @batch_norm
func.func @batch_norm(%x: tensor<2x3x4xf32>, %m: tensor<3xf32>) {
  // CHECK: pfcn.batch_norm %{{.*}}, %{{.*}}, %{{.*}} weight %{{.*}} : tensor<3xf32> {channel = 1 : i64, eps = 1.000000e-05 : f64} : tensor<2x3x4xf32>, tensor<3xf32>, tensor<3xf32>
  %0 = pfcn.batch_norm %x, %m, %m weight %m : tensor<3xf32> {channel = 1 : i64, eps = 1.0e-5 : f64} : tensor<2x3x4xf32>, tensor<3xf32>, tensor<3xf32>
  return
}

// CHECK-LABEL: func.func @composed
func.func @composed(%x: tensor<4xf32>) -> tensor<4xf32> {
  // CHECK: pfcn.composed "aten::frac"(%{{.*}}) [#pfcn.operand<0>] : (tensor<4xf32>) -> tensor<4xf32> {
  // CHECK: pfcn.yield
  %y = pfcn.composed "aten::frac"(%x) [#pfcn.operand<0>] : (tensor<4xf32>) -> tensor<4xf32> {
  ^bb0(%a: tensor<4xf32>):
    %0 = pfcn.trunc %a : tensor<4xf32>
    %1 = pfcn.sub %a, %0 : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    pfcn.yield %1 : tensor<4xf32>
  }
  return %y : tensor<4xf32>
}
