// tiles.h: THE SEAM. The two tile products, score and accumulate, over a unit of the reduced axis.
// An instruction set with matrix instructions (AMX, bfmmla, SME) replaces these two functions and
// inherits everything else. Not here: softmax, loops.
#pragma once

#include "cpu/lanes/lanes.h"

namespace heed::cpu::HEED_ISA {

// A unit is 32 bits of the reduced axis: one float, or a pair of bf16. kPair elements of the axis
// are one unit.
struct FloatUnit {
  using U = float;
  static constexpr int kPair = 1;
  static constexpr bool kDot = false;
  static HEED_INLINE V Ld(const U* p) { return Load(p); }
  static HEED_INLINE V Broadcast(const U* p) { return Splat(p); }
  static HEED_INLINE V Mac(V a, V b, V c) { return Fma(a, b, c); }
};
#if defined(HEED_NATIVE_BF16)
struct PairUnit {
  using U = std::uint32_t;
  static constexpr int kPair = 2;
  static constexpr bool kDot = true;
  static HEED_INLINE VP Ld(const U* p) { return LoadP(p); }
  static HEED_INLINE VP Broadcast(const U* p) {  // rows of bf16 may start at an odd element
    U u;
    __builtin_memcpy(&u, p, sizeof u);
    return SetP(u);
  }
  static HEED_INLINE V Mac(VP a, VP b, V c) { return Dot(a, b, c); }
};
#endif

// S transposed, lanes along the queries: acc[r][v] = sum over units u of k[r][u] * qt[u][v].
//
//              query vectors v: 0   1   2        qt  [units][kRows], packed once per query tile
//   key r = 0                  acc acc acc
//       ...                                      k   kKeys rows, k_step BYTES apart, as they lie in
//   key r = 7                  acc acc acc           memory: K is never packed for this
//
// Assumes: units >= 1; k + r * k_step readable for every r < kKeys; no alignment. kCount <= kVecs
// vectors from qt on.
template <class X, int kCount>
HEED_INLINE void ScoreTile(int units, const typename X::U* k, std::int64_t k_step,
                           const typename X::U* qt, V (&acc)[kKeys][kCount]) {
  using U = typename X::U;
  HEED_UNROLL for (int r = 0; r < kKeys; r++) HEED_UNROLL for (int v = 0; v < kCount; v++)
      acc[r][v] = Zero();
  // Three base pointers keep every address within base + 2 * step: x86 has that form, eight
  // pointers would cost registers.
  const char* p[3] = {reinterpret_cast<const char*>(k), nullptr, nullptr};
  p[1] = p[0] + 3 * k_step;
  p[2] = p[0] + 6 * k_step;
  HEED_UNROLL_2
  for (int u = 0; u < units; u++) {
    decltype(X::Ld(qt)) q[kCount];
    HEED_UNROLL for (int v = 0; v < kCount; v++) q[v] = X::Ld(qt + v * W);
    qt += kRows;
    HEED_UNROLL for (int r = 0; r < kKeys; r++) {
      const auto b = X::Broadcast(reinterpret_cast<const U*>(p[r / 3] + (r % 3) * k_step) + u);
      HEED_UNROLL for (int v = 0; v < kCount; v++) acc[r][v] = X::Mac(b, q[v], acc[r][v]);
    }
  }
}

// Rows of an accumulate tile that is kCols column vectors wide: as many as registers hold, dividing
// kRows.
constexpr int AccumulateRows(int cols) {
  int rows = kAcc / cols;
  while (kRows % rows) rows--;
  return rows;
}

// Of `left` vectors of columns those that one call takes: the widest tiles that registers hold, 4, 4, ..
// and then what is left, 5 as 3 + 2.
constexpr int ColsAtOnce(int left) {
  if (left == kMaxCols + 1 && kMaxCols > 2) return kMaxCols - 1;
  return left < kMaxCols ? left : kMaxCols;
}

// Units [first, first + units) of the reduced axis.
struct Run {
  int first, units;
};

// Lanes along d: out[r][:] = (from[r][:] + sum over the units u of all runs of pt(u, r) * x[u][:]) *
// factor[r].
//
//   pt      pt(u, r) = pt[u * kUnitStep + r * kRowStep]: in the forward [units][kRows], the
//           probabilities transposed
//   x       [units][..]     rows x_step units apart
//   from    null: start at zero
//   factor  null: 1; a factor of 0 writes 0, whatever the sum holds
//   rows    how many of the kCount are written; the others are computed from what pt holds and
//           thrown away
struct AccumulateArgs {
  const Run* runs;
  int count;
  const void* pt;
  const void* x;
  std::int64_t x_step;
  const float* from;
  std::int64_t from_step;
  float* out;
  std::int64_t out_step;
  const float* factor;
  int rows;
};
// Returns whether every sum is finite; only with a factor, that is, when they are complete.
template <class X, int kCols, int kUnitStep = kRows, int kRowStep = 1,
          int kCount = AccumulateRows(kCols)>
HEED_NOINLINE bool AccumulateTile(const AccumulateArgs& a) {
  using U = typename X::U;
  V acc[kCount][kCols];
  if (a.from) {
    HEED_UNROLL for (int r = 0; r < kCount; r++) HEED_UNROLL for (int v = 0; v < kCols; v++)
        acc[r][v] = Load(a.from + r * a.from_step + v * W);
  } else {
    HEED_UNROLL for (int r = 0; r < kCount; r++) HEED_UNROLL for (int v = 0; v < kCols; v++)
        acc[r][v] = Zero();
  }
  for (const Run *run = a.runs, *end = run + a.count; run != end; run++) {
    const U* pt = static_cast<const U*>(a.pt) + static_cast<std::int64_t>(run->first) * kUnitStep;
    const U* x = static_cast<const U*>(a.x) + run->first * a.x_step;
    HEED_UNROLL_2
    for (int u = 0; u < run->units; u++) {
      decltype(X::Ld(x)) xs[kCols];
      HEED_UNROLL for (int v = 0; v < kCols; v++) xs[v] = X::Ld(x + v * W);
      x += a.x_step;
      HEED_UNROLL for (int r = 0; r < kCount; r++) {
        const auto b = X::Broadcast(pt + r * kRowStep);
        HEED_UNROLL for (int v = 0; v < kCols; v++) acc[r][v] = X::Mac(b, xs[v], acc[r][v]);
      }
      pt += kUnitStep;
    }
  }
  V odd[kCols];  // become NaN
  HEED_UNROLL for (int v = 0; v < kCols; v++) odd[v] = Zero();
  if (a.factor) {
    HEED_UNROLL for (int r = 0; r < kCount; r++) {
      const V f = Set(a.factor[r]);
      const M none = Eq(f, Zero());
      HEED_UNROLL for (int v = 0; v < kCols; v++) {
        acc[r][v] = Select(none, Zero(), Mul(acc[r][v], f));
        if (r < a.rows) odd[v] = Fma(acc[r][v], Zero(), odd[v]);
      }
    }
  }
  HEED_UNROLL for (int r = 0; r < kCount; r++) if (r < a.rows)
      HEED_UNROLL for (int v = 0; v < kCols; v++) Store(a.out + r * a.out_step + v * W, acc[r][v]);
  HEED_UNROLL for (int v = 1; v < kCols; v++) odd[0] = Add(odd[0], odd[v]);
  return AllLe(odd[0], odd[0]);
}

}  // namespace heed::cpu::HEED_ISA
