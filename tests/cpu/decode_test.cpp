// decode_test.cpp: the decode kernels and the joining of their pieces against a loop in double, on
// every instruction set: sizes, dtypes, layouts, intervals, score terms, values that are not finite.
// Not here: the engine's choice of kernels (engine_test.cpp).
#include "decode_testing.h"

namespace heed::cpu {
namespace {

class Decode : public ::testing::TestWithParam<const DecodeCheck*> {
 protected:
  const DecodeCheck& decode = *GetParam();

  void RunAndCheck(const DecodeCase& c, unsigned seed = 1) {
    std::ostringstream name;
    name << c;
    SCOPED_TRACE(name.str());
    DecodeData data(c, seed);
    data.Run(decode);
    data.Check(decode);
  }
};

constexpr DType kDTypes[] = {DType::kF32, DType::kBF16, DType::kF16};

TEST_P(Decode, EveryDim) {
  for (const DType dtype : kDTypes) {
    for (int dim = 1; dim <= 70; dim++)
      RunAndCheck({.dtype = dtype, .dim = dim, .dim_v = 71 - dim, .rows = 1 + dim % 9, .keys = 37});
    for (const int dim : {96, 128, 192, 255, 576, 1023, 1024})
      RunAndCheck({.dtype = dtype, .dim = dim, .dim_v = 1025 - dim, .rows = 5, .keys = 70});
  }
}

TEST_P(Decode, EveryNumberOfRowsAndKeys) {
  for (const DType dtype : kDTypes) {
    for (int rows = 1; rows <= decode.most_rows; rows++)
      for (const std::int64_t keys : {1, 2, 15, 16, 17, 31, 63, 64, 65, 200})
        RunAndCheck(
            {.dtype = dtype, .dim = 40, .dim_v = 48, .rows = rows, .heads = 1, .keys = keys});
  }
}

TEST_P(Decode, EveryLayout) {
  for (const DType dtype : kDTypes)
    for (const bool interleaved : {false, true})
      for (const bool together : {false, true})
        for (const std::int64_t page : {0, 1, 3, 16, 128})
          for (const std::int64_t left_pad : {0, 5})
            for (const int rows : {1, 8})
              RunAndCheck({.dtype = dtype,
                           .dim = 32,
                           .dim_v = 32,
                           .rows = rows,
                           .heads = 3,
                           .keys = 143,
                           .piece = 80,
                           .interleaved = interleaved,
                           .page_rows = page,
                           .left_pad = page ? left_pad : 0,
                           .together = together,
                           .cached = rows == 1 && left_pad > 0});
}

TEST_P(Decode, IntervalsAndTerms) {
  for (const DType dtype : kDTypes)
    for (const std::int64_t left : {-1, 0, 3, 40})
      for (const std::int64_t right : {-1, 0, 2})
        for (const std::int64_t prefix : {0, 1, 20, 130})
          for (int terms = 0; terms < 8; terms++)
            RunAndCheck({.dtype = dtype,
                         .dim = 33,
                         .dim_v = 17,
                         .rows = 6,
                         .heads = 2,
                         .keys = 130,
                         .piece = 48,
                         .together = terms == 5,
                         .softcap = terms & 1 ? 3. : 0,
                         .alibi = (terms & 2) != 0,
                         .sinks = (terms & 4) != 0,
                         .left = left,
                         .right = right,
                         .prefix = prefix});
}

// Axes drawn at random, together.
TEST_P(Decode, Mixtures) {
  std::mt19937 random(77);
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int n = 0; n < 200; n++) {
    DecodeCase c;
    c.dtype = kDTypes[pick(3)];
    c.dim = 1 + pick(150);
    c.dim_v = 1 + pick(150);
    c.rows = 1 + pick(decode.most_rows);
    c.heads = 1 + pick(4);
    c.keys = 1 + pick(400);
    c.piece = 8 + pick(200);
    c.interleaved = pick(2) != 0;
    c.page_rows = pick(2) ? 1 + pick(40) : 0;
    c.left_pad = c.page_rows ? pick(30) : 0;
    c.together = pick(2) != 0;
    c.cached = pick(4) == 0;
    c.scale = pick(5) ? 0.1 : pick(2) ? 0 : -0.2;
    c.softcap = pick(3) ? 0 : 5;
    c.alibi = pick(3) == 0;
    c.sinks = pick(3) == 0;
    c.left = pick(2) ? -1 : pick(100);
    c.right = pick(2) ? -1 : pick(5);
    c.prefix = pick(2) ? 0 : pick(static_cast<int>(c.keys) + 1);
    c.o_f32 = pick(2) != 0;
    c.spread = pick(4) ? 1 : 30;
    RunAndCheck(c, static_cast<unsigned>(n));
    if (HasFailure()) return;
  }
}

// Every later key scores higher by far: the maximum is raised block by block.
TEST_P(Decode, ScoresThatRise) {
  for (const DType dtype : kDTypes)
    for (const int rows : {1, 4, 8, 16}) {
      DecodeCase c{.dtype = dtype, .dim = 16, .dim_v = 20, .rows = rows, .heads = 1, .keys = 300};
      c.scale = 1;
      c.piece = 130;
      DecodeData data(c);
      for (std::int64_t j = 0; j < c.keys; j++)
        for (int d = 0; d < c.dim; d++)
          data.PutK(0, j, d, (j % 7 ? 0.5 : 1.) * static_cast<double>(j) / 8 * (d % 2 ? 1 : 0.25));
      data.Run(decode);
      data.Check(decode);
    }
}

// A row of which one score is NaN or infinite is NaN; the others are what they were.
TEST_P(Decode, BadScoresStayInTheirRow) {
  for (const DType dtype : kDTypes)
    for (const int rows : {2, 4, 8, 16})
      for (const double bad : {double{kNaN}, double{kInf}})
        for (const std::int64_t key : {0, 40, 99}) {
          DecodeCase c{.dtype = dtype, .dim = 24, .dim_v = 24, .rows = rows, .heads = 1};
          DecodeData data(c);
          const int victim = rows / 2;
          for (int r = 0; r < rows; r++)
            if (r != victim) data.SetInterval(r, key == 0 ? 1 : 0, key == 0 ? c.keys : key);
          data.PutK(0, key, 3,
                    bad);  // q is finite and not 0, so the score is infinite, either sign
          data.Run(decode);
          for (int d = 0; d < c.dim_v; d++)
            for (int r = 0; r < rows; r++) {
              if (r != victim) {
                ASSERT_TRUE(std::isfinite(data.O(0, r, d))) << decode.isa << " row " << r;
              } else if (std::isnan(bad)) {
                ASSERT_TRUE(std::isnan(data.O(0, r, d))) << decode.isa;
              }
            }
          data.Check(decode);
        }
}

// A score of -infinity has no weight; a row of nothing else is empty.
TEST_P(Decode, ScoresOfMinusInfinity) {
  for (const DType dtype : kDTypes)
    for (const bool all : {false, true})
      for (const int rows : {1, 4, 8}) {
        DecodeCase c{.dtype = dtype, .dim = 8, .dim_v = 16, .rows = rows, .heads = 1, .keys = 70};
        c.spread = 0;
        DecodeData data(c);
        // q is 0 but for what is put in below: all scores are 0 or, by 1 * -infinity, -infinity.
        data.PutQ(0, 0, 0, 1);
        for (std::int64_t j = 0; j < c.keys; j++)
          data.PutK(0, j, 0, all || j % 3 == 0 ? -double{kInf} : 0.);
        for (int r = 1; r < rows; r++) data.PutQ(0, r, 0, 2);
        data.Run(decode);
        data.Check(decode);
        if (all) {
          EXPECT_EQ(data.O(0, 0, 0), 0);
          EXPECT_EQ(data.Lse(0, 0), -double{kInf});
        }
      }
}

// Sums of p v beyond the largest float on their way to a mean below it.
TEST_P(Decode, LargeValuesStayFinite) {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const int rows : {1, 8}) {
      DecodeCase c{.dtype = dtype, .dim = 8, .dim_v = 18, .rows = rows, .heads = 2, .keys = 100};
      c.piece = 60;
      DecodeData data(c);
      for (int h = 0; h < c.heads; h++)
        for (std::int64_t j = 0; j < c.keys; j++)
          for (int d = 0; d < c.dim_v; d++) data.PutV(h, j, d, 3e38);
      data.Run(decode);
      data.Check(decode);
    }
}

