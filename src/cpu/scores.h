// scores.h: the scores of a tile: from products to what the softmax takes, terms added and hidden pairs
// hidden. Forward and backward round them alike. Not here: the terms (score/terms.h), the products
// (tiles.h), the softmax.
#pragma once

#include "cpu/live.h"
#include "cpu/rows.h"
#include "cpu/tiles.h"

namespace heed::cpu::HEED_ISA {

// What a score tile works on: keys [key, key + kKeys) of a block, vectors [at, at + kCount) of a
// query tile.
template <class X>
struct ScoreArgs {
  int units;
  const typename X::U* k;   // kKeys readable rows
  std::int64_t k_step;      // bytes
  const typename X::U* qt;  // of vector 0
  typename X::U* pt;        // [units of keys][kRows], of the block's first key
  int key;                  // within the block
  int at;                   // first vector
  float factor;             // pairs: what the product is multiplied by; floats carry it in qt
  float* scores;            // [kKeys][kRows] scratch, L1
  float* o;                 // [kRows][o_step] sums of earlier blocks
  int o_step;

  // The general tile alone.
  Columns before;             // columns of the block whose P is written
  const Live* live;           // edges: what the mask knows
  const float *first, *last;  // edges: the rows' visible keys, within the block
  const ForwardCall* call;
  float outer;  // with terms: log2(e)
  const RowFacts* facts;
  const float* bias;  // [kKeys][bias_step], all kRows rows; readable even without a bias
  int bias_step;      // 1: one float per key, for all rows
  std::int64_t j;     // the tile's first key, within the sequence
  KeepMasks* keep;    // scratch
};

// Products of kKeys rows from k on and kCount vectors from qt on, to memory: [kKeys][kRows].
template <class X, int kCount>
HEED_INLINE void StoreProducts(int units, const typename X::U* k, std::int64_t k_step,
                               const typename X::U* qt, float* to) {
  V x[kKeys][kCount];
  ScoreTile<X, kCount>(units, k, k_step, qt, x);
  HEED_UNROLL for (int r = 0; r < kKeys; r++) HEED_UNROLL for (int v = 0; v < kCount; v++)
      Store(to + r * kRows + v * W, x[r][v]);
}

// Which of kKeys keys from a.key on the lanes of vector `lane` / W see; at an edge alone.
template <class X>
HEED_INLINE M Visible(const ScoreArgs<X>& a, int lane, int r, V first, V last) {
  const V key = Set(static_cast<float>(a.key + r));
  M seen = Or(And(Le(first, key), Lt(key, last)), Lt(key, Set(static_cast<float>(a.live->prefix))));
  if (a.live->masked) seen = And(seen, Bit(a.live->bits[a.key / 32] + lane, a.key % 32 + r));
  return seen;
}

// Final scores of kKeys keys and vector v, from the products in a.scores: units of log2, -infinity
// where not seen. capped: told the scores before anything is added to them, where terms.bends().
template <class X, class Capped>
HEED_INLINE Bundle FinalScores(const ScoreArgs<X>& a, int v, bool edge, Capped capped) {
  using L = BundleLanes;
  const int lane = (a.at + v) * W;
  Bundle s;
  HEED_UNROLL for (int r = 0; r < kKeys; r++) {
    s.v[r] = Load(a.scores + r * kRows + v * W);
    // Rounded here and not fused with the subtraction of m, so that s - m is exactly 0 at the
    // maximum, however large it is.
    if (X::kDot) s.v[r] = Mul(s.v[r], Set(a.factor));
  }
  const Terms<float>& terms = a.call->terms;
  if (terms.any()) {
    if (terms.bends()) {
      s = Cap<L>(terms, s);
      capped(s);
    }
    At<L> at;
    at.slope = L::Same(Load(a.facts->slope + lane));
    const V position = Load(a.facts->position + lane);
    HEED_UNROLL for (int r = 0; r < kKeys; r++) {
      at.distance.v[r] = Sub(position, Set(static_cast<float>(a.key + r)));
      at.bias.v[r] = Load(a.bias + r * a.bias_step + lane);
    }
    if (a.bias_step == 1)
      HEED_UNROLL for (int r = 0; r < kKeys; r++) at.bias.v[r] = Splat(a.bias + r);
    s = L::Mul(Offset<L>(terms, s, at), L::Const(a.outer));
  }
  if (edge) {
    const V first = Load(a.first + lane), last = Load(a.last + lane);
    HEED_UNROLL for (int r = 0; r < kKeys; r++) s.v[r] =
        Select(Visible<X>(a, lane, r, first, last), s.v[r], Set(kHidden));
  }
  return s;
}

}  // namespace heed::cpu::HEED_ISA
