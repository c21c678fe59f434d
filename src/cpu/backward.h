// backward.h: the walk of one backward work item: blocks of keys, and for each the tiles of queries
// that see it. Not here: tiles (gradient_tile.h), sums (backward_sums.h), what is known of each query
// beforehand and what becomes of the partial sums (backward_rows.h), threads.
#pragma once

#include "cpu/backward_sums.h"
#include "cpu/gradient_store.h"

namespace heed::cpu::HEED_ISA {

template <class F>
class Backward : BackwardSums<F> {
  using Base = BackwardSums<F>;
  using E = typename F::E;
  using X = typename F::X;
  using Base::b_;
  using Base::c_;
  using Base::dk_;
  using Base::dv_;
  using Base::entry_;
  using Base::g_;
  using Base::head_;
  using Base::in_;
  using Base::part_;
  using Base::unit_;
  using Base::w_;
  using typename Base::Packed;

 public:
  using Base::Base;

  // Items are (chain, part), or with chains_parts chains.
  void Items(std::int64_t first, std::int64_t last) {
    const std::int64_t per_chain = c_.chains_parts ? 1 : c_.parts;
    for (std::int64_t n = first; n < last; n++) {
      const BackwardCall::Chain chain = c_.ChainAt(n / per_chain);
      for (std::int64_t unit = chain.first; unit < chain.last; unit += chain.step)
        for (std::int64_t part = n % per_chain; part < c_.parts;
             part += per_chain == 1 ? 1 : c_.parts)
          Unit(unit, part);
    }
    EndStreams();
  }

 private:
  void Unit(std::int64_t unit, std::int64_t part) {
    Base::BeginUnit(unit);
    const KeyCut cut = CutOf(c_, entry_.sees);
    unit_ = unit;
    part_ = part;
    if (part == 0 && c_.g_first == 0) ClearHiddenKeys();
    if (part >= cut.parts) return;
    const std::int64_t rows = c_.PartRows(unit, part, c_.g_first), count = c_.heads * c_.rows;
    __builtin_memset(c_.touched + rows / kRows, 0, static_cast<std::size_t>(count / kRows));
    if (c_.bias_parts)
      __builtin_memset(c_.bias_parts + rows, 0, static_cast<std::size_t>(count) * sizeof(float));
    std::int64_t k0 = cut.Block(part, 0) * cut.keys;
    for (std::int64_t n = 1; k0 >= 0 && k0 < entry_.sees.sk; n++) {
      // The parts' last blocks may not exist.
      const std::int64_t next = n * cut.parts < cut.blocks ? cut.Block(part, n) * cut.keys : -1;
      const bool more = next >= 0 && next < entry_.sees.sk;
      const auto size = [&](std::int64_t first) {
        return static_cast<int>(heed::Min(cut.keys, entry_.sees.sk - first));
      };
      after_ = {more ? QueriesThatSee(next, size(next)).first / kRows * kRows : -1, next,
                c_.g_first};
      Base::AimKeySums(k0 / cut.keys);
      Block(k0, size(k0));
      k0 = next;
    }
  }

  // The queries that see one of these keys: both ends move forward with the key.
  Interval QueriesThatSee(std::int64_t k0, int keys) const {
    const Visibility& sees = entry_.sees;
    if (k0 < sees.prefix) return {0, sees.sq};
    return {QueriesOf(sees, k0).first, QueriesOf(sees, k0 + keys - 1).last};
  }

  // One block of keys, whose dk and dv are complete after the last head of the group.
  void Block(std::int64_t k0, int keys) {
    Base::PackKeys(k0, keys);
    if (c_.g_first == 0) {
      __builtin_memset(dk_, 0, static_cast<std::size_t>(keys) * w_.padded * sizeof(float));
      __builtin_memset(dv_, 0, static_cast<std::size_t>(keys) * w_.padded_v * sizeof(float));
    }
    const Interval queries = QueriesThatSee(k0, keys);
    const std::int64_t from = queries.first, to = queries.last;
    const std::int64_t end = c_.g_first + c_.heads;
    for (std::int64_t g = c_.g_first; g < end; g++) {
      head_ = Base::kv_head_ * in_.group + g;
      g_ = g;
      if (c_.dbias.kind == BiasGradient::Kind::kKeys)
        __builtin_memset(w_.dbias->keys, 0,
                         static_cast<std::size_t>(keys) * sizeof w_.dbias->keys[0]);
      for (std::int64_t i = from / kRows * kRows; i < to;) {
        int tiles = 0;
        Base::BeginTiles(unit_, g, i);
        for (; tiles < c_.blocks.tiles && i + tiles * kRows < to; tiles++) {
          const std::int64_t at = i + tiles * kRows;
          next_ = at + kRows < to ? Place{at + kRows, k0, g}
                  : g + 1 < end   ? Place{from / kRows * kRows, k0, g + 1}
                                  : after_;
          Tile(tiles, at, k0, keys);
        }
        Base::AddKeySums(i, tiles, k0, keys);
        i += tiles * kRows;
      }
      if (c_.dbias.kind == BiasGradient::Kind::kKeys) AddKeyBias(k0, keys);
    }
    if (end == in_.group) WriteKeys(k0, keys);
  }

