//===- BatchedCall.cpp - a foreign operator for n instances at once ---------------===//
//
// Through torch's own batching rules (torch.func.vmap), which are entered here without Python. An operator that torch
// batches by a loop, or not at all, or not as a loop would compute it, is called once per instance.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Runtime/Opaque.h"

#include "mlir/IR/BuiltinTypes.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <ATen/functorch/BatchedTensorImpl.h>
#include <ATen/functorch/DynamicLayer.h>
#include <c10/util/Exception.h>
#include <c10/util/ScopeExit.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/variable.h>

using namespace mlir::pfcn;

namespace pfcn::runtime {

namespace autograd = torch::autograd;

namespace {

/// Larger trials look at shapes only.
constexpr int64_t kMaxTrialBytes = int64_t(64) << 20;

/// The level of vmap that is entered while this lives. Random operators draw for each instance.
class VmapLevel {
public:
  explicit VmapLevel(int64_t count)
      : level(at::functorch::initAndPushDynamicLayer(at::functorch::TransformType::Vmap, count,
                                                     at::functorch::RandomnessType::Different)) {}
  ~VmapLevel() { at::functorch::popDynamicLayerAndDeleteMetadata(); }
  VmapLevel(const VmapLevel &) = delete;
  VmapLevel &operator=(const VmapLevel &) = delete;

  at::Tensor wrap(const at::Tensor &stacked) const { return at::functorch::makeBatched(stacked, 0, level); }

  /// The stacked tensor of a result; nothing where no instance changes it.
  at::Tensor unwrap(const at::Tensor &result) const {
    auto *batched = at::functorch::maybeGetBatchedImpl(result);
    if (!batched || batched->level() != level)
      return {};
    return batched->value().movedim(batched->bdim(), 0);
  }

private:
  int64_t level;
};

/// A call over all instances.
struct Instances {
  Evaluator evaluate;
  std::vector<bool> batched;

  TensorVector runOnce(TensorRange operands, int64_t count) const;
  TensorVector runEach(TensorRange operands, int64_t count) const;
};

TensorVector Instances::runOnce(TensorRange operands, int64_t count) const {
  TensorVector results;
  std::vector<at::Tensor> stacked;
  {
    VmapLevel level(count);
    llvm::SmallVector<at::Tensor, 4> wrapped;
    for (auto [operand, isBatched] : llvm::zip_equal(operands, batched))
      wrapped.push_back(isBatched ? level.wrap(operand) : operand);
    results = evaluate(wrapped);
    for (const at::Tensor &result : results)
      stacked.push_back(level.unwrap(result));
  }
  for (auto [result, all] : llvm::zip_equal(results, stacked)) {
    if (all.defined()) {
      result = all;
      continue;
    }
    std::vector<int64_t> sizes = result.sizes().vec();
    sizes.insert(sizes.begin(), count);
    result = result.unsqueeze(0).expand(sizes);
  }
  return results;
}

TensorVector Instances::runEach(TensorRange operands, int64_t count) const {
  std::vector<std::vector<at::Tensor>> parts;
  for (int64_t i = 0; i < count; ++i) {
    llvm::SmallVector<at::Tensor, 4> mine;
    for (auto [operand, isBatched] : llvm::zip_equal(operands, batched))
      mine.push_back(isBatched ? operand.select(0, i) : operand);
    TensorVector results = evaluate(mine);
    parts.resize(results.size());
    for (auto [part, result] : llvm::zip_equal(parts, results))
      part.push_back(result);
  }
  TensorVector results;
  for (const std::vector<at::Tensor> &part : parts)
    results.push_back(at::stack(part));
  return results;
}

/// How far gradients of two forms may be apart and count as the same.
double getTolerance(at::ScalarType dtype) {
  bool isShort = dtype == at::kHalf || dtype == at::kBFloat16;
  return isShort ? 5e-2 : 1e-3;
}

/// What a call gives for its floating-point operands, each element of its results weighed differently; undefined
/// where nothing flows.
std::vector<at::Tensor> getGradients(llvm::function_ref<TensorVector(TensorRange)> call, TensorRange operands) {
  at::AutoGradMode followed(true);
  std::vector<at::Tensor> given, upstream;
  autograd::edge_list leaves, outputs;
  for (const at::Tensor &operand : operands) {
    bool isFloat = at::isFloatingType(operand.scalar_type());
    given.push_back(isFloat ? operand.detach().requires_grad_() : operand);
    if (isFloat)
      leaves.push_back(autograd::impl::gradient_edge(given.back()));
  }
  for (const at::Tensor &result : call(given))
    if (result.requires_grad()) {
      outputs.push_back(autograd::impl::gradient_edge(result));
      upstream.push_back(at::arange(result.numel(), result.options()).cos_().reshape(result.sizes()));
    }
  if (leaves.empty() || outputs.empty())
    return {};
  // Python's own engine must not be called where its lock is held.
  return autograd::Engine::get_base_engine().execute(outputs, upstream, /*keep_graph=*/false, /*create_graph=*/false,
                                                     /*accumulate_grad=*/false, leaves);
}

//===----------------------------------------------------------------------------===//
// The trial
//===----------------------------------------------------------------------------===//

/// Notes that torch's rule is a loop, which it warns of.
class LoopWatcher : public c10::WarningHandler {
public:
  void process(const c10::Warning &warning) override {
    isLoop |= warning.msg().find("batching rule") != std::string::npos;
  }
  bool isLoop = false;
};

/// Types with two instances, and with two for every size that is not known.
std::vector<int64_t> getTrialSizes(mlir::Type type, bool batched) {
  std::vector<int64_t> sizes = mlir::cast<mlir::RankedTensorType>(type).getShape().vec();
  for (int64_t &size : sizes)
    if (mlir::ShapedType::isDynamic(size))
      size = 2;
  if (batched)
    sizes[0] = 2;
  return sizes;
}

class Trial {
public:
  Trial(OpaqueOp op, const Instances &instances) : op(op), instances(instances) {}

