// score_inputs.h: what a score tile reads, the same in forward and backward: who sees whom, rows of
// keys, the bias. Not here: scores (scores.h), where a walk keeps it all (work.h,
// gradient_work.h).
#pragma once

#include "cpu/scores.h"
#include "cpu/staging.h"

namespace heed::cpu::HEED_ISA {

// Who sees what of the block of `keys` keys at k0.
HEED_INLINE void LiveOf(const ForwardCall& c, const Entry& entry, const RowState& rows,
                        const RowFacts& facts, std::int64_t k0, int keys, Live* live) {
  FindLiveByInterval(rows, entry.sees, k0, keys, live);
  if (live->live && (c.mask.data || c.block_map.data))
    FindLiveByMask(c, rows, facts, k0, keys, live);
}

// The vectors that see some of a column (one does): `count` from `at` on; one between them may not.
HEED_INLINE void VectorsOf(const Live& live, int vectors, Columns column, int* at, int* count) {
  int first = 0, end = vectors;
  while (!(live.any[first] & column)) first++;
  while (!(live.any[end - 1] & column)) end--;
  *at = first;
  *count = end - first;
}

// What all columns of a tile and a block have in common; the caller adds where its workspace is.
// first, last: [kRows] of it.
template <class X>
HEED_INLINE ScoreArgs<X> BlockArgs(const ForwardCall& c, const Entry& entry, const RowState& rows,
                                   std::int64_t k0, int keys, const ScoreFactors& factors,
                                   float* first, float* last, RowFacts* facts, BiasStage* bias) {
  if (c.terms.bias && !facts->one_bias) bias->at = -1;
  for (int r = 0; r < kRows; r++) {
    first[r] = static_cast<float>(Clamp(rows.first[r] - k0, 0, keys));
    last[r] = static_cast<float>(Clamp(rows.last[r] - k0, 0, keys));
  }
  if (c.terms.positional())
    for (int r = 0; r < kRows; r++)
      facts->position[r] = static_cast<float>(facts->query[r] + entry.sees.shift - k0);
  ScoreArgs<X> a;
  a.factor = factors.product;
  a.outer = factors.outer;
  a.first = first;
  a.last = last;
  a.call = &c;
  a.facts = facts;
  a.bias = bias->values[0];
  a.bias_step = 0;
  return a;
}

// kKeys rows: packed; or, with `packed` null, where they lie; or, where the sequence ends within them,
// in a copy: what lies behind the last key is not ours to read. left: rows that exist; bytes: from row
// to row.
template <class X, class E>
HEED_INLINE const typename X::U* KeyTile(const typename X::U* packed, int packed_step,
                                         const E* rows, std::int64_t step, int left, int units,
                                         typename X::U* tail, std::int64_t* bytes) {
  using U = typename X::U;
  if (packed) {
    *bytes = std::int64_t{packed_step} * 4;
    return packed;
  }
  if (left >= kKeys) {
    *bytes = step * static_cast<std::int64_t>(sizeof(E));
    return reinterpret_cast<const U*>(rows);
  }
  *bytes = std::int64_t{units} * 4;
  for (int r = 0; r < kKeys; r++) {
    U* const to = tail + static_cast<std::int64_t>(r) * units;
    if (r < left)
      __builtin_memcpy(to, rows + r * step, static_cast<std::size_t>(units) * 4);
    else
      __builtin_memset(to, 0, static_cast<std::size_t>(units) * 4);
  }
  return tail;
}

// The bias of keys [a->key, a->key + kKeys) of a block of `keys`, staged unless it is already.
template <class F>
HEED_INLINE void AimBias(const ForwardCall& c, const RowFacts& facts, const RowState& rows,
                         int keys, BiasStage* stage, ScoreArgs<typename F::X>* a) {
  using Full = Format<DType::kF32>;
  if (facts.one_bias) {
    const std::int64_t row = facts.bias[0], k0 = a->j - a->key;
    if (stage->at != k0 || stage->step != 1 || stage->row != row || stage->keys < keys) {
      if (c.bias_f32)
        StageBiasRow<Full>(c.bias, row, k0, keys, stage);
      else
        StageBiasRow<F>(c.bias, row, k0, keys, stage);
    }
    a->bias_step = 1;
    a->bias = stage->values[0] + a->key;
    return;
  }
  const int in = a->key % kStage;
  const std::int64_t j = a->j - in;
  const bool staged = stage->at >= 0 && (stage->step == 0 || stage->at == j);
  if (!staged) {
    const int n = keys - (a->key - in) < kStage ? keys - (a->key - in) : kStage;
    if (c.bias_f32)
      StageBias<Full>(c.bias, facts, rows.vectors, j, n, stage);
    else
      StageBias<F>(c.bias, facts, rows.vectors, j, n, stage);
  }
  LookAheadInBias(c.bias, c.bias_f32 ? 4 : std::int64_t{sizeof(typename F::E)}, facts, rows.rows,
                  j + kStage, kStage, in / kKeys);
  a->bias_step = stage->step;
  a->bias = stage->values[0] + in * stage->step;
}

}  // namespace heed::cpu::HEED_ISA
