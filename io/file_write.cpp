// io/file_write.cpp: a file replaced whole or not at all (POSIX). Not here: file_read.cpp.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "io/file.h"
#include "io/text.h"

namespace heed::io {
namespace {

Status Failed(const char* what, int error) {
  return Status(StatusCode::kDevice, Cat(what, " failed: ", std::strerror(error)));
}

Status WritePieces(int fd, std::span<const std::span<const std::byte>> pieces) {
  for (std::span<const std::byte> piece : pieces) {
    while (!piece.empty()) {
      const ssize_t put = ::write(fd, piece.data(), piece.size());
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return Failed("writing", errno);
      piece = piece.subspan(static_cast<std::size_t>(put));
    }
  }
  return {};
}

// Writes and closes; whatever fails first is the answer (some file systems only speak up at the
// close).
Status WriteAndClose(int fd, std::span<const std::span<const std::byte>> pieces) {
  Status status = WritePieces(fd, pieces);
  if (::close(fd) != 0 && errno != EINTR && status.ok()) status = Failed("closing", errno);
  return status;
}

// "a/b" of "a/b/c", with its slash; "" where there is no slash.
std::string FolderOf(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash + 1);
}

// Follows symbolic links to the place that a write through `path` would reach, whether or not there
// is a file yet.
Result<std::string> Target(std::string path) {
  constexpr int kMaxLinks = 40;              // what Linux allows
  constexpr std::size_t kLongTarget = 4096;  // likewise, of the text in a link
  for (int links = 0; links <= kMaxLinks; ++links) {
    std::string buffer(kLongTarget, '\0');
    const ssize_t length = ::readlink(path.c_str(), buffer.data(), buffer.size());
    if (length < 0) return path;  // not a link, or not there: then opening it tells
    buffer.resize(static_cast<std::size_t>(length));
    path = !buffer.empty() && buffer[0] == '/' ? buffer : FolderOf(path) + buffer;
  }
  return Invalid("cannot be written: ", std::strerror(ELOOP));
}

// Opens a new file in `folder` and gives its name. Short and independent of the target's name,
// which may be as long as names can be.
Result<int> OpenTemporary(const std::string& folder, std::string& name) {
  static std::atomic<unsigned> counter{0};
  constexpr int kTries = 1000;  // names can be taken by leftovers of a process with our number
  for (int i = 0; i < kTries; ++i) {
    name = Cat(folder, ".heed-", ::getpid(), "-", counter.fetch_add(1), ".tmp");
    // 0666 less the umask, as for any new file.
    const int fd = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) return fd;
    if (errno != EEXIST) break;
  }
  return Invalid("cannot be written: ", std::strerror(errno));
}

Status Replace(const std::string& path, std::span<const std::span<const std::byte>> pieces) {
  if (path.empty()) return Invalid("an empty path cannot be written");
  if (path.find('\0') != std::string::npos) return Invalid("the path has a zero byte in it");
  struct stat old = {};
  const bool exists = ::stat(path.c_str(), &old) == 0;
  if ((exists && S_ISDIR(old.st_mode)) || path.back() == '/') {
    return Invalid("is a directory; the path of a file is needed");
  }
  if (exists && !S_ISREG(old.st_mode)) {  // a pipe or device has no old content to keep
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return Invalid("cannot be written: ", std::strerror(errno));
    return WriteAndClose(fd, pieces);
  }
  // rename() asks for the folder's permission only; a file that was made read-only is meant so.
  if (exists && ::access(path.c_str(), W_OK) != 0) {
    return Invalid("cannot be written: ", std::strerror(errno));
  }
  const Result<std::string> target = Target(path);
  if (!target) return target.status();
  std::string temporary;
  const Result<int> fd = OpenTemporary(FolderOf(*target), temporary);
  if (!fd) return fd.status();
  // A failure here only means other permissions than before: no reason to withhold the content.
  if (exists) static_cast<void>(::fchmod(*fd, old.st_mode & 0777));
  Status status = WriteAndClose(*fd, pieces);
  if (status.ok() && std::rename(temporary.c_str(), target->c_str()) != 0) {
    status = Failed("renaming the complete file into place", errno);
  }
  if (!status.ok()) ::unlink(temporary.c_str());
  return status;
}

}  // namespace

Status ReplaceFile(const std::string& path, std::span<const std::span<const std::byte>> pieces) {
  return WithPath(path, NoThrow([&] { return Replace(path, pieces); }));
}

}  // namespace heed::io
