// verify/array.h: dense float64 arrays, strided views of memory of any dtype, rounding and ulps.
// Not here: attention.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "heed/types.h"

namespace heed::verify {

/// A dense row-major array. `values` has as many elements as `shape` says; empty shape and values:
/// not there.
struct Array {
  std::vector<std::int64_t> shape;
  std::vector<double> values;

  bool given() const { return !shape.empty(); }
  std::int64_t size() const { return static_cast<std::int64_t>(values.size()); }
  double& operator[](std::int64_t i) { return values[static_cast<std::size_t>(i)]; }
  double operator[](std::int64_t i) const { return values[static_cast<std::size_t>(i)]; }
};

/// The product of the shape, 1 for none.
std::int64_t CountOf(const std::vector<std::int64_t>& shape);

Array Zeros(std::vector<std::int64_t> shape);

/// A place in memory with a shape and strides in elements.
struct View {
  const void* data = nullptr;
  DType type = DType::kF32;
  std::vector<std::int64_t> shape, strides;
};

/// Offset in elements of the `flat`-th element in row-major order.
std::int64_t OffsetOf(const View& view, std::int64_t flat);

/// f(OffsetOf(view, flat)) for every element, in row-major order; divides once a row.
template <class F>
void ForEachOffset(const View& view, F&& f) {
  const std::int64_t count = CountOf(view.shape);
  const std::int64_t row = view.shape.empty() ? 1 : view.shape.back();
  const std::int64_t step = view.shape.empty() ? 0 : view.strides.back();
  for (std::int64_t flat = 0; flat < count; flat += row) {
    const std::int64_t first = OffsetOf(view, flat);
    for (std::int64_t n = 0; n < row; ++n) f(first + n * step);
  }
}

/// First and last offset + 1 that a view touches, in elements; {0, 0} if it has none.
struct Reach {
  std::int64_t first = 0, last = 0;
};
Reach ReachOf(const View& view);

/// The elements of a view in row-major order.
Array Gather(const View& view);

/// Row-major coordinate of the `flat`-th element.
std::vector<std::int64_t> CoordinateOf(const std::vector<std::int64_t>& shape, std::int64_t flat);

/// "[2, 3]"; a negative size, which stands for any, reads "any".
std::string ShapeText(const std::vector<std::int64_t>& shape);

/// Element `index` of an array of `type`, exact.
double Load(const void* data, DType type, std::int64_t index);

/// Stores `value`, rounded once to nearest even.
void Store(void* data, DType type, std::int64_t index, double value);

/// `value` rounded once to `type`.
double RoundTo(DType type, double value);

/// Distance of neighbours of `type` around |value|: of the binade that holds it, of the subnormals
/// at and near 0.
double Ulp(DType type, double value);

double LargestFinite(DType type);

/// Unit roundoff: half the distance of 1 and the next larger value.
double UnitRoundoff(DType type);

}  // namespace heed::verify
