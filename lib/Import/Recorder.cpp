//===- Recorder.cpp - records the dispatcher calls of this thread ----------------===//
//
// The fallback lives on DeferredInit, a dispatch key that torch reserves for extensions
// and that is active only where a thread asks for it. Calls inside of a call are seen
// too, but only to learn whether it reads data or draws random numbers.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Import/Recorder.h"

#include "Views.h"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/detach.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/ScopeExit.h>
#include <torch/library.h>

#include <array>
#include <unordered_set>

using namespace pfcn;
using c10::IValue;

// Of this thread, in GNU's OpenMP runtime, which torch ships with and is linked to, and in MKL where torch has it. The
// latter gives what was set before.
extern "C" void omp_set_num_threads(int threads);
extern "C" [[gnu::weak]] int MKL_Set_Num_Threads_Local(int threads);

static constexpr c10::DispatchKey kRecorderKey = c10::DispatchKey::DeferredInit;
static thread_local Recorder *activeRecorder = nullptr;

static void recordCall(const c10::OperatorHandle &op, c10::DispatchKeySet keys, torch::jit::Stack *stack) {
  c10::DispatchKeySet next = keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, kRecorderKey);
  if (activeRecorder)
    activeRecorder->handle(op, next, *stack);
  else
    op.redispatchBoxed(next, stack);
}

TORCH_LIBRARY_IMPL(_, DeferredInit, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&recordCall>());
}

//===----------------------------------------------------------------------------===//
// What is known of an operator
//===----------------------------------------------------------------------------===//

struct Recorder::Traits {
  const c10::FunctionSchema *schema;
  std::string name; // without the overload
  bool isAten, returnsTensor, writes, readsData, isRandom;
};

static bool holdsTensor(const c10::TypePtr &type) {
  switch (type->kind()) {
  case c10::TypeKind::TensorType:
    return true;
  case c10::TypeKind::ListType:
  case c10::TypeKind::OptionalType:
    return holdsTensor(type->containedTypes()[0]);
  default:
    return false;
  }
}

static const Recorder::Traits &getTraits(const c10::OperatorHandle &op) {
  static thread_local std::unordered_map<const c10::FunctionSchema *, Recorder::Traits> cache;
  const c10::FunctionSchema &schema = op.schema();
  auto [it, isNew] = cache.try_emplace(&schema);
  Recorder::Traits &traits = it->second;
  if (!isNew && traits.name == schema.name())
    return traits;
  traits.schema = &schema;
  traits.name = schema.name();
  traits.isAten = traits.name.starts_with("aten::") || traits.name.starts_with("prims::");
  traits.returnsTensor = std::any_of(schema.returns().begin(), schema.returns().end(),
                                     [](const c10::Argument &result) { return holdsTensor(result.type()); });
  traits.writes = std::any_of(schema.arguments().begin(), schema.arguments().end(), [](const c10::Argument &argument) {
    return argument.alias_info() && argument.alias_info()->isWrite();
  });
  // An index of integers has a fixed shape; `refuseIfUnsafe` looks for the others.
  static const std::unordered_set<std::string> readers = {"aten::item", "aten::_local_scalar_dense", "aten::is_nonzero",
                                                          "aten::nonzero_numpy", "aten::argwhere"};
  traits.readsData =
      traits.name != "aten::index" && (op.hasTag(at::Tag::data_dependent_output) ||
                                       op.hasTag(at::Tag::dynamic_output_shape) || readers.contains(traits.name));
  traits.isRandom = op.hasTag(at::Tag::nondeterministic_seeded);
  return traits;
}

/// Operators that tell Python of a tensor's type, not of its data.
static bool isTypeQuery(const std::string &name) {
  static const std::unordered_set<std::string> queries = {"aten::size",
                                                          "aten::sizes",
                                                          "aten::stride",
                                                          "aten::strides",
                                                          "aten::numel",
                                                          "aten::dim",
                                                          "aten::ndimension",
                                                          "aten::storage_offset",
                                                          "aten::sym_size",
                                                          "aten::sym_stride",
                                                          "aten::sym_numel",
                                                          "aten::sym_storage_offset",
                                                          "aten::sym_is_contiguous",
                                                          "aten::is_contiguous",
                                                          "aten::is_complex",
                                                          "aten::is_floating_point",
                                                          "aten::is_signed",
                                                          "aten::is_conj",
                                                          "aten::is_neg",
                                                          "aten::is_inference",
                                                          "aten::is_same_size",
                                                          "aten::is_set_to",
                                                          "aten::is_leaf",
                                                          "aten::is_pinned",
                                                          "aten::is_coalesced",
                                                          "aten::is_distributed",
                                                          "aten::output_nr",
                                                          "aten::can_cast",
                                                          "aten::promote_types",
                                                          "aten::result_type",
                                                          "aten::_has_compatible_shallow_copy_type",
                                                          "aten::_use_cudnn_ctc_loss",
                                                          "aten::_fused_sdp_choice",
                                                          "aten::_cudnn_rnn_flatten_weight",
                                                          "aten::_version",
                                                          "aten::retains_grad",
                                                          "aten::_debug_has_internal_overlap",
                                                          "aten::_is_zerotensor",
                                                          "aten::_is_any_true"};
  return queries.contains(name) && name != "aten::_is_any_true";
}

