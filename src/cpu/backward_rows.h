// backward_rows.h: what is known of each query before any key is read (delta, and from what its
// probabilities follow), and its dq when all keys were. Not here: the walk over keys (backward.h).
#pragma once

#include "cpu/backward_block.h"
#include "cpu/gradient_store.h"

namespace heed::cpu::HEED_ISA {

// Beyond this magnitude lse, one float, no longer holds the logarithm of the sum beside the maximum:
// p = exp(s - lse) would be off by more than 2^-12.
inline constexpr float kLargestLse = 4096;
// In place of the lse of rows that read nothing and of lanes that are no row: every p is 0, however
// large a score.
inline constexpr float kNothing = __builtin_inff();

template <class F>
class BackwardRows : BackwardBlock<F> {
  using Base = BackwardBlock<F>;
  using E = typename F::E;
  using X = typename F::X;
  using Base::b_;
  using Base::c_;
  using Base::entry_;
  using Base::in_;
  using Base::w_;

 public:
  using Base::Base;

  // Items are (unit, head of the group, query tile).
  void Prepare(std::int64_t first, std::int64_t last) {
    for (std::int64_t n = first; n < last; n++) {
      Begin(n);
      if (rows_.empty()) continue;
      const std::int64_t facts = c_.HeadRows(unit_, g_) + rows_.first;
      bool huge = false;
      for (int r = 0; r < kRows; r++) {
        float delta = 0, shift = kNothing;
        if (r < rows_.size()) {
          const std::int64_t i = rows_.first + r, at = LseAt(in_, entry_, b_, head_, i);
          const float lse = in_.lse[at];
          delta = Delta(i) - (c_.dlse ? c_.dlse[at] : 0.f);
          if (lse != -__builtin_inff()) shift = FoldExp2<ScalarLanes<float>>(lse);
          huge |= (lse > kLargestLse && lse < __builtin_inff()) ||
                  (lse < -kLargestLse && lse > kHidden);
        }
        c_.delta[facts + r] = delta;
        c_.shift[facts + r] = shift;
        c_.weight[facts + r] = 1;
      }
      if (c_.packs_ahead) {
        Base::BeginTile(0, {b_, head_, rows_});
        Base::PackQueries(0, {b_, head_, rows_});
      }
      if (HEED_UNLIKELY(huge)) SumAgain(facts);
    }
  }

  void Finish(std::int64_t first, std::int64_t last) {
    for (std::int64_t n = first; n < last; n++) {
      Begin(n);
      if (rows_.empty()) continue;
      const std::int64_t parts = CutOf(c_, entry_.sees).parts;
      const float* from[kMostParts];
      int count = 0;  // parts that have something to add
      for (std::int64_t part = 0; part < parts; part++) {
        const std::int64_t row = c_.PartRows(unit_, part, g_) + rows_.first;
        if (c_.touched[row / kRows]) from[count++] = c_.dq_parts + row * c_.dq_step;
      }
      for (std::int64_t i = rows_.first; i < rows_.last; i++) {
        for (int c = 0; c < w_.padded; c += W) {
          V sum = Zero();
          for (int part = 0; part < count; part++)
            sum = Add(sum, Load(from[part] + (i - rows_.first) * c_.dq_step + c));
          Store(w_.row + c, sum);
        }
        StoreGradientRow<F>(c_, w_.row, in_.dim, in_.terms.scale, c_.dq, c_.dq_steps,
                            entry_.q_batch, entry_.q_row + i, head_);
      }
    }
  }

 private:
  void Begin(std::int64_t n) {
    const std::int64_t tiles = c_.rows / kRows, head = n / tiles, tile = n % tiles;
    unit_ = c_.first + head / c_.heads;
    g_ = c_.g_first + head % c_.heads;
    Base::BeginUnit(unit_);
    head_ = Base::kv_head_ * in_.group + g_;
    Base::BeginTiles(unit_, g_, tile * kRows);
    rows_ = {tile * kRows, heed::Min((tile + 1) * kRows, entry_.sees.sq)};
  }

  // The sum of o times dout.
  float Delta(std::int64_t i) const {
    const E* const dout = static_cast<const E*>(c_.dout) + QueryAt(c_.dout_steps, entry_, head_, i);
    const std::int64_t at = QueryAt(in_.o_steps, entry_, head_, i);
    if (in_.out_dtype == DType::kF32)
      return Dot<Format<DType::kF32>>(static_cast<const float*>(in_.o) + at, dout);
    return Dot<F>(static_cast<const E*>(in_.o) + at, dout);
  }
  template <class O>
  float Dot(const typename O::E* o, const E* dout) const {
    V sum = Zero();
    int c = 0;
    for (; c + W <= in_.dim_v; c += W) sum = Fma(O::Widen(o + c), F::Widen(dout + c), sum);
    if (c < in_.dim_v)
      sum = Fma(O::WidenN(o + c, in_.dim_v - c), F::WidenN(dout + c, in_.dim_v - c), sum);
    return SumLanes(sum);
  }

  // Some lse of this tile is too large: maximum and sum once more, as the forward makes them.
  void SumAgain(std::int64_t facts) {
    const Item item = {b_, head_, rows_};
    Base::BeginTile(0, item);
    RowState& rows = w_.rows[0];
    FillFacts(in_, b_, &w_.facts[0]);
    ResetState(w_.facts[0], in_.sinks != nullptr, &rows);
    if (!c_.packs_ahead) Base::PackScoreQueries(0, item);
    const KeyCut cut = CutOf(c_, entry_.sees);
    for (std::int64_t n = 0; n < cut.blocks; n++) {
      const std::int64_t k0 = n * cut.keys;
      const int keys = static_cast<int>(heed::Min(cut.keys, entry_.sees.sk - k0));
      Base::FindLive(0, k0, keys);
      if (!w_.live[0].live) continue;
      Base::PackKeys(k0, keys);
      if constexpr (X::kDot) __builtin_memcpy(rows.lr0, rows.lr, sizeof rows.lr);
      ScoreArgs<X> a = Base::ScoreArgsOf(0, k0, keys);
      for (Columns left = w_.live[0].live; left; left &= left - 1) {
        const int key = __builtin_ctzll(left) * kKeys;
        const Columns bit = left & -left;
        int count;
        VectorsOf(w_.live[0], rows.vectors, bit, &a.at, &count);
        Base::AimScores(0, k0, keys, key, &a);
        Tiles<kVecs>(a, rows, count, Base::IsEdge(0, bit, a.at, count));
      }
    }
    for (int r = 0; r < rows_.size(); r++) {
      if (rows.l[r] == 0) continue;  // reads nothing
      c_.shift[facts + r] = rows.m[r];
      c_.weight[facts + r] = 1 / rows.l[r];
    }
  }
  template <int kCount>
  static void Tiles(const ScoreArgs<X>& a, RowState& rows, int count, bool edge) {
    if constexpr (kCount > 1)
      if (count < kCount) return Tiles<kCount - 1>(a, rows, count, edge);
    GeneralTile<X, kCount>(a, rows, edge);
  }

  std::int64_t unit_ = 0, head_ = 0, g_ = 0;
  Interval rows_;
};

}  // namespace heed::cpu::HEED_ISA
