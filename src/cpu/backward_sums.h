// backward_sums.h: the three sums of the backward: dq of a tile over the keys of a block, dk and dv of
// a block over some tiles. Not here: P and dS (gradient_tile.h), the products (tiles.h), the walk
// (backward.h).
#pragma once

#include "cpu/backward_block.h"
#include "cpu/gradient_runs.h"
#include "cpu/runs.h"

namespace heed::cpu::HEED_ISA {

template <class F>
class BackwardSums : protected BackwardBlock<F> {
 protected:
  using Base = BackwardBlock<F>;
  using X = typename F::X;
  using U = typename X::U;
  using Base::c_;
  using Base::kPair;
  using Base::w_;

 public:
  using Base::Base;

 protected:
  // dq of tile t: dS times K, into the part's sum, which holds nothing the first time.
  void AddQuerySums(int t, std::int64_t i, std::int64_t k0) {
    const std::int64_t row = c_.PartRows(unit_, part_, g_) + i;
    float* const dq = c_.dq_parts + row * c_.dq_step;
    const bool first = !c_.touched[row / kRows];
    c_.touched[row / kRows] = 1;
    for (int v = 0, take; v < w_.padded / W; v += take) {
      take = ColsAtOnce(w_.padded / W - v);
      QuerySumsOf<kMaxCols>(t, k0, take, v, first, dq + v * W);
    }
  }
  template <int kCols>
  void QuerySumsOf(int t, std::int64_t k0, int take, int v, bool first, float* dq) {
    if constexpr (kCols > 1)
      if (take < kCols) return QuerySumsOf<kCols - 1>(t, k0, take, v, first, dq);
    constexpr int kStep = AccumulateRows(kCols);
    const RowState& rows = w_.rows[t];
    AccumulateArgs a = {};
    a.x = Base::KeysForSums(k0) + v * W;
    a.x_step = Base::KeysForSumsStep();
    a.from_step = a.out_step = c_.dq_step;
    for (int r = 0; r < rows.rows; r += kStep) {
      Run runs[kMostRuns];
      a.runs = runs;
      a.rows = rows.rows - r < kStep ? rows.rows - r : kStep;
      a.count = RunsOf<kPair>(rows, w_.live[t], r, a.rows, k0, runs);
      if (a.count == 0 && !first) continue;
      a.pt = w_.zs + t * kRows + r;
      a.out = dq + static_cast<std::int64_t>(r) * c_.dq_step;
      a.from = first ? nullptr : a.out;
      AccumulateTile<X, kCols, kDown, 1>(a);
    }
  }

  // dk and dv of the block: transposes of dS and P times Q and dout of `tiles` tiles from query i on.
  void AddKeySums(std::int64_t i, int tiles, std::int64_t k0, int keys) {
    bool any = false;
    for (int t = 0; t < tiles; t++) any |= w_.live[t].live != 0;
    if (!any) return;
    for (int v = 0, take; v < w_.padded_v / W; v += take) {
      take = ColsAtOnce(w_.padded_v / W - v);
      KeySumsOf<kMaxCols>(tiles, k0, keys, take,
                          {w_.p, Base::DoutForSums(head_, i) + v * W, Base::DoutForSumsStep(),
                           dv_ + v * W, w_.padded_v});
    }
    for (int v = 0, take; v < w_.padded / W; v += take) {
      take = ColsAtOnce(w_.padded / W - v);
      KeySumsOf<kMaxCols>(tiles, k0, keys, take,
                          {w_.ds, Base::QueriesForSums(head_, i) + v * W,
                           Base::QueriesForSumsStep(), dk_ + v * W, w_.padded});
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

  // Where the sums of block n of the unit are.
  void AimKeySums(std::int64_t n) {
    dk_ = w_.dk;
    dv_ = w_.dv;
    if (!c_.key_sums) return;
    const std::int64_t block = (unit_ - c_.first) * c_.key_blocks + n;
    dk_ = c_.key_sums + block * w_.sum_keys * (w_.padded + w_.padded_v);
    dv_ = dk_ + w_.sum_keys * w_.padded;
  }

  float *dk_ = nullptr, *dv_ = nullptr;
  // What is worked on: a part of a unit, a head of its group.
  std::int64_t unit_ = 0, part_ = 0, head_ = 0, g_ = 0;
};

}  // namespace heed::cpu::HEED_ISA
