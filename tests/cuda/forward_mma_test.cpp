// ForwardMma in the emulator, on tiles small enough that every call crosses their edges: sm_75 and
// sm_80, f16 and bf16, plain and general, packed and split.
#include "cuda/forward_mma.h"

#include "forward_testing.h"

namespace heed::cuda {
namespace {

constexpr TermKind kPlain = TermKind::plain, kGeneral = TermKind::general;
// A row of 64 bytes, of 128, of 192: each kind of swizzle; one and two tiles of 16 rows a warp.
using General80 = Config<F16, 800, 64, 64, 32, 4, kGeneral>;
using GeneralBf16 = Config<Bf16, 800, 32, 32, 64, 2, kGeneral>;
using General75 = Config<F16, 750, 96, 32, 32, 2, kGeneral>;
using Plain80 = Config<F16, 800, 64, 64, 32, 2, kPlain>;
using Plain75 = Config<F16, 750, 64, 64, 32, 4, kPlain>;

template <class C>
void Check(const Shape& s, bool packed = false, bool split = false) {
  Forward<C> forward(s, packed, split);
  forward.Run(ForwardMma<C>);
}

class Plain : public testing::TestWithParam<Shape> {};
TEST_P(Plain, Sm80) { Check<Plain80>(GetParam()); }
TEST_P(Plain, Sm75) { Check<Plain75>(GetParam()); }

INSTANTIATE_TEST_SUITE_P(
    Shapes, Plain,
    testing::Values(
        Shape{.dim = 64, .dim_v = 64, .q_len = 70, .k_len = 75, .wide = true},
        Shape{.name = "causal",
              .dim = 40,
              .dim_v = 24,
              .q_len = 70,
              .k_len = 97,
              .wide = true,
              .right = 0},
        Shape{.name = "causal_top_left",
              .q_len = 33,
              .k_len = 64,
              .out_f32 = true,
              .top_left = true,
              .right = 0},
        Shape{.name = "more_queries", .dim = 33, .dim_v = 7, .q_len = 80, .k_len = 31, .right = 0},
        Shape{.name = "window", .q_len = 130, .k_len = 130, .left = 20, .right = 3, .prefix = 5},
        Shape{.name = "prefix", .q_len = 66, .k_len = 100, .left = 0, .right = 0, .prefix = 40},
        Shape{.name = "chunks", .q_len = 66, .k_len = 100, .chunk = 24},
        Shape{.name = "sinks", .q_len = 5, .k_len = 32, .sinks = true},
        Shape{.name = "ragged", .q_len = 67, .k_len = 70, .ragged = true, .right = 0},
        Shape{.name = "paged",
              .dim = 16,
              .dim_v = 32,
              .q_len = 6,
              .k_len = 75,
              .paged = true,
              .leftpad = true,
              .wide = true,
              .right = 0},
        Shape{.name = "offsets", .q_len = 40, .k_len = 90, .offsets = true, .right = 0},
        Shape{.name = "lengths", .q_len = 20, .k_len = 69, .sinks = true, .lengths = true}),
    NameOf);

class General : public testing::TestWithParam<Shape> {};
TEST_P(General, Sm80) { Check<General80>(GetParam()); }
TEST_P(General, Sm80Bf16) {
  if (GetParam().dim <= 32) Check<GeneralBf16>(GetParam());
}
TEST_P(General, Sm75) { Check<General75>(GetParam()); }

INSTANTIATE_TEST_SUITE_P(
    Shapes, General,
    testing::Values(
        Shape{.dim = 64, .dim_v = 48, .q_len = 70, .k_len = 75, .wide = true, .dropout = 0.3},
        Shape{.name = "negative", .q_len = 35, .k_len = 40, .scale = -0.3f, .right = 0},
        Shape{.name = "softcap",
              .q_len = 20,
              .k_len = 66,
              .softcap = 2,
              .alibi = true,
              .out_f32 = true},
        Shape{.name = "bias",
              .dim = 32,
              .dim_v = 32,
              .q_len = 66,
              .k_len = 67,
              .bias = true,
              .wide = true,
              .dropout = 0.5},
        Shape{.name = "bias16",
              .q_len = 20,
              .k_len = 35,
              .bias = true,
              .bias_f32 = false,
              .sinks = true},
        Shape{.name = "mask", .q_len = 70, .k_len = 130, .mask = true, .sinks = true},
        Shape{.name = "map", .q_len = 37, .k_len = 100, .map = true},
        Shape{.name = "both",
              .q_len = 70,
              .k_len = 100,
              .mask = true,
              .map = true,
              .left = 40,
              .right = 9},
        Shape{.name = "ragged",
              .q_len = 67,
              .k_len = 70,
              .alibi = true,
              .ragged = true,
              .dropout = 0.2,
              .right = 0}),
    NameOf);

// The heads of a group in one tile, and pieces of the keys.
TEST(Packed, Heads) {
  Check<General80>({.q_len = 9, .k_len = 75, .group = 5, .alibi = true, .mask = true}, true);
  Check<General75>({.q_len = 9, .k_len = 75, .group = 3, .map = true, .dropout = 0.4}, true);
  Check<Plain80>({.q_len = 12, .k_len = 75, .group = 5, .lengths = true, .right = 0}, true);
}
TEST(Packed, Pieces) {
  Check<General80>({.dim = 32,
                    .dim_v = 40,
                    .q_len = 3,
                    .k_len = 600,
                    .group = 4,
                    .sinks = true,
                    .paged = true,
                    .leftpad = true,
                    .wide = true,
                    .dropout = 0.2,
                    .right = 0},
                   true, true);
  Check<General75>({.q_len = 2, .k_len = 530, .group = 1, .bias = true, .sinks = true, .left = 99},
                   true, true);
  Check<Plain80>({.q_len = 1, .k_len = 780, .group = 6, .paged = true}, true, true);
  Check<GeneralBf16>({.q_len = 2, .k_len = 780, .group = 6, .lengths = true, .out_f32 = true}, true,
                     true);
}

// A score that is not finite makes its row NaN and no other.
TEST(NotFinite, StaysInItsRow) {
  for (const float bad : {INFINITY, NAN}) {
    Forward<General80> f({.q_len = 9, .k_len = 70, .bias = true, .out_f32 = true});
    f.bias[size_t(3 * 70 + 40)] = bad;
    f.RunAnyhow(ForwardMma<General80>);
    for (int i = 0; i < 9; ++i) {
      EXPECT_EQ(std::isnan(f.o_f32[size_t(i * f.call.o_steps.row)]), i == 3) << i;
      EXPECT_EQ(std::isnan(f.lse[size_t(i)]), i == 3) << i;
    }
  }
}

TEST(Nonsense, InIndexArraysStaysInside) {
  Forward<Plain80> paged({.q_len = 3, .k_len = 75, .paged = true, .leftpad = true, .right = 0});
  paged.seqlens = {INT32_MAX, INT32_MIN};
  paged.leftpad = {INT32_MAX, INT32_MIN};
  for (size_t n = 0; n < paged.table.size(); ++n) paged.table[n] = n % 2 ? INT32_MAX : -5;
  paged.RunAnyhow(ForwardMma<Plain80>);
  paged.leftpad = {INT32_MIN, INT32_MIN};
  paged.RunAnyhow(ForwardMma<Plain80>);
  Forward<General75> ragged({.q_len = 40, .mask = true, .ragged = true});
  ragged.cu_q = {-4, INT32_MAX, 2};
  ragged.cu_k = {60, INT32_MIN, INT32_MAX};
  ragged.call.kinds = {};
  ragged.RunAnyhow(ForwardMma<General75>);
  Forward<General80> lengths({.lengths = true, .offsets = true, .right = 3});
  lengths.lengths = {INT32_MAX, INT32_MIN};
  lengths.offsets = {INT32_MAX, INT32_MIN};
  lengths.RunAnyhow(ForwardMma<General80>);
}

}  // namespace
}  // namespace heed::cuda
