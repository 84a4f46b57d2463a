//===- Homes.cpp - one stacked tensor for n live parameters ------------------------===//
//
// A home knows which of its slots are in use: the deleter of a slot's storage tells it. So
// a parameter that was pointed elsewhere comes back into its slot only when nothing else,
// such as a backup of averaged weights, can see that slot.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Runtime/Homes.h"

#include "pfcn/Runtime/Autograd.h"
#include "pfcn/Runtime/Memory.h"
#include "pfcn/Runtime/StackedLeaf.h"

#include "llvm/ADT/SmallPtrSet.h"

#include <ATen/Functions.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/VariableHooksInterface.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/StorageImpl.h>

#include <atomic>
#include <cstring>
#include <mutex>
#include <numeric>

namespace pfcn::runtime {

struct HomeState {
  HomeState(at::Tensor memory, int64_t slots) : memory(std::move(memory)), inUse(slots) {}

  at::Tensor memory;
  std::vector<std::atomic<bool>> inUse;
  /// How many slots have been let go of, ever.
  std::atomic<uint64_t> released{0};
  /// How many stacks read their weights here.
  std::atomic<int64_t> readers{0};
};

namespace {

/// Torch's own hooks for what is done to variables, and a count of each `p.data = …`: of all ways to change where a
/// tensor lies it is the one that torch does not count as an edit.
class CountingHooks final : public at::impl::VariableHooksInterface {
public:
  explicit CountingHooks(const VariableHooksInterface &torch) : torch(torch) {}

  mutable std::atomic<uint64_t> replacements{0};

  void set_data(const at::TensorBase &self, const at::TensorBase &data) const override {
    torch.set_data(self, data);
    replacements.fetch_add(1, std::memory_order_release);
  }

