// lanes/neon.h: AArch64 Advanced SIMD lanes: 4 floats, 32 registers. Not here: bfdot, bfmmla, SVE,
// SME.
#pragma once

#include <arm_neon.h>

#include "cpu/lanes/base.h"

namespace heed::cpu::HEED_ISA {

inline constexpr int W = 4;
// 4x5 and 5x4 are what gcc 12 keeps in 32 registers: it loads several keys' scalars at once, so 4x6
// and 8x3 spill.
inline constexpr int kKeys = 4, kVecs = 5;
inline constexpr int kAcc = 20, kMaxCols = 4;
inline constexpr int kMaxTiles = 8, kMaxKeys = 128;
inline constexpr bool kTileRuns = false;  // constants take registers here: x86 has memory operands

using V = float32x4_t;
using M = uint32x4_t;
struct Exponent {
  V biased;
};

HEED_INLINE V Zero() { return vdupq_n_f32(0); }
HEED_INLINE V Set(float x) { return vdupq_n_f32(x); }
HEED_INLINE V Load(const float* p) { return vld1q_f32(p); }
HEED_INLINE V Splat(const float* p) { return Set(*p); }
HEED_INLINE void Store(float* p, V x) { vst1q_f32(p, x); }
HEED_INLINE void Stream(float* p, V x) { Store(p, x); }
HEED_INLINE void EndStreams() {}
HEED_INLINE V LoadN(const float* p, int n) {
  float t[W] = {};
  for (int i = 0; i < n; i++) t[i] = p[i];
  return Load(t);
}
HEED_INLINE void StoreN(float* p, V x, int n) {
  float t[W];
  Store(t, x);
  for (int i = 0; i < n; i++) p[i] = t[i];
}
HEED_INLINE uint16x4_t Load16N(const std::uint16_t* p, int n) {
  std::uint16_t t[W] = {};
  for (int i = 0; i < n; i++) t[i] = p[i];
  return vld1_u16(t);
}
HEED_INLINE void Store16N(std::uint16_t* p, uint16x4_t x, int n) {
  std::uint16_t t[W];
  vst1_u16(t, x);
  for (int i = 0; i < n; i++) p[i] = t[i];
}
HEED_INLINE V WidenBf16(uint16x4_t x) { return vreinterpretq_f32_u32(vshll_n_u16(x, 16)); }
HEED_INLINE V WidenF16(uint16x4_t x) { return vcvt_f32_f16(vreinterpret_f16_u16(x)); }
// Round to nearest even by integer arithmetic; a NaN keeps its sign and becomes quiet instead of
// wrapping to infinity or zero.
HEED_INLINE uint16x4_t NarrowBf16(V x) {
  const uint32x4_t u = vreinterpretq_u32_f32(x),
                   odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
  const uint32x4_t r = vaddq_u32(u, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
  return vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), r, vorrq_u32(u, vdupq_n_u32(0x400000))), 16);
}
HEED_INLINE uint16x4_t NarrowF16(V x) { return vreinterpret_u16_f16(vcvt_f16_f32(x)); }
HEED_INLINE V LoadBf16(const std::uint16_t* p) { return WidenBf16(vld1_u16(p)); }
HEED_INLINE V LoadBf16N(const std::uint16_t* p, int n) { return WidenBf16(Load16N(p, n)); }
HEED_INLINE V LoadF16(const std::uint16_t* p) { return WidenF16(vld1_u16(p)); }
HEED_INLINE V LoadF16N(const std::uint16_t* p, int n) { return WidenF16(Load16N(p, n)); }
HEED_INLINE void StoreBf16(std::uint16_t* p, V x) { vst1_u16(p, NarrowBf16(x)); }
HEED_INLINE void StoreF16(std::uint16_t* p, V x) { vst1_u16(p, NarrowF16(x)); }
HEED_INLINE void StoreBf16N(std::uint16_t* p, V x, int n) { Store16N(p, NarrowBf16(x), n); }
HEED_INLINE void StoreF16N(std::uint16_t* p, V x, int n) { Store16N(p, NarrowF16(x), n); }

HEED_INLINE V Add(V a, V b) { return vaddq_f32(a, b); }
HEED_INLINE V Sub(V a, V b) { return vsubq_f32(a, b); }
HEED_INLINE V Mul(V a, V b) { return vmulq_f32(a, b); }
HEED_INLINE V Div(V a, V b) { return vdivq_f32(a, b); }
HEED_INLINE V Fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
HEED_INLINE V Fms(V a, V b, V c) { return vfmaq_f32(vnegq_f32(c), a, b); }
HEED_INLINE V Max(V a, V b) { return vmaxq_f32(a, b); }
HEED_INLINE V Min(V a, V b) { return vminq_f32(a, b); }
HEED_INLINE V Abs(V a) { return vabsq_f32(a); }
HEED_INLINE V Recip(V x) { return vdivq_f32(Set(1.f), x); }

