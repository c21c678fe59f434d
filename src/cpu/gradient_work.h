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
//   for each of `tiles` query tiles   rows, facts, live | qt, dout_t [units][kRows] | q, dout [kRows /
//                                     kPair][step], where not used as they lie
//   for their queries and the block   p, ds, zs (gradient_tile.h)
//   for the block of keys             dk, dv [keys][padded], sums of the bias' gradient; packed: k, v
//                                     [keys][step] for the scores, kd [key units][step] for dq
//   for kColumnsAtOnce columns        scores, rate [kKeys][kRows], keep
//   for a score tile                  dp [kKeys][kRows], bias, tails
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
  U *qt, *dout_t, *q, *dout, *p, *ds, *zs, *k, *v, *kd, *k_tail, *v_tail;
  float *dk, *dv, *scores, *dp, *rate, *row, *first, *last;
  int units, units_v, padded, padded_v;
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
    const std::int64_t keys = c.blocks.keys, tiles = c.blocks.tiles, queries = tiles * kRows;
    const std::int64_t sum_keys = keys + kMostSumRows;
    take(rows, tiles);
    take(facts, tiles);
    take(live, tiles);
    take(first, kRows);
    take(last, kRows);
    take(bias, 1);
    take(dbias, 1);
    take(keep, kColumnsAtOnce);
    take(qt, queries * units);
    take(dout_t, queries * units_v);
    take(q, PacksV<F>(dim, false) ? queries / kPair * wide_step : 0);
    take(dout, PacksV<F>(dim_v, false) ? queries / kPair * wide_v_step : 0);
    take(p, sum_keys * kAcross<typename F::X>);
    take(ds, sum_keys * kAcross<typename F::X>);
    if (F::X::kDot)
      take(zs, (keys + kPair - 1) / kPair * kDown);
    else
      zs = ds;
    take(dk, sum_keys * padded);
    take(dv, sum_keys * padded_v);
    float* sums;
    take(sums, c.dbias.kind == BiasGradient::Kind::kKeys ? keys * W : 0);
    if (base) dbias->keys = reinterpret_cast<float(*)[W]>(sums);
    take(k, PacksK<F>(dim, false) ? keys * k_step : 0);
    take(v, PacksK<F>(dim_v, false) ? keys * v_step : 0);
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
