// tests/io/file_test.cpp: what is refused, replaced and left behind in a real file system.
#include "io/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <thread>

#include "io/npy.h"
#include "io/safetensors.h"
#include "tests/io/io_testing.h"

namespace heed::io {
namespace {

namespace fs = std::filesystem;

Status Replace(const std::string& path, std::string_view a, std::string_view b = "") {
  const std::span<const std::byte> pieces[] = {std::as_bytes(std::span(a)),
                                               std::as_bytes(std::span(b))};
  return ReplaceFile(path, pieces);
}

TEST(OpenFile, RefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  const std::string missing = folder / "missing";
  EXPECT_EQ(ReadSafetensors(missing).status().message(),
            missing + ": cannot be opened: No such file or directory");
  EXPECT_EQ(ReadNpy(missing).status().message(),
            missing + ": cannot be opened: No such file or directory");
  const std::string directory = folder / "";
  EXPECT_EQ(ReadSafetensors(directory).status().message(),
            directory + ": is a directory; a file is needed");
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(ReadNpy(pipe).status().message(),
            pipe + ": is a pipe or a device; a regular file is needed");
  const std::string empty = folder / "empty";
  Create(empty, "");
  EXPECT_EQ(ReadNpy(empty).status().message(),
            empty + ": has 0 bytes; a .npy file has at least 10 before its header");
  const Status zero = ReadNpy(std::string("a\0b", 3)).status();
  EXPECT_EQ(zero.message(), std::string("a\0b: the path has a zero byte in it", 35));
}

TEST(OpenFile, RefusesAFileLargerThanMemory) {
  const TemporaryFolder folder;
  const std::string path = folder / "huge";
  Create(path, "");
  // Sparse; 2^42 is below what common file systems allow and above any machine that runs tests.
  if (::truncate(path.c_str(), off_t{1} << 42) != 0) GTEST_SKIP() << "no sparse files here";
  const Status status = ReadSafetensors(path).status();
  EXPECT_EQ(status.code(), StatusCode::kRefused);
  EXPECT_NE(status.message().find("has 4398046511104 bytes, but this machine has only"),
            std::string::npos)
      << status.message();
}

TEST(OpenFile, ReadsInAnyOrderAndNotBeyondTheEnd) {
  const TemporaryFolder folder;
  const std::string path = folder / "x";
  Create(path, "0123456789");
  const Result<std::unique_ptr<ByteSource>> source = OpenFile(path);
  ASSERT_TRUE(source.ok()) << source.status().message();
  EXPECT_EQ((*source)->size(), 10u);
  const AlignedBytes memory = BytesOf("0123456789");
  const MemorySource in_memory(memory.data(), memory.size());
  const ByteSource* const both[] = {source->get(), &in_memory};
  for (const ByteSource* one : both) {
    AlignedBytes out(3);
    ASSERT_TRUE(one->ReadAt(7, out).ok());
    EXPECT_EQ(TextOf(out), "789");
    ASSERT_TRUE(one->ReadAt(0, out).ok());
    EXPECT_EQ(TextOf(out), "012");
    EXPECT_TRUE(one->ReadAt(10, {}).ok());
    EXPECT_EQ(one->ReadAt(8, out).message(), "needs 3 bytes at byte 8, but there are only 10");
    EXPECT_FALSE(one->ReadAt(~std::uint64_t{0}, out).ok());
  }
  // The file shrinks after it was opened.
  ASSERT_EQ(::truncate(path.c_str(), 8), 0);
  AlignedBytes out(3);
  EXPECT_EQ((*source)->ReadAt(7, out).message(),
            "ended at byte 8 while it was read, but had 10 bytes when it was opened");
}

TEST(ReplaceFile, CreatesAndReplacesAndKeepsPermissions) {
  const TemporaryFolder folder;
  const std::string path = folder / "x";
  ASSERT_TRUE(Replace(path, "ab", "c").ok());
  EXPECT_EQ(Contents(path), "abc");
  ASSERT_EQ(::chmod(path.c_str(), 0640), 0);
  ASSERT_TRUE(Replace(path, "d").ok());
  EXPECT_EQ(Contents(path), "d");
  struct stat info = {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
  EXPECT_EQ(folder.FileCount(), 1u);
}

TEST(ReplaceFile, LongNamesAndRelativePathsWork) {
  const TemporaryFolder folder;
  const std::string path = folder / std::string(255, 'n');  // the longest there is
  EXPECT_TRUE(Replace(path, "x").ok());
  EXPECT_EQ(Contents(path), "x");
}

TEST(ReplaceFile, SymbolicLinksStayAndTheirTargetIsReplaced) {
  const TemporaryFolder folder;
  Create(folder / "target", "old");
  fs::create_symlink("target", folder / "link");
  fs::create_symlink(folder / "link", folder / "link2");
  ASSERT_TRUE(Replace(folder / "link2", "new").ok());
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_TRUE(fs::is_symlink(folder / "link2"));
  EXPECT_EQ(Contents(folder / "target"), "new");
  // Through a link to nothing the file is made where the link points.
  fs::create_symlink("later", folder / "dangling");
  ASSERT_TRUE(Replace(folder / "dangling", "x").ok());
  EXPECT_EQ(Contents(folder / "later"), "x");
  fs::create_symlink("loop", folder / "loop");
  EXPECT_EQ(Replace(folder / "loop", "x").message(),
            (folder / "loop") + ": cannot be written: Too many levels of symbolic links");
  EXPECT_EQ(folder.FileCount(), 6u);
}

TEST(ReplaceFile, RefusesWhatCannotBeAFile) {
  const TemporaryFolder folder;
  EXPECT_EQ(Replace(folder / "", "x").message(),
            (folder / "") + ": is a directory; the path of a file is needed");
  EXPECT_EQ(Replace(folder / "new/", "x").message(),
            (folder / "new/") + ": is a directory; the path of a file is needed");
  EXPECT_EQ(Replace(folder / "no/x", "x").message(),
            (folder / "no/x") + ": cannot be written: No such file or directory");
  EXPECT_FALSE(Replace("", "x").ok());
  EXPECT_FALSE(Replace(std::string("a\0b", 3), "x").ok());
  EXPECT_FALSE(Replace(folder / std::string(256, 'n'), "x").ok());
  EXPECT_EQ(folder.FileCount(), 0u);
}

TEST(ReplaceFile, AReadOnlyFileIsLeftAlone) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everything";
  const TemporaryFolder folder;
  Create(folder / "x", "old");
  ASSERT_EQ(::chmod((folder / "x").c_str(), 0444), 0);
  EXPECT_EQ(Replace(folder / "x", "new").message(),
            (folder / "x") + ": cannot be written: Permission denied");
  EXPECT_EQ(Contents(folder / "x"), "old");
}

// The limit on file sizes stands for a full disk: the write fails after a part of it.
TEST(ReplaceFile, AFailedWriteLeavesTheOldFileAndNoLitter) {
  const TemporaryFolder folder;
  Create(folder / "x", "old");
  struct rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit small = before;
  small.rlim_cur = 1000;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status status = Replace(folder / "x", std::string(900, 'a'), std::string(900, 'b'));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(status.code(), StatusCode::kDevice);
  EXPECT_EQ(status.message(), (folder / "x") + ": writing failed: File too large");
  EXPECT_EQ(Contents(folder / "x"), "old");
  EXPECT_EQ(folder.FileCount(), 1u);
}

TEST(ReplaceFile, WritesToDevicesAndPipesDirectly) {
  EXPECT_TRUE(Replace("/dev/null", "x").ok());
  EXPECT_FALSE(fs::is_regular_file("/dev/null"));
  const TemporaryFolder folder;
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::string got;
  std::thread reader([&] { got = Contents(pipe); });
  const Status status = Replace(pipe, "through ", "the pipe");
  reader.join();
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(got, "through the pipe");
}

}  // namespace
}  // namespace heed::io
