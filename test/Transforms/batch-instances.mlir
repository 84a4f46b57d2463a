// RUN: pfcn-opt %s --pfcn-batch-instances | FileCheck %s
// What each op becomes; the numbers are checked in fuzz-groups.test.

// CHECK-LABEL: func.func @pointwise(
// CHECK: pfcn.kernel "g" count 3
// CHECK: pfcn.relu %{{.*}} : tensor<3x2x4xf32>
// CHECK: %[[B:.*]] = pfcn.unsqueeze %{{.*}} dim 1 : tensor<3x4xf32> -> tensor<3x1x4xf32>
// CHECK: pfcn.add %{{.*}}, %[[B]] : tensor<3x2x4xf32>, tensor<3x1x4xf32> -> tensor<3x2x4xf32>
// CHECK: pfcn.mul %{{.*}}, %{{.*}} : tensor<3x2x4xf32>, tensor<4xf32> -> tensor<3x2x4xf32>
func.func @pointwise(%x0: tensor<3x2x4xf32>, %x1: tensor<3x4xf32>, %x2: tensor<4xf32>) -> tensor<3x2x4xf32> {
  %init = pfcn.empty : tensor<3x2x4xf32>
  %y = pfcn.instances "g" count 3 ins(%x0, %x1, %x2 : tensor<3x2x4xf32>, tensor<3x4xf32>, tensor<4xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<shared>] outs(%init : tensor<3x2x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<2x4xf32>, %a1: tensor<4xf32>, %a2: tensor<4xf32>):
    %0 = pfcn.relu %a0 : tensor<2x4xf32>
    %1 = pfcn.add %0, %a1 : tensor<2x4xf32>, tensor<4xf32> -> tensor<2x4xf32>
    %r = pfcn.mul %1, %a2 : tensor<2x4xf32>, tensor<4xf32> -> tensor<2x4xf32>
    pfcn.yield %r : tensor<2x4xf32>
  } -> tensor<3x2x4xf32>
  return %y : tensor<3x2x4xf32>
}

// CHECK-LABEL: func.func @choice(
// CHECK: pfcn.kernel "g" count 3
// CHECK: pfcn.compare lt %{{.*}} : tensor<3x2x4xf32>, tensor<2x1xf32> -> tensor<3x2x4xi1>
// CHECK: pfcn.where %{{.*}} : tensor<3x2x4xi1>, tensor<3x2x4xf32>, tensor<2x1xf32> -> tensor<3x2x4xf32>
func.func @choice(%x0: tensor<3x2x4xf32>, %x1: tensor<2x1xf32>) -> tensor<3x2x4xf32> {
  %init = pfcn.empty : tensor<3x2x4xf32>
  %y = pfcn.instances "g" count 3 ins(%x0, %x1 : tensor<3x2x4xf32>, tensor<2x1xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<shared>] outs(%init : tensor<3x2x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<2x4xf32>, %a1: tensor<2x1xf32>):
    %0 = pfcn.compare lt %a0, %a1 : tensor<2x4xf32>, tensor<2x1xf32> -> tensor<2x4xi1>
    %r = pfcn.where %0, %a0, %a1 : tensor<2x4xi1>, tensor<2x4xf32>, tensor<2x1xf32> -> tensor<2x4xf32>
    pfcn.yield %r : tensor<2x4xf32>
  } -> tensor<3x2x4xf32>
  return %y : tensor<3x2x4xf32>
}

// CHECK-LABEL: func.func @attributes(
// CHECK: pfcn.kernel "g" count 3
// CHECK: pfcn.leaky_relu %{{.*}} {negative_slope = 1.000000e-01 : f64} : tensor<3x2x4xf32>
// CHECK: pfcn.clamp %{{.*}} {min = 0.000000e+00 : f64} : tensor<3x2x4xf32>
func.func @attributes(%x0: tensor<3x2x4xf32>) -> tensor<3x2x4xf32> {
  %init = pfcn.empty : tensor<3x2x4xf32>
  %y = pfcn.instances "g" count 3 ins(%x0 : tensor<3x2x4xf32>)
      [#pfcn.access<select dim 0>] outs(%init : tensor<3x2x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<2x4xf32>):
    %0 = pfcn.leaky_relu %a0 {negative_slope = 0.1 : f64} : tensor<2x4xf32>
    %r = pfcn.clamp %0 {min = 0.0 : f64} : tensor<2x4xf32>
    pfcn.yield %r : tensor<2x4xf32>
  } -> tensor<3x2x4xf32>
  return %y : tensor<3x2x4xf32>
}

