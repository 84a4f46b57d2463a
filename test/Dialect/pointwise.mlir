// RUN: pfcn-opt %s --verify-roundtrip | FileCheck %s
// Every op that computes each element of its result from elements of its operands. Two operands broadcast.

// CHECK-LABEL: func.func @of_one
func.func @of_one(%x: tensor<3x5xf32>) -> tensor<3x5xf32> {
  // CHECK: pfcn.neg %{{.*}} : tensor<3x5xf32>
  %0 = pfcn.neg %x : tensor<3x5xf32>
  // CHECK: pfcn.abs %{{.*}} : tensor<3x5xf32>
  %1 = pfcn.abs %0 : tensor<3x5xf32>
  // CHECK: pfcn.sign %{{.*}} : tensor<3x5xf32>
  %2 = pfcn.sign %1 : tensor<3x5xf32>
  // CHECK: pfcn.relu %{{.*}} : tensor<3x5xf32>
  %3 = pfcn.relu %2 : tensor<3x5xf32>
  // CHECK: pfcn.exp %{{.*}} : tensor<3x5xf32>
  %4 = pfcn.exp %3 : tensor<3x5xf32>
  // CHECK: pfcn.expm1 %{{.*}} : tensor<3x5xf32>
  %5 = pfcn.expm1 %4 : tensor<3x5xf32>
  // CHECK: pfcn.log %{{.*}} : tensor<3x5xf32>
  %6 = pfcn.log %5 : tensor<3x5xf32>
  // CHECK: pfcn.log1p %{{.*}} : tensor<3x5xf32>
  %7 = pfcn.log1p %6 : tensor<3x5xf32>
  // CHECK: pfcn.sqrt %{{.*}} : tensor<3x5xf32>
  %8 = pfcn.sqrt %7 : tensor<3x5xf32>
  // CHECK: pfcn.rsqrt %{{.*}} : tensor<3x5xf32>
  %9 = pfcn.rsqrt %8 : tensor<3x5xf32>
  // CHECK: pfcn.reciprocal %{{.*}} : tensor<3x5xf32>
  %10 = pfcn.reciprocal %9 : tensor<3x5xf32>
  // CHECK: pfcn.tanh %{{.*}} : tensor<3x5xf32>
  %11 = pfcn.tanh %10 : tensor<3x5xf32>
  // CHECK: pfcn.sigmoid %{{.*}} : tensor<3x5xf32>
  %12 = pfcn.sigmoid %11 : tensor<3x5xf32>
  // CHECK: pfcn.silu %{{.*}} : tensor<3x5xf32>
  %13 = pfcn.silu %12 : tensor<3x5xf32>
  // CHECK: pfcn.mish %{{.*}} : tensor<3x5xf32>
  %14 = pfcn.mish %13 : tensor<3x5xf32>
  // CHECK: pfcn.erf %{{.*}} : tensor<3x5xf32>
  %15 = pfcn.erf %14 : tensor<3x5xf32>
  // CHECK: pfcn.erfc %{{.*}} : tensor<3x5xf32>
  %16 = pfcn.erfc %15 : tensor<3x5xf32>
  // CHECK: pfcn.sin %{{.*}} : tensor<3x5xf32>
  %17 = pfcn.sin %16 : tensor<3x5xf32>
  // CHECK: pfcn.cos %{{.*}} : tensor<3x5xf32>
  %18 = pfcn.cos %17 : tensor<3x5xf32>
  // CHECK: pfcn.tan %{{.*}} : tensor<3x5xf32>
  %19 = pfcn.tan %18 : tensor<3x5xf32>
  // CHECK: pfcn.asin %{{.*}} : tensor<3x5xf32>
  %20 = pfcn.asin %19 : tensor<3x5xf32>
  // CHECK: pfcn.acos %{{.*}} : tensor<3x5xf32>
  %21 = pfcn.acos %20 : tensor<3x5xf32>
  // CHECK: pfcn.atan %{{.*}} : tensor<3x5xf32>
  %22 = pfcn.atan %21 : tensor<3x5xf32>
  // CHECK: pfcn.sinh %{{.*}} : tensor<3x5xf32>
  %23 = pfcn.sinh %22 : tensor<3x5xf32>
  // CHECK: pfcn.cosh %{{.*}} : tensor<3x5xf32>
  %24 = pfcn.cosh %23 : tensor<3x5xf32>
  // CHECK: pfcn.asinh %{{.*}} : tensor<3x5xf32>
  %25 = pfcn.asinh %24 : tensor<3x5xf32>
  // CHECK: pfcn.acosh %{{.*}} : tensor<3x5xf32>
  %26 = pfcn.acosh %25 : tensor<3x5xf32>
  // CHECK: pfcn.atanh %{{.*}} : tensor<3x5xf32>
  %27 = pfcn.atanh %26 : tensor<3x5xf32>
  // CHECK: pfcn.exp2 %{{.*}} : tensor<3x5xf32>
  %28 = pfcn.exp2 %27 : tensor<3x5xf32>
  // CHECK: pfcn.log2 %{{.*}} : tensor<3x5xf32>
  %29 = pfcn.log2 %28 : tensor<3x5xf32>
  // CHECK: pfcn.log10 %{{.*}} : tensor<3x5xf32>
  %30 = pfcn.log10 %29 : tensor<3x5xf32>
  // CHECK: pfcn.floor %{{.*}} : tensor<3x5xf32>
  %31 = pfcn.floor %30 : tensor<3x5xf32>
  // CHECK: pfcn.ceil %{{.*}} : tensor<3x5xf32>
  %32 = pfcn.ceil %31 : tensor<3x5xf32>
  // CHECK: pfcn.trunc %{{.*}} : tensor<3x5xf32>
  %33 = pfcn.trunc %32 : tensor<3x5xf32>
  // CHECK: pfcn.round %{{.*}} : tensor<3x5xf32>
  %34 = pfcn.round %33 : tensor<3x5xf32>
  // CHECK: pfcn.hardswish %{{.*}} : tensor<3x5xf32>
  %35 = pfcn.hardswish %34 : tensor<3x5xf32>
  // CHECK: pfcn.hardsigmoid %{{.*}} : tensor<3x5xf32>
  %36 = pfcn.hardsigmoid %35 : tensor<3x5xf32>
  // CHECK: pfcn.log_sigmoid %{{.*}} : tensor<3x5xf32>
  %37 = pfcn.log_sigmoid %36 : tensor<3x5xf32>
  // CHECK: pfcn.detach %{{.*}} : tensor<3x5xf32>
  %38 = pfcn.detach %37 : tensor<3x5xf32>
  // CHECK: pfcn.gelu %{{.*}} : tensor<3x5xf32>
  %39 = pfcn.gelu %38 : tensor<3x5xf32>
  // CHECK: pfcn.leaky_relu %{{.*}} {negative_slope = 1.000000e-01 : f64} : tensor<3x5xf32>
  %40 = pfcn.leaky_relu %39 {negative_slope = 1.000000e-01 : f64} : tensor<3x5xf32>
  // CHECK: pfcn.elu %{{.*}} {alpha = 2.000000e+00 : f64} : tensor<3x5xf32>
  %41 = pfcn.elu %40 {alpha = 2.000000e+00 : f64} : tensor<3x5xf32>
  // CHECK: pfcn.softplus %{{.*}} {beta = 2.000000e+00 : f64} : tensor<3x5xf32>
  %42 = pfcn.softplus %41 {beta = 2.000000e+00 : f64} : tensor<3x5xf32>
  // CHECK: pfcn.clamp %{{.*}} {min = 0.000000e+00 : f64} : tensor<3x5xf32>
  %43 = pfcn.clamp %42 {min = 0.000000e+00 : f64} : tensor<3x5xf32>
  return %43 : tensor<3x5xf32>
}

