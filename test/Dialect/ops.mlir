// RUN: pfcn-opt %s --verify-roundtrip | FileCheck %s
// The seed model with two networks, as the front ends import it.

// CHECK-LABEL: func.func @forward
func.func @forward(%x: tensor<1x40xf32>) -> tensor<1x2xf32> {
  // CHECK: pfcn.parameter "models.0.0.weight" : tensor<10x20xf32>
  %w00 = pfcn.parameter "models.0.0.weight" : tensor<10x20xf32>
  %b00 = pfcn.parameter "models.0.0.bias" : tensor<10xf32>
  %w01 = pfcn.parameter "models.0.1.weight" : tensor<1x10xf32>
  %b01 = pfcn.parameter "models.0.1.bias" : tensor<1xf32>
  %w10 = pfcn.parameter "models.1.0.weight" : tensor<10x20xf32>
  %b10 = pfcn.parameter "models.1.0.bias" : tensor<10xf32>
  %w11 = pfcn.parameter "models.1.1.weight" : tensor<1x10xf32>
  %b11 = pfcn.parameter "models.1.1.bias" : tensor<1xf32>
  // CHECK: pfcn.slice %{{.*}} dim 1 from 0 to 20 : tensor<1x40xf32> -> tensor<1x20xf32>
  %x0 = pfcn.slice %x dim 1 from 0 to 20 : tensor<1x40xf32> -> tensor<1x20xf32>
  // CHECK: pfcn.linear %{{.*}}, %{{.*}}, %{{.*}} : tensor<1x20xf32>, tensor<10x20xf32>, tensor<10xf32> -> tensor<1x10xf32>
  %h0 = pfcn.linear %x0, %w00, %b00 : tensor<1x20xf32>, tensor<10x20xf32>, tensor<10xf32> -> tensor<1x10xf32>
  %y0 = pfcn.linear %h0, %w01, %b01 : tensor<1x10xf32>, tensor<1x10xf32>, tensor<1xf32> -> tensor<1x1xf32>
  %x1 = pfcn.slice %x dim 1 from 20 to 40 : tensor<1x40xf32> -> tensor<1x20xf32>
  %h1 = pfcn.linear %x1, %w10, %b10 : tensor<1x20xf32>, tensor<10x20xf32>, tensor<10xf32> -> tensor<1x10xf32>
  %y1 = pfcn.linear %h1, %w11, %b11 : tensor<1x10xf32>, tensor<1x10xf32>, tensor<1xf32> -> tensor<1x1xf32>
  // CHECK: pfcn.cat %{{.*}}, %{{.*}} dim 1 : (tensor<1x1xf32>, tensor<1x1xf32>) -> tensor<1x2xf32>
  %y = pfcn.cat %y0, %y1 dim 1 : (tensor<1x1xf32>, tensor<1x1xf32>) -> tensor<1x2xf32>
  return %y : tensor<1x2xf32>
}

