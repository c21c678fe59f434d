// verify/compare.cpp: see compare.h.
#include "verify/compare.h"

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <limits>

namespace heed::verify {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::string NumberText(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", x);
  return text;
}

struct Verdict {
  bool ok = true;
  double error = 0, ratio = 0;
};

// From half an ulp above the largest finite value, a result rounds to infinity.
bool MayOverflow(DType type, double expected, double bound) {
  if (type != DType::kBF16 && type != DType::kF16) return false;
  const double largest = LargestFinite(type);
  return std::fabs(expected) + bound >= largest + Ulp(type, largest) / 2;
}

Verdict Judge(double expected, double bound, double got, DType type) {
  constexpr Verdict kBroken{false, std::numeric_limits<double>::quiet_NaN(), kInfinity};
  if (bound == kInfinity) return {};
  if (std::isnan(expected)) return std::isnan(got) ? Verdict{} : kBroken;
  if (std::isinf(expected))
    return got == expected ? Verdict{} : Verdict{false, kInfinity, kInfinity};
  if (!(bound >= 0)) return kBroken;
  if (std::isnan(got)) return kBroken;
  if (std::isinf(got)) {
    if (MayOverflow(type, expected, bound) && (got > 0) == (expected > 0)) return {};
    return {false, kInfinity, kInfinity};
  }
  const double error = std::fabs(got - expected);
  return {error <= bound, error, error == 0 ? 0 : error / bound};
}

}  // namespace

std::string Comparison::Describe() const {
  if (!problem.empty()) return problem;
  if (at.empty()) return "nothing to compare";
  return "worst error " + NumberText(error) + " of " + NumberText(bound) + " at " + ShapeText(at) +
         ": got " + NumberText(got) + " for " + NumberText(expected) +
         (failures == 0
              ? ""
              : "; " + std::to_string(failures) + " of " + std::to_string(count) + " wrong");
}

Comparison Compare(const Array& expected, const Array& bound, const Array& got, DType type) {
  Comparison c;
  if (expected.shape != got.shape) {
    c.problem =
        "the shape is " + ShapeText(got.shape) + ", expected was " + ShapeText(expected.shape);
    return c;
  }
  const bool one = bound.size() == 1 && expected.size() != 1;
  if (!one && bound.size() != expected.size()) {
    c.problem = "there are " + std::to_string(bound.size()) + " bounds for " +
                std::to_string(expected.size()) + " elements";
    return c;
  }
  c.count = expected.size();
  for (std::int64_t i = 0; i < c.count; ++i) {
    const double limit = bound[one ? 0 : i];
    const Verdict v = Judge(expected[i], limit, got[i], type);
    if (!v.ok) ++c.failures;
    if (i == 0 || v.ratio > c.ratio) {
      c.ratio = v.ratio;
      c.error = v.error;
      c.bound = limit;
      c.expected = expected[i];
      c.got = got[i];
      c.at = CoordinateOf(expected.shape, i);
    }
  }
  return c;
}

Comparison Compare(const Array& expected, const Array& bound, const View& got) {
  return Compare(expected, bound, Gather(got), got.type);
}

}  // namespace heed::verify
