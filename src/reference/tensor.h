// tensor.h: tensors of any dtype and strides, read and written as float64. Not here: what they
// mean, arithmetic.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "heed/problem.h"

namespace heed::reference {

// ---------------------------------------------------------------- one element

template <class T>
T Read(const void* data, std::int64_t index) {
  T x;
  std::memcpy(&x, static_cast<const char*>(data) + index * std::int64_t{sizeof(T)}, sizeof(T));
  return x;
}

template <class T>
void Write(void* data, std::int64_t index, T x) {
  std::memcpy(static_cast<char*>(data) + index * std::int64_t{sizeof(T)}, &x, sizeof(T));
}

// The nearest number of `digits` binary digits that is a multiple of 2^lowest; ties to even.
inline double Nearest(double x, int digits, int lowest) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int ulp = std::max(std::ilogb(x) - (digits - 1), lowest);
  return std::ldexp(std::nearbyint(std::ldexp(x, -ulp)), ulp);
}

inline double FromBF16(std::uint16_t bits) {
  const std::uint32_t wide = std::uint32_t{bits} << 16;
  return Read<float>(&wide, 0);
}

inline std::uint16_t ToBF16(double x) {
  const float rounded = static_cast<float>(Nearest(x, 8, -133));  // exact, or infinity
  const auto bits = static_cast<std::uint16_t>(Read<std::uint32_t>(&rounded, 0) >> 16);
  return std::isnan(x) ? bits | 0x40 : bits;
}

inline double FromF16(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double magnitude = exponent == 31  ? (fraction ? NAN : INFINITY)
                           : exponent == 0 ? std::ldexp(fraction, -24)
                                           : std::ldexp(fraction + 1024, exponent - 25);
  return bits >> 15 ? -magnitude : magnitude;
}

inline std::uint16_t ToF16(double x) {
  const double magnitude = std::abs(Nearest(x, 11, -24));
  int bits = 0;
  if (std::isnan(x)) {
    bits = 0x7E00;
  } else if (magnitude >= 65536) {
    bits = 0x7C00;
  } else if (magnitude < 0x1p-14) {
    bits = static_cast<int>(std::ldexp(magnitude, 24));
  } else {
    const int e = std::ilogb(magnitude);
    bits = (e + 14) * 1024 + static_cast<int>(std::ldexp(magnitude, 10 - e));
  }
  return static_cast<std::uint16_t>(std::signbit(x) ? bits | 0x8000 : bits);
}

inline double Load(DType dtype, const void* data, std::int64_t index) {
  switch (dtype) {
    case DType::kF32:
      return Read<float>(data, index);
    case DType::kBF16:
      return FromBF16(Read<std::uint16_t>(data, index));
    case DType::kF16:
      return FromF16(Read<std::uint16_t>(data, index));
    case DType::kF64:
      return Read<double>(data, index);
  }
  return NAN;
}

// Rounds once, to nearest even.
inline void Store(DType dtype, void* data, std::int64_t index, double x) {
  switch (dtype) {
    case DType::kF32:
      return Write(data, index, static_cast<float>(x));
    case DType::kBF16:
      return Write(data, index, ToBF16(x));
    case DType::kF16:
      return Write(data, index, ToF16(x));
    case DType::kF64:
      return Write(data, index, x);
  }
}

// ---------------------------------------------------------------- tensors (B, S, H, D), row by row

// Which row of a tensor: a batch entry, slot or page, and the row in it.
struct Place {
  std::int64_t batch = 0, row = 0;
};

inline std::int64_t OffsetOf(const Strides& s, Place at, std::int64_t head) {
  return at.batch * s.batch + at.row * s.row + head * s.head;
}

struct Tensor {
  const void* data;
  DType dtype;
  Strides strides;

  void ReadRow(Place at, std::int64_t head, std::int64_t n, double* row) const {
    const std::int64_t first = OffsetOf(strides, at, head);
    for (std::int64_t d = 0; d < n; d++) row[d] = Load(dtype, data, first + d);
  }
};

struct Output {
  void* data;
  DType dtype;
  Strides strides;

  // In the place of what is there, or added to it.
  void WriteRow(Place at, std::int64_t head, std::int64_t n, const double* row,
                bool accumulate = false) const {
    const std::int64_t first = OffsetOf(strides, at, head);
    for (std::int64_t d = 0; d < n; d++) {
      Store(dtype, data, first + d, accumulate ? Load(dtype, data, first + d) + row[d] : row[d]);
    }
  }
};

// Rows of float64.
struct Matrix {
  std::int64_t rows, cols;
  std::vector<double> values;

  Matrix(std::int64_t r, std::int64_t c) : rows(r), cols(c), values(r * c) {}
  double* operator[](std::int64_t row) { return values.data() + row * cols; }
  const double* operator[](std::int64_t row) const { return values.data() + row * cols; }
};

}  // namespace heed::reference
