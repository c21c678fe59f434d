// verify/tolerance.h: how far each element of each result may be from the truth: derived, never
// tuned (docs/numerics.md). Not here: comparing.
#pragma once

#include "heed/heed.h"
#include "verify/plain.h"

namespace heed::verify {

/// Bounds of every result that the problem asks for, one per element, in the shapes of Results.
/// `expected` holds float64 results (Truth, or a file's, stored in f32).
///
/// f32 and f64 tensors: a bound on what rounding can do to any order of the same sums, from the
/// data. 16-bit tensors: twice the largest error of Plain on the same data plus one ulp of the
/// dtype at the value; lse, which is f32 for them, too, is bounded as for f32 with the constants of
/// 16-bit kernels. An element that may be anything has an infinite bound.
Results BoundsFor(const Problem& problem, const Buffers& buffers, const Results& expected);

/// The bounds that come from the data alone; `gradients` false leaves those out.
Results DerivedBounds(const Problem& problem, const Buffers& buffers, bool gradients = true);

}  // namespace heed::verify
