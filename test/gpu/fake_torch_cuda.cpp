// A CUDA device for a torch that was built without CUDA, on the fake driver: memory, streams and copies by driver
// calls, every operator by torch's own on the CPU. It is what a CUDA build of torch gives to pfcn, and no more, so that
// models "on a GPU" can be compiled and run. fake_torch_cuda.py builds it.
#include <ATen/ATen.h>
#include <ATen/native/CPUFallback.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/InlineDeviceGuard.h>
#include <torch/library.h>

#include <cuda.h>

#include <map>
#include <mutex>
#include <vector>

#define CHECKED(call)                                                                                                  \
  do {                                                                                                                 \
    CUresult result = (call);                                                                                          \
    TORCH_CHECK(result == CUDA_SUCCESS, "fake torch: " #call " gave ", static_cast<int>(result));                      \
  } while (0)

namespace {

const c10::Device device(c10::kCUDA, 0);

void makeCurrent() {
  static CUcontext context = [] {
    CUcontext made;
    CHECKED(cuInit(0));
    CHECKED(cuDevicePrimaryCtxRetain(&made, 0));
    return made;
  }();
  CHECKED(cuCtxSetCurrent(context));
}

// ---- memory and streams --------------------------------------------------------------------------------------------

/// Keeps what is let go of, as torch's does: while a stream is captured, the driver gives no memory.
struct Allocator final : c10::Allocator {
  static inline std::mutex mutex;
  static inline std::map<void *, size_t> sizes;
  static inline std::multimap<size_t, void *> unused;

  static void release(void *pointer) {
    std::lock_guard<std::mutex> lock(mutex);
    if (pointer)
      unused.emplace(sizes.at(pointer), pointer);
  }
  c10::DataPtr allocate(size_t bytes) override {
    std::lock_guard<std::mutex> lock(mutex);
    void *pointer = nullptr;
    if (auto found = unused.find(bytes); found != unused.end()) {
      pointer = found->second;
      unused.erase(found);
    } else if (bytes > 0) {
      makeCurrent();
      CUdeviceptr address = 0;
      CHECKED(cuMemAlloc(&address, bytes));
      pointer = reinterpret_cast<void *>(address);
      sizes[pointer] = bytes;
    }
    return {pointer, pointer, &release, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void *, const void *, size_t) const override { TORCH_CHECK(false, "not needed"); }
} allocator;

std::vector<CUstream> streams = {nullptr};
thread_local c10::StreamId currentStream = 0;

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static constexpr c10::DeviceType static_type = c10::kCUDA;
  c10::DeviceType type() const override { return c10::kCUDA; }
  c10::Device exchangeDevice(c10::Device) const override { return device; }
  c10::Device getDevice() const override { return device; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return c10::Stream(c10::Stream::UNSAFE, device, currentStream); }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    c10::Stream old = getStream(device);
    currentStream = stream.id();
    return old;
  }
  void *getStreamNativeHandle(const c10::Stream stream) const override { return streams.at(stream.id()); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard);

// ---- operators -----------------------------------------------------------------------------------------------------

at::Tensor emptyStrided(c10::IntArrayRef sizes, c10::IntArrayRef strides, std::optional<at::ScalarType> dtype,
                        std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(sizes, strides, &allocator, c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                           dtype.value_or(at::kFloat));
}

at::Tensor empty(c10::IntArrayRef sizes, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(sizes, &allocator, c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                   dtype.value_or(at::kFloat), format);
}

/// The bytes of the whole storage, on the CPU.
at::Tensor fetch(const at::Tensor &tensor) {
  size_t bytes = tensor.storage().nbytes();
  at::Tensor raw = at::empty({static_cast<int64_t>(bytes)}, at::kByte);
  if (bytes > 0)
    CHECKED(cuMemcpyDtoH(raw.mutable_data_ptr(), reinterpret_cast<CUdeviceptr>(tensor.storage().data()), bytes));
  at::Tensor host = at::empty({0}, tensor.options().device(at::kCPU));
  return host.set_(raw.storage(), tensor.storage_offset(), tensor.sizes(), tensor.strides());
}

at::Tensor toHost(const at::Tensor &tensor) {
  makeCurrent();
  CHECKED(cuCtxSynchronize());
  if (tensor.numel() == 0)
    return at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(at::kCPU));
  if (!tensor.is_non_overlapping_and_dense())
    return fetch(tensor);
  at::Tensor host = at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(at::kCPU));
  CHECKED(cuMemcpyDtoH(host.mutable_data_ptr(), reinterpret_cast<CUdeviceptr>(tensor.const_data_ptr()), host.nbytes()));
  return host;
}

