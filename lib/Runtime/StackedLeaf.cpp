//===- StackedLeaf.cpp - n parameters that train as one -------------------------------===//

#include "pfcn/Runtime/StackedLeaf.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/variable.h>

namespace pfcn::runtime {

StackedLeaf::StackedLeaf(at::Tensor leaf, std::vector<WeakTensor> parameters)
    : parameter(std::move(leaf)), members(std::move(parameters)) {
  at::NoGradGuard noGrad;
  gradient = at::zeros(parameter.sizes(), parameter.options());
  views = gradient.unbind(0);
  getGrad(); // gradients that the members have already
}

bool StackedLeaf::isOf(llvm::ArrayRef<at::Tensor> parameters) const {
  return std::equal(members.begin(), members.end(), parameters.begin(), parameters.end(),
                    [](const WeakTensor &own, const at::Tensor &other) {
                      return own._unsafe_get_target() == other.unsafeGetTensorImpl();
                    });
}

using torch::autograd::AutogradMeta;

static const AutogradMeta *getMeta(const at::TensorImpl *member) {
  return static_cast<const AutogradMeta *>(member->autograd_meta());
}

/// Nothing would call them.
static bool haveHooks(const AutogradMeta *meta) { return !meta->hooks_.empty() || meta->post_acc_grad_hooks_; }

static void checkHooks(const at::TensorImpl *member) {
  const AutogradMeta *meta = getMeta(member);
  TORCH_CHECK(
      !meta || !haveHooks(meta),
      "pfcn: a hook is registered on a parameter that trains stacked, where its gradient has no edge of its own; "
      "register it on the stacked parameter");
}

void StackedLeaf::markCleared() {
  isCleared = true;
  clearedVersion = gradient._version();
}

at::Tensor StackedLeaf::getGrad() {
  at::NoGradGuard noGrad;
  // All views have the version of what they view.
  bool isWritten = gradient._version() != clearedVersion;
  size_t missing = 0;
  for (size_t i = 0; i < members.size(); ++i) {
    // An optimizer asks several times per step, and mostly all is as it was.
    if (const AutogradMeta *meta = getMeta(members[i]._unsafe_get_target());
        meta && meta->grad_.is_same(views[i]) && !haveHooks(meta))
      continue;
    if (members[i].use_count() == 0)
      continue;
    at::Tensor &own = members[i]._unsafe_get_target()->mutable_grad();
    checkHooks(members[i]._unsafe_get_target());
    if (own.is_same(views[i]))
      continue;
    if (own.defined())
      views[i].copy_(own);
    else
      views[i].zero_();
    isWritten |= own.defined();
    missing += !own.defined();
    own = views[i];
  }
  if (missing == members.size() || (isCleared && !isWritten))
    markCleared();
  else
    isCleared = false;
  at::Tensor &whole = parameter.mutable_grad();
  if (isCleared == whole.defined())
    whole = isCleared ? at::Tensor() : gradient;
  return whole;
}

void StackedLeaf::setGrad(const at::Tensor &value) {
  at::NoGradGuard noGrad;
  getGrad(); // members' gradients are views again
  if (value.defined() && !value.is_same(gradient))
    gradient.copy_(value);
  isCleared = false;
  if (!value.defined()) {
    gradient.zero_();
    markCleared();
  }
  parameter.mutable_grad() = isCleared ? at::Tensor() : gradient;
}

void StackedLeaf::afterAccumulation() {
  at::Tensor &accumulated = parameter.mutable_grad();
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

void StackedLeaf::moveTo(const at::Tensor &stacked) {
  if (parameter.const_data_ptr() != stacked.const_data_ptr())
    parameter.set_data(stacked);
}

bool StackedLeaf::isAtHome() const {
  at::Tensor first = lock(members.front());
  return first.defined() && first.const_data_ptr() == parameter.const_data_ptr();
}

} // namespace pfcn::runtime