/// Operators that look at data only to check it, or to compute with: not to choose a shape.
static bool readsDataHarmlessly(const std::string &name) {
  static const std::unordered_set<std::string> harmless = {"aten::ctc_loss",
                                                           "aten::multilabel_margin_loss",
                                                           "aten::cross_entropy_loss",
                                                           "aten::histc",
                                                           "aten::cov",
                                                           "aten::corrcoef",
                                                           "aten::quantile",
                                                           "aten::nanquantile",
                                                           "aten::rrelu",
                                                           "aten::var",
                                                           "aten::std",
                                                           "aten::masked_fill"};
  return harmless.contains(name) || name.starts_with("aten::index_put") ||
         (name.starts_with("aten::linalg_") && name != "aten::linalg_lstsq");
}

/// Operators that torch itself runs as calls of others, and that are recorded as those.
static bool isRecordedInParts(const std::string &name) {
  static const std::unordered_set<std::string> composites = {"aten::einsum",
                                                             "aten::inner",
                                                             "aten::tensordot",
                                                             "aten::vdot",
                                                             "aten::linalg_vecdot",
                                                             "aten::linalg_multi_dot",
                                                             "aten::chain_matmul",
                                                             "aten::kron",
                                                             "aten::diff",
                                                             "aten::trapezoid",
                                                             "aten::cumulative_trapezoid",
                                                             "aten::linalg_norm",
                                                             "aten::linalg_matrix_norm",
                                                             "aten::cosine_embedding_loss",
                                                             "aten::margin_ranking_loss",
                                                             "aten::hinge_embedding_loss",
                                                             "aten::triplet_margin_loss",
                                                             "aten::poisson_nll_loss"};
  return composites.contains(name);
}

/// Random operators that draw nothing with these arguments.
static bool drawsNothing(std::string name, at::ArrayRef<IValue> arguments) {
  if (name.ends_with("_"))
    name.pop_back();
  if (name == "aten::dropout" || name == "aten::feature_dropout" || name == "aten::alpha_dropout")
    return !arguments[2].toBool() || arguments[1].toDouble() == 0.0;
  if (name == "aten::scaled_dot_product_attention")
    return arguments[4].toDouble() == 0.0;
  if (name == "aten::rrelu")
    return !arguments[3].toBool();
  static const std::array<const char *, 3> recurrent = {"aten::lstm", "aten::gru", "aten::rnn_tanh"};
  return std::find(recurrent.begin(), recurrent.end(), name) != recurrent.end();
}

template <typename Visit> static void forEachTensor(const IValue &value, Visit visit) {
  if (value.isTensor() && value.toTensor().defined())
    visit(value.toTensor());
  else if (value.isList())
    for (const IValue &element : value.toListRef())
      forEachTensor(element, visit);
}

//===----------------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------------===//

/// Storage that one or more tensors see; its version counts the recorded writes.
struct Recorder::Memory {
  c10::weak_intrusive_ptr<c10::StorageImpl> storage; // keeps the address from being used again
  bool isForeign;                                    // an input's, a parameter's or a buffer's
  uint64_t version = 0;
  /// Why a value read after a write through another tensor would not be certain.
  const char *uncertain = nullptr;
  bool hasLooseViews = false;
  at::Tensor leaf = {}; // a parameter or buffer whose memory this is, and its name
  std::string leafName = {};
  int leafCount = 0;
  std::vector<std::weak_ptr<Alias>> members = {};
};

/// A tensor: the value that it had at a version of its memory, and the view that it is.
struct Recorder::Alias {
  std::shared_ptr<Memory> memory;
  TensorMeta meta;
  int64_t offset;
  int value;
  uint64_t version;
  std::shared_ptr<Alias> parent = nullptr;
  std::optional<View> view = std::nullopt;
  bool isLoose = false; // a view for these strides only, as `reshape` may be
};

static const char *const kKeepOut = "keep the model in eager, or move the call out of forward";

static std::string printSizes(at::IntArrayRef sizes) {
  std::string text = "[";
  for (size_t i = 0; i < sizes.size(); ++i)
    text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + "]";
}

TensorMeta Recorder::describe(const at::Tensor &tensor) {
  if (tensor.layout() != at::kStrided || !tensor.has_storage() || tensor.is_quantized())
    refuseAndThrow("a tensor of layout or class that has no plain storage (sparse, quantized, nested, or a subclass)",
                   "use dense tensors inside the model");
  if (tensor.dim() > 0 && !device)
    device = tensor.device();
  if (device && tensor.device() != *device && (tensor.dim() > 0 || !tensor.is_cpu()))
    refuseAndThrow("tensors on two devices, " + device->str() + " and " + tensor.device().str(),
                   "move the model and its inputs to one device first");
  if (!hasElementType(tensor.scalar_type()))
    refuseAndThrow(std::string("tensors of ") + c10::toString(tensor.scalar_type()) + " are not supported",
                   "keep this part of the model in eager");
  TensorMeta meta;
  meta.sizes = tensor.sizes();
  meta.strides = tensor.strides();
  meta.dtype = tensor.scalar_type();
  return meta;
}

