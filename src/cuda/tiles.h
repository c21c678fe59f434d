// tiles.h: a tile of rows in shared memory, how it is laid out, and how it gets there from global
// memory. Not here: whose rows they are (rows.h), what is computed from them.
#pragma once

#include "cuda/elements.h"

namespace heed::cuda {

// Rows of kDim elements, one behind the other, in chunks of 16 bytes whose places within a row are
// permuted: eight rows of one chunk column then lie in eight different groups of four banks, so that
// ldmatrix, which reads just that, meets no conflict. kRun: so many neighbouring rows are read by one
// thread and share a permutation.
//
//   a row is whole 128 bytes          row r has chunk c at c ^ (r / kRun % 8)
//   half of 128 bytes is left over    two rows to a line: c ^ (r / kRun / 2 % 4)
//
//          place   0   1   2   3   4   5   6   7            (128 bytes a row)
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
  // Of `at` = At(row, chunk) with an even or odd chunk below 2: At(row + kMore, chunk + kChunk), where
  // kMore and kChunk are multiples of 16 and 2. The base is a multiple of 128, so that the permutation
  // is an exclusive or with the address itself.
  template <int kMore, int kChunk>
  HEED_DEVICE static uint32_t Moved(uint32_t at) {
    static_assert(kMore % 16 == 0 && kChunk % 2 == 0 && kRun == 1);
    constexpr int kSpan = kRowBytes % 128 == 0 ? 8 : 4;  // chunks that permute among themselves
    return (at ^ uint32_t(kChunk % kSpan * 16)) +
           uint32_t(kMore * kRowBytes + kChunk / kSpan * kSpan * 16);
  }
  HEED_DEVICE static constexpr uint32_t Bytes(int rows) { return uint32_t(rows * kRowBytes); }
};

// The copy of kRows rows into a tile by all threads of the block, in two steps: between Begin and End
// the tile must not be touched, and after End it is complete behind a SyncThreads. From sm_80 on the
// copy runs by itself meanwhile; before, a thread holds its chunks in registers, or, where the terms
// need those, waits for them at once.
//
// A Source has
//   At(row)       the row's first element
//   Exists(row)   rows that do not become zeros, as do elements from `dim` on
//   Even(&step)   whether row r begins (First() + r) * step elements behind Start()
template <class C, class TileOf, int kRows, bool kMayHold = !C::kGeneral>
class TileLoad {
  using T = typename C::Element;
  static constexpr int kChunks = TileOf::kChunks;
  static constexpr bool kAsync = C::kArch >= 800;
  static constexpr bool kHolds = !kAsync && kMayHold;
  static constexpr int kEach = kRows * kChunks / C::kThreads;  // chunks of a thread
  static_assert(kRows * kChunks % C::kThreads == 0, "all threads load equally many chunks");

 public:
  template <class Source>
  HEED_DEVICE void Begin(TileOf to, const Source& from, int dim, bool wide) {
    to_ = to;
    int step = 0;
    const bool even = wide && from.Even(&step) && (kAsync || kHolds);
    held_all_ = even;
    if (even) {
      Even(from, step, dim);
    } else if (wide) {
      Uneven(from, dim);
    } else {
      Gather(from, dim);
    }
    if constexpr (kAsync) ptx::CpAsyncCommit();
  }

  HEED_DEVICE void End() {
    if constexpr (kAsync) ptx::CpAsyncWait<0>();
    if constexpr (kHolds) {
      if (!held_all_) return;
      const unsigned thread = Thread();
      HEED_UNROLL
      for (int n = 0; n < kEach; n++) {
        ptx::StoreShared(to_.At(RowOf(n, thread), ChunkOf(n, thread)), held_[n]);
      }
    }
  }

