// RUN: pfcn-opt %s --convert-pfcn-to-linalg=everywhere=true | FileCheck %s
// The scalar formula of every pointwise op, by element type where that matters.

// CHECK-LABEL: func.func @neg
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.negf %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @neg(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.neg %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @abs
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = math.absf %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @abs(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.abs %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @sign
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 0.000000e+00 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.cmpf olt, %[[X]], %[[V1]] : f32
// CHECK-NEXT: %[[V3:.*]] = arith.constant -1.000000e+00 : f32
// CHECK-NEXT: %[[V4:.*]] = arith.select %[[V2]], %[[V3]], %[[V1]] : f32
// CHECK-NEXT: %[[V5:.*]] = arith.cmpf olt, %[[V1]], %[[X]] : f32
// CHECK-NEXT: %[[V6:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT: %[[V7:.*]] = arith.select %[[V5]], %[[V6]], %[[V4]] : f32
// CHECK-NEXT: linalg.yield %[[V7]] : f32
func.func @sign(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.sign %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @relu
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 0.000000e+00 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.maximumf %[[X]], %[[V1]] : f32
// CHECK-NEXT: linalg.yield %[[V2]] : f32
func.func @relu(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.relu %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @exp
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = math.exp %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @exp(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.exp %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @expm1
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = math.expm1 %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @expm1(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.expm1 %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @log
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = math.log %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @log(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.log %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @log1p
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = math.log1p %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @log1p(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.log1p %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @sqrt
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = math.sqrt %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @sqrt(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.sqrt %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @rsqrt
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = math.sqrt %[[X]] : f32
// CHECK-NEXT: %[[V2:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT: %[[V3:.*]] = arith.divf %[[V2]], %[[V1]] : f32
// CHECK-NEXT: linalg.yield %[[V3]] : f32
func.func @rsqrt(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.rsqrt %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @reciprocal
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.divf %[[V1]], %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V2]] : f32
func.func @reciprocal(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.reciprocal %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @tanh
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = math.tanh %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @tanh(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.tanh %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @sigmoid
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.negf %[[X]] : f32
// CHECK-NEXT: %[[V2:.*]] = math.exp %[[V1]] : f32
// CHECK-NEXT: %[[V3:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT: %[[V4:.*]] = arith.addf %[[V3]], %[[V2]] : f32
// CHECK-NEXT: %[[V5:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT: %[[V6:.*]] = arith.divf %[[V5]], %[[V4]] : f32
// CHECK-NEXT: linalg.yield %[[V6]] : f32
func.func @sigmoid(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.sigmoid %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @silu
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.negf %[[X]] : f32
// CHECK-NEXT: %[[V2:.*]] = math.exp %[[V1]] : f32
// CHECK-NEXT: %[[V3:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT: %[[V4:.*]] = arith.addf %[[V3]], %[[V2]] : f32
// CHECK-NEXT: %[[V5:.*]] = arith.divf %[[X]], %[[V4]] : f32
// CHECK-NEXT: linalg.yield %[[V5]] : f32
func.func @silu(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.silu %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @mish
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = math.exp %[[X]] : f32
// CHECK-NEXT: %[[V2:.*]] = math.log1p %[[V1]] : f32
// CHECK-NEXT: %[[V3:.*]] = math.tanh %[[V2]] : f32
// CHECK-NEXT: %[[V4:.*]] = arith.mulf %[[X]], %[[V3]] : f32
// CHECK-NEXT: linalg.yield %[[V4]] : f32
func.func @mish(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.mish %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @erf
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = math.erf %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @erf(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.erf %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @sin
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = math.sin %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @sin(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.sin %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @cos
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = math.cos %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @cos(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.cos %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @floor
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = math.floor %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @floor(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.floor %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @ceil
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = math.ceil %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @ceil(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.ceil %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @hardswish
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 3.000000e+00 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.addf %[[X]], %[[V1]] : f32
// CHECK-NEXT: %[[V3:.*]] = arith.constant 0.000000e+00 : f32
// CHECK-NEXT: %[[V4:.*]] = arith.maximumf %[[V2]], %[[V3]] : f32
// CHECK-NEXT: %[[V5:.*]] = arith.constant 6.000000e+00 : f32
// CHECK-NEXT: %[[V6:.*]] = arith.minimumf %[[V4]], %[[V5]] : f32
// CHECK-NEXT: %[[V7:.*]] = arith.mulf %[[X]], %[[V6]] : f32
// CHECK-NEXT: %[[V8:.*]] = arith.constant 6.000000e+00 : f32
// CHECK-NEXT: %[[V9:.*]] = arith.divf %[[V7]], %[[V8]] : f32
// CHECK-NEXT: linalg.yield %[[V9]] : f32
func.func @hardswish(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.hardswish %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @hardsigmoid
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 3.000000e+00 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.addf %[[X]], %[[V1]] : f32
// CHECK-NEXT: %[[V3:.*]] = arith.constant 0.000000e+00 : f32
// CHECK-NEXT: %[[V4:.*]] = arith.maximumf %[[V2]], %[[V3]] : f32
// CHECK-NEXT: %[[V5:.*]] = arith.constant 6.000000e+00 : f32
// CHECK-NEXT: %[[V6:.*]] = arith.minimumf %[[V4]], %[[V5]] : f32
// CHECK-NEXT: %[[V7:.*]] = arith.constant 6.000000e+00 : f32
// CHECK-NEXT: %[[V8:.*]] = arith.divf %[[V6]], %[[V7]] : f32
// CHECK-NEXT: linalg.yield %[[V8]] : f32
func.func @hardsigmoid(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.hardsigmoid %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @log_sigmoid
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 0.000000e+00 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.minimumf %[[X]], %[[V1]] : f32
// CHECK-NEXT: %[[V3:.*]] = math.absf %[[X]] : f32
// CHECK-NEXT: %[[V4:.*]] = arith.negf %[[V3]] : f32
// CHECK-NEXT: %[[V5:.*]] = math.exp %[[V4]] : f32
// CHECK-NEXT: %[[V6:.*]] = math.log1p %[[V5]] : f32
// CHECK-NEXT: %[[V7:.*]] = arith.subf %[[V2]], %[[V6]] : f32
// CHECK-NEXT: linalg.yield %[[V7]] : f32
func.func @log_sigmoid(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.log_sigmoid %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @leaky_relu
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 0.000000e+00 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.cmpf olt, %[[V1]], %[[X]] : f32
// CHECK-NEXT: %[[V3:.*]] = arith.constant 1.000000e-01 : f32
// CHECK-NEXT: %[[V4:.*]] = arith.mulf %[[X]], %[[V3]] : f32
// CHECK-NEXT: %[[V5:.*]] = arith.select %[[V2]], %[[X]], %[[V4]] : f32
// CHECK-NEXT: linalg.yield %[[V5]] : f32
func.func @leaky_relu(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.leaky_relu %x {negative_slope = 0.1 : f64} : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @elu
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 5.000000e-01 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.mulf %[[X]], %[[V1]] : f32
// CHECK-NEXT: %[[V3:.*]] = math.expm1 %[[V2]] : f32
// CHECK-NEXT: %[[V4:.*]] = arith.constant 6.000000e+00 : f32
// CHECK-NEXT: %[[V5:.*]] = arith.mulf %[[V3]], %[[V4]] : f32
// CHECK-NEXT: %[[V6:.*]] = arith.constant 0.000000e+00 : f32
// CHECK-NEXT: %[[V7:.*]] = arith.cmpf olt, %[[V6]], %[[X]] : f32
// CHECK-NEXT: %[[V8:.*]] = arith.constant 3.000000e+00 : f32
// CHECK-NEXT: %[[V9:.*]] = arith.mulf %[[X]], %[[V8]] : f32
// CHECK-NEXT: %[[V10:.*]] = arith.select %[[V7]], %[[V9]], %[[V5]] : f32
// CHECK-NEXT: linalg.yield %[[V10]] : f32
func.func @elu(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.elu %x {alpha = 2.0 : f64, scale = 3.0 : f64, input_scale = 0.5 : f64} : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @softplus
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 2.000000e+00 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.mulf %[[X]], %[[V1]] : f32
// CHECK-NEXT: %[[V3:.*]] = arith.constant 2.000000e+01 : f32
// CHECK-NEXT: %[[V4:.*]] = arith.cmpf olt, %[[V3]], %[[V2]] : f32
// CHECK-NEXT: %[[V5:.*]] = math.exp %[[V2]] : f32
// CHECK-NEXT: %[[V6:.*]] = math.log1p %[[V5]] : f32
// CHECK-NEXT: %[[V7:.*]] = arith.constant 2.000000e+00 : f32
// CHECK-NEXT: %[[V8:.*]] = arith.divf %[[V6]], %[[V7]] : f32
// CHECK-NEXT: %[[V9:.*]] = arith.select %[[V4]], %[[X]], %[[V8]] : f32
// CHECK-NEXT: linalg.yield %[[V9]] : f32
func.func @softplus(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.softplus %x {beta = 2.0 : f64} : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @gelu
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 5.000000e-01 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.mulf %[[X]], %[[V1]] : f32
// CHECK-NEXT: %[[V3:.*]] = arith.constant 0.707106769 : f32
// CHECK-NEXT: %[[V4:.*]] = arith.mulf %[[X]], %[[V3]] : f32
// CHECK-NEXT: %[[V5:.*]] = math.erf %[[V4]] : f32
// CHECK-NEXT: %[[V6:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT: %[[V7:.*]] = arith.addf %[[V6]], %[[V5]] : f32
// CHECK-NEXT: %[[V8:.*]] = arith.mulf %[[V2]], %[[V7]] : f32
// CHECK-NEXT: linalg.yield %[[V8]] : f32
func.func @gelu(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.gelu %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @gelu1
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.mulf %[[X]], %[[X]] : f32
// CHECK-NEXT: %[[V2:.*]] = arith.mulf %[[V1]], %[[X]] : f32
// CHECK-NEXT: %[[V3:.*]] = arith.constant 4.471500e-02 : f32
// CHECK-NEXT: %[[V4:.*]] = arith.mulf %[[V3]], %[[V2]] : f32
// CHECK-NEXT: %[[V5:.*]] = arith.addf %[[X]], %[[V4]] : f32
// CHECK-NEXT: %[[V6:.*]] = arith.constant 0.797884583 : f32
// CHECK-NEXT: %[[V7:.*]] = arith.mulf %[[V6]], %[[V5]] : f32
// CHECK-NEXT: %[[V8:.*]] = arith.constant 5.000000e-01 : f32
// CHECK-NEXT: %[[V9:.*]] = arith.mulf %[[V8]], %[[X]] : f32
// CHECK-NEXT: %[[V10:.*]] = math.tanh %[[V7]] : f32
// CHECK-NEXT: %[[V11:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT: %[[V12:.*]] = arith.addf %[[V11]], %[[V10]] : f32
// CHECK-NEXT: %[[V13:.*]] = arith.mulf %[[V9]], %[[V12]] : f32
// CHECK-NEXT: linalg.yield %[[V13]] : f32
func.func @gelu1(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.gelu %x {tanh_approximation = true} : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @clamp
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant -1.000000e+00 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.maximumf %[[X]], %[[V1]] : f32
// CHECK-NEXT: %[[V3:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT: %[[V4:.*]] = arith.minimumf %[[V2]], %[[V3]] : f32
// CHECK-NEXT: linalg.yield %[[V4]] : f32
func.func @clamp(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.clamp %x {min = -1.0 : f64, max = 1.0 : f64} : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @clamp1
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant -1.000000e+00 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.maximumf %[[X]], %[[V1]] : f32
// CHECK-NEXT: linalg.yield %[[V2]] : f32
func.func @clamp1(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.clamp %x {min = -1.0 : f64} : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @add
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.addf %[[X]], %[[Y]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @add(%x: tensor<3xf32>, %y: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.add %x, %y : tensor<3xf32>, tensor<3xf32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @sub
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.subf %[[X]], %[[Y]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @sub(%x: tensor<3xf32>, %y: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.sub %x, %y : tensor<3xf32>, tensor<3xf32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @mul
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.mulf %[[X]], %[[Y]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @mul(%x: tensor<3xf32>, %y: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.mul %x, %y : tensor<3xf32>, tensor<3xf32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @div
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.divf %[[X]], %[[Y]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @div(%x: tensor<3xf32>, %y: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.div %x, %y : tensor<3xf32>, tensor<3xf32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @pow
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = math.powf %[[X]], %[[Y]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @pow(%x: tensor<3xf32>, %y: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.pow %x, %y : tensor<3xf32>, tensor<3xf32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @maximum
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.maximumf %[[X]], %[[Y]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @maximum(%x: tensor<3xf32>, %y: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.maximum %x, %y : tensor<3xf32>, tensor<3xf32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @minimum
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.minimumf %[[X]], %[[Y]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @minimum(%x: tensor<3xf32>, %y: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.minimum %x, %y : tensor<3xf32>, tensor<3xf32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @add_i32
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.addi %[[X]], %[[Y]] : i32
// CHECK-NEXT: linalg.yield %[[V1]] : i32
func.func @add_i32(%x: tensor<3xi32>, %y: tensor<3xi32>) -> tensor<3xi32> {
  %0 = pfcn.add %x, %y : tensor<3xi32>, tensor<3xi32> -> tensor<3xi32>
  return %0 : tensor<3xi32>
}

// CHECK-LABEL: func.func @mul_i32
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.muli %[[X]], %[[Y]] : i32
// CHECK-NEXT: linalg.yield %[[V1]] : i32
func.func @mul_i32(%x: tensor<3xi32>, %y: tensor<3xi32>) -> tensor<3xi32> {
  %0 = pfcn.mul %x, %y : tensor<3xi32>, tensor<3xi32> -> tensor<3xi32>
  return %0 : tensor<3xi32>
}

// CHECK-LABEL: func.func @maximum_i32
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.maxsi %[[X]], %[[Y]] : i32
// CHECK-NEXT: linalg.yield %[[V1]] : i32
func.func @maximum_i32(%x: tensor<3xi32>, %y: tensor<3xi32>) -> tensor<3xi32> {
  %0 = pfcn.maximum %x, %y : tensor<3xi32>, tensor<3xi32> -> tensor<3xi32>
  return %0 : tensor<3xi32>
}

// CHECK-LABEL: func.func @add_bool
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.ori %[[X]], %[[Y]] : i1
// CHECK-NEXT: linalg.yield %[[V1]] : i1
func.func @add_bool(%x: tensor<3xi1>, %y: tensor<3xi1>) -> tensor<3xi1> {
  %0 = pfcn.add %x, %y : tensor<3xi1>, tensor<3xi1> -> tensor<3xi1>
  return %0 : tensor<3xi1>
}

// CHECK-LABEL: func.func @mul_bool
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.andi %[[X]], %[[Y]] : i1
// CHECK-NEXT: linalg.yield %[[V1]] : i1
func.func @mul_bool(%x: tensor<3xi1>, %y: tensor<3xi1>) -> tensor<3xi1> {
  %0 = pfcn.mul %x, %y : tensor<3xi1>, tensor<3xi1> -> tensor<3xi1>
  return %0 : tensor<3xi1>
}

// CHECK-LABEL: func.func @maximum_bool
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.ori %[[X]], %[[Y]] : i1
// CHECK-NEXT: linalg.yield %[[V1]] : i1
func.func @maximum_bool(%x: tensor<3xi1>, %y: tensor<3xi1>) -> tensor<3xi1> {
  %0 = pfcn.maximum %x, %y : tensor<3xi1>, tensor<3xi1> -> tensor<3xi1>
  return %0 : tensor<3xi1>
}

// CHECK-LABEL: func.func @minimum_bool
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.andi %[[X]], %[[Y]] : i1
// CHECK-NEXT: linalg.yield %[[V1]] : i1
func.func @minimum_bool(%x: tensor<3xi1>, %y: tensor<3xi1>) -> tensor<3xi1> {
  %0 = pfcn.minimum %x, %y : tensor<3xi1>, tensor<3xi1> -> tensor<3xi1>
  return %0 : tensor<3xi1>
}

// CHECK-LABEL: func.func @abs_i32
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 0 : i32
// CHECK-NEXT: %[[V2:.*]] = arith.subi %[[V1]], %[[X]] : i32
// CHECK-NEXT: %[[V3:.*]] = arith.maxsi %[[X]], %[[V2]] : i32
// CHECK-NEXT: linalg.yield %[[V3]] : i32
func.func @abs_i32(%x: tensor<3xi32>) -> tensor<3xi32> {
  %0 = pfcn.abs %x : tensor<3xi32>
  return %0 : tensor<3xi32>
}

// CHECK-LABEL: func.func @sign_i32
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 0 : i32
// CHECK-NEXT: %[[V2:.*]] = arith.cmpi slt, %[[X]], %[[V1]] : i32
// CHECK-NEXT: %[[V3:.*]] = arith.constant -1 : i32
// CHECK-NEXT: %[[V4:.*]] = arith.select %[[V2]], %[[V3]], %[[V1]] : i32
// CHECK-NEXT: %[[V5:.*]] = arith.cmpi slt, %[[V1]], %[[X]] : i32
// CHECK-NEXT: %[[V6:.*]] = arith.constant 1 : i32
// CHECK-NEXT: %[[V7:.*]] = arith.select %[[V5]], %[[V6]], %[[V4]] : i32
// CHECK-NEXT: linalg.yield %[[V7]] : i32
func.func @sign_i32(%x: tensor<3xi32>) -> tensor<3xi32> {
  %0 = pfcn.sign %x : tensor<3xi32>
  return %0 : tensor<3xi32>
}

// CHECK-LABEL: func.func @compare_eq
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.cmpf oeq, %[[X]], %[[Y]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : i1
func.func @compare_eq(%x: tensor<3xf32>, %y: tensor<3xf32>) -> tensor<3xi1> {
  %0 = pfcn.compare eq %x, %y : tensor<3xf32>, tensor<3xf32> -> tensor<3xi1>
  return %0 : tensor<3xi1>
}

// CHECK-LABEL: func.func @compare_ne
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.cmpf une, %[[X]], %[[Y]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : i1
func.func @compare_ne(%x: tensor<3xf32>, %y: tensor<3xf32>) -> tensor<3xi1> {
  %0 = pfcn.compare ne %x, %y : tensor<3xf32>, tensor<3xf32> -> tensor<3xi1>
  return %0 : tensor<3xi1>
}

// CHECK-LABEL: func.func @compare_lt
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.cmpf olt, %[[X]], %[[Y]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : i1
func.func @compare_lt(%x: tensor<3xf32>, %y: tensor<3xf32>) -> tensor<3xi1> {
  %0 = pfcn.compare lt %x, %y : tensor<3xf32>, tensor<3xf32> -> tensor<3xi1>
  return %0 : tensor<3xi1>
}

// CHECK-LABEL: func.func @compare_le
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.cmpf ole, %[[X]], %[[Y]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : i1
func.func @compare_le(%x: tensor<3xf32>, %y: tensor<3xf32>) -> tensor<3xi1> {
  %0 = pfcn.compare le %x, %y : tensor<3xf32>, tensor<3xf32> -> tensor<3xi1>
  return %0 : tensor<3xi1>
}

// CHECK-LABEL: func.func @compare_gt
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.cmpf olt, %[[Y]], %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : i1
func.func @compare_gt(%x: tensor<3xf32>, %y: tensor<3xf32>) -> tensor<3xi1> {
  %0 = pfcn.compare gt %x, %y : tensor<3xf32>, tensor<3xf32> -> tensor<3xi1>
  return %0 : tensor<3xi1>
}

// CHECK-LABEL: func.func @compare_ge
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.cmpf ole, %[[Y]], %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : i1
func.func @compare_ge(%x: tensor<3xf32>, %y: tensor<3xf32>) -> tensor<3xi1> {
  %0 = pfcn.compare ge %x, %y : tensor<3xf32>, tensor<3xf32> -> tensor<3xi1>
  return %0 : tensor<3xi1>
}

// CHECK-LABEL: func.func @compare_i32
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.cmpi slt, %[[X]], %[[Y]] : i32
// CHECK-NEXT: linalg.yield %[[V1]] : i1
func.func @compare_i32(%x: tensor<3xi32>, %y: tensor<3xi32>) -> tensor<3xi1> {
  %0 = pfcn.compare lt %x, %y : tensor<3xi32>, tensor<3xi32> -> tensor<3xi1>
  return %0 : tensor<3xi1>
}

// CHECK-LABEL: func.func @compare_bool
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.cmpi ult, %[[X]], %[[Y]] : i1
// CHECK-NEXT: linalg.yield %[[V1]] : i1
func.func @compare_bool(%x: tensor<3xi1>, %y: tensor<3xi1>) -> tensor<3xi1> {
  %0 = pfcn.compare lt %x, %y : tensor<3xi1>, tensor<3xi1> -> tensor<3xi1>
  return %0 : tensor<3xi1>
}

// CHECK-LABEL: func.func @where
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %[[Z:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.select %[[X]], %[[Y]], %[[Z]] : f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @where(%c: tensor<3xi1>, %x: tensor<3xf32>, %y: tensor<3xf32>) -> tensor<3xf32> {
  %0 = pfcn.where %c, %x, %y : tensor<3xi1>, tensor<3xf32>, tensor<3xf32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @pow_0_0
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 0.000000e+00 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT: linalg.yield %[[V2]] : f32
func.func @pow_0_0(%x: tensor<3xf32>) -> tensor<3xf32> {
  %c = pfcn.constant dense<0.0> : tensor<f32>
  %0 = pfcn.pow %x, %c : tensor<3xf32>, tensor<f32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @pow_1_0
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT: linalg.yield %[[X]] : f32
func.func @pow_1_0(%x: tensor<3xf32>) -> tensor<3xf32> {
  %c = pfcn.constant dense<1.0> : tensor<f32>
  %0 = pfcn.pow %x, %c : tensor<3xf32>, tensor<f32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @pow_2_0
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 2.000000e+00 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.mulf %[[X]], %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V2]] : f32
func.func @pow_2_0(%x: tensor<3xf32>) -> tensor<3xf32> {
  %c = pfcn.constant dense<2.0> : tensor<f32>
  %0 = pfcn.pow %x, %c : tensor<3xf32>, tensor<f32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @pow_3_0
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 3.000000e+00 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.mulf %[[X]], %[[X]] : f32
// CHECK-NEXT: %[[V3:.*]] = arith.mulf %[[V2]], %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V3]] : f32
func.func @pow_3_0(%x: tensor<3xf32>) -> tensor<3xf32> {
  %c = pfcn.constant dense<3.0> : tensor<f32>
  %0 = pfcn.pow %x, %c : tensor<3xf32>, tensor<f32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @pow_0_5
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 5.000000e-01 : f32
// CHECK-NEXT: %[[V2:.*]] = math.sqrt %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V2]] : f32
func.func @pow_0_5(%x: tensor<3xf32>) -> tensor<3xf32> {
  %c = pfcn.constant dense<0.5> : tensor<f32>
  %0 = pfcn.pow %x, %c : tensor<3xf32>, tensor<f32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @pow_minus_0_5
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant -5.000000e-01 : f32
// CHECK-NEXT: %[[V2:.*]] = math.sqrt %[[X]] : f32
// CHECK-NEXT: %[[V3:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT: %[[V4:.*]] = arith.divf %[[V3]], %[[V2]] : f32
// CHECK-NEXT: linalg.yield %[[V4]] : f32
func.func @pow_minus_0_5(%x: tensor<3xf32>) -> tensor<3xf32> {
  %c = pfcn.constant dense<-0.5> : tensor<f32>
  %0 = pfcn.pow %x, %c : tensor<3xf32>, tensor<f32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @pow_minus_1_0
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant -1.000000e+00 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT: %[[V3:.*]] = arith.divf %[[V2]], %[[X]] : f32
// CHECK-NEXT: linalg.yield %[[V3]] : f32
func.func @pow_minus_1_0(%x: tensor<3xf32>) -> tensor<3xf32> {
  %c = pfcn.constant dense<-1.0> : tensor<f32>
  %0 = pfcn.pow %x, %c : tensor<3xf32>, tensor<f32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @pow_minus_2_0
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant -2.000000e+00 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.mulf %[[X]], %[[X]] : f32
// CHECK-NEXT: %[[V3:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT: %[[V4:.*]] = arith.divf %[[V3]], %[[V2]] : f32
// CHECK-NEXT: linalg.yield %[[V4]] : f32
func.func @pow_minus_2_0(%x: tensor<3xf32>) -> tensor<3xf32> {
  %c = pfcn.constant dense<-2.0> : tensor<f32>
  %0 = pfcn.pow %x, %c : tensor<3xf32>, tensor<f32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @pow_2_5
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 2.500000e+00 : f32
// CHECK-NEXT: %[[V2:.*]] = math.powf %[[X]], %[[V1]] : f32
// CHECK-NEXT: linalg.yield %[[V2]] : f32
func.func @pow_2_5(%x: tensor<3xf32>) -> tensor<3xf32> {
  %c = pfcn.constant dense<2.5> : tensor<f32>
  %0 = pfcn.pow %x, %c : tensor<3xf32>, tensor<f32> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @exp_f16
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.extf %[[X]] : f16 to f32
// CHECK-NEXT: %[[V2:.*]] = math.exp %[[V1]] : f32
// CHECK-NEXT: %[[V3:.*]] = arith.truncf %[[V2]] : f32 to f16
// CHECK-NEXT: linalg.yield %[[V3]] : f16
func.func @exp_f16(%x: tensor<3xf16>) -> tensor<3xf16> {
  %0 = pfcn.exp %x : tensor<3xf16>
  return %0 : tensor<3xf16>
}

// CHECK-LABEL: func.func @add_f16
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %[[Y:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.addf %[[X]], %[[Y]] : f16
// CHECK-NEXT: linalg.yield %[[V1]] : f16
func.func @add_f16(%x: tensor<3xf16>, %y: tensor<3xf16>) -> tensor<3xf16> {
  %0 = pfcn.add %x, %y : tensor<3xf16>, tensor<3xf16> -> tensor<3xf16>
  return %0 : tensor<3xf16>
}

// CHECK-LABEL: func.func @pow_bf16
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 2.000000e+00 : bf16
// CHECK-NEXT: %[[V2:.*]] = arith.extf %[[X]] : bf16 to f32
// CHECK-NEXT: %[[V3:.*]] = arith.constant 2.000000e+00 : f32
// CHECK-NEXT: %[[V4:.*]] = arith.mulf %[[V2]], %[[V2]] : f32
// CHECK-NEXT: %[[V5:.*]] = arith.truncf %[[V4]] : f32 to bf16
// CHECK-NEXT: linalg.yield %[[V5]] : bf16
func.func @pow_bf16(%x: tensor<3xbf16>) -> tensor<3xbf16> {
  %c = pfcn.constant dense<2.0> : tensor<bf16>
  %0 = pfcn.pow %x, %c : tensor<3xbf16>, tensor<bf16> -> tensor<3xbf16>
  return %0 : tensor<3xbf16>
}

// CHECK-LABEL: func.func @cast_f32_to_f64
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.extf %[[X]] : f32 to f64
// CHECK-NEXT: linalg.yield %[[V1]] : f64
func.func @cast_f32_to_f64(%x: tensor<3xf32>) -> tensor<3xf64> {
  %0 = pfcn.cast %x : tensor<3xf32> to tensor<3xf64>
  return %0 : tensor<3xf64>
}

// CHECK-LABEL: func.func @cast_f64_to_f32
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.truncf %[[X]] : f64 to f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @cast_f64_to_f32(%x: tensor<3xf64>) -> tensor<3xf32> {
  %0 = pfcn.cast %x : tensor<3xf64> to tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @cast_f16_to_bf16
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.extf %[[X]] : f16 to f32
// CHECK-NEXT: %[[V2:.*]] = arith.truncf %[[V1]] : f32 to bf16
// CHECK-NEXT: linalg.yield %[[V2]] : bf16
func.func @cast_f16_to_bf16(%x: tensor<3xf16>) -> tensor<3xbf16> {
  %0 = pfcn.cast %x : tensor<3xf16> to tensor<3xbf16>
  return %0 : tensor<3xbf16>
}

// CHECK-LABEL: func.func @cast_f64_to_f16
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.truncf %[[X]] : f64 to f32
// CHECK-NEXT: %[[V2:.*]] = arith.truncf %[[V1]] : f32 to f16
// CHECK-NEXT: linalg.yield %[[V2]] : f16
func.func @cast_f64_to_f16(%x: tensor<3xf64>) -> tensor<3xf16> {
  %0 = pfcn.cast %x : tensor<3xf64> to tensor<3xf16>
  return %0 : tensor<3xf16>
}

// CHECK-LABEL: func.func @cast_f32_to_i1
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 0.000000e+00 : f32
// CHECK-NEXT: %[[V2:.*]] = arith.cmpf une, %[[X]], %[[V1]] : f32
// CHECK-NEXT: linalg.yield %[[V2]] : i1
func.func @cast_f32_to_i1(%x: tensor<3xf32>) -> tensor<3xi1> {
  %0 = pfcn.cast %x : tensor<3xf32> to tensor<3xi1>
  return %0 : tensor<3xi1>
}

// CHECK-LABEL: func.func @cast_f32_to_i8
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.fptosi %[[X]] : f32 to i32
// CHECK-NEXT: %[[V2:.*]] = arith.trunci %[[V1]] : i32 to i8
// CHECK-NEXT: linalg.yield %[[V2]] : i8
func.func @cast_f32_to_i8(%x: tensor<3xf32>) -> tensor<3xi8> {
  %0 = pfcn.cast %x : tensor<3xf32> to tensor<3xi8>
  return %0 : tensor<3xi8>
}

// CHECK-LABEL: func.func @cast_f32_to_i64
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.fptosi %[[X]] : f32 to i64
// CHECK-NEXT: linalg.yield %[[V1]] : i64
func.func @cast_f32_to_i64(%x: tensor<3xf32>) -> tensor<3xi64> {
  %0 = pfcn.cast %x : tensor<3xf32> to tensor<3xi64>
  return %0 : tensor<3xi64>
}

// CHECK-LABEL: func.func @cast_f16_to_i32
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.extf %[[X]] : f16 to f32
// CHECK-NEXT: %[[V2:.*]] = arith.fptosi %[[V1]] : f32 to i32
// CHECK-NEXT: linalg.yield %[[V2]] : i32
func.func @cast_f16_to_i32(%x: tensor<3xf16>) -> tensor<3xi32> {
  %0 = pfcn.cast %x : tensor<3xf16> to tensor<3xi32>
  return %0 : tensor<3xi32>
}

// CHECK-LABEL: func.func @cast_i1_to_f32
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.uitofp %[[X]] : i1 to f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @cast_i1_to_f32(%x: tensor<3xi1>) -> tensor<3xf32> {
  %0 = pfcn.cast %x : tensor<3xi1> to tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @cast_i1_to_i32
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.extui %[[X]] : i1 to i32
// CHECK-NEXT: linalg.yield %[[V1]] : i32
func.func @cast_i1_to_i32(%x: tensor<3xi1>) -> tensor<3xi32> {
  %0 = pfcn.cast %x : tensor<3xi1> to tensor<3xi32>
  return %0 : tensor<3xi32>
}

// CHECK-LABEL: func.func @cast_i32_to_f32
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.sitofp %[[X]] : i32 to f32
// CHECK-NEXT: linalg.yield %[[V1]] : f32
func.func @cast_i32_to_f32(%x: tensor<3xi32>) -> tensor<3xf32> {
  %0 = pfcn.cast %x : tensor<3xi32> to tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @cast_i64_to_bf16
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.sitofp %[[X]] : i64 to f32
// CHECK-NEXT: %[[V2:.*]] = arith.truncf %[[V1]] : f32 to bf16
// CHECK-NEXT: linalg.yield %[[V2]] : bf16
func.func @cast_i64_to_bf16(%x: tensor<3xi64>) -> tensor<3xbf16> {
  %0 = pfcn.cast %x : tensor<3xi64> to tensor<3xbf16>
  return %0 : tensor<3xbf16>
}

// CHECK-LABEL: func.func @cast_i64_to_i32
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.trunci %[[X]] : i64 to i32
// CHECK-NEXT: linalg.yield %[[V1]] : i32
func.func @cast_i64_to_i32(%x: tensor<3xi64>) -> tensor<3xi32> {
  %0 = pfcn.cast %x : tensor<3xi64> to tensor<3xi32>
  return %0 : tensor<3xi32>
}

// CHECK-LABEL: func.func @cast_i32_to_i64
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.extsi %[[X]] : i32 to i64
// CHECK-NEXT: linalg.yield %[[V1]] : i64
func.func @cast_i32_to_i64(%x: tensor<3xi32>) -> tensor<3xi64> {
  %0 = pfcn.cast %x : tensor<3xi32> to tensor<3xi64>
  return %0 : tensor<3xi64>
}

// CHECK-LABEL: func.func @cast_i32_to_i1
// CHECK: linalg.generic
// CHECK-NEXT: ^bb0(%[[X:.*]]: {{[a-z0-9]+}}, %{{.*}}: {{.*}}):
// CHECK-NEXT: %[[V1:.*]] = arith.constant 0 : i32
// CHECK-NEXT: %[[V2:.*]] = arith.cmpi ne, %[[X]], %[[V1]] : i32
// CHECK-NEXT: linalg.yield %[[V2]] : i1
func.func @cast_i32_to_i1(%x: tensor<3xi32>) -> tensor<3xi1> {
  %0 = pfcn.cast %x : tensor<3xi32> to tensor<3xi1>
  return %0 : tensor<3xi1>
}
