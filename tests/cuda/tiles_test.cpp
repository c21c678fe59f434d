// Tiles of rows in the emulator, loaded in every way: whole rows, rows that end within a chunk, rows at any
// address, and further apart than 32 bits say.
#include "cuda/tiles.h"

#include <sys/mman.h>

#include "cuda/rows.h"
#include "kernels_testing.h"

namespace heed::cuda {
namespace {

constexpr int kRows = 32, kDim = 32, kLength = 21;  // of the tile, and rows that exist
template <int kArch, TermKind kTerms>
using Of = Config<F16, kArch, kDim, kRows, kRows, 2, kTerms>;

// A tile of queries or keys, copied out again.
template <class C>
void CopyTile(const ForwardCall& c, bool keys, F16* to) {
  const QueryRows rows = QueryRowsOf(c, {0, 0, {0, kRows}});
  const Tile<F16, kDim> tile{ptx::SharedBase()};
  TileLoad<C, Tile<F16, kDim>, kRows> load;
  if (keys) {
    const KeyRows<F16> from = KeyRowsOf<F16>(c, rows);
    load.Begin(tile, KeySource<F16>{c, from, c.k, from.k, 0}, c.dim, c.k.wide);
  } else {
    load.Begin(tile, QuerySource<F16>{c.q, rows}, c.dim, c.q.wide);
  }
  load.End();
  ptx::SyncThreads();
  for (int n = ptx::ThreadIndex(); n < kRows * kDim / 8; n += C::kThreads) {
    const auto x = ptx::LoadShared<ptx::F32x4>(tile.At(n / (kDim / 8), n % (kDim / 8)));
    ptx::StoreGlobal(reinterpret_cast<ptx::F32x4*>(to + 8 * n), x);
  }
}

// Rows from `data` on, `step` elements apart.
struct RowsAt {
  F16* data;
  std::int64_t step;
  int length, dim;
  bool wide;
  std::vector<F16> values;  // of all rows, without gaps

  RowsAt(F16* data_, std::int64_t step_, int length_, int dim_, bool wide_)
      : data(data_), step(step_), length(length_), dim(dim_), wide(wide_) {
    values = Values(5).Of<F16>(size_t(length * dim));
    for (int r = 0; r < length; ++r) {
      std::copy_n(values.begin() + r * dim, dim, data + r * step);
    }
  }
};

template <class C>
void Check(const RowsAt& rows) {
  for (const bool keys : {false, true}) {
    SCOPED_TRACE(testing::Message() << (keys ? "keys" : "queries") << ", sm " << C::kArch
                                    << ", dim " << rows.dim << ", wide " << rows.wide);
    ForwardCall call;
    call.batch = call.q_heads = 1;
    call.q_len = call.k_len = rows.length;
    call.dim = rows.dim;
    call.q = call.k = {rows.data, {0, rows.step, 0}, rows.wide};
    std::vector<F16> got(size_t(kRows * kDim));
    for (const emu::Config& schedule :
         emu::Schedules(emu::Threads(C::kThreads, 2 * kRows * kDim, C::kArch), 7)) {
      emu::Memory memory;
      for (int r = 0; r < rows.length; ++r) {
        memory.Add("rows", rows.data + r * rows.step, 2 * size_t(rows.dim), emu::Use::kInput);
      }
      memory.Output("got", got);
      ASSERT_EQ(emu::ErrorOf(schedule, memory, [&] { CopyTile<C>(call, keys, got.data()); }), "");
      for (int r = 0; r < kRows; ++r) {
        for (int d = 0; d < kDim; ++d) {
          const bool exists = r < rows.length && d < rows.dim;
          ASSERT_EQ(got[size_t(r * kDim + d)].bits,
                    exists ? rows.values[size_t(r * rows.dim + d)].bits : 0)
              << "row " << r << ", element " << d;
        }
      }
    }
  }
}
void CheckAll(const RowsAt& rows) {
  Check<Of<800, TermKind::plain>>(rows);
  Check<Of<750, TermKind::plain>>(rows);
  Check<Of<750, TermKind::general>>(rows);
}

TEST(Tiles, RowsOfEveryLength) {
  std::vector<F16> data(size_t(kLength * 40), Rounded<F16>(NAN));
  for (const int dim : {32, 24, 8}) CheckAll(RowsAt(data.data(), 40, kLength, dim, true));
  for (const int dim : {32, 31, 19, 8, 1}) {
    CheckAll(RowsAt(data.data() + 1, 39, kLength, dim, false));
  }
}

// 2^33 elements apart: two pages of memory at such a distance.
TEST(Tiles, RowsFarApart) {
  constexpr std::int64_t kFarBytes = std::int64_t{1} << 34;
  const auto page = [](char* wish) {
    void* const p = mmap(wish, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? nullptr : static_cast<char*>(p);
  };
  char* const first = page(nullptr);
  ASSERT_NE(first, nullptr);
  // The system places new pages downwards: below there is room.
  char* const second = page(first - kFarBytes);
  ASSERT_EQ(first - second, kFarBytes);
  CheckAll(RowsAt(reinterpret_cast<F16*>(second), kFarBytes / 2, 2, kDim, true));
  munmap(first, 4096);
  munmap(second, 4096);
}

}  // namespace
}  // namespace heed::cuda
