//===- TorchInput.cpp - .pt and .pt2 files on the command line ---------------------===//
//
// LibTorch's loader was not made for files of strangers: some make it crash. So it runs in a process of its own, which
// writes no files, has limits, and hands back text.
//
//===----------------------------------------------------------------------------===//

#include "TorchInput.h"

#include "pfcn/Import/ExportedProgram.h"

#include "llvm/Support/Compiler.h"
#include "llvm/Support/Errno.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/WithColor.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <dlfcn.h>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

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
static llvm::Expected<std::string> importHere(const std::string &path, const std::string &inputShapes) {
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

static void limit(int resource, rlim_t most) {
  rlimit now;
  if (getrlimit(resource, &now) != 0)
    return;
  now.rlim_cur = now.rlim_max = std::min(now.rlim_max, most);
  setrlimit(resource, &now);
}

/// The import, and its result as text: first a character that says whether it is an error.
static std::string importWithin(const std::string &path, const std::string &inputShapes) {
  constexpr rlim_t gigabyte = rlim_t(1) << 30;
  uint64_t size = 0;
  if (llvm::sys::fs::file_size(path, size))
    size = 0; // the import says what is wrong
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_CPU, 600);
#if !LLVM_ADDRESS_SANITIZER_BUILD && !LLVM_THREAD_SANITIZER_BUILD // which reserve terabytes
  limit(RLIMIT_AS, 8 * gigabyte + 4 * size);
#endif
  signal(SIGXFSZ, SIG_IGN);
  auto module = importHere(path, inputShapes);
  return module ? "+" + *module : "-" + llvm::toString(module.takeError());
}

static bool writeAll(int descriptor, llvm::StringRef text) {
  while (!text.empty()) {
    ssize_t written = write(descriptor, text.data(), text.size());
    if (written < 0 && errno != EINTR)
      return false;
    text = text.drop_front(std::max<ssize_t>(written, 0));
  }
  return true;
}

static std::string readAll(int descriptor) {
  std::string text;
  std::vector<char> buffer(1 << 16);
  while (true) {
    ssize_t count = read(descriptor, buffer.data(), buffer.size());
    if (count == 0 || (count < 0 && errno != EINTR))
      return text;
    text.append(buffer.data(), std::max<ssize_t>(count, 0));
  }
}

/// The same, in a process of its own.
static llvm::Expected<std::string> importTorchScript(const std::string &path, const std::string &inputShapes) {
  int ends[2];
  if (pipe(ends) != 0)
    return llvm::createStringError("no process can be started: " + llvm::sys::StrError());
  pid_t child = fork();
  if (child < 0)
    return llvm::createStringError("no process can be started: " + llvm::sys::StrError());
  if (child == 0) {
    close(ends[0]);
    for (int signal : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL}) // the parent has one line to say of it
      ::signal(signal, SIG_DFL);
    // No destructors of LibTorch: what there is to say has been said.
    _exit(writeAll(ends[1], importWithin(path, inputShapes)) ? 0 : 1);
  }
  close(ends[1]);
  std::string text = readAll(ends[0]);
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
    return llvm::createStringError(path + " takes longer than ten minutes to read");
  if (WIFSIGNALED(status))
    return llvm::createStringError(path + " is damaged: LibTorch stopped reading it with '" +
                                   strsignal(WTERMSIG(status)) + "'");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || text.empty())
    return llvm::createStringError(path + " is damaged: LibTorch ended while it read it");
  if (text[0] == '-')
    return llvm::createStringError(text.substr(1));
  return text.substr(1);
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
