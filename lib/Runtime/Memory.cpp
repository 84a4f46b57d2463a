//===- Memory.cpp - where the tensors of a plan live --------------------------------===//

#include "pfcn/Runtime/Memory.h"

#include <ATen/Functions.h>
#include <c10/core/StorageImpl.h>
#include <c10/core/TensorImpl.h>

#include <cstring>
#include <memory>
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace pfcn::runtime {

/// A tensor of a device that this torch may not know: nothing but its shape and its pointer is ever asked for.
static at::Tensor allocateOwn(const CudaTarget &target, at::IntArrayRef sizes, at::ScalarType dtype) {
  size_t bytes = c10::elementSize(dtype);
  for (int64_t size : sizes)
    bytes *= size;
  auto *buffer = new cuda::Buffer(valueOrThrow(target.device->allocate(bytes)));
  c10::DataPtr pointer(
      // NOLINTNEXTLINE(performance-no-int-to-ptr): to the driver, an address is a number
      reinterpret_cast<void *>(buffer->getAddress()), buffer,
      [](void *owner) { delete static_cast<cuda::Buffer *>(owner); }, target.getTorchDevice());
  auto storage = c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), bytes, std::move(pointer),
                                                       /*allocator=*/nullptr, /*resizable=*/false);
  at::Tensor tensor = at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(std::move(storage)), c10::DispatchKeySet(c10::DispatchKey::CUDA), c10::scalarTypeToTypeMeta(dtype));
  tensor.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
  return tensor;
}

void askForLargePages([[maybe_unused]] const at::Tensor &tensor) {
#ifdef __linux__
  if (!tensor.defined() || !tensor.is_cpu())
    return;
  void *begin = tensor.mutable_data_ptr();
  size_t left = tensor.nbytes();
  constexpr size_t page = 2 << 20;
  if (std::align(page, page, begin, left))
    madvise(begin, left / page * page, MADV_HUGEPAGE); // no more than a wish
#endif
}

/// The system takes back what is larger than this, and hands it out again page by page, a microsecond or two for each.
constexpr size_t kLargestKept = 32 << 20;

at::Tensor Memory::allocate(at::IntArrayRef sizes, at::ScalarType dtype) const {
  if (!target) {
    at::Tensor tensor = at::detail::empty_cpu(sizes, dtype);
    if (tensor.nbytes() >= kLargestKept)
      askForLargePages(tensor);
    return tensor;
  }
  if (target->copies)
    return allocateOwn(*target, sizes, dtype);
  return at::empty(sizes, at::TensorOptions(dtype).device(target->getTorchDevice()));
}

at::Tensor Memory::clone(const at::Tensor &tensor) const {
  if (!target || !target->copies)
    return tensor.clone(at::MemoryFormat::Contiguous);
  at::Tensor copy = allocateOwn(*target, tensor.sizes(), tensor.scalar_type());
  throwIfError(target->device->copyOnDevice(reinterpret_cast<uint64_t>(copy.mutable_data_ptr()),
                                            reinterpret_cast<uint64_t>(tensor.const_data_ptr()), tensor.nbytes()));
  return copy;
}

static void copyTo(const CudaTarget &target, const at::Tensor &onDevice, const at::Tensor &contiguous) {
  throwIfError(target.device->copyToDevice(reinterpret_cast<uint64_t>(onDevice.mutable_data_ptr()),
                                           contiguous.const_data_ptr(), contiguous.nbytes()));
}

at::Tensor toDense(const at::Tensor &host) { return host.resolve_conj().resolve_neg().contiguous(); }

at::Tensor upload(const CudaTarget &target, const at::Tensor &dense) {
  at::Tensor onDevice = allocateOwn(target, dense.sizes(), dense.scalar_type());
  copyTo(target, onDevice, dense);
  return onDevice;
}

at::Tensor download(const CudaTarget &target, const at::Tensor &onDevice) {
  at::Tensor host = at::detail::empty_cpu(onDevice.sizes(), onDevice.scalar_type());
  throwIfError(target.device->copyToHost(host.mutable_data_ptr(), reinterpret_cast<uint64_t>(onDevice.const_data_ptr()),
                                         host.nbytes()));
  return host;
}

at::Tensor DeviceCopy::get(const at::Tensor &host) {
  std::lock_guard<std::mutex> lock(mutex);
  at::Tensor now = toDense(host.detach());
  if (onDevice.defined() && onDevice.sizes() == now.sizes() &&
      std::memcmp(copied.const_data_ptr(), now.const_data_ptr(), now.nbytes()) == 0)
    return onDevice;
  // Nothing is said of the device's memory until the copy has been made.
  copied.reset();
  if (!onDevice.defined() || onDevice.sizes() != now.sizes())
    onDevice = allocateOwn(*target, now.sizes(), now.scalar_type());
  at::Tensor whole = onDevice;
  onDevice.reset();
  copied = now.clone();
  copyTo(*target, whole, copied);
  throwIfError(target->device->synchronize());
  onDevice = whole;
  return onDevice;
}

} // namespace pfcn::runtime
