// gradient_tile.h: a tile of the backward, kKeys keys and up to kVecs vectors of queries, in two steps:
// from the score product to P, and from the product with V to dS, both as the sums want them. Each in
// a fast form, for tiles that are wholly visible and have no terms, and a general one that is always
// right. Everything per query is a lane. Not here:
// the sums (tiles.h), the walk over tiles.
#pragma once

#include "cpu/softmax.h"

namespace heed::cpu::HEED_ISA {

// Queries whose P and dS lie side by side: kGradTiles tiles.
inline constexpr int kGradTiles = 192 / kRows > 0 ? 192 / kRows : 1;

// Units from row to row: an odd number of cache lines, so that a column of them meets every L1 set.
constexpr int OddLines(int units) { return ((units + 15) / 16 | 1) * 16; }

// Where P and dS lie, for the block's keys and the queries of kGradTiles tiles:
//
//   p, ds  [keys][kAcross]       units along the queries: floats, or pairs (i, i + 1)
//   zs     [key units][kDown]    dS again, units along the keys: pairs (j, j + 1). Floats have no use
//                                for it: kAcross is kDown, zs is ds
template <class X>
inline constexpr int kAcross = OddLines(kGradTiles* kRows / X::kPair);
inline constexpr int kDown = OddLines(kGradTiles * kRows);

// What the general tile leaves of dS for the bias, before the derivative of a softcap.
struct BiasGradientStage {
  static constexpr int kKeysAtOnce = W > kKeys ? W : kKeys;
  float pairs[kKeysAtOnce][kRows];  // kPairs
  float queries[kRows];             // kQueries: sums over the keys so far
  float (*keys)[W];                 // kKeys: lanes to be summed, per key of the block
};

template <class X>
struct GradientArgs {
  using U = typename X::U;
  ScoreArgs<X> s;  // the scores
  int units_v;
  const U* v;           // kKeys readable rows
  std::int64_t v_step;  // bytes
  const U* dout;        // transposed like qt, of vector 0
  const float *shift, *weight,
      *delta;        // of all kRows rows: p = 2^(s - shift) * weight; no weight: 1
  float *dp, *rate;  // [kKeys][kRows] scratch, L1
  U *p, *ds, *zs;    // of the block's first key and the tile's first query
  BiasGradient::Kind kind;
  BiasGradientStage* bias;
  bool drops;
  bool general;  // no tile of it is for the fast way
};

template <class X>
HEED_INLINE typename X::U* AcrossAt(typename X::U* base, int key, int lane) {
  return base + static_cast<std::int64_t>(key) * kAcross<X> + lane / X::kPair;
}

// P of one key and vector: rounded where it is a factor of pairs.
template <class X>
HEED_INLINE void StoreAcross(typename X::U* to, V x) {
#if defined(HEED_NATIVE_BF16)
  if constexpr (X::kDot) return StoreHalves(to, x);
#endif
  if constexpr (!X::kDot) Store(to, x);
}

// dS of keys key, key + 1 and the vector at `lane`, in both layouts.
template <class X>
HEED_INLINE void StoreGradients(const GradientArgs<X>& a, int key, int lane, V x, V y) {
  StoreAcross<X>(AcrossAt<X>(a.ds, key, lane), x);
  StoreAcross<X>(AcrossAt<X>(a.ds, key + 1, lane), y);
#if defined(HEED_NATIVE_BF16)
  if constexpr (X::kDot) StoreP(a.zs + key / 2 * kDown + lane, PackP(x, y));
#endif
}

// Zeros for `keys` keys from `key` on and one vector.
template <class X>
HEED_INLINE void ClearGradients(const GradientArgs<X>& a, int key, int lane) {
  for (int r = key; r < key + kKeys; r += 2) {
    StoreAcross<X>(AcrossAt<X>(a.p, r, lane), Zero());
    StoreAcross<X>(AcrossAt<X>(a.p, r + 1, lane), Zero());
    StoreGradients<X>(a, r, lane, Zero(), Zero());
  }
}

// Columns whose P is made before the dS of the first: both products read a whole packed tile, and
// taking turns they would push each other out of a small L1 (at d = 128, 24 KB each).
inline constexpr int kColumnsAtOnce = 64 / kKeys;

template <class X, int kCount>
HEED_NOINLINE void FastProbabilities(const GradientArgs<X>& a) {
  constexpr int kDegree = X::kDot ? 4 : 5;
  const int lane0 = a.s.at * W;
  V x[kKeys][kCount];
  ScoreTile<X, kCount>(a.s.units, a.s.k, a.s.k_step, a.s.qt + lane0, x);
  HEED_UNROLL for (int v = 0; v < kCount; v++) {
    const V shift = Load(a.shift + lane0 + v * W), factor = Set(a.s.factor);
    HEED_UNROLL for (int r = 0; r < kKeys; r++) {
      const V p = Exp2OrZero<kDegree>(X::kDot ? Fms(x[r][v], factor, shift) : Sub(x[r][v], shift));
      StoreAcross<X>(AcrossAt<X>(a.p, a.s.key + r, lane0 + v * W), p);
      if constexpr (X::kDot) Store(a.s.scores + r * kRows + v * W, p);
    }
  }
}
template <class X, int kCount>
HEED_NOINLINE void FastGradients(const GradientArgs<X>& a) {
  const int lane0 = a.s.at * W, key = a.s.key;
  V x[kKeys][kCount];
  ScoreTile<X, kCount>(a.units_v, a.v, a.v_step, a.dout + lane0, x);
  HEED_UNROLL for (int v = 0; v < kCount; v++) {
    const V delta = Load(a.delta + lane0 + v * W);
    HEED_UNROLL for (int r = 0; r < kKeys; r += 2) {
      V ds[2];
      HEED_UNROLL for (int i = 0; i < 2; i++) {
        V p;
        if constexpr (X::kDot)
          p = Load(a.s.scores + (r + i) * kRows + v * W);
        else
          p = Load(AcrossAt<X>(a.p, key + r + i, lane0 + v * W));
        ds[i] = Mul(p, Sub(x[r + i][v], delta));
      }
      StoreGradients<X>(a, key + r, lane0 + v * W, ds[0], ds[1]);
    }
  }
}

// Probabilities of vector v, from the products in a.s.scores: undropped and unrounded back there,
// and to P.
template <class X>
HEED_INLINE void Probabilities(const GradientArgs<X>& a, int v, bool edge) {
  using L = BundleLanes;
  constexpr int kDegree = X::kDot ? 4 : 5;
  const int lane = (a.s.at + v) * W;
  const V shift = Load(a.shift + lane);
  Bundle s = FinalScores<X>(
      a.s, v, edge, [&](const Bundle& capped) __attribute__((always_inline)) {
        const Bundle rate = CapRate<L>(a.s.call->terms, capped);
        HEED_UNROLL for (int r = 0; r < kKeys; r++) Store(a.rate + r * kRows + v * W, rate.v[r]);
      });
  HEED_UNROLL for (int r = 0; r < kKeys; r++) s.v[r] = Exp2OrZero<kDegree>(Sub(s.v[r], shift));
  if (HEED_UNLIKELY(a.weight != nullptr)) s = L::Mul(s, L::Same(Load(a.weight + lane)));
  HEED_UNROLL for (int r = 0; r < kKeys; r++) Store(a.s.scores + r * kRows + v * W, s.v[r]);
  if (a.drops)  // 1 / (1 - p_drop) once, on dv
    HEED_UNROLL for (int r = 0; r < kKeys; r++) s.v[r] = Select((*a.s.keep)[r][v], s.v[r], Zero());
  HEED_UNROLL for (int r = 0; r < kKeys; r++)
      StoreAcross<X>(AcrossAt<X>(a.p, a.s.key + r, lane), s.v[r]);
}

// dS of vector v, from dP in a.dp and p in a.s.scores.
template <class X>
HEED_INLINE void Gradients(const GradientArgs<X>& a, int v) {
  using L = BundleLanes;
  const int lane = (a.s.at + v) * W;
  const V delta = Load(a.delta + lane);
  Bundle ds;
  HEED_UNROLL for (int r = 0; r < kKeys; r++) {
    V dp = Load(a.dp + r * kRows + v * W);
    if (a.drops)
      dp = Fms(Select((*a.s.keep)[r][v], dp, Zero()), Set(a.s.call->keep_factor), delta);
    else
      dp = Sub(dp, delta);
    ds.v[r] = Mul(Load(a.s.scores + r * kRows + v * W), dp);
  }
  switch (a.kind) {
    case BiasGradient::Kind::kNone:
      break;
    case BiasGradient::Kind::kPairs:
      HEED_UNROLL for (int r = 0; r < kKeys; r++)
          Store(a.bias->pairs[a.s.key % BiasGradientStage::kKeysAtOnce + r] + lane, ds.v[r]);
      break;
    case BiasGradient::Kind::kKeys:
      HEED_UNROLL for (int r = 0; r < kKeys; r++) {
        float* const sum = a.bias->keys[a.s.key + r];
        Store(sum, Add(Load(sum), ds.v[r]));
      }
      break;
    case BiasGradient::Kind::kQueries:
      V sum = Load(a.bias->queries + lane);
      HEED_UNROLL for (int r = 0; r < kKeys; r++) sum = Add(sum, ds.v[r]);
      Store(a.bias->queries + lane, sum);
      break;
  }
  if (a.s.call->terms.bends()) {
    Bundle rate;
    HEED_UNROLL for (int r = 0; r < kKeys; r++) rate.v[r] = Load(a.rate + r * kRows + v * W);
    ds = L::Mul(ds, rate);
  }
  HEED_UNROLL for (int r = 0; r < kKeys; r += 2)
      StoreGradients<X>(a, a.s.key + r, lane, ds.v[r], ds.v[r + 1]);
}

template <class X, int kCount>
HEED_NOINLINE void GeneralProbabilities(const GradientArgs<X>& a, bool edge) {
  StoreProducts<X, kCount>(a.s.units, a.s.k, a.s.k_step, a.s.qt + a.s.at * W, a.s.scores);
  if (a.drops) KeepTile<kCount>(a.s.call->dropout, a.s.facts->dropout, a.s.j, a.s.at, *a.s.keep);
  for (int v = 0; v < kCount; v++) Probabilities<X>(a, v, edge);
}
template <class X, int kCount>
HEED_NOINLINE void GeneralGradients(const GradientArgs<X>& a) {
  StoreProducts<X, kCount>(a.units_v, a.v, a.v_step, a.dout + a.s.at * W, a.dp);
  for (int v = 0; v < kCount; v++) Gradients<X>(a, v);
}

}  // namespace heed::cpu::HEED_ISA