  at::TensorBase tensor_data(const at::TensorBase &self) const override { return torch.tensor_data(self); }
  at::TensorBase variable_data(const at::TensorBase &self) const override { return torch.variable_data(self); }
  const c10::intrusive_ptr<torch::autograd::Node> &grad_fn(const at::TensorBase &self) const override {
    return torch.grad_fn(self);
  }
  unsigned _register_hook(const at::TensorBase &self,
                          std::function<at::TensorBase(const at::TensorBase &)> hook) const override {
    return torch._register_hook(self, std::move(hook));
  }
  void remove_hook(const at::TensorBase &self, unsigned position) const override { torch.remove_hook(self, position); }
  bool is_view(const at::TensorBase &self) const override { return torch.is_view(self); }
  const at::TensorBase &base(const at::TensorBase &self) const override { return torch.base(self); }
  const std::string &name(const at::TensorBase &self) const override { return torch.name(self); }
  bool is_leaf(const at::TensorBase &self) const override { return torch.is_leaf(self); }
  int64_t output_nr(const at::TensorBase &self) const override { return torch.output_nr(self); }
  at::TensorBase data(const at::TensorBase &self) const override { return torch.data(self); }
  int64_t _version(const at::TensorBase &self) const override { return torch._version(self); }
  void retain_grad(const at::TensorBase &self) const override { torch.retain_grad(self); }
  bool retains_grad(const at::TensorBase &self) const override { return torch.retains_grad(self); }
  void _backward(const at::Tensor &self, at::TensorList inputs, const std::optional<at::Tensor> &gradient,
                 std::optional<bool> keepGraph, bool createGraph) const override {
    torch._backward(self, inputs, gradient, keepGraph, createGraph);
  }
  void requires_grad_(const at::TensorBase &self, bool wanted) const override { torch.requires_grad_(self, wanted); }
  void basic_autograd_not_implemented_fallback(const c10::OperatorHandle &op, c10::DispatchKeySet keys,
                                               torch::jit::Stack *stack) const override {
    torch.basic_autograd_not_implemented_fallback(op, keys, stack);
  }
  std::optional<c10::ScalarType> grad_dtype(const at::TensorBase &self) const override {
    return torch.grad_dtype(self);
  }
  void set_grad_dtype(const at::TensorBase &self, const std::optional<c10::ScalarType> &dtype) const override {
    torch.set_grad_dtype(self, dtype);
  }

private:
  const VariableHooksInterface &torch;
};

/// Ours, in force from the first home on. Never freed, as torch's own are not.
const CountingHooks &getCountingHooks() {
  static const CountingHooks &hooks = []() -> const CountingHooks & {
    auto *counting = new CountingHooks(*at::impl::GetVariableHooks());
    at::impl::SetVariableHooks(counting);
    return *counting;
  }();
  return hooks;
}

/// How often `p.data = …` was done to any tensor; nothing where another library has put its hooks in front of ours,
/// which need not call these.
std::optional<uint64_t> countReplacements() {
  const CountingHooks &hooks = getCountingHooks();
  if (at::impl::GetVariableHooks() != &hooks)
    return std::nullopt;
  return hooks.replacements.load(std::memory_order_acquire);
}

/// What the storage of a slot owns.
struct SlotOwner {
  std::shared_ptr<HomeState> state;
  int64_t slot;
};

void releaseSlot(void *context) {
  std::unique_ptr<SlotOwner> owner(static_cast<SlotOwner *>(context));
  owner->state->inUse[owner->slot] = false;
  ++owner->state->released;
}

const SlotOwner *findOwner(const at::Tensor &tensor) {
  const at::DataPtr &data = tensor.storage().unsafeGetStorageImpl()->data_ptr();
  return data.get_deleter() == &releaseSlot ? static_cast<const SlotOwner *>(data.get_context()) : nullptr;
}

const c10::StorageImpl *storageOf(const at::Tensor &tensor) {
  return tensor.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl();
}

std::vector<int64_t> defaultStrides(at::IntArrayRef shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<int64_t>(shape[i], 1);
  }
  return strides;
}

/// What of a tensor's own nature keeps it from moving; empty where nothing does.
std::string findObstacle(const at::Tensor &tensor, at::IntArrayRef strides) {
  c10::DispatchKeySet keys = tensor.key_set();
  if (keys.has(c10::DispatchKey::Python) || !tensor.has_storage())
    return "is a tensor subclass";
  if (tensor.is_conj() || tensor.is_neg())
    return "is a lazy conjugate or negative";
  if (tensor.strides() != strides || tensor.storage_offset() != 0 || tensor.storage().nbytes() != tensor.nbytes())
    return "is a view of a larger storage or not contiguous";
  if (!tensor.unsafeGetTensorImpl()->allow_tensor_metadata_change())
    return "does not allow its storage to change";
  const at::DataPtr &data = tensor.storage().data_ptr();
  if (data.get_deleter() != c10::GetAllocator(tensor.device().type())->raw_deleter() && !findOwner(tensor))
    return "lies in shared, mapped or foreign memory";
  // Moving one of two tensors that share memory would part them. A storage that Python has asked for
  // (`p.untyped_storage()`, as dynamo does) has one owner more, its Python object, that nobody may have any more.
  size_t owners = storageOf(tensor)->pyobj_slot()->has_unique_reference() ? 2 : 1;
  if (tensor.storage().use_count() != owners)
    return "shares its memory with another tensor (a state_dict, a NumPy array or an average held elsewhere)";
  return "";
}

/// For a stack; what members leave free is zero.
at::Tensor makeMemory(at::IntArrayRef shape, const at::TensorOptions &options, const StackPadding &padding) {
  at::Tensor stacked = at::empty(shape, options);
  askForLargePages(stacked);
  return padding.isNone() ? stacked : stacked.zero_();
}

void copyValues(llvm::ArrayRef<at::Tensor> members, const StackPadding &padding, const at::Tensor &stacked) {
  if (!padding.isNone())
    return copyPadded(members, padding, stacked);
  if (!stacked.is_cpu()) { // one kernel for many copies
    at::stack_out(const_cast<at::Tensor &>(stacked), at::TensorList(members.data(), members.size()));
    return;
  }
  auto *target = static_cast<char *>(stacked.mutable_data_ptr());
  size_t bytes = members.front().nbytes();
  for (size_t i = 0; i < members.size(); ++i) {
    if (members[i].is_contiguous() && !members[i].is_conj() && !members[i].is_neg())
      std::memcpy(target + i * bytes, members[i].const_data_ptr(), bytes);
    else
      stacked.select(0, static_cast<int64_t>(i)).copy_(members[i]);
  }
}

} // namespace

