//===- Compile.h - from an imported model to a plan ----------------------*- C++ -*-===//
//
// Runs the pipelines on a copy of the model, compiles its kernels, and makes the plan.
// What each phase took, and what it decided, comes along.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_RUNTIME_COMPILE_H
#define PFCN_RUNTIME_COMPILE_H

#include "pfcn/Import/Model.h"
#include "pfcn/Runtime/Plan.h"

namespace pfcn::runtime {

struct CompileOptions {
  /// Weights will not change, so kernels may ask for a packed layout.
  bool freeze = false;
  /// Groups run as compiled kernels; otherwise, on torch's functions.
  bool useKernels = true;
  /// Detect groups; otherwise the model runs op by op.
  bool fuse = true;
  /// The number of the CUDA device to compile for; none for the CPU.
  std::optional<int> cudaDevice;
  /// Tensors are on the CPU all the same, and copied.
  bool cudaCopies = false;
  /// Autograd will follow: the gradients of groups are part of the plan.
  bool differentiate = false;
  /// Kernels may round f32 to tf32 where they multiply matrices.
  bool allowTf32 = false;
  /// The strides of eager's results, where the model's own layout is to be kept.
  std::vector<std::vector<int64_t>> outputStrides;
};

/// A group as it ended up.
struct GroupInfo {
  std::string name;
  int64_t instances = 0;
  /// Ops of one instance, in order.
  std::vector<std::string> ops;
  /// How each operand varies, in the dialect's words.
  std::vector<std::string> operands;
  /// The kernels that it became; empty where it runs on torch's functions.
  std::vector<std::string> kernels;
  /// The foreign operators of the body, each called once for all instances.
  std::vector<std::string> calls;
  /// The instruction of tensor cores that the kernels multiply with, if they do.
  std::string tensorCores;
  /// Why the instances are one group, and why there is no kernel for it.
  std::string reason, declined;
  /// On a GPU: what else the group could have become, with estimates.
  std::string choice;
  /// What is padded with zeros to one size, and what that costs.
  std::string padding;
  /// Module path and source line of the first instance.
  std::string where;
  /// Of all instances: floating-point operations, and bytes that are moved op by op and as one.
  double flops = 0, bytesBefore = 0, bytesAfter = 0;
};

/// Something that was not fused, and why: the ops at which two candidates differ.
struct Miss {
  std::string reason, suggestion, where, other;
};

struct Compilation {
  std::shared_ptr<const Plan> plan;
  std::vector<GroupInfo> groups;
  std::vector<Miss> missed;
  /// (phase, seconds) in order.
  std::vector<std::pair<std::string, double>> seconds;
  /// The module after detection, and as it is executed.
  std::string fusedText, loweredText;
};

/// Throws `CompileFailure` where a pass or the code generator fails.
std::shared_ptr<Compilation> compile(const Model &model, const CompileOptions &options);

/// A model from MLIR text; tensors are given by path. Throws `c10::Error` with the
/// parser's message.
std::shared_ptr<Model> parseModel(const std::string &text, std::map<std::string, at::Tensor> tensors);

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_COMPILE_H
