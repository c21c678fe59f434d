// fragments.h: which elements of a tile of scores or sums a thread holds in registers, for the two
// kinds of products. Every fragment has kRows x kCols numbers; (r, c) is that of row Row(r), column
// Col(c) of the block's tile; kRun neighbouring columns lie within four at a multiple of four; and the
// kLanes threads that differ in the lowest bits of their lane hold the rest of the same rows. Not
// here: products, sums.
#pragma once

#include "cuda/ptx/ptx.h"

namespace heed::cuda {

// What m16n8k16 leaves (ptx/device/matrix.h): a warp has kTiles x 16 rows, warps below each other.
//
//   rows +0   l0 l0 | l1 l1 | l2 l2 | l3 l3      at[i][n][0..1]: lanes 0-3 of row lane / 4
//   ...                                           at[i][n][2..3]: eight rows further down
//   rows +7   l28 ...        l31 l31
template <int kTiles, int kWidth>
struct MmaFragment {
  static constexpr int kRows = 2 * kTiles, kCols = kWidth / 4, kRun = 2, kLanes = 4;
  float at[kTiles][kWidth / 8][4];

  HEED_DEVICE float& operator()(int r, int c) { return at[r / 2][c / 2][r % 2 * 2 + c % 2]; }
  static HEED_DEVICE int Row(int r) {
    const int warp = ptx::ThreadIndex() / 32, lane = ptx::ThreadIndex() % 32;
    return (warp * kTiles + r / 2) * 16 + r % 2 * 8 + lane / 4;
  }
  static HEED_DEVICE int Col(int c) { return c / 2 * 8 + ptx::ThreadIndex() % 4 * 2 + c % 2; }
};

// Threads in rows of eight, kHeight rows below each other. Up to four columns a thread (scores) are
// neighbours; more (sums) are runs of four, the eight threads' runs side by side.
template <int kHeight, int kWidth>
struct FmaFragment {
  static constexpr int kRows = kHeight, kCols = kWidth, kLanes = 8;
  static constexpr int kRun = kWidth < 4 ? kWidth : 4;
  float at[kRows][kCols];

  HEED_DEVICE float& operator()(int r, int c) { return at[r][c]; }
  static HEED_DEVICE int Row(int r) { return ptx::ThreadIndex() / 8 * kRows + r; }
  static HEED_DEVICE int Col(int c) {
    const int x = ptx::ThreadIndex() % 8;
    return kWidth > 4 ? c / 4 * 32 + x * 4 + c % 4 : x * kCols + c;
  }
};

// A fragment of scores as queries and keys, whichever of the two its rows are: (q, k) is that of query
// Query(q), key Key(k) of the tile; kRun as above, of keys.
template <class F>
struct QueriesDown {
  static constexpr int kQueries = F::kRows, kKeys = F::kCols, kRun = F::kRun;
  F& of;
  HEED_DEVICE float& operator()(int q, int k) const { return of(q, k); }
  static HEED_DEVICE int Query(int q) { return F::Row(q); }
  static HEED_DEVICE int Key(int k) { return F::Col(k); }
};
template <class F>
struct KeysDown {
  static constexpr int kQueries = F::kCols, kKeys = F::kRows, kRun = 1;
  F& of;
  HEED_DEVICE float& operator()(int q, int k) const { return of(k, q); }
  static HEED_DEVICE int Query(int q) { return F::Col(q); }
  static HEED_DEVICE int Key(int k) { return F::Row(k); }
};

}  // namespace heed::cuda