// CHECK-LABEL: func.func @of_two
func.func @of_two(%x: tensor<3x5xf32>, %y: tensor<5xf32>) -> tensor<3x5xf32> {
  // CHECK: pfcn.add %{{.*}}, %{{.*}} : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  %0 = pfcn.add %x, %y : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  // CHECK: pfcn.sub %{{.*}}, %{{.*}} : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  %1 = pfcn.sub %0, %y : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  // CHECK: pfcn.mul %{{.*}}, %{{.*}} : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  %2 = pfcn.mul %1, %y : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  // CHECK: pfcn.div %{{.*}}, %{{.*}} : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  %3 = pfcn.div %2, %y : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  // CHECK: pfcn.pow %{{.*}}, %{{.*}} : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  %4 = pfcn.pow %3, %y : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  // CHECK: pfcn.maximum %{{.*}}, %{{.*}} : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  %5 = pfcn.maximum %4, %y : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  // CHECK: pfcn.minimum %{{.*}}, %{{.*}} : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  %6 = pfcn.minimum %5, %y : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  // CHECK: pfcn.atan2 %{{.*}}, %{{.*}} : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  %7 = pfcn.atan2 %6, %y : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  // CHECK: pfcn.fmod %{{.*}}, %{{.*}} : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  %8 = pfcn.fmod %7, %y : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  // CHECK: pfcn.remainder %{{.*}}, %{{.*}} : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  %9 = pfcn.remainder %8, %y : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  // CHECK: pfcn.copysign %{{.*}}, %{{.*}} : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  %10 = pfcn.copysign %9, %y : tensor<3x5xf32>, tensor<5xf32> -> tensor<3x5xf32>
  return %10 : tensor<3x5xf32>
}

// CHECK-LABEL: func.func @of_bits
func.func @of_bits(%x: tensor<3x5xi32>, %y: tensor<5xi32>) -> tensor<3x5xi32> {
  // CHECK: pfcn.bitwise_and %{{.*}}, %{{.*}} : tensor<3x5xi32>, tensor<5xi32> -> tensor<3x5xi32>
  %0 = pfcn.bitwise_and %x, %y : tensor<3x5xi32>, tensor<5xi32> -> tensor<3x5xi32>
  // CHECK: pfcn.bitwise_or %{{.*}}, %{{.*}} : tensor<3x5xi32>, tensor<5xi32> -> tensor<3x5xi32>
  %1 = pfcn.bitwise_or %0, %y : tensor<3x5xi32>, tensor<5xi32> -> tensor<3x5xi32>
  // CHECK: pfcn.bitwise_xor %{{.*}}, %{{.*}} : tensor<3x5xi32>, tensor<5xi32> -> tensor<3x5xi32>
  %2 = pfcn.bitwise_xor %1, %y : tensor<3x5xi32>, tensor<5xi32> -> tensor<3x5xi32>
  return %2 : tensor<3x5xi32>
}

// CHECK-LABEL: func.func @other_types
func.func @other_types(%x: tensor<3x5xf32>) -> tensor<3x5xbf16> {
  // CHECK: pfcn.cast %{{.*}} : tensor<3x5xf32> to tensor<3x5xbf16>
  %0 = pfcn.cast %x : tensor<3x5xf32> to tensor<3x5xbf16>
  return %0 : tensor<3x5xbf16>
}
