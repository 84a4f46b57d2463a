// RUN: pfcn-opt %s --pfcn-form-instances | FileCheck %s
// Two networks on their own slices of the input become two instances of one body.

// CHECK: pfcn.parameter_stack ["models.0.weight", "models.1.weight"]
// CHECK: pfcn.instances "linear4x3_x2" count 2
// CHECK-SAME: [#pfcn.access<slice dim 1 size 4 stride 4>, #pfcn.access<select dim 0>]
// CHECK-NOT: pfcn.cat
func.func @forward(%x: tensor<1x8xf32>) -> tensor<1x6xf32> {
  %w0 = pfcn.parameter "models.0.weight" : tensor<3x4xf32>
  %w1 = pfcn.parameter "models.1.weight" : tensor<3x4xf32>
  %x0 = pfcn.slice %x dim 1 from 0 to 4 : tensor<1x8xf32> -> tensor<1x4xf32>
  %y0 = pfcn.linear %x0, %w0 : tensor<1x4xf32>, tensor<3x4xf32> -> tensor<1x3xf32>
  %x1 = pfcn.slice %x dim 1 from 4 to 8 : tensor<1x8xf32> -> tensor<1x4xf32>
  %y1 = pfcn.linear %x1, %w1 : tensor<1x4xf32>, tensor<3x4xf32> -> tensor<1x3xf32>
  %y = pfcn.cat %y0, %y1 dim 1 : (tensor<1x3xf32>, tensor<1x3xf32>) -> tensor<1x6xf32>
  return %y : tensor<1x6xf32>
}
