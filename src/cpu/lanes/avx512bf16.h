// lanes/avx512bf16.h: the AVX-512 lanes and the operations on pairs of bf16 (vdpbf16ps). Not here:
// anything on floats.
#pragma once

#include "cpu/lanes/avx512.h"

#define HEED_NATIVE_BF16 1

namespace heed::cpu::HEED_ISA {

using VP = __m512i;

HEED_INLINE VP LoadP(const std::uint32_t* p) { return _mm512_loadu_si512(p); }
HEED_INLINE void StoreP(std::uint32_t* p, VP x) { _mm512_storeu_si512(p, x); }
HEED_INLINE VP SetP(std::uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
HEED_INLINE V Dot(VP a, VP b, V c) {
  return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}
// Rows of bf16 may start at an odd element.
template <int kCount>
HEED_INLINE VP RepeatP(const void* p) {
  if constexpr (kCount == 1) {
    std::uint32_t one;
    __builtin_memcpy(&one, p, sizeof one);
    return SetP(one);
  } else {
    return _mm512_castps_si512(Repeat<kCount>(static_cast<const float*>(p)));
  }
}
// Four instructions, none of which crosses lanes or uses the FMA pipes (vcvtne2ps2bf16 does both).
HEED_INLINE VP PackP(V lo, V hi) {
  const __m512i half = _mm512_set1_epi32(0x8000);
  const __m512i l = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(lo), half), 16);
  return _mm512_mask_blend_epi16(0xAAAAAAAA, l, _mm512_add_epi32(_mm512_castps_si512(hi), half));
}
HEED_INLINE void StoreHalves(std::uint32_t* p, V x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
}
HEED_INLINE V LowP(VP x) { return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16)); }
HEED_INLINE V HighP(VP x) {
  return _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
}
HEED_INLINE VP Zip(__m256i a, __m256i b) {
  const __m512i order = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40,
                                         8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  return _mm512_permutex2var_epi16(_mm512_castsi256_si512(a), order, _mm512_castsi256_si512(b));
}
HEED_INLINE VP ZipRows(const std::uint16_t* a, const std::uint16_t* b) {
  return Zip(Load16(a), Load16(b));
}
HEED_INLINE VP ZipRowsN(const std::uint16_t* a, const std::uint16_t* b, int n) {
  return Zip(Load16N(a, n), Load16N(b, n));
}

HEED_INLINE void ZipRowsApart(const std::uint16_t* a, const std::uint16_t* b, VP& x, VP& y) {
  const __m512i p = _mm512_loadu_si512(a), q = _mm512_loadu_si512(b);
  x = _mm512_unpacklo_epi16(p, q);
  y = _mm512_unpackhi_epi16(p, q);
}
HEED_INLINE void InOrder(V& x, V& y) {
  const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i high =
      _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  const V a = x;
  x = _mm512_permutex2var_ps(a, low, y);
  y = _mm512_permutex2var_ps(a, high, y);
}

}  // namespace heed::cpu::HEED_ISA
