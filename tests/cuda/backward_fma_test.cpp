// The backward's kernels of tiles in f32 in the emulator, on tiles small enough that every call crosses
// their edges: one, two and four columns a thread.
#include "backward_testing.h"
#include "cuda/products_fma.h"

namespace heed::cuda {
namespace {

using Four = Config<F32, 750, 32, 32, 32, 4, TermKind::general>;
using Two = Config<F32, 750, 64, 8, 16, 2, TermKind::general>;

template <class C>
void RunAll(Backward<C>& b) {
  using QueryProducts = FmaProducts<C, C::kRows, C::kKeys>;
  b.Queries(BackwardQueries<C, QueryProducts>);
  b.Keys(BackwardKeys<C, FmaProducts<C, C::kKeys, C::kRows>>);
  if (b.s.bias) b.Bias(BackwardBias<C, QueryProducts>);
}
template <class C>
void Check(const Shape& s, const Wishes& w = {}) {
  Backward<C> b(s, w);
  RunAll(b);
}

class FmaOf : public testing::TestWithParam<Shape> {};
TEST_P(FmaOf, FourKeys) { Check<Four>(GetParam()); }
TEST_P(FmaOf, TwoKeys) { Check<Two>(GetParam(), {.accumulate = true}); }

INSTANTIATE_TEST_SUITE_P(
    Shapes, FmaOf,
    testing::Values(
        Shape{.dim = 32, .dim_v = 24, .q_len = 35, .k_len = 45, .wide = true, .right = 0},
        Shape{.name = "softcap", .q_len = 9, .k_len = 40, .softcap = 2, .dropout = 0.3},
        Shape{.name = "bias", .q_len = 20, .k_len = 35, .alibi = true, .bias = true, .left = 9},
        Shape{.name = "mask", .q_len = 35, .k_len = 70, .group = 1, .mask = true, .map = true},
        Shape{.name = "ragged",
              .q_len = 37,
              .k_len = 50,
              .ragged = true,
              .lengths = true,
              .left = 9,
              .right = 2,
              .prefix = 4}),
    NameOf);

TEST(Fma, BiasSumsOverAxes) {
  const Shape s{.q_len = 35, .k_len = 35, .group = 1, .bias = true};
  Check<Four>(s, {.batch = true, .heads = false, .cols = false});
  Check<Two>(s, {.rows = false});
}

// Where no kernel has looked at the tiles before, every pair is asked for.
TEST(Fma, MaskWithoutKinds) {
  for (const bool map : {false, true}) {
    Backward<Two> b({.q_len = 9, .k_len = 70, .group = 1, .bias = true, .mask = !map, .map = map});
    b.call.kinds = {};
    RunAll(b);
  }
}

// A row that is NaN spoils the keys that it sees and no others; a key that nobody sees spoils nothing.
TEST(Fma, NotFiniteStaysWhereItIsSeen) {
  Backward<Two> b({.q_len = 9, .k_len = 12, .group = 1, .top_left = true, .right = 0});
  b.Anyhow();
  for (int h = 0; h < kHeads; ++h) b.v[b.KeyIndex(b.call.v.steps, 0, h, 11)] = INFINITY;
  b.rows[2].m = NAN;  // of entry 0, head 0
  RunAll(b);
  for (int j = 0; j < 12; ++j) {
    EXPECT_EQ(std::isnan(b.dv.f32[b.KeyIndex(b.back.dv.steps, 0, 0, j)]), j <= 2) << j;
    EXPECT_EQ(std::isnan(b.dk.f32[b.KeyIndex(b.back.dk.steps, 0, 0, j)]), j <= 2) << j;
  }
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(std::isnan(b.dq.f32[size_t(i * b.back.dq.steps.row)]), i == 2) << i;
  }
}

// The gradient of a query that sees nothing is 0, whatever the keys are that others see.
TEST(Fma, ARowThatSeesNothing) {
  Backward<Two> b({.q_len = 9, .k_len = 8, .group = 1, .right = 0});
  b.Anyhow();
  b.k[b.KeyIndex(b.call.k.steps, 0, 0, 0)] = INFINITY;
  RunAll(b);
  for (int d = 0; d < 19; ++d) EXPECT_EQ(b.dq.f32[size_t(d)], 0);
  EXPECT_TRUE(std::isnan(b.dq.f32[size_t(b.back.dq.steps.row)]));
}

// Before the rows of the first head of the first entry there are none: those of an empty one look there.
TEST(Fma, AnEntryWithoutQueries) {
  Backward<Two> b(
      {.q_len = 9, .k_len = 20, .group = 1, .bias = true, .mask = true, .ragged = true});
  b.Anyhow();
  b.call.kinds = {};
  b.cu_q = {0, 0, 5};
  RunAll(b);
}

}  // namespace
}  // namespace heed::cuda
