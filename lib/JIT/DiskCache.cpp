//===- DiskCache.cpp - compiled code, kept between processes --------------------------===//
//
// A file is a line of magic, the SHA-256 of the key and of the bytes, and the bytes. It is written beside its place and
// renamed, so that readers never see a part of it.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/JIT/DiskCache.h"

#include "mlir/IR/OperationSupport.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Config/llvm-config.h"
#include "llvm/Support/CachePruning.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/SHA256.h"
#include "llvm/Support/raw_ostream.h"

#include <dlfcn.h>

using namespace llvm;
using pfcn::DiskCache;

// `pruneCache` looks after the files of this name.
static constexpr StringRef prefix = "llvmcache-", magic = "pfcn cache 1\n";
static constexpr size_t hashSize = 32;

static std::string hash(StringRef text) { return toStringRef(SHA256::hash(arrayRefFromStringRef(text))).str(); }

static void log(const Twine &message) {
  std::string wanted = sys::Process::GetEnv("PFCN_LOG").value_or("");
  SmallVector<StringRef, 4> topics;
  StringRef(wanted).split(topics, ',');
  if (is_contained(topics, "cache"))
    errs() << "pfcn: cache: " << message << "\n";
}

DiskCache DiskCache::fromEnvironment() {
  if (std::optional<std::string> directory = sys::Process::GetEnv("PFCN_CACHE_DIR"))
    return DiskCache(*directory);
  SmallString<128> path;
  if (!sys::path::cache_directory(path))
    return DiskCache("");
  sys::path::append(path, "pfcn");
  return DiskCache(path.str().str());
}

std::string DiskCache::getPath(StringRef key) const {
  SmallString<128> path(directory);
  sys::path::append(path, prefix + toHex(hash(key), /*LowerCase=*/true));
  return path.str().str();
}

std::optional<std::string> DiskCache::load(StringRef key) const {
  if (directory.empty())
    return std::nullopt;
  std::string path = getPath(key);
  auto file = MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!file) {
    log("no entry " + path + ": " + file.getError().message());
    return std::nullopt;
  }
  StringRef content = (*file)->getBuffer();
  bool isWhole = content.consume_front(magic) && content.size() >= 2 * hashSize &&
                 content.take_front(hashSize) == hash(key) &&
                 content.substr(hashSize, hashSize) == hash(content.drop_front(2 * hashSize));
  if (!isWhole) {
    log("the entry is damaged, and removed: " + path);
    sys::fs::remove(path);
    return std::nullopt;
  }
  log("found " + path);
  return content.drop_front(2 * hashSize).str();
}

static Error write(const std::string &directory, const std::string &path, StringRef key, StringRef bytes) {
  // Code that is run is nobody else's to write.
  if (std::error_code error = sys::fs::create_directories(directory, /*IgnoreExisting=*/true, sys::fs::owner_all))
    return errorCodeToError(error);
  Expected<sys::fs::TempFile> temporary = sys::fs::TempFile::create(path + ".%%%%%%");
  if (!temporary)
    return temporary.takeError();
  raw_fd_ostream stream(temporary->FD, /*shouldClose=*/false);
  stream << magic << hash(key) << hash(bytes) << bytes;
  stream.flush();
  if (std::error_code error = stream.error()) {
    stream.clear_error(); // the destructor would end the process
    return joinErrors(errorCodeToError(error), temporary->discard());
  }
  return temporary->keep(path);
}

void DiskCache::store(StringRef key, StringRef bytes) const {
  if (directory.empty())
    return;
  std::string path = getPath(key);
  if (Error error = write(directory, path, key, bytes)) {
    log("cannot store " + path + ": " + toString(std::move(error)));
    return;
  }
  log("stored " + path);
  CachePruningPolicy policy;
  policy.Expiration = std::chrono::hours(24 * 30);
  policy.MaxSizeBytes = uint64_t(1) << 30;
  pruneCache(directory, policy);
}

Expected<std::string> DiskCache::get(StringRef key, function_ref<Expected<std::string>()> compile) const {
  if (std::optional<std::string> found = load(key))
    return *found;
  Expected<std::string> bytes = compile();
  if (bytes)
    store(key, *bytes);
  return bytes;
}

/// Changes with every build of this library, so that no compiler ever reads what another one wrote.
static std::string describeBuild() {
  Dl_info info;
  sys::fs::file_status status;
  if (!dladdr(reinterpret_cast<void *>(&describeBuild), &info) || sys::fs::status(info.dli_fname, status))
    return "unknown";
  auto changed = status.getLastModificationTime().time_since_epoch().count();
  return std::to_string(status.getSize()) + "," + std::to_string(changed);
}

std::string pfcn::makeCacheKey(StringRef kind, ArrayRef<mlir::Operation *> ops, ArrayRef<std::string> target) {
  static const std::string build = describeBuild();
  std::string key;
  raw_string_ostream stream(key);
  stream << kind << "\n" << build << "\n" << LLVM_VERSION_STRING << "\n";
  for (const std::string &part : target)
    stream << part << "\n";
  for (mlir::Operation *op : ops) {
    op->print(stream, mlir::OpPrintingFlags().useLocalScope());
    stream << "\n";
  }
  return key;
}
