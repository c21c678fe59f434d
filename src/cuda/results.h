// results.h: one block of a forward from beginning to end, and what it leaves: rows of o and lse, or
// those of one piece of the keys. Not here: the sums (forward_*.h), joining pieces (join.h).
#pragma once

#include "cuda/row_facts.h"
#include "cuda/score_lanes.h"
#include "cuda/softmax.h"
#include "cuda/tiles.h"

namespace heed::cuda {

// Which keys a block takes: all of its entry's, or one piece of several.
struct Share {
  Interval keys;
  std::int64_t piece = -1;  // -1: all
};

// `count` > 0 floats in shared memory, rounded, to a row in global memory; wide: four at a time.
template <class T>
HEED_DEVICE void CopyOut(T* to, ptx::F32x4 from, int count, bool wide) {
  if (wide && count >= 4) {
    if constexpr (sizeof(T) == 4) {
      ptx::StoreGlobal(reinterpret_cast<ptx::F32x4*>(to), from);
    } else {
      ptx::StoreGlobal(reinterpret_cast<ptx::U32x2*>(to),
                       ptx::U32x2{ptx::Pack<T>(from.x, from.y), ptx::Pack<T>(from.z, from.w)});
    }
    return;
  }
  StoreRounded(to, from.x);
  if (count > 1) StoreRounded(to + 1, from.y);
  if (count > 2) StoreRounded(to + 2, from.z);
  if (count > 3) StoreRounded(to + 3, from.w);
}

// Sums of a warp's rows, times the row's scale, out of registers through shared memory, so that
// neighbouring threads write neighbouring elements: out(row, col, four floats) is called for every row
// of the warp. `stage` is a tile of kHeight rows of kDim elements that nobody reads any more but the
// warps whose rows they are; as floats a row may need several passes.
template <class C, int kHeight, class F, int kWidth, class Out>
HEED_DEVICE void StageRows(uint32_t stage, F& sums, const float (&scale)[F::kRows],
                           const Out& out) {
  constexpr int kStaged = C::kDim * int(sizeof(typename C::Element)) / 4;  // floats of a row
  constexpr int kCols = kWidth < kStaged ? kWidth : kStaged, kPasses = kWidth / kCols;
  constexpr int kChunks = kCols / 4, kWarpRows = kHeight / C::kWarps;
  static_assert(kPasses * kCols == kWidth);
  const Tile<float, kStaged> staged{stage};
  HEED_UNROLL
  for (int pass = 0; pass < kPasses; pass++) {
    ptx::SyncWarp();
    HEED_UNROLL
    for (int r = 0; r < F::kRows; r++) {
      HEED_UNROLL
      for (int n = 0; n < F::kCols / kPasses; n += 2) {
        const int at = pass * (F::kCols / kPasses) + n, col = F::Col(at) - pass * kCols;
        ptx::StoreShared(staged.At(F::Row(r), col / 4) + uint32_t(col % 4 * 4),
                         ptx::U32x2{ptx::BitsOf(sums(r, at) * scale[r]),
                                    ptx::BitsOf(sums(r, at + 1) * scale[r])});
      }
    }
    ptx::SyncWarp();
    const int warp = ptx::ThreadIndex() / 32, lane = ptx::ThreadIndex() % 32;
    HEED_NO_UNROLL
    for (int n = lane; n < kWarpRows * kChunks; n += 32) {
      const int row = warp * kWarpRows + n / kChunks, chunk = n % kChunks;
      out(row, pass * kCols + chunk * 4, ptx::LoadShared<ptx::F32x4>(staged.At(row, chunk)));
    }
  }
}

// What the rows of a forward's tile become.
template <class C, class F>
class Results {
  using T = typename C::Element;

 public:
  HEED_DEVICE Results(const ForwardCall& c, const QueryRows& rows, const Share& share,
                      uint32_t stage)
      : c_(c), rows_(rows), share_(share), stage_(stage) {}

  // factor: what turned the scores of `state` into powers of two.
  HEED_DEVICE void Write(float factor, const RowState<F::kRows>& state, F& o) {
    float scale[F::kRows];
    HEED_UNROLL
    for (int r = 0; r < F::kRows; r++) {
      const float l = SumOver<F::kLanes>(state.l[r]);
      const float m = state.m[r] == ptx::NegInf() ? state.m[r] : state.m[r] * factor;
      scale[r] = End(F::Row(r), m, l) * c_.keep_factor;
    }
    StageRows<C, C::kRows, F, C::kDim>(
        stage_, o, scale, [&](int row, int col, ptx::F32x4 x) { CopyRow(row, col, x); });
  }

 private:
  // Writes lse; returns the scale of the row's sums.
  HEED_DEVICE float End(int row, float m, float l) {
    const bool piece = share_.piece >= 0;
    const bool sinks = c_.sinks && !piece;
    const std::int64_t h = rows_.Head(row);
    const RowEnd end =
        EndOf(m, l, sinks ? FoldNatural(ptx::LoadReadOnly(c_.sinks + h)) : ptx::NegInf());
    if (row < rows_.count && ptx::ThreadIndex() % F::kLanes == 0) {
      if (piece) {
        ptx::StoreGlobal(c_.split.lse + PieceRow(row), end.lse);
      } else if (c_.lse) {
        ptx::StoreGlobal(c_.lse + LseAt(c_, rows_.entry, rows_.b, h, rows_.Query(row)), end.lse);
      }
    }
    return end.scale;
  }

  HEED_DEVICE std::int64_t PieceRow(int row) const {
    return c_.PieceRow(rows_.b, rows_.key_head, share_.piece, rows_.first + row);
  }

  HEED_DEVICE void CopyRow(int row, int col, ptx::F32x4 x) const {
    const int count = c_.dim_v - col;
    if (row >= rows_.count || count <= 0) return;
    if (share_.piece >= 0) {
      CopyOut(c_.split.o + PieceRow(row) * c_.split.padded + col, x, count,
              c_.split.padded % 4 == 0);
      return;
    }
    const std::int64_t at =
        QueryAt(c_.o_steps, rows_.entry, rows_.Head(row), rows_.Query(row)) + col;
    if (c_.out_f32) {
      CopyOut(static_cast<float*>(c_.o) + at, x, count, c_.out_wide);
    } else {
      CopyOut(static_cast<T*>(c_.o) + at, x, count, c_.out_wide);
    }
  }

  const ForwardCall& c_;
  const QueryRows& rows_;
  const Share& share_;
  uint32_t stage_;
};

// What block n of the grid is there for.
struct Task {
  QueryRows rows;
  Share share;
  bool idle = false;
};

HEED_DEVICE Task TaskOf(const ForwardCall& c, int n) {
  const int pieces = c.split.pieces > 0 ? c.split.pieces : 1, piece = n % pieces;
  Task t;
  t.rows = QueryRowsOf(c, c.schedule.At(n / pieces));
  const std::int64_t sk = t.rows.entry.sees.sk, own = c.split.pieces > 0 ? PiecesOf(sk) : 1;
  // Without keys there is one piece, too: somebody writes the zeros.
  t.idle = t.rows.count == 0 || (piece > 0 && piece >= own);
  t.share = own > 1 ? Share{PieceOf(sk, piece), piece} : Share{{0, sk}, -1};
  return t;
}

}  // namespace heed::cuda
