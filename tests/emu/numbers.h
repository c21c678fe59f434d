// f16, bf16 and tf32 on the CPU, bit for bit as the GPU converts them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace emu {

inline uint32_t Bits(float x) {
  uint32_t u;
  std::memcpy(&u, &x, 4);
  return u;
}
inline float Float(uint32_t u) {
  float x;
  std::memcpy(&x, &u, 4);
  return x;
}

inline float FloatOfF16(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 1023;
  if (e == 31) return Float(sign | 0x7f800000 | m << 13);
  if (e == 0) return Float(sign | Bits(float(m) * 0x1p-24f));
  return Float(sign | (e + 112) << 23 | m << 13);
}
inline float FloatOfBf16(uint16_t h) { return Float(uint32_t(h) << 16); }
// The hardware reads the upper 19 bits.
inline float FloatOfTf32(uint32_t u) { return Float(u & ~uint32_t(0x1fff)); }

// Round to nearest even; NaN becomes 0x7fff, as cvt's.
inline uint16_t F16OfFloat(float x) {
  const uint32_t u = Bits(x), a = u & 0x7fffffff;
  const uint16_t sign = uint16_t(u >> 16 & 0x8000);
  if (a > 0x7f800000) return 0x7fff;
  if (a >= 0x477ff000) return uint16_t(sign | 0x7c00);  // 65520 and more
  if (a < 0x38800000) {                                 // below 2^-14: multiples of 2^-24
    return uint16_t(sign | uint16_t(std::nearbyint(Float(a) * 0x1p24f)));
  }
  return uint16_t(sign | ((a + 0xfff + (a >> 13 & 1)) - 0x38000000) >> 13);
}
inline uint16_t Bf16OfFloat(float x) {
  const uint32_t u = Bits(x);
  if ((u & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
// Ties away from zero, as cvt.rna.
inline uint32_t Tf32OfFloat(float x) {
  const uint32_t u = Bits(x);
  if ((u & 0x7fffffff) > 0x7f800000) return 0x7fffffff;
  if ((u & 0x7fffffff) == 0x7f800000) return u;
  return (u + 0x1000) & ~uint32_t(0x1fff);
}

}  // namespace emu
