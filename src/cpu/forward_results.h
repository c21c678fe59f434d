// forward_results.h: what the forward writes: P.V of a tile, what it is divided by, o, lse, the sums of
// a piece, probabilities. Not here: the score tiles (softmax.h), joining pieces (pieces.h).
#pragma once

#include "cpu/forward_block.h"
#include "cpu/pieces.h"
#include "cpu/runs.h"

namespace heed::cpu::HEED_ISA {

template <class F>
class ForwardResults : protected ForwardBlock<F> {
 protected:
  using Base = ForwardBlock<F>;
  using Base::b_;
  using Base::c_;
  using Base::entry_;
  using Base::keys_;
  using Base::kPair;
  using Base::packs_v_;
  using Base::w_;
  using typename Base::E;
  using typename Base::U;
  using typename Base::X;

  using Base::Base;

  // Elements to row r of tile t in o; its place in lse.
  std::int64_t OutRow(int t, int r) const {
    const RowFacts& f = w_.facts[t];
    return QueryAt(c_.o_steps, entry_, f.head[r], f.query[r]);
  }
  float* LseOf(int t, int r) const {
    const RowFacts& f = w_.facts[t];
    return c_.lse + LseAt(c_, entry_, b_, f.head[r], f.query[r]);
  }

  // P.V of tile t.
  void Accumulate(int t, std::int64_t k0, bool last) {
    const int vectors = w_.padded / W;
    for (int v = 0, take; v < vectors; v += take) {
      take = ColsAtOnce(vectors - v);
      AccumulateOf<kMaxCols>(t, k0, last, v, take);
    }
    if (last && !Direct()) Write(t);
  }
  template <int kCols>
  void AccumulateOf(int t, std::int64_t k0, bool last, int v, int take) {
    if constexpr (kCols > 1)
      if (take < kCols) return AccumulateOf<kCols - 1>(t, k0, last, v, take);
    constexpr int kStep = AccumulateRows(kCols);
    RowState& rows = w_.rows[t];
    float* const o = w_.o + static_cast<std::int64_t>(t) * kRows * w_.padded + v * W;
    const bool direct = last && Direct();
    AccumulateArgs a;
    a.x = packs_v_ ? w_.v + v * W : reinterpret_cast<const U*>(keys_.V(k0)) + v * W;
    a.x_step = packs_v_ ? w_.v_step : keys_.v_step;
    a.from_step = w_.padded;
    a.out_step = direct ? c_.o_steps.row : w_.padded;
    for (int r = 0; r < rows.rows; r += a.rows) {
      Run runs[kMostRuns];
      a.rows = kNarrow<kCols> ? RowsAlike(w_.live[t], r, kStep) : kStep;
      if (a.rows > rows.rows - r) a.rows = rows.rows - r;
      a.runs = runs;
      a.count = RunsOf<kPair>(rows, w_.live[t], r, a.rows, k0, runs);
      a.pt = w_.pt + r;
      a.from = rows.begun ? o + static_cast<std::int64_t>(r) * w_.padded : nullptr;
      a.factor = last ? w_.factor + r : nullptr;
      a.out = direct ? static_cast<float*>(c_.o) + OutRow(t, r) + v * W
                     : o + static_cast<std::int64_t>(r) * w_.padded;
      if (!Sums<kCols, kStep>(a)) rows.odd = true;
    }
  }

  // Whether there are tiles for fewer rows than registers hold: two less, four less, .. With an odd
  // number they would read behind the last row.
  template <int kCols>
  static constexpr bool kNarrow = kCols == kMaxCols&& AccumulateRows(kCols) % 2 == 0 && W % 2 == 0;
  template <int kCols, int kCount>
  static HEED_INLINE bool Sums(const AccumulateArgs& a) {
    if constexpr (kNarrow<kCols> && kCount > 2)
      if (a.rows <= kCount - 2) return Sums<kCols, kCount - 2>(a);
    return AccumulateTile<X, kCols, kRows, 1, kCount>(a);
  }

  // Whether the last accumulation may write o itself: whole vectors of floats, rows evenly spaced.
  bool Direct() const {
    return c_.out_dtype == DType::kF32 && c_.dim_v % W == 0 && !c_.packed && c_.split.pieces == 0;
  }

  // Finished sums of tile t to o, in its dtype.
  void Write(int t) {
    const float* from = w_.o + static_cast<std::int64_t>(t) * kRows * w_.padded;
    if (c_.split.pieces > 0) {
      __builtin_memcpy(part_.o + rows_at_[t] * part_.o_step, from,
                       static_cast<std::size_t>(w_.rows[t].rows) * w_.padded * sizeof *from);
      return;
    }
    for (int r = 0; r < w_.rows[t].rows; r++, from += w_.padded) {
      if (c_.out_dtype == DType::kF32)
        WriteRow<Format<DType::kF32>>(from, c_.dim_v, static_cast<float*>(c_.o) + OutRow(t, r));
      else  // the tensors' own
        WriteRow<F>(from, c_.dim_v, static_cast<E*>(c_.o) + OutRow(t, r));
    }
  }

