// RUN: pfcn-opt %s --canonicalize | FileCheck %s
// Ops that do nothing go; those that look alike but may do something stay.

// CHECK-LABEL: func.func @identities
// CHECK-SAME: %[[X:.*]]: tensor<2x3xf32>
// CHECK-NEXT: return %[[X]], %[[X]], %[[X]], %[[X]], %[[X]], %[[X]]
func.func @identities(%x: tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>,
                                               tensor<2x3xf32>, tensor<2x3xf32>) {
  %0 = pfcn.cast %x : tensor<2x3xf32> to tensor<2x3xf32>
  %1 = pfcn.reshape %x : tensor<2x3xf32> to tensor<2x3xf32>
  %2 = pfcn.expand %x : tensor<2x3xf32> to tensor<2x3xf32>
  %3 = pfcn.permute %x dims [0, 1] : tensor<2x3xf32> -> tensor<2x3xf32>
  %4 = pfcn.slice %x dim 1 from 0 to 3 : tensor<2x3xf32> -> tensor<2x3xf32>
  %5 = pfcn.cat %x dim 1 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return %0, %1, %2, %3, %4, %5 : tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>
}

// CHECK-LABEL: func.func @whole_dynamic_slice
// CHECK-SAME: %[[X:.*]]: tensor<?x3xf32>
// CHECK-NEXT: return %[[X]]
func.func @whole_dynamic_slice(%x: tensor<?x3xf32>) -> tensor<?x3xf32> {
  %0 = pfcn.slice %x dim 0 from 0 to 9223372036854775807 : tensor<?x3xf32> -> tensor<?x3xf32>
  return %0 : tensor<?x3xf32>
}

// CHECK-LABEL: func.func @kept
func.func @kept(%x: tensor<3x3xf32>, %y: tensor<?x?xf32>, %z: tensor<?xf32>) -> (tensor<3x3xf32>, tensor<?x?xf32>, tensor<?xf32>, tensor<3x3xf64>, tensor<?xf32>) {
  // CHECK: pfcn.permute %{{.*}} dims [1, 0]
  %0 = pfcn.permute %x dims [1, 0] : tensor<3x3xf32> -> tensor<3x3xf32>
  // Dynamic sizes that are written alike may differ at run time.
  // CHECK: pfcn.reshape
  %1 = pfcn.reshape %y : tensor<?x?xf32> to tensor<?x?xf32>
  // CHECK: pfcn.expand
  %2 = pfcn.expand %z : tensor<?xf32> to tensor<?xf32>
  // CHECK: pfcn.cast
  %3 = pfcn.cast %x : tensor<3x3xf32> to tensor<3x3xf64>
  // CHECK: pfcn.slice
  %4 = pfcn.slice %z dim 0 from 1 to 9223372036854775807 : tensor<?xf32> -> tensor<?xf32>
  return %0, %1, %2, %3, %4 : tensor<3x3xf32>, tensor<?x?xf32>, tensor<?xf32>, tensor<3x3xf64>, tensor<?xf32>
}

// Equal constants become one, and unused ops go, foreign ones with an effect excepted.
// CHECK-LABEL: func.func @constants
func.func @constants(%x: tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>) {
  // CHECK: %[[C:.*]] = pfcn.constant dense<2.0{{.*}}> : tensor<f32>
  // CHECK-NOT: pfcn.constant
  // CHECK-NOT: pfcn.relu
  // CHECK: pfcn.opaque "aten::bernoulli"
  // CHECK-NOT: pfcn.opaque "aten::cumsum"
  %0 = pfcn.constant dense<2.0> : tensor<f32>
  %1 = pfcn.constant dense<2.0> : tensor<f32>
  %2 = pfcn.relu %x : tensor<2xf32>
  %3 = pfcn.opaque "aten::bernoulli"(%x) [#pfcn.operand<0>] effect : (tensor<2xf32>) -> tensor<2xf32>
  %4 = pfcn.opaque "aten::cumsum"(%x) [#pfcn.operand<0>, 0] : (tensor<2xf32>) -> tensor<2xf32>
  // CHECK: pfcn.mul %{{.*}}, %[[C]]
  %5 = pfcn.mul %x, %0 : tensor<2xf32>, tensor<f32> -> tensor<2xf32>
  // CHECK: pfcn.mul %{{.*}}, %[[C]]
  %6 = pfcn.mul %5, %1 : tensor<2xf32>, tensor<f32> -> tensor<2xf32>
  return %5, %6 : tensor<2xf32>, tensor<2xf32>
}
