// RUN: pfcn-opt %s --split-input-file --verify-diagnostics

func.func @channels(%x: tensor<2x3x9xf32>, %w: tensor<4x2x2xf32>) {
  // expected-error @+2 {{failed to infer returned types}}
  // expected-error @+1 {{convolution of 2 channels in 1 groups applied to 3}}
  %0 = pfcn.conv %x, %w {stride = array<i64: 1>, padding = array<i64: 0>, dilation = array<i64: 1>}
    : tensor<2x3x9xf32>, tensor<4x2x2xf32> -> tensor<2x4x8xf32>
  return
}

// -----

func.func @entries(%x: tensor<2x3x9xf32>, %w: tensor<4x3x2xf32>) {
  // expected-error @+2 {{failed to infer returned types}}
  // expected-error @+1 {{stride, padding and dilation must have one entry per dimension}}
  %0 = pfcn.conv %x, %w {stride = array<i64: 1>, padding = array<i64: 0, 0>, dilation = array<i64: 1>}
    : tensor<2x3x9xf32>, tensor<4x3x2xf32> -> tensor<2x4x8xf32>
  return
}

// -----

func.func @window(%x: tensor<2x3x9xf32>) {
  // expected-error @+2 {{failed to infer returned types}}
  // expected-error @+1 {{windows, strides and dilations must be positive, paddings not negative, and all below 2^30}}
  %0 = pfcn.avg_pool %x {kernel = array<i64: 2>, stride = array<i64: 0>, padding = array<i64: 0>}
    : tensor<2x3x9xf32> -> tensor<2x3x8xf32>
  return
}

// -----

func.func @negative(%x: tensor<2x3xf32>) {
  // expected-error @+2 {{failed to infer returned types}}
  // expected-error @+1 {{pad takes as many low as high paddings, none of them negative}}
  %0 = pfcn.pad %x low [-1] high [2] : tensor<2x3xf32> -> tensor<2x4xf32>
  return
}

// -----

func.func @per_channel(%x: tensor<2x3x4xf32>, %m: tensor<4xf32>) {
  // expected-error @+1 {{statistics, weight and bias must have one element per channel}}
  %0 = pfcn.batch_norm %x, %m, %m {channel = 1 : i64, eps = 1.0e-5 : f64} : tensor<2x3x4xf32>, tensor<4xf32>, tensor<4xf32>
  return
}

// -----

func.func @yields(%x: tensor<4xf32>) -> tensor<3xf32> {
  // expected-error @+1 {{body must yield one value of the type of the result}}
  %y = pfcn.composed "aten::frac"(%x) [#pfcn.operand<0>] : (tensor<4xf32>) -> tensor<3xf32> {
  ^bb0(%a: tensor<4xf32>):
    pfcn.yield %a : tensor<4xf32>
  }
  return %y : tensor<3xf32>
}

// -----

// Numbers of which a sum would not fit into 64 bits.

func.func @huge_stride(%x: tensor<2x3x9xf32>) {
  // expected-error @+2 {{failed to infer returned types}}
  // expected-error @+1 {{all below 2^30}}
  %0 = pfcn.avg_pool %x {kernel = array<i64: 2>, stride = array<i64: 1>, padding = array<i64: 9223372036854775807>}
    : tensor<2x3x9xf32> -> tensor<2x3x8xf32>
  return
}

// -----

func.func @huge_input(%x: tensor<2x3x4611686018427387904xf32>) {
  // expected-error @+2 {{failed to infer returned types}}
  // expected-error @+1 {{windows over 4611686018427387904 elements}}
  %0 = pfcn.avg_pool %x {kernel = array<i64: 2>, stride = array<i64: 1>, padding = array<i64: 0>}
    : tensor<2x3x4611686018427387904xf32> -> tensor<2x3x8xf32>
  return
}

// -----

func.func @huge_padding(%x: tensor<2x3xf32>) {
  // expected-error @+2 {{failed to infer returned types}}
  // expected-error @+1 {{none of them negative or beyond 2^30}}
  %0 = pfcn.pad %x low [9223372036854775807] high [2] : tensor<2x3xf32> -> tensor<2x4xf32>
  return
}

// -----

func.func @huge_cat(%x: tensor<4611686018427387904x1xf32>) {
  // expected-error @+2 {{failed to infer returned types}}
  // expected-error @+1 {{more elements than can be counted}}
  %0 = pfcn.cat %x, %x dim 0 : (tensor<4611686018427387904x1xf32>, tensor<4611686018427387904x1xf32>) -> tensor<?x1xf32>
  return
}
