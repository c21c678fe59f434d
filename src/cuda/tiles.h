// tiles.h: a tile of rows in shared memory, how it is laid out, and how it gets there from global
// memory. Not here: whose rows they are (rows.h), what is computed from them.
#pragma once

#include "cuda/elements.h"

namespace heed::cuda {

// Rows of kDim elements, one behind the other, in chunks of 16 bytes whose places within a row are
// permuted: eight rows of one chunk column then lie in eight different groups of four banks, so that
// ldmatrix, which reads just that, meets no conflict. `Run`: so many neighbouring rows are read by one
// thread and share a permutation.
//
//   kDim elements are whole 128 bytes        row r has chunk c at c ^ (r / Run % 8)
//   half of 128 bytes is left over           two rows to a line: c ^ (r / Run / 2 % 4)
//
//          chunk   0   1   2   3   4   5   6   7            (128 bytes a row)
//   row 0          0   1   2   3   4   5   6   7
//   row 1          1   0   3   2   5   4   7   6
//   row 2          2   3   0   1   6   7   4   5
//   ...
//   row 7          7   6   5   4   3   2   1   0
template <class T, int kDim, int kRun = 1>
struct Tile {
  static constexpr int kChunks = kDim / kChunk<T>;
  static constexpr int kRowBytes = kDim * int(sizeof(T));
  static_assert(kRowBytes % 64 == 0, "a row of a tile is a multiple of 64 bytes");

  uint32_t base = 0;

  // The chunk that begins at element chunk * kChunk<T>.
  HEED_DEVICE uint32_t At(int row, int chunk) const {
    const int turn = kRowBytes % 128 == 0 ? row / kRun & 7 : row / kRun >> 1 & 3;
    return base + uint32_t(row * kRowBytes + ((chunk ^ turn) << 4));
  }
  static constexpr uint32_t Bytes(int rows) { return uint32_t(rows * kRowBytes); }
};

// The copy of kRows rows into a tile by all threads of the block, in two steps: between Begin and End
// the tile must not be touched, and after End it is complete behind a SyncThreads. From sm_80 on the
// copy runs by itself meanwhile; before, a thread holds its chunks in registers.
//
// Source: At(row) -> its first element; Exists(row); Any() -> an address of the tensor. Rows that do not exist
// become zeros, as do elements from `dim` on.
template <class C, class TileOf, int kRows>
class TileLoad {
  using T = typename C::Element;
  static constexpr int kChunks = TileOf::kChunks;
  static constexpr bool kAsync = C::kArch >= 800;
  static constexpr int kEach = kRows * kChunks / C::kThreads;  // chunks of a thread
  static_assert(kRows * kChunks % C::kThreads == 0, "all threads load equally many chunks");

 public:
  template <class Source>
  HEED_DEVICE void Begin(TileOf to, const Source& from, int dim, bool wide) {
    staged_ = wide && !kAsync;
    to_ = to;
    if (!wide) {
      Gather(from, dim);
      return;
    }
    HEED_UNROLL
    for (int n = 0; n < kEach; n++) {
      const int row = RowOf(n), chunk = ChunkOf(n);
      const bool exists = from.Exists(row) && chunk * kChunk<T> < dim;
      const T* const p = exists ? from.At(row) + chunk * kChunk<T> : from.Any();
      if constexpr (kAsync) {
        ptx::CpAsync<16>(to.At(row, chunk), p, exists);
      } else {
        held_[n] = exists ? ptx::LoadReadOnly(reinterpret_cast<const ptx::U32x4*>(p))
                          : ptx::U32x4{0, 0, 0, 0};
      }
    }
    if constexpr (kAsync) ptx::CpAsyncCommit();
  }

  HEED_DEVICE void End() {
    if constexpr (kAsync) {
      ptx::CpAsyncWait<0>();
    } else if (staged_) {
      HEED_UNROLL
      for (int n = 0; n < kEach; n++) ptx::StoreShared(to_.At(RowOf(n), ChunkOf(n)), held_[n]);
    }
  }

 private:
  static HEED_DEVICE int RowOf(int n) { return (n * C::kThreads + ptx::ThreadIndex()) / kChunks; }
  static HEED_DEVICE int ChunkOf(int n) { return (n * C::kThreads + ptx::ThreadIndex()) % kChunks; }

  // Rows that lie anyhow: element by element.
  template <class Source>
  HEED_DEVICE void Gather(const Source& from, int dim) {
    for (int n = 0; n < kEach; n++) {
      const int row = RowOf(n), chunk = ChunkOf(n);
      const bool exists = from.Exists(row);
      uint32_t words[4] = {};
      HEED_UNROLL
      for (int e = 0; e < kChunk<T>; e++) {
        const int d = chunk * kChunk<T> + e;
        if (!exists || d >= dim) continue;
        if constexpr (sizeof(T) == 4) {
          words[e] = ptx::BitsOf(ptx::LoadReadOnly(from.At(row) + d));
        } else {
          words[e / 2] |= uint32_t(ptx::LoadReadOnly(from.At(row) + d).bits) << (e % 2 * 16);
        }
      }
      ptx::StoreShared(to_.At(row, chunk), ptx::U32x4{words[0], words[1], words[2], words[3]});
    }
  }

  TileOf to_;
  bool staged_ = false;
  ptx::U32x4 held_[kAsync ? 1 : kEach];
};

}  // namespace heed::cuda