Stack::Stack(std::vector<at::Tensor> parameters, std::vector<std::string> paths, at::IntArrayRef stacked,
             StackPadding sizes)
    : names(std::move(paths)), shape(stacked.vec()), padding(std::move(sizes)) {
  TORCH_CHECK(!parameters.empty() && parameters.size() == names.size(), "pfcn: a stack needs one path per parameter");
  strides = defaultStrides(stacked.slice(1));
  dtype = parameters.front().scalar_type();
  device = parameters.front().device();
  watch.rank = strides.size();
  watch.shape.assign(shape.begin() + 1, shape.end());
  watch.shape.insert(watch.shape.end(), strides.begin(), strides.end());
  for (size_t i = 0; i < parameters.size(); ++i) {
    TORCH_CHECK_VALUE(parameters[i].sizes() == at::IntArrayRef(padding.getShape(shape, i)) &&
                          parameters[i].scalar_type() == dtype && parameters[i].device() == device,
                      "pfcn: parameter '", names[i], "' differs from '", names.front(), "' in shape, type or device");
    members.emplace_back(parameters[i].getIntrusivePtr());
  }
  settle();
}

std::vector<at::Tensor> Stack::getLive() const {
  std::vector<at::Tensor> live;
  live.reserve(members.size());
  for (const WeakTensor &member : members)
    live.push_back(lock(member));
  return live;
}

bool Stack::isOf(llvm::ArrayRef<at::Tensor> parameters) const {
  return std::equal(members.begin(), members.end(), parameters.begin(), parameters.end(),
                    [](const WeakTensor &own, const at::Tensor &other) {
                      return own._unsafe_get_target() == other.unsafeGetTensorImpl();
                    });
}

uint64_t Stack::getGradPattern() const {
  if (leaf)
    return leaf->isFollowed() ? 1 : 0;
  uint64_t pattern = 0;
  for (const WeakTensor &member : members)
    pattern = joinGradPatterns(pattern, member._unsafe_get_target()->requires_grad());
  return pattern;
}

void Stack::setLeaf(std::shared_ptr<StackedLeaf> given) {
  leaf = std::move(given);
  if (home)
    leaf->moveTo(stacked);
}

at::Tensor Stack::getFollowed() {
  if (leaf) {
    TORCH_CHECK(home, "pfcn: parameters that train stacked have to lie in one place: ", reason);
    return leaf->wasFollowed() ? leaf->getParameter() : stacked;
  }
  at::Tensor values = get();
  return getGradPattern() == 0 ? values : followStack(values, getLive(), padding);
}

uint64_t Stack::getVersion() const {
  uint64_t sum = 0;
  for (const c10::VariableVersion &counter : counters)
    sum += counter.current_version();
  return sum;
}

Stack::~Stack() { setHome(nullptr, 0); }

/// `Rank` is -1 where it is known at run time only.
template <int Rank> static bool compareAll(const Watch &watch) {
  // The lines of the next parameters are on their way while these are compared.
  constexpr size_t kAhead = 16;
  const size_t count = watch.entries.size(), rank = Rank < 0 ? watch.rank : Rank;
  const Watch::Entry *entries = watch.entries.data();
  const int64_t *shape = watch.shape.data();
  for (size_t i = 0; i < count; ++i) {
    const char *next = reinterpret_cast<const char *>(entries[std::min(i + kAhead, count - 1)].impl);
    __builtin_prefetch(next + 16);
    __builtin_prefetch(next + 64);
    __builtin_prefetch(next + 127);
    const Watch::Entry &entry = entries[i];
    const c10::impl::SizesAndStrides &layout = const_cast<c10::TensorImpl *>(entry.impl)->sizes_and_strides();
    if (entry.impl->unsafe_storage().unsafeGetStorageImpl() != entry.storage || layout.size() != rank)
      return false;
    const int64_t *sizes = layout.sizes_data(), *strides = layout.strides_data();
    int64_t difference = 0;
    for (size_t dim = 0; dim < rank; ++dim)
      difference |= (sizes[dim] ^ shape[dim]) | (strides[dim] ^ shape[rank + dim]);
    if (difference != 0)
      return false;
  }
  return true;
}

bool Watch::isSame() const {
  return rank == 1 ? compareAll<1>(*this) : rank == 2 ? compareAll<2>(*this) : compareAll<-1>(*this);
}

