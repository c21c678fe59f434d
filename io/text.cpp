// io/text.cpp: quoting of names, shapes as text, the UTF-8 check. Not here: any format.
#include "io/text.h"

#include <cstddef>

namespace heed::io {
namespace {

// Bytes of the well-formed sequence at the front of `s`, 0 if there is none. The bounds of the
// second byte are what excludes overlong forms (E0, F0), surrogates (ED) and what lies above
// U+10FFFF (F4).
std::size_t Utf8Length(std::string_view s) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  if (s.size() < length) return 0;
  const unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = Utf8Length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string Quote(std::string_view name) {
  constexpr std::size_t kMaxBytes = 80;
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "'";
  while (!name.empty() && out.size() < kMaxBytes) {
    const auto first = static_cast<unsigned char>(name[0]);
    const std::size_t length = Utf8Length(name);
    if (length == 0 || first < 0x20 || first == 0x7F || first == '\\' || first == '\'') {
      out += "\\x";
      out += kHex[first >> 4];
      out += kHex[first & 15];
      name.remove_prefix(1);
    } else {
      out += name.substr(0, length);
      name.remove_prefix(length);
    }
  }
  if (!name.empty()) out += "…";
  out += '\'';
  return out;
}

std::string ShapeText(std::span<const std::int64_t> shape) {
  constexpr std::size_t kMaxDims = 8;
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size() && i < kMaxDims; ++i) {
    if (i != 0) out += ", ";
    out += std::to_string(shape[i]);
  }
  if (shape.size() > kMaxDims) out += ", …";
  out += ']';
  return out;
}

Status WithPath(const std::string& path, const Status& status) {
  if (status.ok()) return status;
  return Status(status.code(), Cat(path, ": ", status.message()));
}

}  // namespace heed::io
