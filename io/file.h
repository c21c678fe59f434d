// io/file.h: bytes from a file or memory, and files replaced whole. Not here: what bytes mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "heed/types.h"

namespace heed::io {

/// Bytes that a reader can ask for by place, so that the same reader serves files and memory and a
/// tensor is read straight into its own buffer.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual std::uint64_t size() const = 0;
  /// Fills `out` with the bytes at `offset`, all of them or fails.
  virtual Status ReadAt(std::uint64_t offset, std::span<std::byte> out) const = 0;
};

/// Bytes that somebody else keeps alive. Null is allowed where size is 0.
class MemorySource final : public ByteSource {
 public:
  MemorySource(const std::byte* data, std::size_t size) : data_(data), size_(size) {}
  std::uint64_t size() const override { return size_; }
  Status ReadAt(std::uint64_t offset, std::span<std::byte> out) const override;

 private:
  const std::byte* data_;
  std::size_t size_;
};

/// Opens a regular file that is not larger than the memory of this machine. Sentences do not name
/// the path: the caller adds it to whatever goes wrong.
Result<std::unique_ptr<ByteSource>> OpenFile(const std::string& path);

/// Makes `pieces`, one after the other, the content of `path`. They go to a temporary file in the
/// same folder, which takes the place of the old one only when complete: a reader sees the old
/// content or the new one, and a failure leaves the old one and no litter. Permissions of an
/// existing file are kept; through a symbolic link its target is replaced, not the link. A pipe or
/// device (/dev/stdout) is written to directly. Not synced: after a power cut the content may be
/// missing.
Status ReplaceFile(const std::string& path, std::span<const std::span<const std::byte>> pieces);

}  // namespace heed::io
