//===- TorchScriptInput.cpp - .pt files on the command line ----------------------===//

#include "TorchScriptInput.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/WithColor.h"

#include <dlfcn.h>
#include <string>

using ImportFunction = bool (*)(const char *path, const char *inputShapes, std::string *result);

bool isTorchFile(llvm::StringRef path) { return path.ends_with(".pt") || path.ends_with(".pt2"); }

/// libpfcn_torch lies in the lib folder beside the tool's own.
static std::string getLibraryPath() {
  static char here;
  llvm::SmallString<256> path(llvm::sys::fs::getMainExecutable("pfcn-opt", &here));
  llvm::sys::path::remove_filename(path);
  llvm::sys::path::append(path, "..", "lib", "libpfcn_torch.so");
  return std::string(path);
}

std::unique_ptr<llvm::MemoryBuffer> importTorchFile(llvm::StringRef path, llvm::StringRef inputShapes) {
  std::string library = getLibraryPath();
  void *handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  auto import = reinterpret_cast<ImportFunction>(handle ? dlsym(handle, "pfcnImportTorchScript") : nullptr);
  if (!import) {
    llvm::WithColor::error() << "reading " << path << " takes a build with LibTorch: " << dlerror() << "\n";
    return nullptr;
  }
  std::string result;
  if (!import(path.str().c_str(), inputShapes.str().c_str(), &result)) {
    llvm::WithColor::error() << result << "\n";
    return nullptr;
  }
  return llvm::MemoryBuffer::getMemBufferCopy(result, path);
}
