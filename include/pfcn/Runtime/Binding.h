//===- Binding.h - a plan together with the weights of one model ---------*- C++ -*-===//
//
// A plan names its weights by path. Here each name gets its tensor: a parameter itself, or the
// home of a stack of them. All plans of a model share its homes.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_RUNTIME_BINDING_H
#define PFCN_RUNTIME_BINDING_H

#include "pfcn/Runtime/Homes.h"
#include "pfcn/Runtime/Plan.h"
#include "pfcn/Runtime/StackedLeaf.h"

#include <map>
#include <memory>

namespace pfcn::runtime {

class DeviceCopy;

/// Tensors of a model by path.
using NamedTensors = std::map<std::string, at::Tensor>;

/// The stacks of one model.
class Weights {
public:
  /// The stack of these parameters, which may exist already.
  std::shared_ptr<Stack> getStack(std::vector<at::Tensor> members, std::vector<std::string> names,
                                  at::IntArrayRef shape, const StackPadding &padding);

  /// Whether no parameter of a stack has moved since the last call, and none is copied.
  bool isSettled() const;
  /// Finds homes for those that have. False where a parameter no longer has its shape, type or device.
  bool settle();

  const std::vector<std::shared_ptr<Stack>> &getStacks() const { return stacks; }

  /// Makes stack `index` a leaf of autograd; `parameter` lies where the stack does. See StackedLeaf.
  std::shared_ptr<StackedLeaf> addLeaf(size_t index, const at::Tensor &parameter,
                                       std::function<StackedLeaf::Hooks()> findHooks);
  /// The leaves of what was known of the model before it changed.
  void takeLeaves(const Weights &earlier) { leaves = earlier.leaves; }
  bool areLeavesAtHome() const;

private:
  std::vector<std::shared_ptr<Stack>> stacks;
  std::vector<std::shared_ptr<StackedLeaf>> leaves;
};

/// It does not keep the weights alive; whoever runs the plan does.
class BoundPlan {
public:
  /// With `freeze`, the weights are copied now and later updates are not seen.
  BoundPlan(std::shared_ptr<const Plan> plan, const NamedTensors &tensors, Weights &weights, bool freeze);

  const Plan &getPlan() const { return *plan; }
  /// Whether the parameters that are no part of a stack still have the types that the plan was made for.
  bool isCurrent() const;
  /// A number for which of its parameters autograd follows; 0 for none.
  uint64_t getGradPattern() const;
  /// The weights for one run; to be called where no other thread changes them.
  llvm::SmallVector<at::Tensor, 8> getLeaves() const;
  /// The same for a run that autograd follows, and the parameters that lie in each, or null. To be called after
  /// getGradPattern, which looks at the parameters that train as one.
  llvm::SmallVector<at::Tensor, 8> getFollowed(llvm::SmallVectorImpl<std::shared_ptr<const Stack>> &stacks) const;
  /// Copies the results behind the model's own into the parameters and buffers that they are for, and drops them.
  void writeBack(std::vector<at::Tensor> &results) const;

private:
  /// A tensor that the model keeps alive, and that `p.data = …` can change.
  struct Live {
    WeakTensor tensor{at::Tensor().getIntrusivePtr()};
    const TensorSpec *spec = nullptr; ///< null: none
  };

  /// Where a leaf comes from: a stack, one tensor, or its values when the weights were frozen.
  struct Source {
    std::shared_ptr<Stack> stack;
    Live live;
    at::Tensor snapshot;
    /// Its values where kernels read them; null where that is the tensor itself.
    std::shared_ptr<DeviceCopy> onDevice;
    /// A run writes it when all is computed.
    bool isWritten = false;
  };

  std::shared_ptr<const Plan> plan;
  std::vector<Source> sources;
  std::vector<std::vector<WeakTensor>> targets;
};

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_BINDING_H