  // A tile that sees no key at all.
  void Complete(int t) {
    Finish(t);
    __builtin_memset(w_.o + static_cast<std::int64_t>(t) * kRows * w_.padded, 0,
                     static_cast<std::size_t>(w_.rows[t].rows) * w_.padded * sizeof *w_.o);
    Write(t);
    w_.rows[t].done = true;
  }

  // All keys seen: what o is multiplied by, and lse.
  void Finish(int t) {
    RowState& rows = w_.rows[t];
    if (c_.split.pieces > 0) return FinishPiece(t);
    for (int v = 0; v < rows.vectors; v++) {
      const int lane = v * W;
      const V l = Load(rows.l + lane);
      const M empty = Eq(l, Zero());
      V sum = l;
      if constexpr (X::kDot)
        sum = Select(Eq(l, l), Load(rows.lr + lane), l);  // rounding may lose a NaN
      Store(w_.factor + lane, Select(empty, Zero(), Div(Set(c_.keep_factor), sum)));
      if (c_.lse && !rows.final) {
        const V natural = Mul(Add(Load(rows.m + lane), Log2(l)), Set(static_cast<float>(kLn2)));
        const V lse = Select(empty, Set(kHidden), natural);
        const int left = rows.rows - lane, n = left < W ? left : W;
        if (!c_.packed) {
          StoreN(LseOf(t, lane), lse, n);
        } else {
          alignas(64) float each[W];
          Store(each, lse);
          for (int r = 0; r < n; r++) *LseOf(t, lane + r) = each[r];
        }
      }
    }
  }

  // A piece leaves its sums as they are.
  void FinishPiece(int t) {
    RowState& rows = w_.rows[t];
    for (int r = 0; r < kRows; r++) w_.factor[r] = 1;
    const std::size_t bytes = static_cast<std::size_t>(rows.rows) * sizeof(float);
    __builtin_memcpy(part_.m + rows_at_[t], rows.m, bytes);
    __builtin_memcpy(part_.l + rows_at_[t], rows.l, bytes);
    __builtin_memcpy(part_.r + rows_at_[t], X::kDot ? rows.lr : rows.l, bytes);
    for (int r = 0; X::kDot && r < rows.rows; r++)  // rounding may lose a NaN
      if (rows.l[r] != rows.l[r]) part_.r[rows_at_[t] + r] = rows.l[r];
  }

  // exp(s - lse) of every visible pair of tile t; the others are zero already.
  void WriteProbabilities(int t) {
    RowState& rows = w_.rows[t];
    if (rows.keys_first >= rows.keys_last) return;
    for (int lane = 0; lane < kRows; lane += W) {
      const V l = Load(rows.l + lane);
      Store(w_.factor + lane, Select(Eq(l, Zero()), Zero(), Div(Set(1.f), l)));
    }
    rows.final = true;
    for (std::int64_t k0 = 0; k0 < rows.keys_last; k0 += c_.blocks.keys) {
      const int keys = static_cast<int>(heed::Min(c_.blocks.keys, entry_.sees.sk - k0));
      const Columns wanted = Base::FindLive(t, t + 1, k0, keys);
      if (!wanted) continue;
      Base::Pack(wanted, k0, keys);
      ScoreArgs<X> a = Base::ArgsOf(t, k0, keys);
      for (Columns left = wanted; left; left &= left - 1) {
        int count;
        const bool edge = Base::Aim(t, k0, keys, __builtin_ctzll(left), left, &a, &count) == 0;
        ProbabilityTiles<kVecs>(a, rows, count, edge);
        const int end = keys - a.key < kKeys ? keys - a.key : kKeys;
        for (int r = a.at * W; r < rows.rows && r < (a.at + count) * W; r++)
          WriteKeys(t, r, a, end);
      }
    }
  }
  template <int kCount>
  void ProbabilityTiles(const ScoreArgs<X>& a, RowState& rows, int count, bool edge) {
    if constexpr (kCount > 1)
      if (count < kCount) return ProbabilityTiles<kCount - 1>(a, rows, count, edge);
    ProbabilityTile<X, kCount>(a, rows, edge, w_.factor);
  }
  void WriteKeys(int t, int r, const ScoreArgs<X>& a, int count) {
    const RowFacts& f = w_.facts[t];
    const std::int64_t at =
        ((b_ * c_.q_heads + f.head[r]) * c_.q_len + f.query[r]) * c_.k_len + a.j;
    float each[kKeys];
    for (int key = 0; key < count; key++) each[key] = a.scores[key * kRows + r - a.at * W];
    for (int key = 0; key < count; key++) {
      float lanes[W] = {each[key]};
      if (c_.out_dtype == DType::kF32)
        Format<DType::kF32>::NarrowN(static_cast<float*>(c_.probs) + at + key, Load(lanes), 1);
      else
        F::NarrowN(static_cast<E*>(c_.probs) + at + key, Load(lanes), 1);
    }
  }

  // Of a split: the piece's number, and what it leaves behind.
  std::int64_t number_ = 0;
  Partial part_ = {};
  std::int64_t rows_at_[kMaxTiles];
};

}  // namespace heed::cpu::HEED_ISA
