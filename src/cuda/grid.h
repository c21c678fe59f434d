// grid.h: how many blocks the launches around the forward kernel take: append, classify, join, probs.
// For the host and for the kernels alike. Not here: the forward's own grid (ForwardCall::blocks).
#pragma once

#include "cuda/call.h"

namespace heed::cuda {

// Items of work, a warp each, numbered from 0.

// New rows of the cache over (entry, row, kv head), then queries to rotate over (entry, row, head).
HEED_HD std::int64_t NewRows(const ForwardCall& c) {
  return std::int64_t{c.batch} * c.cache.new_len * (c.q_heads / c.group);
}
HEED_HD std::int64_t AppendItems(const ForwardCall& c) {
  const std::int64_t queries = std::int64_t{c.batch} * c.q_len * c.q_heads;
  return NewRows(c) + (c.cache.rotary_dim > 0 ? queries : 0);
}
HEED_HD std::int64_t ClassifyItems(const ForwardCall& c) { return c.kinds.count(); }
// Rows of (entry, kv head, row of its tile).
HEED_HD std::int64_t JoinItems(const ForwardCall& c) {
  return c.split.pieces > 0 ? c.schedule.batch * c.schedule.heads * c.schedule.q_len : 0;
}
// Rows of P.
HEED_HD std::int64_t ProbsItems(const ForwardCall& c) {
  return std::int64_t{c.batch} * c.q_heads * c.q_len;
}

// Blocks of `warps` warps for so many items; 0: nothing to launch. A grid is one-dimensional and may
// have 2^31 - 1 blocks. Warps take items in turns, so fewer blocks than items fill would do as well:
// the limit keeps enough for any device, and a warp's number below 2^31.
inline constexpr std::int64_t kMostBlocks = std::int64_t{1} << 26;
HEED_HD constexpr std::int64_t BlocksFor(std::int64_t items, int warps) {
  return Min(CeilDiv(items, warps), kMostBlocks);
}

}  // namespace heed::cuda
