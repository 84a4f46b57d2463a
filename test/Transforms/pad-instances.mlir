// RUN: pfcn-opt %s --split-input-file --pfcn-pad-instances | FileCheck %s
// RUN: pfcn-opt %s --split-input-file --pfcn-pad-instances --pfcn-form-instances | FileCheck %s --check-prefix=GROUP

// Rules P1 and P2: two widths become one, in inputs and in weights.
// CHECK-LABEL: func.func @parts
// CHECK: %[[W:.*]] = pfcn.parameter_stack ["a", "b", "c"] dim 2 sizes [3, 7, 5]
// CHECK-SAME: tensor<3x16x7xf32>
// CHECK: %[[X:.*]] = pfcn.gather_instances %{{.*}} <slice dim 1 size 7 at [0, 3, 10]> sizes [3, 7, 5] : tensor<4x15xf32> -> tensor<3x4x7xf32>
// CHECK-DAG: pfcn.select %[[W]] dim 0 at 1
// CHECK-DAG: pfcn.select %[[X]] dim 0 at 1
// CHECK-NOT: pfcn.slice
// GROUP-LABEL: func.func @parts
// GROUP: pfcn.instances "linear7x16_relu_x3" count 3
func.func @parts(%x: tensor<4x15xf32>) -> tensor<4x48xf32> {
  %a = pfcn.parameter "a" : tensor<16x3xf32>
  %b = pfcn.parameter "b" : tensor<16x7xf32>
  %c = pfcn.parameter "c" : tensor<16x5xf32>
  %x0 = pfcn.slice %x dim 1 from 0 to 3 : tensor<4x15xf32> -> tensor<4x3xf32>
  %x1 = pfcn.slice %x dim 1 from 3 to 10 : tensor<4x15xf32> -> tensor<4x7xf32>
  %x2 = pfcn.slice %x dim 1 from 10 to 15 : tensor<4x15xf32> -> tensor<4x5xf32>
  %y0 = pfcn.linear %x0, %a : tensor<4x3xf32>, tensor<16x3xf32> -> tensor<4x16xf32>
  %y1 = pfcn.linear %x1, %b : tensor<4x7xf32>, tensor<16x7xf32> -> tensor<4x16xf32>
  %y2 = pfcn.linear %x2, %c : tensor<4x5xf32>, tensor<16x5xf32> -> tensor<4x16xf32>
  %z0 = pfcn.relu %y0 : tensor<4x16xf32>
  %z1 = pfcn.relu %y1 : tensor<4x16xf32>
  %z2 = pfcn.relu %y2 : tensor<4x16xf32>
  %z = pfcn.cat %z0, %z1, %z2 dim 1 : (tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<4x48xf32>
  return %z : tensor<4x48xf32>
}

// -----

// Weights that multiply from the right are padded in their rows; the batch is open.
// CHECK-LABEL: func.func @matmul
// CHECK: pfcn.parameter_stack ["a", "b", "c"] dim 1 sizes [3, 7, 5]
// CHECK-SAME: tensor<3x7x16xf32>
// CHECK: pfcn.gather_instances %{{.*}} sizes [3, 7, 5] : tensor<?x15xf32> -> tensor<3x?x7xf32>
// GROUP-LABEL: func.func @matmul
// GROUP: pfcn.instances "matmul7x16_tanh_x3" count 3
func.func @matmul(%x: tensor<?x15xf32>) -> tensor<?x48xf32> {
  %a = pfcn.parameter "a" : tensor<3x16xf32>
  %b = pfcn.parameter "b" : tensor<7x16xf32>
  %c = pfcn.parameter "c" : tensor<5x16xf32>
  %x0 = pfcn.slice %x dim 1 from 0 to 3 : tensor<?x15xf32> -> tensor<?x3xf32>
  %x1 = pfcn.slice %x dim 1 from 3 to 10 : tensor<?x15xf32> -> tensor<?x7xf32>
  %x2 = pfcn.slice %x dim 1 from 10 to 15 : tensor<?x15xf32> -> tensor<?x5xf32>
  %y0 = pfcn.matmul %x0, %a : tensor<?x3xf32>, tensor<3x16xf32> -> tensor<?x16xf32>
  %y1 = pfcn.matmul %x1, %b : tensor<?x7xf32>, tensor<7x16xf32> -> tensor<?x16xf32>
  %y2 = pfcn.matmul %x2, %c : tensor<?x5xf32>, tensor<5x16xf32> -> tensor<?x16xf32>
  %z0 = pfcn.tanh %y0 : tensor<?x16xf32>
  %z1 = pfcn.tanh %y1 : tensor<?x16xf32>
  %z2 = pfcn.tanh %y2 : tensor<?x16xf32>
  %z = pfcn.cat %z0, %z1, %z2 dim 1 : (tensor<?x16xf32>, tensor<?x16xf32>, tensor<?x16xf32>) -> tensor<?x48xf32>
  return %z : tensor<?x48xf32>
}
