//===- Device.h - what a device keeps -------------------------------------*- C++ -*-===//

#ifndef PFCN_LIB_CUDA_DEVICE_H
#define PFCN_LIB_CUDA_DEVICE_H

#include "pfcn/Cuda/Driver.h"

#include <map>
#include <mutex>
#include <unordered_map>

namespace pfcn::cuda {

struct Device::State {
  std::mutex imagesMutex;
  /// Modules by the bytes that they were loaded from.
  std::unordered_map<std::string, void *> images;

  std::mutex memoryMutex;
  /// Blocks that nothing uses, by size.
  std::multimap<size_t, uint64_t> unused;
};

/// Makes the device's context current on this thread, and puts back what was.
class Device::Scope {
public:
  explicit Scope(const Device &device);
  ~Scope();
  Scope(const Scope &) = delete;
  Scope &operator=(const Scope &) = delete;

  int result = 0;

private:
  const Device &device;
  bool isPushed = false;
};

} // namespace pfcn::cuda

#endif // PFCN_LIB_CUDA_DEVICE_H
