// edge_test.cpp: rows that see nothing, scores and inputs that are not finite, sizes of zero: the
// contract's rules for them.
#include <cmath>
#include <limits>

#include "run.h"

namespace heed {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr float kInfF = std::numeric_limits<float>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr float kLowest = std::numeric_limits<float>::lowest();

bool AllAre(const Doubles& x, double value) {
  for (const double e : x) {
    if (e != value) return false;
  }
  return true;
}
bool AnyNan(const Doubles& x) {
  for (const double e : x) {
    if (std::isnan(e)) return true;
  }
  return false;
}

// Row 0 of three sees nothing.
Call DeadRow() {
  return Call(Problem{.q_len = 3, .k_len = 2, .q_heads = 2, .dim = 3, .causal = true});
}

TEST(Edge, ARowThatSeesNothingIsZero) {
  Call c = DeadRow();
  c.dlse.assign(6, 1);
  c.Backward();
  for (int n = 0; n < 6; n++) EXPECT_EQ(c.o[n], 0);
  EXPECT_EQ(c.lse[0], -kInfF);
  EXPECT_EQ(c.lse[3], -kInfF);
  EXPECT_TRUE(std::isfinite(c.lse[1]));
  for (int n = 0; n < 6; n++) EXPECT_EQ(c.dq[n], 0);
  EXPECT_FALSE(AnyNan(c.dk) || AnyNan(c.dv));
}

TEST(Edge, WithASinkItsLseIsTheSink) {
  Call c = DeadRow();
  c.p.sinks = true, c.sinks = {0.5f, -kInfF};
  c.dlse = {3, 0, 0, 3, 0, 0};
  c.dout.assign(c.dout.size(), 0);
  c.Backward();
  for (int n = 0; n < 6; n++) EXPECT_EQ(c.o[n], 0);
  EXPECT_EQ(c.lse[0], 0.5f);
  EXPECT_EQ(c.lse[3], -kInfF);  // a sink of -infinity is none
  EXPECT_EQ(c.dsinks[0], 3);
  EXPECT_EQ(c.dsinks[1], 0);
  EXPECT_TRUE(AllAre(c.dq, 0));
}

TEST(Edge, BiasOfMinusInfinityEverywhereIsSeeingNothing) {
  Call c(Problem{.q_len = 2, .k_len = 3, .dim = 2});
  c.p.bias = {.given = true, .rows = 2, .cols = 3}, c.p.bias_dtype = DType::kF64;
  c.bias = {-kInf, -kInf, -kInf, -kInf, 0, 0};
  c.dlse = {1, 1};
  c.Backward();
  EXPECT_EQ(c.o[0], 0);
  EXPECT_EQ(c.lse[0], -kInfF);
  for (int n = 0; n < 2; n++) EXPECT_EQ(c.dq[n], 0);
  for (int n = 0; n < 4; n++) EXPECT_EQ(c.dbias[n], 0);
  for (int n = 0; n < 2; n++) EXPECT_EQ(c.dk[n], 0);
  for (int n = 0; n < 2; n++) EXPECT_EQ(c.dv[n], 0);
  EXPECT_NE(c.dbias[4], 0);
  EXPECT_FALSE(AnyNan(c.dq) || AnyNan(c.dk) || AnyNan(c.dv) || AnyNan(c.dbias));
}

TEST(Edge, GradientsOfADeadRowAreZeroThoughKeysAreNot) {
  Call c(Problem{.q_len = 1, .k_len = 1, .dim = 1});
  c.p.scale = 1;
  c.q = {1}, c.k = {-kInf};
  c.Backward();
  EXPECT_EQ(c.lse[0], -kInfF);
  EXPECT_EQ(c.o[0], 0);
  EXPECT_EQ(c.dq[0], 0);
  EXPECT_EQ(c.dk[0], 0);
  EXPECT_EQ(c.dv[0], 0);
}

TEST(Edge, LowestFloatInEveryColumnIsTheUniformRow) {
  Call c(Problem{.q_len = 1, .k_len = 4, .dim = 2});
  c.p.bias = {.given = true, .cols = 4}, c.p.bias_dtype = DType::kF64;
  c.bias.assign(4, double{kLowest});
  c.v = {1, 0, 2, 0, 3, 0, 4, 0};
  c.Backward();
  EXPECT_EQ(c.o[0], 2.5);
  EXPECT_TRUE(std::isfinite(c.lse[0]));
  EXPECT_LT(c.lse[0], -2e38f);
  for (int j = 0; j < 4; j++) EXPECT_EQ(c.dv[2 * j], c.dout[0] / 4);
  c.bias.assign(4, 2 * double{kLowest});  // finite in f64: not what lse of an empty row would say
  c.Forward();
  EXPECT_EQ(c.lse[0], kLowest);
}

TEST(Edge, APositiveInfiniteOrNanScoreSpoilsItsRowAlone) {
  for (const double bad : {kInf, kNan}) {
    Call c(Problem{.q_len = 3, .k_len = 3, .dim = 2});
    c.p.bias = {.given = true, .rows = 3, .cols = 3}, c.p.bias_dtype = DType::kF64;
    c.bias = {0, 0, 0, 0, bad, 0, 0, 0, 0};
    c.Forward();
    for (int d = 0; d < 2; d++) {
      EXPECT_TRUE(std::isfinite(c.o[0 + d]));
      EXPECT_TRUE(std::isnan(c.o[2 + d]));
      EXPECT_TRUE(std::isfinite(c.o[4 + d]));
    }
  }
}

TEST(Edge, NanThatComesFirstOrAmongMinusInfinitiesIsNotLost) {
  for (int at = 0; at < 3; at++) {
    Call c(Problem{.q_len = 1, .k_len = 3, .dim = 1});
    c.p.bias = {.given = true, .cols = 3}, c.p.bias_dtype = DType::kF64;
    c.bias.assign(3, -kInf);
    c.bias[at] = kNan;
    c.Forward();
    EXPECT_TRUE(std::isnan(c.o[0]));
    EXPECT_TRUE(std::isnan(c.lse[0]));
  }
}

TEST(Edge, AHiddenKeyReachesNoRowThatDoesNotSeeIt) {
  Call c(Problem{.q_len = 3, .k_len = 3, .dim = 2, .causal = true});
  Call clean = c;
  clean.Forward();
  c.k[4] = c.k[5] = kNan;  // the last key: rows 0 and 1 do not see it
  c.v[4] = kInf;
  c.Forward();
  for (int n = 0; n < 4; n++) EXPECT_EQ(c.o[n], clean.o[n]);
  EXPECT_TRUE(std::isnan(c.o[4]));
}

TEST(Edge, KeysBeyondTheLengthAreNeverRead) {
  Call c(Problem{.batch = 2, .q_len = 2, .k_len = 4, .dim = 2, .key_lengths = true});
  c.key_lengths = {3, 0};
  Call clean = c;
  clean.Backward();
  for (int n = 6; n < 16; n++) c.k[n] = c.v[n] = kNan;
  c.Backward();
  EXPECT_EQ(c.o, clean.o);
  EXPECT_EQ(c.lse, clean.lse);
  EXPECT_EQ(c.dq, clean.dq);
  EXPECT_EQ(c.dk, clean.dk);
  EXPECT_EQ(c.dv, clean.dv);
  for (int n = 6; n < 16; n++) EXPECT_EQ(c.dk[n], 0);
}

TEST(Edge, ABadValueStaysWithinItsHeadGroupInTheBackward) {
  Call c(Problem{.batch = 2, .q_len = 2, .k_len = 2, .q_heads = 2, .dim = 1});
  Call clean = c;
  clean.Backward();
  c.k[0] = kNan;  // b = 0, j = 0, h = 0
  c.Backward();
  for (int n = 1; n < 8; n++) {
    if (n < 4 && n % 2 == 0) continue;  // b = 0, h = 0
    EXPECT_EQ(c.dq[n], clean.dq[n]);
    EXPECT_EQ(c.dk[n], clean.dk[n]);
    EXPECT_EQ(c.dv[n], clean.dv[n]);
  }
}

TEST(Edge, HugeScoresDoNotOverflow) {
  Call c(Problem{.q_len = 1, .k_len = 2, .dim = 1});
  c.p.scale = 1;
  c.q = {1e10}, c.k = {1e10, 1e10}, c.v = {1, 3};
  c.Backward();
  EXPECT_EQ(c.o[0], 2);
  EXPECT_FLOAT_EQ(c.lse[0], 1e20f);
}

TEST(Edge, SizesOfZero) {
  for (const Problem& p : {Problem{.batch = 0, .q_len = 2, .k_len = 2, .dim = 2},
                           Problem{.batch = 2, .q_len = 0, .k_len = 2, .dim = 2},
                           Problem{.batch = 2, .q_len = 2, .k_len = 0, .dim = 2}}) {
    Call c(p);
    c.Backward();
    EXPECT_TRUE(AllAre(c.o, 0) && AllAre(c.dq, 0) && AllAre(c.dk, 0) && AllAre(c.dv, 0));
    for (const float x : c.lse) EXPECT_EQ(x, -kInfF);
  }
}

TEST(Edge, UnusedProbabilitiesAreZero) {
  Call c(Problem{
      .batch = 2, .q_len = 2, .k_len = 3, .dim = 1, .key_lengths = true, .want_probs = true});
  c.key_lengths = {2, 0};
  c.Forward();
  for (int n = 0; n < 12; n++) EXPECT_EQ(c.probs[n] == 0, n >= 6 || n % 3 == 2);
}

}  // namespace
}  // namespace heed
