// forward_block.h: one block of keys made ready for the forward's tiles: packed, who sees whom, where
// a tile finds its keys, queries and bias. Not here: tiles (softmax.h), the walk (forward.h).
#pragma once

#include "cpu/rotary.h"
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
    // Scores become powers of two here: floats while Q is packed, pairs behind their product; with
    // terms behind the last of them.
    const Exp2Factors<float> factors = FoldExp2(c_.terms);
    q_factor_ = X::kDot ? 1.f : factors.inner;
    s_factor_ = X::kDot ? factors.inner : 1.f;
    outer_ = factors.outer;
    plain_ = !c_.terms.any() && !c_.drops;
    w_.bias->step = 0;
  }

 protected:
  // Who sees what of a block; returns the columns that somebody sees.
  Columns FindLive(int from, int to, std::int64_t k0, int keys) {
    Columns wanted = 0;
    for (int t = from; t < to; t++) {
      const RowState& rows = w_.rows[t];
      Live& live = w_.live[t];
      FindLiveByInterval(rows, entry_.sees, k0, keys, &live);
      if (live.live && (c_.mask.data || c_.block_map.data))
        FindLiveByMask(c_, rows, w_.facts[t], k0, keys, &live);
      wanted |= live.live;
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
    RowState& rows = w_.rows[t];
    RowFacts& facts = w_.facts[t];
    if (c_.terms.bias && !facts.one_bias) w_.bias->at = -1;
    for (int r = 0; r < kRows; r++) {
      w_.first[r] = static_cast<float>(Clamp(rows.first[r] - k0, 0, keys));
      w_.last[r] = static_cast<float>(Clamp(rows.last[r] - k0, 0, keys));
    }
    if (c_.terms.positional())
      for (int r = 0; r < kRows; r++)
        facts.position[r] = static_cast<float>(facts.query[r] + entry_.sees.shift - k0);
    ScoreArgs<X> a;
    a.units = w_.units;
    a.qt = w_.qt + static_cast<std::int64_t>(t) * w_.units * kRows;
    a.pt = w_.pt;
    a.factor = s_factor_;
    a.scores = w_.scores;
    a.o = w_.o + static_cast<std::int64_t>(t) * kRows * w_.padded;
    a.o_step = w_.padded;
    a.live = &w_.live[t];
    a.first = w_.first;
    a.last = w_.last;
    a.call = &c_;
    a.outer = outer_;
    a.facts = &facts;
    a.bias = w_.bias->values[0];
    a.bias_step = 0;
    a.keep = w_.keep;
    return a;
  }

  // Column c for this tile: which keys, which vectors; its bias. Returns how many columns from here
  // on every row of these vectors, and of no other, sees whole.
  int Aim(int t, std::int64_t k0, int keys, int c, Columns left, ScoreArgs<X>* a, int* count) {
    const Live& live = w_.live[t];
    const RowState& rows = w_.rows[t];
    const Columns bit = Columns{1} << c;
    int at = 0, end = rows.vectors;
    while (!(live.any[at] & bit)) at++;
    while (!(live.any[end - 1] & bit)) end--;
    Columns full = left;
    for (int v = 0; v < rows.vectors; v++) full &= v >= at && v < end ? live.all[v] : ~live.any[v];
    a->key = c * kKeys;
    a->j = k0 + a->key;
    a->at = at;
    a->before = live.live & BitRange(0, c);
    *count = end - at;
    KeyRowsOf(k0, a->key, keys, a);
    if (c_.terms.bias) NeedBias(t, keys, a);
    return OnesFrom(full, c);
  }

  void NeedBias(int t, int keys, ScoreArgs<X>* a) {
    if (w_.facts[t].one_bias) return NeedBiasRow(t, keys, a);
    const int in = a->key % kStage<X>;
    const std::int64_t j = a->j - in;
    const RowFacts& facts = w_.facts[t];
    const RowState& rows = w_.rows[t];
    BiasStage& stage = *w_.bias;
    const bool staged = stage.at >= 0 && (stage.step == 0 || stage.at == j);
    if (!staged) {
      const int n = keys - (a->key - in) < kStage<X> ? keys - (a->key - in) : kStage<X>;
      if (c_.bias_f32)
        StageBias<Format<DType::kF32>>(c_.bias, facts, rows.vectors, j, n, &stage);
      else
        StageBias<F>(c_.bias, facts, rows.vectors, j, n, &stage);
    }
    LookAheadInBias(c_.bias, c_.bias_f32 ? 4 : kBytes, facts, rows.rows, j + kStage<X>, kStage<X>,
                    in / kKeys);
    a->bias_step = stage.step;
    a->bias = stage.values[0] + in * stage.step;
  }

  void NeedBiasRow(int t, int keys, ScoreArgs<X>* a) {
    const std::int64_t row = w_.facts[t].bias[0], k0 = a->j - a->key;
    BiasStage& stage = *w_.bias;
    if (stage.at != k0 || stage.step != 1 || stage.row != row) {
      if (c_.bias_f32)
        StageBiasRow<Format<DType::kF32>>(c_.bias, row, k0, keys, &stage);
      else
        StageBiasRow<F>(c_.bias, row, k0, keys, &stage);
    }
    a->bias_step = 1;
    a->bias = stage.values[0] + a->key;
  }

  // Where the score tile finds keys [key, key + kKeys): packed (then padded), in place, or, where
  // the sequence ends within them, in a copy: what lies behind the last key is not ours to read.
  void KeyRowsOf(std::int64_t k0, int key, int keys, ScoreArgs<X>* a) {
    if (packs_k_) {
      a->k = w_.k + static_cast<std::int64_t>(key) * w_.k_step;
      a->k_step = w_.k_step * 4;
      return;
    }
    const E* const k = keys_.K(k0 + key);
    if (key + kKeys <= keys) {
      a->k = reinterpret_cast<const U*>(k);
      a->k_step = keys_.k_step * kBytes;
    } else {
      const std::size_t bytes = static_cast<std::size_t>(w_.units) * 4;
      for (int r = 0; r < kKeys; r++) {
        U* const to = w_.tail + static_cast<std::int64_t>(r) * w_.units;
        if (key + r < keys)
          __builtin_memcpy(to, k + r * keys_.k_step, bytes);
        else
          __builtin_memset(to, 0, bytes);
      }
      a->k = w_.tail;
      a->k_step = static_cast<std::int64_t>(bytes);
    }
  }

  const ForwardCall& c_;
  Work<F> w_;
  float q_factor_, s_factor_, outer_;
  bool plain_;  // full tiles need no general tile
  bool packs_k_, packs_v_;
  // Of the current group.
  std::int64_t b_ = 0;
  Entry entry_;
  KeyRows<E> keys_;
};

}  // namespace heed::cpu::HEED_ISA
