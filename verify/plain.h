// verify/plain.h: attention straight from the contract, in float64 (the truth) or rounded where a
// plain 16-bit program rounds. Not here: bounds.
#pragma once

#include "heed/heed.h"
#include "verify/array.h"
#include "verify/call.h"

namespace heed::verify {

/// Every result a call can have, in the shapes of the Problem's outputs, dense. Not asked for: not
/// given().
struct Results {
  Array o, lse, probs;
  Array dq, dk, dv, dbias, dsinks;  ///< with Op::kBackward
  Array k_cache, v_cache;           ///< with a cache: after the append
};

/// In float64 from the inputs as they are, nothing rounded on the way. O(Sq Sk) time, O(Sk) memory
/// per row.
Results Truth(const Problem& problem, const Buffers& buffers);

/// The plain implementation, the yardstick of 16-bit results: products and sums in f32, scores and
/// row state in f32, p (and ds in the backward) rounded to the tensors' dtype before the second
/// products, results rounded once. `round_p` false: p and ds stay in f32, as in a program whose
/// products are f32.
Results Plain(const Problem& problem, const Buffers& buffers, bool round_p = true);

/// Truth of a call that was already brought into one layout (without rounding).
Results Truth(const Call& call);

}  // namespace heed::verify
