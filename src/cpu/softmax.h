// softmax.h: the two score tiles: a fast one, for tiles that are wholly visible to rows that know
// their maximum, and a general one that is always right. Everything per query is a lane: no
// horizontal operation. Not here: P.V, the walk over tiles.
#pragma once

#include "cpu/exp2.h"
#include "cpu/scores.h"

namespace heed::cpu::HEED_ISA {

// Probabilities of two keys (r, r + 1) and one vector, as P is laid out: floats row by row, pairs
// interleaved.
template <class X>
HEED_INLINE void StoreProbs(typename X::U* pt, V p0, V p1, [[maybe_unused]] V& rounded_sum) {
  if constexpr (X::kDot) {
#if defined(HEED_NATIVE_BF16)
    const VP p = PackP(p0, p1);
    StoreP(pt, p);
    rounded_sum = Dot(p, SetP(0x3f803f80), rounded_sum);  // 1, 1
#endif
  } else {
    Store(pt, p0);
    Store(pt + kRows, p1);
  }
}

// Up to `tiles` score tiles in a row, all of whose keys all lanes see, with m known. No maximum:
// the row sums, needed anyway, show a lane that outgrew m, an infinity or a NaN. Returns how many
// were done: of the first that is not, nothing is kept, and the caller takes the general tile.
template <class X, int kCount>
HEED_NOINLINE int FastTiles(const ScoreArgs<X>& a, int tiles, RowState& rows) {
  constexpr int kDegree = X::kDot ? 4 : 5;
  // Where constants of the exponential need registers, a loop around the tile would keep them there
  // and spill the tile.
  if constexpr (!kTileRuns) tiles = 1;
  const typename X::U* k = a.k;
  typename X::U* pt = a.pt + a.key / X::kPair * kRows + a.at * W;
  for (int tile = 0; tile < tiles; tile++) {
    V s[kKeys][kCount], sum[kCount], rounded[kCount];
    ScoreTile<X, kCount>(a.units, k, a.k_step, a.qt + a.at * W, s);
    bool fits = true;
    HEED_UNROLL for (int v = 0; v < kCount; v++) {
      const V m = Load(rows.m + (a.at + v) * W), factor = Set(a.factor);
      V even = Zero(), odd = Zero();
      rounded[v] = Zero();
      HEED_UNROLL for (int r = 0; r < kKeys; r += 2) {
        const V p0 = Exp2<kDegree>(X::kDot ? Fms(s[r][v], factor, m) : Sub(s[r][v], m));
        const V p1 = Exp2<kDegree>(X::kDot ? Fms(s[r + 1][v], factor, m) : Sub(s[r + 1][v], m));
        even = Add(even, p0);
        odd = Add(odd, p1);
        StoreProbs<X>(pt + r / X::kPair * kRows + v * W, p0, p1, rounded[v]);
      }
      sum[v] = Add(even, odd);
      fits &= AllLe(sum[v], Set(kSumLimit));
    }
    if (HEED_UNLIKELY(!fits)) return tile;
    HEED_UNROLL for (int v = 0; v < kCount; v++) {
      float* const l = rows.l + (a.at + v) * W;
      float* const lr = rows.lr + (a.at + v) * W;
      Store(l, Add(Load(l), sum[v]));
      if constexpr (X::kDot) Store(lr, Add(Load(lr), rounded[v]));
    }
    k = reinterpret_cast<const typename X::U*>(reinterpret_cast<const char*>(k) + kKeys * a.k_step);
    pt += kKeys / X::kPair * kRows;
  }
  return tiles;
}

// Lanes of vector v raise m to `raised`: l, o and the P of this block are multiplied by 2^(m -
// raised). Rare.
template <class X>
HEED_NOINLINE void Rescale(const ScoreArgs<X>& a, RowState& rows, int v, V raised) {
  const int lane = v * W;
  const V factor = Exp2OrZero<5>(Sub(Load(rows.m + lane), raised));
  Store(rows.l + lane, Mul(Load(rows.l + lane), factor));
  alignas(64) float f[W];
  Store(f, factor);
  if (rows.begun)
    for (int q = 0; q < W; q++)
      if (f[q] != 1.f)
        for (int c = 0; c < a.o_step; c += W) {
          float* const o = a.o + (lane + q) * a.o_step + c;
          Store(o, Mul(Load(o), Set(f[q])));
        }
  [[maybe_unused]] V sum = Zero();
  for (Columns left = a.before; left; left &= left - 1) {
    typename X::U* p = a.pt + __builtin_ctzll(left) * kKeys / X::kPair * kRows + lane;
    for (int r = 0; r < kKeys; r += X::kPair, p += kRows) {
      if constexpr (X::kDot) {
#if defined(HEED_NATIVE_BF16)
        const VP x = LoadP(p);
        const VP y = PackP(Mul(LowP(x), factor), Mul(HighP(x), factor));
        StoreP(p, y);
        sum = Dot(y, SetP(0x3f803f80), sum);
#endif
      } else {
        Store(p, Mul(Load(p), factor));
      }
    }
  }
  if constexpr (X::kDot) {
    if (a.call->drops) {  // P lacks what was dropped; powers of two keep the sum as it was
      Store(rows.lr + lane, Mul(Load(rows.lr + lane), factor));
      Store(rows.lr0 + lane, Mul(Load(rows.lr0 + lane), factor));
    } else {  // the sum of what P now holds, not a scaled sum of what it held
      Store(rows.lr0 + lane, Mul(Load(rows.lr0 + lane), factor));
      Store(rows.lr + lane, Add(Load(rows.lr0 + lane), sum));
    }
  }
}

// Final scores of kKeys keys and vector v of the tile in place. Then m: set by the row's first score,
// raised when outgrown by 2^kGrowth.
template <class X>
HEED_INLINE void Settle(const ScoreArgs<X>& a, RowState& rows, int v, bool edge) {
  const int lane = (a.at + v) * W;
  const V hidden = Set(kHidden);
  V top = hidden;
  const Bundle s = FinalScores<X>(a, v, edge, [](const Bundle&) __attribute__((always_inline)){});
  HEED_UNROLL for (int r = 0; r < kKeys; r++) {
    Store(a.scores + r * kRows + v * W, s.v[r]);
    top = Max(top, s.v[r]);
  }
  if (HEED_UNLIKELY(rows.final)) return;
  const V m = Load(rows.m + lane), l = Load(rows.l + lane);
  const M fresh = And(Eq(l, Zero()), Lt(hidden, top));
  const M grown = AndNot(fresh, Lt(Add(m, Set(kGrowth)), top));
  V raised = Select(fresh, top, m);
  if (HEED_UNLIKELY(Any(grown))) {
    // m + ceil(top - m), where that is exact and the factor is not 0 anyway; else top itself.
    const V rise = Sub(top, m);
    Exponent unused;
    const V up = Add(rise, Set(0.5f)), whole = Sub(up, Exp2Split(up, unused)), next = Add(m, whole);
    const M exact = And(And(Lt(rise, Set(120.f)), Eq(Sub(next, m), whole)), Le(top, next));
    raised = Select(grown, Select(exact, next, top), raised);
    Rescale<X>(a, rows, a.at + v, Select(grown, raised, m));
  }
  Store(rows.m + lane, raised);
}

// The scores of any tile, final: terms, edges, and an m that fits them.
template <class X, int kCount>
HEED_INLINE void SettledScores(const ScoreArgs<X>& a, RowState& rows, bool edge) {
  StoreProducts<X, kCount>(a.units, a.k, a.k_step, a.qt + a.at * W, a.scores);
  if (a.call->drops) KeepTile<kCount>(a.call->dropout, a.facts->dropout, a.j, a.at, *a.keep);
  for (int v = 0; v < kCount; v++) Settle<X>(a, rows, v, edge);
}

// Any tile. Always right: terms, edges, first scores of a row, an outgrown m, infinities and NaN.
// A fast tile for edges, which keeps its scores in registers, gains 2 points for random masks in pairs,
// half a point in floats, and nothing for windows.
template <class X, int kCount>
HEED_NOINLINE void GeneralTile(const ScoreArgs<X>& a, RowState& rows, bool edge) {
  constexpr int kDegree = X::kDot ? 4 : 5;
  SettledScores<X, kCount>(a, rows, edge);
  const bool drops = a.call->drops;
  for (int v = 0; v < kCount; v++) {
    const int lane = (a.at + v) * W;
    const V m = Load(rows.m + lane);
    typename X::U* const pt = a.pt + a.key / X::kPair * kRows + lane;
    V sum = Zero(), rounded = Zero();  // the tile's own sum first: a third of the rounding error of
                                       // adding to the running one
    HEED_UNROLL for (int r = 0; r < kKeys; r += 2) {
      V p0 = Exp2OrZero<kDegree>(Sub(Load(a.scores + r * kRows + v * W), m));
      V p1 = Exp2OrZero<kDegree>(Sub(Load(a.scores + (r + 1) * kRows + v * W), m));
      sum = Add(Add(sum, p0), p1);
      typename X::U* const to = pt + r / X::kPair * kRows;
      StoreProbs<X>(to, p0, p1, rounded);
      if (drops) {  // what is dropped counts in the sums
        V unused = Zero();
        p0 = Select((*a.keep)[r][v], p0, Zero());
        p1 = Select((*a.keep)[r + 1][v], p1, Zero());
        StoreProbs<X>(to, p0, p1, unused);
      }
    }
    const V l = Add(Load(rows.l + lane), sum);
    Store(rows.l + lane, l);
    if constexpr (X::kDot) Store(rows.lr + lane, Add(Load(rows.lr + lane), rounded));
    if (!Any(Le(l, Zero()))) rows.settled |= 1u << (a.at + v);
  }
}

// Probabilities for those who asked for them: exp(s - lse) of one tile into a.scores, negative
// where dropped; m is that of the finished rows. factor: of each row, 1 / l.
template <class X, int kCount>
HEED_NOINLINE void ProbabilityTile(const ScoreArgs<X>& a, RowState& rows, bool edge,
                                   const float* factor) {
  SettledScores<X, kCount>(a, rows, edge);
  for (int v = 0; v < kCount; v++) {
    const V m = Load(rows.m + (a.at + v) * W), f = Load(factor + (a.at + v) * W);
    for (int r = 0; r < kKeys; r++) {
      float* const at = a.scores + r * kRows + v * W;
      const V s = Load(at), p = Mul(Exp2OrZero<5>(Sub(s, m)), f);
      const M dropped =
          a.call->drops ? AndNot((*a.keep)[r][v], Lt(Set(kHidden), s)) : Lt(Zero(), Zero());
      Store(at, Select(dropped, Sub(Set(-0.f), p), p));
    }
  }
}

}  // namespace heed::cpu::HEED_ISA
