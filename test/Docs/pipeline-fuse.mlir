// RUN: pfcn-opt %s --pfcn-pipeline-fuse | FileCheck %s
// The same to the end: one batched product.

// CHECK: pfcn.kernel "linear4x3_x2" count 2
// CHECK: pfcn.batch_matmul
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
