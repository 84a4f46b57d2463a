//===- Memory.cpp - device memory, where torch has no allocator for it --------------===//
//
// Blocks are reused, for the driver's own functions wait for the whole device. All work on them is in the order of one
// stream, so a block that has been let go of may be handed out while kernels before still use it.
//
//===----------------------------------------------------------------------------===//

#include "Device.h"

#include "llvm/Support/MathExtras.h"

using namespace pfcn::cuda;
using llvm::Error;
using llvm::Expected;

Buffer &Buffer::operator=(Buffer &&other) noexcept {
  std::swap(device, other.device);
  std::swap(address, other.address);
  std::swap(capacity, other.capacity);
  return *this;
}

Buffer::~Buffer() {
  if (device)
    device->release(address, capacity);
}

/// Few sizes, so that blocks fit again: powers of two up to a MB, then whole MBs.
static size_t roundUp(size_t bytes) {
  constexpr size_t least = 512, large = size_t(1) << 20;
  return bytes <= large ? std::max<size_t>(least, llvm::PowerOf2Ceil(bytes)) : llvm::alignTo(bytes, large);
}

Expected<Buffer> Device::allocate(size_t bytes) {
  constexpr int outOfMemory = 2;
  size_t capacity = roundUp(bytes);
  std::lock_guard<std::mutex> lock(state->memoryMutex);
  if (auto found = state->unused.find(capacity); found != state->unused.end()) {
    uint64_t address = found->second;
    state->unused.erase(found);
    return Buffer(*this, address, capacity);
  }
  Scope scope(*this);
  if (Error error = check(scope.result, "the device's context cannot be made current"))
    return error;
  uint64_t address = 0;
  int result = api.allocate(&address, capacity);
  if (result == outOfMemory && !state->unused.empty()) {
    if (Error error = freeUnused())
      return error;
    result = api.allocate(&address, capacity);
  }
  if (Error error = check(result, "memory cannot be allocated: bytes ", std::to_string(capacity)))
    return error;
  return Buffer(*this, address, capacity);
}

void Device::release(uint64_t address, size_t capacity) {
  std::lock_guard<std::mutex> lock(state->memoryMutex);
  state->unused.emplace(capacity, address);
}

/// Gives blocks that nothing uses back to the driver.
Error Device::freeUnused() {
  if (Error error = check(api.synchronizeStream(stream), "earlier work failed"))
    return error;
  for (auto [capacity, address] : state->unused)
    if (Error error = check(api.free(address), "memory cannot be freed"))
      return error;
  state->unused.clear();
  return Error::success();
}

Error Device::copyToDevice(uint64_t target, const void *source, size_t bytes) {
  if (bytes == 0)
    return Error::success();
  Scope scope(*this);
  if (Error error = check(scope.result, "the device's context cannot be made current"))
    return error;
  return check(api.copyToDevice(target, source, bytes, stream), "copying to the device failed");
}

Error Device::copyOnDevice(uint64_t target, uint64_t source, size_t bytes) {
  if (bytes == 0)
    return Error::success();
  Scope scope(*this);
  if (Error error = check(scope.result, "the device's context cannot be made current"))
    return error;
  return check(api.copyOnDevice(target, source, bytes, stream), "copying on the device failed");
}

Error Device::copyToHost(void *target, uint64_t source, size_t bytes) {
  if (bytes == 0)
    return Error::success();
  {
    Scope scope(*this);
    if (Error error = check(scope.result, "the device's context cannot be made current"))
      return error;
    if (Error error = check(api.copyToHost(target, source, bytes, stream), "copying from the device failed"))
      return error;
  }
  return synchronize();
}

Error Device::synchronize() {
  Scope scope(*this);
  if (Error error = check(scope.result, "the device's context cannot be made current"))
    return error;
  return check(api.synchronizeStream(stream), "work on the device failed");
}
