// RUN: pfcn-opt %s --verify-diagnostics --split-input-file
// Every message of the verifiers and shape rules.

//===-- Shape rules: broadcasting -------------------------------------------------------===//

func.func @broadcast(%x: tensor<3x5xf32>, %y: tensor<4x5xf32>) {
  // expected-error @below {{operands of shapes [3, 5] and [4, 5] do not broadcast}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.add %x, %y : tensor<3x5xf32>, tensor<4x5xf32> -> tensor<3x5xf32>
  return
}

// -----

func.func @broadcast_result(%x: tensor<3x1xf32>, %y: tensor<3x5xf32>) {
  // expected-error @below {{inferred type(s) 'tensor<3x5xf32>' are incompatible with return type(s) of operation 'tensor<3x1xf32>'}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.mul %x, %y : tensor<3x1xf32>, tensor<3x5xf32> -> tensor<3x1xf32>
  return
}

// -----

func.func @binary_types(%x: tensor<3xf32>, %y: tensor<3xf64>) {
  // expected-error @below {{requires the same element type for all operands and results}}
  %0 = pfcn.add %x, %y : tensor<3xf32>, tensor<3xf64> -> tensor<3xf32>
  return
}

// -----

func.func @compare_types(%x: tensor<3xf32>, %y: tensor<3xf64>) {
  // expected-error @below {{failed to verify that all of {lhs, rhs} have same element type}}
  %0 = pfcn.compare lt %x, %y : tensor<3xf32>, tensor<3xf64> -> tensor<3xi1>
  return
}

// -----

func.func @compare_broadcast(%x: tensor<3xf32>, %y: tensor<4xf32>) {
  // expected-error @below {{operands of shapes [3] and [4] do not broadcast}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.compare lt %x, %y : tensor<3xf32>, tensor<4xf32> -> tensor<3xi1>
  return
}

// -----

func.func @where_condition(%c: tensor<3xf32>, %x: tensor<3xf32>) {
  // expected-error @below {{operand #0 must be tensor of 1-bit signless integer values}}
  %0 = pfcn.where %c, %x, %x : tensor<3xf32>, tensor<3xf32>, tensor<3xf32> -> tensor<3xf32>
  return
}

// -----

func.func @where_broadcast(%c: tensor<2xi1>, %x: tensor<3xf32>) {
  // expected-error @below {{operands of shapes [2] and [3] do not broadcast}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.where %c, %x, %x : tensor<2xi1>, tensor<3xf32>, tensor<3xf32> -> tensor<3xf32>
  return
}

// -----

func.func @cast_shape(%x: tensor<3xf32>) {
  // expected-error @below {{requires the same shape for all operands and results}}
  %0 = pfcn.cast %x : tensor<3xf32> to tensor<4xf64>
  return
}

// -----

//===-- Shape rules: contractions -------------------------------------------------------===//

func.func @matmul_rank(%x: tensor<3xf32>, %y: tensor<3x5xf32>) {
  // expected-error @below {{operands of a matmul must have rank 2 or more}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.matmul %x, %y : tensor<3xf32>, tensor<3x5xf32> -> tensor<5xf32>
  return
}

// -----

func.func @matmul_types(%x: tensor<2x3xf32>, %y: tensor<3x5xf64>) {
  // expected-error @below {{operands of a matmul must have one element type}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.matmul %x, %y : tensor<2x3xf32>, tensor<3x5xf64> -> tensor<2x5xf32>
  return
}

// -----

func.func @matmul_depth(%x: tensor<2x3xf32>, %y: tensor<4x5xf32>) {
  // expected-error @below {{contracted dimensions differ: 3 and 4}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.matmul %x, %y : tensor<2x3xf32>, tensor<4x5xf32> -> tensor<2x5xf32>
  return
}

// -----

func.func @batch_matmul_depth(%x: tensor<9x2x3xf32>, %y: tensor<9x3x4xf32>) {
  // expected-error @below {{contracted dimensions differ: 3 and 4}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.batch_matmul %x, %y {transpose_rhs} : tensor<9x2x3xf32>, tensor<9x3x4xf32> -> tensor<9x2x3xf32>
  return
}