// CHECK-LABEL: func.func @linear(
// CHECK: pfcn.kernel "g" count 3
// CHECK: pfcn.batch_matmul %{{.*}} {transpose_rhs} : tensor<3x2x4xf32>, tensor<3x5x4xf32> -> tensor<3x2x5xf32>
// CHECK: pfcn.unsqueeze %{{.*}} dim 1 : tensor<3x5xf32> -> tensor<3x1x5xf32>
// CHECK: pfcn.add %{{.*}} : tensor<3x2x5xf32>, tensor<3x1x5xf32>
func.func @linear(%x0: tensor<3x2x4xf32>, %x1: tensor<3x5x4xf32>, %x2: tensor<3x5xf32>) -> tensor<3x2x5xf32> {
  %init = pfcn.empty : tensor<3x2x5xf32>
  %y = pfcn.instances "g" count 3 ins(%x0, %x1, %x2 : tensor<3x2x4xf32>, tensor<3x5x4xf32>, tensor<3x5xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>] outs(%init : tensor<3x2x5xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<2x4xf32>, %a1: tensor<5x4xf32>, %a2: tensor<5xf32>):
    %r = pfcn.linear %a0, %a1, %a2 : tensor<2x4xf32>, tensor<5x4xf32>, tensor<5xf32> -> tensor<2x5xf32>
    pfcn.yield %r : tensor<2x5xf32>
  } -> tensor<3x2x5xf32>
  return %y : tensor<3x2x5xf32>
}

// CHECK-LABEL: func.func @linear_shared_input(
// CHECK: pfcn.kernel "g" count 3
// CHECK: %[[W:.*]] = pfcn.unsqueeze %{{.*}} dim 1 : tensor<3x5x4xf32> -> tensor<3x1x5x4xf32>
// CHECK: pfcn.batch_matmul %{{.*}}, %[[W]] {transpose_rhs} : tensor<7x2x4xf32>, tensor<3x1x5x4xf32> -> tensor<3x7x2x5xf32>
func.func @linear_shared_input(%x0: tensor<7x2x4xf32>, %x1: tensor<3x5x4xf32>) -> tensor<3x7x2x5xf32> {
  %init = pfcn.empty : tensor<3x7x2x5xf32>
  %y = pfcn.instances "g" count 3 ins(%x0, %x1 : tensor<7x2x4xf32>, tensor<3x5x4xf32>)
      [#pfcn.access<shared>, #pfcn.access<select dim 0>] outs(%init : tensor<3x7x2x5xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<7x2x4xf32>, %a1: tensor<5x4xf32>):
    %r = pfcn.linear %a0, %a1 : tensor<7x2x4xf32>, tensor<5x4xf32> -> tensor<7x2x5xf32>
    pfcn.yield %r : tensor<7x2x5xf32>
  } -> tensor<3x7x2x5xf32>
  return %y : tensor<3x7x2x5xf32>
}

// CHECK-LABEL: func.func @linear_shared_weight(
// CHECK: pfcn.kernel "g" count 3
// CHECK: pfcn.batch_matmul %{{.*}} {transpose_rhs} : tensor<3x2x4xf32>, tensor<5x4xf32> -> tensor<3x2x5xf32>
// CHECK: pfcn.add %{{.*}} : tensor<3x2x5xf32>, tensor<5xf32>
func.func @linear_shared_weight(%x0: tensor<3x2x4xf32>, %x1: tensor<5x4xf32>, %x2: tensor<5xf32>) -> tensor<3x2x5xf32> {
  %init = pfcn.empty : tensor<3x2x5xf32>
  %y = pfcn.instances "g" count 3 ins(%x0, %x1, %x2 : tensor<3x2x4xf32>, tensor<5x4xf32>, tensor<5xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<shared>, #pfcn.access<shared>] outs(%init : tensor<3x2x5xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<2x4xf32>, %a1: tensor<5x4xf32>, %a2: tensor<5xf32>):
    %r = pfcn.linear %a0, %a1, %a2 : tensor<2x4xf32>, tensor<5x4xf32>, tensor<5xf32> -> tensor<2x5xf32>
    pfcn.yield %r : tensor<2x5xf32>
  } -> tensor<3x2x5xf32>
  return %y : tensor<3x2x5xf32>
}

