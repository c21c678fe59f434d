// staging.h: a bias as the score tile wants it: floats [keys][kRows], whatever its dtype, its
// strides and the axes it repeats along. Not here: adding it (score/terms.h).
#pragma once

#include "cpu/packing.h"
#include "cpu/rows.h"

namespace heed::cpu::HEED_ISA {

// Keys staged at once. Each of a tile's rows lies in a page of its own, more pages than the first
// TLB holds: with 16 keys at a time, and pages of 4 KB, the visits cost 5 to 7 points. 64 push the
// queries out of L1 (3 points; with pairs 1 to 3).
inline constexpr int kStage = 32;
static_assert(kStage % W == 0 && kStage % kKeys == 0);

struct BiasStage {
  float values[kStage][kRows];
  std::int64_t at;  // the key that values[0] belongs to; -1: none
  // Floats from key to key: kRows, 0 where all keys have the same, or 1 where all rows do.
  int step;
  // Step 1: elements from the array's start to the row's key 0, and how many keys are staged. Another
  // entry may have the same row and more keys.
  std::int64_t row;
  int keys;
};

template <class F>
HEED_INLINE float WidenOne(const typename F::E* p) {
  float x[W];
  Store(x, F::WidenN(p, 1));
  return x[0];
}

// Finite values beyond what log2(e) may be multiplied with are brought in; they are rare, so it is
// asked first whether there are any.
struct FoldCheck {
  V low = Zero(), high = Zero();
  HEED_INLINE V Note(V x) {
    low = Min(x, low);
    high = Max(x, high);
    return x;
  }
  HEED_INLINE void Settle(float* values, int rows, int vectors) const {
    const V limit = Set(kFoldLimit<float>);
    if (HEED_UNLIKELY(!AllLe(high, limit) || !AllLe(Set(-kFoldLimit<float>), low)))
      for (int r = 0; r < rows; r++, values += kRows)
        for (int v = 0; v < vectors; v++)
          Store(values + v * W, ClampFinite(Load(values + v * W), kFoldLimit<float>));
  }
};

// Keys [j, j + n) of `vectors` vectors of rows.
template <class F>
HEED_NOINLINE void StageBias(const Spread& bias, const RowFacts& facts, int vectors, std::int64_t j,
                             int n, BiasStage* stage) {
  const auto* const p = static_cast<const typename F::E*>(bias.data);
  FoldCheck check;
  stage->at = j;
  stage->step = kRows;
  if (bias.col == 0) {
    for (int r = 0; r < vectors * W; r++) stage->values[0][r] = WidenOne<F>(p + facts.bias[r]);
    for (int v = 0; v < vectors; v++) check.Note(Load(stage->values[0] + v * W));
    stage->step = 0;
    return check.Settle(stage->values[0], 1, vectors);
  }
  if (facts.one_bias) {
    for (int key = 0; key < n; key++) {
      const V x = check.Note(Set(WidenOne<F>(p + facts.bias[0] + (j + key) * bias.col)));
      for (int v = 0; v < vectors; v++) Store(stage->values[key] + v * W, x);
    }
    return check.Settle(stage->values[0], n, vectors);
  }
  for (int v = 0; v < vectors; v++)
    for (int key = 0; key < n; key += W) {
      const int count = n - key < W ? n - key : W;
      const std::int64_t* const at = facts.bias + v * W;
      const typename F::E* const from = p + (j + key) * bias.col;
      V x[W];
      if (HEED_UNLIKELY(bias.col != 1)) {
        for (int i = 0; i < W; i++) {
          typename F::E t[W] = {};
          for (int c = 0; c < count; c++) t[c] = from[at[i] + c * bias.col];
          x[i] = F::Widen(t);
        }
      } else if (HEED_UNLIKELY(count < W)) {
        for (int i = 0; i < W; i++) x[i] = F::WidenN(from + at[i], count);
      } else {
        HEED_UNROLL for (int i = 0; i < W; i++) x[i] = F::Widen(from + at[i]);
        Transpose(x);
        HEED_UNROLL for (int i = 0; i < W; i++)
            Store(stage->values[key + i] + v * W, check.Note(x[i]));
        continue;
      }
      Transpose(x);
      for (int i = 0; i < W; i++) Store(stage->values[key + i] + v * W, check.Note(x[i]));
    }
  check.Settle(stage->values[0], n, vectors);
}

// Keys [j, j + n) of the one row that all rows of a tile have: a float per key is enough, and the
// keys of a whole block may be staged at once, for every tile of it.
template <class F>
HEED_NOINLINE void StageBiasRow(const Spread& bias, std::int64_t row, std::int64_t j, int n,
                                BiasStage* stage) {
  const auto* const p = static_cast<const typename F::E*>(bias.data) + row + j * bias.col;
  float* const values = stage->values[0];
  FoldCheck check;
  stage->at = j;
  stage->step = 1;
  stage->row = row;
  stage->keys = n;
  int key = 0;
  if (bias.col == 1)
    for (; key + W <= n; key += W) Store(values + key, check.Note(F::Widen(p + key)));
  for (; key < n; key++) values[key] = WidenOne<F>(p + key * bias.col);
  const int last = (n + W - 1) / W * W;
  for (; key < last; key++) values[key] = 0;
  for (key = 0; key < last; key += W) check.Note(Load(values + key));
  check.Settle(values, 1, last / W);
}
static_assert(kMaxKeys <= kStage * kRows, "a block's keys fit");

// Asks for a part of the stage of `keys` keys from j on: bias bytes come from memory or the outer
// caches, and in one burst they would wait for each other. A tile in keys / kKeys calls, it asks for
// every so manieth row, the last byte of each line's worth: the first may be here already. Asking for
// the next tile's rows a block of keys long, which visits each page once, loses 1 point.
HEED_INLINE void LookAheadInBias(const Spread& bias, std::int64_t bytes, const RowFacts& facts,
                                 int rows, std::int64_t j, int keys, int part) {
  if (bias.col != 1) return;
  const char* const p = static_cast<const char*>(bias.data) + j * bytes + 63;
  for (int r = part; r < rows; r += keys / kKeys)
    for (int byte = 0; byte < keys * bytes; byte += 64)
      __builtin_prefetch(p + facts.bias[r] * bytes + byte, 0, 2);
}

}  // namespace heed::cpu::HEED_ISA