// CHECK-LABEL: func.func @instances
func.func @instances(%x: tensor<1x8xf32>) -> tensor<1x6xf32> {
  %w = pfcn.parameter_stack ["models.0.weight", "models.1.weight"] : tensor<2x3x4xf32>
  %init = pfcn.empty : tensor<1x6xf32>
  // CHECK: pfcn.instances "fcn" count 2 ins(%{{.*}}, %{{.*}} : tensor<1x8xf32>, tensor<2x3x4xf32>)
  // CHECK-SAME: [#pfcn.access<slice dim 1 size 4 stride 4>, #pfcn.access<select dim 0>]
  // CHECK-SAME: outs(%{{.*}} : tensor<1x6xf32>) [#pfcn.access<slice dim 1 size 3 at [3, 0]>]
  %y = pfcn.instances "fcn" count 2 ins(%x, %w : tensor<1x8xf32>, tensor<2x3x4xf32>)
      [#pfcn.access<slice dim 1 size 4 stride 4>, #pfcn.access<select dim 0>]
      outs(%init : tensor<1x6xf32>) [#pfcn.access<slice dim 1 size 3 at [3, 0]>] {
  ^bb0(%a: tensor<1x4xf32>, %b: tensor<3x4xf32>):
    %0 = pfcn.linear %a, %b : tensor<1x4xf32>, tensor<3x4xf32> -> tensor<1x3xf32>
    pfcn.yield %0 : tensor<1x3xf32>
  } -> tensor<1x6xf32>
  return %y : tensor<1x6xf32>
}

// CHECK-LABEL: func.func @gather_and_scatter
func.func @gather_and_scatter(%x: tensor<?x8xf32>, %y: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // CHECK: pfcn.gather_instances %{{.*}} <slice dim 1 size 3 at [0, 5]> : tensor<?x8xf32> -> tensor<2x?x3xf32>
  %0 = pfcn.gather_instances %x <slice dim 1 size 3 at [0, 5]> : tensor<?x8xf32> -> tensor<2x?x3xf32>
  // CHECK: pfcn.scatter_instances %{{.*}} into %{{.*}} <slice dim 1 size 3 at [5, 1]> : tensor<2x?x3xf32> into tensor<?x8xf32>
  %1 = pfcn.scatter_instances %0 into %y <slice dim 1 size 3 at [5, 1]> : tensor<2x?x3xf32> into tensor<?x8xf32>
  return %1 : tensor<?x8xf32>
}

// CHECK-LABEL: func.func @constants
func.func @constants() -> (tensor<f32>, tensor<2x3xf32>) {
  // CHECK: pfcn.constant dense<2.000000e+00> : tensor<f32>
  %0 = pfcn.constant dense<2.0> : tensor<f32>
  // CHECK: pfcn.zeros : tensor<2x3xf32>
  %1 = pfcn.zeros : tensor<2x3xf32>
  return %0, %1 : tensor<f32>, tensor<2x3xf32>
}

// CHECK-LABEL: func.func @along_a_dimension
func.func @along_a_dimension(%x: tensor<3x5xf32>) -> tensor<3xf32> {
  // CHECK: pfcn.log_softmax %{{.*}} dim 1 : tensor<3x5xf32>
  %0 = pfcn.log_softmax %x dim 1 : tensor<3x5xf32>
  // CHECK: pfcn.amin %{{.*}} dims [1] : tensor<3x5xf32> -> tensor<3xf32>
  %1 = pfcn.amin %0 dims [1] : tensor<3x5xf32> -> tensor<3xf32>
  return %1 : tensor<3xf32>
}

// CHECK-LABEL: func.func @foreign
func.func @foreign(%x: tensor<3x5xf32>) -> tensor<3x5xf32> {
  // CHECK: pfcn.opaque "aten::cumsum"(%{{.*}}) [#pfcn.operand<0>, 1, unit] : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %0 = pfcn.opaque "aten::cumsum"(%x) [#pfcn.operand<0>, 1, unit] : (tensor<3x5xf32>) -> tensor<3x5xf32>
  return %0 : tensor<3x5xf32>
}

// CHECK-LABEL: func.func @over_time
func.func @over_time(%x: tensor<4x6x2xf32>, %h: tensor<4x5xf32>, %w: tensor<15x2xf32>, %u: tensor<15x5xf32>, %b: tensor<15xf32>) -> tensor<4x6x5xf32> {
  // CHECK: pfcn.recurrence "gru" %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} bias %{{.*}}, %{{.*}} : (tensor<4x6x2xf32>
  %y = pfcn.recurrence "gru" %x, %w, %u, %h bias %b, %b : (tensor<4x6x2xf32>, tensor<15x2xf32>, tensor<15x5xf32>, tensor<4x5xf32>, tensor<15xf32>, tensor<15xf32>) -> tensor<4x6x5xf32>
  return %y : tensor<4x6x5xf32>
}

// CHECK-LABEL: func.func @back_through_time
func.func @back_through_time(%g: tensor<4x6x5xf32>, %f: tensor<4x6x20xf32>, %u: tensor<15x5xf32>) -> tensor<4x6x20xf32> {
  // CHECK: pfcn.recurrence_adjoint "gru" %{{.*}}, %{{.*}}, %{{.*}} reverse : (tensor<4x6x5xf32>
  %d = pfcn.recurrence_adjoint "gru" %g, %f, %u reverse : (tensor<4x6x5xf32>, tensor<4x6x20xf32>, tensor<15x5xf32>) -> tensor<4x6x20xf32>
  return %d : tensor<4x6x20xf32>
}

// CHECK-LABEL: func.func @batched
func.func @batched(%x: tensor<1x8xf32>, %w: tensor<2x3x4xf32>) -> tensor<1x6xf32> {
  %init = pfcn.empty : tensor<1x6xf32>
  // CHECK: pfcn.kernel "linear4x3_x2" count 2 ins(%{{.*}}, %{{.*}} : tensor<1x8xf32>, tensor<2x3x4xf32>)
  // CHECK-SAME: outs(%{{.*}} : tensor<1x6xf32>) [#pfcn.access<slice dim 1 size 3 stride 3>]
  %y = pfcn.kernel "linear4x3_x2" count 2 ins(%x, %w : tensor<1x8xf32>, tensor<2x3x4xf32>)
      [#pfcn.access<slice dim 1 size 4 stride 4>, #pfcn.access<select dim 0>]
      outs(%init : tensor<1x6xf32>) [#pfcn.access<slice dim 1 size 3 stride 3>] {
  ^bb0(%a: tensor<2x1x4xf32>, %b: tensor<2x3x4xf32>):
    %0 = pfcn.batch_matmul %a, %b {transpose_rhs} : tensor<2x1x4xf32>, tensor<2x3x4xf32> -> tensor<2x1x3xf32>
    pfcn.yield %0 : tensor<2x1x3xf32>
  } -> tensor<1x6xf32>
  return %y : tensor<1x6xf32>
}

// CHECK-LABEL: func.func @compiled
func.func @compiled(%x: tensor<1x8xf32>, %w: tensor<2x3x4xf32>) -> tensor<1x6xf32> {
  %init = pfcn.empty : tensor<1x6xf32>
  // CHECK: pfcn.launch @linear4x3_x2 count 2 tiles 1 ins(%{{.*}}, %{{.*}} : tensor<1x8xf32>, tensor<2x3x4xf32>)
  // CHECK-SAME: outs(%{{.*}} : tensor<1x6xf32>) [#pfcn.access<slice dim 1 size 3 stride 3>]
  %y = pfcn.launch @linear4x3_x2 count 2 tiles 1 ins(%x, %w : tensor<1x8xf32>, tensor<2x3x4xf32>)
      [#pfcn.access<slice dim 1 size 4 stride 4>, #pfcn.access<select dim 0>]
      outs(%init : tensor<1x6xf32>) [#pfcn.access<slice dim 1 size 3 stride 3>] -> tensor<1x6xf32>
  return %y : tensor<1x6xf32>
}
func.func private @linear4x3_x2()