// What no row sees is not read, and what one row does not see never reaches it: NaN in K behind an
// interval and memory that ends with the last row are in every test above; here NaN before it.
TEST_P(Decode, HiddenKeysMayHoldAnything) {
  for (const DType dtype : kDTypes) {
    DecodeCase c{.dtype = dtype, .dim = 40, .dim_v = 16, .rows = 3, .heads = 2, .keys = 200};
    c.left = 50;
    c.right = 0;
    c.prefix = 7;
    DecodeData data(c);
    for (int h = 0; h < c.heads; h++)
      for (std::int64_t j = c.prefix; j < c.keys - c.rows - c.left; j++)
        for (int d = 0; d < c.dim; d++) data.PutK(h, j, d, double{kNaN});
    data.Run(decode);
    data.Check(decode);
  }
}

// Pages, walking heads together and being cached change where and when, not what: the same bits.
TEST_P(Decode, LayoutChangesNoBit) {
  for (const DType dtype : kDTypes)
    for (const int rows : {1, 3, 8, 16}) {
      const DecodeCase plain{.dtype = dtype,
                             .dim = 48,
                             .dim_v = 40,
                             .rows = rows,
                             .heads = 3,
                             .keys = 333,
                             .piece = 128};
      DecodeData data(plain);
      data.Run(decode);
      for (const std::int64_t page : {0, 1, 7, 16, 64}) {
        DecodeCase other = plain;
        other.page_rows = page;
        other.left_pad = page ? 3 : 0;
        other.interleaved = page != 7;
        other.together = page != 16;
        other.cached = page == 64;
        DecodeData again(other);
        again.Run(decode);
        EXPECT_EQ(data.Result(), again.Result()) << decode.isa << " " << other;
      }
    }
}

// One key: o is v to the last bit.
TEST_P(Decode, OneKeyGivesItsValue) {
  for (const DType dtype : kDTypes)
    for (const int rows : {1, 4, 8, 16}) {
      DecodeCase c{.dtype = dtype, .dim = 64, .dim_v = 48, .rows = rows, .heads = 1, .keys = 1};
      DecodeData data(c);
      for (int d = 0; d < c.dim_v; d++) data.PutV(0, 0, d, d - 7.);
      data.Run(decode);
      for (int r = 0; r < rows; r++)
        for (int d = 0; d < c.dim_v; d++) EXPECT_EQ(data.O(0, r, d), d - 7.) << decode.isa;
    }
}

std::string NameOfDecode(const ::testing::TestParamInfo<const DecodeCheck*>& info) {
  return info.param->isa;
}
INSTANTIATE_TEST_SUITE_P(Isa, Decode, ::testing::ValuesIn(UsableDecodes()), NameOfDecode);

}  // namespace
}  // namespace heed::cpu
