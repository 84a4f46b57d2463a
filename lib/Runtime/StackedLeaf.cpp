//===- StackedLeaf.cpp - n parameters that train as one -------------------------------===//

#include "pfcn/Runtime/StackedLeaf.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/anomaly_mode.h>

namespace pfcn::runtime {

using torch::autograd::AutogradMeta;

/// What autograd knows of a member. Whoever replaces a gradient asks for it as something to write to, so nobody has to
/// look at n of them to know that none has been replaced.
class WatchedMeta final : public AutogradMeta {
public:
  WatchedMeta(AutogradMeta &&from, std::shared_ptr<std::atomic<uint64_t>> touches) : touches(std::move(touches)) {
    name_ = std::move(from.name_);
    grad_ = std::move(from.grad_);
    grad_accumulator_ = std::move(from.grad_accumulator_);
    fw_grad_ = std::move(from.fw_grad_);
    hooks_ = std::move(from.hooks_);
    cpp_hooks_list_ = std::move(from.cpp_hooks_list_);
    post_acc_grad_hooks_ = std::move(from.post_acc_grad_hooks_);
    requires_grad_ = from.requires_grad_;
    output_nr_ = from.output_nr_;
    grad_dtype_ = from.grad_dtype_;
    allow_grad_dtype_mismatch_ = from.allow_grad_dtype_mismatch_;
  }

