//===- Zip.h - files in a zip archive ------------------------------------*- C++ -*-===//
//
// As torch writes them: stored without compression, so each is a part of the archive's bytes.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_LIB_IMPORT_STANDALONE_ZIP_H
#define PFCN_LIB_IMPORT_STANDALONE_ZIP_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/MemoryBuffer.h"

#include <map>
#include <memory>
#include <string>

namespace pfcn {

class ZipArchive {
public:
  static llvm::Expected<ZipArchive> open(const std::string &path);

  bool has(llvm::StringRef name) const { return entries.contains(name.str()); }
  /// The contents of a file, whose checksum has been compared.
  llvm::Expected<llvm::StringRef> read(llvm::StringRef name) const;
  /// What all names start with, up to the first slash.
  const std::string &getRoot() const { return root; }
  std::vector<std::string> getNames() const;

private:
  struct Entry {
    uint64_t offset, size; ///< of the local header; of the contents
    uint32_t checksum;
    bool isStored;
  };

  llvm::Error readDirectory();
  llvm::Error fail(const llvm::Twine &message) const;

  std::string path, root;
  std::unique_ptr<llvm::MemoryBuffer> buffer;
  std::map<std::string, Entry> entries;
};

} // namespace pfcn

#endif // PFCN_LIB_IMPORT_STANDALONE_ZIP_H