int Recorder::addValue(TapeValue::Kind kind, const TensorMeta &meta) {
  tape->values.push_back({kind, meta, {}, {}});
  return static_cast<int>(tape->values.size()) - 1;
}

std::shared_ptr<Recorder::Alias> Recorder::add(const at::Tensor &tensor, int value) {
  const c10::StorageImpl *storage = tensor.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl();
  std::shared_ptr<Memory> &memory = memories[storage];
  if (!memory) {
    auto owner = c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(const_cast<c10::StorageImpl *>(storage));
    memory = std::make_shared<Memory>(Memory{c10::weak_intrusive_ptr<c10::StorageImpl>(owner), false});
  }
  auto alias =
      std::make_shared<Alias>(Alias{memory, describe(tensor), tensor.storage_offset(), value, memory->version});
  memory->members.push_back(alias);
  aliases[tensor.unsafeGetTensorImpl()] = alias;
  keptTensors.emplace_back(tensor.getIntrusivePtr());
  return alias;
}

std::shared_ptr<Recorder::Alias> Recorder::addConstant(const at::Tensor &tensor) {
  int value = addValue(TapeValue::Kind::Constant, describe(tensor));
  ++depth;
  auto leave = c10::make_scope_exit([&] { --depth; });
  tape->values[value].constant = tensor.detach().clone();
  tape->values[value].isWrappedNumber = tensor.unsafeGetTensorImpl()->is_wrapped_number();
  return add(tensor, value);
}

void Recorder::addInput(const at::Tensor &tensor) {
  int value = addValue(TapeValue::Kind::Input, describe(tensor));
  tape->inputs.push_back(value);
  std::shared_ptr<Memory> memory = add(tensor, value)->memory;
  memory->isForeign = true;
  memory->leafCount += 2; // an input may share memory with anything at the next call
  versions.emplace_back(tensor, tensor.is_inference() ? 0 : tensor._version());
}

void Recorder::addLeaf(const std::string &name, const at::Tensor &tensor, const at::Tensor &live) {
  if (aliases.contains(tensor.unsafeGetTensorImpl()))
    return;
  int value = addValue(TapeValue::Kind::Leaf, describe(tensor));
  tape->values[value].name = name;
  tape->leaves[name] = live;
  std::shared_ptr<Memory> memory = add(tensor, value)->memory;
  memory->isForeign = true;
  memory->leaf = tensor;
  memory->leafName = name;
  ++memory->leafCount;
  versions.emplace_back(tensor, tensor.is_inference() ? 0 : tensor._version());
}

std::shared_ptr<Recorder::Alias> Recorder::lookUp(const at::Tensor &tensor) {
  const at::TensorImpl *impl = tensor.unsafeGetTensorImpl();
  if (auto it = aliases.find(impl); it != aliases.end())
    return it->second;
  if (impl->is_wrapped_number() || (options.isAbstract && !tensor.is_meta())) // a number of the graph
    return addConstant(tensor);
  // `tensor.data` makes a new tensor of the same memory without a call.
  TensorMeta meta = describe(tensor);
  if (auto it = memories.find(impl->unsafe_storage().unsafeGetStorageImpl()); it != memories.end())
    for (const std::weak_ptr<Alias> &weak : it->second->members)
      if (auto member = weak.lock(); member && member->offset == tensor.storage_offset() &&
                                     member->meta.sizes == meta.sizes && member->meta.strides == meta.strides &&
                                     member->meta.dtype == meta.dtype) {
        if (tape->isFollowed)
          refuseAndThrow("reads a tensor through .data, which autograd does not follow", "use detach()");
        return member;
      }
  refuseAndThrow("reads a tensor of shape " + printSizes(tensor.sizes()) +
                     " that is no input, parameter, buffer or result of the forward (a global or attribute)",
                 "pass it as an input, or register it with register_buffer");
}

int Recorder::emit(const c10::FunctionSchema &schema, std::vector<TapeArgument> arguments, const TensorMeta &meta) {
  int value = addValue(TapeValue::Kind::Result, meta);
  tape->calls.push_back({&schema, std::move(arguments), {value}, locate()});
  return value;
}

int Recorder::current(Alias &alias) {
  Memory &memory = *alias.memory;
  if (alias.version == memory.version)
    return alias.value;
  if (memory.uncertain)
    refuseAndThrow(memory.uncertain, "avoid in-place operators on views, or clone() the tensor first");
  alias.value = emit(*alias.view->schema, alias.view->getArguments(current(*alias.parent)), alias.meta);
  alias.version = memory.version;
  return alias.value;
}

