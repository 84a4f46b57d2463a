//===- Plan.h - a compiled model as a short list of steps ---------------*- C++ -*-===//
//
// `forward` of a module, flattened to steps over numbered slots: launches of compiled
// kernels, torch operators, views. A plan holds nothing of MLIR and none of the weights; these come with
// every run, as leaves. It has no state, so any number of threads may run it at once.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_RUNTIME_PLAN_H
#define PFCN_RUNTIME_PLAN_H

#include "pfcn/Runtime/Evaluate.h"
#include "pfcn/Runtime/Padding.h"
#include "pfcn/Runtime/Reach.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/DenseMap.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace pfcn::runtime {

/// A compiled kernel under the packed calling convention.
using Kernel = void (*)(void **arguments);

/// The kernels of a module by name, null where there is none. What it captures must keep them alive.
using KernelLookup = std::function<Kernel(llvm::StringRef name)>;

/// A tensor of known type; sizes are -1 where they may vary from call to call.
struct TensorSpec {
  std::vector<int64_t> sizes;
  at::ScalarType dtype;

  bool matches(const at::Tensor &tensor) const;
  std::string str() const;
};

/// A device in a message.
std::string describe(c10::Device device);

/// A weight of the plan: one parameter, or n of them stacked.
struct Leaf {
  std::vector<std::string> paths;
  bool isStack;
  /// The number of instances that lie interleaved in a packed stack; 0 for torch's own layout.
  int64_t packedLanes;
  /// In pfcn's own memory of a device, where only kernels read it.
  bool onDevice;
  TensorSpec spec;
  StackPadding padding;
};

/// A foreign operator that runs for all instances of a group.
struct GroupCall {
  std::string group, callee;
  /// In training: why its gradient is torch's.
  std::string reason;
  /// Why it runs once per instance; empty where torch batches it.
  std::string loopReason;
};

enum class StepKind { Kernel, Library, Operator, View, Allocation, Copy };

const char *getName(StepKind kind);

class Gradient;
class Stack;
struct CudaTarget;
struct Frame;
class UsedResults;

struct Step {
  StepKind kind;
  std::string name;
  std::function<void(Frame &)> run;
  /// Slots whose last use this is.
  std::vector<unsigned> dead;
};

/// Straight-line code over slots: a model, or the body of a group.
struct Program {
  unsigned tensorCount = 0;
  unsigned indexCount = 0;
  std::vector<unsigned> inputs, outputs;
  std::vector<std::pair<unsigned, at::Tensor>> constants;
  std::vector<Step> steps;

  void run(Frame &frame) const;
};

/// The values of one run.
struct Frame {
  explicit Frame(const Program &program);
  llvm::SmallVector<at::Tensor, 16> tensors;
  llvm::SmallVector<int64_t, 4> indices;
  /// Whether autograd follows, and the parameters that lie in the tensors of some slots.
  bool isFollowed = false;
  llvm::DenseMap<unsigned, std::shared_ptr<const Stack>> stacks;
  std::shared_ptr<UsedResults> used;
  /// What copies to a device may still be reading.
  llvm::SmallVector<at::Tensor, 2> sources;
};

class Plan {
public:
  /// Flattens `forward` of the module. Throws `c10::Error` for what cannot be run.
  static std::shared_ptr<const Plan> create(mlir::ModuleOp module, KernelLookup lookup = nullptr,
                                            llvm::ArrayRef<std::vector<int64_t>> outputStrides = {},
                                            std::shared_ptr<const CudaTarget> cuda = nullptr,
                                            llvm::ArrayRef<std::shared_ptr<const Gradient>> gradients = {},
                                            const Reach *reach = nullptr);

  /// The results for these inputs, in fresh tensors: none is a view of another, of an input
  /// or of a weight, except where the model returns an input or a parameter as it is.
  /// Throws `c10::Error` where the inputs or leaves are not of the plan's types. `places`: memory for results,
  /// undefined where any will do. A result is the very tensor that was given for it where a kernel could write all of
  /// it there, and else a fresh one.
  std::vector<at::Tensor> run(TensorRange inputs, TensorRange leaves, TensorRange places = {}) const;

  /// The same for arguments that have been checked.
  std::vector<at::Tensor> runUnchecked(TensorRange inputs, TensorRange leaves, TensorRange places = {}) const;

  /// The same with autograd following: kernels are nodes of its graph, and so are torch's operators. `stacks`: of the
  /// leaves, the parameters that lie in them, or null.
  std::vector<at::Tensor> runFollowed(TensorRange inputs, TensorRange leaves,
                                      llvm::ArrayRef<std::shared_ptr<const Stack>> stacks) const;

  const std::vector<TensorSpec> &getInputs() const { return inputs; }
  /// Where inputs, weights and results are.
  c10::Device getDevice() const;
  /// What kernels run on; null for the CPU.
  const std::shared_ptr<const CudaTarget> &getCuda() const { return cuda; }
  const std::vector<Leaf> &getLeaves() const { return leaves; }
  const std::vector<Step> &getSteps() const { return program.steps; }
  /// For each result behind the model's own: the parameters and buffers that become what it holds.
  const std::vector<std::vector<std::string>> &getWrites() const { return writes; }
  const std::vector<GroupCall> &getGroupCalls() const { return groupCalls; }

private:
  friend class PlanBuilder;

  struct Output {
    /// An input or a parameter, returned as it is.
    bool isGiven;
    /// Dimensions from the outermost to the innermost in eager's result; empty where unknown.
    std::vector<int64_t> order;
    /// Where a kernel writes it into memory that was made for it: the slot of that memory, and what is to be there.
    std::optional<unsigned> memorySlot;
    TensorSpec spec;
  };

  void check(TensorRange inputs, TensorRange leaves) const;
  void fill(Frame &frame, TensorRange inputs, TensorRange leaves) const;
  std::vector<at::Tensor> collect(Frame &frame, TensorRange given, TensorRange weights) const;

  std::shared_ptr<const CudaTarget> cuda;
  Program program;
  std::vector<TensorSpec> inputs;
  std::vector<Leaf> leaves;
  std::vector<unsigned> leafSlots;
  std::vector<Output> outputs;
  std::vector<GroupCall> groupCalls;
  std::vector<std::vector<std::string>> writes;
  /// Whether some result does not depend on some parameter or input, and for each leaf on which results its members do.
  bool limitsReach = false;
  std::vector<ReachedFrom> leafReach;
  /// Every result was written by a group into memory of its own that nothing else is a view of.
  bool allFresh = true;
};

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_PLAN_H
