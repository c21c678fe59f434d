// backward_bias.h: the kernel of dbias: a block has one tile of it, walks all tiles of scores that are
// added up in it (axes over which the bias is broadcast), computes their gradient once more, and adds
// in a fixed order: no partial sums in memory, the same bits every time. Not here: dq, dk, dv.
#pragma once

#include "cuda/backward_rows.h"
#include "cuda/gradient_results.h"

namespace heed::cuda {

template <class C, class Products>
class BiasBlock {
  using T = typename C::Element;
  static constexpr int kDim = C::kDim, kRows = C::kRows, kKeys = C::kKeys;
  using QueryTile = typename Products::template Left<kDim>;
  using KeyTile = typename Products::template Right<kDim>;
  using Scores = typename Products::template Fragment<kKeys>;
  using View = QueriesDown<Scores>;
  static_assert(4 * kRows * kKeys <= 2 * int(QueryTile::Bytes(kRows) + KeyTile::Bytes(kKeys)),
                "the tile of sums lies where the others were");

 public:
  HEED_DEVICE explicit BiasBlock(const BackwardCall& call)
      : c_(call), f_(call.forward), facts_(0), sums_{} {
    q_.base = ptx::SharedBase();
    dout_.base = q_.base + QueryTile::Bytes(kRows);
    k_.base = dout_.base + QueryTile::Bytes(kRows);
    v_.base = k_.base + KeyTile::Bytes(kKeys);
    facts_ = GradientFacts<C>(v_.base + KeyTile::Bytes(kKeys) + Products::kStage);
  }

  HEED_DEVICE void Run(std::int64_t n) {
    const std::int64_t across = c_.bias_key_tiles(), down = c_.bias_row_tiles();
    const std::int64_t bh = n / (down * across), in = n - bh * down * across;
    const std::int64_t b = bh / c_.bias_heads, h = bh - b * c_.bias_heads;
    const std::int64_t row = in / across, key = in - row * across;
    const auto along = [](std::int64_t size, std::int64_t at, std::int64_t all) {
      return size == 1 ? Interval{0, all} : Interval{at, at + 1};
    };
    const Interval entries = along(c_.bias_batch, b, f_.batch);
    const Interval heads = along(c_.bias_heads, h, f_.q_heads);
    const Interval rows = along(c_.bias_rows, row, CeilDiv(f_.q_len, kRows));
    const Interval keys = along(c_.bias_cols, key, CeilDiv(f_.k_len, kKeys));
    for (std::int64_t e = entries.first; e < entries.last; e++) {
      for (std::int64_t g = heads.first; g < heads.last; g++) {
        for (std::int64_t i = rows.first; i < rows.last; i++) AddRow({e, g, {i * kRows, 0}}, keys);
      }
    }
    Write(bh, int(row) * kRows, int(key) * kKeys);
  }

