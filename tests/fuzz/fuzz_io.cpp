// tests/fuzz/fuzz_io.cpp: libFuzzer target for both readers of io/. Not here: other fuzzers.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "io/npy.h"
#include "io/safetensors.h"

namespace heed::io {
namespace {

void Require(bool holds) {
  if (!holds) __builtin_trap();
}

// Either a sentence, or a value that writes and reads back as itself.
void TrySafetensors(std::string_view text) {
  const auto bytes = std::as_bytes(std::span<const char>(text));
  const Result<TensorFile> file = ParseSafetensors(bytes.data(), bytes.size());
  if (!file) return Require(!file.status().message().empty());
  const Result<AlignedBytes> again = FormatSafetensors(*file);
  Require(again.ok());
  const Result<TensorFile> back = ParseSafetensors(again->data(), again->size());
  Require(back.ok() && *back == *file);
}

void TryNpy(std::string_view text) {
  const auto bytes = std::as_bytes(std::span<const char>(text));
  const Result<Tensor> tensor = ParseNpy(bytes.data(), bytes.size());
  if (!tensor) return Require(!tensor.status().message().empty());
  const Result<AlignedBytes> again = FormatNpy(*tensor);
  Require(again.ok());
  const Result<Tensor> back = ParseNpy(again->data(), again->size());
  Require(back.ok() && *back == *tensor);
}

std::string LittleEndian(std::size_t n, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += static_cast<char>((n >> (8 * i)) & 0xFF);
  return out;
}

}  // namespace
}  // namespace heed::io

// The first byte chooses: the input as a whole file; or as a header, which gets the frame that
// belongs to it and as many zero bytes of data as the second byte says. A fuzzer alone rarely finds
// a frame that fits.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace heed::io;
  if (size < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const std::string zeros(data[1], '\0');
  const std::string header(text);
  switch (data[0] % 5) {
    case 0:
      TrySafetensors(text);
      break;
    case 1:
      TryNpy(text);
      break;
    case 2:
      TrySafetensors(LittleEndian(header.size(), 8) + header + zeros);
      break;
    case 3:
      if (size < 65536) {
        TryNpy(std::string("\x93NUMPY\1\0", 8) + LittleEndian(header.size(), 2) + header + zeros);
      }
      break;
    default:
      TryNpy(std::string("\x93NUMPY\3\0", 8) + LittleEndian(header.size(), 4) + header + zeros);
  }
  return 0;
}