// -----

func.func @batch_matmul_leading(%x: tensor<9x2x3xf32>, %y: tensor<8x3x4xf32>) {
  // expected-error @below {{leading dimensions of 'tensor<9x2x3xf32>' and 'tensor<8x3x4xf32>' do not broadcast}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.batch_matmul %x, %y : tensor<9x2x3xf32>, tensor<8x3x4xf32> -> tensor<9x2x4xf32>
  return
}

// -----

func.func @addmm_input(%i: tensor<3x4xf32>, %x: tensor<2x3xf32>, %y: tensor<3x4xf32>) {
  // expected-error @below {{input of shape [3, 4] does not broadcast to 'tensor<2x4xf32>'}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.addmm %i, %x, %y : tensor<3x4xf32>, tensor<2x3xf32>, tensor<3x4xf32> -> tensor<2x4xf32>
  return
}

// -----

func.func @addmm_input_rank(%i: tensor<1x2x4xf32>, %x: tensor<2x3xf32>, %y: tensor<3x4xf32>) {
  // expected-error @below {{input of shape [1, 2, 4] does not broadcast to 'tensor<2x4xf32>'}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.addmm %i, %x, %y : tensor<1x2x4xf32>, tensor<2x3xf32>, tensor<3x4xf32> -> tensor<2x4xf32>
  return
}

// -----

func.func @linear_weight_rank(%x: tensor<2x3xf32>, %w: tensor<1x4x3xf32>) {
  // expected-error @below {{linear takes an input of rank 1 or more and a weight of rank 2}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.linear %x, %w : tensor<2x3xf32>, tensor<1x4x3xf32> -> tensor<2x4xf32>
  return
}

// -----

func.func @linear_types(%x: tensor<2x3xf32>, %w: tensor<4x3xf16>) {
  // expected-error @below {{input and weight of a linear must have one element type}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.linear %x, %w : tensor<2x3xf32>, tensor<4x3xf16> -> tensor<2x4xf32>
  return
}

// -----

func.func @linear_features(%x: tensor<2x3xf32>, %w: tensor<4x5xf32>) {
  // expected-error @below {{linear of 5 input features applied to 3}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.linear %x, %w : tensor<2x3xf32>, tensor<4x5xf32> -> tensor<2x4xf32>
  return
}

// -----

func.func @linear_bias(%x: tensor<2x3xf32>, %w: tensor<4x3xf32>, %b: tensor<3xf32>) {
  // expected-error @below {{bias of a linear must have one element per output feature}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.linear %x, %w, %b : tensor<2x3xf32>, tensor<4x3xf32>, tensor<3xf32> -> tensor<2x4xf32>
  return
}

// -----

func.func @linear_integers(%x: tensor<2x3xi32>, %w: tensor<4x3xi32>) {
  // expected-error @below {{operand #0 must be tensor of floating-point values}}
  %0 = pfcn.linear %x, %w : tensor<2x3xi32>, tensor<4x3xi32> -> tensor<2x4xi32>
  return
}

// -----

//===-- Reductions and normalisations ---------------------------------------------------===//

