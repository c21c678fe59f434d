// row_facts.h: what a block looks up of each of its rows of queries while it walks the keys: found once
// by one thread a row, kept in shared memory behind the tiles, so that no register holds it and no
// loop computes it again. Not here: scores.
#pragma once

#include "cuda/config.h"
#include "cuda/rows.h"

namespace heed::cuda {

struct SeenKeys {
  int first, last;  // the band; keys below the prefix are seen as well
};
struct Position {
  std::int64_t position;  // i + shift
  float slope, spare;     // of the row's head
};
// Elements to the row of each array.
struct ArrayRows {
  std::int64_t bias, mask;
};
struct BlockRow {
  std::int64_t blocks;
  int query, bh;  // for dropout: i, and b * Hq + h
};

// Per row: SeenKeys [8]; in general before them also Position [16], ArrayRows [16], BlockRow [16], each an
// array of its own.
template <class C>
class RowFacts {
 public:
  static constexpr int kRows = C::kRows;

  HEED_DEVICE explicit RowFacts(uint32_t base) : base_(base) {}

  // By all threads; a SyncThreads must follow.
  HEED_DEVICE void Find(const ForwardCall& c, const QueryRows& rows) const {
    HEED_NO_UNROLL
    for (int r = ptx::ThreadIndex(); r < kRows; r += C::kThreads) {
      const std::int64_t i = rows.Query(r), h = rows.Head(r), b = rows.b;
      const Interval band = Band(rows.entry.sees, i);
      ptx::StoreShared(SeenAt(r), SeenKeys{int(band.first), int(band.last)});
      if constexpr (C::kGeneral) {
        const float slope = c.slopes ? ptx::LoadReadOnly(c.slopes + b * c.slopes_batch + h) : 0;
        ptx::StoreShared(base_ + 16 * r, Position{i + rows.entry.sees.shift, slope, 0});
        ptx::StoreShared(base_ + 16 * (kRows + r),
                         ArrayRows{RowAt(c.bias, b, h, i), RowAt(c.mask, b, h, i)});
        ptx::StoreShared(
            base_ + 16 * (2 * kRows + r),
            BlockRow{RowAt(c.block_map, b, h, i / c.block_rows), int(i), int(b * c.q_heads + h)});
      }
    }
  }

  HEED_DEVICE SeenKeys Seen(int r) const { return ptx::LoadShared<SeenKeys>(SeenAt(r)); }
  HEED_DEVICE Position At(int r) const { return ptx::LoadShared<Position>(base_ + 16 * r); }
  HEED_DEVICE ArrayRows Arrays(int r) const {
    return ptx::LoadShared<ArrayRows>(base_ + 16 * (kRows + r));
  }
  HEED_DEVICE BlockRow Blocks(int r) const {
    return ptx::LoadShared<BlockRow>(base_ + 16 * (2 * kRows + r));
  }

 private:
  HEED_DEVICE uint32_t SeenAt(int r) const {
    return base_ + uint32_t((C::kGeneral ? 48 * kRows : 0) + 8 * r);
  }
  static HEED_DEVICE std::int64_t RowAt(const Spread& s, std::int64_t b, std::int64_t h,
                                        std::int64_t i) {
    return b * s.batch + h * s.head + i * s.row;
  }

  uint32_t base_;
};

}  // namespace heed::cuda