 private:
  // Where all threads together take whole rows, a thread stays in one column of chunks.
  static constexpr bool kWholeRows = C::kThreads % kChunks == 0;
  static HEED_DEVICE int RowOf(int n, unsigned thread) {
    if constexpr (kWholeRows) return int(thread / kChunks) + n * (C::kThreads / kChunks);
    return int((unsigned(n * C::kThreads) + thread) / kChunks);
  }
  static HEED_DEVICE int ChunkOf(int n, unsigned thread) {
    if constexpr (kWholeRows) return int(thread % kChunks);
    return int((unsigned(n * C::kThreads) + thread) % kChunks);
  }
  // Forgotten, so that no place of a chunk stays in a register from tile to tile.
  static HEED_DEVICE unsigned Thread() { return unsigned(ptx::Forget(ptx::ThreadIndex())); }
  static HEED_DEVICE ptx::U32x4 Load16(const T* p, bool exists) {
    return exists ? ptx::LoadReadOnly(reinterpret_cast<const ptx::U32x4*>(p)) : ptx::U32x4{};
  }

  template <class Source>
  HEED_DEVICE void Even(const Source& from, int step, int dim) {
    const T* const start = from.Start();
    const int first = from.First();
    const unsigned thread = Thread();
    HEED_UNROLL
    for (int n = 0; n < kEach; n++) {
      const int row = RowOf(n, thread), chunk = ChunkOf(n, thread);
      const bool exists = from.Exists(row) && chunk * kChunk<T> < dim;
      // With First() in the product: else the compiler keeps one for each n in registers.
      const T* const p =
          start + std::int64_t{exists ? first + row : 0} * step + (exists ? chunk * kChunk<T> : 0);
      if constexpr (kAsync) ptx::CpAsync<16>(to_.At(row, chunk), p, exists);
      if constexpr (kHolds) held_[n] = Load16(p, exists);
    }
  }

  // Rows that lie anywhere, but may be moved by 16 bytes: pages, heads of a group below each other.
  template <class Source>
  HEED_DEVICE void Uneven(const Source& from, int dim) {
    const unsigned thread = Thread();
    HEED_UNROLL_4
    for (int n = 0; n < kEach; n++) {
      const int row = RowOf(n, thread), chunk = ChunkOf(n, thread);
      const bool exists = from.Exists(row) && chunk * kChunk<T> < dim;
      const T* const p = from.At(exists ? row : 0) + (exists ? chunk * kChunk<T> : 0);
      if constexpr (kAsync) {
        ptx::CpAsync<16>(to_.At(row, chunk), p, exists);
      } else {
        ptx::StoreShared(to_.At(row, chunk), Load16(p, exists));
      }
    }
  }

  // Rows at any address: element by element.
  template <class Source>
  HEED_DEVICE void Gather(const Source& from, int dim) {
    const unsigned thread = Thread();
    HEED_NO_UNROLL
    for (int n = 0; n < kEach; n++) {
      const int row = RowOf(n, thread), first = ChunkOf(n, thread) * kChunk<T>;
      const int count = from.Exists(row) ? dim - first : 0;  // that exist, of these and later ones
      const T* const p = from.At(count > 0 ? row : 0) + first;
      uint32_t words[4];
      HEED_UNROLL
      for (int w = 0; w < 4; w++) {
        if constexpr (sizeof(T) == 4) {
          words[w] = w < count ? ptx::BitsOf(ptx::LoadReadOnly(p + w)) : 0;
        } else {
          words[w] = 2 * w < count ? ptx::LoadReadOnly(p + 2 * w).bits : 0;
          if (2 * w + 1 < count) words[w] |= uint32_t(ptx::LoadReadOnly(p + 2 * w + 1).bits) << 16;
        }
      }
      ptx::StoreShared(to_.At(row, ChunkOf(n, thread)),
                       ptx::U32x4{words[0], words[1], words[2], words[3]});
    }
  }

  TileOf to_;
  bool held_all_ = false;
  ptx::U32x4 held_[kHolds ? kEach : 1];
};

}  // namespace heed::cuda