func.func @sum_range(%x: tensor<2x3xf32>) {
  // expected-error @below {{dimension 2 is out of range for rank 2}}
  %0 = pfcn.sum %x dims [2] : tensor<2x3xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @sum_negative(%x: tensor<2x3xf32>) {
  // expected-error @below {{dimension -1 is out of range for rank 2}}
  %0 = pfcn.sum %x dims [-1] : tensor<2x3xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @amax_twice(%x: tensor<2x3xf32>) {
  // expected-error @below {{dimension 1 is named twice}}
  %0 = pfcn.amax %x dims [1, 1] : tensor<2x3xf32> -> tensor<2xf32>
  return
}

// -----

func.func @mean_result(%x: tensor<2x3xf32>) {
  // expected-error @below {{inferred type(s) 'tensor<2xf32>' are incompatible with return type(s) of operation 'tensor<2x1xf32>'}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.mean %x dims [1] : tensor<2x3xf32> -> tensor<2x1xf32>
  return
}

// -----

func.func @softmax_range(%x: tensor<2x3xf32>) {
  // expected-error @below {{dimension 2 is out of range for rank 2}}
  %0 = pfcn.softmax %x dim 2 : tensor<2x3xf32>
  return
}

// -----

func.func @log_softmax_range(%x: tensor<2x3xf32>) {
  // expected-error @below {{dimension -1 is out of range for rank 2}}
  %0 = pfcn.log_softmax %x dim -1 : tensor<2x3xf32>
  return
}

// -----

func.func @layer_norm_rank(%x: tensor<2x3xf32>) {
  // expected-error @below {{normalizes 3 dimensions of an input of rank 2}}
  %0 = pfcn.layer_norm %x {normalized_rank = 3 : i64, eps = 1.0e-5 : f64} : tensor<2x3xf32>
  return
}

// -----

func.func @layer_norm_zero(%x: tensor<2x3xf32>) {
  // expected-error @below {{normalizes 0 dimensions of an input of rank 2}}
  %0 = pfcn.layer_norm %x {normalized_rank = 0 : i64, eps = 1.0e-5 : f64} : tensor<2x3xf32>
  return
}

// -----

func.func @layer_norm_weight(%x: tensor<2x3xf32>, %w: tensor<2xf32>) {
  // expected-error @below {{weight and bias must end in the normalized shape [3]}}
  %0 = pfcn.layer_norm %x weight %w : tensor<2xf32> {normalized_rank = 1 : i64, eps = 1.0e-5 : f64} : tensor<2x3xf32>
  return
}

// -----

//===-- Views and joins -----------------------------------------------------------------===//

func.func @reshape_elements(%x: tensor<2x3xf32>) {
  // expected-error @below {{changes the number of elements from 6 to 8}}
  %0 = pfcn.reshape %x : tensor<2x3xf32> to tensor<8xf32>
  return
}

// -----

func.func @reshape_type(%x: tensor<2x3xf32>) {
  // expected-error @below {{must keep the element type}}
  %0 = pfcn.reshape %x : tensor<2x3xf32> to tensor<6xf64>
  return
}

// -----

func.func @reshape_inference(%x: tensor<6x?xf32>) {
  // expected-error @below {{has more than one dynamic dimension to infer}}
  %0 = pfcn.reshape %x : tensor<6x?xf32> to tensor<?x?xf32>
  return
}

// -----

func.func @permute_count(%x: tensor<2x3xf32>) {
  // expected-error @below {{permutation must name each of the 2 dimensions once}}
  %0 = pfcn.permute %x dims [1] : tensor<2x3xf32> -> tensor<3xf32>
  return
}

// -----

func.func @permute_range(%x: tensor<2x3xf32>) {
  // expected-error @below {{dimension 2 is out of range for rank 2}}
  %0 = pfcn.permute %x dims [2, 0] : tensor<2x3xf32> -> tensor<3x2xf32>
  return
}

// -----

func.func @permute_twice(%x: tensor<2x2xf32>) {
  // expected-error @below {{dimension 0 is named twice}}
  %0 = pfcn.permute %x dims [0, 0] : tensor<2x2xf32> -> tensor<2x2xf32>
  return
}

// -----

func.func @slice_range(%x: tensor<2x3xf32>) {
  // expected-error @below {{dimension 2 is out of range for rank 2}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.slice %x dim 2 from 0 to 1 : tensor<2x3xf32> -> tensor<2x1xf32>
  return
}

// -----

func.func @slice_backwards(%x: tensor<2x3xf32>) {
  // expected-error @below {{slice takes 0 <= start <= end and a step of 1 or more}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.slice %x dim 1 from 2 to 1 : tensor<2x3xf32> -> tensor<2x1xf32>
  return
}

// -----

func.func @slice_step(%x: tensor<2x3xf32>) {
  // expected-error @below {{slice takes 0 <= start <= end and a step of 1 or more}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.slice %x dim 1 from 0 to 1 {step = 0 : i64} : tensor<2x3xf32> -> tensor<2x1xf32>
  return
}

// -----

func.func @slice_end(%x: tensor<2x3xf32>) {
  // expected-error @below {{slice ends at 4 of a dimension of size 3}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.slice %x dim 1 from 0 to 4 : tensor<2x3xf32> -> tensor<2x4xf32>
  return
}

// -----

func.func @select_range(%x: tensor<2x3xf32>) {
  // expected-error @below {{dimension 2 is out of range for rank 2}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.select %x dim 2 at 0 : tensor<2x3xf32> -> tensor<2xf32>
  return
}

// -----

func.func @select_index(%x: tensor<2x3xf32>) {
  // expected-error @below {{selects element 3 of a dimension of size 3}}
  %0 = pfcn.select %x dim 1 at 3 : tensor<2x3xf32> -> tensor<2xf32>
  return
}

// -----

func.func @unsqueeze_range(%x: tensor<2x3xf32>) {
  // expected-error @below {{dimension 3 is out of range for rank 2}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.unsqueeze %x dim 3 : tensor<2x3xf32> -> tensor<2x3x1xf32>
  return
}

// -----

func.func @squeeze_size(%x: tensor<2x3xf32>) {
  // expected-error @below {{squeezes dimension 0 of size 2}}
  %0 = pfcn.squeeze %x dims [0] : tensor<2x3xf32> -> tensor<3xf32>
  return
}

// -----

func.func @squeeze_range(%x: tensor<2x1xf32>) {
  // expected-error @below {{dimension 2 is out of range for rank 2}}
  %0 = pfcn.squeeze %x dims [2] : tensor<2x1xf32> -> tensor<2x1xf32>
  return
}

// -----

func.func @expand_type(%x: tensor<1x3xf32>) {
  // expected-error @below {{must keep the element type}}
  %0 = pfcn.expand %x : tensor<1x3xf32> to tensor<2x3xf64>
  return
}

// -----

func.func @expand_rank(%x: tensor<1x3xf32>) {
  // expected-error @below {{must not drop dimensions}}
  %0 = pfcn.expand %x : tensor<1x3xf32> to tensor<3xf32>
  return
}

// -----

func.func @expand_size(%x: tensor<2x3xf32>) {
  // expected-error @below {{expands a dimension of size 2 to 4}}
  %0 = pfcn.expand %x : tensor<2x3xf32> to tensor<4x3xf32>
  return
}

// -----

func.func @cat_nothing() {
  // expected-error @below {{cat takes one operand or more}}
  // expected-error @below {{failed to infer returned types}}
  %0 = "pfcn.cat"() <{dim = 0 : i64}> : () -> tensor<3xf32>
  return
}

// -----

func.func @cat_range(%x: tensor<2x3xf32>) {
  // expected-error @below {{dimension 2 is out of range for rank 2}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.cat %x, %x dim 2 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  return
}

// -----

func.func @cat_rank(%x: tensor<2x3xf32>, %y: tensor<2xf32>) {
  // expected-error @below {{operands of cat differ in rank or element type: 'tensor<2x3xf32>' and 'tensor<2xf32>'}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.cat %x, %y dim 0 : (tensor<2x3xf32>, tensor<2xf32>) -> tensor<4x3xf32>
  return
}

// -----

func.func @cat_size(%x: tensor<2x3xf32>, %y: tensor<2x4xf32>) {
  // expected-error @below {{operands of cat differ in dimension 1: 'tensor<2x3xf32>' and 'tensor<2x4xf32>'}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.cat %x, %y dim 0 : (tensor<2x3xf32>, tensor<2x4xf32>) -> tensor<4x3xf32>
  return
}

// -----

func.func @stack_nothing() {
  // expected-error @below {{stack takes one operand or more}}
  // expected-error @below {{failed to infer returned types}}
  %0 = "pfcn.stack"() <{dim = 0 : i64}> : () -> tensor<3xf32>
  return
}

// -----

func.func @stack_types(%x: tensor<2xf32>, %y: tensor<3xf32>) {
  // expected-error @below {{operands of stack differ: 'tensor<2xf32>' and 'tensor<3xf32>'}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.stack %x, %y dim 0 : (tensor<2xf32>, tensor<3xf32>) -> tensor<2x2xf32>
  return
}

// -----

func.func @stack_range(%x: tensor<2xf32>) {
  // expected-error @below {{dimension 2 is out of range for rank 2}}
  // expected-error @below {{failed to infer returned types}}
  %0 = pfcn.stack %x, %x dim 2 : (tensor<2xf32>, tensor<2xf32>) -> tensor<2x2xf32>
  return
}

// -----

//===-- Leaves and foreign operators ----------------------------------------------------===//

func.func @parameter_stack() {
  // expected-error @below {{stacks 2 parameters in a tensor of type 'tensor<3x4xf32>'}}
  %0 = pfcn.parameter_stack ["a", "b"] : tensor<3x4xf32>
  return
}

// -----

func.func @empty_sizes(%n: index) {
  // expected-error @below {{takes one size per dynamic dimension, 2 here}}
  %0 = pfcn.empty(%n) : tensor<?x?xf32>
  return
}

// -----

func.func @opaque_name(%x: tensor<2xf32>) {
  // expected-error @below {{operator name must be qualified, as in 'aten::relu'}}
  %0 = pfcn.opaque "relu"(%x) [#pfcn.operand<0>] : (tensor<2xf32>) -> tensor<2xf32>
  return
}

// -----

func.func @opaque_operand(%x: tensor<2xf32>) {
  // expected-error @below {{argument names operand 1 of 1}}
  %0 = pfcn.opaque "aten::relu"(%x) [[#pfcn.operand<1>]] : (tensor<2xf32>) -> tensor<2xf32>
  return
}

// -----

//===-- Groups --------------------------------------------------------------------------===//

func.func @count(%x: tensor<2xf32>, %i: tensor<2xf32>) {
  // expected-error @below {{must have one instance or more}}
  %0 = pfcn.instances "g" count 0 ins(%x : tensor<2xf32>) [#pfcn.access<select dim 0>]
      outs(%i : tensor<2xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<f32>):
    pfcn.yield %a : tensor<f32>
  } -> tensor<2xf32>
  return
}

// -----

func.func @accesses(%x: tensor<2xf32>, %i: tensor<2xf32>) {
  // expected-error @below {{has 1 inputs, 2 accesses and 1 values in the body}}
  %0 = pfcn.instances "g" count 2 ins(%x : tensor<2xf32>) [#pfcn.access<select dim 0>, #pfcn.access<shared>]
      outs(%i : tensor<2xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<f32>):
    pfcn.yield %a : tensor<f32>
  } -> tensor<2xf32>
  return
}

// -----

func.func @access_dim(%x: tensor<2xf32>, %i: tensor<2xf32>) {
  // expected-error @below {{input 0: access of dimension 1 of a tensor of rank 1}}
  %0 = pfcn.instances "g" count 2 ins(%x : tensor<2xf32>) [#pfcn.access<select dim 1>]
      outs(%i : tensor<2xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<f32>):
    pfcn.yield %a : tensor<f32>
  } -> tensor<2xf32>
  return
}

// -----

func.func @access_end(%x: tensor<1x7xf32>, %i: tensor<2x1x4xf32>) {
  // expected-error @below {{input 0: instance 1 accesses elements [4, 8) of dimension 1 of size 7}}
  %0 = pfcn.instances "g" count 2 ins(%x : tensor<1x7xf32>) [#pfcn.access<slice dim 1 size 4 stride 4>]
      outs(%i : tensor<2x1x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<1x4xf32>):
    pfcn.yield %a : tensor<1x4xf32>
  } -> tensor<2x1x4xf32>
  return
}

// -----

func.func @access_table_end(%x: tensor<1x8xf32>, %i: tensor<3x1x4xf32>) {
  // expected-error @below {{input 0: instance 1 accesses elements [5, 9) of dimension 1 of size 8}}
  %0 = pfcn.instances "g" count 3 ins(%x : tensor<1x8xf32>) [#pfcn.access<slice dim 1 size 4 at [0, 5, 1]>]
      outs(%i : tensor<3x1x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<1x4xf32>):
    pfcn.yield %a : tensor<1x4xf32>
  } -> tensor<3x1x4xf32>
  return
}

// -----

func.func @access_table(%x: tensor<1x8xf32>, %i: tensor<2x1x4xf32>) {
  // expected-error @below {{input 0: access has a table of 3 starts for 2 instances}}
  %0 = pfcn.instances "g" count 2 ins(%x : tensor<1x8xf32>) [#pfcn.access<slice dim 1 size 4 at [0, 3, 1]>]
      outs(%i : tensor<2x1x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<1x4xf32>):
    pfcn.yield %a : tensor<1x4xf32>
  } -> tensor<2x1x4xf32>
  return
}

// -----

func.func @body_type(%x: tensor<2x4xf32>, %i: tensor<2x4xf32>) {
  // expected-error @below {{input 0 is 'tensor<4xf32>' in the body, which has 'tensor<2x4xf32>'}}
  %0 = pfcn.instances "g" count 2 ins(%x : tensor<2x4xf32>) [#pfcn.access<select dim 0>]
      outs(%i : tensor<2x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<2x4xf32>):
    pfcn.yield %a : tensor<2x4xf32>
  } -> tensor<2x4xf32>
  return
}

// -----

func.func @kernel_body_type(%x: tensor<2x4xf32>, %i: tensor<2x4xf32>) {
  // expected-error @below {{input 0 is 'tensor<2x4xf32>' in the body, which has 'tensor<4xf32>'}}
  %0 = pfcn.kernel "g" count 2 ins(%x : tensor<2x4xf32>) [#pfcn.access<select dim 0>]
      outs(%i : tensor<2x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4xf32>):
    pfcn.yield %a : tensor<4xf32>
  } -> tensor<2x4xf32>
  return
}

// -----

func.func @yielded_type(%x: tensor<2x4xf32>, %i: tensor<2x3xf32>) {
  // expected-error @below {{destination 0 is 'tensor<3xf32>' in the body, which has 'tensor<4xf32>'}}
  %0 = pfcn.instances "g" count 2 ins(%x : tensor<2x4xf32>) [#pfcn.access<select dim 0>]
      outs(%i : tensor<2x3xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4xf32>):
    pfcn.yield %a : tensor<4xf32>
  } -> tensor<2x3xf32>
  return
}

// -----

func.func @shared_destination(%x: tensor<4xf32>, %i: tensor<4xf32>) {
  // expected-error @below {{a destination cannot be shared by the instances}}
  %0 = pfcn.instances "g" count 2 ins(%x : tensor<4xf32>) [#pfcn.access<shared>]
      outs(%i : tensor<4xf32>) [#pfcn.access<shared>] {
  ^bb0(%a: tensor<4xf32>):
    pfcn.yield %a : tensor<4xf32>
  } -> tensor<4xf32>
  return
}

// -----

func.func @result_type(%x: tensor<2x4xf32>, %i: tensor<2x4xf32>) {
  // expected-error @below {{results must have the types of the destinations}}
  %0 = pfcn.instances "g" count 2 ins(%x : tensor<2x4xf32>) [#pfcn.access<select dim 0>]
      outs(%i : tensor<2x4xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4xf32>):
    pfcn.yield %a : tensor<4xf32>
  } -> tensor<2x5xf32>
  return
}

// -----

// expected-error @below {{expected 'shared', 'slice' or 'select'}}
#bad = #pfcn.access<row dim 0>

// -----

func.func @gather_type(%x: tensor<1x8xf32>) {
  // expected-error @+1 {{stacks the instances in 'tensor<2x1x3xf32>', not 'tensor<2x3xf32>'}}
  %0 = pfcn.gather_instances %x <slice dim 1 size 3 at [0, 5]> : tensor<1x8xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @gather_range(%x: tensor<1x8xf32>) {
  // expected-error @+1 {{instance 1 accesses elements [6, 9) of dimension 1 of size 8}}
  %0 = pfcn.gather_instances %x <slice dim 1 size 3 at [0, 6]> : tensor<1x8xf32> -> tensor<2x1x3xf32>
  return
}

// -----

func.func @gather_shared(%x: tensor<1x8xf32>) {
  // expected-error @+1 {{takes a slice or select access}}
  %0 = pfcn.gather_instances %x <shared> : tensor<1x8xf32> -> tensor<2x1x8xf32>
  return
}

// -----

func.func @scatter_count(%x: tensor<3x1x3xf32>, %y: tensor<1x8xf32>) {
  // expected-error @+1 {{access has a table of 2 starts for 3 instances}}
  %0 = pfcn.scatter_instances %x into %y <slice dim 1 size 3 at [0, 5]> : tensor<3x1x3xf32> into tensor<1x8xf32>
  return
}

// -----

func.func @adjoint_of_what(%g: tensor<3x5x4xf32>, %u: tensor<4x4xf32>) {
  // expected-error @+1 {{knows lstm, gru, tanh and relu, not selu}}
  %0 = pfcn.recurrence_adjoint "selu" %g, %g, %u : (tensor<3x5x4xf32>, tensor<3x5x4xf32>, tensor<4x4xf32>) -> tensor<3x5x4xf32>
  return
}

// -----

func.func @adjoint_of_too_few_factors(%g: tensor<3x5x4xf32>, %u: tensor<12x4xf32>) {
  // expected-error @+1 {{factors must be 'tensor<3x5x16xf32>'}}
  %0 = pfcn.recurrence_adjoint "gru" %g, %g, %u : (tensor<3x5x4xf32>, tensor<3x5x4xf32>, tensor<12x4xf32>) -> tensor<3x5x16xf32>
  return
}

// -----

func.func @adjoint_of_a_weight_that_does_not_fit(%g: tensor<3x5x4xf32>, %u: tensor<4x3xf32>) {
  // expected-error @+1 {{the weight must be [1 · width, width], the width 4}}
  %0 = pfcn.recurrence_adjoint "tanh" %g, %g, %u : (tensor<3x5x4xf32>, tensor<3x5x4xf32>, tensor<4x3xf32>) -> tensor<3x5x4xf32>
  return
}

// -----

// expected-error @below {{a slice of negative size}}
#bad = #pfcn.access<slice dim 0 size -1>

// -----

func.func @gather_beyond(%x: tensor<1x8xf32>) {
  // expected-error @+1 {{instance 0 accesses elements [9223372036854775806, 9223372036854775807) of dimension 1}}
  %0 = pfcn.gather_instances %x <slice dim 1 size 3 at [9223372036854775806, 6]> : tensor<1x8xf32> -> tensor<2x1x3xf32>
  return
}

// -----

func.func @gather_far(%x: tensor<1x8xf32>) {
  // expected-error @+1 {{access of instance 1 is beyond what can be addressed}}
  %0 = pfcn.gather_instances %x <slice dim 1 size 3 stride 9223372036854775807 offset 3> : tensor<1x8xf32> -> tensor<2x1x3xf32>
  return
}

// -----

func.func @gather_padded_beyond(%x: tensor<1x8xf32>) {
  // expected-error @+1 {{instance 1 accesses elements [9223372036854775806, 9223372036854775807) of dimension 1}}
  %0 = pfcn.gather_instances %x <slice dim 1 size 3 at [0, 9223372036854775806]> sizes [3, 2] : tensor<1x8xf32> -> tensor<2x1x3xf32>
  return
}
