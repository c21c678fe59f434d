// io/file_read.cpp: the two sources of bytes (POSIX). Not here: writing (file_write.cpp).
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "io/file.h"
#include "io/text.h"

namespace heed::io {
namespace {

Status PastTheEnd(std::uint64_t offset, std::size_t count, std::uint64_t size) {
  return Invalid("needs ", count, " bytes at byte ", offset, ", but there are only ", size);
}

class FileSource final : public ByteSource {
 public:
  FileSource(int fd, std::uint64_t size) : fd_(fd), size_(size) {}
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;
  ~FileSource() override { ::close(fd_); }

  std::uint64_t size() const override { return size_; }

  Status ReadAt(std::uint64_t offset, std::span<std::byte> out) const override {
    if (offset > size_ || out.size() > size_ - offset) {
      return PastTheEnd(offset, out.size(), size_);
    }
    while (!out.empty()) {
      const ssize_t got = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        return Status(StatusCode::kDevice,
                      Cat("reading at byte ", offset, " failed: ", std::strerror(errno)));
      }
      if (got == 0) {
        return Invalid("ended at byte ", offset, " while it was read, but had ", size_,
                       " bytes when it was opened");
      }
      offset += static_cast<std::uint64_t>(got);
      out = out.subspan(static_cast<std::size_t>(got));
    }
    return {};
  }

 private:
  int fd_;
  std::uint64_t size_;
};

// Bytes of memory in this machine, or 0 if it does not say.
std::uint64_t PhysicalMemory() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page_size = ::sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page_size <= 0) return 0;
  return static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page_size);
}

}  // namespace

Status MemorySource::ReadAt(std::uint64_t offset, std::span<std::byte> out) const {
  if (offset > size_ || out.size() > size_ - offset) return PastTheEnd(offset, out.size(), size_);
  if (!out.empty()) std::memcpy(out.data(), data_ + offset, out.size());
  return {};
}

Result<std::unique_ptr<ByteSource>> OpenFile(const std::string& path) {
  if (path.find('\0') != std::string::npos) return Invalid("the path has a zero byte in it");
  // Not blocking, since opening a pipe would otherwise wait for its writer before we can refuse it.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Invalid("cannot be opened: ", std::strerror(errno));
  struct stat info = {};
  const int stat_failed = ::fstat(fd, &info) != 0 ? errno : 0;
  // From here the descriptor has an owner; a size of 0 for what is refused anyway.
  const bool regular = stat_failed == 0 && S_ISREG(info.st_mode);
  const std::uint64_t size = regular ? static_cast<std::uint64_t>(info.st_size) : 0;
  auto source = std::make_unique<FileSource>(fd, size);
  if (stat_failed != 0) return Invalid("cannot be looked at: ", std::strerror(stat_failed));
  if (S_ISDIR(info.st_mode)) return Invalid("is a directory; a file is needed");
  if (!regular) return Invalid("is a pipe or a device; a regular file is needed");
  const std::uint64_t memory = PhysicalMemory();
  if (memory != 0 && size > memory) {
    return Status(StatusCode::kRefused, Cat("has ", size, " bytes, but this machine has only ",
                                            memory, " bytes of memory"));
  }
  return Result<std::unique_ptr<ByteSource>>(std::move(source));
}

}  // namespace heed::io
