// Element types and vectors of the ptx layer, the same for both bodies. No arithmetic: numbers.h.
#pragma once

#include <cstdint>

namespace heed::cuda::ptx {

using F32 = float;
struct F16 {
  uint16_t bits;
};
struct Bf16 {
  uint16_t bits;
};
// Only a name: a tf32 operand is the bits of a float whose 13 lowest bits the hardware ignores.
struct Tf32 {
  uint32_t bits;
};

struct alignas(8) U32x2 {
  uint32_t x, y;
};
struct alignas(16) U32x4 {
  uint32_t x, y, z, w;
};
struct alignas(16) F32x4 {
  float x, y, z, w;
};

// Registers of a thread that hold its part of an m16n8kK tile's A (16 × K) and B (K × 8): a warp's
// 32 lanes share the elements evenly, T's size in bytes each, four bytes a register.
template <class T, int K>
inline constexpr int kMmaA = 16 * K* int(sizeof(T)) / (32 * 4);
template <class T, int K>
inline constexpr int kMmaB = 8 * K* int(sizeof(T)) / (32 * 4);

}  // namespace heed::cuda::ptx
