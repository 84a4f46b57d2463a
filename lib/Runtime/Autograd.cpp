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

/// For each result of a function with one group: which of its arguments, counted from `first`, the elements depend on.
static std::vector<llvm::BitVector> findSources(mlir::func::FuncOp function, unsigned first) {
  unsigned count = function.getNumArguments() - first;
  llvm::DenseMap<mlir::Value, llvm::BitVector> sources;
  auto add = [&](llvm::BitVector &sum, mlir::Value value) {
    if (auto found = sources.find(value); found != sources.end())
      sum |= found->second;
  };
  for (mlir::BlockArgument argument : function.getArguments().drop_front(first))
    sources.try_emplace(argument, count).first->second.set(argument.getArgNumber() - first);
  auto visit = [&](mlir::Operation &op, llvm::ArrayRef<mlir::Value> results) {
    llvm::BitVector sum(count);
    op.walk([&](mlir::Operation *inner) {
      for (mlir::Value operand : inner->getOperands())
        add(sum, operand);
    });
    for (mlir::Value result : results)
      sources[result] = sum;
  };
  for (mlir::Operation &op : function.getBody().front()) {
    if (mlir::isa<mlir::tensor::DimOp, mlir::pfcn::EmptyOp, mlir::pfcn::ZerosOp>(op))
      continue;
    auto group = mlir::dyn_cast<mlir::pfcn::InstancesOp>(op);
    if (!group) {
      visit(op, llvm::to_vector_of<mlir::Value>(op.getResults()));
      continue;
    }
    for (auto [argument, input] : llvm::zip_equal(group.getBodyBlock()->getArguments(), group.getInputs()))
      add(sources.try_emplace(argument, count).first->second, input);
    for (mlir::Operation &inner : group.getBodyBlock()->without_terminator())
      if (!mlir::isa<mlir::tensor::DimOp>(inner))
        visit(inner, llvm::to_vector_of<mlir::Value>(inner.getResults()));
    for (auto [yielded, result] : llvm::zip_equal(group.getYielded(), group.getResults()))
      add(sources.try_emplace(result, count).first->second, yielded);
  }
  std::vector<llvm::BitVector> found;
  for (mlir::Value returned : function.getBody().front().getTerminator()->getOperands())
    add(found.emplace_back(count), returned);
  return found;
}

/// The row of a tensor that each instance has, or nothing where instances have something else of it.
static std::vector<int64_t> getRows(mlir::pfcn::AccessAttr access, int64_t count) {
  std::vector<int64_t> rows;
  if (access.isSelect() && access.getDim() == 0)
    for (int64_t i = 0; i < count; ++i)
      rows.push_back(access.getStart(i));
  return rows;
}

