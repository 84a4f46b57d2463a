//===- TorchInput.cpp - .pt and .pt2 files on the command line ---------------------===//

#include "TorchInput.h"

#include "pfcn/Import/ExportedProgram.h"

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

/// With LibTorch, which is loaded here.
static llvm::Expected<std::string> importTorchScript(const std::string &path, const std::string &inputShapes) {
  std::string library = getLibraryPath();
  void *handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  auto import = reinterpret_cast<ImportFunction>(handle ? dlsym(handle, "pfcnImportTorchScript") : nullptr);
  if (!import)
    return llvm::createStringError("reading " + path + " takes a build with LibTorch: " + dlerror());
  std::string result;
  if (!import(path.c_str(), inputShapes.c_str(), &result))
    return llvm::createStringError(result);
  return result;
}

std::unique_ptr<llvm::MemoryBuffer> importTorchFile(llvm::StringRef path, llvm::StringRef inputShapes) {
  auto import = path.ends_with(".pt2") ? pfcn::importExportedProgram : importTorchScript;
  llvm::Expected<std::string> module = import(path.str(), inputShapes.str());
  if (!module) {
    llvm::WithColor::error() << llvm::toString(module.takeError()) << "\n";
    return nullptr;
  }
  return llvm::MemoryBuffer::getMemBufferCopy(*module, path);
}
