// io/npy_header.h: the Python literal in a .npy file. Internal to io/. Not here: array data.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "heed/types.h"
#include "io/element.h"

namespace heed::io {

struct NpyHeader {
  ElementType type = ElementType::kF32;
  bool fortran_order = false;
  std::vector<std::int64_t> shape;
};

/// Reads {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }: these three keys, each once,
/// in any order.
Result<NpyHeader> ParseNpyHeader(std::string_view text);

/// The text that ParseNpyHeader reads back, without padding and newline.
std::string FormatNpyHeader(const NpyHeader& header);

}  // namespace heed::io
