// backward_rows.h: what the kernels of the backward have in common: the tiles of a block in shared
// memory, and the rows of dout. Not here: the walks.
#pragma once

#include "cuda/config.h"
#include "cuda/gradients.h"
#include "cuda/rows.h"
#include "cuda/tiles.h"

namespace heed::cuda {

template <class T>
struct DoutSource {
  const BackwardCall& call;
  const QueryRows& rows;

  HEED_DEVICE bool Exists(int r) const { return r < rows.count; }
  HEED_DEVICE const T* At(int r) const {
    return static_cast<const T*>(call.dout.data) +
           QueryAt(call.dout.steps, rows.entry, rows.head, rows.Query(r));
  }
  HEED_DEVICE int First() const { return rows.first; }
  HEED_DEVICE const T* Start() const {
    return static_cast<const T*>(call.dout.data) +
           QueryAt(call.dout.steps, rows.entry, rows.head, 0);
  }
  HEED_DEVICE bool Even(int* step) const { return FitsTile(call.dout.steps.row, step); }
};

// Rows of keys of an entry that lie in its tensors, whether they exist or not: gradients of those
// beyond its length are 0.
HEED_DEVICE int KeyCapacity(const ForwardCall& c, std::int64_t b) {
  if (!c.cu_seqlens_k) return c.k_len;
  const std::int64_t first = Within(c.cu_seqlens_k, b, 0, c.total_k);
  return int(Min(Within(c.cu_seqlens_k, b + 1, first, c.total_k) - first, c.k_len));
}

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