Gradient::Backward Gradient::compile(const std::vector<bool> &wanted, bool isFollowed) const {
  std::shared_ptr<Model> model = parseModel(group, {});
  mlir::ModuleOp module = *model->module;
  mlir::pfcn::InstancesOp forward = findGroup(module);
  Backward result;
  result.count = forward.getCount();
  std::vector<std::vector<int64_t>> rows;
  for (auto access : forward.getInputAccesses().getAsRange<mlir::pfcn::AccessAttr>())
    rows.push_back(getRows(access, result.count));
  for (auto [i, written] : llvm::enumerate(forward.getResults()))
    if (mlir::isa<mlir::FloatType>(mlir::cast<mlir::RankedTensorType>(written.getType()).getElementType())) {
      std::vector<int64_t> all = getRows(forward.getInitAccess(i), result.count);
      result.isStacked.push_back(!all.empty() && llvm::equal(all, llvm::seq<int64_t>(0, result.count)));
    }
  llvm::SmallVector<int64_t> indices;
  for (size_t i = 0; i < wanted.size(); ++i)
    if (wanted[i])
      indices.push_back(static_cast<int64_t>(i));
  forward->setAttr(mlir::pfcn::wantedAttrName, mlir::DenseI64ArrayAttr::get(module.getContext(), indices));
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
  auto reached = backward->getAttrOfType<mlir::DenseI64ArrayAttr>(mlir::pfcn::wantedAttrName);
  result.reached.resize(wanted.size());
  for (int64_t input : reached.asArrayRef()) {
    result.reached[input] = true;
    result.rows.push_back(rows[input]);
  }
  result.sources = findSources(backward, wanted.size());
  for (llvm::BitVector &sources : result.sources)
    if (sources.none()) // zeros, whatever arrives: eager has these too
      sources.set();
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

/// Of which instances there is a gradient.
using InstanceSet = llvm::BitVector;

/// A node whose results hold the instances of a group. Where the loss does not depend on one of them, eager has no
/// gradient for its parameters; zeros would be another thing to an optimizer, which decays and moves what has one. So
/// there are two inputs for each result: one for gradients of anything, and one for those of which another of these
/// nodes says whose they are.
class InstancesNode : public autograd::Node {
public:
  /// The edge on which gradients of `tensor` are of some instances only, or the common one.
  static autograd::Edge getEdge(const at::Tensor &tensor) {
    autograd::Edge edge = autograd::impl::gradient_edge(tensor);
    auto *node = dynamic_cast<InstancesNode *>(edge.function.get());
    if (node && edge.input_nr < node->resultCount && node->isInner[edge.input_nr])
      edge.input_nr += node->resultCount;
    return edge;
  }
  static void tell(const autograd::Edge &edge, const InstanceSet &of) {
    auto *node = dynamic_cast<InstancesNode *>(edge.function.get());
    if (!node || edge.input_nr < node->resultCount || edge.input_nr >= 2 * node->resultCount)
      return;
    std::lock_guard<std::mutex> lock(node->toldMutex);
    InstanceSet &known = node->told[{autograd::get_current_graph_task_id(), edge.input_nr - node->resultCount}];
    if (known.empty())
      known.resize(of.size());
    known |= of;
    // A backward that did not come here left what it told.
    constexpr size_t kMost = 64;
    if (node->told.size() > kMost)
      node->told.erase(node->told.begin());
  }

protected:
  /// `inner`: the results whose gradient nobody else sees.
  void setResults(llvm::ArrayRef<at::Tensor> results, std::vector<bool> inner,
                  const c10::intrusive_ptr<autograd::Node> &self) {
    resultCount = results.size();
    isInner = std::move(inner);
    for (const at::Tensor &result : results)
      autograd::set_history(result, self);
    for (const at::Tensor &result : results)
      add_input_metadata(result);
  }
  /// The gradient of a result, and of which of `count` instances it is.
  std::pair<at::Tensor, InstanceSet> take(const autograd::variable_list &upstream, uint32_t result, int64_t count) {
    const at::Tensor &ofAll = upstream[result], &ofSome = upstream[resultCount + result];
    InstanceSet instances(count, ofAll.defined());
    if (!ofSome.defined())
      return {ofAll, std::move(instances)};
    std::lock_guard<std::mutex> lock(toldMutex);
    auto found = told.find({autograd::get_current_graph_task_id(), result});
    if (found == told.end() || static_cast<int64_t>(found->second.size()) != count) {
      instances.set();
    } else {
      instances |= found->second;
      told.erase(found);
    }
    return {ofAll.defined() ? at::add(ofAll, ofSome) : ofSome, std::move(instances)};
  }

  uint32_t resultCount = 0;

private:
  std::vector<bool> isInner;
  std::mutex toldMutex;
  /// For each running backward and each result.
  std::map<std::pair<int, uint32_t>, InstanceSet> told;
};

/// The backward of a launch.
struct GroupBackward : InstancesNode {
  std::shared_ptr<const Gradient> gradient;
  std::vector<bool> wanted;
  std::vector<autograd::SavedVariable> saved;
  std::vector<StackVersion> versions;
  /// Rows of results that are results of this node as well; the results counted as its own.
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

  void setHistory(const FollowedResults &results, const ResultUses &uses,
                  const c10::intrusive_ptr<autograd::Node> &self) {
    std::vector<at::Tensor> followed;
    std::vector<bool> inner;
    llvm::SmallVector<unsigned> numbers;
    for (auto [result, isInner] : llvm::zip_equal(results.whole, uses.isInner)) {
      numbers.push_back(followed.size());
      if (!c10::isFloatingType(result.scalar_type()))
        continue;
      followed.push_back(result);
      inner.push_back(isInner);
    }
    setResults(followed, std::move(inner), self);
    for (auto [row, result] : llvm::zip_equal(uses.rows, results.rows)) {
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
    bool isFollowed = at::GradMode::is_enabled();
    std::vector<at::Tensor> arguments;
    arguments.reserve(saved.size() + resultCount);
    for (const autograd::SavedVariable &variable : saved)
      arguments.push_back(variable.unpack());
    for (const StackVersion &version : versions)
      version.check();
    const Gradient::Backward &backward = gradient->get(wanted, isFollowed);
    std::vector<InstanceSet> instances;
    for (unsigned i = 0; i < resultCount; ++i) {
      auto [whole, of] = takeAll(upstream, i, backward);
      arguments.push_back(whole.defined() ? whole : input_metadata(i).zeros_like());
      instances.push_back(std::move(of));
    }
    autograd::variable_list gradients =
        isFollowed ? backward.plan->runFollowed(arguments, {}, {}) : run(*backward.plan, arguments);
    for (size_t i = 0; i < gradients.size(); ++i)
      hand(backward, i, instances, gradients[i]);
    for (size_t result : passedOn)
      gradients.push_back(arguments[saved.size() + result]);
    return gradients;
  }

private:
  /// Whether nothing would notice that a gradient was kept instead of handed to this node.
  static bool canKeep(const autograd::Node *next);
  autograd::variable_list run(const Plan &plan, TensorRange arguments);
  std::pair<at::Tensor, InstanceSet> takeAll(const autograd::variable_list &upstream, unsigned result,
                                             const Gradient::Backward &backward);
  void hand(const Gradient::Backward &backward, size_t i, llvm::ArrayRef<InstanceSet> instances, at::Tensor &gradient);
};

/// The gradient of a result, with those of its rows, and the instances that it is of.
std::pair<at::Tensor, InstanceSet> GroupBackward::takeAll(const autograd::variable_list &upstream, unsigned result,
                                                          const Gradient::Backward &backward) {
  auto [whole, instances] = take(upstream, result, backward.count);
  struct Part {
    int64_t begin;
    at::Tensor gradient;
  };
  llvm::SmallVector<Part> parts;
  for (size_t i = 0; i < rows.size(); ++i)
    if (const at::Tensor &gradient = upstream[2 * resultCount + i]; rows[i].result == result && gradient.defined())
      parts.push_back({rows[i].begin, rows[i].isOne ? gradient.unsqueeze(0) : gradient});
  if (parts.empty())
    return {std::move(whole), std::move(instances)};
  llvm::stable_sort(parts, [](const Part &a, const Part &b) { return a.begin < b.begin; });
  // Rows that follow each other are joined at once; those that are read twice are added.
  int64_t size = input_metadata(result).shape_as_dim_vector()[0].expect_int();
  at::Tensor zeros;
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
      if (backward.isStacked[result])
        instances.set(part.begin, end);
      pieces.push_back(std::move(part.gradient));
    }
    fill(size);
    at::Tensor joined = pieces.size() == 1 ? pieces.front() : at::cat(pieces, 0);
    whole = whole.defined() ? at::add(whole, joined) : joined;
    parts = std::move(left);
  }
  if (!backward.isStacked[result])
    instances.set();
  return {std::move(whole), std::move(instances)};
}

