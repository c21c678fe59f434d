// What the kernels see of one entry of the batch, in the emulator: lengths, where its rows lie, index arrays
// that hold anything; and rows that go out of shared memory, one, two, three or four elements of them.
#include "cuda/entry.h"

#include <cstring>
#include <ostream>

#include "cuda/results.h"
#include "kernels_testing.h"

namespace heed::cuda {
namespace {

struct Found {
  std::int64_t sq, sk, shift, q_row, q_batch, key_batch, key_row, capacity, row, lse, key;
};
bool operator==(const Found& a, const Found& b) { return std::memcmp(&a, &b, sizeof a) == 0; }
std::ostream& operator<<(std::ostream& out, const Found& f) {
  const auto* const n = reinterpret_cast<const std::int64_t*>(&f);
  for (size_t i = 0; i < sizeof f / 8; ++i) out << n[i] << ' ';
  return out;
}

// Of entry b: its fields, and where query 1 of head 1 and key 5 of kv head 1 lie.
using Arrays = std::vector<std::vector<std::int32_t>>;
Found Of(const ForwardCall& c, std::int64_t b, const Arrays& arrays) {
  Found found{};
  emu::Memory memory;
  for (const auto& a : arrays) memory.Input("indices", a);
  const std::string error = emu::ErrorOf(emu::Threads(32, 0, 750), memory, [&] {
    const Entry e = EntryOf(c, b);
    const Steps steps{1000, 10, 3};
    found.sq = e.sees.sq;
    found.sk = e.sees.sk;
    found.shift = e.sees.shift;
    found.q_row = e.q_row;
    found.q_batch = e.q_batch;
    found.key_batch = e.key_batch;
    found.key_row = e.key_row;
    found.capacity = e.capacity;
    found.row = QueryAt(steps, e, 1, 1);
    found.lse = LseAt(c, e, b, 1, 1);
    found.key = KeyAt(c, steps, e, 1, 5);
  });
  EXPECT_EQ(error, "");
  return found;
}

ForwardCall Dense() {
  ForwardCall c;
  c.batch = 2;
  c.q_len = 7;
  c.k_len = 9;
  c.lse_batch = 100;
  c.lse_head = 20;
  c.rule.shift = -3;
  return c;
}

TEST(Entry, Dense) {
  ForwardCall c = Dense();
  EXPECT_EQ(Of(c, 1, {}), (Found{7, 9, 2, 0, 1, 1, 0, 9, 1013, 121, 1053}));
  c.bottom_right = false;
  EXPECT_EQ(Of(c, 1, {}), (Found{7, 9, -3, 0, 1, 1, 0, 9, 1013, 121, 1053}));
}

TEST(Entry, LengthsAndOffsets) {
  Arrays a{{4, 6}, {-8, 11}};
  ForwardCall c = Dense();
  c.key_lengths = a[0].data();
  EXPECT_EQ(Of(c, 1, a), (Found{7, 6, -1, 0, 1, 1, 0, 9, 1013, 121, 1053}));
  c.query_offsets = a[1].data();
  EXPECT_EQ(Of(c, 1, a), (Found{7, 6, 11, 0, 1, 1, 0, 9, 1013, 121, 1053}));
  a[0] = {4, 10};
  EXPECT_EQ(Of(c, 1, a).sk, 9);
  a[0] = {4, -1};
  EXPECT_EQ(Of(c, 1, a).sk, 0);
}

TEST(Entry, Ragged) {
  Arrays a{{0, 4, 9}, {0, 2, 8}};
  ForwardCall c = Dense();
  c.cu_seqlens_q = a[0].data();
  c.cu_seqlens_k = a[1].data();
  c.total_q = 9;
  c.total_k = 8;
  c.lse_batch = 0;
  EXPECT_EQ(Of(c, 1, a), (Found{5, 6, 1, 4, 0, 0, 2, 6, 53, 25, 73}));
  // No place behind the tensors, no length below 0 or above the longest.
  a = {{0, 12, 3}, {0, -5, 99}};
  EXPECT_EQ(Of(c, 1, a), (Found{0, 8, 8, 9, 0, 0, 0, 8, 103, 30, 53}));
}

TEST(Entry, Cache) {
  Arrays a{{3, 5}, {1, 2}, {2, 0}};
  ForwardCall c = Dense();
  c.cache.seqlens = a[0].data();
  c.cache.new_len = 3;
  c.cache.slots = 3;
  EXPECT_EQ(Of(c, 1, a), (Found{7, 8, 1, 0, 1, 1, 0, 8, 1013, 121, 1053}));
  c.cache.leftpad = a[1].data();
  EXPECT_EQ(Of(c, 1, a), (Found{7, 6, -1, 0, 1, 1, 2, 6, 1013, 121, 1073}));
  c.cache.batch_idx = a[2].data();
  EXPECT_EQ(Of(c, 0, a), (Found{7, 5, -2, 0, 0, 2, 1, 5, 13, 21, 2063}));
  a[2] = {3, -1};
  EXPECT_EQ(Of(c, 0, a).key_batch, 2);
  EXPECT_EQ(Of(c, 1, a).key_batch, 0);
}

TEST(Entry, Pages) {
  Arrays a{{3, 5}, {4, 0, 1, 2, 3, 9}};
  ForwardCall c = Dense();
  c.cache.seqlens = a[0].data();
  c.cache.new_len = 3;
  c.cache.table = a[1].data();
  c.cache.slots = 5;
  c.cache.rows = 4;
  c.cache.blocks = 3;
  // Key 5 is row 1 of page 3: of the entry's second block.
  EXPECT_EQ(Of(c, 1, a), (Found{7, 8, 1, 0, 1, 1, 0, 8, 1013, 121, 3013}));
  a[1][4] = 5;
  EXPECT_EQ(Of(c, 1, a).key, 4013);
}

template <class T>
struct Results : testing::Test {};
TYPED_TEST_SUITE(Results, Elements);

// Four at a time or one by one: so many elements and no more.
TYPED_TEST(Results, CopyOut) {
  using T = TypeParam;
  for (const bool wide : {false, true}) {
    for (int count = 1; count < 7; ++count) {
      alignas(16) T to[8];
      emu::Memory memory;
      memory.Add("to", to, sizeof(T) * size_t(std::min(count, 4)), emu::Use::kOutput);
      ASSERT_EQ(emu::ErrorOf(emu::Threads(32, 0, 800), memory,
                             [&] {
                               if (ptx::ThreadIndex() == 0) CopyOut(to, {1, 2, 3, 4}, count, wide);
                             }),
                "");
      for (int n = 0; n < std::min(count, 4); ++n) EXPECT_EQ(Widen(to[n]), n + 1);
    }
  }
}

}  // namespace
}  // namespace heed::cuda
