//===- TorchInput.h - .pt and .pt2 files on the command line ---------------*- C++ -*-===//
//
// LibTorch is loaded when a .pt file is read, and only then.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_TOOLS_TORCHINPUT_H
#define PFCN_TOOLS_TORCHINPUT_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/MemoryBuffer.h"

#include <memory>

/// Whether the file name says that torch wrote it.
bool isTorchFile(llvm::StringRef path);

/// The module as MLIR; null after printing what is wrong.
std::unique_ptr<llvm::MemoryBuffer> importTorchFile(llvm::StringRef path, llvm::StringRef inputShapes);

#endif // PFCN_TOOLS_TORCHINPUT_H
