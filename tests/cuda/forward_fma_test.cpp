// ForwardFma in the emulator, on tiles small enough that every call crosses their edges: two and four
// keys a thread, one and two rows.
#include "cuda/forward_fma.h"

#include "forward_testing.h"

namespace heed::cuda {
namespace {

using Four = Config<F32, 750, 32, 32, 32, 4, TermKind::general>;
using Two = Config<F32, 750, 64, 8, 16, 2, TermKind::general>;

template <class C>
void Check(const Shape& s, bool packed = false, bool split = false) {
  Forward<C> forward(s, packed, split);
  forward.Run(ForwardFma<C>);
}

class FmaOf : public testing::TestWithParam<Shape> {};
TEST_P(FmaOf, FourKeys) { Check<Four>(GetParam()); }
TEST_P(FmaOf, TwoKeys) { Check<Two>(GetParam()); }

INSTANTIATE_TEST_SUITE_P(
    Shapes, FmaOf,
    testing::Values(
        Shape{.dim = 32, .dim_v = 24, .q_len = 35, .k_len = 45, .wide = true, .right = 0},
        Shape{.name = "dropout", .q_len = 11, .k_len = 40, .dropout = 0.3},
        Shape{.name = "bias",
              .q_len = 20,
              .k_len = 35,
              .softcap = 3,
              .alibi = true,
              .bias = true,
              .sinks = true},
        Shape{.name = "mask", .q_len = 40, .k_len = 70, .mask = true, .map = true, .left = 30},
        Shape{.name = "ragged",
              .q_len = 37,
              .k_len = 50,
              .ragged = true,
              .left = 9,
              .right = 2,
              .prefix = 4},
        Shape{.name = "lengths", .q_len = 9, .k_len = 33, .lengths = true, .chunk = 8},
        Shape{.name = "many_keys", .q_len = 3, .k_len = 300, .group = 1},
        Shape{.name = "tight_softcap", .q_len = 5, .k_len = 20, .group = 1, .softcap = 0.03f}),
    NameOf);

TEST(Fma, PackedAndSplit) {
  Check<Four>({.q_len = 3, .k_len = 600, .group = 4, .sinks = true, .paged = true, .right = 0},
              true, true);
  Check<Two>({.q_len = 2, .k_len = 300, .group = 3, .lengths = true}, true, true);
  // The prefix ends in the second piece, the band begins in the third.
  Check<Four>({.q_len = 3, .k_len = 600, .group = 1, .left = 20, .right = 0, .prefix = 300}, true,
              true);
}

// Before the rows of the first head of the first entry there are none: those of an empty one look there.
TEST(Fma, AnEntryWithoutQueries) {
  Forward<Two> f({.q_len = 9, .k_len = 20, .group = 1, .mask = true, .ragged = true});
  f.call.kinds = {};
  f.cu_q = {0, 0, 5};
  f.RunAnyhow(ForwardFma<Two>);
}

// The maximum steps over NaN: where there is nothing else, the sum says so.
TEST(Fma, ARowOfNaN) {
  Forward<Two> f({.q_len = 9, .k_len = 40, .bias = true, .out_f32 = true});
  std::fill_n(f.bias.begin() + 3 * 40, 40, NAN);
  f.RunAnyhow(ForwardFma<Two>);
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(std::isnan(f.o_f32[size_t(i * f.call.o_steps.row)]), i == 3) << i;
    EXPECT_EQ(std::isnan(f.lse[size_t(i)]), i == 3) << i;
  }
}

}  // namespace
}  // namespace heed::cuda
