// schedule.h: how the work of one call is cut into items, and which item comes when. Integers only;
// host and device. Not here: who takes an item (threads, grids), what is computed in it. The bits
// of a result never depend on the order.
#pragma once

#include <cstdint>

#include "problem/visibility.h"

namespace heed {

// Query rows of one (batch entry, query head).
struct Item {
  std::int64_t b = 0, h = 0;
  Interval rows;
};

HEED_HD constexpr std::int64_t CeilDiv(std::int64_t a, std::int64_t b) {  // a >= 0, b > 0
  return a == 0 ? 0 : (a - 1) / b + 1;
}

// Whether later tiles have more keys to visit: then they go first, so that what is left for the end
// of a parallel loop is small.
HEED_HD constexpr bool LaterRowsSeeMore(const Visibility& v) {
  return v.right >= 0 && v.left < 0 && v.chunk == 0;
}

// Dense batches: tiles of tile_rows queries, numbered over (b, h, tile). Consecutive items are
// consecutive tiles of one head, whose keys they share.
struct ForwardSchedule {
  std::int64_t batch = 0, heads = 0, q_len = 0;
  std::int64_t tile_rows = 1;
  bool reverse = false;  // within a head the last rows first

  HEED_HD constexpr std::int64_t tiles() const { return CeilDiv(q_len, tile_rows); }
  HEED_HD constexpr std::int64_t items() const { return batch * heads * tiles(); }

  HEED_HD constexpr Item At(std::int64_t n) const {
    const std::int64_t per_head = tiles(), bh = n / per_head, at = n - bh * per_head;
    const std::int64_t tile = reverse ? per_head - 1 - at : at;
    return {bh / heads, bh % heads, {tile * tile_rows, Min((tile + 1) * tile_rows, q_len)}};
  }
};

// Ragged batches: rows count within the sequence. Sequence b owns floor(cu[b+1]/t) - floor(cu[b]/t)
// + 1 tiles of t rows a head, never fewer than it needs: so the number of items follows from the
// total alone (cu_seqlens may live on a device), a tile is found by bisection, and a few items are
// empty.
struct RaggedForwardSchedule {
  std::int64_t batch = 0, heads = 0, total_q = 0;
  std::int64_t tile_rows = 1;
  const std::int32_t* cu_seqlens = nullptr;  // (batch + 1), ascending from 0 to total_q
  bool reverse = false;

  HEED_HD constexpr std::int64_t items() const { return heads * (total_q / tile_rows + batch); }

  HEED_HD constexpr Item At(std::int64_t n) const {
    std::int64_t low = 0, high = batch;  // Before(low) <= n < Before(high)
    while (high - low > 1) {
      const std::int64_t middle = low + (high - low) / 2;
      (Before(middle) <= n ? low : high) = middle;
    }
    const std::int64_t length = cu_seqlens[low + 1] - cu_seqlens[low];
    const std::int64_t per_head = (Before(low + 1) - Before(low)) / heads, in = n - Before(low);
    const std::int64_t at = in % per_head, tile = reverse ? per_head - 1 - at : at;
    return {
        low, in / per_head, {Min(tile * tile_rows, length), Min((tile + 1) * tile_rows, length)}};
  }

 private:
  // Items of the sequences before b.
  HEED_HD constexpr std::int64_t Before(std::int64_t b) const {
    return heads * (cu_seqlens[b] / tile_rows + b);
  }
};

// The backward: the keys of one sequence in blocks, dealt to `parts` items.
struct KeyCut {
  std::int64_t keys = 0, blocks = 0, parts = 0;  // keys of a block (the last may have fewer)
  bool adjacent = false;

  // Block n of a part, n < CeilDiv(blocks, parts); not below `blocks`: there is none. Dealt forth and
  // back, so that with causal masks, where later blocks are shorter, all parts are equally long. Or
  // adjacent ones: in a band they share queries, and few parts add to the same dq.
  HEED_HD constexpr std::int64_t Block(std::int64_t part, std::int64_t n) const {
    if (adjacent) return part * CeilDiv(blocks, parts) + n;
    return n * parts + (n % 2 ? parts - 1 - part : part);
  }
};

inline constexpr int kMostParts = 8;

// Whether queries see few of the keys each, near their own place, and together most of them: so that
// adjacent blocks, and equally many, are equal work.
HEED_HD constexpr bool IsNarrowBand(const Visibility& v) {
  if (v.sq < v.sk / 2 || v.sq > v.sk * 2) return false;
  if (v.chunk > 0 && v.chunk <= v.sk / 4) return true;
  return v.left >= 0 && v.right >= 0 && v.left + v.right < v.sk / 4;
}

HEED_HD constexpr std::int64_t PartsOf(std::int64_t least) {
  return least >= 16 ? kMostParts : least >= 8 ? 4 : least >= 4 ? 2 : 1;
}
// The most blocks that CutKeys makes of `sk` keys, or of fewer.
HEED_HD constexpr std::int64_t MostBlocks(std::int64_t sk, std::int64_t most) {
  const std::int64_t least = CeilDiv(sk, most), parts = PartsOf(least);
  return CeilDiv(least, parts) * parts;
}

// Blocks of at most `most` keys (a multiple of `step`) and of nearly one size, as many as the parts
// share evenly: so two or four threads finish a single head together. Each part has a dq of its own
// to be summed, hence few.
HEED_HD constexpr KeyCut CutKeys(std::int64_t sk, std::int64_t most, std::int64_t step,
                                 bool adjacent = false) {
  if (sk <= 0) return {};
  const std::int64_t parts = PartsOf(CeilDiv(sk, most));
  const std::int64_t keys = CeilDiv(CeilDiv(sk, MostBlocks(sk, most)), step) * step;
  const std::int64_t blocks = CeilDiv(sk, keys);
  return {keys, blocks, parts, adjacent};
}

}  // namespace heed
