//===- Autograd.h - plans that autograd follows --------------------------*- C++ -*-===//
//
// A kernel is one node of torch's graph: its backward is a plan of its own, compiled when it is first
// asked for. The stack of n parameters is one node too, which hands each parameter its part of the gradient.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_RUNTIME_AUTOGRAD_H
#define PFCN_RUNTIME_AUTOGRAD_H

#include "pfcn/Runtime/Homes.h"
#include "pfcn/Runtime/Plan.h"
#include "pfcn/Runtime/Reach.h"

#include <map>
#include <mutex>

namespace pfcn::runtime {

struct CompileOptions;

/// The gradients of one group.
class Gradient {
public:
  /// `group`: a module with a function of one `pfcn.instances`, as text.
  Gradient(std::string group, const CompileOptions &options);

  struct Backward {
    /// From the inputs of the group and the gradients of its results to those of its inputs that are wanted, and that
    /// a gradient flows to.
    std::shared_ptr<const Plan> plan;
    std::vector<bool> reached;
    /// Whether it reads the elements of each of these, and not only the sizes.
    std::vector<bool> reads;
  };
  /// The backward for these inputs. Torch's functions compute it where autograd is to follow it in turn.
  const Backward &get(const std::vector<bool> &wanted, bool isFollowed) const;

private:
  Backward compile(const std::vector<bool> &wanted, bool isFollowed) const;

  std::string group;
  std::shared_ptr<const CompileOptions> options;
  mutable std::mutex mutex;
  mutable std::map<std::pair<std::vector<bool>, bool>, Backward> compiled;
};

/// The row `begin`, or those from `begin` to `end`, of a result of a group. It is a result of the group's node: to
/// torch's `select` the gradient of one row would be a tensor of all rows.
struct RowsOfResult {
  unsigned result;
  int64_t begin, end;
  bool isOne;

  at::Tensor get(const at::Tensor &whole) const { return isOne ? whole.select(0, begin) : whole.slice(0, begin, end); }
};

struct FollowedResults {
  std::vector<at::Tensor> whole, rows;
};

/// Runs a launch on `tensors` (inputs, then destinations) with a node behind its results, which are returned in
/// the place of the destinations. `stacks`: of the inputs, the parameters that lie in them, or null.
FollowedResults runFollowed(const std::shared_ptr<const Gradient> &gradient, TensorRange tensors, size_t inputCount,
                            llvm::ArrayRef<std::shared_ptr<const Stack>> stacks, llvm::ArrayRef<RowsOfResult> rows,
                            llvm::function_ref<void(TensorRange)> launch);

/// `stacked` as a tensor from which gradients flow to the parameters that it holds.
at::Tensor followStack(const at::Tensor &stacked, llvm::ArrayRef<at::Tensor> members, const StackPadding &padding);
/// The stack of tensors of one shape.
at::Tensor followStack(llvm::ArrayRef<at::Tensor> members);

/// Which results of a call gradients have come to.
class UsedResults;
std::shared_ptr<UsedResults> makeUsedResults();
/// Members of a stack, which followStack made, have a gradient only where one has come to a result that depends on
/// them.
void limit(const at::Tensor &stacked, const std::shared_ptr<UsedResults> &used, const ReachedFrom &reached);
/// The results, some of which are undefined here, with a node behind them that tells which of them are used.
std::vector<at::Tensor> followResults(TensorRange results, const std::shared_ptr<UsedResults> &used);

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_AUTOGRAD_H
