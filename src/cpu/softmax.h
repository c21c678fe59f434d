// softmax.h: the two score tiles: a fast one, for tiles that are wholly visible to rows that know
// their maximum, and a general one that is always right. Everything per query is a lane: no
// horizontal operation. Not here: P.V, the walk over tiles.
#pragma once

#include "cpu/exp2.h"
#include "cpu/tiles.h"

namespace heed::cpu::HEED_ISA {

// Row state of one query tile, in units of log2 (scores times log2(e)).
//
// m is not the running maximum but a *recent* one: p = 2^(s - m) may grow up to kSumLimit before m
// is raised (lazy rescaling). p is f32 or bf16, both with 8 exponent bits, so that costs no
// accuracy, and most tiles need no maximum at all. When m is raised it is by a whole number, so
// that rescaling multiplies by a power of two and is exact.
struct RowState {
  float m[kRows];    // kUnset until the row has seen a score above -infinity
  float l[kRows];    // sum of p; 0 until then, and at least 1/2 from then on
  float lr[kRows];   // pairs only: the sum of p as rounded to bf16, by which o is divided: the
                     // roundings of p cancel in it
  float lr0[kRows];  // lr before the current block of keys
  std::int32_t first[kRows],
      last[kRows];  // keys [first, last) that the row sees; both never fall from row to row
  int rows,
      vectors;  // rows that exist, vectors that hold them; the lanes beyond repeat the last row
  unsigned settled;  // bit v: every lane of vector v has seen something, so that the fast tile may
                     // take it
  bool begun;        // o holds the sum of earlier blocks
  bool odd;          // some result is not finite
  bool final;        // second pass: m is the row's lse and stays: no sum exceeds the largest |v|
};
inline constexpr float kUnset = -1e30f;
inline constexpr float kSumLimit = 0x1p60f,
                       kGrowth =
                           60.f;  // a row sum beyond it, infinity and NaN go to the general tile

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
  int from;      // first key of the block that this tile's P holds (earlier rows are not written)
  int at;        // first vector
  float factor;  // pairs: scale * log2(e); floats carry it in qt
  const float *first, *last;  // edges only: the rows' visible keys, within the block
  float* scores;              // [kKeys][kRows] scratch, L1
  float* o;                   // [kRows][o_step] sums of earlier blocks
  int o_step;
};

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
  typename X::U* p = a.pt + a.from / X::kPair * kRows + lane;
  [[maybe_unused]] V sum = Zero();
  for (int key = a.from; key < a.key; key += X::kPair, p += kRows) {
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
  if constexpr (X::kDot) {  // the sum of what P now holds, not a scaled sum of what it held
    Store(rows.lr0 + lane, Mul(Load(rows.lr0 + lane), factor));
    Store(rows.lr + lane, Add(Load(rows.lr0 + lane), sum));
  }
}

// Final scores of kKeys keys and vector v of the tile in place: units of log2, -infinity where not
// seen. Then m: set by the row's first score, raised when outgrown by 2^kGrowth.
template <class X>
HEED_INLINE void Settle(const ScoreArgs<X>& a, RowState& rows, int v, bool edge) {
  const int lane = (a.at + v) * W;
  const V hidden = Set(-__builtin_inff());
  V s[kKeys], top = hidden;
  HEED_UNROLL for (int r = 0; r < kKeys; r++) {
    s[r] = Load(a.scores + r * kRows + v * W);
    // Rounded here and not fused with the subtraction of m, so that s - m is exactly 0 at the
    // maximum, however large it is.
    if (X::kDot) s[r] = Mul(s[r], Set(a.factor));
  }
  if (edge) {
    const V first = Load(a.first + lane), last = Load(a.last + lane);
    HEED_UNROLL for (int r = 0; r < kKeys; r++) {
      const V key = Set(static_cast<float>(a.key + r));
      s[r] = Select(And(Le(first, key), Lt(key, last)), s[r], hidden);
    }
  }
  HEED_UNROLL for (int r = 0; r < kKeys; r++) {
    Store(a.scores + r * kRows + v * W, s[r]);
    top = Max(top, s[r]);
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

// Any tile. Always right: terms, edges, first scores of a row, an outgrown m, infinities and NaN.
template <class X, int kCount>
HEED_NOINLINE void GeneralTile(const ScoreArgs<X>& a, RowState& rows, bool edge) {
  constexpr int kDegree = X::kDot ? 4 : 5;
  {
    V s[kKeys][kCount];
    ScoreTile<X, kCount>(a.units, a.k, a.k_step, a.qt + a.at * W, s);
    HEED_UNROLL for (int r = 0; r < kKeys; r++) HEED_UNROLL for (int v = 0; v < kCount; v++)
        Store(a.scores + r * kRows + v * W, s[r][v]);
  }
  for (int v = 0; v < kCount; v++) Settle<X>(a, rows, v, edge);
  for (int v = 0; v < kCount; v++) {
    const int lane = (a.at + v) * W;
    const V m = Load(rows.m + lane);
    typename X::U* const pt = a.pt + a.key / X::kPair * kRows + lane;
    V sum = Zero(), rounded = Zero();  // the tile's own sum first: a third of the rounding error of
                                       // adding to the running one
    HEED_UNROLL for (int r = 0; r < kKeys; r += 2) {
      const V p0 = Exp2OrZero<kDegree>(Sub(Load(a.scores + r * kRows + v * W), m));
      const V p1 = Exp2OrZero<kDegree>(Sub(Load(a.scores + (r + 1) * kRows + v * W), m));
      sum = Add(Add(sum, p0), p1);
      StoreProbs<X>(pt + r / X::kPair * kRows, p0, p1, rounded);
    }
    const V l = Add(Load(rows.l + lane), sum);
    Store(rows.l + lane, l);
    if constexpr (X::kDot) Store(rows.lr + lane, Add(Load(rows.lr + lane), rounded));
    if (!Any(Le(l, Zero()))) rows.settled |= 1u << (a.at + v);
  }
}

}  // namespace heed::cpu::HEED_ISA
