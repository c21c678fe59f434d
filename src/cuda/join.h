// join.h: the kernel that adds up what pieces of an entry's keys gave, a warp per row, pieces in their
// order; sinks come in here. Not here: the pieces (forward_*.h).
#pragma once

#include "cuda/elements.h"
#include "cuda/entry.h"
#include "cuda/grid.h"
#include "cuda/warps.h"
#include "score/terms.h"

namespace heed::cuda {

// e^(x - m), 0 for x = -infinity whatever m is.
HEED_DEVICE float WeightOf(float x, float m) {
  return x == ptx::NegInf() ? 0.0f : ptx::Ex2(FoldExp2<ScalarLanes<float>>(x - m));
}

// o = sum of e^(lse_n - m) o_n over sum of e^(lse_n - m) and e^(sink - m). Each piece's share first and
// then their sum: a mean of means, which is finite where they are. A piece that saw nothing has no
// part in it.
template <class T>
HEED_DEVICE void JoinRow(const ForwardCall& c, std::int64_t b, std::int64_t hk, std::int64_t row) {
  const Entry e = EntryOf(c, b);
  const int pieces = int(Min(PiecesOf(e.sees.sk), c.split.pieces));
  if (pieces < 2) return;  // the forward wrote it
  const std::int64_t i = row / c.group, h = hk * c.group + row % c.group;

  // Piece n is lane n % 32's, the n / 32nd of its two.
  static_assert(kMostPieces == 64);
  float lse[2], weight[2];
  HEED_UNROLL
  for (int k = 0; k < 2; k++) {
    const int n = 32 * k + Lane();
    lse[k] = n < pieces ? ptx::LoadGlobal(c.split.lse + c.PieceRow(b, hk, n, row)) : ptx::NegInf();
  }
  const float sink = c.sinks ? ptx::LoadReadOnly(c.sinks + h) : ptx::NegInf();
  const float most = WarpMax(lse[1] > lse[0] ? lse[1] : lse[0]), m = sink > most ? sink : most;
  float l = WeightOf(sink, m);
  HEED_UNROLL
  for (int k = 0; k < 2; k++) weight[k] = WeightOf(lse[k], m);
  for (int n = 0; n < pieces; n++) {
    l += ptx::ShuffleIndex(n < 32 ? weight[0] : weight[1], n % 32);
  }
  HEED_UNROLL
  for (int k = 0; k < 2; k++) weight[k] = l == 0 ? 0.0f : weight[k] / l;

  const std::int64_t at = QueryAt(c.o_steps, e, h, i);
  for (int d0 = 0; d0 < c.dim_v; d0 += 32) {
    const int d = d0 + Lane();
    float o = 0;
    for (int n = 0; n < pieces; n++) {
      const float w = ptx::ShuffleIndex(n < 32 ? weight[0] : weight[1], n % 32);
      if (w == 0 || d >= c.dim_v) continue;
      const float* const part = c.split.o + c.PieceRow(b, hk, n, row) * c.split.padded;
      o = ptx::Fma(w, ptx::LoadGlobal(part + d), o);
    }
    if (d >= c.dim_v) continue;
    if (c.out_f32) {
      ptx::StoreGlobal(static_cast<float*>(c.o) + at + d, o);
    } else {
      StoreRounded(static_cast<T*>(c.o) + at + d, o);
    }
  }
  if (c.lse && Lane() == 0) {
    const float natural = ptx::Fma(ptx::Lg2(l), float(kLn2), m);
    ptx::StoreGlobal(c.lse + LseAt(c, e, b, h, i), l == 0 ? ptx::NegInf() : natural);
  }
}

template <class C>
HEED_DEVICE void JoinPieces(const ForwardCall& c) {
  const std::int64_t items = JoinItems(c), rows = c.schedule.q_len, heads = c.schedule.heads;
  for (std::int64_t n = FirstItem<C>(); n < items; n += ItemStep<C>()) {
    const std::int64_t bh = n / rows;
    JoinRow<typename C::Element>(c, bh / heads, bh % heads, n % rows);
  }
}

}  // namespace heed::cuda
