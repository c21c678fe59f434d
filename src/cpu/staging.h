// staging.h: a bias as the score tile wants it: floats [keys][kRows], whatever its dtype, its
// strides and the axes it repeats along. Not here: adding it (score/terms.h).
#pragma once

#include "cpu/packing.h"
#include "cpu/rows.h"

namespace heed::cpu::HEED_ISA {

// Keys staged at once: whole cache lines of the rows, whole score tiles.
inline constexpr int kStage = W > kKeys ? W : kKeys;
static_assert(kStage % W == 0 && kStage % kKeys == 0);

struct BiasStage {
  float values[kStage][kRows];
  std::int64_t at;  // the key that values[0] belongs to; -1: none
  int step;         // floats from key to key: kRows, or 0 where all keys have the same
};

template <class F>
HEED_INLINE float WidenOne(const typename F::E* p) {
  float x[W];
  Store(x, F::WidenN(p, 1));
  return x[0];
}

// Finite values beyond what log2(e) may be multiplied with are brought in.
HEED_INLINE V Foldable(V x) { return ClampFinite(x, kFoldLimit<float>); }

// Keys [j, j + n) of `vectors` vectors of rows.
template <class F>
HEED_NOINLINE void StageBias(const Spread& bias, const RowFacts& facts, int vectors, std::int64_t j,
                             int n, BiasStage* stage) {
  const auto* const p = static_cast<const typename F::E*>(bias.data);
  stage->at = j;
  stage->step = kRows;
  if (bias.col == 0) {
    for (int r = 0; r < vectors * W; r++) stage->values[0][r] = WidenOne<F>(p + facts.bias[r]);
    for (int v = 0; v < vectors; v++)
      Store(stage->values[0] + v * W, Foldable(Load(stage->values[0] + v * W)));
    stage->step = 0;
    return;
  }
  if (facts.bias[0] == facts.bias[kRows - 1]) {
    // One row for all: rows repeat along queries and, in packed tiles, along heads. (Its first and
    // last being the same row would not do for negative strides that meet; these are one head's.)
    bool same = true;
    for (int r = 1; r < kRows; r++) same &= facts.bias[r] == facts.bias[0];
    if (same) {
      for (int key = 0; key < n; key++) {
        const V x = Foldable(Set(WidenOne<F>(p + facts.bias[0] + (j + key) * bias.col)));
        for (int v = 0; v < vectors; v++) Store(stage->values[key] + v * W, x);
      }
      return;
    }
  }
  for (int v = 0; v < vectors; v++)
    for (int key = 0; key < n; key += W) {
      const int count = n - key < W ? n - key : W;
      V x[W];
      for (int i = 0; i < W; i++) {
        const typename F::E* const from = p + facts.bias[v * W + i] + (j + key) * bias.col;
        if (bias.col == 1) {
          x[i] = count == W ? F::Widen(from) : F::WidenN(from, count);
        } else {
          typename F::E t[W] = {};
          for (int c = 0; c < count; c++) t[c] = from[c * bias.col];
          x[i] = F::Widen(t);
        }
      }
      Transpose(x);
      for (int i = 0; i < W; i++) Store(stage->values[key + i] + v * W, Foldable(x[i]));
    }
}

// Asks for what lies a cache line ahead in every other row or, by `part`, in those between: bias
// bytes come from memory or the outer caches, 48 lines for 16 keys, and in one burst they wait for
// each other.
HEED_INLINE void LookAheadInBias(const Spread& bias, std::int64_t bytes, const RowFacts& facts,
                                 int rows, std::int64_t j, int part) {
  if (bias.col != 1) return;
  const char* const p = static_cast<const char*>(bias.data) + j * bytes + 64;
  for (int r = part; r < rows; r += 2) __builtin_prefetch(p + facts.bias[r] * bytes, 0, 3);
}

}  // namespace heed::cpu::HEED_ISA
