// backward.h: the walk of one backward work item: blocks of keys, and for each the tiles of queries
// that see it. Not here: tiles (gradient_tile.h), sums (tiles.h), what is known of each query
// beforehand and what becomes of the partial sums (backward_rows.h), threads.
#pragma once

#include "cpu/backward_block.h"
#include "cpu/gradient_runs.h"
#include "cpu/gradient_store.h"
#include "cpu/runs.h"

namespace heed::cpu::HEED_ISA {

template <class F>
class Backward : BackwardBlock<F> {
  using Base = BackwardBlock<F>;
  using E = typename F::E;
  using X = typename F::X;
  using U = typename X::U;
  using Base::b_;
  using Base::c_;
  using Base::entry_;
  using Base::in_;
  using Base::keys_;
  using Base::w_;
  static constexpr int kPair = X::kPair;

 public:
  using Base::Base;

  // Items are (chain, part).
  void Items(std::int64_t first, std::int64_t last) {
    for (std::int64_t n = first; n < last; n++)
      for (std::int64_t unit = c_.first; unit < c_.last; unit++)
        if (c_.ChainOf(unit) == n / c_.parts) Unit(unit, n % c_.parts);
    EndStreams();
  }

 private:
  void Unit(std::int64_t unit, std::int64_t part) {
    Base::BeginUnit(unit);
    const KeyCut cut = CutOf(c_, entry_.sees.sk);
    unit_ = unit;
    part_ = part;
    if (part == 0) ClearHiddenKeys();
    if (part >= cut.parts) return;
    for (std::int64_t g = 0; g < in_.group; g++) {
      const std::int64_t rows = c_.PartRows(unit, part, g);
      const auto count = static_cast<std::size_t>(entry_.sees.sq);
      __builtin_memset(c_.dq_parts + rows * c_.dq_step, 0, count * c_.dq_step * sizeof(float));
      if (c_.bias_parts) __builtin_memset(c_.bias_parts + rows, 0, count * sizeof(float));
    }
    for (std::int64_t n = part; n < cut.blocks; n += cut.parts) {
      const std::int64_t k0 = n * cut.keys;
      Block(k0, static_cast<int>(heed::Min(cut.keys, entry_.sees.sk - k0)));
    }
  }

  // One block of keys, whose dk and dv are complete afterwards.
  void Block(std::int64_t k0, int keys) {
    Base::PackKeys(k0, keys);
    __builtin_memset(w_.dk, 0, static_cast<std::size_t>(keys) * w_.padded * sizeof(float));
    __builtin_memset(w_.dv, 0, static_cast<std::size_t>(keys) * w_.padded_v * sizeof(float));
    const Visibility& sees = entry_.sees;
    // Both ends move forward with the key, so those of the block are its first and last key's.
    const std::int64_t first = QueriesOf(sees, k0).first,
                       last = QueriesOf(sees, k0 + keys - 1).last;
    const std::int64_t from = k0 < sees.prefix ? 0 : first, to = k0 < sees.prefix ? sees.sq : last;
    for (std::int64_t g = 0; g < in_.group; g++) {
      head_ = Base::kv_head_ * in_.group + g;
      g_ = g;
      if (c_.dbias.kind == BiasGradient::Kind::kKeys)
        __builtin_memset(w_.dbias->keys, 0,
                         static_cast<std::size_t>(keys) * sizeof w_.dbias->keys[0]);
      for (std::int64_t i = from / kRows * kRows; i < to;) {
        int tiles = 0;
        for (; tiles < c_.blocks.tiles && i + tiles * kRows < to; tiles++)
          Tile(tiles, i + tiles * kRows, k0, keys);
        AddKeySums(i, tiles, k0, keys);
        i += tiles * kRows;
      }
      if (c_.dbias.kind == BiasGradient::Kind::kKeys) AddKeyBias(k0, keys);
    }
    WriteKeys(k0, keys);
  }

  // Queries [i, i + kRows) against the block: P and dS, and what they add to dq.
  void Tile(int t, std::int64_t i, std::int64_t k0, int keys) {
    const Item item = {b_, head_, {i, heed::Min(i + kRows, entry_.sees.sq)}};
    Base::BeginTile(t, item);
    Live& live = w_.live[t];
    Base::FindLive(t, k0, keys);
    if (!live.live) return;
    Base::PackQueries(t, item);
    const std::int64_t facts = c_.HeadRows(unit_, g_) + i;
    GradientArgs<X> a = Base::ArgsOf(t, k0, keys, facts);
    if (c_.bias_parts) __builtin_memset(w_.dbias->queries, 0, sizeof w_.dbias->queries);
    int staged = -1;  // the keys that dbias->pairs holds
    for (int key = 0; key < keys; key += kKeys) {
      const Columns bit = Columns{1} << key / kKeys;
      if (!(live.live & bit)) {
        ClearColumn(t, key, bit, a);
        continue;
      }
      clear_[t] &= ~bit;
      const int count = Base::Aim(t, k0, keys, key, &a);
      const bool edge = Base::IsEdge(t, key, a.s.at, count);
      if (a.kind == BiasGradient::Kind::kPairs) staged = StagePairs(staged, key, t, k0, keys);
      Tiles<kVecs>(a, count, edge);
      for (int v = 0; v < w_.rows[t].vectors; v++)
        if (v < a.s.at || v >= a.s.at + count) ClearGradients<X>(a, key, v * W);
    }
    if (staged >= 0) FlushPairs(staged, t, k0, keys);
    AddQuerySums(t, i, k0);
    if (c_.bias_parts) AddQueryBias(t, i);
  }

