// normal_test.cpp: what Normalize fills in, and the Visibility of a sequence. Not here: problems
// that are wrong.
#include "problem/normal.h"

#include <gtest/gtest.h>

#include <cmath>

#include "problem/layout.h"
#include "problem/validate.h"

namespace heed {
namespace {

void ExpectStrides(const Strides& s, std::int64_t batch, std::int64_t row, std::int64_t head) {
  EXPECT_EQ(s.batch, batch);
  EXPECT_EQ(s.row, row);
  EXPECT_EQ(s.head, head);
}

Problem Plain() {
  return {.batch = 2, .q_len = 5, .k_len = 7, .q_heads = 6, .k_heads = 3, .dim = 8, .dim_v = 4};
}

TEST(Normalize, Defaults) {
  Problem p = {.batch = 2, .q_len = 5, .k_len = 7, .q_heads = 6, .dim = 8, .causal = true};
  p.dtype = DType::kF16;
  const Problem n = Normalize(p);
  EXPECT_EQ(n.k_heads, 6);
  EXPECT_EQ(n.dim_v, 8);
  EXPECT_EQ(n.window_left, -1);
  EXPECT_EQ(n.window_right, 0);
  EXPECT_DOUBLE_EQ(n.scale.value(), 1 / std::sqrt(8.0));
  EXPECT_EQ(n.out_dtype.value(), DType::kF16);
}

TEST(Normalize, KeepsWhatIsGiven) {
  Problem p = Plain();
  p.scale = 0;
  p.out_dtype = DType::kF32;
  p.window_right = 3;
  const Problem n = Normalize(p);
  EXPECT_EQ(n.k_heads, 3);
  EXPECT_EQ(n.dim_v, 4);
  EXPECT_EQ(n.scale.value(), 0);
  EXPECT_EQ(n.out_dtype.value(), DType::kF32);
  EXPECT_EQ(n.window_right, 3);
}

TEST(Normalize, PackedStrides) {
  const Problem n = Normalize(Plain());
  ExpectStrides(n.q_strides, 5 * 6 * 8, 6 * 8, 8);
  ExpectStrides(n.k_strides, 7 * 3 * 8, 3 * 8, 8);
  ExpectStrides(n.v_strides, 7 * 3 * 4, 3 * 4, 4);
  ExpectStrides(n.o_strides, 5 * 6 * 4, 6 * 4, 4);
  ExpectStrides(n.dq_strides, 0, 0, 0);  // not used
  ExpectStrides(n.k_new_strides, 0, 0, 0);
}

TEST(Normalize, BackwardStrides) {
  Problem p = Plain();
  p.op = Op::kBackward;
  const Problem n = Normalize(p);
  ExpectStrides(n.dout_strides, 5 * 6 * 4, 6 * 4, 4);
  ExpectStrides(n.dq_strides, 5 * 6 * 8, 6 * 8, 8);
  ExpectStrides(n.dk_strides, 7 * 3 * 8, 3 * 8, 8);
  ExpectStrides(n.dv_strides, 7 * 3 * 4, 3 * 4, 4);
}

// A packed stride steps over what lies inside it, whatever strides were given there.
TEST(Normalize, PackedStridesFollowTheGivenOnes) {
  Problem p = Plain();
  p.q_strides = {.row = 3 * 6 * 8, .head = 8};  // q of a packed (B,S,3,H,D)
  p.k_strides = {.row = 8, .head = 7 * 8};      // (B,H,S,D)
  p.v_strides = {.row = -12, .head = 4};        // rows reversed
  const Problem n = Normalize(p);
  ExpectStrides(n.q_strides, 5 * 3 * 6 * 8, 3 * 6 * 8, 8);
  ExpectStrides(n.k_strides, 3 * 7 * 8, 8, 7 * 8);
  ExpectStrides(n.v_strides, 7 * 12, -12, 4);
}

TEST(Normalize, AxesOfSizeOneHaveNoStride) {
  Problem p = {.batch = 1, .q_len = 1, .k_len = 7, .q_heads = 1, .dim = 8};
  p.q_strides = {.batch = 77, .row = -5, .head = 3};
  p.k_strides = {.batch = 77, .row = 16, .head = 3};
  const Problem n = Normalize(p);
  ExpectStrides(n.q_strides, 0, 0, 0);
  ExpectStrides(n.k_strides, 0, 16, 0);
  ExpectStrides(n.o_strides, 0, 0, 0);
}

TEST(Normalize, RaggedTensorsHaveNoBatchStride) {
  Problem p = Plain();
  p.ragged = true;
  p.total_q = 9;
  p.total_k = 10;
  const Problem n = Normalize(p);
  ExpectStrides(n.q_strides, 0, 48, 8);
  ExpectStrides(n.v_strides, 0, 12, 4);
}

TEST(Normalize, BroadcastStrides) {
  Problem p = Plain();
  p.bias = {.given = true, .batch = 1, .heads = 6, .rows = 1, .cols = 7};
  p.mask = {.given = true, .batch = 2, .heads = 1, .rows = 5, .cols = 7, .stride_col = 5};
  p.mask.stride_row = 1;  // transposed
  const Problem n = Normalize(p);
  EXPECT_EQ(n.bias.stride_batch, 0);
  EXPECT_EQ(n.bias.stride_head, 7);
  EXPECT_EQ(n.bias.stride_row, 0);
  EXPECT_EQ(n.bias.stride_col, 1);
  EXPECT_EQ(n.mask.stride_batch, 35);
  EXPECT_EQ(n.mask.stride_head, 0);
  EXPECT_EQ(n.mask.stride_row, 1);
  EXPECT_EQ(n.mask.stride_col, 5);
}

TEST(Normalize, CacheGivesTheKeys) {
  Problem p = {.batch = 2, .q_len = 1, .q_heads = 6, .k_heads = 3, .dim = 8};
  p.cache = {.given = true, .slots = 4, .rows = 16, .new_len = 2};
  Problem n = Normalize(p);
  EXPECT_EQ(n.k_len, 16);
  ExpectStrides(n.k_strides, 16 * 3 * 8, 3 * 8, 8);
  ExpectStrides(n.k_new_strides, 2 * 3 * 8, 3 * 8, 8);
  p.cache.blocks = 3;
  n = Normalize(p);
  EXPECT_EQ(n.k_len, 48);
  ExpectStrides(n.k_strides, 16 * 3 * 8, 3 * 8, 8);
}

// Bounds that no pair reaches are none, so that sums with them cannot overflow.
TEST(Normalize, FarBounds) {
  Problem p = Plain();
  p.window_left = p.window_right = p.chunk = p.prefix = INT64_MAX;
  const Problem n = Normalize(p);
  EXPECT_EQ(n.window_left, -1);
  EXPECT_EQ(n.window_right, -1);
  EXPECT_EQ(n.chunk, kFar);
  EXPECT_EQ(PrefixKeys(VisibilityOf(n, 5, 7, 0)).last, 7);
  p.prefix = 0;
  p.align = Align::kOffset;
  for (const std::int64_t offset : {-kMaxSize, std::int64_t{-1}, std::int64_t{0}, kMaxSize}) {
    p.query_offset = offset;
    const Visibility v = VisibilityOf(Normalize(p), kMaxSize, kMaxSize, offset);
    for (const std::int64_t i : {std::int64_t{0}, kMaxSize - 1}) {
      const bool in_first_chunk = i + offset >= 0;  // which holds all keys
      EXPECT_EQ(Band(v, i).size(), in_first_chunk ? kMaxSize : 0) << i << " " << offset;
    }
  }
}

TEST(Normalize, NormalFormIsValidAndItsOwnNormalForm) {
  Problem all[4] = {Plain(), Plain(), Plain(), Plain()};
  all[1].op = Op::kBackward;
  all[1].bias = {.given = true, .rows = 5, .cols = 7};
  all[2].ragged = true;
  all[2].total_q = 9;
  all[2].total_k = 10;
  all[2].causal = true;
  all[3].k_len = 0;
  all[3].cache = {.given = true, .slots = 4, .rows = 16, .blocks = 3, .new_len = 2};
  for (const Problem& p : all) {
    const Problem once = Normalize(p), twice = Normalize(once);
    EXPECT_TRUE(CheckProblem(once)) << CheckProblem(once).message();
    EXPECT_EQ(once.k_len, twice.k_len);
    EXPECT_EQ(once.scale, twice.scale);
    EXPECT_EQ(once.window_right, twice.window_right);
    for (const auto s : {&Problem::q_strides, &Problem::k_strides, &Problem::v_strides,
                         &Problem::o_strides, &Problem::k_new_strides, &Problem::dk_strides}) {
      ExpectStrides(twice.*s, (once.*s).batch, (once.*s).row, (once.*s).head);
    }
    EXPECT_EQ(once.bias.stride_row, twice.bias.stride_row);
  }
}

TEST(VisibilityOf, Shift) {
  Problem p = Plain();
  p.window_left = 3;
  p.prefix = 2;
  p.chunk = 9;
  EXPECT_EQ(VisibilityOf(p, 5, 7, 99).shift, 2);
  EXPECT_EQ(VisibilityOf(p, 7, 5, 99).shift, -2);
  p.align = Align::kTopLeft;
  EXPECT_EQ(VisibilityOf(p, 5, 7, 99).shift, 0);
  p.align = Align::kOffset;
  const Visibility v = VisibilityOf(p, 5, 7, -99);
  EXPECT_EQ(v.shift, -99);
  EXPECT_EQ(v.sq, 5);
  EXPECT_EQ(v.sk, 7);
  EXPECT_EQ(v.left, 3);
  EXPECT_EQ(v.right, -1);
  EXPECT_EQ(v.prefix, 2);
  EXPECT_EQ(v.chunk, 9);
}

}  // namespace
}  // namespace heed
