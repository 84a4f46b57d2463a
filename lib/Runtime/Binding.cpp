//===- Binding.cpp - a plan together with the weights of one model -----------------===//

#include "pfcn/Runtime/Binding.h"

#include "pfcn/Runtime/Memory.h"

#include "llvm/ADT/StringSet.h"
#include <ATen/core/grad_mode.h>

namespace pfcn::runtime {

//===----------------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------------===//

std::shared_ptr<Stack> Weights::getStack(std::vector<at::Tensor> members, std::vector<std::string> names,
                                         at::IntArrayRef shape, const StackPadding &padding) {
  for (const std::shared_ptr<Stack> &stack : stacks)
    if (stack->isOf(members) && stack->getShape() == shape)
      return stack;
  stacks.push_back(std::make_shared<Stack>(members, std::move(names), shape, padding));
  for (const std::shared_ptr<StackedLeaf> &leaf : leaves)
    if (leaf->isOf(members))
      stacks.back()->setLeaf(leaf);
  return stacks.back();
}

std::shared_ptr<StackedLeaf> Weights::addLeaf(size_t index, const at::Tensor &parameter,
                                              std::function<StackedLeaf::Hooks()> findHooks) {
  TORCH_CHECK_INDEX(index < stacks.size(), "pfcn: there is no stack ", index);
  Stack &stack = *stacks[index];
  if (!stack.getLeaf()) {
    std::vector<at::Tensor> members;
    for (const WeakTensor &member : stack.getMembers())
      members.push_back(lock(member));
    leaves.push_back(
        std::make_shared<StackedLeaf>(parameter, std::move(members), stack.getNames(), std::move(findHooks)));
    stack.setLeaf(leaves.back());
  }
  return stack.getLeaf();
}

bool Weights::areLeavesAtHome() const {
  return std::all_of(leaves.begin(), leaves.end(), [](const auto &leaf) { return leaf->isAtHome(); });
}

bool Weights::isSettled() const {
  for (const std::shared_ptr<Stack> &stack : stacks)
    if (!stack->isSettled())
      return false;
  return true;
}

bool Weights::settle() {
  for (const std::shared_ptr<Stack> &stack : stacks)
    if (!stack->isSettled() && !stack->settle())
      return false;
  return true;
}

//===----------------------------------------------------------------------------===//
// BoundPlan
//===----------------------------------------------------------------------------===//

/// The tensor of that name, which must be what the plan was made for.
static at::Tensor find(const NamedTensors &tensors, const std::string &path, const TensorSpec &wanted,
                       c10::Device device) {
  auto found = tensors.find(path);
  TORCH_CHECK_VALUE(found != tensors.end(), "pfcn: there is no parameter '", path, "'");
  const at::Tensor &tensor = found->second;
  TORCH_CHECK_VALUE(wanted.matches(tensor) && tensor.device() == device, "pfcn: parameter '", path, "' is ",
                    wanted.str(), " on ", describe(device), ", and got ",
                    TensorSpec{tensor.sizes().vec(), tensor.scalar_type()}.str(), " on ", tensor.device());
  return tensor;
}

/// What parameter i of the leaf is.
static TensorSpec getMemberSpec(const Leaf &leaf, size_t i) {
  return leaf.isStack ? TensorSpec{leaf.padding.getShape(leaf.spec.sizes, i), leaf.spec.dtype} : leaf.spec;
}

/// The leaf as it is now, in the layout that the plan wants.
static at::Tensor snapshot(const Leaf &leaf, const std::vector<at::Tensor> &members) {
  if (!leaf.isStack)
    return members.front().detach().clone();
  at::Tensor stacked = copyStack(members, leaf.spec.sizes, leaf.padding);
  return leaf.packedLanes > 0 ? packInterleaved(stacked, leaf.packedLanes) : stacked;
}

BoundPlan::BoundPlan(std::shared_ptr<const Plan> bound, const NamedTensors &tensors, Weights &weights, bool freeze)
    : plan(std::move(bound)) {
  llvm::StringSet<> written;
  for (const std::vector<std::string> &paths : plan->getWrites())
    for (const std::string &path : paths)
      written.insert(path);
  for (const Leaf &leaf : plan->getLeaves()) {
    std::vector<at::Tensor> members;
    members.reserve(leaf.paths.size());
    for (size_t i = 0; i < leaf.paths.size(); ++i)
      members.push_back(find(tensors, leaf.paths[i], getMemberSpec(leaf, i), plan->getDevice()));
    TORCH_CHECK(freeze || leaf.packedLanes == 0, "pfcn: a packed layout of '", leaf.paths.front(),
                "' needs frozen weights");
    Source source;
    if (freeze)
      source.snapshot = snapshot(leaf, members);
    else if (leaf.isStack)
      source.stack = weights.getStack(std::move(members), leaf.paths, leaf.spec.sizes, leaf.padding);
    else
      source.live = Live{WeakTensor(members.front().getIntrusivePtr()), &leaf.spec};
    source.isWritten = llvm::any_of(leaf.paths, [&](const std::string &path) { return written.contains(path); });
    if (leaf.onDevice)
      source.onDevice = std::make_shared<DeviceCopy>(plan->getCuda());
    if (leaf.onDevice && freeze) {
      source.snapshot = source.onDevice->get(source.snapshot);
      source.onDevice = nullptr;
    }
    sources.push_back(std::move(source));
  }
  for (const std::vector<std::string> &paths : plan->getWrites()) {
    TORCH_CHECK(!freeze, "pfcn: '", paths.front(), "' is written, and was to be frozen");
    targets.emplace_back();
    for (const std::string &path : paths) {
      auto found = tensors.find(path);
      TORCH_CHECK_VALUE(found != tensors.end(), "pfcn: there is no parameter '", path, "'");
      targets.back().emplace_back(found->second.getIntrusivePtr());
    }
  }
}

void BoundPlan::writeBack(std::vector<at::Tensor> &results) const {
  if (targets.empty())
    return;
  at::NoGradGuard noGrad;
  size_t own = results.size() - targets.size();
  for (size_t i = 0; i < targets.size(); ++i) {
    const at::Tensor &value = results[own + i];
    for (size_t k = 0; k < targets[i].size(); ++k)
      lock(targets[i][k]).copy_(targets[i].size() == 1 ? value : value.select(0, static_cast<int64_t>(k)));
  }
  results.resize(own);
}

bool BoundPlan::isCurrent() const {
  return std::all_of(sources.begin(), sources.end(), [this](const Source &source) {
    if (!source.live.spec)
      return true;
    at::Tensor tensor = lock(source.live.tensor);
    return tensor.defined() && source.live.spec->matches(tensor) && tensor.device() == plan->getDevice();
  });
}

uint64_t BoundPlan::getGradPattern() const {
  uint64_t pattern = 0;
  for (const Source &source : sources) {
    if (source.stack)
      pattern = joinGradPatterns(pattern, source.stack->getGradPattern());
    else if (source.live.spec)
      pattern = joinGradPatterns(pattern, lock(source.live.tensor).requires_grad());
  }
  return pattern;
}

llvm::SmallVector<at::Tensor, 8>
BoundPlan::getFollowed(llvm::SmallVectorImpl<std::shared_ptr<const Stack>> &stacks) const {
  llvm::SmallVector<at::Tensor, 8> leaves;
  for (const Source &source : sources) {
    stacks.push_back(source.stack);
    leaves.push_back(source.stack       ? source.stack->getFollowed()
                     : source.live.spec ? lock(source.live.tensor)
                                        : source.snapshot);
    // The backward reads what the forward read, which this call or a later one writes over.
    if (source.isWritten && !leaves.back().requires_grad()) {
      leaves.back() = leaves.back().clone();
      stacks.back() = nullptr;
    }
  }
  return leaves;
}

llvm::SmallVector<at::Tensor, 8> BoundPlan::getLeaves() const {
  llvm::SmallVector<at::Tensor, 8> leaves;
  for (const Source &source : sources) {
    leaves.push_back(source.stack       ? source.stack->get()
                     : source.live.spec ? lock(source.live.tensor)
                                        : source.snapshot);
    if (source.onDevice)
      leaves.back() = source.onDevice->get(leaves.back());
  }
  return leaves;
}

} // namespace pfcn::runtime
