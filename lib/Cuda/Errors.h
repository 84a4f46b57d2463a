//===- Errors.h - what to do about an error of the CUDA driver -----------*- C++ -*-===//

#ifndef PFCN_LIB_CUDA_ERRORS_H
#define PFCN_LIB_CUDA_ERRORS_H

#include "pfcn/Cuda/Driver.h"

namespace pfcn::cuda {

/// The error for a result of the driver other than 0. `what`: what was being done.
llvm::Error makeError(const Api &api, int result, const std::string &what);

} // namespace pfcn::cuda

#endif // PFCN_LIB_CUDA_ERRORS_H
