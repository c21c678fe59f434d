// io/convert.h: values between element types, rounded once to nearest even. Not here: files.
#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "heed/types.h"
#include "io/element.h"
#include "io/tensor.h"

namespace heed::io {

// All of these are exact where the value is representable, else round to nearest even; what is too
// large becomes infinity; NaN stays NaN with its sign (quiet, with the upper bits of its payload).
// They assume the default rounding mode, and are written without branches on the common path so
// that loops over them vectorize.

constexpr float ToFloat(Bf16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

constexpr float ToFloat(F16 x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(x.bits & 0x7FFFu) << 13;
  constexpr std::uint32_t kRebias = (127 - 15) << 23;
  const std::uint32_t normal = magnitude + kRebias;
  const std::uint32_t special = normal + kRebias;  // exponent 31 to 255: infinity and NaN
  // A subnormal is m * 2^-24: put m below the one of 2^-14, whose ulp in that scale is the same,
  // and take the one away.
  constexpr std::uint32_t kTwoToMinus14 = (127 - 14) << 23;
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(
      std::bit_cast<float>(magnitude + kTwoToMinus14) - std::bit_cast<float>(kTwoToMinus14));
  const std::uint32_t quiet = magnitude > 0x0F800000u ? 0x00400000u : 0u;
  const std::uint32_t value = magnitude < 0x00800000u    ? subnormal
                              : magnitude >= 0x0F800000u ? special | quiet
                                                         : normal;
  return std::bit_cast<float>(sign | value);
}

constexpr Bf16 ToBf16(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  // Half an ulp less one, plus one if the result would be odd: ties go to even; the carry out of
  // the largest finite value gives infinity.
  const std::uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const std::uint32_t quiet = (bits >> 16) | 0x0040u;
  return {static_cast<std::uint16_t>(nan ? quiet : rounded)};
}

constexpr F16 ToF16(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  constexpr std::uint32_t kRebias = (127 - 15) << 23;
  const std::uint32_t normal = (magnitude + 0x0FFFu + ((magnitude >> 13) & 1u) - kRebias) >> 13;
  // Below 2^-14 the result is a multiple of 2^-24, which is the ulp of a float in [0.5, 1): the
  // addition does the rounding. (Clamped: the sum is only used for such values.)
  const float small = std::bit_cast<float>(std::min(magnitude, 0x38800000u));
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(small + 0.5f) - 0x3F000000u;
  const std::uint32_t quiet = 0x7E00u | ((magnitude >> 13) & 0x03FFu);
  constexpr std::uint32_t kFirstInfinite = 0x477FF000u;  // 65520: half an ulp above the largest
  const std::uint32_t value = magnitude > 0x7F800000u       ? quiet
                              : magnitude >= kFirstInfinite ? 0x7C00u
                              : magnitude >= 0x38800000u    ? normal
                                                            : subnormal;
  return {static_cast<std::uint16_t>(sign | value)};
}

/// Truncated to float, the last bit set if anything was cut off. A float so made rounds on to a
/// type with at least two bits fewer as the double itself would: no double rounding.
constexpr float ToFloatOdd(double x) {
  constexpr double kMax =
      3.40282346638528859811704183484516925440e+38;  // of float: no overflow in the cast
  const float nearest = static_cast<float>(std::clamp(x, -kMax, kMax));
  const double back = nearest;
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(nearest);
  const bool away = (back > x && x > 0) || (back < x && x < 0);  // rounded away from zero: one back
  return std::bit_cast<float>(back == x ? bits : (bits - (away ? 1u : 0u)) | 1u);
}

constexpr Bf16 ToBf16(double x) { return ToBf16(x != x ? static_cast<float>(x) : ToFloatOdd(x)); }
constexpr F16 ToF16(double x) { return ToF16(x != x ? static_cast<float>(x) : ToFloatOdd(x)); }

template <class T>
concept Float16Bit = std::same_as<T, Bf16> || std::same_as<T, F16>;
template <class T>
concept FloatElement = Float16Bit<T> || std::same_as<T, float> || std::same_as<T, double>;

/// One value from one floating type to another.
template <FloatElement To, FloatElement From>
constexpr To RoundTo(From x) {
  if constexpr (std::same_as<To, From>) {
    return x;
  } else if constexpr (Float16Bit<From>) {
    return RoundTo<To>(ToFloat(x));  // exact, so this rounds once
  } else if constexpr (std::same_as<To, Bf16>) {
    return ToBf16(x);
  } else if constexpr (std::same_as<To, F16>) {
    return ToF16(x);
  } else {
    return static_cast<To>(x);
  }
}

/// RoundTo for as many values as the shorter span has.
template <FloatElement To, FloatElement From>
void RoundAll(std::span<const From> from, std::span<To> to) {
  const std::size_t n = std::min(from.size(), to.size());
  for (std::size_t i = 0; i < n; ++i) to[i] = RoundTo<To>(from[i]);
}

/// The tensor with its elements converted. Floats to floats: rounded as above. Integers and BOOL to
/// floats: the same, if the magnitude is at most 2^53. Integers and BOOL among themselves: only if
/// every value fits. Floats to integers: refused.
Result<Tensor> Convert(const Tensor& tensor, ElementType to);

}  // namespace heed::io