  template <int kCount>
  static HEED_INLINE void Tiles(const GradientArgs<X>& a, int count, bool edge) {
    if constexpr (kCount > 1)
      if (count < kCount) return Tiles<kCount - 1>(a, count, edge);
    if (edge || a.general)
      GradientTile<X, kCount>(a, edge);
    else
      FastGradientTile<X, kCount>(a);
  }

  // A column that nobody sees: its rows are zeros, since the sums take several keys at once. Once
  // cleared it stays so until it is written to.
  void ClearColumn(int t, int key, Columns bit, const GradientArgs<X>& a) {
    if (clear_[t] & bit) return;
    clear_[t] |= bit;
    for (int v = 0; v < kVecs; v++) ClearGradients<X>(a, key, v * W);
  }

  // dq of tile t: dS times K, into the part's sum.
  void AddQuerySums(int t, std::int64_t i, std::int64_t k0) {
    float* const dq = c_.dq_parts + (c_.PartRows(unit_, part_, g_) + i) * c_.dq_step;
    for (int v = 0, take; v < w_.padded / W; v += take) {
      take = Take(w_.padded / W - v);
      QuerySumsOf<kMaxCols>(t, k0, take, v, dq + v * W);
    }
  }
  template <int kCols>
  void QuerySumsOf(int t, std::int64_t k0, int take, int v, float* dq) {
    if constexpr (kCols > 1)
      if (take < kCols) return QuerySumsOf<kCols - 1>(t, k0, take, v, dq);
    constexpr int kStep = AccumulateRows(kCols);
    const RowState& rows = w_.rows[t];
    AccumulateArgs a = {};
    a.x = Base::KeysForSums(k0) + v * W;
    a.x_step = Base::KeysForSumsStep();
    a.from_step = a.out_step = c_.dq_step;
    for (int r = 0; r < rows.rows; r += kStep) {
      Run runs[kMostRuns];
      a.runs = runs;
      a.count = RunsOf<kPair>(rows, w_.live[t], r, kStep, k0, runs);
      if (a.count == 0) continue;
      a.pt = w_.zs + t * kRows + r;
      a.from = a.out = dq + static_cast<std::int64_t>(r) * c_.dq_step;
      a.rows = rows.rows - r < kStep ? rows.rows - r : kStep;
      AccumulateTile<X, kCols, kDown, 1>(a);
    }
  }

  // dk and dv of the block: transposes of dS and P times Q and dout of `tiles` tiles from query i on.
  void AddKeySums(std::int64_t i, int tiles, std::int64_t k0, int keys) {
    bool any = false;
    for (int t = 0; t < tiles; t++) any |= w_.live[t].live != 0;
    if (!any) return;
    for (int v = 0, take; v < w_.padded_v / W; v += take) {
      take = Take(w_.padded_v / W - v);
      KeySumsOf<kMaxCols>(tiles, k0, keys, take,
                          {w_.p, Base::DoutForSums(head_, i) + v * W, Base::DoutForSumsStep(),
                           w_.dv + v * W, w_.padded_v});
    }
    for (int v = 0, take; v < w_.padded / W; v += take) {
      take = Take(w_.padded / W - v);
      KeySumsOf<kMaxCols>(tiles, k0, keys, take,
                          {w_.ds, Base::QueriesForSums(head_, i) + v * W,
                           Base::QueriesForSumsStep(), w_.dk + v * W, w_.padded});
    }
  }
  struct KeySums {
    const U *pt, *x;
    std::int64_t x_step;
    float* sums;
    int step;
  };
  template <int kCols>
  void KeySumsOf(int tiles, std::int64_t k0, int keys, int take, const KeySums& s) {
    if constexpr (kCols > 1)
      if (take < kCols) return KeySumsOf<kCols - 1>(tiles, k0, keys, take, s);
    constexpr int kStep = AccumulateRows(kCols);
    AccumulateArgs a = {};
    a.x = s.x;
    a.x_step = s.x_step;
    a.from_step = a.out_step = s.step;
    for (int key = 0; key < keys; key += kStep) {
      const int end = key + kStep < keys ? key + kStep : keys;
      Run runs[kGradTiles];
      int n = 0;
      for (int t = 0; t < tiles; t++)
        n = AddRowRun<kPair>(w_.rows[t], w_.live[t], t, k0, key, end, runs, n);
      if (n == 0) continue;
      a.runs = runs;
      a.count = n;
      a.pt = s.pt + static_cast<std::int64_t>(key) * kAcross<X>;
      a.from = a.out = s.sums + static_cast<std::int64_t>(key) * s.step;
      a.rows = end - key;
      AccumulateTile<X, kCols, 1, kAcross<X>>(a);
    }
  }

