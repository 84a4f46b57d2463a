// RUN: pfcn-opt %s --split-input-file --pfcn-pipeline-cpu=op-lanes=never | FileCheck %s
// RUN: pfcn-opt %s --split-input-file --pfcn-pipeline-cpu=op-lanes=never --remarks-filter="pfcn.*" 2>&1 >/dev/null | FileCheck %s --check-prefix=REMARK
// RUN: pfcn-opt %s --split-input-file --pfcn-pipeline-cpu=machine=library-rate=0 | FileCheck %s --check-prefix=ALWAYS

// An op that mixes instances cannot be cut into tiles of them. (Batching never makes such a body.)

// REMARK: Reason="an op of the body mixes instances", kernel=bad_sum
// What is left is the kernel as it was, to be run op by op.
// CHECK: pfcn.kernel "bad_sum"
// CHECK-SAME: attributes {pfcn.declined = "an op of the body mixes instances"}
// CHECK: pfcn.sum
func.func @mixes(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %init = pfcn.empty : tensor<4x8xf32>
  %y = pfcn.kernel "bad_sum" count 4 ins(%x : tensor<4x8xf32>) [#pfcn.access<select dim 0>]
    outs(%init : tensor<4x8xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4x8xf32>):
    %0 = pfcn.sum %a dims [0] {keepdim = true} : tensor<4x8xf32> -> tensor<1x8xf32>
    %1 = pfcn.add %a, %0 : tensor<4x8xf32>, tensor<1x8xf32> -> tensor<4x8xf32>
    pfcn.yield %1 : tensor<4x8xf32>
  } -> tensor<4x8xf32>
  return %y : tensor<4x8xf32>
}

// -----

// A batch that is read again once it has been reduced would need scratch of unknown size.

// REMARK: Reason="a dynamic dimension is not shared by the whole body", kernel=batch_mean
// CHECK: pfcn.kernel "batch_mean"
func.func @reduces_batch(%x: tensor<4x?xf32>) -> tensor<4x?xf32> {
  %c1 = arith.constant 1 : index
  %batch = tensor.dim %x, %c1 : tensor<4x?xf32>
  %init = pfcn.empty(%batch) : tensor<4x?xf32>
  %y = pfcn.kernel "batch_mean" count 4 ins(%x : tensor<4x?xf32>) [#pfcn.access<select dim 0>]
    outs(%init : tensor<4x?xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4x?xf32>):
    %0 = pfcn.sum %a dims [1] {keepdim = true} : tensor<4x?xf32> -> tensor<4x1xf32>
    %1 = pfcn.sub %a, %0 : tensor<4x?xf32>, tensor<4x1xf32> -> tensor<4x?xf32>
    pfcn.yield %1 : tensor<4x?xf32>
  } -> tensor<4x?xf32>
  return %y : tensor<4x?xf32>
}

// -----

// A tile of 16 layers of 256 x 256 would not fit near memory; the batch of one leaves no other choice.

// REMARK: Reason="a tile needs {{[0-9]+}} bytes of scratch, more than 262144", kernel=wide
// CHECK: pfcn.kernel "wide"
// CHECK-SAME: pfcn.declined = "a tile needs
// CHECK: pfcn.batch_matmul
func.func @wide(%x: tensor<1x256xf32>) -> tensor<16x1x256xf32> {
  %w = pfcn.parameter_stack ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"]
    : tensor<16x256x256xf32>
  %init = pfcn.empty : tensor<16x1x256xf32>
  %y = pfcn.kernel "wide" count 16 ins(%x, %w : tensor<1x256xf32>, tensor<16x256x256xf32>)
    [#pfcn.access<shared>, #pfcn.access<select dim 0>] outs(%init : tensor<16x1x256xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<1x256xf32>, %v: tensor<16x256x256xf32>):
    %0 = pfcn.batch_matmul %a, %v {transpose_rhs} : tensor<1x256xf32>, tensor<16x256x256xf32> -> tensor<16x1x256xf32>
    pfcn.yield %0 : tensor<16x1x256xf32>
  } -> tensor<16x1x256xf32>
  return %y : tensor<16x1x256xf32>
}

// -----

// REMARK: Reason="pfcn.opaque has no lowering here: the op is not a compute op of the dialect", kernel=foreign
// CHECK: pfcn.kernel "foreign"
// CHECK-SAME: pfcn.declined = "pfcn.opaque has no lowering here
// CHECK: pfcn.relu
// CHECK: pfcn.opaque
func.func @foreign(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %init = pfcn.empty : tensor<4x8xf32>
  %y = pfcn.kernel "foreign" count 4 ins(%x : tensor<4x8xf32>) [#pfcn.access<select dim 0>]
    outs(%init : tensor<4x8xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<4x8xf32>):
    %0 = pfcn.relu %a : tensor<4x8xf32>
    %1 = pfcn.opaque "aten::cumsum"(%0) [#pfcn.operand<0>, 1, unit] : (tensor<4x8xf32>) -> tensor<4x8xf32>
    pfcn.yield %1 : tensor<4x8xf32>
  } -> tensor<4x8xf32>
  return %y : tensor<4x8xf32>
}

// -----

// Four layers of 1024 x 1024: nothing that a call costs counts beside the products, which a library computes
// in blocks for its caches.

// REMARK: Reason="library GEMM is estimated faster: {{[0-9.]+}} us, and {{[0-9.]+}} us as one kernel", kernel=large
// CHECK: pfcn.kernel "large"
// CHECK-SAME: pfcn.declined = "library GEMM is estimated faster
// CHECK: pfcn.batch_matmul
// ALWAYS: pfcn.launch @large
func.func @large(%x: tensor<64x1024xf32>, %w: tensor<4x1024x1024xf32>) -> tensor<4x64x1024xf32> {
  %init = pfcn.empty : tensor<4x64x1024xf32>
  %y = pfcn.kernel "large" count 4 ins(%x, %w : tensor<64x1024xf32>, tensor<4x1024x1024xf32>)
    [#pfcn.access<shared>, #pfcn.access<select dim 0>] outs(%init : tensor<4x64x1024xf32>) [#pfcn.access<select dim 0>] {
  ^bb0(%a: tensor<64x1024xf32>, %v: tensor<4x1024x1024xf32>):
    %0 = pfcn.batch_matmul %a, %v {transpose_rhs} : tensor<64x1024xf32>, tensor<4x1024x1024xf32> -> tensor<4x64x1024xf32>
    pfcn.yield %0 : tensor<4x64x1024xf32>
  } -> tensor<4x64x1024xf32>
  return %y : tensor<4x64x1024xf32>
}
