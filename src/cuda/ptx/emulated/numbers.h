// Numbers, emulated: conversions bit for bit; Ex2 and Lg2 are correct within a rounding, where the
// hardware's are approximations.
#pragma once

#include <cmath>

#include "cuda/ptx/emulated/base.h"
#include "emu/numbers.h"

namespace heed::cuda::ptx {

namespace detail {
// .ftz: a subnormal counts as 0 of its sign.
HEED_DEVICE float Flush(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }
}  // namespace detail

HEED_DEVICE float Ex2(float x) { return detail::Flush(std::exp2(detail::Flush(x))); }
HEED_DEVICE float Lg2(float x) { return detail::Flush(std::log2(detail::Flush(x))); }
// A volatile product or summand is what no compiler fuses.
HEED_DEVICE float Fmul(float a, float b) {
  const volatile float product = a * b;
  return product;
}
HEED_DEVICE float Fadd(float a, float b) {
  const volatile float x = a, y = b;
  return x + y;
}
HEED_DEVICE float Fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
HEED_DEVICE float NegInf() { return -INFINITY; }
HEED_DEVICE uint32_t BitsOf(float x) { return emu::Bits(x); }
HEED_DEVICE float FloatOf(uint32_t bits) { return emu::Float(bits); }

HEED_DEVICE float ToFloat(F16 x) { return emu::FloatOfF16(x.bits); }
HEED_DEVICE float ToFloat(Bf16 x) { return emu::FloatOfBf16(x.bits); }
template <class T>
HEED_DEVICE T FromFloat(float x);
template <>
HEED_DEVICE F16 FromFloat<F16>(float x) {
  return {emu::F16OfFloat(x)};
}
template <>
HEED_DEVICE Bf16 FromFloat<Bf16>(float x) {
  return {emu::Bf16OfFloat(x)};
}
template <class T>
HEED_DEVICE uint32_t Pack(float low, float high) {
  return FromFloat<T>(low).bits | uint32_t(FromFloat<T>(high).bits) << 16;
}
HEED_DEVICE uint32_t RoundTf32(float x) { return emu::Tf32OfFloat(x); }

}  // namespace heed::cuda::ptx
