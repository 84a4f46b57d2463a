// A kernel or group that reads nothing could be printed, but not parsed again: a model with such a group could not be
// trained.
// RUN: pfcn-opt %s --pfcn-pipeline-fuse | pfcn-opt | FileCheck %s
// RUN: pfcn-opt %s --pfcn-pipeline-cpu | pfcn-opt | FileCheck %s --check-prefix=LAUNCH

// CHECK: pfcn.kernel "one" count 2 ins() [] outs(
// LAUNCH: pfcn.launch {{.*}} ins() [] outs(
func.func @forward() -> tensor<2x3xf32> {
  %init = pfcn.empty : tensor<2x3xf32>
  %y = pfcn.instances "one" count 2 ins() [] outs(%init : tensor<2x3xf32>) [#pfcn.access<select dim 0>] {
    %c = pfcn.constant dense<1.0> : tensor<3xf32>
    %e = pfcn.exp %c : tensor<3xf32>
    pfcn.yield %e : tensor<3xf32>
  } -> tensor<2x3xf32>
  return %y : tensor<2x3xf32>
}