// CHECK-LABEL: func.func @linear_own_bias(
// CHECK: pfcn.kernel "g" count 3
// CHECK: pfcn.batch_matmul %{{.*}} {transpose_rhs} : tensor<2x4xf32>, tensor<5x4xf32> -> tensor<2x5xf32>
// CHECK: pfcn.add %{{.*}} : tensor<2x5xf32>, tensor<3x1x5xf32> -> tensor<3x2x5xf32>
func.func @linear_own_bias(%x0: tensor<2x4xf32>, %x1: tensor<5x4xf32>, %x2: tensor<3x5xf32>) -> tensor<3x2x5xf32> {
  %init = pfcn.empty : tensor<3x2x5xf32>
  %y = pfcn.instances "g" count 3 ins(%x0, %x1, %x2 : tensor<2x4xf32>, tensor<5x4xf32>, tensor<3x5xf32>)
      [#pfcn.access<shared>, #pfcn.access<shared>, #pfcn.access<select dim 0>] outs(%init : tensor<3x2x5xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<2x4xf32>, %a1: tensor<5x4xf32>, %a2: tensor<5xf32>):
    %r = pfcn.linear %a0, %a1, %a2 : tensor<2x4xf32>, tensor<5x4xf32>, tensor<5xf32> -> tensor<2x5xf32>
    pfcn.yield %r : tensor<2x5xf32>
  } -> tensor<3x2x5xf32>
  return %y : tensor<3x2x5xf32>
}

// CHECK-LABEL: func.func @linear_vector(
// CHECK: pfcn.kernel "g" count 3
// CHECK: pfcn.unsqueeze %{{.*}} dim 1 : tensor<3x4xf32> -> tensor<3x1x4xf32>
// CHECK: pfcn.batch_matmul
// CHECK: pfcn.squeeze %{{.*}} dims [1] : tensor<3x1x5xf32> -> tensor<3x5xf32>
// CHECK: pfcn.add %{{.*}} : tensor<3x5xf32>, tensor<3x5xf32>
func.func @linear_vector(%x0: tensor<3x4xf32>, %x1: tensor<3x5x4xf32>, %x2: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %init = pfcn.empty : tensor<3x5xf32>
  %y = pfcn.instances "g" count 3 ins(%x0, %x1, %x2 : tensor<3x4xf32>, tensor<3x5x4xf32>, tensor<3x5xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<select dim 0>] outs(%init : tensor<3x5xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<4xf32>, %a1: tensor<5x4xf32>, %a2: tensor<5xf32>):
    %r = pfcn.linear %a0, %a1, %a2 : tensor<4xf32>, tensor<5x4xf32>, tensor<5xf32> -> tensor<5xf32>
    pfcn.yield %r : tensor<5xf32>
  } -> tensor<3x5xf32>
  return %y : tensor<3x5xf32>
}

// CHECK-LABEL: func.func @matmul(
// CHECK: pfcn.kernel "g" count 3
// CHECK: pfcn.batch_matmul %{{.*}} : tensor<6x2x4xf32>, tensor<3x1x4x5xf32> -> tensor<3x6x2x5xf32>
func.func @matmul(%x0: tensor<6x2x4xf32>, %x1: tensor<3x4x5xf32>) -> tensor<3x6x2x5xf32> {
  %init = pfcn.empty : tensor<3x6x2x5xf32>
  %y = pfcn.instances "g" count 3 ins(%x0, %x1 : tensor<6x2x4xf32>, tensor<3x4x5xf32>)
      [#pfcn.access<shared>, #pfcn.access<select dim 0>] outs(%init : tensor<3x6x2x5xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<6x2x4xf32>, %a1: tensor<4x5xf32>):
    %r = pfcn.matmul %a0, %a1 : tensor<6x2x4xf32>, tensor<4x5xf32> -> tensor<6x2x5xf32>
    pfcn.yield %r : tensor<6x2x5xf32>
  } -> tensor<3x6x2x5xf32>
  return %y : tensor<3x6x2x5xf32>
}