bool Stack::isSettled() const {
  if (!home || home->released.load(std::memory_order_relaxed) != released)
    return false;
  uint64_t version = getVersion();
  std::optional<uint64_t> replacements = countReplacements();
  if (version == settledVersion && replacements == settledReplacements && counters.size() == members.size())
    return true;
  if (!watch.isSame())
    return false;
  settledVersion = version;
  settledReplacements = replacements.value_or(settledReplacements);
  return true;
}

/// Whether all are there, and what the stack was made for.
bool Stack::haveTypes(Members live) const {
  at::IntArrayRef one = at::IntArrayRef(shape).slice(1);
  for (size_t i = 0; i < live.size(); ++i) {
    const at::Tensor &member = live[i];
    if (!member.defined() || member.scalar_type() != dtype || member.device() != device ||
        member.dim() != static_cast<int64_t>(one.size()))
      return false;
    for (int64_t dim = 0; dim < member.dim(); ++dim)
      if (member.size(dim) != (dim + 1 == padding.dim ? padding.sizes[i] : one[dim]))
        return false;
  }
  return true;
}

bool Stack::settle() {
  std::vector<at::Tensor> live = getLive();
  if (!haveTypes(live))
    return false;
  at::NoGradGuard noGrad;
  settledReplacements = countReplacements().value_or(0);
  if (!padding.isNone()) {
    if (reason.empty())
      reason = "'" + names.front() + "' and those beside it are of several sizes, and padded to one";
    counters.clear();
  } else if (!findHome(live)) {
    adopt(live);
  }
  for (const at::Tensor &member : live)
    if (const c10::VariableVersion &counter = member.unsafeGetTensorImpl()->version_counter(); counter.enabled())
      counters.push_back(counter);
  settledVersion = getVersion();
  return true;
}

void Stack::setHome(std::shared_ptr<HomeState> state, int64_t slot, Members live) {
  if (home)
    --home->readers;
  home = std::move(state);
  firstSlot = slot;
  watch.entries.clear();
  counters.clear();
  if (!home)
    return;
  ++home->readers;
  reason.clear();
  stacked = home->memory.narrow(0, firstSlot, static_cast<int64_t>(members.size()));
  for (const at::Tensor &member : live)
    watch.entries.push_back({member.unsafeGetTensorImpl(), storageOf(member)});
  // In the order of memory, which the hardware fetches ahead best.
  std::sort(watch.entries.begin(), watch.entries.end(),
            [](const Watch::Entry &a, const Watch::Entry &b) { return a.impl < b.impl; });
  released = home->released;
  if (leaf)
    leaf->moveTo(stacked);
}

/// Whether the members already lie one behind the other in a home: this one's own, another
/// plan's, or an earlier one that they were pointed back to.
bool Stack::findHome(Members live) {
  const SlotOwner *first = findOwner(live.front());
  if (!first)
    return false;
  for (size_t i = 0; i < live.size(); ++i) {
    const SlotOwner *owner = findOwner(live[i]);
    if (!owner || owner->state != first->state || owner->slot != first->slot + static_cast<int64_t>(i) ||
        live[i].strides() != at::IntArrayRef(strides) || live[i].storage_offset() != 0)
      return false;
  }
  setHome(first->state, first->slot, live);
  return true;
}

bool Stack::isInPlace(const at::Tensor &member, size_t i) const {
  const SlotOwner *owner = findOwner(member);
  return owner && owner->state == home && owner->slot == firstSlot + static_cast<int64_t>(i) &&
         member.strides() == at::IntArrayRef(strides) && member.storage_offset() == 0;
}

/// What keeps these members from moving; empty where nothing does.
std::string Stack::findObstacle(Members live, llvm::ArrayRef<size_t> moving) const {
  if (live.front().numel() == 0)
    return "the parameters are empty";
  llvm::SmallPtrSet<const c10::TensorImpl *, 32> seen;
  for (const at::Tensor &member : live)
    if (!seen.insert(member.unsafeGetTensorImpl()).second)
      return "one parameter serves several instances";
  for (size_t i : moving) {
    if (std::string obstacle = runtime::findObstacle(live[i], strides); !obstacle.empty())
      return "'" + names[i] + "' " + obstacle;
    const SlotOwner *owner = findOwner(live[i]);
    if (owner && owner->state != home && owner->state->readers > 0)
      return "'" + names[i] + "' already lies in the home of another group";
  }
  return "";
}

