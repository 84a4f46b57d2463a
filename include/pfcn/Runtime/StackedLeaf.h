//===- StackedLeaf.h - n parameters that train as one --------------------*- C++ -*-===//
//
// In stacked mode the home of n parameters is a leaf of autograd: optimizers step one tensor instead of
// n. The gradient of each parameter is a view of the stacked gradient, and stays that; what is done to the one is seen
// in the other.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_RUNTIME_STACKEDLEAF_H
#define PFCN_RUNTIME_STACKEDLEAF_H

#include "pfcn/Runtime/Homes.h"

#include <torch/csrc/autograd/variable.h>

#include <atomic>
#include <functional>

namespace pfcn::runtime {

class WatchedMeta;

class StackedLeaf {
public:
  struct Hooks {
    /// Whether anything but `beforeAccumulation` and `afterAccumulation` is to be called with the gradient of the
    /// parameter.
    bool areOwn;
    /// How many hooks have been registered on anything, ever.
    int64_t count;
  };

  /// `parameter` lies where the members do, and is a leaf that wants a gradient. It keeps the members alive, and is
  /// itself kept alive by its owner: the two would be a circle.
  StackedLeaf(const at::Tensor &parameter, std::vector<at::Tensor> members, std::vector<std::string> names,
              std::function<Hooks()> findHooks);
  ~StackedLeaf();
  StackedLeaf(const StackedLeaf &) = delete;
  StackedLeaf &operator=(const StackedLeaf &) = delete;

  at::Tensor getParameter() const;
  const std::vector<at::Tensor> &getMembers() const { return members; }
  bool isOf(llvm::ArrayRef<at::Tensor> parameters) const;

  /// Whether autograd follows all of the members, or none. Throws where it follows some.
  bool isFollowed();
  /// What `isFollowed` has said last.
  bool wasFollowed() const { return areFollowed; }

  /// The stacked gradient after what was done to the members'; undefined where it has been cleared.
  at::Tensor getGrad();
  /// An undefined gradient clears it: the members' are zero then.
  void setGrad(const at::Tensor &value);

  /// What autograd calls before it adds to the gradient of the parameter. Throws where a member has hooks, which
  /// nothing would call.
  void beforeAccumulation();
  /// Takes what autograd has left as the gradient of the parameter into the memory that members' gradients view.
  void afterAccumulation();

  /// The memory of the gradient for a backward that writes all of it, in the place of autograd; undefined where it has
  /// to be added to, or where hooks are to see what is added. Ends with `setWritten`. Throws as `beforeAccumulation`
  /// does.
  at::Tensor claim();
  void setWritten(bool isComplete);

  /// The members have moved to another home.
  void moveTo(const at::Tensor &stacked);
  /// Whether the members are parts of the parameter. Others that came to them, or left, make them move without it.
  bool isAtHome() const;

private:
  void collect();
  void markCleared();
  void checkMembersHooks(int64_t count);

  WeakTensor parameter;
  at::Tensor gradient;
  std::vector<at::Tensor> members;
  std::vector<std::string> names;
  std::vector<at::Tensor> views;
  /// The members' own, and how often anything could have replaced a gradient of one: ever, and when last seen.
  std::vector<WatchedMeta *> metas;
  std::shared_ptr<std::atomic<uint64_t>> touches;
  uint64_t seen = 0;
  std::function<Hooks()> findHooks;
  int64_t checkedHooks = -1;
  /// There is no gradient, and the memory of it is all zeros, unless somebody has written to a view since.
  bool isCleared = true;
  int64_t clearedVersion = 0;
  bool areFollowed = true;
  /// A backward is writing.
  std::atomic<bool> isClaimed{false};
};

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_STACKEDLEAF_H