// CHECK-LABEL: func.func @addmm(
// CHECK: pfcn.kernel "g" count 3
// CHECK: %[[P:.*]] = pfcn.batch_matmul
// CHECK: %[[HALF:.*]] = pfcn.constant dense<5.000000e-01>
// CHECK: %[[SCALED:.*]] = pfcn.mul %[[P]], %[[HALF]]
// CHECK: %[[TWO:.*]] = pfcn.constant dense<2.000000e+00>
// CHECK: %[[INPUT:.*]] = pfcn.mul %{{.*}}, %[[TWO]] : tensor<3x1x5xf32>
// CHECK: pfcn.add %[[INPUT]], %[[SCALED]]
func.func @addmm(%x0: tensor<3x5xf32>, %x1: tensor<3x2x4xf32>, %x2: tensor<4x5xf32>) -> tensor<3x2x5xf32> {
  %init = pfcn.empty : tensor<3x2x5xf32>
  %y = pfcn.instances "g" count 3 ins(%x0, %x1, %x2 : tensor<3x5xf32>, tensor<3x2x4xf32>, tensor<4x5xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>, #pfcn.access<shared>] outs(%init : tensor<3x2x5xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<5xf32>, %a1: tensor<2x4xf32>, %a2: tensor<4x5xf32>):
    %r = pfcn.addmm %a0, %a1, %a2 {alpha = 0.5 : f64, beta = 2.0 : f64} : tensor<5xf32>, tensor<2x4xf32>, tensor<4x5xf32> -> tensor<2x5xf32>
    pfcn.yield %r : tensor<2x5xf32>
  } -> tensor<3x2x5xf32>
  return %y : tensor<3x2x5xf32>
}

// CHECK-LABEL: func.func @addmm_without_input(
// CHECK: pfcn.kernel "g" count 3
// CHECK: pfcn.batch_matmul %{{.*}} : tensor<2x4xf32>, tensor<4x5xf32> -> tensor<2x5xf32>
// CHECK: pfcn.expand %{{.*}} : tensor<1x2x5xf32> to tensor<3x2x5xf32>
func.func @addmm_without_input(%x0: tensor<3x2x5xf32>, %x1: tensor<2x4xf32>, %x2: tensor<4x5xf32>) -> tensor<3x2x5xf32> {
  %init = pfcn.empty : tensor<3x2x5xf32>
  %y = pfcn.instances "g" count 3 ins(%x0, %x1, %x2 : tensor<3x2x5xf32>, tensor<2x4xf32>, tensor<4x5xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<shared>, #pfcn.access<shared>] outs(%init : tensor<3x2x5xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<2x5xf32>, %a1: tensor<2x4xf32>, %a2: tensor<4x5xf32>):
    %r = pfcn.addmm %a0, %a1, %a2 {beta = 0.0 : f64} : tensor<2x5xf32>, tensor<2x4xf32>, tensor<4x5xf32> -> tensor<2x5xf32>
    pfcn.yield %r : tensor<2x5xf32>
  } -> tensor<3x2x5xf32>
  return %y : tensor<3x2x5xf32>
}

// CHECK-LABEL: func.func @batch_matmul(
// CHECK: pfcn.kernel "g" count 3
// CHECK: pfcn.batch_matmul %{{.*}} {transpose_rhs} : tensor<3x6x2x4xf32>, tensor<3x6x5x4xf32> -> tensor<3x6x2x5xf32>
func.func @batch_matmul(%x0: tensor<3x6x2x4xf32>, %x1: tensor<3x6x5x4xf32>) -> tensor<3x6x2x5xf32> {
  %init = pfcn.empty : tensor<3x6x2x5xf32>
  %y = pfcn.instances "g" count 3 ins(%x0, %x1 : tensor<3x6x2x4xf32>, tensor<3x6x5x4xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>] outs(%init : tensor<3x6x2x5xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<6x2x4xf32>, %a1: tensor<6x5x4xf32>):
    %r = pfcn.batch_matmul %a0, %a1 {transpose_rhs} : tensor<6x2x4xf32>, tensor<6x5x4xf32> -> tensor<6x2x5xf32>
    pfcn.yield %r : tensor<6x2x5xf32>
  } -> tensor<3x6x2x5xf32>
  return %y : tensor<3x6x2x5xf32>
}

