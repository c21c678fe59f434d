// overlap.cpp: Measure and Share. Not here: names, rules.
#include "problem/overlap.h"

#include <numeric>

namespace heed {
namespace {

// A region as runs of bytes at base + sum of index * stride, the largest stride first, all
// positive.
struct Lattice {
  std::uintptr_t base;
  int axes = 0;
  Axis axis[View::kAxes];
  std::int64_t run;

  explicit Lattice(const Region& r) : base(r.first), run(r.view.run * r.bytes) {
    for (const Axis& a : r.view.axes) {
      if (a.size <= 1 || a.stride == 0) continue;
      const Axis now = {a.size, (a.stride < 0 ? -a.stride : a.stride) * r.bytes};
      int at = axes++;
      for (; at > 0 && axis[at - 1].stride < now.stride; at--) axis[at] = axis[at - 1];
      axis[at] = now;
    }
  }

  // Bytes from the first to behind the last, of the axes from `from` on.
  std::int64_t Span(int from) const {
    std::int64_t span = run;
    for (int a = from; a < axes; a++) span += (axis[a].size - 1) * axis[a].stride;
    return span;
  }
};

}  // namespace

void Measure(Region* region) {
  Extent extent;
  ExtentOf(region->view, region->bytes, &extent);
  region->first = region->base + static_cast<std::uintptr_t>(extent.first * region->bytes);
  region->last = region->base + static_cast<std::uintptr_t>(extent.last * region->bytes);
}

bool Share(const Region& a, const Region& b) {
  if (!Meet(a, b)) return false;
  // Take some of the outer axes of each; g divides all their strides. Then the region lies in
  // base + multiples of g + [0, span of its other axes), and two such sets are apart if they are
  // apart modulo g:   |a a a . . . b b . |a a a . . . b b . |      one period of g bytes
  const Lattice x(a), y(b);
  std::int64_t gx = 0;
  for (int i = 0;; gx = std::gcd(gx, x.axis[i++].stride)) {
    std::int64_t g = gx;
    for (int j = 0;; g = std::gcd(g, y.axis[j++].stride)) {
      if (g > 0) {
        const std::uintptr_t period = static_cast<std::uintptr_t>(g);
        const std::uintptr_t behind = x.base >= y.base
                                          ? (x.base - y.base) % period
                                          : (period - (y.base - x.base) % period) % period;
        const std::int64_t at = static_cast<std::int64_t>(behind);
        if (at >= y.Span(j) && x.Span(i) <= g - at) return false;
      }
      if (j == y.axes) break;
    }
    if (i == x.axes) break;
  }
  return true;
}

}  // namespace heed