  at::Tensor &mutable_grad() override {
    touches->fetch_add(1, std::memory_order_relaxed);
    return grad_;
  }

private:
  std::shared_ptr<std::atomic<uint64_t>> touches;
};

static AutogradMeta *getMeta(const at::Tensor &tensor) {
  return static_cast<AutogradMeta *>(tensor.unsafeGetTensorImpl()->autograd_meta());
}

StackedLeaf::StackedLeaf(const at::Tensor &leaf, std::vector<at::Tensor> parameters, std::vector<std::string> paths,
                         std::function<Hooks()> findHooks)
    : parameter(leaf.getIntrusivePtr()), members(std::move(parameters)), names(std::move(paths)),
      touches(std::make_shared<std::atomic<uint64_t>>(1)), findHooks(std::move(findHooks)) {
  at::NoGradGuard noGrad;
  gradient = at::zeros(leaf.sizes(), leaf.options());
  views = gradient.unbind(0);
  for (size_t i = 0; i < members.size(); ++i) {
    AutogradMeta *meta = getMeta(members[i]);
    TORCH_CHECK(meta && !meta->is_view_ && !meta->grad_fn_, "pfcn: parameter '", names[i],
                "' is no leaf of autograd, so it cannot train stacked");
    auto watched = std::make_unique<WatchedMeta>(std::move(*meta), touches);
    metas.push_back(watched.get());
    members[i].unsafeGetTensorImpl()->set_autograd_meta(std::move(watched));
  }
  getGrad(); // gradients that the members have already
}

StackedLeaf::~StackedLeaf() = default;

at::Tensor StackedLeaf::getParameter() const {
  at::Tensor whole = lock(parameter);
  TORCH_CHECK(whole.defined(), "pfcn: the stacked parameter of '", names.front(), "' no longer exists");
  return whole;
}

bool StackedLeaf::isOf(llvm::ArrayRef<at::Tensor> parameters) const {
  return std::equal(members.begin(), members.end(), parameters.begin(), parameters.end(),
                    [](const at::Tensor &own, const at::Tensor &other) { return own.is_same(other); });
}

bool StackedLeaf::isFollowed() {
  constexpr size_t kAhead = 16;
  const size_t count = metas.size();
  size_t followed = 0;
  for (size_t i = 0; i < count; ++i) {
    __builtin_prefetch(&metas[std::min(i + kAhead, count - 1)]->requires_grad_);
    followed += metas[i]->requires_grad_;
  }
  if (followed != 0 && followed != count) {
    auto frozen = llvm::find_if(metas, [](const WatchedMeta *meta) { return !meta->requires_grad_; });
    TORCH_CHECK(false, "pfcn: '", names[frozen - metas.begin()],
                "' was frozen, and parameters beside it train; stacked, they train all or none");
  }
  areFollowed = followed != 0;
  return areFollowed;
}

void StackedLeaf::checkMembersHooks(int64_t count) {
  if (count == checkedHooks)
    return;
  for (const WatchedMeta *meta : metas)
    TORCH_CHECK(
        meta->hooks_.empty() && !meta->post_acc_grad_hooks_,
        "pfcn: a hook is registered on a parameter that trains stacked, where its gradient has no edge of its own; "
        "register it on the stacked parameter");
  checkedHooks = count;
}

//===----------------------------------------------------------------------------===//
// Gradients
//===----------------------------------------------------------------------------===//

void StackedLeaf::markCleared() {
  isCleared = true;
  clearedVersion = gradient._version();
}

/// Members' gradients become views again, with the values of what was put in their place.
void StackedLeaf::collect() {
  // All views have the version of what they view.
  bool isWritten = gradient._version() != clearedVersion;
  if (uint64_t now = touches->load(std::memory_order_relaxed); now != seen) {
    seen = now;
    bool areNone = llvm::none_of(metas, [](const WatchedMeta *meta) { return meta->grad_.defined(); });
    if (areNone) {
      gradient.zero_();
      isCleared = true;
      isWritten = false;
    }
    for (size_t i = 0; i < metas.size(); ++i) {
      at::Tensor &own = metas[i]->grad_;
      if (own.is_same(views[i]))
        continue;
      if (own.defined())
        views[i].copy_(own);
      else if (!areNone)
        views[i].zero_();
      isWritten |= own.defined();
      own = views[i];
    }
  }
  if (isCleared && !isWritten)
    markCleared();
  else
    isCleared = false;
}

at::Tensor StackedLeaf::getGrad() {
  at::NoGradGuard noGrad;
  collect();
  at::Tensor &whole = getParameter().mutable_grad();
  if (isCleared == whole.defined())
    whole = isCleared ? at::Tensor() : gradient;
  return whole;
}

void StackedLeaf::setGrad(const at::Tensor &value) {
  at::NoGradGuard noGrad;
  collect();
  if (value.defined() && !value.is_same(gradient))
    gradient.copy_(value);
  isCleared = false;
  if (!value.defined()) {
    gradient.zero_();
    markCleared();
  }
  getParameter().mutable_grad() = isCleared ? at::Tensor() : gradient;
}

//===----------------------------------------------------------------------------===//
// Backward
//===----------------------------------------------------------------------------===//

void StackedLeaf::beforeAccumulation() {
  checkMembersHooks(findHooks().count);
  getGrad();
}

void StackedLeaf::afterAccumulation() {
  at::Tensor &accumulated = getParameter().mutable_grad();
  TORCH_CHECK_NOT_IMPLEMENTED(!accumulated.requires_grad(),
                              "pfcn: backward(create_graph=True) does not work with stacked parameters");
  if (!accumulated.is_same(gradient)) {
    at::NoGradGuard noGrad;
    if (isCleared && gradient._version() == clearedVersion)
      gradient.copy_(accumulated);
    else
      gradient.add_(accumulated);
    accumulated = gradient;
  }
  isCleared = false;
}

at::Tensor StackedLeaf::claim() {
  Hooks hooks = findHooks();
  checkMembersHooks(hooks.count);
  if (hooks.areOwn || torch::autograd::AnomalyMode::is_enabled() || !getParameter().requires_grad() ||
      isClaimed.exchange(true))
    return {};
  if (!getGrad().defined())
    return gradient;
  isClaimed = false;
  return {};
}

void StackedLeaf::setWritten(bool isComplete) {
  if (isComplete) {
    gradient.unsafeGetTensorImpl()->bump_version();
    isCleared = false;
    getParameter().mutable_grad() = gradient;
  } else {
    at::NoGradGuard noGrad;
    gradient.zero_();
    markCleared();
  }
  isClaimed = false;
}

void StackedLeaf::moveTo(const at::Tensor &stacked) {
  at::Tensor whole = getParameter();
  if (whole.const_data_ptr() != stacked.const_data_ptr())
    whole.set_data(stacked);
}

bool StackedLeaf::isAtHome() const { return members.front().const_data_ptr() == getParameter().const_data_ptr(); }

} // namespace pfcn::runtime