  // Queries [i, i + kRows) against the block: P and dS, and what they add to dq.
  void Tile(int t, std::int64_t i, std::int64_t k0, int keys) {
    const Item item = {b_, head_, {i, heed::Min(i + kRows, entry_.sees.sq)}};
    Base::BeginTile(t, item);
    Live& live = w_.live[t];
    Base::FindLive(t, k0, keys);
    if (!live.live) return;
    if (!c_.packs_ahead) Base::PackQueries(t, item);
    const std::int64_t facts = c_.HeadRows(unit_, g_) + i;
    GradientArgs<X> a = Base::ArgsOf(t, k0, keys, facts);
    if (c_.bias_parts) __builtin_memset(w_.dbias->queries, 0, sizeof w_.dbias->queries);
    int staged = -1;  // the keys that dbias->pairs holds
    int done = 0;     // columns
    const int visible = CountBits(live.live);
    whole_ = keys % kKeys == 0;
    for (int v = 0; v < w_.rows[t].vectors; v++) whole_ &= live.all[v] == BitRange(0, keys / kKeys);
    for (int key = 0; key < keys; key += kColumnsAtOnce * kKeys) {
      Column columns[kColumnsAtOnce];
      const int end = key + kColumnsAtOnce * kKeys < keys ? key + kColumnsAtOnce * kKeys : keys;
      const int count = ColumnsOf(t, key, end, a, columns);
      for (int n = 0; n < count; n++) {
        Slot(n, columns[n], &a);
        Base::AimScores(t, k0, keys, columns[n].key, &a.s);
        ProbabilitiesOf<kVecs>(a, columns[n]);
      }
      for (int n = 0; n < count; n++) {
        Slot(n, columns[n], &a);
        Base::AimValues(k0, keys, columns[n].key, &a);
        if (next_.i >= 0) LookAhead(done++, visible);
        if (a.kind == BiasGradient::Kind::kPairs)
          staged = StagePairs(staged, columns[n].key, t, k0, keys);
        GradientsOf<kVecs>(a, columns[n]);
      }
    }
    if (staged >= 0) FlushPairs(staged, t, k0, keys);
    Base::AddQuerySums(t, i, k0);
    if (c_.bias_parts) AddQueryBias(t, i);
  }

  // kKeys keys for `count` vectors of a tile from `at` on.
  struct Column {
    int key, at, count;
    bool edge;
  };
  // The columns of keys [key, end) that somebody in tile t sees; the others, and the vectors that do
  // not see them, are made zero.
  int ColumnsOf(int t, int key, int end, const GradientArgs<X>& a, Column* columns) {
    int n = 0;
    for (; key < end; key += kKeys) {
      const Columns bit = Columns{1} << key / kKeys;
      if (!(w_.live[t].live & bit)) {
        ClearColumn(t, key, bit, a);
        continue;
      }
      clear_[t] &= ~bit;
      Column c = {key, 0, 0, false};
      VectorsOf(w_.live[t], w_.rows[t].vectors, bit, &c.at, &c.count);
      c.edge = Base::IsEdge(t, bit, c.at, c.count);
      for (int v = 0; v < w_.rows[t].vectors; v++)
        if (v < c.at || v >= c.at + c.count) ClearGradients<X>(a, key, v * W);
      columns[n++] = c;
    }
    return n;
  }
  // Column n of those that are made at once has scratch of its own.
  void Slot(int n, const Column& c, GradientArgs<X>* a) {
    a->s.at = c.at;
    a->s.key = c.key;
    a->s.scores = w_.scores + n * kKeys * kRows;
    a->s.keep = w_.keep + n;
    a->rate = w_.rate + n * kKeys * kRows;
  }
  template <int kCount>
  static HEED_INLINE void ProbabilitiesOf(const GradientArgs<X>& a, const Column& c) {
    if constexpr (kCount > 1)
      if (c.count < kCount) return ProbabilitiesOf<kCount - 1>(a, c);
    if (c.edge || a.general)
      GeneralProbabilities<X, kCount>(a, c.edge);
    else
      FastProbabilities<X, kCount>(a);
  }
  template <int kCount>
  static HEED_INLINE void GradientsOf(const GradientArgs<X>& a, const Column& c) {
    if constexpr (kCount > 1)
      if (c.count < kCount) return GradientsOf<kCount - 1>(a, c);
    if (c.edge || a.general)
      GeneralGradients<X, kCount>(a);
    else
      FastGradients<X, kCount>(a);
  }

