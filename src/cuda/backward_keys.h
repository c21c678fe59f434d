// backward_keys.h: the kernel of dk and dv: a block has a tile of keys and walks the queries that see
// them, of all heads of the group: S' = K Q', dP' = V dO', dV += P' dO, dK += dS' Q. Nothing is added
// up between blocks. Not here: dq (backward_queries.h).
#pragma once

#include "cuda/backward_rows.h"
#include "cuda/gradient_results.h"

namespace heed::cuda {

// Rows of queries that may see a tile of keys.
HEED_DEVICE Interval QueriesSeeing(const Visibility& v, Interval keys) {
  if (keys.empty()) return {0, 0};
  if (keys.first < v.prefix) return {0, v.sq};
  return {QueriesOf(v, keys.first).first, QueriesOf(v, keys.last - 1).last};
}

// Wide rows have more sums than registers: C::kParts blocks then share a tile of keys, and each adds up
// its part of the columns of dk and dv.
template <class C, class Products>
class KeyBlock {
  using T = typename C::Element;
  static constexpr int kDim = C::kDim, kRows = C::kRows, kKeys = C::kKeys;
  static constexpr int kWidth = kDim / C::kParts;
  static_assert(C::kParts == 1 || kWidth * int(sizeof(T)) % 128 == 0,
                "the permutation of a part's chunks is that of the whole row");
  using KeyTile = typename Products::template Left<kDim>;
  using QueryTile = typename Products::template Right<kDim>;
  using Scores = typename Products::template Fragment<kRows>;
  using Sums = typename Products::template Fragment<kWidth>;
  using View = KeysDown<Scores>;

 public:
  HEED_DEVICE explicit KeyBlock(const BackwardCall& call)
      : c_(call), f_(call.forward), facts_(0), dk_{}, dv_{} {
    k_.base = ptx::SharedBase();
    v_.base = k_.base + KeyTile::Bytes(kKeys);
    q_.base = v_.base + KeyTile::Bytes(kKeys);
    dout_.base = q_.base + QueryTile::Bytes(kRows);
    stage_ = dout_.base + QueryTile::Bytes(kRows);
    facts_ = GradientFacts<C>(stage_ + Products::kStage);
  }

  // Item n. What is known of the entry is found again for every tile of queries and for the end: the
  // sums leave no registers to keep it in.
  HEED_DEVICE void Run(int n, int part) {
    part_ = uint32_t(part * kWidth * int(sizeof(T)));
    {
      const Item item = c_.keys.At(n);
      const Entry entry = EntryOf(f_, item.b);
      const int first = int(item.rows.first);
      if (first >= entry.capacity) return;
      const Interval keys = {first, Min(item.rows.last, entry.sees.sk)};
      const Interval queries = QueriesSeeing(entry.sees, keys);
      if (!queries.empty()) {
        LoadKeys(item, entry);
        const int tiles = int(CeilDiv(queries.last, kRows));
        HEED_NO_UNROLL
        for (int h = 0; h < f_.group; h++) {
          HEED_NO_UNROLL
          for (int i = int(queries.first) / kRows; i < tiles; i++)
            Add(ptx::Forget(n), h, i * kRows);
        }
      }
    }
    Write(ptx::Forget(n), part);
  }

 private:
  HEED_DEVICE void LoadKeys(const Item& item, const Entry& entry) {
    QueryRows rows;
    rows.entry = entry;
    rows.key_head = int(item.h);
    const KeyRows<T> from = KeyRowsOf<T>(f_, rows);
    const int key = int(item.rows.first);
    LoadNow<C, KeyTile, kKeys>(k_, KeySource<T>{f_, from, f_.k, from.k, key}, f_.dim, f_.k.wide);
    LoadNow<C, KeyTile, kKeys>(v_, KeySource<T>{f_, from, f_.v, from.v, key}, f_.dim_v, f_.v.wide);
  }

  // Queries of tile [i, i + kRows) of head h of the group.
  HEED_DEVICE void Add(int n, int h, int i) {
    Edges edges;
    {
      const Item item = c_.keys.At(n);
      QueryRows rows;
      rows.entry = EntryOf(f_, item.b);
      rows.b = item.b;
      rows.head = int(item.h) * f_.group + h;
      rows.first = i;
      rows.count = int(Min(rows.entry.sees.sq - i, kRows));
      const Visibility& sees = rows.entry.sees;
      const int key = int(item.rows.first);
      const Interval keys = {key, Min(item.rows.last, sees.sk)};
      const TileKind kind = KindOf(f_, item.b, rows.head, i, key);
      if (kind == TileKind::kEmpty) return;
      edges = {int(PrefixKeys(sees).last), key, int(keys.last),
               Classify(sees, {i, i + rows.count}, keys) != TileKind::kFull || keys.size() < kKeys,
               kind != TileKind::kFull};
      ptx::SyncThreads();
      facts_.Find(c_, rows);
      LoadNow<C, QueryTile, kRows>(q_, QuerySource<T>{f_.q, rows}, f_.dim, f_.q.wide);
      LoadNow<C, QueryTile, kRows>(dout_, QuerySource<T>{c_.dout, rows}, f_.dim_v, c_.dout.wide);
    }
    ptx::SyncThreads();
    Scores s{}, d{};
    Products::template Multiply<kDim, kRows>(k_, q_, s);
    Products::template Multiply<kDim, kRows>(v_, dout_, d);
    Gradients<C, false>(c_, facts_, edges, View{s}, View{d});
    Products::template Accumulate<kDim, kWidth, kRows>(s, stage_, QueryTile{dout_.base + part_},
                                                       dv_);
    Products::template Accumulate<kDim, kWidth, kRows>(d, stage_, QueryTile{q_.base + part_}, dk_);
  }

  // Rows of both gradients. They go out through the tiles of keys and values, which may just have been
  // written, by other warps, and never looked at.
  HEED_DEVICE void Write(int n, int part) {
    ptx::SyncThreads();
    const Item item = c_.keys.At(n);
    const Entry entry = EntryOf(f_, item.b);
    const int first = int(item.rows.first), count = int(entry.capacity) - first;
    const int col0 = part * kWidth;
    float scale[Sums::kRows];
    const auto rows = [&](const Gradient& to, int dim) {
      return [&, dim](int row, int col, ptx::F32x4 x) {
        if (row >= count) return;
        const std::int64_t at = entry.key_batch * to.steps.batch + item.h * to.steps.head +
                                (entry.key_row + first + row) * to.steps.row;
        DeliverRow<T>(c_, to, at + col0 + col, x, dim - col0 - col);
      };
    };
    HEED_UNROLL
    for (int r = 0; r < Sums::kRows; r++) scale[r] = f_.terms.scale;
    StageRows<C, kKeys, Sums, kWidth>(k_.base, dk_, scale, rows(c_.dk, f_.dim));
    HEED_UNROLL
    for (int r = 0; r < Sums::kRows; r++) scale[r] = 1;
    StageRows<C, kKeys, Sums, kWidth>(v_.base, dv_, scale, rows(c_.dv, f_.dim_v));
  }

  const BackwardCall& c_;
  const ForwardCall& f_;
  KeyTile k_, v_;
  QueryTile q_, dout_;
  uint32_t stage_ = 0, part_ = 0;
  GradientFacts<C> facts_;
  Sums dk_, dv_;
};

template <class C, class Products>
HEED_DEVICE void BackwardKeys(const BackwardCall& c) {
  KeyBlock<C, Products> block(c);
  block.Run(ptx::BlockX() / C::kParts, ptx::BlockX() % C::kParts);
}

}  // namespace heed::cuda
