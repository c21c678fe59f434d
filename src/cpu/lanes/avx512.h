// lanes/avx512.h: AVX-512 (F, VL, BW, DQ) lanes: 16 floats, 32 registers. Not here: bf16 dot
// products (avx512bf16.h).
#pragma once

#include <immintrin.h>

#include "cpu/lanes/base.h"

namespace heed::cpu::HEED_ISA {

inline constexpr int W = 16;
// 24 accumulators + 3 query vectors + 1 key: 28 of 32 registers. 12x2 and 6x4 run at the same
// speed.
inline constexpr int kKeys = 8, kVecs = 3;
// 6x4, 8x3, 12x2, 24x1: 24 chains hide the FMA latency of 4 at two a clock three times over.
inline constexpr int kAcc = 24, kMaxCols = 4;
// 384 queries share 256 keys: 0.3 MB of workspace at d = 64, 0.7 MB at 128, within a 1 MB L2. Flat
// within a point from 128 keys to 512.
inline constexpr int kMaxTiles = 8, kMaxKeys = 256;
inline constexpr bool kTileRuns = true;

using V = __m512;
using M = __mmask16;
struct Exponent {
  V n;
};

HEED_INLINE V Zero() { return _mm512_setzero_ps(); }
HEED_INLINE V Set(float x) { return _mm512_set1_ps(x); }
HEED_INLINE V Load(const float* p) { return _mm512_loadu_ps(p); }
HEED_INLINE V Splat(const float* p) { return Set(*p); }
HEED_INLINE void Store(float* p, V x) { _mm512_storeu_ps(p, x); }
HEED_INLINE M First(int n) { return static_cast<M>((1u << n) - 1); }
HEED_INLINE void Stream(float* p, V x) {
  if (reinterpret_cast<std::uintptr_t>(p) % 64 == 0)
    _mm512_stream_ps(p, x);
  else
    _mm512_storeu_ps(p, x);
}
HEED_INLINE void EndStreams() { _mm_sfence(); }
HEED_INLINE V LoadN(const float* p, int n) { return _mm512_maskz_loadu_ps(First(n), p); }
HEED_INLINE void StoreN(float* p, V x, int n) { _mm512_mask_storeu_ps(p, First(n), x); }

HEED_INLINE V WidenBf16(__m256i x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}
// Round to nearest even by integer arithmetic; a NaN keeps its sign and becomes quiet instead of
// wrapping to infinity or zero.
HEED_INLINE __m256i NarrowBf16(V x) {
  const __m512i u = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), u,
                           _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16));
}
HEED_INLINE __m256i Load16(const std::uint16_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
HEED_INLINE __m256i Load16N(const std::uint16_t* p, int n) {
  return _mm256_maskz_loadu_epi16(First(n), p);
}
HEED_INLINE V LoadBf16(const std::uint16_t* p) { return WidenBf16(Load16(p)); }
HEED_INLINE V LoadBf16N(const std::uint16_t* p, int n) { return WidenBf16(Load16N(p, n)); }
HEED_INLINE V LoadF16(const std::uint16_t* p) { return _mm512_cvtph_ps(Load16(p)); }
HEED_INLINE V LoadF16N(const std::uint16_t* p, int n) { return _mm512_cvtph_ps(Load16N(p, n)); }
HEED_INLINE void StoreBf16N(std::uint16_t* p, V x, int n) {
  _mm256_mask_storeu_epi16(p, First(n), NarrowBf16(x));
}
HEED_INLINE void StoreF16N(std::uint16_t* p, V x, int n) {
  _mm256_mask_storeu_epi16(p, First(n), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
HEED_INLINE void StoreBf16(std::uint16_t* p, V x) { StoreBf16N(p, x, W); }
HEED_INLINE void StoreF16(std::uint16_t* p, V x) { StoreF16N(p, x, W); }

HEED_INLINE V Add(V a, V b) { return _mm512_add_ps(a, b); }
HEED_INLINE V Sub(V a, V b) { return _mm512_sub_ps(a, b); }
HEED_INLINE V Mul(V a, V b) { return _mm512_mul_ps(a, b); }
HEED_INLINE V Div(V a, V b) { return _mm512_div_ps(a, b); }
HEED_INLINE V Fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
HEED_INLINE V Fms(V a, V b, V c) { return _mm512_fmsub_ps(a, b, c); }
HEED_INLINE V Max(V a, V b) { return _mm512_max_ps(a, b); }
HEED_INLINE V Min(V a, V b) { return _mm512_min_ps(a, b); }
HEED_INLINE V Abs(V a) { return _mm512_abs_ps(a); }
HEED_INLINE V Recip(V x) {  // one Newton step: 14 bits become 24
  const V r = _mm512_rcp14_ps(x);
  return _mm512_mul_ps(r, _mm512_fnmadd_ps(x, r, Set(2.f)));
}

HEED_INLINE M Lt(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
HEED_INLINE M Le(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
HEED_INLINE M Eq(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
HEED_INLINE M And(M a, M b) { return _kand_mask16(a, b); }
HEED_INLINE M AndNot(M a, M b) { return _kandn_mask16(a, b); }
HEED_INLINE bool Any(M m) { return m != 0; }
HEED_INLINE bool AllLe(V a, V b) { return Le(a, b) == 0xffff; }
HEED_INLINE V Select(M m, V yes, V no) { return _mm512_mask_blend_ps(m, no, yes); }
HEED_INLINE M Or(M a, M b) { return _kor_mask16(a, b); }
HEED_INLINE M Bit(const std::uint32_t* p, int bit) {
  return _mm512_test_epi32_mask(_mm512_loadu_si512(p), _mm512_set1_epi32(1 << bit));
}
HEED_INLINE std::uint64_t NonZero64(const std::uint8_t* p) {
  const __m512i x = _mm512_loadu_si512(p);
  return _mm512_test_epi8_mask(x, x);
}

// A word is the low half of 64 bits, where vpmuludq looks for it; the even lanes and the odd ones
// apart.
struct Words {
  __m512i even, odd;
};
HEED_INLINE Words LoadWords(const std::uint32_t* p) {
  const __m512i x = _mm512_loadu_si512(p);
  return {x, _mm512_srli_epi64(x, 32)};
}
HEED_INLINE Words SetWords(std::uint32_t x) { return {_mm512_set1_epi64(x), _mm512_set1_epi64(x)}; }
HEED_INLINE Words MulWords(Words a, std::uint32_t b) {
  const __m512i m = _mm512_set1_epi64(b);
  return {_mm512_mul_epu32(a.even, m), _mm512_mul_epu32(a.odd, m)};
}
HEED_INLINE Words HighWords(Words a) {
  return {_mm512_srli_epi64(a.even, 32), _mm512_srli_epi64(a.odd, 32)};
}
HEED_INLINE Words XorWords(Words a, Words b, Words c) {
  return {_mm512_ternarylogic_epi64(a.even, b.even, c.even, 0x96),
          _mm512_ternarylogic_epi64(a.odd, b.odd, c.odd, 0x96)};
}
HEED_INLINE M WordsAtLeast(Words a, std::uint32_t b) {
  const __m512i both =
      _mm512_mask_shuffle_epi32(a.even, 0xAAAA, a.odd, static_cast<_MM_PERM_ENUM>(0xA0));
  return _mm512_cmpge_epu32_mask(both, _mm512_set1_epi32(static_cast<int>(b)));
}

// vscalefps saturates to 0 and infinity by itself.
HEED_INLINE V Exp2Split(V x, Exponent& e) {
  e.n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return _mm512_sub_ps(x, e.n);
}
HEED_INLINE V Exp2Join(V p, Exponent e) { return _mm512_scalef_ps(p, e.n); }
// Of an infinite x the split makes NaN; -200 is as good as minus infinity. NaN is the second
// operand, so it stays.
HEED_INLINE V ClampLow(V x) { return _mm512_max_ps(_mm512_set1_ps(-200.f), x); }
HEED_INLINE V FlushTiny(V, V p) { return p; }
HEED_INLINE V Log2Split(V x, V& e) {
  const V f = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_zero);
  const V n = _mm512_getexp_ps(x);  // of x = 1.75 it says 0 where f = 0.875 wants 1
  e = _mm512_mask_add_ps(n, Lt(f, Set(1.f)), n, Set(1.f));
  return f;
}

// Broadcasts of integers: on Zen 4 vpbroadcastq runs once a clock, vbroadcastsd of the same bits
// half as often (8 rows against keys in L1: 99 and 70 % of the dot peak).
template <int kCount>
HEED_INLINE V Repeat(const float* p) {
  if constexpr (kCount == 16) return _mm512_loadu_ps(p);
  if constexpr (kCount == 8)
    return _mm512_castsi512_ps(
        _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
  if constexpr (kCount == 4)
    return _mm512_castsi512_ps(
        _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  if constexpr (kCount == 2) {
    long long both;
    __builtin_memcpy(&both, p, sizeof both);
    return _mm512_castsi512_ps(_mm512_set1_epi64(both));
  }
  if constexpr (kCount == 1) return _mm512_set1_ps(*p);
}
template <int kStep>
HEED_INLINE V FoldPairs(V a, V b) {
  V x, y;
  if constexpr (kStep == 1) {
    x = _mm512_mask_moveldup_ps(a, 0xAAAA, b);
    y = _mm512_mask_movehdup_ps(b, 0x5555, a);
  } else if constexpr (kStep == 2) {
    x = _mm512_mask_blend_ps(0xCCCC, a, b);
    y = _mm512_shuffle_ps(a, b, 0x4E);
  } else if constexpr (kStep == 4) {
    x = _mm512_mask_shuffle_f32x4(a, 0xF0F0, b, b, 0xA0);
    y = _mm512_mask_shuffle_f32x4(b, 0x0F0F, a, a, 0xF5);
  } else {
    x = _mm512_mask_blend_ps(0xFF00, a, b);
    y = _mm512_shuffle_f32x4(a, b, 0x4E);
  }
  return _mm512_add_ps(x, y);
}

HEED_INLINE void Transpose(V (&r)[W]) {
  V t[16], u[16];
  HEED_UNROLL for (int i = 0; i < 8; i++) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  HEED_UNROLL for (int i = 0; i < 4; i++) HEED_UNROLL for (int j = 0; j < 2; j++) {
    const __m512d a = _mm512_castps_pd(t[4 * i + j]), b = _mm512_castps_pd(t[4 * i + 2 + j]);
    u[4 * i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
    u[4 * i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
  }
  HEED_UNROLL for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_f32x4(u[i], u[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_f32x4(u[i], u[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_f32x4(u[8 + i], u[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_f32x4(u[8 + i], u[12 + i], 0xdd);
  }
  HEED_UNROLL for (int i = 0; i < 4; i++) {
    r[i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0x88);
    r[8 + i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0xdd);
    r[4 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0x88);
    r[12 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0xdd);
  }
}

}  // namespace heed::cpu::HEED_ISA
