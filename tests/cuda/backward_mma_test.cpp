// The backward's kernels of tiles on tensor cores in the emulator, on tiles small enough that every call
// crosses their edges: sm_75 and sm_80, f16 and bf16, plain and general, columns dealt to two blocks.
#include "backward_testing.h"
#include "cuda/products_mma.h"

namespace heed::cuda {
namespace {

constexpr TermKind kPlain = TermKind::plain, kGeneral = TermKind::general;
using General80 = Config<F16, 800, 64, 64, 32, 2, kGeneral>;
using GeneralBf16 = Config<Bf16, 800, 32, 32, 64, 2, kGeneral>;
using General75 = Config<F16, 750, 96, 32, 32, 2, kGeneral>;
using Plain80 = Config<F16, 800, 64, 32, 32, 2, kPlain>;
using Plain75 = Config<F16, 750, 32, 32, 64, 2, kPlain>;
using Wide = Config<F16, 800, 256, 16, 16, 1, kGeneral>;  // two blocks a tile of keys

template <class C>
void Check(const Shape& s, const Wishes& w = {}) {
  using QueryProducts = MmaProducts<C, C::kRows>;
  Backward<C> b(s, w);
  {
    SCOPED_TRACE("queries");
    b.Queries(BackwardQueries<C, QueryProducts>);
  }
  {
    SCOPED_TRACE("keys");
    b.Keys(BackwardKeys<C, MmaProducts<C, C::kKeys>>);
  }
  if constexpr (C::kGeneral) {
    SCOPED_TRACE("bias");
    if (s.bias) b.Bias(BackwardBias<C, QueryProducts>);
  }
}

class Plain : public testing::TestWithParam<Shape> {};
TEST_P(Plain, Sm80) { Check<Plain80>(GetParam()); }
TEST_P(Plain, Sm75) { Check<Plain75>(GetParam(), {.f32 = true}); }

INSTANTIATE_TEST_SUITE_P(
    Shapes, Plain,
    testing::Values(Shape{.dim = 32, .dim_v = 24, .q_len = 35, .k_len = 70, .wide = true},
                    Shape{.name = "causal", .q_len = 40, .k_len = 66, .right = 0},
                    Shape{.name = "more_queries", .q_len = 66, .k_len = 31, .right = 0},
                    Shape{.name = "window",
                          .q_len = 70,
                          .k_len = 97,
                          .group = 1,
                          .left = 5,
                          .right = 3,
                          .prefix = 4},
                    Shape{.name = "ragged", .q_len = 37, .k_len = 65, .ragged = true, .right = 0},
                    Shape{.name = "lengths", .q_len = 9, .k_len = 69, .lengths = true}),
    NameOf);

class General : public testing::TestWithParam<Shape> {};
TEST_P(General, Sm80) { Check<General80>(GetParam()); }
TEST_P(General, Sm80Bf16) { Check<GeneralBf16>(GetParam(), {.accumulate = true}); }
TEST_P(General, Sm75) { Check<General75>(GetParam(), {.f32 = true}); }

INSTANTIATE_TEST_SUITE_P(
    Shapes, General,
    testing::Values(
        Shape{.dim = 32, .dim_v = 32, .q_len = 66, .k_len = 35, .wide = true, .dropout = 0.3},
        Shape{.name = "softcap", .q_len = 9, .k_len = 33, .softcap = 2, .alibi = true},
        Shape{.name = "bias", .q_len = 35, .k_len = 67, .bias = true, .dropout = 0.4, .left = 30},
        Shape{.name = "mask", .q_len = 66, .k_len = 100, .group = 1, .mask = true},
        Shape{.name = "map", .q_len = 35, .k_len = 66, .group = 1, .map = true, .right = 9},
        Shape{.name = "lengths",
              .q_len = 20,
              .k_len = 40,
              .bias = true,
              .bias_f32 = false,
              .lengths = true}),
    NameOf);

TEST(Keys, ColumnsOfTwoBlocks) {
  Check<Wide>({.dim = 136, .dim_v = 200, .q_len = 18, .k_len = 20, .group = 1, .wide = true});
  Check<Wide>({.dim = 19, .dim_v = 99, .q_len = 5, .k_len = 17, .group = 1});
}

// Sums over every axis that a bias may lack.
TEST(Bias, SumsOverAxes) {
  const Shape s{.q_len = 35, .k_len = 35, .group = 1, .bias = true};
  Check<General75>(s, {.batch = true, .heads = false});
  Check<General75>(s, {.bias_f32 = false, .rows = false});
  Check<General75>(s, {.accumulate = true, .cols = false});
  Check<General75>(s, {.batch = true, .rows = false, .cols = false});
}

}  // namespace
}  // namespace heed::cuda
