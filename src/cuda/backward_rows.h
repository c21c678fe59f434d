// backward_rows.h: what the kernels of the backward have in common: the tiles of a block in shared
// memory, and what is known of a tile of scores. Not here: the walks.
#pragma once

#include "cuda/config.h"
#include "cuda/gradients.h"
#include "cuda/rows.h"
#include "cuda/tiles.h"

namespace heed::cuda {

// A tile of rows, whole: begun, ended, and nothing beside it. A SyncThreads must follow.
template <class C, class TileOf, int kRows, class Source>
HEED_DEVICE void LoadNow(TileOf to, const Source& from, int dim, bool wide) {
  TileLoad<C, TileOf, kRows, false> load;
  load.Begin(to, from, dim, wide);
  load.End();
}

// What mask and block map say of one tile of scores, where a kernel asked that before.
HEED_DEVICE TileKind KindOf(const ForwardCall& c, std::int64_t b, std::int64_t h, int row,
                            int key) {
  if (!c.kinds.kinds) {
    return c.mask.data || c.block_map.data ? TileKind::kEdge : TileKind::kFull;
  }
  return TileKind(ptx::LoadGlobal(c.kinds.kinds + c.kinds.At(b, h, row / c.kinds.tile_rows) +
                                  key / c.kinds.tile_keys));
}

}  // namespace heed::cuda
