//===- Autograd.cpp - plans that autograd follows ------------------------------------===//

#include "pfcn/Runtime/Autograd.h"

#include "pfcn/Dialect/Pfcn.h"
#include "pfcn/Runtime/Compile.h"
#include "pfcn/Runtime/Reproducer.h"
#include "pfcn/Runtime/StackedLeaf.h"
#include "pfcn/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Pass/PassManager.h"

#include <ATen/Functions.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/autograd/variable.h>

namespace pfcn::runtime {

namespace autograd = torch::autograd;

//===----------------------------------------------------------------------------===//
// The backward of a group
//===----------------------------------------------------------------------------===//

Gradient::Gradient(std::string text, const CompileOptions &given) : group(std::move(text)) {
  auto own = std::make_shared<CompileOptions>();
  own->useKernels = given.useKernels;
  options = std::move(own);
}

/// The one group of the module.
static mlir::pfcn::InstancesOp findGroup(mlir::ModuleOp module) {
  mlir::pfcn::InstancesOp found;
  module.walk([&](mlir::pfcn::InstancesOp op) { found = op; });
  return found;
}

Gradient::Backward Gradient::compile(const std::vector<bool> &wanted, bool isFollowed) const {
  std::shared_ptr<Model> model = parseModel(group, {});
  mlir::ModuleOp module = *model->module;
  llvm::SmallVector<int64_t> indices;
  for (size_t i = 0; i < wanted.size(); ++i)
    if (wanted[i])
      indices.push_back(static_cast<int64_t>(i));
  findGroup(module)->setAttr(mlir::pfcn::wantedAttrName, mlir::DenseI64ArrayAttr::get(module.getContext(), indices));
  mlir::PassManager manager(module.getContext());
  manager.addPass(mlir::pfcn::createDifferentiatePass());
  TORCH_CHECK(llvm::succeeded(manager.run(module)), "pfcn: differentiating a group failed");
  mlir::func::FuncOp backward;
  for (auto function : llvm::make_early_inc_range(module.getOps<mlir::func::FuncOp>())) {
    if (function.isPrivate())
      backward = function;
    else
      function.erase();
  }
  TORCH_CHECK(backward, "pfcn: a group has no gradient");
  backward.setName("forward");
  backward.setPublic();
  Backward result;
  auto reached = backward->getAttrOfType<mlir::DenseI64ArrayAttr>(mlir::pfcn::wantedAttrName);
  result.reached.resize(wanted.size());
  for (int64_t input : reached.asArrayRef())
    result.reached[input] = true;
  for (mlir::BlockArgument argument : backward.getArguments())
    result.reads.push_back(
        !llvm::all_of(argument.getUsers(), [](mlir::Operation *user) { return mlir::isa<mlir::tensor::DimOp>(user); }));
  CompileOptions how = *options;
  how.useKernels &= !isFollowed;
  try {
    result.plan = runtime::compile(*model, how)->plan;
  } catch (const CompileFailure &failure) {
    // The forward pass is done: torch's functions finish what it began.
    if (!how.useKernels)
      throw;
    TORCH_WARN("pfcn: the backward of a group runs on torch's functions: ", failure.what());
    how.useKernels = false;
    result.plan = runtime::compile(*model, how)->plan;
  }
  return result;
}

const Gradient::Backward &Gradient::get(const std::vector<bool> &wanted, bool isFollowed) const {
  std::lock_guard<std::mutex> lock(mutex);
  auto [found, isNew] = compiled.try_emplace({wanted, isFollowed});
  if (isNew) {
    try {
      found->second = compile(wanted, isFollowed);
    } catch (...) {
      compiled.erase(found);
      throw;
    }
  }
  return found->second;
}

//===----------------------------------------------------------------------------===//
// Nodes
//===----------------------------------------------------------------------------===//

namespace {

/// The parameters that lie in a saved stack were edited in place, each with a version of its own.
struct StackVersion {
  std::shared_ptr<const Stack> stack;
  uint64_t version;

  void check() const {
    TORCH_CHECK(stack->getVersion() == version,
                "one of the variables needed for gradient computation has been modified by an inplace operation: "
                "a parameter beside '",
                stack->getNames().front(),
                "', which a kernel of pfcn read in the forward pass. Hint: update parameters after backward(), not "
                "before.");
  }
};

/// Gradients that a backward writes where they are kept, instead of handing them on to be added there. If it does not
/// come to an end, they stay cleared.
class KeptGradients {
public:
  explicit KeptGradients(size_t count) : memory(count), leaves(count) {}
  ~KeptGradients() {
    for (StackedLeaf *leaf : leaves)
      if (leaf)
        leaf->setWritten(/*isComplete=*/false);
  }
  KeptGradients(const KeptGradients &) = delete;
  KeptGradients &operator=(const KeptGradients &) = delete;