  // A column that nobody sees: its rows are zeros, since the sums take several keys at once. Once
  // cleared it stays so until it is written to.
  void ClearColumn(int t, int key, Columns bit, const GradientArgs<X>& a) {
    if (clear_[t] & bit) return;
    clear_[t] |= bit;
    for (int v = 0; v < kVecs; v++) ClearGradients<X>(a, key, v * W);
  }

  // Asks for one of `parts` parts of what the next tile reads: in one burst it would wait.
  void LookAhead(int part, int parts) {
    const std::int64_t i = next_.i, left = entry_.sees.sq - i,
                       head = Base::kv_head_ * in_.group + next_.g;
    const int rows = left < kRows ? static_cast<int>(left) : kRows;
    const int keys = static_cast<int>(heed::Min(c_.blocks.keys, entry_.sees.sk - next_.k0));
    if (c_.packs_ahead) {
      const std::int64_t slot = (c_.HeadRows(unit_, next_.g) + i) / kRows;
      const auto ask = [&](const auto* from, std::int64_t units) {
        const std::int64_t first = units * part / parts, last = units * (part + 1) / parts;
        Ask(from + slot * units + first, static_cast<std::size_t>(last - first) * sizeof *from);
      };
      ask(w_.queries.q_t, Packed::Units(in_.dim));
      ask(w_.queries.dout_t, Packed::Units(in_.dim_v));
      ask(w_.queries.q, w_.queries.wide);
      ask(w_.queries.dout, w_.queries.wide_v);
    }
    const E* const q = static_cast<const E*>(in_.q) + QueryAt(in_.q_steps, entry_, head, i);
    const E* const dout = static_cast<const E*>(c_.dout) + QueryAt(c_.dout_steps, entry_, head, i);
    const float* const dq = c_.dq_parts + (c_.PartRows(unit_, part_, next_.g) + i) * c_.dq_step;
    for (int r = rows * part / parts; r < rows * (part + 1) / parts; r++) {
      if (!c_.packs_ahead || !Base::wide_q_) Ask(q + r * in_.q_steps.row, in_.dim * sizeof(E));
      if (!c_.packs_ahead || !Base::wide_dout_)
        Ask(dout + r * c_.dout_steps.row, in_.dim_v * sizeof(E));
      Ask(dq + r * c_.dq_step, in_.dim * sizeof(float));
      AskKeys(in_.mask, 1, head, i + r, keys);
      // The rest of a row of the bias is asked for while its first keys are worked on.
      AskKeys(in_.bias, in_.bias_f32 ? 4 : sizeof(E), head, i + r, keys < kStage ? keys : kStage);
    }
  }
  // `keys` keys of query i of the next block.
  void AskKeys(const Spread& s, std::size_t bytes, std::int64_t head, std::int64_t i, int keys) {
    if (s.col != 1 || s.row == 0 || !s.data) return;
    Ask(static_cast<const char*>(s.data) +
            (RowOf(s, b_, head, i) + next_.k0) * static_cast<std::int64_t>(bytes),
        static_cast<std::size_t>(keys) * bytes);
  }
  static HEED_INLINE void Ask(const void* row, std::size_t bytes) {
    for (std::size_t at = 0; at < bytes; at += 64)
      __builtin_prefetch(static_cast<const char*>(row) + at, 0, 2);
  }

  // ---------------------------------------------------------------- the bias

  // Keys [key, key + kKeys) are about to be staged; those before are written where a stage is full.
  int StagePairs(int staged, int key, int t, std::int64_t k0, int keys) {
    constexpr int kAtOnce = BiasGradientStage::kKeysAtOnce;
    const int first = key / kAtOnce * kAtOnce;
    if (staged == first) return staged;
    if (staged >= 0) FlushPairs(staged, t, k0, keys);
    if (!whole_) __builtin_memset(w_.dbias->pairs, 0, sizeof w_.dbias->pairs);
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
      StoreGradientRow<F>(c_, dk_ + static_cast<std::int64_t>(r) * w_.padded, in_.dim,
                          in_.terms.scale, c_.dk, c_.dk_steps, entry_.key_batch, row,
                          Base::kv_head_);
      StoreGradientRow<F>(c_, dv_ + static_cast<std::int64_t>(r) * w_.padded_v, in_.dim_v,
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

  bool whole_ = false;  // the current tile sees all keys of the block
  // Queries from i on of a head of the group against the block at k0; i = -1: none.
  struct Place {
    std::int64_t i = -1, k0 = 0, g = 0;
  };
  Place next_, after_;              // the tile after the current one, the first of the next block;
  Columns clear_[kGradTiles] = {};  // of each tile: columns whose P and dS are zero
};

}  // namespace heed::cpu::HEED_ISA
