// results.h: one block of a forward from beginning to end, and what it leaves: rows of o and lse, or
// those of one piece of the keys. Not here: the sums (forward_*.h), joining pieces (join.h).
#pragma once

#include "cuda/rows.h"
#include "cuda/score_lanes.h"
#include "cuda/softmax.h"

namespace heed::cuda {

// Where rows go: to o and lse, or, of a piece, to its place in the workspace.
struct Destination {
  bool piece = false;
  std::int64_t row = 0;  // of a piece: row 0 of the tile among all rows of all pieces
};

// Place of piece n of work item `item` among the rows of Split.
HEED_DEVICE std::int64_t PieceRow(const ForwardCall& c, std::int64_t item, std::int64_t n) {
  return (item * c.split.pieces + n) * c.schedule.tile_rows;
}

template <class T, class F>
HEED_DEVICE void WriteRow(F& o, int r, float scale, int width, bool pairs, T* to) {
  HEED_UNROLL
  for (int c = 0; c < F::kCols; c += 2) {
    const int col = F::Col(c);
    if (pairs && col + 1 < width) {
      StorePair(to + col, o(r, c) * scale, o(r, c + 1) * scale);
    } else {
      if (col < width) StoreRounded(to + col, o(r, c) * scale);
      if (col + 1 < width) StoreRounded(to + col + 1, o(r, c + 1) * scale);
    }
  }
}

// factor: what turned the scores of `state` into powers of two.
template <class T, class F>
HEED_DEVICE void WriteRows(const ForwardCall& c, const QueryRows& rows, const Destination& to,
                           float factor, const RowState<F::kRows>& state, F& o) {
  HEED_UNROLL
  for (int r = 0; r < F::kRows; r++) {
    const float l = SumOver<F::kLanes>(state.l[r]);
    const int row = F::Row(r);
    if (row >= rows.count) continue;
    const std::int64_t h = rows.Head(row), i = rows.Query(row);
    const float m = state.m[r] == ptx::NegInf() ? state.m[r] : state.m[r] * factor;
    const float sink = c.sinks && !to.piece ? FoldExp2<ThreadLanes>(ptx::LoadReadOnly(c.sinks + h))
                                            : ptx::NegInf();
    const RowEnd end = EndOf(m, l, sink);
    const float scale = end.scale * c.keep_factor;
    const bool first = ptx::ThreadIndex() % F::kLanes == 0;
    if (to.piece) {
      const std::int64_t at = to.row + row;
      if (first) ptx::StoreGlobal(c.split.lse + at, end.lse);
      WriteRow(o, r, scale, c.dim_v, c.split.padded % 2 == 0, c.split.o + at * c.split.padded);
      continue;
    }
    if (c.lse && first) ptx::StoreGlobal(c.lse + LseAt(c, rows.entry, rows.b, h, i), end.lse);
    const std::int64_t at = QueryAt(c.o_steps, rows.entry, h, i);
    if (c.out_f32) {
      WriteRow(o, r, scale, c.dim_v, c.out_wide, static_cast<float*>(c.o) + at);
    } else {
      WriteRow(o, r, scale, c.dim_v, c.out_wide, static_cast<T*>(c.o) + at);
    }
  }
}

// Block is ForwardMmaBlock or ForwardFmaBlock.
template <class Block>
HEED_DEVICE void ForwardBlock(const ForwardCall& c) {
  const int pieces = c.split.pieces > 0 ? c.split.pieces : 1;
  const std::int64_t item = ptx::BlockX() / pieces, piece = ptx::BlockX() % pieces;
  const QueryRows rows = QueryRowsOf(c, c.schedule.At(item));
  if (rows.count == 0) return;
  const std::int64_t sk = rows.entry.sees.sk;
  const bool split = c.split.pieces > 0 && PiecesOf(sk) > 1;
  // Without keys there is one piece, too: somebody writes the zeros.
  if (piece > 0 && (!split || piece >= PiecesOf(sk))) return;
  Block block(c, rows);
  block.Walk(split ? PieceOf(sk, piece) : Interval{0, sk});
  block.Write({split, split ? PieceRow(c, item, piece) : 0});
}

}  // namespace heed::cuda