// CHECK-LABEL: func.func @reductions(
// CHECK: pfcn.kernel "g" count 3
// CHECK: pfcn.sum %{{.*}} dims [1, 3] {keepdim = true}
// CHECK: pfcn.mean %{{.*}} dims [3]
// CHECK: pfcn.amax %{{.*}} dims [1]
// CHECK: pfcn.prod %{{.*}} dims [1] {keepdim = true} : tensor<3x4xf32> -> tensor<3x1xf32>
func.func @reductions(%x0: tensor<3x2x4x5xf32>) -> tensor<3x1xf32> {
  %init = pfcn.empty : tensor<3x1xf32>
  %y = pfcn.instances "g" count 3 ins(%x0 : tensor<3x2x4x5xf32>)
      [#pfcn.access<select dim 0>] outs(%init : tensor<3x1xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<2x4x5xf32>):
    %0 = pfcn.sum %a0 dims [0, 2] {keepdim = true} : tensor<2x4x5xf32> -> tensor<1x4x1xf32>
    %1 = pfcn.mean %0 dims [2] : tensor<1x4x1xf32> -> tensor<1x4xf32>
    %2 = pfcn.amax %1 dims [0] : tensor<1x4xf32> -> tensor<4xf32>
    %r = pfcn.prod %2 dims [0] {keepdim = true} : tensor<4xf32> -> tensor<1xf32>
    pfcn.yield %r : tensor<1xf32>
  } -> tensor<3x1xf32>
  return %y : tensor<3x1xf32>
}

// CHECK-LABEL: func.func @softmax(
// CHECK: pfcn.kernel "g" count 3
// CHECK: pfcn.softmax %{{.*}} dim 2 : tensor<3x2x4xf32>
// CHECK: pfcn.log_softmax %{{.*}} dim 1 : tensor<3x2x4xf32>
func.func @softmax(%x0: tensor<3x2x4xf32>) -> tensor<3x2x4xf32> {
  %init = pfcn.empty : tensor<3x2x4xf32>
  %y = pfcn.instances "g" count 3 ins(%x0 : tensor<3x2x4xf32>)
      [#pfcn.access<select dim 0>] outs(%init : tensor<3x2x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<2x4xf32>):
    %0 = pfcn.softmax %a0 dim 1 : tensor<2x4xf32>
    %r = pfcn.log_softmax %0 dim 0 : tensor<2x4xf32>
    pfcn.yield %r : tensor<2x4xf32>
  } -> tensor<3x2x4xf32>
  return %y : tensor<3x2x4xf32>
}

// CHECK-LABEL: func.func @layer_norm(
// CHECK: pfcn.kernel "g" count 3
// CHECK: pfcn.expand %{{.*}} : tensor<1x7x2x4xf32> to tensor<3x7x2x4xf32>
// CHECK: pfcn.unsqueeze %{{.*}} dim 1 : tensor<3x2x4xf32> -> tensor<3x1x2x4xf32>
// CHECK: pfcn.layer_norm %{{.*}} weight %{{.*}} : tensor<3x1x2x4xf32> bias %{{.*}} : tensor<2x4xf32> {{.*}} : tensor<3x7x2x4xf32>
func.func @layer_norm(%x0: tensor<7x2x4xf32>, %x1: tensor<3x2x4xf32>, %x2: tensor<2x4xf32>) -> tensor<3x7x2x4xf32> {
  %init = pfcn.empty : tensor<3x7x2x4xf32>
  %y = pfcn.instances "g" count 3 ins(%x0, %x1, %x2 : tensor<7x2x4xf32>, tensor<3x2x4xf32>, tensor<2x4xf32>)
      [#pfcn.access<shared>, #pfcn.access<select dim 0>, #pfcn.access<shared>] outs(%init : tensor<3x7x2x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<7x2x4xf32>, %a1: tensor<2x4xf32>, %a2: tensor<2x4xf32>):
    %r = pfcn.layer_norm %a0 weight %a1 : tensor<2x4xf32> bias %a2 : tensor<2x4xf32> {normalized_rank = 2 : i64, eps = 1.0e-5 : f64} : tensor<7x2x4xf32>
    pfcn.yield %r : tensor<7x2x4xf32>
  } -> tensor<3x7x2x4xf32>
  return %y : tensor<3x7x2x4xf32>
}

