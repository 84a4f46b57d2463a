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
  /// How many results have a gradient; the inputs behind these are of some of their rows.
  unsigned resultCount = 0;
  std::vector<RowsOfResult> rows;
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

  void setHistory(const FollowedResults &results, llvm::ArrayRef<RowsOfResult> rowsOf,
                  const c10::intrusive_ptr<autograd::Node> &self) {
    llvm::SmallVector<unsigned> numbers;
    for (const at::Tensor &result : results.whole) {
      numbers.push_back(resultCount);
      if (!c10::isFloatingType(result.scalar_type()))
        continue;
      autograd::set_history(result, self);
      ++resultCount;
    }
    for (auto [row, result] : llvm::zip_equal(rowsOf, results.rows)) {
      if (!c10::isFloatingType(result.scalar_type()))
        continue;
      rows.push_back(row);
      rows.back().result = numbers[row.result];
      autograd::set_history(result, self);
    }
  }

  autograd::variable_list apply(autograd::variable_list &&upstream) override {
    std::lock_guard<std::mutex> lock(mutex_);
    TORCH_CHECK(!isReleased, autograd::ERR_BACKWARD_TWICE);
    if (llvm::none_of(upstream, [](const at::Tensor &gradient) { return gradient.defined(); }))
      return autograd::variable_list(num_outputs());
    bool isFollowed = at::GradMode::is_enabled();
    std::vector<at::Tensor> arguments;
    arguments.reserve(saved.size() + resultCount);
    for (const autograd::SavedVariable &variable : saved)
      arguments.push_back(variable.unpack());
    for (const StackVersion &version : versions)
      version.check();
    for (unsigned i = 0; i < resultCount; ++i) {
      at::Tensor whole = joinRows(upstream, i);
      arguments.push_back(whole.defined() ? whole : input_metadata(i).zeros_like());
    }
    const Gradient::Backward &backward = gradient->get(wanted, isFollowed);
    autograd::variable_list gradients =
        isFollowed ? backward.plan->runFollowed(arguments, {}, {}) : run(*backward.plan, arguments);
    for (size_t result : passedOn)
      gradients.push_back(arguments[saved.size() + result]);
    return gradients;
  }

private:
  /// Whether nothing would notice that a gradient was kept instead of handed to this node.
  static bool canKeep(const autograd::Node *next);
  autograd::variable_list run(const Plan &plan, TensorRange arguments);
  at::Tensor joinRows(const autograd::variable_list &upstream, unsigned result);
};

/// The gradient of a result with those of its rows.
at::Tensor GroupBackward::joinRows(const autograd::variable_list &upstream, unsigned result) {
  at::Tensor whole = upstream[result];
  struct Part {
    int64_t begin;
    at::Tensor gradient;
  };
  llvm::SmallVector<Part> parts;
  for (size_t i = 0; i < rows.size(); ++i)
    if (const at::Tensor &gradient = upstream[resultCount + i]; rows[i].result == result && gradient.defined())
      parts.push_back({rows[i].begin, rows[i].isOne ? gradient.unsqueeze(0) : gradient});
  if (parts.empty())
    return whole;
  llvm::stable_sort(parts, [](const Part &a, const Part &b) { return a.begin < b.begin; });
  int64_t size = input_metadata(result).shape_as_dim_vector()[0].expect_int();
  at::Tensor zeros;
  // Rows that follow each other are joined at once; those that are read twice are added.
  while (!parts.empty()) {
    std::vector<at::Tensor> pieces;
    llvm::SmallVector<Part> left;
    int64_t end = 0;
    auto fill = [&](int64_t to) {
      if (to <= end)
        return;
      if (!zeros.defined())
        zeros = input_metadata(result).zeros_like();
      pieces.push_back(zeros.slice(0, end, to));
    };
    for (Part &part : parts) {
      if (part.begin < end) {
        left.push_back(std::move(part));
        continue;
      }
      fill(part.begin);
      end = part.begin + part.gradient.size(0);
      pieces.push_back(std::move(part.gradient));
    }
    fill(size);
    at::Tensor joined = pieces.size() == 1 ? pieces.front() : at::cat(pieces, 0);
    whole = whole.defined() ? at::add(whole, joined) : joined;
    parts = std::move(left);
  }
  return whole;
}

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
autograd::variable_list split(const at::Tensor &stacked, llvm::function_ref<bool(size_t)> isWanted) {
  int64_t count = stacked.size(0), step = stacked.stride(0);
  autograd::variable_list parts(count);
  for (int64_t i = 0; i < count; ++i) {
    if (!isWanted(i))
      continue;
    auto part =
        at::detail::make_tensor<c10::TensorImpl>(c10::Storage(stacked.storage()), stacked.key_set(), stacked.dtype());
    part.unsafeGetTensorImpl()->set_storage_offset(stacked.storage_offset() + i * step);
    part.unsafeGetTensorImpl()->set_sizes_and_strides(stacked.sizes().slice(1), stacked.strides().slice(1));
    parts[i] = std::move(part);
  }
  return parts;
}

} // namespace

class UsedResults {
public:
  using Results = llvm::SparseBitVector<>;

