//===- CudaLaunch.h - calling a kernel of a GPU on torch tensors ---------*- C++ -*-===//
//
// All but pointers, dynamic sizes and strides is computed once; a launch neither allocates nor waits, so that a CUDA
// graph can capture it.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_RUNTIME_CUDALAUNCH_H
#define PFCN_RUNTIME_CUDALAUNCH_H

#include "pfcn/Cuda/Driver.h"
#include "pfcn/Runtime/Launch.h"

#include <stdexcept>

namespace pfcn::runtime {

/// An error of the CUDA driver, as C++ and Python see it.
class CudaFailure : public std::runtime_error {
public:
  CudaFailure(std::string name, std::string remedy, const std::string &message)
      : std::runtime_error(message), name(std::move(name)), remedy(std::move(remedy)) {}

  const std::string name, remedy;
};

/// Throws `CudaFailure`, or `c10::Error` for errors that are not the driver's.
void throwIfError(llvm::Error error);

template <typename T> T valueOrThrow(llvm::Expected<T> value) {
  throwIfError(value.takeError());
  return std::move(*value);
}

/// What kernels run on, and where the plan's tensors are.
struct CudaTarget {
  cuda::Device *device;
  int ordinal;
  /// Inputs and results are on the CPU, and device memory is pfcn's own; otherwise, all is on torch's device.
  bool copies;
  /// PTX or cubin of the module's kernels.
  std::string image;

  c10::Device getTorchDevice() const { return {c10::kCUDA, static_cast<c10::DeviceIndex>(ordinal)}; }
  /// Where work is put: on torch's current stream, or on pfcn's own.
  void *getStream() const;
};

class CudaLaunch {
public:
  CudaLaunch(mlir::pfcn::LaunchOp op, mlir::ModuleOp module, std::shared_ptr<const CudaTarget> target);

  /// Starts the kernel. `tensors`: inputs, then destinations.
  void run(TensorRange tensors) const;

private:
  /// One parameter of the kernel: the pointer to a tensor, a size, or a stride.
  struct Parameter {
    enum Kind { Pointer, Size, Stride } kind;
    size_t tensor;
    size_t dim;
  };

  std::shared_ptr<const CudaTarget> target;
  std::string name;
  cuda::Function function;
  cuda::Extent grid, block;
  size_t inputCount;
  std::vector<LaunchOperand> operands;
  std::vector<Parameter> parameters;
  /// Sizes that the kernel takes for equal: groups of (tensor, dimension) pairs.
  std::vector<std::vector<int64_t>> equalSizes;
};

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_CUDALAUNCH_H
