// verify/array.cpp: see array.h.
#include "verify/array.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "io/convert.h"

namespace heed::verify {
namespace {

struct Format {
  int fraction_bits, min_exponent;  // of the smallest normal value
  double largest;
};

Format FormatOf(DType type) {
  switch (type) {
    case DType::kBF16:
      return {7, -126, 0x1.FEp127};
    case DType::kF16:
      return {10, -14, 65504.0};
    case DType::kF64:
      return {52, -1022, std::numeric_limits<double>::max()};
    case DType::kF32:
      break;
  }
  return {23, -126, static_cast<double>(std::numeric_limits<float>::max())};
}

}  // namespace

std::int64_t CountOf(const std::vector<std::int64_t>& shape) {
  std::int64_t n = 1;
  for (const std::int64_t size : shape) n *= size;
  return n;
}

Array Zeros(std::vector<std::int64_t> shape) {
  Array a;
  a.values.assign(static_cast<std::size_t>(CountOf(shape)), 0.0);
  a.shape = std::move(shape);
  return a;
}

std::int64_t OffsetOf(const View& view, std::int64_t flat) {
  std::int64_t offset = 0;
  for (std::size_t axis = view.shape.size(); axis-- > 0;) {
    offset += flat % view.shape[axis] * view.strides[axis];
    flat /= view.shape[axis];
  }
  return offset;
}

Reach ReachOf(const View& view) {
  Reach reach{0, 1};
  for (std::size_t axis = 0; axis < view.shape.size(); ++axis) {
    if (view.shape[axis] == 0) return {0, 0};
    const std::int64_t span = (view.shape[axis] - 1) * view.strides[axis];
    (span < 0 ? reach.first : reach.last) += span;
  }
  return reach;
}

Array Gather(const View& view) {
  Array a = Zeros(view.shape);
  std::int64_t i = 0;
  ForEachOffset(view, [&](std::int64_t offset) { a[i++] = Load(view.data, view.type, offset); });
  return a;
}

std::vector<std::int64_t> CoordinateOf(const std::vector<std::int64_t>& shape, std::int64_t flat) {
  std::vector<std::int64_t> at(shape.size(), 0);
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    if (shape[axis] <= 0) return at;
    at[axis] = flat % shape[axis];
    flat /= shape[axis];
  }
  return at;
}

std::string ShapeText(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t n = 0; n < shape.size(); ++n) {
    text += (n == 0 ? "" : ", ") + (shape[n] < 0 ? "any" : std::to_string(shape[n]));
  }
  return text + "]";
}

double Load(const void* data, DType type, std::int64_t index) {
  switch (type) {
    case DType::kBF16:
      return io::ToFloat(static_cast<const io::Bf16*>(data)[index]);
    case DType::kF16:
      return io::ToFloat(static_cast<const io::F16*>(data)[index]);
    case DType::kF64:
      return static_cast<const double*>(data)[index];
    case DType::kF32:
      break;
  }
  return static_cast<const float*>(data)[index];
}

void Store(void* data, DType type, std::int64_t index, double value) {
  switch (type) {
    case DType::kBF16:
      static_cast<io::Bf16*>(data)[index] = io::ToBf16(value);
      return;
    case DType::kF16:
      static_cast<io::F16*>(data)[index] = io::ToF16(value);
      return;
    case DType::kF64:
      static_cast<double*>(data)[index] = value;
      return;
    case DType::kF32:
      break;
  }
  static_cast<float*>(data)[index] = static_cast<float>(value);
}

double RoundTo(DType type, double value) {
  switch (type) {
    case DType::kBF16:
      return io::ToFloat(io::ToBf16(value));
    case DType::kF16:
      return io::ToFloat(io::ToF16(value));
    case DType::kF64:
      return value;
    case DType::kF32:
      break;
  }
  return static_cast<float>(value);
}

double Ulp(DType type, double value) {
  const Format f = FormatOf(type);
  if (!std::isfinite(value)) return std::numeric_limits<double>::quiet_NaN();
  const int exponent = value == 0 ? f.min_exponent : std::max(f.min_exponent, std::ilogb(value));
  return std::ldexp(1.0, exponent - f.fraction_bits);
}

double LargestFinite(DType type) { return FormatOf(type).largest; }

double UnitRoundoff(DType type) { return std::ldexp(1.0, -1 - FormatOf(type).fraction_bits); }

}  // namespace heed::verify
