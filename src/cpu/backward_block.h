// backward_block.h: one block of keys and one tile of queries made ready for the backward's tiles:
// packed, and who sees whom. Not here: the walk (backward.h), tiles (gradient_tile.h).
#pragma once

#include "cpu/gradient_work.h"
#include "cpu/keys.h"
#include "cpu/score_inputs.h"

namespace heed::cpu::HEED_ISA {

template <class F>
class BackwardBlock {
 protected:
  using E = typename F::E;
  using X = typename F::X;
  using U = typename X::U;
  using Packed = PackedQueries<F>;
  static constexpr int kPair = X::kPair;

 public:
  BackwardBlock(const BackwardCall& call, void* workspace) : c_(call), in_(call.in) {
    w_.Carve(workspace, call);
    w_.bias->step = 0;
    factors_ = ScoreFactors::Of<X>(in_.terms);
    packs_k_ = CopiesK<F>(c_);
    packs_v_ = CopiesV<F>(c_);
    wide_k_ = PacksV<F>(in_.dim, false);
    wide_q_ = WidensQ<F>(c_);
    wide_dout_ = WidensDout<F>(c_);
  }

 protected:
  void BeginUnit(std::int64_t unit) {
    b_ = unit / c_.k_heads;
    kv_head_ = unit % c_.k_heads;
    entry_ = EntryOf(in_, b_);
    keys_ = KeyRows<E>::Of(in_, entry_, kv_head_);
  }

  // Keys and values of a block to where the products read them.
  void PackKeys(std::int64_t k0, int keys) {
    const E* rows[kMaxKeys];
    if (packs_k_ || wide_k_) {
      for (int r = 0; r < keys; r++) rows[r] = keys_.K(k0 + r);
      if (packs_k_) PackK<F>(rows, keys, in_.dim, w_.k);
      if (wide_k_) PackV<F>(rows, keys, in_.dim, w_.kd);
    }
    if (packs_v_) {
      for (int r = 0; r < keys; r++) rows[r] = keys_.V(k0 + r);
      PackK<F>(rows, keys, in_.dim_v, w_.v);
    }
  }

  // Query i of a head of the unit begins tile 0 from now on: tile t's packed rows lie in slot t of
  // this thread's, or where the wave has them.
  void BeginTiles(std::int64_t unit, std::int64_t g, std::int64_t i) {
    slot_ = c_.packs_ahead ? (c_.HeadRows(unit, g) + i) / kRows : 0;
  }
  // Which queries tile t has, and what each sees.
  void BeginTile(int t, const Item& item) {
    BeginRows(in_, entry_, item, &w_.rows[t], &w_.facts[t]);
    if (in_.terms.any() || in_.drops || in_.mask.data || in_.block_map.data ||
        c_.dbias.kind != BiasGradient::Kind::kNone)
      FillFacts(in_, b_, &w_.facts[t]);
  }

  void FindLive(int t, std::int64_t k0, int keys) {
    LiveOf(in_, entry_, w_.rows[t], w_.facts[t], k0, keys, &w_.live[t]);
  }

  // Q alone: for the scores.
  void PackScoreQueries(int t, const Item& item) {
    PackTile(t, item, in_.q, in_.q_steps, in_.dim, factors_.q, w_.queries.q_t,
             wide_q_ ? w_.queries.q : nullptr);
  }
  void PackQueries(int t, const Item& item) {
    PackScoreQueries(t, item);
    PackTile(t, item, c_.dout, c_.dout_steps, in_.dim_v, 1.f, w_.queries.dout_t,
             wide_dout_ ? w_.queries.dout : nullptr);
  }
  // Rows of q or dout, transposed for the scores and, where `wide` is given, as the sums read them;
  // both arrays hold all tiles.
  void PackTile(int t, const Item& item, const void* from, const Steps& steps, int dim,
                float factor, U* transposed, U* wide) {
    const E* rows[kRows];
    for (int r = 0; r < kRows; r++)
      rows[r] = static_cast<const E*>(from) +
                QueryAt(steps, entry_, item.h, heed::Min(item.rows.first + r, item.rows.last - 1));
    PackQ<F>(rows, w_.rows[t].vectors, dim, factor, transposed + (slot_ + t) * Packed::Units(dim));
    if (wide) PackV<F>(rows, w_.rows[t].rows, dim, wide + (slot_ + t) * Packed::WideUnits(dim));
  }