void Recorder::write(Alias &alias, int value) {
  Memory &memory = *alias.memory;
  if (memory.hasLooseViews && !memory.uncertain)
    memory.uncertain =
        "a tensor is read after an in-place write to what reshape, contiguous, flatten or to made of it, "
        "which shares its memory for some strides only";
  if (!alias.parent) {
    ++memory.version;
  } else if (auto inverse = memory.uncertain
                                ? std::nullopt
                                : invertView(*alias.view, current(*alias.parent), value, alias.parent->meta)) {
    write(*alias.parent, emit(*inverse->schema, inverse->arguments, alias.parent->meta));
  } else {
    ++memory.version;
    if (!memory.uncertain)
      memory.uncertain = "a tensor is read after an in-place write through a view of it that has no inverse here";
  }
  alias.value = value;
  alias.version = memory.version;
}

//===----------------------------------------------------------------------------===//
// Calls
//===----------------------------------------------------------------------------===//

Recorder::Recorder(Options options) : options(std::move(options)) {}

Recorder::~Recorder() { stop(); }

void Recorder::start() {
  TORCH_CHECK(!activeRecorder, "this thread is recording a model already");
  activeRecorder = this;
  recording = true;
  tape->isFollowed = c10::GradMode::is_enabled();
  c10::impl::tls_set_dispatch_key_included(kRecorderKey, true);
}

void Recorder::stop() {
  if (!recording)
    return;
  recording = false;
  activeRecorder = nullptr;
  c10::impl::tls_set_dispatch_key_included(kRecorderKey, false);
  takeBackWrites();
}

void Recorder::takeBackWrites() {
  at::NoGradGuard noGrad;
  for (auto &[leaf, before] : written)
    leaf.copy_(before);
}

/// A leaf whose memory nothing else is seen to share may be written: it is saved first.
void Recorder::allowWrite(const std::string &name, const Memory &memory) {
  if (!options.allowsWrites || memory.leafCount != 1 || memory.leaf.is_inference())
    refuseAndThrow(name + " writes to an input, a parameter or a buffer of the model",
                   "compute a new tensor instead, or call model.eval() if only training updates it");
  bool isSaved =
      std::any_of(written.begin(), written.end(), [&](const auto &entry) { return entry.first.is_same(memory.leaf); });
  if (isSaved)
    return;
  ++depth;
  auto leave = c10::make_scope_exit([&] { --depth; });
  at::NoGradGuard noGrad;
  written.emplace_back(memory.leaf, memory.leaf.detach().clone());
}

Place Recorder::locate() { return options.locate ? options.locate(*tape) : Place(); }

void Recorder::refuse(std::string reason, std::string remedy) {
  if (!refusal)
    refusal = Refusal{std::move(reason), tape->describe(locate()), remedy.empty() ? kKeepOut : std::move(remedy)};
}

void Recorder::refuseAndThrow(std::string reason, std::string remedy) {
  refuse(std::move(reason), std::move(remedy));
  throw RefusedError("pfcn cannot record this model: " + refusal->reason);
}

/// Whether this norm updates its running statistics, of which its schema says nothing.
static bool trainsRunningStatistics(const std::string &name, at::ArrayRef<IValue> arguments) {
  if (name != "aten::batch_norm" && name != "aten::native_batch_norm" && name != "aten::instance_norm")
    return false;
  at::ArrayRef<IValue> own = arguments.slice(arguments.size() - (name == "aten::native_batch_norm" ? 8 : 9));
  return own[5].toBool() && own[3].isTensor() && own[3].toTensor().defined();
}

/// Whether batch norm in training is the functional operator of torch, of one element type. That operator has no
/// mean of nothing, where batch norm gives nothing and leaves its statistics alone.
static bool canSplitBatchNorm(at::ArrayRef<IValue> arguments) {
  if (!trainsRunningStatistics("aten::batch_norm", arguments) || !arguments[4].toTensor().defined() ||
      arguments[0].toTensor().numel() == 0)
    return false;
  at::ScalarType dtype = arguments[0].toTensor().scalar_type();
  for (size_t i : {1, 2, 3, 4})
    if (arguments[i].isTensor() && arguments[i].toTensor().defined() && arguments[i].toTensor().scalar_type() != dtype)
      return false;
  return dtype == at::kFloat || dtype == at::kDouble;
}

/// Whether autocast has a rule for the operator, and is on.
static bool isCastByAutocast(const c10::OperatorHandle &op, c10::DispatchKeySet next) {
  return next.has(c10::DispatchKey::AutocastCPU) && op.hasKernelForDispatchKey(c10::DispatchKey::AutocastCPU);
}

void Recorder::handle(const c10::OperatorHandle &op, c10::DispatchKeySet next, torch::jit::Stack &stack) {
  if (refusal)
    return op.redispatchBoxed(next, &stack);
  const Traits &traits = getTraits(op);
  if (depth > 0) {
    nestedReadsData |= traits.readsData;
    nestedIsRandom |= traits.isRandom;
    nestedCasts |= isCastByAutocast(op, next);
    return op.redispatchBoxed(next, &stack);
  }
  // Autocast casts the arguments and calls the operator again, without autocast: both are recorded.
  bool isCast = !options.isAbstract && isCastByAutocast(op, next);
  if (isCast || traits.name.starts_with("profiler::") || isRecordedInParts(traits.name))
    return op.redispatchBoxed(next, &stack);
  // Instance norm in training is batch norm, and a mean over the instances: seen from inside.
  if (options.allowsWrites && traits.name == "aten::instance_norm" && trainsRunningStatistics(traits.name, stack))
    return op.redispatchBoxed(next, &stack);
  record(op, traits, next, stack);
}