  void add(const Results &results) {
    std::lock_guard<std::mutex> lock(mutex);
    byTask[autograd::get_current_graph_task_id()] |= results;
    constexpr size_t most = 16; // backwards under way
    if (byTask.size() > most)
      byTask.erase(byTask.begin());
  }
  /// From now on gradients come along other ways too.
  void giveUp() {
    std::lock_guard<std::mutex> lock(mutex);
    isKnown = false;
  }
  /// Those of the running backward, or nothing where that is not known.
  std::optional<Results> get() {
    std::lock_guard<std::mutex> lock(mutex);
    auto found = byTask.find(autograd::get_current_graph_task_id());
    return isKnown && found != byTask.end() ? std::optional(found->second) : std::nullopt;
  }

private:
  std::mutex mutex;
  bool isKnown = true;
  std::map<int, Results> byTask;
};

namespace {

/// From the gradient of a stack to those of its parameters.
struct StackBackward : autograd::Node {
  StackPadding padding;
  std::shared_ptr<UsedResults> used;
  ReachedFrom reached;

  std::string name() const override { return "PfcnStackBackward"; }

  autograd::variable_list apply(autograd::variable_list &&upstream) override {
    const at::Tensor &stacked = upstream.front();
    if (!stacked.defined())
      return autograd::variable_list(num_outputs());
    std::optional<UsedResults::Results> results = used ? used->get() : std::nullopt;
    auto isReached = [&](size_t i) { return !results || results->intersects((*reached)[i]); };
    if (padding.isNone() && !at::GradMode::is_enabled())
      return split(stacked.contiguous(), isReached);
    autograd::variable_list parts(num_outputs());
    for (size_t i = 0; i < parts.size(); ++i)
      if (task_should_compute_output(i) && isReached(i))
        parts[i] = padding.isNone() ? stacked.select(0, static_cast<int64_t>(i)) : padding.getPart(stacked, i);
    return parts;
  }
};

/// Takes note of which results of a call have a gradient.
struct ResultsBackward : autograd::Node {
  std::shared_ptr<UsedResults> used;
  llvm::SmallVector<unsigned> numbers;

  std::string name() const override { return "PfcnResultsBackward"; }

  autograd::variable_list apply(autograd::variable_list &&upstream) override {
    if (at::GradMode::is_enabled()) // second derivatives
      used->giveUp();
    UsedResults::Results results;
    for (auto [number, gradient] : llvm::zip_equal(numbers, upstream))
      if (gradient.defined())
        results.set(number);
    used->add(results);
    return std::move(upstream);
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

at::Tensor followStack(llvm::ArrayRef<at::Tensor> members) {
  at::Tensor stacked;
  {
    at::NoGradGuard noGrad;
    stacked = at::stack(at::TensorList(members.data(), members.size()));
  }
  bool isFollowed = llvm::any_of(members, [](const at::Tensor &member) { return member.requires_grad(); });
  return isFollowed ? followStack(stacked, members, {}) : stacked;
}

std::shared_ptr<UsedResults> makeUsedResults() { return std::make_shared<UsedResults>(); }

void limit(const at::Tensor &stacked, const std::shared_ptr<UsedResults> &used, const ReachedFrom &reached) {
  auto *node = dynamic_cast<StackBackward *>(stacked.grad_fn().get());
  if (!node)
    return;
  node->used = used;
  node->reached = reached;
}

/// The same memory as another tensor of autograd's; whoever edits the one edits the other.
static at::Tensor aliasOf(const at::Tensor &tensor) {
  at::AutoDispatchBelowADInplaceOrView below;
  at::Tensor alias = tensor.alias();
  autograd::impl::set_version_counter(alias, autograd::impl::version_counter(tensor));
  return alias;
}

std::vector<at::Tensor> followResults(TensorRange results, const std::shared_ptr<UsedResults> &used) {
  auto node = c10::make_intrusive<ResultsBackward>();
  node->used = used;
  autograd::edge_list edges;
  std::vector<at::Tensor> followed(results.begin(), results.end());
  for (auto [i, result] : llvm::enumerate(results))
    if (result.defined() && result.requires_grad()) {
      node->numbers.push_back(i);
      edges.push_back(autograd::impl::gradient_edge(result));
      followed[i] = aliasOf(result);
    }
  if (edges.empty())
    return followed;
  node->set_next_edges(std::move(edges));
  for (unsigned number : node->numbers)
    autograd::set_history(followed[number], node);
  return followed;
}

static bool isFollowed(const at::Tensor &tensor) {
  return tensor.requires_grad() && c10::isFloatingType(tensor.scalar_type());
}

FollowedResults runFollowed(const std::shared_ptr<const Gradient> &gradient, TensorRange tensors, size_t inputCount,
                            llvm::ArrayRef<std::shared_ptr<const Stack>> stacks, llvm::ArrayRef<RowsOfResult> rows,
                            llvm::function_ref<void(TensorRange)> launch) {
  std::vector<at::Tensor> plain;
  FollowedResults results;
  auto node = c10::make_intrusive<GroupBackward>();
  {
    at::NoGradGuard noGrad;
    at::AutoDispatchBelowADInplaceOrView below;
    for (const at::Tensor &tensor : tensors)
      plain.push_back(tensor.requires_grad() ? tensor.alias() : tensor);
    launch(plain);
    results.whole.assign(plain.begin() + static_cast<ptrdiff_t>(inputCount), plain.end());
    for (const RowsOfResult &row : rows) {
      const at::Tensor &whole = results.whole[row.result];
      results.rows.push_back(row.get(whole));
      // Whoever edits the one edits the other.
      autograd::impl::set_version_counter(results.rows.back(), autograd::impl::version_counter(whole));
    }
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
  node->setHistory(results, rows, node);
  return results;
}

} // namespace pfcn::runtime