  // Of `left` vectors of columns those that one call takes: 4, 4, .. and then what is left, 5 as 3 + 2.
  static int Take(int left) {
    if (left == kMaxCols + 1 && kMaxCols > 2) return kMaxCols - 1;
    return left < kMaxCols ? left : kMaxCols;
  }

  // ---------------------------------------------------------------- the bias

  // Keys [key, key + kKeys) are about to be staged; those before are written where a stage is full.
  int StagePairs(int staged, int key, int t, std::int64_t k0, int keys) {
    constexpr int kAtOnce = BiasGradientStage::kKeysAtOnce;
    const int first = key / kAtOnce * kAtOnce;
    if (staged == first) return staged;
    if (staged >= 0) FlushPairs(staged, t, k0, keys);
    __builtin_memset(w_.dbias->pairs, 0, sizeof w_.dbias->pairs);
    return first;
  }
  void FlushPairs(int staged, int t, std::int64_t k0, int keys) {
    const int left = keys - staged;
    const int count = left < BiasGradientStage::kKeysAtOnce ? left : BiasGradientStage::kKeysAtOnce;
    if (!c_.dbias.direct || c_.dbias.f32)
      WritePairs<Format<DType::kF32>>(c_.dbias, b_, w_.facts[t], w_.rows[t].rows, k0 + staged,
                                      count, w_.dbias);
    else
      WritePairs<F>(c_.dbias, b_, w_.facts[t], w_.rows[t].rows, k0 + staged, count, w_.dbias);
  }

  void AddKeyBias(std::int64_t k0, int keys) {
    float* const to = SumsOf(c_.dbias.to, b_, head_, 0);
    for (int key = 0; key < keys; key++)
      to[(k0 + key) * c_.dbias.to.col] += SumLanes(Load(w_.dbias->keys[key]));
  }

  void AddQueryBias(int t, std::int64_t i) {
    float* const to = c_.bias_parts + c_.PartRows(unit_, part_, g_) + i;
    for (int r = 0; r < w_.rows[t].rows; r++) to[r] += w_.dbias->queries[r];
  }

  // ---------------------------------------------------------------- results

  void WriteKeys(std::int64_t k0, int keys) {
    for (int r = 0; r < keys; r++) {
      const std::int64_t row = entry_.key_row + k0 + r;
      StoreGradientRow<F>(c_, w_.dk + static_cast<std::int64_t>(r) * w_.padded, in_.dim,
                          in_.terms.scale, c_.dk, c_.dk_steps, entry_.key_batch, row,
                          Base::kv_head_);
      StoreGradientRow<F>(c_, w_.dv + static_cast<std::int64_t>(r) * w_.padded_v, in_.dim_v,
                          in_.keep_factor, c_.dv, c_.dv_steps, entry_.key_batch, row,
                          Base::kv_head_);
    }
  }

  // Rows of dk and dv that belong to the entry, but to none of its keys.
  void ClearHiddenKeys() {
    if (c_.accumulate) return;
    const std::int64_t rows =
        in_.cu_seqlens_k ? in_.cu_seqlens_k[b_ + 1] - in_.cu_seqlens_k[b_] : c_.rows_k;
    __builtin_memset(w_.row, 0, static_cast<std::size_t>(heed::Max(w_.padded, w_.padded_v)) * 4);
    for (std::int64_t j = entry_.sees.sk; j < rows; j++) {
      StoreGradientRow<F>(c_, w_.row, in_.dim, 0, c_.dk, c_.dk_steps, entry_.key_batch,
                          entry_.key_row + j, Base::kv_head_);
      StoreGradientRow<F>(c_, w_.row, in_.dim_v, 0, c_.dv, c_.dv_steps, entry_.key_batch,
                          entry_.key_row + j, Base::kv_head_);
    }
  }

  std::int64_t unit_ = 0, part_ = 0, head_ = 0, g_ = 0;
  Columns clear_[kGradTiles] = {};  // of each tile: columns whose P and dS are zero
};

}  // namespace heed::cpu::HEED_ISA
