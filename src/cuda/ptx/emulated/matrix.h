// Matrix instructions of a warp, emulated.
#pragma once

#include "cuda/ptx/emulated/base.h"
#include "emu/numbers.h"

namespace heed::cuda::ptx {

template <int Count, bool Trans>
HEED_DEVICE void Ldmatrix(uint32_t (&to)[Count], uint32_t row, HEED_AT) {
  static_assert(Count == 1 || Count == 2 || Count == 4);
  emu::Ldmatrix(to, Count, Trans, row, {"Ldmatrix", at});
}
template <int Count, bool Trans>
HEED_DEVICE void Stmatrix(uint32_t row, const uint32_t (&from)[Count], HEED_AT) {
  static_assert(Count == 2 || Count == 4);
  emu::Stmatrix(row, from, Count, Trans, {"Stmatrix", at});
}

namespace detail {
template <class T>
struct Element;
template <>
struct Element<F16> {
  static float Value(uint32_t bits) { return emu::FloatOfF16(uint16_t(bits)); }
  static float Half(uint16_t bits) { return emu::FloatOfF16(bits); }
};
template <>
struct Element<Bf16> {
  static float Value(uint32_t bits) { return emu::FloatOfBf16(uint16_t(bits)); }
  static float Half(uint16_t bits) { return emu::FloatOfBf16(bits); }
};
template <>
struct Element<Tf32> {
  static float Value(uint32_t bits) { return emu::FloatOfTf32(bits); }
};
template <class T, int K>
inline constexpr int kMmaArch = 0;  // no such instruction
template <>
inline constexpr int kMmaArch<F16, 8> = 750;
template <>
inline constexpr int kMmaArch<F16, 16> = 800;
template <>
inline constexpr int kMmaArch<Bf16, 8> = 800;
template <>
inline constexpr int kMmaArch<Bf16, 16> = 800;
template <>
inline constexpr int kMmaArch<Tf32, 4> = 800;
template <>
inline constexpr int kMmaArch<Tf32, 8> = 800;
}  // namespace detail

template <class T, int K>
HEED_DEVICE void Mma(float (&d)[4], const uint32_t (&a)[kMmaA<T, K>],
                     const uint32_t (&b)[kMmaB<T, K>], HEED_AT) {
  static_assert(detail::kMmaArch<T, K> > 0, "there is no mma.sync of this type and depth");
  emu::Mma(d, a, b, K, sizeof(T), detail::Element<T>::Value, detail::kMmaArch<T, K>, {"Mma", at});
}

}  // namespace heed::cuda::ptx
