// RUN: pfcn-opt %s --split-input-file --pfcn-pad-instances --remarks-filter='pfcn.*' --remark-format=emitRemark 2>&1 | FileCheck %s

// Rule P4: padding two weights of 3 columns to 4000 is slower than a second group.
// CHECK: they sum 4000 terms and 3, and padding is estimated to be slower
// CHECK-LABEL: func.func @wide
// CHECK-NOT: pfcn.gather_instances
func.func @wide(%x: tensor<4x8006xf32>) -> tensor<4x64xf32> {
  %a = pfcn.parameter "a" : tensor<16x3xf32>
  %b = pfcn.parameter "b" : tensor<16x3xf32>
  %c = pfcn.parameter "c" : tensor<16x4000xf32>
  %d = pfcn.parameter "d" : tensor<16x4000xf32>
  %x0 = pfcn.slice %x dim 1 from 0 to 3 : tensor<4x8006xf32> -> tensor<4x3xf32>
  %x1 = pfcn.slice %x dim 1 from 3 to 6 : tensor<4x8006xf32> -> tensor<4x3xf32>
  %x2 = pfcn.slice %x dim 1 from 6 to 4006 : tensor<4x8006xf32> -> tensor<4x4000xf32>
  %x3 = pfcn.slice %x dim 1 from 4006 to 8006 : tensor<4x8006xf32> -> tensor<4x4000xf32>
  %y0 = pfcn.linear %x0, %a : tensor<4x3xf32>, tensor<16x3xf32> -> tensor<4x16xf32>
  %y1 = pfcn.linear %x1, %b : tensor<4x3xf32>, tensor<16x3xf32> -> tensor<4x16xf32>
  %y2 = pfcn.linear %x2, %c : tensor<4x4000xf32>, tensor<16x4000xf32> -> tensor<4x16xf32>
  %y3 = pfcn.linear %x3, %d : tensor<4x4000xf32>, tensor<16x4000xf32> -> tensor<4x16xf32>
  %y = pfcn.cat %y0, %y1, %y2, %y3 dim 1 : (tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<4x64xf32>
  return %y : tensor<4x64xf32>
}

// -----

// What follows differs, so they would be no group: nothing is padded.
// CHECK-LABEL: func.func @tails
// CHECK-NOT: pfcn.gather_instances
func.func @tails(%x: tensor<4x8xf32>) -> tensor<4x32xf32> {
  %a = pfcn.parameter "a" : tensor<16x3xf32>
  %b = pfcn.parameter "b" : tensor<16x5xf32>
  %x0 = pfcn.slice %x dim 1 from 0 to 3 : tensor<4x8xf32> -> tensor<4x3xf32>
  %x1 = pfcn.slice %x dim 1 from 3 to 8 : tensor<4x8xf32> -> tensor<4x5xf32>
  %y0 = pfcn.linear %x0, %a : tensor<4x3xf32>, tensor<16x3xf32> -> tensor<4x16xf32>
  %y1 = pfcn.linear %x1, %b : tensor<4x5xf32>, tensor<16x5xf32> -> tensor<4x16xf32>
  %z0 = pfcn.relu %y0 : tensor<4x16xf32>
  %z1 = pfcn.tanh %y1 : tensor<4x16xf32>
  %z = pfcn.cat %z0, %z1 dim 1 : (tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<4x32xf32>
  return %z : tensor<4x32xf32>
}

// -----

// Rule P1: a dimension that a softmax sees stays as it is. Only the product behind it is padded, on copies.
// CHECK-LABEL: func.func @softmax
// CHECK: pfcn.softmax %{{.*}} : tensor<4x3xf32>
// CHECK: pfcn.softmax %{{.*}} : tensor<4x5xf32>
func.func @softmax(%x: tensor<4x8xf32>) -> tensor<4x32xf32> {
  %a = pfcn.parameter "a" : tensor<16x3xf32>
  %b = pfcn.parameter "b" : tensor<16x5xf32>
  %x0 = pfcn.slice %x dim 1 from 0 to 3 : tensor<4x8xf32> -> tensor<4x3xf32>
  %x1 = pfcn.slice %x dim 1 from 3 to 8 : tensor<4x8xf32> -> tensor<4x5xf32>
  %s0 = pfcn.softmax %x0 dim 1 : tensor<4x3xf32>
  %s1 = pfcn.softmax %x1 dim 1 : tensor<4x5xf32>
  %y0 = pfcn.linear %s0, %a : tensor<4x3xf32>, tensor<16x3xf32> -> tensor<4x16xf32>
  %y1 = pfcn.linear %s1, %b : tensor<4x5xf32>, tensor<16x5xf32> -> tensor<4x16xf32>
  %z = pfcn.cat %y0, %y1 dim 1 : (tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<4x32xf32>
  return %z : tensor<4x32xf32>
}