// CHECK-LABEL: func.func @views(
// CHECK: pfcn.kernel "g" count 3
// CHECK: pfcn.reshape %{{.*}} : tensor<3x2x4xf32> to tensor<3x2x2x2xf32>
// CHECK: pfcn.permute %{{.*}} dims [0, 3, 1, 2]
// CHECK: pfcn.slice %{{.*}} dim 1 from 1 to 2
// CHECK: pfcn.squeeze %{{.*}} dims [1]
// CHECK: pfcn.unsqueeze %{{.*}} dim 3
// CHECK: pfcn.select %{{.*}} dim 2 at 1 : tensor<3x2x2x1xf32> -> tensor<3x2x1xf32>
// CHECK: pfcn.unsqueeze %{{.*}} dim 1 : tensor<3x2x1xf32> -> tensor<3x1x2x1xf32>
// CHECK: pfcn.expand %{{.*}} : tensor<3x1x2x1xf32> to tensor<3x7x2x6xf32>
func.func @views(%x0: tensor<3x2x4xf32>) -> tensor<3x7x2x6xf32> {
  %init = pfcn.empty : tensor<3x7x2x6xf32>
  %y = pfcn.instances "g" count 3 ins(%x0 : tensor<3x2x4xf32>)
      [#pfcn.access<select dim 0>] outs(%init : tensor<3x7x2x6xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<2x4xf32>):
    %0 = pfcn.reshape %a0 : tensor<2x4xf32> to tensor<2x2x2xf32>
    %1 = pfcn.permute %0 dims [2, 0, 1] : tensor<2x2x2xf32> -> tensor<2x2x2xf32>
    %2 = pfcn.slice %1 dim 0 from 1 to 2 : tensor<2x2x2xf32> -> tensor<1x2x2xf32>
    %3 = pfcn.squeeze %2 dims [0] : tensor<1x2x2xf32> -> tensor<2x2xf32>
    %4 = pfcn.unsqueeze %3 dim 2 : tensor<2x2xf32> -> tensor<2x2x1xf32>
    %5 = pfcn.select %4 dim 1 at 1 : tensor<2x2x1xf32> -> tensor<2x1xf32>
    %6 = pfcn.expand %5 : tensor<2x1xf32> to tensor<7x2x6xf32>
    %r = pfcn.relu %6 : tensor<7x2x6xf32>
    pfcn.yield %r : tensor<7x2x6xf32>
  } -> tensor<3x7x2x6xf32>
  return %y : tensor<3x7x2x6xf32>
}

// CHECK-LABEL: func.func @joins(
// CHECK: pfcn.kernel "g" count 3
// CHECK: pfcn.unsqueeze %{{.*}} dim 0 : tensor<2x4xf32> -> tensor<1x2x4xf32>
// CHECK: %[[S:.*]] = pfcn.expand %{{.*}} : tensor<1x2x4xf32> to tensor<3x2x4xf32>
// CHECK: pfcn.cat %{{.*}}, %[[S]] dim 1 :
// CHECK: pfcn.stack %{{.*}} dim 3 : (tensor<3x4x4xf32>, tensor<3x4x4xf32>) -> tensor<3x4x4x2xf32>
func.func @joins(%x0: tensor<3x2x4xf32>, %x1: tensor<2x4xf32>) -> tensor<3x4x4x2xf32> {
  %init = pfcn.empty : tensor<3x4x4x2xf32>
  %y = pfcn.instances "g" count 3 ins(%x0, %x1 : tensor<3x2x4xf32>, tensor<2x4xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<shared>] outs(%init : tensor<3x4x4x2xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<2x4xf32>, %a1: tensor<2x4xf32>):
    %0 = pfcn.cat %a0, %a1 dim 0 : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<4x4xf32>
    %r = pfcn.stack %0, %0 dim 2 : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4x2xf32>
    pfcn.yield %r : tensor<4x4x2xf32>
  } -> tensor<3x4x4x2xf32>
  return %y : tensor<3x4x4x2xf32>
}

