// lanes/avx2.h: AVX2 with FMA and F16C lanes: 8 floats, 16 registers. Not here: native bf16 (there
// is none).
#pragma once

#include <immintrin.h>

#include "cpu/lanes/base.h"

namespace heed::cpu::HEED_ISA {

inline constexpr int W = 8;
inline constexpr int kKeys = 4,
                     kVecs = 3;  // 12 accumulators + 3 query vectors + 1 key = all 16 registers
inline constexpr int
    kAcc = 12,
    kMaxCols = 2;  // 6x2 (4x3 is 1-2 points slower at d = 128); 12x1 for an odd last vector
inline constexpr int kMaxTiles = 16, kMaxKeys = 256;  // 384 queries share 256 keys: 0.2 to 0.8 MB
inline constexpr bool kTileRuns = true;

using V = __m256;
using M = __m256;
struct Exponent {
  V biased;
};

HEED_INLINE V Zero() { return _mm256_setzero_ps(); }
HEED_INLINE V Set(float x) { return _mm256_set1_ps(x); }
HEED_INLINE V Load(const float* p) { return _mm256_loadu_ps(p); }
HEED_INLINE V Splat(const float* p) { return Set(*p); }
HEED_INLINE void Store(float* p, V x) { _mm256_storeu_ps(p, x); }
HEED_INLINE __m256i First(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
HEED_INLINE void Stream(float* p, V x) {
  if (reinterpret_cast<std::uintptr_t>(p) % 32 == 0)
    _mm256_stream_ps(p, x);
  else
    _mm256_storeu_ps(p, x);
}
HEED_INLINE void EndStreams() { _mm_sfence(); }
HEED_INLINE V LoadN(const float* p, int n) { return _mm256_maskload_ps(p, First(n)); }
HEED_INLINE void StoreN(float* p, V x, int n) { _mm256_maskstore_ps(p, First(n), x); }

HEED_INLINE __m128i Load16(const std::uint16_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
HEED_INLINE __m128i Load16N(const std::uint16_t* p, int n) {
  alignas(16) std::uint16_t t[8] = {};
  for (int i = 0; i < n; i++) t[i] = p[i];
  return Load16(t);
}
HEED_INLINE void Store16N(std::uint16_t* p, __m128i x, int n) {
  alignas(16) std::uint16_t t[8];
  _mm_store_si128(reinterpret_cast<__m128i*>(t), x);
  for (int i = 0; i < n; i++) p[i] = t[i];
}
HEED_INLINE V WidenBf16(__m128i x) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}
// Round to nearest even by integer arithmetic; a NaN keeps its sign and becomes quiet instead of
// wrapping to infinity or zero.
HEED_INLINE __m128i NarrowBf16(V x) {
  const __m256i u = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
  r = _mm256_blendv_epi8(r, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
  r = _mm256_srli_epi32(r, 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}
HEED_INLINE V LoadBf16(const std::uint16_t* p) { return WidenBf16(Load16(p)); }
HEED_INLINE V LoadBf16N(const std::uint16_t* p, int n) { return WidenBf16(Load16N(p, n)); }
HEED_INLINE V LoadF16(const std::uint16_t* p) { return _mm256_cvtph_ps(Load16(p)); }
HEED_INLINE V LoadF16N(const std::uint16_t* p, int n) { return _mm256_cvtph_ps(Load16N(p, n)); }
HEED_INLINE void StoreBf16(std::uint16_t* p, V x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), NarrowBf16(x));
}
HEED_INLINE void StoreF16(std::uint16_t* p, V x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
HEED_INLINE void StoreBf16N(std::uint16_t* p, V x, int n) { Store16N(p, NarrowBf16(x), n); }
HEED_INLINE void StoreF16N(std::uint16_t* p, V x, int n) {
  Store16N(p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT), n);
}

HEED_INLINE V Add(V a, V b) { return _mm256_add_ps(a, b); }
HEED_INLINE V Sub(V a, V b) { return _mm256_sub_ps(a, b); }
HEED_INLINE V Mul(V a, V b) { return _mm256_mul_ps(a, b); }
HEED_INLINE V Div(V a, V b) { return _mm256_div_ps(a, b); }
HEED_INLINE V Fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
HEED_INLINE V Fms(V a, V b, V c) { return _mm256_fmsub_ps(a, b, c); }
HEED_INLINE V Max(V a, V b) { return _mm256_max_ps(a, b); }
HEED_INLINE V Min(V a, V b) { return _mm256_min_ps(a, b); }
HEED_INLINE V Abs(V a) { return _mm256_andnot_ps(Set(-0.f), a); }
HEED_INLINE V Recip(V x) {  // one Newton step: 12 bits become 23
  const V r = _mm256_rcp_ps(x);
  return _mm256_mul_ps(r, _mm256_fnmadd_ps(x, r, Set(2.f)));
}

HEED_INLINE M Lt(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
HEED_INLINE M Le(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
HEED_INLINE M Eq(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
HEED_INLINE M And(M a, M b) { return _mm256_and_ps(a, b); }
HEED_INLINE M AndNot(M a, M b) { return _mm256_andnot_ps(a, b); }
HEED_INLINE bool Any(M m) { return _mm256_movemask_ps(m) != 0; }
HEED_INLINE bool AllLe(V a, V b) { return _mm256_movemask_ps(Le(a, b)) == 0xff; }
HEED_INLINE V Select(M m, V yes, V no) { return _mm256_blendv_ps(no, yes, m); }
HEED_INLINE M Or(M a, M b) { return _mm256_or_ps(a, b); }
HEED_INLINE M Bit(const std::uint32_t* p, int bit) {
  const __m256i b = _mm256_set1_epi32(1 << bit);
  const __m256i x = _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), b);
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(x, b));
}
HEED_INLINE std::uint32_t NonZero32(const std::uint8_t* p) {
  const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return ~static_cast<std::uint32_t>(
      _mm256_movemask_epi8(_mm256_cmpeq_epi8(x, _mm256_setzero_si256())));
}
HEED_INLINE std::uint64_t NonZero64(const std::uint8_t* p) {
  return NonZero32(p) | static_cast<std::uint64_t>(NonZero32(p + 32)) << 32;
}

// A word is the low half of 64 bits, where vpmuludq looks for it; the even lanes and the odd ones
// apart.
struct Words {
  __m256i even, odd;
};
HEED_INLINE Words LoadWords(const std::uint32_t* p) {
  const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {x, _mm256_srli_epi64(x, 32)};
}
HEED_INLINE Words SetWords(std::uint32_t x) {
  return {_mm256_set1_epi64x(x), _mm256_set1_epi64x(x)};
}
HEED_INLINE Words MulWords(Words a, std::uint32_t b) {
  const __m256i m = _mm256_set1_epi64x(b);
  return {_mm256_mul_epu32(a.even, m), _mm256_mul_epu32(a.odd, m)};
}
HEED_INLINE Words HighWords(Words a) {
  return {_mm256_srli_epi64(a.even, 32), _mm256_srli_epi64(a.odd, 32)};
}
HEED_INLINE Words XorWords(Words a, Words b, Words c) {
  return {_mm256_xor_si256(a.even, _mm256_xor_si256(b.even, c.even)),
          _mm256_xor_si256(a.odd, _mm256_xor_si256(b.odd, c.odd))};
}
HEED_INLINE M WordsAtLeast(Words a, std::uint32_t b) {
  const __m256i x = _mm256_blend_epi32(a.even, _mm256_slli_epi64(a.odd, 32), 0xAA);
  const __m256i t = _mm256_set1_epi32(static_cast<int>(b));
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_max_epu32(x, t), x));
}