HEED_INLINE M Lt(V a, V b) { return vcltq_f32(a, b); }
HEED_INLINE M Le(V a, V b) { return vcleq_f32(a, b); }
HEED_INLINE M Eq(V a, V b) { return vceqq_f32(a, b); }
HEED_INLINE M And(M a, M b) { return vandq_u32(a, b); }
HEED_INLINE M AndNot(M a, M b) { return vbicq_u32(b, a); }
HEED_INLINE bool Any(M m) { return vmaxvq_u32(m) != 0; }
HEED_INLINE bool AllLe(V a, V b) { return vminvq_u32(Le(a, b)) != 0; }
HEED_INLINE V Select(M m, V yes, V no) { return vbslq_f32(m, yes, no); }
HEED_INLINE M Or(M a, M b) { return vorrq_u32(a, b); }
HEED_INLINE M Bit(const std::uint32_t* p, int bit) {
  return vtstq_u32(vld1q_u32(p), vdupq_n_u32(std::uint32_t{1} << bit));
}
HEED_INLINE std::uint64_t NonZero64(const std::uint8_t* p) { return NonZeroBytes(p); }

// A word is the low half of 64 bits; the two low lanes and the two high ones apart.
struct Words {
  uint64x2_t low, high;
};
HEED_INLINE Words LoadWords(const std::uint32_t* p) {
  return {vmovl_u32(vld1_u32(p)), vmovl_u32(vld1_u32(p + 2))};
}
HEED_INLINE Words SetWords(std::uint32_t x) { return {vdupq_n_u64(x), vdupq_n_u64(x)}; }
HEED_INLINE Words MulWords(Words a, std::uint32_t b) {
  const uint32x2_t m = vdup_n_u32(b);
  return {vmull_u32(vmovn_u64(a.low), m), vmull_u32(vmovn_u64(a.high), m)};
}
HEED_INLINE Words HighWords(Words a) { return {vshrq_n_u64(a.low, 32), vshrq_n_u64(a.high, 32)}; }
HEED_INLINE Words XorWords(Words a, Words b, Words c) {
  return {veorq_u64(a.low, veorq_u64(b.low, c.low)), veorq_u64(a.high, veorq_u64(b.high, c.high))};
}
HEED_INLINE M WordsAtLeast(Words a, std::uint32_t b) {
  return vcgeq_u32(vcombine_u32(vmovn_u64(a.low), vmovn_u64(a.high)), vdupq_n_u32(b));
}

// As on AVX2: clamp on both sides (vmaxq and vminq keep NaN), then insert the exponent by an
// integer add.
HEED_INLINE V Exp2Split(V x, Exponent& e) {
  const V magic = Set(12582912.f);  // 1.5 * 2^23: the integer part lands in the low mantissa bits
  x = vminq_f32(Set(127.f), vmaxq_f32(Set(-126.f), x));
  e.biased = Add(x, magic);
  return Sub(x, Sub(e.biased, magic));
}
HEED_INLINE V Exp2Join(V p, Exponent e) {
  return vreinterpretq_f32_s32(
      vaddq_s32(vreinterpretq_s32_f32(p), vshlq_n_s32(vreinterpretq_s32_f32(e.biased), 23)));
}
HEED_INLINE V ClampLow(V x) { return x; }  // Exp2Split clamps
HEED_INLINE V FlushTiny(V x, V p) {
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(p), Lt(x, Set(-126.f))));
}
HEED_INLINE V Log2Split(V x, V& e) {
  const int32x4_t u = vreinterpretq_s32_f32(x);
  const int32x4_t n =
      vshrq_n_s32(vsubq_s32(u, vdupq_n_s32(0x3f400000)), 23);  // floor(log2(x / 0.75))
  e = vcvtq_f32_s32(n);
  return Select(Eq(x, x), vreinterpretq_f32_s32(vsubq_s32(u, vshlq_n_s32(n, 23))), x);
}

template <int kCount>
HEED_INLINE V Repeat(const float* p) {
  if constexpr (kCount == 4) return vld1q_f32(p);
  if constexpr (kCount == 2) return vcombine_f32(vld1_f32(p), vld1_f32(p));
  if constexpr (kCount == 1) return vdupq_n_f32(*p);
}
template <int kStep>
HEED_INLINE V FoldPairs(V a, V b) {
  if constexpr (kStep == 1) return vaddq_f32(vtrn1q_f32(a, b), vtrn2q_f32(a, b));
  return vaddq_f32(vcombine_f32(vget_low_f32(a), vget_high_f32(b)),
                   vcombine_f32(vget_high_f32(a), vget_low_f32(b)));
}

HEED_INLINE void Transpose(V (&r)[W]) {
  const V a = vtrn1q_f32(r[0], r[1]), b = vtrn2q_f32(r[0], r[1]);
  const V c = vtrn1q_f32(r[2], r[3]), d = vtrn2q_f32(r[2], r[3]);
  r[0] = vcombine_f32(vget_low_f32(a), vget_low_f32(c));
  r[1] = vcombine_f32(vget_low_f32(b), vget_low_f32(d));
  r[2] = vcombine_f32(vget_high_f32(a), vget_high_f32(c));
  r[3] = vcombine_f32(vget_high_f32(b), vget_high_f32(d));
}

}  // namespace heed::cpu::HEED_ISA
