//===- DiskCache.h - compiled code, kept between processes ---------------*- C++ -*-===//
//
// Bytes by key, in files of PFCN_CACHE_DIR (~/.cache/pfcn where it is not set; no cache where it is empty). A cache
// never fails: what cannot be read is compiled again, what cannot be written is a line of log (PFCN_LOG=cache).
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_JIT_DISKCACHE_H
#define PFCN_JIT_DISKCACHE_H

#include "mlir/IR/Operation.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/Support/Error.h"

#include <optional>
#include <string>

namespace pfcn {

class DiskCache {
public:
  explicit DiskCache(std::string directory) : directory(std::move(directory)) {}
  /// Where the environment says now.
  static DiskCache fromEnvironment();

  /// What was stored under the key. A file that is damaged is removed, and counts as none.
  std::optional<std::string> load(llvm::StringRef key) const;
  /// Other processes see the whole entry or none.
  void store(llvm::StringRef key, llvm::StringRef bytes) const;

  /// The stored bytes, or what `compile` makes, which is stored.
  llvm::Expected<std::string> get(llvm::StringRef key, llvm::function_ref<llvm::Expected<std::string>()> compile) const;

private:
  std::string getPath(llvm::StringRef key) const;

  std::string directory;
};

/// What compiled code depends on: this build of pfcn, LLVM's version, the ops, and what else is given.
std::string makeCacheKey(llvm::StringRef kind, llvm::ArrayRef<mlir::Operation *> ops,
                         llvm::ArrayRef<std::string> target);

} // namespace pfcn

#endif // PFCN_JIT_DISKCACHE_H
