// io/safetensors_header.h: the JSON in a .safetensors file. Internal to io/. Not here: data.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "heed/types.h"
#include "io/element.h"
#include "io/tensor.h"

namespace heed::io {

/// The bytes before the header: its length, little-endian.
inline constexpr std::uint64_t kSafetensorsPrefix = 8;

/// The longest header that any reader of the format takes.
inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;

/// Where one tensor lies. Offsets count from the end of the header.
struct SafetensorsEntry {
  std::string name;
  ElementType type = ElementType::kF32;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  ///< in the order of the header
  std::map<std::string, std::string> metadata;
};

/// Reads the header and proves that its entries fit their shapes and cover `data_size` bytes
/// exactly.
Result<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json, std::uint64_t data_size);

/// The text that ParseSafetensorsHeader reads back, padded with spaces so that prefix and header
/// are a multiple of 64. Names and metadata must be UTF-8.
std::string FormatSafetensorsHeader(std::span<const SafetensorsEntry> entries,
                                    const std::map<std::string, std::string>& metadata);

}  // namespace heed::io