void Recorder::refuseIfUnsafe(const Traits &traits, at::ArrayRef<IValue> arguments) {
  const std::string &name = traits.name;
  bool isSized = name == "aten::one_hot" && arguments[1].toInt() >= 0;
  if (traits.readsData && !isSized)
    refuseAndThrow(name + " makes a Python value or a shape out of a tensor's data",
                   "compute with the tensor itself (torch.where, masks) instead of its value");
  if (!traits.returnsTensor && !traits.writes)
    refuseAndThrow(name + " makes a Python value out of a tensor");
  if (name == "aten::as_strided")
    refuseAndThrow("as_strided looks at memory, not at a tensor's elements", "use slicing, view or unfold");
  if (name == "aten::index")
    forEachTensor(arguments[1], [&](const at::Tensor &index) {
      if (index.scalar_type() == at::kBool || index.scalar_type() == at::kByte)
        refuseAndThrow("indexing by a mask gives a shape that depends on data", "use torch.where or masked_fill");
    });
  if (trainsRunningStatistics(name, arguments))
    refuseAndThrow(name + " in training updates its running statistics", "call model.eval() first");
}

int Recorder::read(const at::Tensor &tensor) {
  std::shared_ptr<Alias> alias = lookUp(tensor);
  if (options.getAutogradFunction && tensor.requires_grad() && !alias->memory->isForeign)
    if (std::string name = options.getAutogradFunction(tensor); !name.empty())
      refuseAndThrow("an autograd.Function (" + name + ") has a backward of its own",
                     "call the model under torch.no_grad()");
  return current(*alias);
}

TapeArgument Recorder::encode(const c10::Argument &formal, const IValue &value) {
  TapeArgument argument;
  if (value.isTensor()) {
    if (!value.toTensor().defined())
      return argument;
    argument.kind = TapeArgument::Kind::Tensor;
    argument.tensors = {read(value.toTensor())};
    return argument;
  }
  if (value.isList() && holdsTensor(formal.type())) {
    argument.kind = TapeArgument::Kind::TensorList;
    for (const IValue &element : value.toListRef())
      argument.tensors.push_back(
          element.isTensor() && element.toTensor().defined() ? current(*lookUp(element.toTensor())) : -1);
    return argument;
  }
  if (value.isGenerator() && value.toGenerator().defined())
    refuseAndThrow("a random generator of its own", "use torch's default generator");
  if (value.isObject() || value.isCapsule() || value.isPyObject() || value.isGenericDict() || value.isSymInt())
    refuseAndThrow("argument '" + formal.name() + "' is a " + value.tagKind() + ", which cannot be replayed");
  argument.constant = value;
  if (options.isAbstract && value.isDevice() && value.toDevice().is_meta())
    argument.constant = at::Device(at::kCPU);
  return argument;
}

/// A few operators, `relu` among them, have no Meta kernel outside of Python. They run on zeros of the same shapes,
/// of which only the shapes are kept. False where that would take much memory, or depend on the data.
static bool runOnZeros(const c10::OperatorHandle &op, at::ArrayRef<IValue> arguments, torch::jit::Stack &stack) {
  constexpr size_t kMostBytes = size_t(256) << 20;
  if (op.hasTag(at::Tag::dynamic_output_shape) || op.hasTag(at::Tag::data_dependent_output))
    return false;
  size_t bytes = 0;
  auto materialize = [&](const at::Tensor &tensor) {
    if (!tensor.defined() || !tensor.is_meta())
      return tensor;
    bytes += tensor.nbytes();
    if (bytes > kMostBytes)
      return tensor;
    return at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(at::kCPU)).zero_();
  };
  size_t base = stack.size();
  for (const IValue &argument : arguments) {
    if (argument.isTensor()) {
      stack.push_back(materialize(argument.toTensor()));
    } else if (argument.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor &tensor : argument.toTensorVector())
        list.push_back(materialize(tensor));
      stack.push_back(list);
    } else if (argument.isDevice() && argument.toDevice().is_meta()) {
      stack.push_back(at::Device(at::kCPU));
    } else {
      stack.push_back(argument);
    }
  }
  if (bytes > kMostBytes) {
    stack.resize(base);
    return false;
  }
  op.callBoxed(&stack);
  const c10::FunctionSchema &schema = op.schema();
  for (size_t i = 0; i < schema.returns().size(); ++i) {
    IValue &result = stack[base + i];
    if (!result.isTensor() || !result.toTensor().defined())
      continue;
    const at::Tensor &tensor = result.toTensor();
    IValue meta = at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(at::kMeta));
    // An operator in place returns the tensor that it was given.
    if (const c10::AliasInfo *alias = schema.returns()[i].alias_info())
      for (size_t k = 0; k < arguments.size(); ++k)
        if (const c10::AliasInfo *given = schema.arguments()[k].alias_info(); given && *given == *alias)
          meta = arguments[k];
    result = meta;
  }
  return true;
}

