//===- Memory.h - where the tensors of a plan live -----------------------*- C++ -*-===//
//
// On the CPU, in torch's memory of a GPU, or, where this torch knows no CUDA, in GPU memory of pfcn's own. Tensors of
// the last kind are a shape and a pointer: no operator of torch takes them.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_RUNTIME_MEMORY_H
#define PFCN_RUNTIME_MEMORY_H

#include "pfcn/Runtime/CudaLaunch.h"

#include <mutex>

namespace pfcn::runtime {

class Memory {
public:
  /// The CPU's.
  Memory() = default;
  /// Where kernels of the target read and write.
  static Memory ofDevice(std::shared_ptr<const CudaTarget> target) { return Memory(std::move(target)); }

  at::Tensor allocate(at::IntArrayRef sizes, at::ScalarType dtype) const;
  /// A contiguous copy in the same memory.
  at::Tensor clone(const at::Tensor &tensor) const;

private:
  explicit Memory(std::shared_ptr<const CudaTarget> target) : target(std::move(target)) {}

  std::shared_ptr<const CudaTarget> target;
};

/// Has a tensor that nothing has been written to lie in pages of 2 MB where the system has such: it is the quicker to
/// write first, and to read all of. Nothing happens to tensors of other devices.
void askForLargePages(const at::Tensor &tensor);

/// A CPU tensor as copies to a device read it.
at::Tensor toDense(const at::Tensor &host);
/// A dense CPU tensor in pfcn's own device memory. It must live until the device's work has been waited for.
at::Tensor upload(const CudaTarget &target, const at::Tensor &dense);
/// The other way round; waits for what is still computed.
at::Tensor download(const CudaTarget &target, const at::Tensor &onDevice);

/// A weight of a model on the CPU, and what of it is on the device.
class DeviceCopy {
public:
  explicit DeviceCopy(std::shared_ptr<const CudaTarget> target) : target(std::move(target)) {}

  /// The weight on the device as it is on the CPU now. Each value is compared with what was copied last: there are ways
  /// to write a weight that leave no other trace (`p.data.add_(…)`, NumPy).
  at::Tensor get(const at::Tensor &host);

private:
  std::shared_ptr<const CudaTarget> target;
  std::mutex mutex;
  at::Tensor onDevice, copied;
};

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_MEMORY_H
