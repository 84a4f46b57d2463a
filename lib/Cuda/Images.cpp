//===- Images.cpp - what of kernels the driver loads ---------------------------------===//

#include "pfcn/Cuda/Images.h"

#include "pfcn/JIT/Cubin.h"
#include "pfcn/JIT/DiskCache.h"
#include "pfcn/JIT/Ptx.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "llvm/Support/Process.h"

using namespace pfcn;
using llvm::Expected;

Expected<cuda::ImageKind> cuda::getImageKind() {
  std::string kind = llvm::sys::Process::GetEnv("PFCN_CUDA_IMAGE").value_or("");
  if (kind.empty() || kind == "ptx")
    return ImageKind::Ptx;
  if (kind == "cubin")
    return ImageKind::Cubin;
  return llvm::createStringError("PFCN_CUDA_IMAGE is ptx or cubin, not '" + kind + "'");
}

Expected<std::string> cuda::compileImage(mlir::ModuleOp module, const std::string &chip, ImageKind kind) {
  llvm::SmallVector<mlir::Operation *> kernels;
  for (auto gpuModule : module.getOps<mlir::gpu::GPUModuleOp>())
    kernels.push_back(gpuModule);
  DiskCache cache = DiskCache::fromEnvironment();
  if (kind == ImageKind::Ptx)
    return cache.get(makeCacheKey("ptx", kernels, {chip}), [&] { return compileKernelsToPtx(module, chip); });
  return cache.get(makeCacheKey("cubin", kernels, {chip}), [&]() -> Expected<std::string> {
    Expected<std::string> ptx = compileImage(module, chip, ImageKind::Ptx);
    return ptx ? assemblePtx(*ptx, chip) : ptx.takeError();
  });
}