namespace {

/// One thread for an operator that reads small tensors only. It gains little by more, and some fork and join again and
/// again: an LSTM for each step, a concatenation for each part. On a busy machine each join may wait for a time slice
/// (100 LSTMs took 2 to 20 s, and 8 ms on one thread).
class OneThread {
public:
  explicit OneThread(int64_t largest) : threads(at::get_num_threads()), isNeeded(largest < kFew && threads > 1) {
    if (!isNeeded)
      return;
    omp_set_num_threads(1);
    if (MKL_Set_Num_Threads_Local)
      ofMkl = MKL_Set_Num_Threads_Local(1);
  }
  ~OneThread() {
    if (!isNeeded)
      return;
    omp_set_num_threads(threads);
    if (MKL_Set_Num_Threads_Local)
      MKL_Set_Num_Threads_Local(ofMkl);
  }
  OneThread(const OneThread &) = delete;
  OneThread &operator=(const OneThread &) = delete;

private:
  static constexpr int64_t kFew = 1 << 16;
  int threads, ofMkl = 0;
  bool isNeeded;
};

} // namespace

void Recorder::record(const c10::OperatorHandle &op, const Traits &traits, c10::DispatchKeySet next,
                      torch::jit::Stack &stack) {
  const c10::FunctionSchema &schema = *traits.schema;
  size_t count = schema.arguments().size();
  std::vector<IValue> arguments(stack.end() - count, stack.end());
  bool readsTensor = false;
  int64_t largest = 0;
  for (const IValue &argument : arguments)
    forEachTensor(argument, [&](const at::Tensor &tensor) {
      readsTensor = true;
      largest = std::max(largest, tensor.numel());
    });
  auto run = [&] {
    OneThread one(largest);
    ++depth;
    auto leave = c10::make_scope_exit([&] { --depth; });
    nestedReadsData = nestedIsRandom = nestedCasts = false;
    if (!options.isAbstract)
      return op.redispatchBoxed(next, &stack);
    size_t base = stack.size() - count;
    try {
      op.redispatchBoxed(next, &stack);
    } catch (const c10::NotImplementedError &) {
      stack.resize(base);
      if (!runOnZeros(op, arguments, stack))
        throw;
    }
  };
  if (!traits.returnsTensor && !traits.writes && (!readsTensor || isTypeQuery(traits.name)))
    return run();

  bool isOnCpu = at::autocast::is_autocast_enabled(at::kCPU);
  if ((isOnCpu && options.isAbstract) || at::autocast::is_autocast_enabled(at::kCUDA))
    refuseAndThrow("autocast is on", "cast the model and its inputs instead");
  if (options.allowsWrites && traits.name == "aten::batch_norm" && canSplitBatchNorm(arguments))
    return recordBatchNorm(traits, arguments, arguments[3].toTensor(), arguments[4].toTensor(), [&] {
      run();
      return stack.back().toTensor();
    });
  refuseIfUnsafe(traits, arguments);
  if (traits.name == "aten::lift_fresh") // a literal, as in torch.tensor([1., 2.])
    if (const at::Tensor &literal = arguments[0].toTensor(); !aliases.contains(literal.unsafeGetTensorImpl()))
      addConstant(literal);
  TapeCall call{&schema, {}, {}, locate()};
  for (size_t i = 0; i < count; ++i)
    call.arguments.push_back(encode(schema.arguments()[i], arguments[i]));
  call.isRandom = traits.isRandom && !drawsNothing(traits.name, arguments);
  if (traits.writes) {
    recordWrites(traits, std::move(call), arguments); // first: a write that is refused must not happen
    return run();
  }
  run();
  if (nestedReadsData && !traits.readsData && !readsDataHarmlessly(traits.name))
    refuseAndThrow(traits.name + " looks at a tensor's data to choose what to do");
  if (nestedCasts)
    refuseAndThrow("autocast casts what " + traits.name + " computes inside",
                   "leave autocast for this part of the model");
  if (!traits.isAten)
    call.isRandom |= nestedIsRandom;
  recordResults(traits, std::move(call), arguments,
                at::ArrayRef<IValue>(stack).slice(stack.size() - schema.returns().size()));
}

/// As the operator that returns the new running statistics, which are what the old ones become.
void Recorder::recordBatchNorm(const Traits &traits, at::ArrayRef<IValue> arguments, const at::Tensor &running_mean,
                               const at::Tensor &running_var, const std::function<at::Tensor()> &run) {
  std::array<std::shared_ptr<Alias>, 2> running = {lookUp(running_mean), lookUp(running_var)};
  for (const std::shared_ptr<Alias> &alias : running)
    if (alias->memory->isForeign)
      allowWrite(traits.name + " in training", *alias->memory);
  const c10::FunctionSchema &schema =
      c10::Dispatcher::singleton().findSchemaOrThrow("aten::_native_batch_norm_legit_functional", "").schema();
  TapeCall call{&schema, {}, {}, locate()};
  for (size_t i = 0; i < schema.arguments().size(); ++i)
    call.arguments.push_back(encode(schema.arguments()[i], arguments[i]));
  at::Tensor result = run();
  call.results.push_back(addValue(TapeValue::Kind::Result, describe(result)));
  add(result, call.results.back());
  for (size_t i = 0; i < 4; ++i)
    call.results.push_back(addValue(TapeValue::Kind::Result, running[i % 2]->meta));
  std::vector<int> results = call.results;
  tape->calls.push_back(std::move(call));
  write(*running[0], results[3]);
  write(*running[1], results[4]);
}

