// words.h: sentences out of pieces. Not here: what they say.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

#include "heed/types.h"

namespace heed {

std::string ToWords(double value);  // shortest form that reads back the same: "0.1", "nan", "-inf"
inline std::string ToWords(std::integral auto value) { return std::to_string(value); }
inline std::string_view ToWords(std::string_view text) { return text; }
inline std::string_view ToWords(DType t) { return Name(t); }

template <class... Pieces>
std::string Words(const Pieces&... pieces) {
  std::string text;
  (text.append(ToWords(pieces)), ...);
  return text;
}

}  // namespace heed
