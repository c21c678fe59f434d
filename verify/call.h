// verify/call.h: one attention call as dense arrays: every layout of the contract (strided, ragged,
// cached, paged) brought into one. Not here: scores.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "heed/heed.h"
#include "verify/array.h"

namespace heed::verify {

/// One entry of the batch: `sq` queries from row q_first of Call::q, `sk` keys from row k_first of
/// Call::k.
struct Sequence {
  std::int64_t index = 0;  ///< b
  std::int64_t q_first = 0, k_first = 0;
  std::int64_t sq = 0, sk = 0;
  std::int64_t shift = 0;
};

/// What `problem` and `buffers` mean. Holds no copy of bias, masks and index arrays: the buffers
/// must outlive it.
struct Call {
  Problem problem;  ///< k_heads, dim_v, scale filled in; causal turned into window_right
  Buffers buffers;
  std::vector<Sequence> sequences;
  std::int64_t q_rows = 0, k_rows = 0;
  Array q, k, v, dout;  ///< (rows, heads, width)
  Array q_size,
      k_size;  ///< with rotary: the sum of the magnitudes each entry was made from; else not given
  Array k_cache, v_cache;  ///< with a cache: its content after the append
  Array k_cache_rotated;   ///< as q_size for the rows that were rotated and appended, 0 elsewhere
  View bias, mask, block_map;

  std::int64_t group() const { return problem.q_heads / problem.k_heads; }
  /// Flat index into lse, (B,Hq,Sq) or (Hq,T).
  std::int64_t LseIndex(const Sequence& s, std::int64_t h, std::int64_t i) const {
    return problem.ragged ? h * q_rows + s.q_first + i
                          : (s.index * problem.q_heads + h) * problem.q_len + i;
  }
};

/// The buffers must pass what the library checks (indices in range); outputs in them are not read.
/// `rounding`: rotated rows are rounded to it as the contract says; nullopt keeps them in float64.
Call MakeCall(const Problem& problem, const Buffers& buffers, std::optional<DType> rounding);

}  // namespace heed::verify
