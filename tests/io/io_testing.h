// tests/io/io_testing.h: bytes, tensors and folders for the tests of io. Not here: any test.
#pragma once

#include <stdlib.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "io/tensor.h"

namespace heed::io {

inline AlignedBytes BytesOf(std::string_view text) {
  AlignedBytes out(text.size());
  if (!text.empty()) std::memcpy(out.data(), text.data(), text.size());
  return out;
}

inline std::string TextOf(const AlignedBytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// `n` as its first `count` bytes, little-endian.
inline std::string LittleEndian(std::uint64_t n, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += static_cast<char>((n >> (8 * i)) & 0xFF);
  return out;
}

/// A .safetensors file of this header and this data, whatever they are.
inline std::string Safetensors(std::string_view header, std::string_view data = "") {
  return LittleEndian(header.size(), 8).append(header).append(data);
}

/// A .npy file of version 1 of this header and this data, whatever they are.
inline std::string Npy(std::string_view header, std::string_view data = "") {
  return std::string("\x93NUMPY\x01\x00", 8)
      .append(LittleEndian(header.size(), 2))
      .append(header)
      .append(data);
}

template <class T>
Tensor Make(std::string name, std::vector<std::int64_t> shape, const std::vector<T>& values) {
  return *TensorOf<T>(std::move(name), std::move(shape), std::span<const T>(values));
}

/// A new folder that is removed with what is in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "heed-io-XXXXXX").string();
    path_ = ::mkdtemp(name.data()) == nullptr ? "" : name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }

  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

  std::size_t FileCount() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_),
                                                  std::filesystem::directory_iterator()));
  }

 private:
  std::string path_;
};

inline std::string Contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline void Create(const std::string& path, std::string_view contents) {
  std::ofstream(path, std::ios::binary) << contents;
}

}  // namespace heed::io
