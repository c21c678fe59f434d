// work.h: the workspace of one thread, and where its parts lie. Not here: what is done with it.
#pragma once

#include "cpu/carve.h"
#include "cpu/live.h"
#include "cpu/packing.h"
#include "cpu/staging.h"

namespace heed::cpu::HEED_ISA {

// Sizes depend on the dims and the blocks, never on the sequence lengths.
//
//   for each of `tiles` query tiles   rows, facts, live | qt [units][kRows] | o [kRows][padded dv]
//   for the block of keys             pt [key units][kRows]
//                                     where packed: k [keys][k_step], v [key units][v_step]
//   for the score tile                scores [kKeys][kRows], bias, keep | tail [kKeys][units]
//                                     factor, first, last [kRows]
//   with rotary                       rotated [kRows][dim]
template <class F>
struct Work {
  using U = typename F::X::U;
  static constexpr int kPair = F::X::kPair;
  RowState* rows;
  RowFacts* facts;
  Live* live;
  BiasStage* bias;
  KeepMasks* keep;
  U *qt, *k, *v, *pt, *tail;
  float *o, *scores, *factor, *first, *last;
  typename F::E* rotated;
  int units, padded, k_step, v_step;  // steps in units

  // Carves the workspace; returns its size. With base null only the size means anything.
  std::int64_t Carve(void* base, const WorkShape& s) {
    units = (s.dim + kPair - 1) / kPair;
    padded = RoundUp(s.dim_v, W);
    k_step = PackedStep(units);
    v_step = PackedStep(padded);
    Carver take(base);
    const std::int64_t keys = s.blocks.keys, key_units = (keys + kPair - 1) / kPair,
                       tiles = s.blocks.tiles;
    take(rows, tiles);
    take(facts, tiles);
    take(live, tiles);
    take(bias, 1);
    take(keep, 1);
    take(qt, tiles * units * kRows);
    take(o, tiles * kRows * padded);
    take(pt, key_units * kRows);
    take(scores, kKeys * kRows);
    take(tail, static_cast<std::int64_t>(kKeys) * units);
    take(factor, kRows);
    take(first, kRows);
    take(last, kRows);
    take(k, PacksK<F>(s.dim, s.paged) ? keys * k_step : 0);
    take(v, PacksV<F>(s.dim_v, s.paged) ? key_units * v_step : 0);
    take(rotated, s.rotary ? static_cast<std::int64_t>(kRows) * s.dim : 0);
    return take.bytes + 64;  // rows of W units may be read past their end
  }
};

}  // namespace heed::cpu::HEED_ISA
