//===- Images.h - what of kernels the driver loads ------------------------*- C++ -*-===//

#ifndef PFCN_CUDA_IMAGES_H
#define PFCN_CUDA_IMAGES_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/Error.h"

#include <string>

namespace pfcn::cuda {

enum class ImageKind {
  Ptx,  ///< the driver compiles it; needs no CUDA installation
  Cubin ///< assembled by ptxas; loads faster, and by drivers that are older than the PTX
};

/// What PFCN_CUDA_IMAGE asks for: PTX where it is not set.
llvm::Expected<ImageKind> getImageKind();

/// The `gpu.module` of kernels in `module`, for a chip, from the disk cache where it has been compiled before.
llvm::Expected<std::string> compileImage(mlir::ModuleOp module, const std::string &chip, ImageKind kind);

} // namespace pfcn::cuda

#endif // PFCN_CUDA_IMAGES_H
