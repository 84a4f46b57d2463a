// RUN: pfcn-opt %s | FileCheck %s
// The shape rules, static and dynamic: an op whose written result differs from what the rule
// infers does not verify, so each line below is a case that must hold.

// CHECK-LABEL: func.func @broadcast
func.func @broadcast(%a: tensor<3x5xf32>, %b: tensor<5xf32>, %c: tensor<?x5xf32>, %d: tensor<?x1xf32>,
                     %e: tensor<2x1x1xf32>, %f: tensor<f32>, %g: tensor<?x?xf32>, %h: tensor<1x1xf32>) {
  %0 = pfcn.add %a, %b : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  %1 = pfcn.add %e, %a : tensor<2x1x1xf32>, tensor<3x5xf32> -> tensor<2x3x5xf32>
  %2 = pfcn.add %a, %f : tensor<3x5xf32>, tensor<f32> -> tensor<3x5xf32>
  %3 = pfcn.add %c, %b : tensor<?x5xf32>, tensor<5xf32> -> tensor<?x5xf32>
  // A static size is taken over from the other side.
  %4 = pfcn.add %c, %a : tensor<?x5xf32>, tensor<3x5xf32> -> tensor<3x5xf32>
  %5 = pfcn.add %c, %d : tensor<?x5xf32>, tensor<?x1xf32> -> tensor<?x5xf32>
  %6 = pfcn.add %d, %h : tensor<?x1xf32>, tensor<1x1xf32> -> tensor<?x1xf32>
  %7 = pfcn.add %g, %d : tensor<?x?xf32>, tensor<?x1xf32> -> tensor<?x?xf32>
  // CHECK: pfcn.compare lt {{.*}} -> tensor<2x3x5xi1>
  %8 = pfcn.compare lt %e, %a : tensor<2x1x1xf32>, tensor<3x5xf32> -> tensor<2x3x5xi1>
  %9 = pfcn.where %8, %b, %f : tensor<2x3x5xi1>, tensor<5xf32>, tensor<f32> -> tensor<2x3x5xf32>
  return
}

// CHECK-LABEL: func.func @contractions
func.func @contractions(%x: tensor<2x?x7xf32>, %w: tensor<5x7xf32>, %b: tensor<5xf32>, %v: tensor<7xf32>,
                        %y: tensor<7x5xf32>, %z: tensor<4x1x7x?xf32>, %t: tensor<9x5x7xf32>, %m: tensor<3x7xf32>,
                        %k: tensor<3x?xf32>) {
  %0 = pfcn.linear %x, %w, %b : tensor<2x?x7xf32>, tensor<5x7xf32>, tensor<5xf32> -> tensor<2x?x5xf32>
  %1 = pfcn.linear %v, %w : tensor<7xf32>, tensor<5x7xf32> -> tensor<5xf32>
  %2 = pfcn.linear %k, %w : tensor<3x?xf32>, tensor<5x7xf32> -> tensor<3x5xf32>
  %3 = pfcn.matmul %x, %y : tensor<2x?x7xf32>, tensor<7x5xf32> -> tensor<2x?x5xf32>
  %4 = pfcn.matmul %x, %z : tensor<2x?x7xf32>, tensor<4x1x7x?xf32> -> tensor<4x2x?x?xf32>
  // CHECK: pfcn.batch_matmul %{{.*}}, %{{.*}} {transpose_rhs} : tensor<3x7xf32>, tensor<9x5x7xf32> -> tensor<9x3x5xf32>
  %5 = pfcn.batch_matmul %m, %t {transpose_rhs} : tensor<3x7xf32>, tensor<9x5x7xf32> -> tensor<9x3x5xf32>
  %6 = pfcn.addmm %b, %m, %y : tensor<5xf32>, tensor<3x7xf32>, tensor<7x5xf32> -> tensor<3x5xf32>
  return
}

