//===- Zip.cpp - files in a zip archive --------------------------------------------===//
//
// The directory at the end of the archive, with the fields of Zip64 where numbers need more than
// 32 bits. Every number is compared with the size of the archive before it is believed.
//
//===----------------------------------------------------------------------------===//

#include "Standalone/Zip.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/CRC.h"
#include "llvm/Support/Endian.h"

using namespace llvm;
using namespace pfcn;

static constexpr uint32_t kLocalHeader = 0x04034b50, kDirectoryEntry = 0x02014b50, kEndOfDirectory = 0x06054b50,
                          kEndOfDirectory64 = 0x06064b50, kLocator64 = 0x07064b50;
static constexpr size_t kLocalHeaderSize = 30, kDirectoryEntrySize = 46, kEndOfDirectorySize = 22,
                        kEndOfDirectory64Size = 56, kLocator64Size = 20, kMostComment = 0xffff;

namespace {
/// Numbers at places of a string; 0 behind its end.
struct Bytes {
  StringRef data;

  template <typename T> T get(uint64_t at) const {
    if (at > data.size() || data.size() - at < sizeof(T))
      return 0;
    return support::endian::read<T, endianness::little>(data.data() + at);
  }
  uint16_t half(uint64_t at) const { return get<uint16_t>(at); }
  uint32_t word(uint64_t at) const { return get<uint32_t>(at); }
  uint64_t wide(uint64_t at) const { return get<uint64_t>(at); }
  bool holds(uint64_t at, uint64_t size) const { return at <= data.size() && size <= data.size() - at; }
};
} // namespace

Error ZipArchive::fail(const Twine &message) const { return createStringError(Twine(path) + ": " + message); }

Expected<ZipArchive> ZipArchive::open(const std::string &path) {
  ZipArchive archive;
  archive.path = path;
  auto buffer = MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer)
    return archive.fail(buffer.getError().message());
  archive.buffer = std::move(*buffer);
  if (Error error = archive.readDirectory())
    return error;
  return archive;
}

static std::optional<uint64_t> findEnd(const Bytes &bytes) {
  uint64_t size = bytes.data.size();
  for (uint64_t back = kEndOfDirectorySize; back <= size && back <= kEndOfDirectorySize + kMostComment; ++back)
    if (bytes.word(size - back) == kEndOfDirectory && bytes.half(size - back + 20) == back - kEndOfDirectorySize)
      return size - back;
  return std::nullopt;
}

Error ZipArchive::readDirectory() {
  Bytes bytes{buffer->getBuffer()};
  std::optional<uint64_t> end = findEnd(bytes);
  if (!end)
    return fail("no zip archive, or one that is cut short: it does not end with a directory");
  uint64_t count = bytes.half(*end + 10), size = bytes.word(*end + 12), at = bytes.word(*end + 16);
  if (*end >= kLocator64Size && bytes.word(*end - kLocator64Size) == kLocator64) {
    uint64_t wide = bytes.wide(*end - kLocator64Size + 8);
    if (!bytes.holds(wide, kEndOfDirectory64Size) || bytes.word(wide) != kEndOfDirectory64)
      return fail("the archive is damaged: its directory is not where it should be");
    count = bytes.wide(wide + 32);
    size = bytes.wide(wide + 40);
    at = bytes.wide(wide + 48);
  }
  if (!bytes.holds(at, size))
    return fail("the archive is damaged: its directory lies outside of it");
  for (uint64_t i = 0; i < count; ++i) {
    if (!bytes.holds(at, kDirectoryEntrySize) || bytes.word(at) != kDirectoryEntry)
      return fail("the archive is damaged: entry " + Twine(i) + " of its directory cannot be read");
    uint64_t nameSize = bytes.half(at + 28), extraSize = bytes.half(at + 30), commentSize = bytes.half(at + 32);
    if (!bytes.holds(at + kDirectoryEntrySize, nameSize + extraSize + commentSize))
      return fail("the archive is damaged: entry " + Twine(i) + " of its directory is cut short");
    Entry entry{bytes.word(at + 42), bytes.word(at + 24), bytes.word(at + 16),
                bytes.half(at + 10) == 0 && (bytes.half(at + 8) & 1) == 0};
    // Zip64: what did not fit stands in an extra field, in this order.
    Bytes extra{bytes.data.substr(at + kDirectoryEntrySize + nameSize, extraSize)};
    for (uint64_t field = 0; extra.holds(field, 4); field += 4 + extra.half(field + 2)) {
      if (extra.half(field) != 1)
        continue;
      uint64_t next = field + 4;
      if (entry.size == 0xffffffff)
        entry.size = extra.wide(std::exchange(next, next + 8));
      if (bytes.word(at + 20) == 0xffffffff)
        next += 8;
      if (entry.offset == 0xffffffff)
        entry.offset = extra.wide(next);
    }
    StringRef name = bytes.data.substr(at + kDirectoryEntrySize, nameSize);
    if (root.empty())
      root = name.take_until([](char c) { return c == '/'; }).str();
    entries[name.str()] = entry;
    at += kDirectoryEntrySize + nameSize + extraSize + commentSize;
  }
  return Error::success();
}

Expected<StringRef> ZipArchive::read(StringRef name) const {
  auto found = entries.find(name.str());
  if (found == entries.end())
    return fail("there is no file '" + name + "' in the archive");
  const Entry &entry = found->second;
  if (!entry.isStored)
    return fail("'" + name + "' is compressed or encrypted, and torch stores files as they are");
  Bytes bytes{buffer->getBuffer()};
  if (!bytes.holds(entry.offset, kLocalHeaderSize) || bytes.word(entry.offset) != kLocalHeader)
    return fail("the archive is damaged: '" + name + "' is not where its directory says");
  uint64_t start = entry.offset + kLocalHeaderSize + bytes.half(entry.offset + 26) + bytes.half(entry.offset + 28);
  if (!bytes.holds(start, entry.size))
    return fail("the archive is cut short: '" + name + "' is not whole");
  StringRef contents = bytes.data.substr(start, entry.size);
  if (crc32(arrayRefFromStringRef(contents)) != entry.checksum)
    return fail("the archive is damaged: the checksum of '" + name + "' is wrong");
  return contents;
}

std::vector<std::string> ZipArchive::getNames() const {
  std::vector<std::string> names;
  names.reserve(entries.size());
  for (const auto &[name, entry] : entries)
    names.push_back(name);
  return names;
}