  // What all columns of tile t and the block have in common. facts: where the wave's arrays hold the
  // tile's queries.
  ScoreArgs<X> ScoreArgsOf(int t, std::int64_t k0, int keys) {
    ScoreArgs<X> a = BlockArgs<X>(in_, entry_, w_.rows[t], k0, keys, factors_, w_.first, w_.last,
                                  &w_.facts[t], w_.bias);
    a.units = w_.units;
    a.qt = w_.queries.q_t + (slot_ + t) * Packed::Units(in_.dim);
    a.pt = w_.p;  // where the forward's tile is asked for the row sums
    a.scores = w_.scores;
    a.live = &w_.live[t];
    a.keep = w_.keep;
    return a;
  }
  GradientArgs<X> ArgsOf(int t, std::int64_t k0, int keys, std::int64_t facts) {
    GradientArgs<X> a;
    a.s = ScoreArgsOf(t, k0, keys);
    a.units_v = w_.units_v;
    a.dout = w_.queries.dout_t + (slot_ + t) * Packed::Units(in_.dim_v);
    a.shift = c_.shift + facts;
    a.delta = c_.delta + facts;
    a.weight = nullptr;
    for (int lane = 0; lane < kRows; lane += W)
      if (!AllEqual(Load(c_.weight + facts + lane), Set(1.f))) a.weight = c_.weight + facts;
    a.dp = w_.dp;
    a.rate = w_.rate;
    a.p = w_.p + t * kRows / kPair;
    a.ds = w_.ds + t * kRows / kPair;
    a.zs = w_.zs + t * kRows;
    a.kind = c_.dbias.kind;
    a.bias = w_.dbias;
    a.drops = in_.drops;
    a.general = in_.terms.any() || in_.drops || a.weight || a.kind != BiasGradient::Kind::kNone;
    return a;
  }
  static bool AllEqual(V a, V b) { return AllLe(a, b) && AllLe(b, a); }

  // Whether one of these vectors has a pair in the column that is hidden.
  bool IsEdge(int t, Columns bit, int at, int count) const {
    for (int v = at; v < at + count; v++)
      if (!(w_.live[t].all[v] & bit)) return true;
    return false;
  }

  // Keys [key, key + kKeys) for tile t.
  void AimScores(int t, std::int64_t k0, int keys, int key, ScoreArgs<X>* a) {
    a->key = key;
    a->j = k0 + key;
    a->before = w_.live[t].live & BitRange(0, key / kKeys);
    a->k = KeyTile<X>(packs_k_ ? w_.k + static_cast<std::int64_t>(key) * w_.k_step : nullptr,
                      w_.k_step, keys_.K(k0 + key), keys_.k_step, keys - key, w_.units, w_.k_tail,
                      &a->k_step);
    if (in_.terms.bias) AimBias<F>(in_, w_.facts[t], w_.rows[t], keys, w_.bias, a);
  }
  void AimValues(std::int64_t k0, int keys, int key, GradientArgs<X>* a) {
    a->v = KeyTile<X>(packs_v_ ? w_.v + static_cast<std::int64_t>(key) * w_.v_step : nullptr,
                      w_.v_step, keys_.V(k0 + key), keys_.v_step, keys - key, w_.units_v, w_.v_tail,
                      &a->v_step);
  }

  // What the sums multiply with: rows of K, Q and dout as wide as whole vectors, in place where they
  // lie so.
  const U* KeysForSums(std::int64_t k0) const {
    if (wide_k_) return w_.kd;
    return packs_k_ ? w_.k : reinterpret_cast<const U*>(keys_.K(k0));
  }
  std::int64_t KeysForSumsStep() const {
    if (wide_k_) return w_.wide_step;
    return packs_k_ ? w_.k_step : keys_.k_step;
  }
  const U* QueriesForSums(std::int64_t h, std::int64_t i) const {
    if (wide_q_) return w_.queries.q + slot_ * w_.queries.wide;
    return reinterpret_cast<const U*>(static_cast<const E*>(in_.q) +
                                      QueryAt(in_.q_steps, entry_, h, i));
  }
  std::int64_t QueriesForSumsStep() const { return wide_q_ ? w_.wide_step : in_.q_steps.row; }
  const U* DoutForSums(std::int64_t h, std::int64_t i) const {
    if (wide_dout_) return w_.queries.dout + slot_ * w_.queries.wide_v;
    return reinterpret_cast<const U*>(static_cast<const E*>(c_.dout) +
                                      QueryAt(c_.dout_steps, entry_, h, i));
  }
  std::int64_t DoutForSumsStep() const { return wide_dout_ ? w_.wide_v_step : c_.dout_steps.row; }

  const BackwardCall& c_;
  const ForwardCall& in_;
  GradientWork<F> w_;
  ScoreFactors factors_;
  bool packs_k_, packs_v_;            // for the scores
  bool wide_k_, wide_q_, wide_dout_;  // for the sums
  std::int64_t slot_ = 0;             // of tile 0 among the packed queries
  // Of the current unit.
  std::int64_t b_ = 0, kv_head_ = 0;
  Entry entry_;
  KeyRows<E> keys_;
};

}  // namespace heed::cpu::HEED_ISA