  /// Why the operator has to run once per instance; empty where it has not.
  std::string run();

private:
  void makeOperands();
  bool hasRightTypes(const TensorVector &results);
  bool agrees(const TensorVector &results);
  bool hasSameGradients();
  bool hasSameGradients(TensorRange at);

  OpaqueOp op;
  const Instances &instances;
  std::vector<at::Tensor> operands;
  bool isLarge = false;
};

void Trial::makeOperands() {
  int64_t bytes = 0;
  for (auto [operand, isBatched] : llvm::zip_equal(op.getInputs(), instances.batched)) {
    auto type = mlir::cast<mlir::RankedTensorType>(operand.getType());
    bytes += c10::multiply_integers(getTrialSizes(type, isBatched)) *
             static_cast<int64_t>(c10::elementSize(getScalarType(type.getElementType())));
  }
  isLarge = bytes > kMaxTrialBytes;
  at::Generator generator = at::detail::createCPUGenerator(/*seed=*/1);
  for (auto [operand, isBatched] : llvm::zip_equal(op.getInputs(), instances.batched)) {
    auto type = mlir::cast<mlir::RankedTensorType>(operand.getType());
    at::ScalarType dtype = getScalarType(type.getElementType());
    std::vector<int64_t> sizes = getTrialSizes(type, isBatched);
    if (isLarge)
      operands.push_back(at::empty(sizes, at::device(at::kMeta).dtype(dtype)));
    else if (at::isFloatingType(dtype)) // within the domain of nearly all operators
      operands.push_back(at::rand(sizes, generator, at::kFloat).mul_(0.8).add_(0.1).to(dtype));
    else
      operands.push_back(at::zeros(sizes, dtype));
  }
}

bool Trial::hasRightTypes(const TensorVector &results) {
  if (results.size() != op->getNumResults())
    return false;
  for (auto [result, value] : llvm::zip_equal(results, op.getResults())) {
    auto type = mlir::cast<mlir::RankedTensorType>(value.getType());
    if (result.scalar_type() != getScalarType(type.getElementType()) || result.dim() != type.getRank() ||
        result.size(0) != 2)
      return false;
    for (int64_t dim = 1; dim < type.getRank(); ++dim)
      if (!type.isDynamicDim(dim) && type.getDimSize(dim) != result.size(dim))
        return false;
  }
  return true;
}

/// Whether a loop over the instances gives the same numbers.
bool Trial::agrees(const TensorVector &results) {
  if (isLarge || op.getRandom())
    return true;
  TensorVector expected = instances.runEach(operands, 2);
  for (auto [result, wanted] : llvm::zip_equal(results, expected))
    if (!at::allclose(result, wanted, /*rtol=*/1e-2, /*atol=*/1e-2, /*equal_nan=*/true))
      return false;
  return true;
}

/// Where elements differ, and at ties, zeros and the ends of [-1, 1] and [0, 1], where formulas that agree elsewhere
/// may choose differently.
bool Trial::hasSameGradients() {
  at::Generator generator = at::detail::createCPUGenerator(/*seed=*/2);
  auto spread = [&](double from, double to) {
    std::vector<at::Tensor> few;
    few.reserve(operands.size());
    for (const at::Tensor &operand : operands)
      few.push_back(at::isFloatingType(operand.scalar_type()) ? at::rand(operand.sizes(), generator, at::kFloat)
                                                                    .mul_(4)
                                                                    .round_()
                                                                    .mul_((to - from) / 4)
                                                                    .add_(from)
                                                                    .to(operand.scalar_type())
                                                              : operand);
    return few;
  };
  return hasSameGradients(operands) && hasSameGradients(spread(-1, 1)) && hasSameGradients(spread(0, 1));
}

bool Trial::hasSameGradients(TensorRange at) {
  std::vector<at::Tensor> expected;
  try {
    expected = getGradients([&](TensorRange given) { return instances.runEach(given, 2); }, at);
  } catch (const std::exception &) {
    return true; // the operator does not take such elements
  }
  std::vector<at::Tensor> gradients = getGradients([&](TensorRange given) { return instances.runOnce(given, 2); }, at);
  if (gradients.size() != expected.size())
    return false;
  for (auto [gradient, wanted] : llvm::zip_equal(gradients, expected)) {
    if (gradient.defined() != wanted.defined())
      return false;
    double tolerance = wanted.defined() ? getTolerance(wanted.scalar_type()) : 0;
    if (wanted.defined() && !at::allclose(gradient, wanted, tolerance, tolerance, /*equal_nan=*/true))
      return false;
  }
  return true;
}

std::string Trial::run() {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  at::Tensor state = generator.get_state();
  auto restore = c10::make_scope_exit([&] { generator.set_state(state); });
  LoopWatcher watcher;
  c10::WarningUtils::WarningHandlerGuard guard(&watcher);
  try {
    makeOperands();
    TensorVector results = instances.runOnce(operands, 2);
    if (watcher.isLoop)
      return "torch batches it by a loop";
    if (!hasRightTypes(results))
      return "torch's batching rule gives another type";
    if (!agrees(results))
      return "torch's batching rule gives other numbers";
    if (!op->hasAttr(notDifferentiableAttrName) || op.getRandom())
      return "";
    if (isLarge)
      return "its operands are too large to try the gradient of torch's batching rule";
    return hasSameGradients() ? "" : "torch's batching rule has another gradient";
  } catch (const std::exception &) {
    return "torch has no batching rule for it";
  }
}

} // namespace

BatchedCall makeBatchedCall(OpaqueOp op) {
  Instances instances{makeOpaqueEvaluator(op), op.getBatched()->vec()};
  int64_t count = op.getInstanceCount();
  std::string reason = Trial(op, instances).run();
  if (reason.empty())
    return {[instances, count](TensorRange operands) { return instances.runOnce(operands, count); }, ""};
  return {[instances, count](TensorRange operands) { return instances.runEach(operands, count); }, reason};
}

} // namespace pfcn::runtime