// CHECK-LABEL: func.func @reductions
func.func @reductions(%x: tensor<2x?x7xf32>, %w: tensor<7xf32>, %v: tensor<2x1x7xf32>) {
  %0 = pfcn.sum %x dims [1] : tensor<2x?x7xf32> -> tensor<2x7xf32>
  %1 = pfcn.mean %x dims [2, 0] : tensor<2x?x7xf32> -> tensor<?xf32>
  // CHECK: pfcn.amax %{{.*}} dims [0, 1] {keepdim = true} : tensor<2x?x7xf32> -> tensor<1x1x7xf32>
  %2 = pfcn.amax %x dims [0, 1] {keepdim = true} : tensor<2x?x7xf32> -> tensor<1x1x7xf32>
  %3 = pfcn.prod %x dims [0, 1, 2] : tensor<2x?x7xf32> -> tensor<f32>
  %4 = pfcn.softmax %x dim 1 : tensor<2x?x7xf32>
  %5 = pfcn.layer_norm %x weight %v : tensor<2x1x7xf32> bias %w : tensor<7xf32> {normalized_rank = 1 : i64, eps = 1.0e-5 : f64} : tensor<2x?x7xf32>
  return
}

// CHECK-LABEL: func.func @views
func.func @views(%x: tensor<2x?x6xf32>, %y: tensor<1x?x1xf32>, %z: tensor<2x3xf32>) {
  %0 = pfcn.reshape %x : tensor<2x?x6xf32> to tensor<2x?x3x2xf32>
  %1 = pfcn.reshape %x : tensor<2x?x6xf32> to tensor<?xf32>
  %2 = pfcn.permute %x dims [2, 0, 1] : tensor<2x?x6xf32> -> tensor<6x2x?xf32>
  %3 = pfcn.slice %x dim 2 from 1 to 6 {step = 2 : i64} : tensor<2x?x6xf32> -> tensor<2x?x3xf32>
  %4 = pfcn.slice %x dim 2 from 1 to 9223372036854775807 : tensor<2x?x6xf32> -> tensor<2x?x5xf32>
  // The end of a dynamic dimension is dynamic; a known end is not.
  %5 = pfcn.slice %x dim 1 from 1 to 9223372036854775807 : tensor<2x?x6xf32> -> tensor<2x?x6xf32>
  // CHECK: pfcn.slice %{{.*}} dim 1 from 1 to 4 : tensor<2x?x6xf32> -> tensor<2x3x6xf32>
  %6 = pfcn.slice %x dim 1 from 1 to 4 : tensor<2x?x6xf32> -> tensor<2x3x6xf32>
  %7 = pfcn.slice %z dim 1 from 3 to 3 : tensor<2x3xf32> -> tensor<2x0xf32>
  %8 = pfcn.select %x dim 1 at 5 : tensor<2x?x6xf32> -> tensor<2x6xf32>
  %9 = pfcn.unsqueeze %x dim 3 : tensor<2x?x6xf32> -> tensor<2x?x6x1xf32>
  %10 = pfcn.squeeze %y dims [2, 0] : tensor<1x?x1xf32> -> tensor<?xf32>
  %11 = pfcn.expand %y : tensor<1x?x1xf32> to tensor<4x3x?x5xf32>
  return
}

// CHECK-LABEL: func.func @joins
func.func @joins(%x: tensor<2x3xf32>, %y: tensor<?x3xf32>, %z: tensor<2x?xf32>) {
  %0 = pfcn.cat %x, %x, %x dim 0 : (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<6x3xf32>
  %1 = pfcn.cat %x, %y dim 0 : (tensor<2x3xf32>, tensor<?x3xf32>) -> tensor<?x3xf32>
  // CHECK: pfcn.cat %{{.*}}, %{{.*}} dim 1 : (tensor<?x3xf32>, tensor<2x3xf32>) -> tensor<2x6xf32>
  %2 = pfcn.cat %y, %x dim 1 : (tensor<?x3xf32>, tensor<2x3xf32>) -> tensor<2x6xf32>
  %3 = pfcn.cat %x, %z dim 1 : (tensor<2x3xf32>, tensor<2x?xf32>) -> tensor<2x?xf32>
  %4 = pfcn.stack %y, %y dim 2 : (tensor<?x3xf32>, tensor<?x3xf32>) -> tensor<?x3x2xf32>
  return
}
