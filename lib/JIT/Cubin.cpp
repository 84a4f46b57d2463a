//===- Cubin.cpp - PTX to machine code of a chip ----------------------------------------===//

#include "pfcn/JIT/Cubin.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;

static Expected<std::string> findPtxas() {
  for (const char *variable : {"CUDA_ROOT", "CUDA_HOME"})
    if (const char *root = std::getenv(variable)) {
      SmallString<128> path(root);
      sys::path::append(path, "bin", "ptxas");
      if (sys::fs::can_execute(path))
        return path.str().str();
    }
  if (ErrorOr<std::string> path = sys::findProgramByName("ptxas"))
    return *path;
  return createStringError("ptxas is in none of CUDA_ROOT, CUDA_HOME and PATH: install CUDA, or "
                           "`pip install nvidia-cuda-nvcc` and set CUDA_ROOT to its folder");
}

static Expected<std::string> readFile(StringRef path) {
  ErrorOr<std::unique_ptr<MemoryBuffer>> buffer = MemoryBuffer::getFile(path);
  if (!buffer)
    return createStringError("cannot read " + path + ": " + buffer.getError().message());
  return (*buffer)->getBuffer().str();
}

Expected<std::string> pfcn::assemblePtx(StringRef ptx, StringRef chip) {
  Expected<std::string> ptxas = findPtxas();
  if (!ptxas)
    return ptxas.takeError();
  SmallString<128> source, image, log;
  int descriptor;
  for (auto [suffix, path] : {std::pair{"ptx", &source}, {"cubin", &image}, {"log", &log}})
    if (std::error_code error = sys::fs::createTemporaryFile("pfcn", suffix, *path))
      return createStringError("cannot create a temporary file: " + error.message());
  FileRemover removeSource(source), removeImage(image), removeLog(log);
  if (std::error_code error = sys::fs::openFileForWrite(source, descriptor))
    return createStringError("cannot write " + source + ": " + error.message());
  raw_fd_ostream stream(descriptor, /*shouldClose=*/true);
  stream << ptx;
  stream.close();

  std::string arch = ("-arch=" + chip).str();
  std::optional<StringRef> redirects[] = {StringRef(""), log.str(), log.str()};
  std::string error;
  int status = sys::ExecuteAndWait(*ptxas, {*ptxas, arch, source, "-o", image}, std::nullopt, redirects,
                                   /*SecondsToWait=*/120, /*MemoryLimit=*/0, &error);
  if (status != 0) {
    Expected<std::string> output = readFile(log);
    return createStringError("ptxas failed for " + chip + ": " + error +
                             (output ? *output : toString(output.takeError())));
  }
  return readFile(image);
}
