// overlap.h: do two strided regions of memory share a byte? Not here: which regions matter
// (buffers.cpp).
#pragma once

#include <cstdint>

#include "problem/layout.h"

namespace heed {

// A resolved view at an address. (No initialisers: a call keeps an array of them that it seldom
// fills.)
struct Region {
  const char* name;
  std::uintptr_t base;         // of element (0, 0, ...)
  std::uintptr_t first, last;  // the bytes from its lowest to behind its highest element
  View view;
  std::int64_t bytes;  // of an element
  bool written;
};

// Fills in first and last.
void Measure(Region* region);

// Whether the extents have a byte in common.
inline bool Meet(const Region& a, const Region& b) { return a.first < b.last && b.first < a.last; }

// Whether the elements have. Exact for all slices of one packed tensor (q, k, v of a qkv in any
// order of axes) and for regions whose extents are apart. Says yes where it cannot tell, as for
// views interleaved in two levels.
bool Share(const Region& a, const Region& b);

}  // namespace heed
