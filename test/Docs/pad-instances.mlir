// RUN: pfcn-opt %s --pfcn-pad-instances | FileCheck %s
// Networks of 2 and 4 inputs become two of 4: their products have one type.

// CHECK: pfcn.parameter_stack ["models.0.weight", "models.1.weight"] dim 2 sizes [2, 4]
// CHECK: pfcn.gather_instances %{{.*}} <slice dim 1 size 4 stride 2> sizes [2, 4]
// CHECK-COUNT-2: pfcn.linear {{.*}} : tensor<1x4xf32>, tensor<3x4xf32> -> tensor<1x3xf32>
func.func @forward(%x: tensor<1x6xf32>) -> tensor<1x6xf32> {
  %w0 = pfcn.parameter "models.0.weight" : tensor<3x2xf32>
  %w1 = pfcn.parameter "models.1.weight" : tensor<3x4xf32>
  %x0 = pfcn.slice %x dim 1 from 0 to 2 : tensor<1x6xf32> -> tensor<1x2xf32>
  %y0 = pfcn.linear %x0, %w0 : tensor<1x2xf32>, tensor<3x2xf32> -> tensor<1x3xf32>
  %z0 = pfcn.relu %y0 : tensor<1x3xf32>
  %x1 = pfcn.slice %x dim 1 from 2 to 6 : tensor<1x6xf32> -> tensor<1x4xf32>
  %y1 = pfcn.linear %x1, %w1 : tensor<1x4xf32>, tensor<3x4xf32> -> tensor<1x3xf32>
  %z1 = pfcn.relu %y1 : tensor<1x3xf32>
  %z = pfcn.cat %z0, %z1 dim 1 : (tensor<1x3xf32>, tensor<1x3xf32>) -> tensor<1x6xf32>
  return %z : tensor<1x6xf32>
}