static TapeArgument constant(IValue value) { return {TapeArgument::Kind::Constant, std::move(value), {}}; }

/// What `self` becomes by copy_, fill_ or zero_, which need nothing of what it was: so the
/// parts of `out[:, i] = ...` do not depend on each other.
std::optional<int> Recorder::recordOverwrite(const std::string &name, const TapeCall &call,
                                             at::ArrayRef<IValue> arguments) {
  const at::Tensor &self = arguments[0].toTensor();
  const TensorMeta meta = lookUp(self)->meta;
  auto find = [](const char *name, const char *overload) -> const c10::FunctionSchema & {
    return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).schema();
  };
  bool isFill = name == "aten::fill_" || name == "aten::zero_";
  if (isFill && (arguments.size() == 1 || arguments[1].isScalar())) {
    at::Device device = options.isAbstract ? at::Device(at::kCPU) : self.device();
    return emit(find("aten::full", ""),
                {constant(at::IntArrayRef(meta.sizes)), constant(arguments.size() == 1 ? IValue(0) : arguments[1]),
                 constant(static_cast<int64_t>(meta.dtype)), constant({}), constant(device), constant({})},
                meta);
  }
  if (!isFill && name != "aten::copy_")
    return std::nullopt;
  const at::Tensor &source = arguments[1].toTensor();
  if (source.device() != self.device() && !source.unsafeGetTensorImpl()->is_wrapped_number())
    return std::nullopt;
  int value = call.arguments[1].tensors[0];
  TensorMeta converted = tape->values[value].meta;
  if (converted.dtype != meta.dtype) {
    converted.dtype = meta.dtype;
    value = emit(find("aten::to", "dtype"),
                 {{TapeArgument::Kind::Tensor, {}, {value}},
                  constant(static_cast<int64_t>(meta.dtype)),
                  constant(false),
                  constant(false),
                  constant({})},
                 converted);
  }
  if (converted.sizes == meta.sizes)
    return value;
  return emit(find("aten::expand", ""),
              {{TapeArgument::Kind::Tensor, {}, {value}}, constant(at::IntArrayRef(meta.sizes)), constant(false)},
              meta);
}

/// `aten::add_.Tensor` as `aten::add.Tensor`, whose result is what `self` becomes.
void Recorder::recordWrites(const Traits &traits, TapeCall call, at::ArrayRef<IValue> arguments) {
  const c10::FunctionSchema &schema = *traits.schema;
  const std::string &name = traits.name;
  if (tape->isFollowed && !c10::GradMode::is_enabled())
    refuseAndThrow(name + " writes to a tensor under torch.no_grad()", "compute a new tensor there");
  if (name == "aten::detach_" && tape->isFollowed && arguments[0].toTensor().requires_grad())
    refuseAndThrow("aten::detach_ cuts a tensor off from autograd", "use detach()");
  if (name == "aten::detach_") // the value stays, as at the end of torch.tensor([1., 2.])
    return;
  bool writesSelfOnly = name.ends_with("_") && !name.ends_with("__") && arguments[0].isTensor();
  for (size_t i = 1; i < schema.arguments().size(); ++i)
    writesSelfOnly &= !schema.arguments()[i].alias_info() || !schema.arguments()[i].alias_info()->isWrite();
  std::optional<c10::OperatorHandle> functional;
  if (writesSelfOnly)
    functional = c10::Dispatcher::singleton().findSchema({name.substr(0, name.size() - 1), schema.overload_name()});
  if (!functional || functional->schema().arguments().size() != schema.arguments().size())
    refuseAndThrow(name + " writes to its arguments and has no form without that here");
  static const std::unordered_set<std::string> reshapers = {
      "aten::t_",        "aten::transpose_",  "aten::squeeze_", "aten::unsqueeze_", "aten::swapdims_",
      "aten::swapaxes_", "aten::as_strided_", "aten::resize_",  "aten::set_",       "aten::resize_as_"};
  if (reshapers.contains(name))
    refuseAndThrow(name + " changes the shape of a tensor in place", "use the form without the underscore");
  const at::Tensor &self = arguments[0].toTensor();
  std::shared_ptr<Alias> alias = lookUp(self);
  if (alias->memory->isForeign)
    allowWrite(name, *alias->memory);
  if (name != "aten::copy_")
    for (const IValue &argument : arguments.slice(1))
      forEachTensor(argument, [&](const at::Tensor &other) {
        if (!other.unsafeGetTensorImpl()->is_wrapped_number() &&
            c10::promoteTypes(self.scalar_type(), other.scalar_type()) != self.scalar_type())
          refuseAndThrow(name + " rounds to the element type of the tensor that it writes",
                         "cast the operand first with to()");
      });
  if (std::optional<int> value = recordOverwrite(name, call, arguments))
    return write(*alias, *value);
  call.schema = &functional->schema();
  int value = addValue(TapeValue::Kind::Result, alias->meta);
  call.results = {value};
  tape->calls.push_back(std::move(call));
  write(*alias, value);
}

