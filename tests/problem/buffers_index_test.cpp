// buffers_index_test.cpp: every rule about what index arrays hold. Not here: pointers
// (buffers_test.cpp).
#include <gtest/gtest.h>

#include <functional>
#include <initializer_list>

#include "buffers_testing.h"

namespace heed {
namespace {

void Fill(Call& c, const std::int32_t* array, std::initializer_list<std::int32_t> values) {
  std::int32_t* data = c.Mutable(array);
  for (const std::int32_t value : values) *data++ = value;
}

// The message for these arrays; empty if they are fine.
std::string Message(const Problem& p, const std::function<void(Call&)>& fill) {
  Call call(p);
  fill(call);
  const Status status = call.Check();
  EXPECT_TRUE(status || status.code() == StatusCode::kBuffers);
  return status.message();
}

std::string Lengths(const Problem& p, std::initializer_list<std::int32_t> values) {
  return Message(p, [&](Call& c) { Fill(c, c.buffers.key_lengths, values); });
}

TEST(IndexArrays, CumulativeLengths) {
  const auto q = [](std::initializer_list<std::int32_t> values) {
    return Message(RaggedForward(), [&](Call& c) { Fill(c, c.buffers.cu_seqlens_q, values); });
  };
  const auto k = [](std::initializer_list<std::int32_t> values) {
    return Message(RaggedForward(), [&](Call& c) { Fill(c, c.buffers.cu_seqlens_k, values); });
  };
  EXPECT_EQ(q({0, 4, 4, 9}), "");
  EXPECT_EQ(k({0, 0, 7, 10}), "");
  EXPECT_EQ(q({1, 4, 5, 9}), "cu_seqlens_q[0] is 1: it must be 0");
  EXPECT_EQ(q({0, 5, 4, 9}),
            "cu_seqlens_q[2] is 4 and cu_seqlens_q[1] is 5: the entries must not descend");
  EXPECT_EQ(
      q({0, INT32_MIN, INT32_MAX, 9}),
      "cu_seqlens_q[1] is -2147483648 and cu_seqlens_q[0] is 0: the entries must not descend");
  EXPECT_EQ(q({0, 3, 9, 9}),
            "sequence 1 of cu_seqlens_q has length 6 and q_len is 5: no sequence may be longer");
  EXPECT_EQ(q({0, 3, 6, 8}), "cu_seqlens_q[3] is 8 and total_q is 9: they must be equal");
  EXPECT_EQ(k({0, 8, 9, 10}),
            "sequence 0 of cu_seqlens_k has length 8 and k_len is 7: no sequence may be longer");
  EXPECT_EQ(k({0, 4, 7, 11}), "cu_seqlens_k[3] is 11 and total_k is 10: they must be equal");
}

TEST(IndexArrays, KeyLengths) {
  Problem p = DenseForward();
  p.key_lengths = true;
  EXPECT_EQ(Lengths(p, {0, 7}), "");
  EXPECT_EQ(Lengths(p, {8, 7}), "key_lengths[0] is 8: it must be from 0 to 7, the keys of entry 0");
  EXPECT_EQ(Lengths(p, {0, -1}),
            "key_lengths[1] is -1: it must be from 0 to 7, the keys of entry 1");
  p = RaggedForward();
  p.key_lengths = true;
  EXPECT_EQ(Lengths(p, {7, 3, 0}), "");  // cu_seqlens_k is 0 7 10 10
  EXPECT_EQ(Lengths(p, {7, 4, 0}),
            "key_lengths[1] is 4: it must be from 0 to 3, the keys of entry 1");
}

TEST(IndexArrays, QueryOffsetsAreFree) {
  Problem p = DenseForward();
  p.align = Align::kOffset;
  p.query_offsets = true;
  EXPECT_EQ(Message(p,
                    [](Call& c) {
                      Fill(c, c.buffers.query_offsets, {INT32_MIN, INT32_MAX});
                    }),
            "");
}

std::string Seqlens(const Problem& p, std::initializer_list<std::int32_t> values) {
  return Message(p, [&](Call& c) { Fill(c, c.buffers.cache_seqlens, values); });
}

TEST(IndexArrays, CacheLengths) {
  EXPECT_EQ(Seqlens(CacheForward(), {0, 14, 3}), "");
  EXPECT_EQ(
      Seqlens(CacheForward(), {0, 15, 3}),
      "cache_seqlens[1] is 15 and cache.new_len is 2: the one must be 0 or more, and their sum "
      "at most 16, the rows of an entry");
  EXPECT_EQ(
      Seqlens(CacheForward(), {0, 4, -1}),
      "cache_seqlens[2] is -1 and cache.new_len is 2: the one must be 0 or more, and their sum "
      "at most 16, the rows of an entry");
  EXPECT_EQ(Seqlens(PagedForward(), {10, 0, 0}), "");
  EXPECT_EQ(
      Seqlens(PagedForward(), {11, 0, 0}),
      "cache_seqlens[0] is 11 and cache.new_len is 2: the one must be 0 or more, and their sum "
      "at most 12, the rows of an entry");
}

TEST(IndexArrays, LeftPadding) {
  const auto pad = [](std::initializer_list<std::int32_t> values) {
    return Message(CacheForward(), [&](Call& c) {
      Fill(c, c.buffers.cache_seqlens, {0, 5, 3});
      Fill(c, c.buffers.cache_leftpad, values);
    });
  };
  EXPECT_EQ(pad({2, 7, 0}), "");
  EXPECT_EQ(pad({3, 7, 0}),
            "cache_leftpad[0] is 3: it must be from 0 to 2, the rows in use after the append");
  EXPECT_EQ(pad({0, 7, -1}),
            "cache_leftpad[2] is -1: it must be from 0 to 5, the rows in use after the append");
}

TEST(IndexArrays, BatchIndex) {
  const auto slots = [](std::int64_t new_len, std::initializer_list<std::int32_t> seqlens,
                        std::initializer_list<std::int32_t> values) {
    Problem p = CacheForward();
    p.cache.batch_idx = true;
    p.cache.new_len = new_len;
    return Message(p, [&](Call& c) {
      Fill(c, c.buffers.cache_seqlens, seqlens);
      Fill(c, c.buffers.cache_batch_idx, values);
    });
  };
  EXPECT_EQ(slots(2, {0, 0, 0}, {4, 0, 2}), "");
  EXPECT_EQ(slots(2, {0, 0, 0}, {5, 0, 2}),
            "cache_batch_idx[0] is 5: it must be from 0 to 4, the slots there are");
  EXPECT_EQ(slots(2, {0, 0, 0}, {4, 0, -1}),
            "cache_batch_idx[2] is -1: it must be from 0 to 4, the slots there are");
  // One slot for two entries: fine while their new rows are apart, or there are none.
  EXPECT_EQ(slots(0, {9, 9, 9}, {1, 1, 1}), "");
  EXPECT_EQ(slots(2, {3, 0, 5}, {1, 0, 1}), "");
  EXPECT_EQ(slots(2, {3, 0, 4}, {1, 0, 1}),
            "entries 0 and 2 would both write row 4 of slot 1: every appended row must be one "
            "entry's own");
}

TEST(IndexArrays, Pages) {
  const auto pages = [](std::int64_t new_len, std::initializer_list<std::int32_t> seqlens,
                        std::initializer_list<std::int32_t> table,
                        std::initializer_list<std::int32_t> leftpad = {0, 0, 0}) {
    Problem p = PagedForward();
    p.cache.new_len = new_len;
    return Message(p, [&](Call& c) {
      Fill(c, c.buffers.cache_seqlens, seqlens);
      Fill(c, c.buffers.cache_leftpad, leftpad);
      Fill(c, c.buffers.block_table, table);
    });
  };
  // Only entries whose rows are used must name a page.
  EXPECT_EQ(pages(2, {2, 3, 0}, {8, -1, -1, 0, 1, 99, 2, -7, 50}), "");
  EXPECT_EQ(
      pages(2, {2, 3, 0}, {8, -1, -1, 0, 9, 99, 2, -7, 50}),
      "block_table[1][1] is 9 and entry 1 uses rows 0 to 4: it must be from 0 to 8, the pages "
      "there are");
  EXPECT_EQ(
      pages(2, {2, 3, 0}, {-8, 0, 0, 0, 1, 1, 2, 2, 2}),
      "block_table[0][0] is -8 and entry 0 uses rows 0 to 3: it must be from 0 to 8, the pages "
      "there are");
  EXPECT_EQ(pages(0, {0, 4, 0}, {-1, -1, -1, 3, -1, -1, -1, -1, -1}), "");
  // Pages that lie in the padding are not used, but for the rows that are written there.
  EXPECT_EQ(pages(2, {6, 0, 0}, {-1, 1, -1, 2, 2, 2, 3, 3, 3}, {4, 0, 0}), "");
  EXPECT_EQ(
      pages(2, {3, 0, 0}, {-1, 1, -1, 2, 2, 2, 3, 3, 3}, {5, 0, 0}),
      "block_table[0][0] is -1 and entry 0 uses rows 3 to 4: it must be from 0 to 8, the pages "
      "there are");
  // Shared pages are fine to read; two writers of one row are not.
  EXPECT_EQ(pages(0, {12, 12, 12}, {1, 2, 3, 1, 2, 3, 1, 2, 3}), "");
  EXPECT_EQ(pages(2, {4, 4, 4}, {1, 2, 0, 1, 3, 0, 1, 4, 0}), "");
  EXPECT_EQ(pages(2, {4, 6, 4}, {1, 2, 0, 1, 2, 0, 1, 4, 0}), "");
  EXPECT_EQ(
      pages(2, {4, 5, 4}, {1, 2, 0, 1, 2, 0, 1, 4, 0}),
      "entries 0 and 1 would both write row 1 of page 2: every appended row must be one entry's "
      "own");
  // An entry against itself: its second page is its first.
  EXPECT_EQ(
      pages(6, {2, 0, 0}, {1, 1, 0, 2, 3, 0, 4, 5, 0}),
      "entries 0 and 0 would both write row 2 of page 1: every appended row must be one entry's "
      "own");
}

TEST(IndexArrays, ManyWritersAreToldApart) {
  // More pages than hash bits are likely to keep apart.
  Problem p = DenseForward();
  p.batch = 3000;
  p.want_lse = false;
  p.q_len = 1;
  p.k_len = 0;
  p.q_heads = p.k_heads = 1;
  p.cache = {.given = true, .slots = 6000, .rows = 2, .blocks = 2, .new_len = 4};
  EXPECT_EQ(Message(p, [](Call&) {}), "");
  EXPECT_EQ(Message(p, [](Call& c) { c.Mutable(c.buffers.block_table)[5998] = 17; }),
            "entries 8 and 2999 would both write row 0 of page 17: every appended row must be one "
            "entry's own");
}

TEST(IndexArrays, RotaryRows) {
  const auto rows = [](bool causal, std::int64_t q_len, std::int64_t table) {
    Problem p = CacheForward();
    p.causal = causal;
    p.q_len = q_len;
    p.cache.rotary = Rotary::kHalf;
    p.cache.rotary_dim = 4;
    p.cache.rotary_rows = table;
    return Seqlens(p, {3, 6, 0});
  };
  // New keys at 6 and 7; queries at 6, or from 6 on where the mask depends on the position.
  EXPECT_EQ(rows(false, 5, 8), "");
  EXPECT_EQ(rows(false, 5, 7),
            "cache.rotary_rows is 7 and entry 1 needs position 7: there must be at least 8 rows");
  EXPECT_EQ(rows(true, 5, 11), "");
  EXPECT_EQ(
      rows(true, 5, 10),
      "cache.rotary_rows is 10 and entry 1 needs position 10: there must be at least 11 rows");
  EXPECT_EQ(rows(true, 0, 8), "");
}

}  // namespace
}  // namespace heed