// CHECK-LABEL: func.func @cast(
// CHECK: pfcn.kernel "g" count 3
// CHECK: pfcn.cast %{{.*}} : tensor<3x2x4xf32> to tensor<3x2x4xf64>
// CHECK: pfcn.cast %{{.*}} : tensor<3x2x4xf64> to tensor<3x2x4xf32>
func.func @cast(%x0: tensor<3x2x4xf32>) -> tensor<3x2x4xf32> {
  %init = pfcn.empty : tensor<3x2x4xf32>
  %y = pfcn.instances "g" count 3 ins(%x0 : tensor<3x2x4xf32>)
      [#pfcn.access<select dim 0>] outs(%init : tensor<3x2x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<2x4xf32>):
    %0 = pfcn.cast %a0 : tensor<2x4xf32> to tensor<2x4xf64>
    %r = pfcn.cast %0 : tensor<2x4xf64> to tensor<2x4xf32>
    pfcn.yield %r : tensor<2x4xf32>
  } -> tensor<3x2x4xf32>
  return %y : tensor<3x2x4xf32>
}

// CHECK-LABEL: func.func @unchanged(
// CHECK: pfcn.kernel "g" count 3
// CHECK: pfcn.relu %{{.*}} : tensor<3x2x4xf32>
// CHECK: %[[R:.*]] = pfcn.mul %{{.*}} : tensor<2x4xf32>, tensor<f32> -> tensor<2x4xf32>
// CHECK: %[[ONE:.*]] = pfcn.unsqueeze %[[R]] dim 0
// CHECK: %[[ALL:.*]] = pfcn.expand %[[ONE]] : tensor<1x2x4xf32> to tensor<3x2x4xf32>
// CHECK: pfcn.yield %[[ALL]]
func.func @unchanged(%x0: tensor<3x2x4xf32>, %x1: tensor<2x4xf32>) -> tensor<3x2x4xf32> {
  %init = pfcn.empty : tensor<3x2x4xf32>
  %y = pfcn.instances "g" count 3 ins(%x0, %x1 : tensor<3x2x4xf32>, tensor<2x4xf32>)
      [#pfcn.access<select dim 0>, #pfcn.access<shared>] outs(%init : tensor<3x2x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a0: tensor<2x4xf32>, %a1: tensor<2x4xf32>):
    %0 = pfcn.relu %a0 : tensor<2x4xf32>
    %c = pfcn.constant dense<2.0> : tensor<f32>
    %r = pfcn.mul %a1, %c : tensor<2x4xf32>, tensor<f32> -> tensor<2x4xf32>
    pfcn.yield %r : tensor<2x4xf32>
  } -> tensor<3x2x4xf32>
  return %y : tensor<3x2x4xf32>
}

// Tables are gathered before the kernel and scattered after it.
// CHECK-LABEL: func.func @tables(
// CHECK-SAME: %[[X:.*]]: tensor<?x12xf32>
// CHECK: %[[DEST:.*]] = pfcn.empty(%{{.*}}) : tensor<?x12xf32>
// CHECK: %[[G:.*]] = pfcn.gather_instances %[[X]] <slice dim 1 size 4 at [0, 8, 1]> : tensor<?x12xf32> -> tensor<3x?x4xf32>
// CHECK: %[[SIZE:.*]] = tensor.dim %[[DEST]], %c0
// CHECK: %[[E:.*]] = pfcn.empty(%[[SIZE]]) : tensor<3x?x4xf32>
// CHECK: %[[K:.*]] = pfcn.kernel "g" count 3 ins(%[[G]] : tensor<3x?x4xf32>) [#pfcn.access<select dim 0>] outs(%[[E]] : tensor<3x?x4xf32>) [#pfcn.access<select dim 0>]
// CHECK: %[[Y:.*]] = pfcn.scatter_instances %[[K]] into %[[DEST]] <slice dim 1 size 4 at [4, 0, 8]> : tensor<3x?x4xf32> into tensor<?x12xf32>
// CHECK: return %[[Y]]
func.func @tables(%x: tensor<?x12xf32>) -> tensor<?x12xf32> {
  %c0 = arith.constant 0 : index
  %size = tensor.dim %x, %c0 : tensor<?x12xf32>
  %init = pfcn.empty(%size) : tensor<?x12xf32>
  %y = pfcn.instances "g" count 3 ins(%x : tensor<?x12xf32>) [#pfcn.access<slice dim 1 size 4 at [0, 8, 1]>]
      outs(%init : tensor<?x12xf32>) [#pfcn.access<slice dim 1 size 4 at [4, 0, 8]>] {
  ^bb0(%a: tensor<?x4xf32>):
    %r = pfcn.relu %a : tensor<?x4xf32>
    pfcn.yield %r : tensor<?x4xf32>
  } -> tensor<?x12xf32>
  return %y : tensor<?x12xf32>
}