void Recorder::recordResults(const Traits &traits, TapeCall call, at::ArrayRef<IValue> arguments,
                             at::ArrayRef<IValue> results) {
  std::vector<at::Tensor> tensors;
  size_t known = 0;
  for (const IValue &result : results) {
    if (!result.isTensor() && !result.isTensorList())
      refuseAndThrow(traits.name + " returns something other than tensors");
    forEachTensor(result, [&](const at::Tensor &tensor) {
      tensors.push_back(tensor);
      known += aliases.contains(tensor.unsafeGetTensorImpl());
    });
  }
  if (known == tensors.size())
    return; // returned its argument, as dropout in eval mode does
  if (known)
    refuseAndThrow(traits.name + " returns some of its arguments among new tensors");

  std::vector<std::pair<size_t, std::shared_ptr<Alias>>> sources;
  for (size_t i = 0; i < arguments.size(); ++i)
    if (arguments[i].isTensor() && arguments[i].toTensor().defined())
      sources.emplace_back(i, lookUp(arguments[i].toTensor()));
  std::vector<std::shared_ptr<Alias>> added;
  for (const at::Tensor &tensor : tensors) {
    bool sharesMemory = memories.contains(tensor.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl());
    call.results.push_back(addValue(TapeValue::Kind::Result, describe(tensor)));
    added.push_back(add(tensor, call.results.back()));
    if (!sharesMemory)
      continue;
    const std::shared_ptr<Memory> &memory = added.back()->memory;
    auto source = std::find_if(sources.begin(), sources.end(),
                               [&](const auto &source) { return source.second->memory == memory; });
    if (source == sources.end()) {
      memory->uncertain = "a tensor is read after a write to memory that it shares in a way unknown here";
      continue;
    }
    added.back()->parent = source->second;
    added.back()->isLoose = isLooseView(traits.name);
    added.back()->memory->hasLooseViews |= added.back()->isLoose;
  }
  std::vector<TensorMeta> metas;
  metas.reserve(added.size());
  for (const auto &alias : added)
    metas.push_back(alias->meta);
  for (size_t i = 0; i < added.size(); ++i)
    if (added[i]->parent) {
      auto source = std::find_if(sources.begin(), sources.end(),
                                 [&](const auto &source) { return source.second == added[i]->parent; });
      added[i]->view = describeView(call, source->first, i, metas);
      if (!added[i]->view) { // never written through, and not read after another's write
        added[i]->parent = nullptr;
        added[i]->memory->uncertain = "a tensor is read after a write to memory that it shares in a way unknown here";
      }
    }
  tape->calls.push_back(std::move(call));
  if (tape->isFollowed && !c10::GradMode::is_enabled())
    for (const std::shared_ptr<Alias> &alias : added)
      cutOff(*alias);
}

/// What was computed under `torch.no_grad()`.
void Recorder::cutOff(Alias &alias) {
  if (!at::isFloatingType(alias.meta.dtype))
    return;
  static const c10::FunctionSchema &detach =
      c10::Dispatcher::singleton().findSchemaOrThrow("aten::detach", "").schema();
  alias.value = emit(detach, {{TapeArgument::Kind::Tensor, {}, {alias.value}}}, alias.meta);
}

//===----------------------------------------------------------------------------===//
// The end of the recording
//===----------------------------------------------------------------------------===//

void Recorder::addOutput(const at::Tensor &tensor) {
  tape->outputs.push_back(read(tensor));
  std::shared_ptr<Memory> memory = lookUp(tensor)->memory;
  if (memory->isForeign && memory->version > 0)
    refuseAndThrow("returns memory of a buffer that it writes", "return a clone() of the buffer");
}

void Recorder::finish() {
  for (const auto &[leaf, before] : written) {
    std::shared_ptr<Alias> alias = lookUp(leaf);
    tape->writes.emplace_back(alias->memory->leafName, current(*alias));
  }
}

bool Recorder::aliasesForeign(const at::Tensor &tensor) const {
  auto it = aliases.find(tensor.unsafeGetTensorImpl());
  return it == aliases.end() || it->second->memory->isForeign;
}

void Recorder::checkUnwritten() {
  auto isWritten = [&](const at::Tensor &tensor) {
    return std::any_of(written.begin(), written.end(), [&](const auto &entry) { return entry.first.is_same(tensor); });
  };
  for (const auto &[tensor, version] : versions)
    if (!isWritten(tensor) && !tensor.is_inference() && tensor._version() != version)
      refuseAndThrow("an input, parameter or buffer was written by code that the recorder cannot see");
}