  void claim(size_t i, StackedLeaf &leaf) {
    memory[i] = leaf.claim();
    leaves[i] = memory[i].defined() ? &leaf : nullptr;
  }
  TensorRange getMemory() const { return memory; }
  /// Takes out what has been written where it belongs.
  void take(autograd::variable_list &gradients) {
    for (size_t i = 0; i < gradients.size(); ++i) {
      if (!leaves[i])
        continue;
      bool isWritten = gradients[i].is_same(memory[i]);
      std::exchange(leaves[i], nullptr)->setWritten(isWritten);
      if (isWritten)
        gradients[i].reset();
    }
  }

private:
  std::vector<at::Tensor> memory;
  std::vector<StackedLeaf *> leaves;
};

/// The backward of a launch.
struct GroupBackward : autograd::Node {
  std::shared_ptr<const Gradient> gradient;
  std::vector<bool> wanted;
  std::vector<autograd::SavedVariable> saved;
  std::vector<StackVersion> versions;
  /// Results whose destination has a history. The edges to these follow those to the wanted inputs. Groups
  /// write disjoint parts of a destination, and each reads no other part of its gradient.
  std::vector<size_t> passedOn;
  /// For each gradient that it returns: the parameters that train as one, of which it is; or null.
  std::vector<std::shared_ptr<StackedLeaf>> leaves;
  bool isReleased = false;

  std::string name() const override { return "PfcnGroupBackward"; }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (autograd::SavedVariable &variable : saved)
      variable.reset_data();
    isReleased = true;
  }

  autograd::variable_list apply(autograd::variable_list &&upstream) override {
    std::lock_guard<std::mutex> lock(mutex_);
    TORCH_CHECK(!isReleased, autograd::ERR_BACKWARD_TWICE);
    bool isFollowed = at::GradMode::is_enabled();
    std::vector<at::Tensor> arguments;
    arguments.reserve(saved.size() + upstream.size());
    for (const autograd::SavedVariable &variable : saved)
      arguments.push_back(variable.unpack());
    for (const StackVersion &version : versions)
      version.check();
    for (size_t i = 0; i < upstream.size(); ++i) {
      if (!upstream[i].defined())
        upstream[i] = input_metadata(i).zeros_like();
      arguments.push_back(upstream[i]);
    }
    const Gradient::Backward &backward = gradient->get(wanted, isFollowed);
    autograd::variable_list gradients =
        isFollowed ? backward.plan->runFollowed(arguments, {}, {}) : run(*backward.plan, arguments);
    for (size_t result : passedOn)
      gradients.push_back(upstream[result]);
    return gradients;
  }

private:
  /// Whether nothing would notice that a gradient was kept instead of handed to this node.
  static bool canKeep(const autograd::Node *next);
  autograd::variable_list run(const Plan &plan, TensorRange arguments);
};

bool GroupBackward::canKeep(const autograd::Node *next) {
  return next && next->pre_hooks().empty() && next->post_hooks().empty();
}

autograd::variable_list GroupBackward::run(const Plan &plan, TensorRange arguments) {
  KeptGradients kept(leaves.size());
  // Only `backward()` for all that is to be reached says nothing of nodes in particular.
  const auto *asked = autograd::get_current_graph_task_exec_info();
  if (asked && asked->empty() && post_hooks().empty())
    for (size_t i = 0; i < leaves.size(); ++i)
      if (leaves[i] && canKeep(next_edge(i).function.get()))
        kept.claim(i, *leaves[i]);
  autograd::variable_list gradients = plan.run(arguments, {}, kept.getMemory());
  kept.take(gradients);
  return gradients;
}

/// Parts of a stacked gradient as tensors of their own, without n calls of torch.
autograd::variable_list split(const at::Tensor &stacked) {
  autograd::variable_list parts;
  int64_t count = stacked.size(0), step = stacked.stride(0);
  parts.reserve(count);
  for (int64_t i = 0; i < count; ++i) {
    auto part =
        at::detail::make_tensor<c10::TensorImpl>(c10::Storage(stacked.storage()), stacked.key_set(), stacked.dtype());
    part.unsafeGetTensorImpl()->set_storage_offset(stacked.storage_offset() + i * step);
    part.unsafeGetTensorImpl()->set_sizes_and_strides(stacked.sizes().slice(1), stacked.strides().slice(1));
    parts.push_back(std::move(part));
  }
  return parts;
}

/// From the gradient of a stack to those of its parameters.
struct StackBackward : autograd::Node {
  StackPadding padding;