at::Tensor &copy(at::Tensor &target, const at::Tensor &source, bool) {
  at::Tensor from = source.is_cpu() ? source : toHost(source);
  if (target.is_cpu())
    return target.copy_(from);
  makeCurrent();
  CHECKED(cuCtxSynchronize());
  if (target.numel() == 0)
    return target;
  auto address = reinterpret_cast<CUdeviceptr>(target.mutable_data_ptr());
  if (target.is_non_overlapping_and_dense()) {
    at::Tensor host = at::empty_strided(target.sizes(), target.strides(), target.options().device(at::kCPU));
    host.copy_(from);
    CHECKED(cuMemcpyHtoD(address, host.const_data_ptr(), host.nbytes()));
    return target;
  }
  at::Tensor host = fetch(target);
  host.copy_(from);
  CHECKED(cuMemcpyHtoD(reinterpret_cast<CUdeviceptr>(target.storage().mutable_data()), host.storage().data(),
                       host.storage().nbytes()));
  return target;
}

at::Tensor copyFrom(const at::Tensor &source, const at::Tensor &target, bool) {
  at::Tensor written = target;
  return copy(written, source, false);
}

at::Tensor copyFromAndResize(const at::Tensor &source, const at::Tensor &target) {
  TORCH_CHECK(source.sizes() == target.sizes(), "fake torch: an operator resizes its result");
  return copyFrom(source, target, false);
}

at::Tensor asStrided(const at::Tensor &self, c10::IntArrayRef sizes, c10::IntArrayRef strides,
                     std::optional<int64_t> offset) {
  at::Tensor view = at::detail::make_tensor<c10::TensorImpl>(c10::TensorImpl::VIEW, c10::Storage(self.storage()),
                                                             self.key_set(), self.dtype());
  view.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides, offset.value_or(self.storage_offset()));
  return view;
}

at::Tensor view(const at::Tensor &self, c10::IntArrayRef sizes) {
  at::Tensor shape = at::empty_strided(self.sizes(), self.strides(), self.options().device(at::kMeta)).view(sizes);
  return asStrided(self, shape.sizes(), shape.strides(), self.storage_offset());
}

void fallback(const c10::OperatorHandle &op, torch::jit::Stack *stack) {
  // The fallback reads `out` too, which nobody may have written.
  const auto &arguments = op.schema().arguments();
  for (size_t i = 0; i < arguments.size(); ++i) {
    const c10::IValue &value = stack->at(stack->size() - arguments.size() + i);
    if (arguments[i].is_out() && value.isTensor() && value.toTensor().is_cuda() && value.toTensor().numel() > 0)
      CHECKED(
          cuMemsetD8(reinterpret_cast<CUdeviceptr>(value.toTensor().mutable_data_ptr()), 0, value.toTensor().nbytes()));
  }
  at::native::cpu_fallback(op, stack);
}

TORCH_LIBRARY_IMPL(_, CUDA, library) { library.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &emptyStrided);
  library.impl("copy_", &copy);
  library.impl("_copy_from", &copyFrom);
  library.impl("_copy_from_and_resize", &copyFromAndResize);
  library.impl("as_strided", &asStrided);
  library.impl("view", &view);
}

struct Registration {
  Registration() { c10::SetAllocator(c10::kCUDA, &allocator); }
} registration;

} // namespace

/// A new stream of the driver becomes the current one of this thread; 0 is the default stream.
extern "C" long fake_torch_new_stream() {
  makeCurrent();
  CUstream stream;
  if (cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS)
    return -1;
  streams.push_back(stream);
  return static_cast<long>(streams.size()) - 1;
}
extern "C" void fake_torch_set_stream(long id) { currentStream = id; }
extern "C" void *fake_torch_get_stream() { return streams.at(currentStream); }
