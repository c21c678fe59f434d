// The emulator's tensor map: what TMA knows of a tensor in global memory and of the boxes that are
// copied. On a GPU the driver encodes the same facts.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emu {

struct TensorMap {
  const void* base;
  int rank;            // 2 to 4
  uint32_t element;    // bytes
  uint64_t size[4];    // elements, innermost first
  uint64_t stride[4];  // bytes; of axis 0 the element's
  uint32_t box[4];     // elements
  bool swizzle;        // 128 bytes: bits 4-6 of an address are xored with bits 7-9
};

inline uint32_t Swizzle128(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

}  // namespace emu
