//===- Driver.h - the CUDA driver, found when it is first needed ---------*- C++ -*-===//
//
// `libcuda.so.1` comes with the GPU's driver, never with a toolkit, so nothing links to it: the functions are looked
// up on first use. Every call that fails becomes a `CudaError` that says what to do. Safe from any thread.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CUDA_DRIVER_H
#define PFCN_CUDA_DRIVER_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <memory>
#include <string>

namespace pfcn::cuda {

/// A call of the driver that failed, or a driver that is not there.
class CudaError : public llvm::ErrorInfo<CudaError> {
public:
  static char ID;

  CudaError(std::string name, std::string what, std::string remedy)
      : name(std::move(name)), what(std::move(what)), remedy(std::move(remedy)) {}

  void log(llvm::raw_ostream &stream) const override;
  std::error_code convertToErrorCode() const override { return llvm::inconvertibleErrorCode(); }

  /// As the driver spells it ("CUDA_ERROR_OUT_OF_MEMORY"); "CUDA_DRIVER_NOT_FOUND" where there is none.
  const std::string name;
  const std::string what;
  const std::string remedy;
};

/// The functions in use, under the names of the symbols that are looked up.
struct Api {
#define PFCN_CUDA_FUNCTION(name, symbol, ...) int (*name)(__VA_ARGS__) = nullptr;
#include "pfcn/Cuda/Functions.def"
};

/// A kernel in a loaded image. Images stay loaded as long as the process runs: a captured CUDA graph may launch them
/// long after the plan that loaded them is gone.
using Function = void *;

/// How many blocks, and how many threads in each.
struct Extent {
  unsigned x = 1, y = 1, z = 1;
};

class Device;

/// Device memory from a device's pool. It goes back to the pool in the order of the device's own stream, so it may be
/// let go of while kernels on that stream still use it.
class Buffer {
public:
  Buffer() = default;
  Buffer(Device &device, uint64_t address, size_t capacity) : device(&device), address(address), capacity(capacity) {}
  Buffer(Buffer &&other) noexcept { *this = std::move(other); }
  Buffer &operator=(Buffer &&other) noexcept;
  ~Buffer();

  uint64_t getAddress() const { return address; }

private:
  Device *device = nullptr;
  uint64_t address = 0;
  size_t capacity = 0;
};

/// One GPU, in its primary context: the one that torch and the CUDA runtime use too.
class Device {
public:
  Device(const Api &api, int ordinal);
  ~Device();

  /// "sm_90", of this very device.
  const std::string &getChip() const { return chip; }
  const std::string &getName() const { return name; }

  /// Loads PTX or a cubin, unless this device has loaded the same bytes before; finds a kernel in it.
  llvm::Expected<Function> load(llvm::StringRef image, llvm::StringRef kernel);

  /// Starts a kernel and does not wait for it. `arguments`: one pointer to the value of each parameter.
  llvm::Error launch(Function function, llvm::StringRef kernel, Extent grid, Extent block, void **arguments,
                     void *stream);

  /// The stream for work on memory from `allocate`.
  void *getStream() const { return stream; }
  llvm::Expected<Buffer> allocate(size_t bytes);
  /// In the order of the device's stream, which may read host memory until it has been waited for.
  llvm::Error copyToDevice(uint64_t target, const void *source, size_t bytes);
  llvm::Error copyOnDevice(uint64_t target, uint64_t source, size_t bytes);
  /// Waits for all work before, and for the copy.
  llvm::Error copyToHost(void *target, uint64_t source, size_t bytes);
  llvm::Error synchronize();

private:
  friend llvm::Expected<Device *> getDevice(int ordinal);
  friend class Buffer;
  class Scope;
  struct State;

  llvm::Error initialize();
  llvm::Error check(int result, const char *what, llvm::StringRef details = "") const;
  void release(uint64_t address, size_t capacity);
  llvm::Error freeUnused();

  const Api &api;
  int ordinal;
  std::string chip, name;
  void *context = nullptr, *stream = nullptr;
  std::unique_ptr<State> state;
};

/// The device of that number, as torch and CUDA_VISIBLE_DEVICES count. It lives as long as the process. What failed is
/// tried again by the next call.
llvm::Expected<Device *> getDevice(int ordinal);

/// The greatest chip that kernels can be compiled for and that is not newer than the device's ("sm_90"); its PTX runs
/// on the device. Empty where even the oldest is newer.
std::string chooseChip(int major, int minor);

} // namespace pfcn::cuda

#endif // PFCN_CUDA_DRIVER_H
