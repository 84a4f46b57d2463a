// Whatever is wrong with the disk, a cache gives what was stored or nothing, and never fails.

#include "pfcn/JIT/DiskCache.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <gtest/gtest.h>

#include <csignal>
#include <sys/resource.h>
#include <thread>

using namespace llvm;
using pfcn::DiskCache;

namespace {

class DiskCacheTest : public testing::Test {
protected:
  void SetUp() override { ASSERT_FALSE(sys::fs::createUniqueDirectory("pfcn-cache", root)); }
  void TearDown() override { sys::fs::remove_directories(root); }

  std::string at(StringRef name) const {
    SmallString<128> path(root);
    sys::path::append(path, name);
    return path.str().str();
  }

  /// The one entry of a cache.
  std::string findEntry(StringRef directory) const {
    std::error_code error;
    for (sys::fs::directory_iterator file(directory, error), end; file != end && !error; file.increment(error))
      if (sys::path::filename(file->path()) != "llvmcache.timestamp")
        return file->path();
    return "";
  }

  SmallString<128> root;
};

const std::string bytes("\0code\n", 6);

std::string read(const std::string &path) { return (*MemoryBuffer::getFile(path))->getBuffer().str(); }

void write(const std::string &path, StringRef content) {
  std::error_code error;
  raw_fd_ostream(path, error) << content;
}

TEST_F(DiskCacheTest, GivesBackWhatWasStored) {
  DiskCache cache(at("not/there/yet"));
  EXPECT_EQ(cache.load("a"), std::nullopt);
  cache.store("a", bytes);
  cache.store("b", "");
  EXPECT_EQ(cache.load("a"), bytes);
  EXPECT_EQ(cache.load("b"), "");
  EXPECT_EQ(cache.load("c"), std::nullopt);
  cache.store("a", "other");
  EXPECT_EQ(DiskCache(at("not/there/yet")).load("a"), "other");
}

TEST_F(DiskCacheTest, CompilesOnce) {
  DiskCache cache(at("cache"));
  int compiled = 0;
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(cantFail(cache.get("a", [&]() -> Expected<std::string> { return ++compiled, bytes; })), bytes);
  EXPECT_EQ(compiled, 1);
  Expected<std::string> failed = cache.get("b", []() -> Expected<std::string> { return createStringError("no"); });
  EXPECT_EQ(toString(failed.takeError()), "no");
  EXPECT_EQ(cache.load("b"), std::nullopt);
}

TEST_F(DiskCacheTest, EveryDamageIsSeen) {
  DiskCache cache(at("cache"));
  cache.store("a", bytes);
  std::string path = findEntry(at("cache")), whole = read(path);
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] ^= 1;
    write(path, damaged);
    EXPECT_EQ(cache.load("a"), std::nullopt) << "byte " << i;
    EXPECT_FALSE(sys::fs::exists(path));
    write(path, StringRef(whole).take_front(i));
    EXPECT_EQ(cache.load("a"), std::nullopt) << "cut to " << i;
  }
  write(path, whole + "more");
  EXPECT_EQ(cache.load("a"), std::nullopt);
  write(path, whole);
  EXPECT_EQ(cache.load("a"), bytes);
}

TEST_F(DiskCacheTest, AnEntryUnderAnotherKeysNameIsNone) {
  DiskCache cache(at("cache")), other(at("other"));
  cache.store("a", bytes);
  other.store("b", "x");
  write(findEntry(at("other")), read(findEntry(at("cache"))));
  EXPECT_EQ(other.load("b"), std::nullopt);
}

TEST_F(DiskCacheTest, WithoutADirectoryNothingIsKept) {
  write(at("file"), "");
  for (const std::string &directory : {std::string(), at("file/below"), std::string("/proc/nowhere")}) {
    DiskCache cache(directory);
    cache.store("a", bytes);
    EXPECT_EQ(cache.load("a"), std::nullopt);
    EXPECT_EQ(cantFail(cache.get("a", []() -> Expected<std::string> { return bytes; })), bytes);
  }
}

TEST_F(DiskCacheTest, OnAFullDiskNothingIsKept) {
  DiskCache cache(at("cache"));
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  rlimit small = before;
  small.rlim_cur = 50;
  auto handler = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  cache.store("a", std::string(10'000, 'x'));
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(cache.load("a"), std::nullopt);
  EXPECT_EQ(findEntry(at("cache")), "") << "a part of the file is left";
  cache.store("a", bytes);
  EXPECT_EQ(cache.load("a"), bytes);
}

TEST_F(DiskCacheTest, ReadersNeverSeeAPart) {
  DiskCache cache(at("cache"));
  const std::string first(100'000, 'a'), second(300'000, 'b');
  cache.store("a", first);
  cache.store("a", first);
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (int i = 0; i < 50; ++i)
      cache.store("a", i % 2 ? first : second);
    done = true;
  });
  while (!done) {
    std::optional<std::string> seen = cache.load("a");
    EXPECT_TRUE(seen == first || seen == second);
  }
  writer.join();
}

} // namespace
