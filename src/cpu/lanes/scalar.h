// lanes/scalar.h: one float, any machine. The header to read first: here every operation is its own
// definition.
#pragma once

#include "cpu/lanes/base.h"

namespace heed::cpu::HEED_ISA {

inline constexpr int W = 1;
inline constexpr int kKeys = 4, kVecs = 3;
inline constexpr int kAcc = 12, kMaxCols = 4;
inline constexpr int kMaxTiles = 8, kMaxKeys = 64;
inline constexpr bool kTileRuns = true;

using V = float;
using M = bool;
struct Exponent {
  V biased;
};

HEED_INLINE std::uint32_t Bits(float x) { return __builtin_bit_cast(std::uint32_t, x); }
HEED_INLINE float FromBits(std::uint32_t x) { return __builtin_bit_cast(float, x); }

HEED_INLINE V Zero() { return 0; }
HEED_INLINE V Set(float x) { return x; }
HEED_INLINE V Load(const float* p) { return *p; }
HEED_INLINE V Splat(const float* p) { return Set(*p); }
HEED_INLINE void Store(float* p, V x) { *p = x; }
HEED_INLINE void Stream(float* p, V x) { Store(p, x); }
HEED_INLINE void EndStreams() {}
HEED_INLINE V LoadN(const float* p, int n) { return n > 0 ? *p : 0; }
HEED_INLINE void StoreN(float* p, V x, int n) {
  if (n > 0) *p = x;
}

HEED_INLINE V LoadBf16(const std::uint16_t* p) {
  return FromBits(static_cast<std::uint32_t>(*p) << 16);
}
HEED_INLINE V LoadF16(const std::uint16_t* p) {
  const std::uint32_t sign = (*p & 0x8000u) << 16, e = *p >> 10 & 31, m = *p & 1023u;
  if (e == 31) return FromBits(sign | 0x7f800000 | m << 13);     // infinity, NaN
  if (e > 0) return FromBits(sign | (e + 112) << 23 | m << 13);  // normal: rebias 15 -> 127
  const float tiny = static_cast<float>(m) * 0x1p-24f;           // denormal
  return sign ? -tiny : tiny;
}
// Round to nearest even; NaN keeps its sign and becomes quiet.
HEED_INLINE void StoreBf16(std::uint16_t* p, V x) {
  const std::uint32_t u = Bits(x);
  *p = static_cast<std::uint16_t>((x != x ? u | 0x400000 : u + 0x7fff + (u >> 16 & 1)) >> 16);
}
HEED_INLINE void StoreF16(std::uint16_t* p, V x) {
  const std::uint32_t sign = Bits(x) >> 16 & 0x8000, a = Bits(x) & 0x7fffffff;
  std::uint32_t r;
  if (a > 0x7f800000) {
    r = 0x7e00 | (a >> 13 & 0x1ff);  // NaN
  } else if (a >= 0x47800000) {
    r = 0x7c00;  // 65536 and beyond: infinity
  } else if (a >= 0x38800000) {
    r = (a - 0x38000000 + 0xfff + (a >> 13 & 1)) >> 13;  // normal; 65520 carries into infinity
  } else {
    r = Bits(FromBits(a) + 0.5f) - Bits(0.5f);  // denormal: 0.5 has the ulp 2^-24
  }
  *p = static_cast<std::uint16_t>(sign | r);
}
HEED_INLINE V LoadBf16N(const std::uint16_t* p, int n) { return n > 0 ? LoadBf16(p) : 0; }
HEED_INLINE V LoadF16N(const std::uint16_t* p, int n) { return n > 0 ? LoadF16(p) : 0; }
HEED_INLINE void StoreBf16N(std::uint16_t* p, V x, int n) {
  if (n > 0) StoreBf16(p, x);
}
HEED_INLINE void StoreF16N(std::uint16_t* p, V x, int n) {
  if (n > 0) StoreF16(p, x);
}

HEED_INLINE V Add(V a, V b) { return a + b; }
HEED_INLINE V Sub(V a, V b) { return a - b; }
HEED_INLINE V Mul(V a, V b) { return a * b; }
HEED_INLINE V Div(V a, V b) { return a / b; }
HEED_INLINE V Fma(V a, V b, V c) { return a * b + c; }
HEED_INLINE V Fms(V a, V b, V c) { return a * b - c; }
HEED_INLINE V Max(V a, V b) { return a > b ? a : b; }
HEED_INLINE V Min(V a, V b) { return a < b ? a : b; }
HEED_INLINE V Abs(V a) { return FromBits(Bits(a) & 0x7fffffff); }
HEED_INLINE V Recip(V x) { return 1.f / x; }

HEED_INLINE M Lt(V a, V b) { return a < b; }
HEED_INLINE M Le(V a, V b) { return a <= b; }
HEED_INLINE M Eq(V a, V b) { return a == b; }
HEED_INLINE M And(M a, M b) { return a && b; }
HEED_INLINE M AndNot(M a, M b) { return !a && b; }
HEED_INLINE bool Any(M m) { return m; }
HEED_INLINE bool AllLe(V a, V b) { return a <= b; }
HEED_INLINE V Select(M m, V yes, V no) { return m ? yes : no; }
HEED_INLINE M Or(M a, M b) { return a || b; }
HEED_INLINE M Bit(const std::uint32_t* p, int bit) { return (*p >> bit & 1) != 0; }
HEED_INLINE std::uint64_t NonZero64(const std::uint8_t* p) { return NonZeroBytes(p); }

// A word is the low half of 64 bits.
using Words = std::uint64_t;
HEED_INLINE Words LoadWords(const std::uint32_t* p) { return *p; }
HEED_INLINE Words SetWords(std::uint32_t x) { return x; }
HEED_INLINE Words MulWords(Words a, std::uint32_t b) { return (a & 0xffffffff) * b; }
HEED_INLINE Words HighWords(Words a) { return a >> 32; }
HEED_INLINE Words XorWords(Words a, Words b, Words c) { return a ^ b ^ c; }
HEED_INLINE M WordsAtLeast(Words a, std::uint32_t b) { return (a & 0xffffffff) >= b; }

HEED_INLINE V Exp2Split(V x, Exponent& e) {
  const float magic = 12582912.f;  // 1.5 * 2^23: the integer part lands in the low mantissa bits
  x = x < -126.f ? -126.f : x > 127.f ? 127.f : x;
  e.biased = x + magic;
  return x - (e.biased - magic);
}
HEED_INLINE V Exp2Join(V p, Exponent e) { return FromBits(Bits(p) + (Bits(e.biased) << 23)); }
HEED_INLINE V ClampLow(V x) { return x; }  // Exp2Split clamps
HEED_INLINE V FlushTiny(V x, V p) { return x < -126.f ? 0 : p; }
HEED_INLINE V Log2Split(V x, V& e) {
  const int n = static_cast<int>(Bits(x) - 0x3f400000) >> 23;  // floor(log2(x / 0.75))
  e = static_cast<float>(n);
  return x != x ? x : FromBits(Bits(x) - (static_cast<std::uint32_t>(n) << 23));
}
template <int>
HEED_INLINE V Repeat(const float* p) {
  return *p;
}
HEED_INLINE void Transpose(V (&)[W]) {}

}  // namespace heed::cpu::HEED_ISA