/// Moves the members that are elsewhere back into their slots; where one of these is still seen by something
/// else, all members move to a fresh home. All or nothing.
void Stack::adopt(Members live) {
  std::vector<size_t> moving;
  bool canStay = home != nullptr;
  for (size_t i = 0; i < live.size(); ++i) {
    if (isInPlace(live[i], i))
      continue;
    moving.push_back(i);
    canStay = canStay && !home->inUse[firstSlot + i];
  }
  if (!canStay) {
    moving.resize(live.size());
    std::iota(moving.begin(), moving.end(), 0);
  }
  reason = findObstacle(live, moving);
  if (!reason.empty()) {
    setHome(nullptr, 0);
    return;
  }
  std::shared_ptr<HomeState> target = home;
  int64_t slot = firstSlot;
  if (!canStay) {
    target = std::make_shared<HomeState>(makeStacked(), live.size());
    slot = 0;
  }
  for (size_t i : moving)
    moveInto(live[i], target, slot + static_cast<int64_t>(i));
  // Counters that are made one behind the other lie so, and are read that fast. Nothing else has a part in those of
  // tensors that share their memory with none.
  if (!canStay)
    for (const at::Tensor &member : live)
      if (const c10::VariableVersion &counter = member.unsafeGetTensorImpl()->version_counter(); counter.enabled())
        member.unsafeGetTensorImpl()->set_version_counter(c10::VariableVersion(counter.current_version()));
  setHome(target, slot, live);
}

void Stack::moveInto(const at::Tensor &member, const std::shared_ptr<HomeState> &state, int64_t slot) {
  at::Tensor target = state->memory.select(0, slot);
  size_t bytes = target.nbytes();
  void *data = target.mutable_data_ptr();
  if (device.is_cpu())
    std::memcpy(data, member.const_data_ptr(), bytes);
  else
    target.copy_(member);
  state->inUse[slot] = true;
  at::DataPtr pointer(data, new SlotOwner{state, slot}, &releaseSlot, device);
  auto storage = c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), bytes, std::move(pointer),
                                                       /*allocator=*/nullptr, /*resizable=*/false);
  member.unsafeGetTensorImpl()->set_storage_keep_dtype(c10::Storage(std::move(storage)));
}

at::Tensor Stack::makeStacked() const { return makeMemory(shape, at::TensorOptions(dtype).device(device), padding); }

at::Tensor Stack::get() {
  if (!home)
    refreshCopy();
  return stacked;
}

/// Another thread may still read the copy of an earlier call.
void Stack::refreshCopy() {
  at::NoGradGuard noGrad;
  at::AutoDispatchBelowADInplaceOrView below;
  if (!stacked.defined() || stacked.use_count() > 1 || stacked.storage().use_count() > 1)
    stacked = makeStacked();
  std::vector<at::Tensor> live = getLive();
  TORCH_CHECK(std::all_of(live.begin(), live.end(), [](const at::Tensor &member) { return member.defined(); }),
              "pfcn: the parameter '", names.front(), "' or one beside it no longer exists");
  copyValues(live, padding, stacked);
}

at::Tensor copyStack(llvm::ArrayRef<at::Tensor> members, at::IntArrayRef shape, const StackPadding &padding) {
  at::NoGradGuard noGrad;
  at::Tensor stacked = makeMemory(shape, members.front().options().requires_grad(false), padding);
  copyValues(members, padding, stacked);
  return stacked;
}

at::Tensor packInterleaved(const at::Tensor &stacked, int64_t lanes) {
  at::NoGradGuard noGrad;
  int64_t count = stacked.size(0), tiles = (count + lanes - 1) / lanes;
  at::Tensor instances = at::empty({tiles, lanes}, at::kLong);
  int64_t *instance = instances.mutable_data_ptr<int64_t>();
  for (int64_t tile = 0; tile < tiles; ++tile)
    for (int64_t lane = 0; lane < lanes; ++lane)
      *instance++ = std::min(std::max<int64_t>(std::min(tile * lanes, count - lanes), 0) + lane, count - 1);
  at::Tensor rows = stacked.reshape({count, -1});
  at::Tensor packed = at::empty({tiles, rows.size(1), lanes}, rows.options());
  askForLargePages(packed);
  return packed.copy_(rows.index({instances}).transpose(1, 2));
}

} // namespace pfcn::runtime