// No vscalefps: the exponent is inserted by an integer add. x is clamped on both sides first (NaN
// is the second operand and stays), so that a stale maximum can at worst give 2^127, which the sum
// test sees, and never wraps around.
HEED_INLINE V Exp2Split(V x, Exponent& e) {
  const V magic = Set(12582912.f);  // 1.5 * 2^23: the integer part lands in the low mantissa bits
  x = _mm256_min_ps(Set(127.f), _mm256_max_ps(Set(-126.f), x));
  e.biased = Add(x, magic);
  return Sub(x, Sub(e.biased, magic));
}
HEED_INLINE V Exp2Join(V p, Exponent e) {
  return _mm256_castsi256_ps(_mm256_add_epi32(
      _mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(e.biased), 23)));
}
HEED_INLINE V ClampLow(V x) { return x; }  // Exp2Split clamps
HEED_INLINE V FlushTiny(V x, V p) { return _mm256_andnot_ps(Lt(x, Set(-126.f)), p); }
HEED_INLINE V Log2Split(V x, V& e) {
  const __m256i u = _mm256_castps_si256(x),
                shifted = _mm256_sub_epi32(u, _mm256_set1_epi32(0x3f400000));
  const __m256i n = _mm256_srai_epi32(shifted, 23);  // floor(log2(x / 0.75))
  e = _mm256_cvtepi32_ps(n);
  return Select(_mm256_cmp_ps(x, x, _CMP_UNORD_Q), x,
                _mm256_castsi256_ps(_mm256_sub_epi32(u, _mm256_slli_epi32(n, 23))));
}

template <int kCount>
HEED_INLINE V Repeat(const float* p) {
  if constexpr (kCount == 8) return _mm256_loadu_ps(p);
  if constexpr (kCount == 4) return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p));
  if constexpr (kCount == 2) {
    double both;
    __builtin_memcpy(&both, p, sizeof both);
    return _mm256_castpd_ps(_mm256_set1_pd(both));
  }
  if constexpr (kCount == 1) return _mm256_set1_ps(*p);
}
template <int kStep>
HEED_INLINE V FoldPairs(V a, V b) {
  V x, y;
  if constexpr (kStep == 1) {
    x = _mm256_blend_ps(a, _mm256_moveldup_ps(b), 0xAA);
    y = _mm256_blend_ps(_mm256_movehdup_ps(a), b, 0xAA);
  } else if constexpr (kStep == 2) {
    x = _mm256_blend_ps(a, b, 0xCC);
    y = _mm256_shuffle_ps(a, b, 0x4E);
  } else {
    x = _mm256_blend_ps(a, b, 0xF0);
    y = _mm256_permute2f128_ps(a, b, 0x21);
  }
  return _mm256_add_ps(x, y);
}

HEED_INLINE void Transpose(V (&r)[W]) {
  V t[8], u[8];
  HEED_UNROLL for (int i = 0; i < 4; i++) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  HEED_UNROLL for (int i = 0; i < 2; i++) HEED_UNROLL for (int j = 0; j < 2; j++) {
    u[4 * i + 2 * j] = _mm256_shuffle_ps(t[4 * i + j], t[4 * i + 2 + j], 0x44);
    u[4 * i + 2 * j + 1] = _mm256_shuffle_ps(t[4 * i + j], t[4 * i + 2 + j], 0xee);
  }
  HEED_UNROLL for (int i = 0; i < 4; i++) {
    r[i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x20);
    r[4 + i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x31);
  }
}

}  // namespace heed::cpu::HEED_ISA