  std::string name() const override { return "PfcnStackBackward"; }

  autograd::variable_list apply(autograd::variable_list &&upstream) override {
    if (!upstream.front().defined())
      return autograd::variable_list(num_outputs());
    if (!padding.isNone()) {
      autograd::variable_list parts;
      for (size_t i = 0; i < padding.sizes.size(); ++i)
        parts.push_back(task_should_compute_output(i) ? padding.getPart(upstream.front(), i) : at::Tensor());
      return parts;
    }
    if (at::GradMode::is_enabled())
      return upstream.front().unbind(0);
    return split(upstream.front().contiguous());
  }
};

} // namespace

at::Tensor followStack(const at::Tensor &stacked, llvm::ArrayRef<at::Tensor> members, const StackPadding &padding) {
  auto node = c10::make_intrusive<StackBackward>();
  node->padding = padding;
  autograd::edge_list edges;
  edges.reserve(members.size());
  for (const at::Tensor &member : members)
    edges.push_back(member.requires_grad() ? autograd::impl::gradient_edge(member) : autograd::Edge());
  node->set_next_edges(std::move(edges));
  at::Tensor followed;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    followed = stacked.alias();
  }
  autograd::set_history(followed, node);
  return followed;
}

static bool isFollowed(const at::Tensor &tensor) {
  return tensor.requires_grad() && c10::isFloatingType(tensor.scalar_type());
}

std::vector<at::Tensor> runFollowed(const std::shared_ptr<const Gradient> &gradient, TensorRange tensors,
                                    size_t inputCount, llvm::ArrayRef<std::shared_ptr<const Stack>> stacks,
                                    llvm::function_ref<void(TensorRange)> launch) {
  std::vector<at::Tensor> plain, results;
  auto node = c10::make_intrusive<GroupBackward>();
  {
    at::NoGradGuard noGrad;
    at::AutoDispatchBelowADInplaceOrView below;
    for (const at::Tensor &tensor : tensors)
      plain.push_back(tensor.requires_grad() ? tensor.alias() : tensor);
    launch(plain);
    results.assign(plain.begin() + static_cast<ptrdiff_t>(inputCount), plain.end());
  }
  std::vector<bool> wanted;
  autograd::edge_list edges;
  for (const at::Tensor &input : tensors.take_front(inputCount))
    wanted.push_back(isFollowed(input));
  const Gradient::Backward &backward = gradient->get(wanted, /*isFollowed=*/false);
  for (size_t i = 0; i < inputCount; ++i)
    if (backward.reached[i]) {
      edges.push_back(autograd::impl::gradient_edge(tensors[i]));
      bool isLeaf = stacks[i] && stacks[i]->getLeaf() && stacks[i]->getLeaf()->getParameter().is_same(tensors[i]);
      node->leaves.push_back(isLeaf ? stacks[i]->getLeaf() : nullptr);
    }
  size_t floats = 0;
  for (size_t i = inputCount; i < tensors.size(); ++i) {
    if (!c10::isFloatingType(tensors[i].scalar_type()))
      continue;
    if (tensors[i].requires_grad()) { // an earlier group has written to it
      node->passedOn.push_back(floats);
      edges.push_back(autograd::impl::gradient_edge(tensors[i]));
    }
    ++floats;
  }
  if (edges.empty())
    return results;
  node->gradient = gradient;
  node->wanted = wanted;
  node->set_next_edges(std::move(edges));
  for (size_t i = 0; i < inputCount; ++i) {
    // What is only asked for its sizes may be edited.
    node->saved.emplace_back(backward.reads[i] ? tensors[i] : plain[i], /*is_output=*/false);
    if (backward.reads[i] && stacks[i])
      node->versions.push_back({stacks[i], stacks[i]->getVersion()});
  }
  for (const at::Tensor &result : results)
    if (c10::isFloatingType(result.scalar_type()))
      autograd::set_history(result, node);
  return results;
}

} // namespace pfcn::runtime
