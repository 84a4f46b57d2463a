//===- CudaLaunch.cpp - calling a kernel of a GPU on torch tensors -----------------===//

#include "pfcn/Runtime/CudaLaunch.h"

#include "pfcn/Codegen/CpuKernel.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"

#include <c10/core/impl/VirtualGuardImpl.h>

using namespace mlir::pfcn;

namespace pfcn::runtime {

void throwIfError(llvm::Error error) {
  if (!error)
    return;
  llvm::Error other = llvm::handleErrors(std::move(error), [](const cuda::CudaError &failure) {
    throw CudaFailure(failure.name, failure.remedy,
                      failure.name + ": " + failure.what + "\n  remedy: " + failure.remedy);
  });
  if (other)
    TORCH_CHECK(false, "pfcn: ", llvm::toString(std::move(other)));
}

void *CudaTarget::getStream() const {
  if (copies)
    return device->getStream();
  // Torch's headers of CUDA need a CUDA installation; the registered guard gives the same stream without them.
  c10::impl::VirtualGuardImpl guard(c10::kCUDA);
  return guard.getStreamNativeHandle(guard.getStream(getTorchDevice()));
}

static mlir::gpu::GPUFuncOp findFunction(mlir::ModuleOp module, llvm::StringRef name) {
  for (auto kernels : module.getOps<mlir::gpu::GPUModuleOp>())
    if (auto function = kernels.lookupSymbol<mlir::gpu::GPUFuncOp>(name))
      return function;
  return {};
}

CudaLaunch::CudaLaunch(LaunchOp op, mlir::ModuleOp module, std::shared_ptr<const CudaTarget> onTarget)
    : target(std::move(onTarget)), name(op.getKernel().str()), inputCount(op.getInputs().size()) {
  mlir::gpu::GPUFuncOp kernel = findFunction(module, name);
  auto described = kernel ? kernel->getAttrOfType<mlir::ArrayAttr>("pfcn.parameters") : mlir::ArrayAttr();
  auto gridY = op->getAttrOfType<mlir::IntegerAttr>("pfcn.grid_y");
  auto threads = op->getAttrOfType<mlir::DenseI64ArrayAttr>("pfcn.block");
  TORCH_CHECK(described && gridY && threads && threads.size() == 3, "pfcn: there is no kernel ", name, " for a GPU");
  grid = {static_cast<unsigned>(op.getTiles()), static_cast<unsigned>(gridY.getInt()), 1};
  block = {static_cast<unsigned>(threads[0]), static_cast<unsigned>(threads[1]), static_cast<unsigned>(threads[2])};

  auto addOperands = [&](mlir::ValueRange wholes, mlir::ArrayAttr accesses) {
    for (auto [whole, attribute] : llvm::zip(wholes, accesses)) {
      auto access = mlir::cast<AccessAttr>(attribute);
      TORCH_CHECK(access.isShared() || access.isAffine(), "pfcn: kernel ", name,
                  " has an operand that is not read in place");
      operands.push_back(makeOperand(access, op.getCount(), getMemRefType(whole, access, op.getCount())));
    }
  };
  addOperands(op.getInputs(), op.getInputAccesses());
  addOperands(op.getInits(), op.getInitAccesses());
  for (mlir::Attribute attribute : described) {
    llvm::ArrayRef<int64_t> what = mlir::cast<mlir::DenseI64ArrayAttr>(attribute).asArrayRef();
    parameters.push_back({static_cast<Parameter::Kind>(what[1]), static_cast<size_t>(what[0]),
                          what.size() > 2 ? static_cast<size_t>(what[2]) : 0});
  }
  if (auto equal = op->getAttrOfType<mlir::ArrayAttr>("pfcn.equal_sizes"))
    for (mlir::Attribute group : equal)
      equalSizes.push_back(mlir::cast<mlir::DenseI64ArrayAttr>(group).asArrayRef().vec());
  function = valueOrThrow(target->device->load(target->image, name));
}

void CudaLaunch::run(TensorRange tensors) const {
  struct View {
    llvm::SmallVector<int64_t, 8> sizes, strides;
    int64_t address = 0;
  };
  llvm::SmallVector<View, 8> views(operands.size());
  llvm::SmallVector<at::Tensor, 2> copies;
  for (size_t i = 0; i < operands.size(); ++i) {
    const at::Tensor *whole = &tensors[i];
    View &view = views[i];
    int64_t start = 0;
    if (!operands[i].describe(*whole, view.sizes, view.strides, start)) {
      TORCH_CHECK(i < inputCount, "pfcn: kernel ", name, " cannot write its destination in place");
      copies.push_back(whole->contiguous());
      whole = &copies.back();
      view = View();
      TORCH_CHECK(operands[i].describe(*whole, view.sizes, view.strides, start), "pfcn: kernel ", name,
                  " was compiled for a layout that its input of shape ", whole->sizes(), " cannot have");
    }
    view.address = reinterpret_cast<int64_t>(whole->const_data_ptr()) + start * whole->element_size();
  }
  for (const std::vector<int64_t> &group : equalSizes)
    for (size_t i = 2; i < group.size(); i += 2)
      TORCH_CHECK_VALUE(views[group[i]].sizes[group[i + 1]] == views[group[0]].sizes[group[1]],
                        "pfcn: two tensors of kernel ", name, " differ in the size of a dimension that they share");
  llvm::SmallVector<int64_t, 32> values;
  for (const Parameter &parameter : parameters) {
    const View &view = views[parameter.tensor];
    values.push_back(parameter.kind == Parameter::Pointer ? view.address
                     : parameter.kind == Parameter::Size  ? view.sizes[parameter.dim]
                                                          : view.strides[parameter.dim]);
  }
  llvm::SmallVector<void *, 32> arguments;
  for (int64_t &value : values)
    arguments.push_back(&value);
  throwIfError(target->device->launch(function, name, grid, block, arguments.data(), target->getStream()));
}

} // namespace pfcn::runtime
