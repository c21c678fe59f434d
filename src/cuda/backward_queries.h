// backward_queries.h: the kernel of dq: a block has a tile of queries and walks the keys that they see:
// S = Q K', dP = dO V', dQ += dS K. Nothing is added up between blocks. Not here: dk and dv
// (backward_keys.h).
#pragma once

#include "cuda/backward_rows.h"
#include "cuda/gradient_results.h"

namespace heed::cuda {

// The rows of item n, found again, as no register held them all the while.
template <class C, class Sums>
HEED_DEVICE void WriteQueries(const BackwardCall& c, int n, uint32_t stage, Sums& sums) {
  using T = typename C::Element;
  const ForwardCall& f = c.forward;
  const QueryRows rows = QueryRowsOf(f, f.schedule.At(n));
  float scale[Sums::kRows];
  HEED_UNROLL
  for (int r = 0; r < Sums::kRows; r++) scale[r] = f.terms.scale;
  StageRows<C, C::kRows, Sums, C::kDim>(stage, sums, scale, [&](int row, int col, ptx::F32x4 x) {
    if (row >= rows.count) return;
    // A row that sees nothing has gradient 0, whatever the keys of others are.
    const std::int64_t at = LseAt(f, rows.entry, rows.b, rows.head, rows.Query(row));
    if (ptx::LoadGlobal(c.rows + at).factor == 0) x = {0, 0, 0, 0};
    DeliverRow<T>(c, c.dq, QueryAt(c.dq.steps, rows.entry, rows.head, rows.Query(row)) + col, x,
                  f.dim - col);
  });
}

// The shared memory of a block: tiles of Q and dO, of K and V; what a product stages; facts of rows.
template <class C, class Products>
HEED_DEVICE void BackwardQueries(const BackwardCall& c) {
  using T = typename C::Element;
  constexpr int kDim = C::kDim, kRows = C::kRows, kKeys = C::kKeys;
  using QueryTile = typename Products::template Left<kDim>;
  using KeyTile = typename Products::template Right<kDim>;
  using Scores = typename Products::template Fragment<kKeys>;
  using Sums = typename Products::template Fragment<kDim>;
  using View = QueriesDown<Scores>;

  const ForwardCall& f = c.forward;
  const QueryRows rows = QueryRowsOf(f, f.schedule.At(ptx::BlockX()));
  if (rows.count == 0) return;
  const QueryTile q{ptx::SharedBase()}, dout{q.base + QueryTile::Bytes(kRows)};
  const KeyTile k{dout.base + QueryTile::Bytes(kRows)}, v{k.base + KeyTile::Bytes(kKeys)};
  const uint32_t stage = v.base + KeyTile::Bytes(kKeys);
  const GradientFacts<C> facts(stage + Products::kStage);

  Sums sums{};
  KeyWalk<kKeys> walk(f, rows, {0, rows.entry.sees.sk});
  if (!walk.Done()) {
    facts.Find(c, rows);
    LoadNow<C, QueryTile, kRows>(q, QuerySource<T>{f.q, rows}, f.dim, f.q.wide);
    LoadNow<C, QueryTile, kRows>(dout, QuerySource<T>{c.dout, rows}, f.dim_v, c.dout.wide);
  }
  const KeyRows<T> keys = KeyRowsOf<T>(f, rows);
  for (; !walk.Done(); walk.Next()) {
    const int key = walk.Key();
    LoadNow<C, KeyTile, kKeys>(k, KeySource<T>{f, keys, f.k, keys.k, key}, f.dim, f.k.wide);
    LoadNow<C, KeyTile, kKeys>(v, KeySource<T>{f, keys, f.v, keys.v, key}, f.dim_v, f.v.wide);
    ptx::SyncThreads();
    Scores s{}, d{};
    Products::template Multiply<kDim, kKeys>(q, k, s);
    Products::template Multiply<kDim, kKeys>(dout, v, d);
    Gradients<C, false>(c, facts,
                        {walk.Prefix(), key, keys.end, !walk.AllByPosition(), !walk.AllByArrays(f)},
                        View{s}, View{d});
    Products::template Accumulate<kDim, kDim, kKeys>(d, stage, k, sums);
    ptx::SyncThreads();
  }

  WriteQueries<C>(c, ptx::Forget(ptx::BlockX()), q.base, sums);
}

}  // namespace heed::cuda