 private:
  // One tile of queries, against tiles [keys.first, keys.last) of keys.
  HEED_DEVICE void AddRow(Item item, Interval keys) {
    item.rows.last = item.rows.first + kRows;
    const QueryRows rows = QueryRowsOf(f_, item);
    if (rows.count == 0) return;
    const Visibility& sees = rows.entry.sees;
    bool loaded = false;
    for (std::int64_t n = keys.first; n < keys.last && n * kKeys < sees.sk; n++) {
      const int key = int(n) * kKeys;
      const Interval exist = {key, Min(key + kKeys, sees.sk)};
      const TileKind by_position = Classify(sees, rows.Queries(), exist);
      const TileKind by_arrays = KindOf(f_, rows.b, rows.head, rows.first, key);
      if (by_position == TileKind::kEmpty || by_arrays == TileKind::kEmpty) continue;
      ptx::SyncThreads();
      if (!loaded) {
        facts_.Find(c_, rows);
        LoadNow<C, QueryTile, kRows>(q_, QuerySource<T>{f_.q, rows}, f_.dim, f_.q.wide);
        LoadNow<C, QueryTile, kRows>(dout_, QuerySource<T>{c_.dout, rows}, f_.dim_v, c_.dout.wide);
        loaded = true;
      }
      const KeyRows<T> from = KeyRowsOf<T>(f_, rows);
      LoadNow<C, KeyTile, kKeys>(k_, KeySource<T>{f_, from, f_.k, from.k, key}, f_.dim, f_.k.wide);
      LoadNow<C, KeyTile, kKeys>(v_, KeySource<T>{f_, from, f_.v, from.v, key}, f_.dim_v,
                                 f_.v.wide);
      ptx::SyncThreads();
      Scores s{}, d{};
      Products::template Multiply<kDim, kKeys>(q_, k_, s);
      Products::template Multiply<kDim, kKeys>(dout_, v_, d);
      Gradients<C, true>(
          c_, facts_,
          {int(PrefixKeys(sees).last), key, int(sees.sk),
           by_position != TileKind::kFull || exist.size() < kKeys, by_arrays != TileKind::kFull},
          View{s}, View{d});
      HEED_UNROLL
      for (int r = 0; r < Scores::kRows; r++) {
        HEED_UNROLL
        for (int col = 0; col < Scores::kCols; col++) sums_(r, col) += d(r, col);
      }
    }
  }

  HEED_DEVICE uint32_t SumAt(int row, int col) const {
    return q_.base + uint32_t(4 * (row * kKeys + col));
  }
  // Sum number n of the tile: an element, or a sum over a broadcast axis, or over both.
  HEED_DEVICE float SumOf(int rows, int cols, int n) const {
    const int row = cols == 1 ? n : n / kKeys, col = cols == 1 ? 0 : n % kKeys;
    float sum = 0;
    for (int r = rows == 1 ? 0 : row; r < (rows == 1 ? kRows : row + 1); r++) {
      for (int k = cols == 1 ? 0 : col; k < (cols == 1 ? kKeys : col + 1); k++) {
        sum += ptx::LoadShared<float>(SumAt(r, k));
      }
    }
    return sum;
  }

  // The tile at row, key of matrix bh.
  HEED_DEVICE void Write(std::int64_t bh, int row, int key) {
    ptx::SyncThreads();
    HEED_UNROLL
    for (int r = 0; r < Scores::kRows; r++) {
      HEED_UNROLL
      for (int col = 0; col < Scores::kCols; col++) {
        ptx::StoreShared(SumAt(Scores::Row(r), Scores::Col(col)), sums_(r, col));
      }
    }
    ptx::SyncThreads();
    const int rows = c_.bias_rows, cols = c_.bias_cols;
    const int down = rows == 1 ? 1 : kRows, across = cols == 1 ? 1 : kKeys;
    HEED_NO_UNROLL
    for (int n = ptx::ThreadIndex(); n < down * across; n += C::kThreads) {
      const int i = row + (cols == 1 ? n : n / kKeys), j = key + (cols == 1 ? 0 : n % kKeys);
      if (i >= rows || j >= cols) continue;
      const std::int64_t at = (bh * rows + i) * cols + j;
      const float sum = SumOf(rows, cols, n);
      if (c_.dbias_f32) {
        Deliver(static_cast<float*>(c_.dbias) + at, sum, c_.accumulate);
      } else {
        Deliver(static_cast<T*>(c_.dbias) + at, sum, c_.accumulate);
      }
    }
  }

  const BackwardCall& c_;
  const ForwardCall& f_;
  QueryTile q_, dout_;
  KeyTile k_, v_;
  GradientFacts<C> facts_;
  Scores sums_;
};

template <class C, class Products>
HEED_DEVICE void BackwardBias(const BackwardCall& c) {
  BiasBlock<C, Products> block(c);
  block.Run(ptx::BlockX());
}

}  // namespace heed::cuda
