// RUN: pfcn-opt %s --pfcn-check-indices | FileCheck %s
// An index that is out of bounds raises, as it does in eager.

// CHECK: %[[LAST:.*]] = pfcn.constant dense<6>
// CHECK: pfcn.opaque "pfcn::check_index"(%{{.*}}, %[[LAST]])
func.func @forward(%tables: tensor<2x7x3xf32>, %indices: tensor<2x5xi64>) -> tensor<2x5x3xf32> {
  %init = pfcn.empty : tensor<2x5x3xf32>
  %y = pfcn.instances "embedding_x2" count 2 ins(%tables, %indices : tensor<2x7x3xf32>, tensor<2x5xi64>)
      [#pfcn.access<select dim 0>, #pfcn.access<select dim 0>] outs(%init : tensor<2x5x3xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<7x3xf32>, %b: tensor<5xi64>):
    %0 = pfcn.opaque "aten::embedding"(%a, %b) [#pfcn.operand<0>, #pfcn.operand<1>, -1, false, false] : (tensor<7x3xf32>, tensor<5xi64>) -> tensor<5x3xf32>
    pfcn.yield %0 : tensor<5x3xf32>
  } -> tensor<2x5x3xf32>
  return %y : tensor<2x5x3xf32>
}