/// Says of a gradient whose it is; there is none where it is nobody's.
void GroupBackward::hand(const Gradient::Backward &backward, size_t i, llvm::ArrayRef<InstanceSet> instances,
                         at::Tensor &gradient) {
  if (leaves[i])
    return;
  InstanceSet of(backward.count);
  for (unsigned result : backward.sources[i].set_bits())
    of |= instances[result];
  if (of.none()) {
    gradient.reset();
    return;
  }
  const std::vector<int64_t> &read = backward.rows[i];
  InstanceSet ofRows(gradient.dim() == 0 ? 1 : gradient.size(0), read.empty());
  for (size_t k = 0; k < read.size(); ++k)
    if (of[k])
      ofRows.set(read[k]);
  tell(next_edge(i), ofRows);
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
autograd::variable_list split(const at::Tensor &stacked, const InstanceSet &instances) {
  int64_t count = stacked.size(0), step = stacked.stride(0);
  autograd::variable_list parts(count);
  for (unsigned i : instances.set_bits()) {
    auto part =
        at::detail::make_tensor<c10::TensorImpl>(c10::Storage(stacked.storage()), stacked.key_set(), stacked.dtype());
    part.unsafeGetTensorImpl()->set_storage_offset(stacked.storage_offset() + i * step);
    part.unsafeGetTensorImpl()->set_sizes_and_strides(stacked.sizes().slice(1), stacked.strides().slice(1));
    parts[i] = std::move(part);
  }
  return parts;
}

/// From the gradient of a stack to those of its parameters.
struct StackBackward : InstancesNode {
  StackPadding padding;

  using InstancesNode::setResults;

  std::string name() const override { return "PfcnStackBackward"; }

  autograd::variable_list apply(autograd::variable_list &&upstream) override {
    auto [stacked, instances] = take(upstream, 0, num_outputs());
    if (padding.isNone() && stacked.defined() && !at::GradMode::is_enabled())
      return split(stacked.contiguous(), instances);
    autograd::variable_list parts(num_outputs());
    for (unsigned i : instances.set_bits())
      if (task_should_compute_output(i))
        parts[i] = padding.isNone() ? stacked.select(0, i) : padding.getPart(stacked, i);
    return parts;
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
  node->setResults(followed, {true}, node);
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

static bool isFollowed(const at::Tensor &tensor) {
  return tensor.requires_grad() && c10::isFloatingType(tensor.scalar_type());
}

FollowedResults runFollowed(const std::shared_ptr<const Gradient> &gradient, TensorRange tensors, size_t inputCount,
                            llvm::ArrayRef<std::shared_ptr<const Stack>> stacks, const ResultUses &uses,
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
    for (const RowsOfResult &row : uses.rows) {
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
      edges.push_back(InstancesNode::getEdge(tensors[i]));
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
  node->setHistory(results, uses, node);
  return results;
}

} // namespace pfcn::runtime
