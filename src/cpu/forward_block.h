// forward_block.h: one block of keys made ready for the forward's tiles: packed, who sees whom, where
// a tile finds its keys, queries and bias. Not here: tiles (softmax.h), the walk (forward.h).
#pragma once

#include "cpu/rotary.h"
#include "cpu/score_inputs.h"
#include "cpu/softmax.h"
#include "cpu/work.h"

namespace heed::cpu::HEED_ISA {

template <class F>
class ForwardBlock {
 protected:
  using E = typename F::E;
  using X = typename F::X;
  using U = typename X::U;
  static constexpr int kPair = X::kPair;
  static constexpr std::int64_t kBytes = sizeof(E);

 public:
  ForwardBlock(const ForwardCall& call, void* workspace) : c_(call) {
    w_.Carve(workspace, {call.dtype, call.dim, call.dim_v, call.blocks, call.cache.table != nullptr,
                         call.cache.rotary_dim > 0});
    packs_k_ = PacksK<F>(c_.dim, call.cache.table != nullptr);
    packs_v_ = PacksV<F>(c_.dim_v, call.cache.table != nullptr);
    factors_ = ScoreFactors::Of<X>(c_.terms);
    plain_ = !c_.terms.any() && !c_.drops;
    w_.bias->step = 0;
  }

 protected:
  // Who sees what of a block; returns the columns that somebody sees.
  Columns FindLive(int from, int to, std::int64_t k0, int keys) {
    Columns wanted = 0;
    for (int t = from; t < to; t++) {
      LiveOf(c_, entry_, w_.rows[t], w_.facts[t], k0, keys, &w_.live[t]);
      wanted |= w_.live[t].live;
    }
    return wanted;
  }

  // Keys and values of these columns to where the products read them.
  void Pack(Columns wanted, std::int64_t k0, int keys) {
    if (!packs_k_ && !packs_v_) return;
    while (wanted) {
      const int c = __builtin_ctzll(wanted), n = OnesFrom(wanted, c);
      wanted &= ~BitRange(c, c + n);
      const int key = c * kKeys, count = keys - key < n * kKeys ? keys - key : n * kKeys;
      const E* rows[kMaxKeys];
      if (packs_k_) {
        for (int r = 0; r < count; r++) rows[r] = keys_.K(k0 + key + r);
        PackK<F>(rows, count, c_.dim, w_.k + static_cast<std::int64_t>(key) * w_.k_step);
      }
      if (packs_v_) {
        for (int r = 0; r < count; r++) rows[r] = keys_.V(k0 + key + r);
        PackV<F>(rows, count, c_.dim_v, w_.v + static_cast<std::int64_t>(key / kPair) * w_.v_step);
      }
    }
  }

  // What all tiles of a block have in common for the general tile.
  ScoreArgs<X> ArgsOf(int t, std::int64_t k0, int keys) {
    ScoreArgs<X> a = BlockArgs<X>(c_, entry_, w_.rows[t], k0, keys, factors_, w_.first, w_.last,
                                  &w_.facts[t], w_.bias);
    a.units = w_.units;
    a.qt = w_.qt + static_cast<std::int64_t>(t) * w_.units * kRows;
    a.pt = w_.pt;
    a.scores = w_.scores;
    a.o = w_.o + static_cast<std::int64_t>(t) * kRows * w_.padded;
    a.o_step = w_.padded;
    a.live = &w_.live[t];
    a.keep = w_.keep;
    return a;
  }

  // Column c for this tile: which keys, which vectors; its bias. Returns how many columns from here
  // on every row of these vectors, and of no other, sees whole.
  int Aim(int t, std::int64_t k0, int keys, int c, Columns left, ScoreArgs<X>* a, int* count) {
    const Live& live = w_.live[t];
    const RowState& rows = w_.rows[t];
    const Columns bit = Columns{1} << c;
    VectorsOf(live, rows.vectors, bit, &a->at, count);
    const int at = a->at, end = at + *count;
    Columns full = left;
    for (int v = 0; v < rows.vectors; v++) full &= v >= at && v < end ? live.all[v] : ~live.any[v];
    a->key = c * kKeys;
    a->j = k0 + a->key;
    a->before = live.live & BitRange(0, c);
    a->k = KeyTile<X>(packs_k_ ? w_.k + static_cast<std::int64_t>(a->key) * w_.k_step : nullptr,
                      w_.k_step, keys_.K(a->j), keys_.k_step, keys - a->key, w_.units, w_.tail,
                      &a->k_step);
    if (c_.terms.bias) AimBias<F>(c_, w_.facts[t], rows, keys, w_.bias, a);
    return OnesFrom(full, c);
  }

  const ForwardCall& c_;
  Work<F> w_;
  ScoreFactors factors_;
  bool plain_;  // full tiles need no general tile
  bool packs_k_, packs_v_;
  // Of the current group.
  std::int64_t b_ = 0;
  Entry entry_;
  KeyRows<E> keys_;
};

}  // namespace heed::cpu::HEED_ISA
