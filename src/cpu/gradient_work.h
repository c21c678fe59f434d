// gradient_work.h: the workspace of one thread of the backward, and where its parts lie. Not here:
// what is done with it; what threads share (cpu_backward.cpp).
#pragma once

#include "cpu/backward_call.h"
#include "cpu/carve.h"
#include "cpu/gradient_tile.h"
#include "cpu/score_inputs.h"

namespace heed::cpu::HEED_ISA {

inline constexpr int kMostSumRows = kAcc;  // of an accumulate tile, one column wide

// Sizes depend on the dims and the blocks, never on the sequence lengths.
//
//   for each of `tiles` query tiles   rows, facts, live; packed, where the wave does not hold them so
//   for their queries and the block   p, ds, zs (gradient_tile.h)
//   for the block of keys             dk, dv [keys][padded], unless in key_sums; sums of the bias'
//                                     gradient; packed: k, v [keys][step] for the scores, kd [key
//                                     units][step] for dq, where that does not read k
//   for kColumnsAtOnce columns        scores, rate [kKeys][kRows], keep
//   for a score tile                  dp [kKeys][kRows], bias, tails

// What is copied though the products could read it where it lies: rows that do not follow each other
// (of interleaved heads), which no prefetcher of the hardware follows and which meet few sets of the L1
// (8 heads over 2 in f32: 1 to 3 points; pairs up to 1). Copies change no bit.
HEED_INLINE bool Apart(const Steps& steps, int dim) { return steps.row != dim; }
// For the scores.
template <class F>
HEED_INLINE bool CopiesK(const BackwardCall& c) {
  return PacksK<F>(c.in.dim, false) || Apart(c.in.k_steps, c.in.dim);
}
template <class F>
HEED_INLINE bool CopiesV(const BackwardCall& c) {
  return PacksK<F>(c.in.dim_v, false) || Apart(c.in.v_steps, c.in.dim_v);
}
// For the sums.
template <class F>
HEED_INLINE bool WidensQ(const BackwardCall& c) {
  return PacksV<F>(c.in.dim, false) || Apart(c.in.q_steps, c.in.dim);
}
template <class F>
HEED_INLINE bool WidensDout(const BackwardCall& c) {
  return PacksV<F>(c.in.dim_v, false) || Apart(c.dout_steps, c.in.dim_v);
}

// Queries of consecutive tiles, packed:
//
//   q_t, dout_t [tile][unit][kRows]             for the scores
//   q, dout     [tile][kRows / kPair][step]     for the sums, where those do not read them as they lie
template <class F>
struct PackedQueries {
  using U = typename F::X::U;
  U *q_t, *dout_t, *q, *dout;
  std::int64_t wide, wide_v;  // units of a tile of q and dout; 0: there are none

  // Where the tensors of `tiles` tiles lie from `base` on; returns their size in units. With base null
  // only the sizes mean anything.
  std::int64_t Carve(U* base, std::int64_t tiles, const BackwardCall& c) {
    wide = WidensQ<F>(c) ? WideUnits(c.in.dim) : 0;
    wide_v = WidensDout<F>(c) ? WideUnits(c.in.dim_v) : 0;
    std::int64_t units = 0;
    const auto take = [&](U*& to, std::int64_t each) {
      to = base ? base + units : nullptr;
      units += (tiles * each + 15) / 16 * 16;  // whole cache lines
    };
    take(q_t, Units(c.in.dim));
    take(dout_t, Units(c.in.dim_v));
    take(q, wide);
    take(dout, wide_v);
    return units;
  }
  // Of a tile.
  static std::int64_t Units(int dim) {
    return static_cast<std::int64_t>((dim + F::X::kPair - 1) / F::X::kPair) * kRows;
  }
  static std::int64_t WideUnits(int dim) {
    return static_cast<std::int64_t>(kRows / F::X::kPair) * PackedStep(RoundUp(dim, W));
  }
};

template <class F>
struct GradientWork {
  using U = typename F::X::U;
  static constexpr int kPair = F::X::kPair;
  RowState* rows;
  RowFacts* facts;
  Live* live;
  BiasStage* bias;
  BiasGradientStage* dbias;
  KeepMasks* keep;
  PackedQueries<F> queries;
  U *p, *ds, *zs, *k, *v, *kd, *k_tail, *v_tail;
  float *dk, *dv, *scores, *dp, *rate, *row, *first, *last;
  int units, units_v, padded, padded_v;
  std::int64_t sum_keys;       // rows that dk and dv of a block take
  int k_step, v_step;          // of k and v, in units
  int wide_step, wide_v_step;  // of kd and q; of dout

  // Carves the workspace; returns its size. With base null only the size means anything.
  std::int64_t Carve(void* base, const BackwardCall& c) {
    const int dim = c.in.dim, dim_v = c.in.dim_v;
    units = (dim + kPair - 1) / kPair;
    units_v = (dim_v + kPair - 1) / kPair;
    padded = RoundUp(dim, W);
    padded_v = RoundUp(dim_v, W);
    k_step = PackedStep(units);
    v_step = PackedStep(units_v);
    wide_step = PackedStep(padded);
    wide_v_step = PackedStep(padded_v);
    Carver take(base);
    const std::int64_t keys = c.blocks.keys, tiles = c.blocks.tiles;
    sum_keys = keys + kMostSumRows;
    take(rows, tiles);
    take(facts, tiles);
    take(live, tiles);
    take(first, kRows);
    take(last, kRows);
    take(bias, 1);
    take(dbias, 1);
    take(keep, kColumnsAtOnce);
    U* own = nullptr;
    if (!c.packs_ahead) take(own, queries.Carve(nullptr, tiles, c));
    queries.Carve(c.packs_ahead ? static_cast<U*>(c.packed) : own,
                  c.packs_ahead ? c.TilesOfWave() : tiles, c);
    take(p, sum_keys * kAcross<typename F::X>);
    take(ds, sum_keys * kAcross<typename F::X>);
    if (F::X::kDot)
      take(zs, (keys + kPair - 1) / kPair * kDown);
    else
      zs = ds;
    const bool keeps = c.heads == c.in.group;
    take(dk, keeps ? sum_keys * padded : 0);
    take(dv, keeps ? sum_keys * padded_v : 0);
    float* sums;
    take(sums, c.dbias.kind == BiasGradient::Kind::kKeys ? keys * W : 0);
    if (base) dbias->keys = reinterpret_cast<float(*)[W]>(sums);
    take(k, CopiesK<F>(c) ? keys * k_step : 0);
    take(v, CopiesV<F>(c) ? keys * v_step : 0);
    take(kd, PacksV<F>(dim, false) ? (keys + kPair - 1) / kPair * wide_step : 0);
    take(k_tail, static_cast<std::int64_t>(kKeys) * units);
    take(v_tail, static_cast<std::int64_t>(kKeys) * units_v);
    take(scores, kColumnsAtOnce * kKeys * kRows);
    take(dp, kKeys * kRows);
    take(rate, c.in.terms.bends() ? kColumnsAtOnce * kKeys * kRows : 0);
    take(row, heed::Max(padded, padded_v));
    return take.bytes + 64;  // rows of W units may be read past their end
  }
};

}  // namespace heed::cpu::HEED_ISA
