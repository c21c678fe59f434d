// tolerance_test.cpp: the bounds: a plain f32 program stays inside them, and programs with a
// mistake do not.
#include "verify/tolerance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "cases.h"
#include "verify/compare.h"
#include "verify/layout.h"
#include "verify/verify_testing.h"

namespace heed::verify {
namespace {

class Bounds : public testing::TestWithParam<std::string> {};

// Expected values from the file, so that bounds, plain program and truth are three independent
// things.
TEST_P(Bounds, HoldForThePlainProgram) {
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF16}) {
    const Result<CaseFile> file = ReadCase(GetParam(), type);
    ASSERT_TRUE(file.ok()) << file.status().message();
    const Buffers inputs = ReadableInputs(*file);
    const Problem p = FullProblem(*file);
    const Results bounds = BoundsFor(p, inputs, file->expected), plain = Plain(p, inputs);
    ForEachResult(
        file->expected, plain, [&](const char* name, const Array& expected, const Array& got) {
          if (!expected.given()) return;
          const Array* bound = nullptr;
          ForEachResult(bounds, bounds, [&](const char* other, const Array& b, const Array&) {
            if (std::string(other) == name) bound = &b;
          });
          const Comparison c = Compare(expected, *bound, got, type);
          EXPECT_TRUE(c.passed()) << Name(type) << " " << name << ": " << c.Describe();
          RecordProperty(std::string(Name(type)) + "_" + name, std::to_string(c.ratio));
        });
  }
}

INSTANTIATE_TEST_SUITE_P(Conformance, Bounds, testing::ValuesIn(CasePaths()),
                         [](const auto& test) { return StemOf(test.param); });

// A problem of ordinary size whose results are computed with one mistake.
struct Trial {
  explicit Trial(DType type, cases::Data data = cases::Data::kNormal)
      : sample(cases::MakeSample({.name = "setup",
                                  .problem = {.batch = 2,
                                              .q_len = 48,
                                              .k_len = 200,
                                              .q_heads = 2,
                                              .k_heads = 2,
                                              .dim = 64,
                                              .dtype = type,
                                              .want_lse = true},
                                  .data = data})),
        problem(sample.problem),
        inputs(sample.Inputs()),
        truth(Truth(problem, inputs)),
        bounds(BoundsFor(problem, inputs, truth)) {}

  bool OutputPasses(const Results& r) const {
    return Compare(truth.o, bounds.o, r.o, problem.dtype).passed();
  }
  bool LsePasses(const Results& r) const {
    return Compare(truth.lse, bounds.lse, r.lse, DType::kF32).passed();
  }
  Results With(const std::function<void(Problem*)>& mistake) const {
    Problem wrong = problem;
    mistake(&wrong);
    Results r = Truth(wrong, inputs);
    for (double& x : r.o.values) x = RoundTo(problem.dtype, x);
    for (double& x : r.lse.values) x = RoundTo(DType::kF32, x);
    return r;
  }

  cases::Sample sample;
  Problem problem;
  Buffers inputs;
  Results truth, bounds;
};

// Only keys [0, n) of each row, whatever the rest of the problem says.
void SeeOnly(std::int64_t n, Problem* p) {
  p->causal = true;
  p->align = Align::kOffset;
  p->query_offset = -100000;
  p->prefix = n;
}

class Mistakes : public testing::TestWithParam<DType> {};

TEST_P(Mistakes, AreSeen) {
  const Trial s(GetParam());
  const Results right = s.With([](Problem*) {});
  EXPECT_TRUE(s.OutputPasses(right) && s.LsePasses(right));

  const Results key_lost = s.With([](Problem* p) { SeeOnly(199, p); });
  EXPECT_FALSE(s.LsePasses(key_lost));
  EXPECT_FALSE(s.OutputPasses(key_lost));
  EXPECT_FALSE(s.LsePasses(s.With([](Problem* p) { p->scale = 0.125 * 1.001; })));
  EXPECT_FALSE(s.OutputPasses(s.With([](Problem* p) { p->scale = -0.125; })));
  EXPECT_FALSE(s.OutputPasses(s.With([](Problem* p) { p->causal = true; })));
  EXPECT_FALSE(s.LsePasses(s.With([](Problem* p) { p->softcap = 50; })));
  EXPECT_FALSE(s.OutputPasses(s.With([](Problem* p) { p->k_heads = 1; })));
}

TEST_P(Mistakes, InOneElementAreSeen) {
  const Trial s(GetParam());
  const Results right = s.With([](Problem*) {});
  for (const double wrong :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), -5.0}) {
    Results r = right;
    r.o[1234] = wrong;
    EXPECT_FALSE(s.OutputPasses(r)) << wrong;
    r = right;
    r.lse[77] = wrong;
    EXPECT_FALSE(s.LsePasses(r)) << wrong;
  }
  Results swapped = right;  // rows 3 and 4 of entry 1, both heads
  std::swap_ranges(swapped.o.values.begin() + (48 + 3) * 128,
                   swapped.o.values.begin() + (48 + 4) * 128,
                   swapped.o.values.begin() + (48 + 4) * 128);
  EXPECT_FALSE(s.OutputPasses(swapped));
  // A relative error that no arithmetic of the dtype makes.
  const double factor = GetParam() == DType::kF32   ? 1 + 0x1p-10
                        : GetParam() == DType::kF16 ? 1 + 0x1p-6
                                                    : 1 + 0x1p-4;
  Results stretched = right;
  for (double& x : stretched.o.values) x *= factor;
  EXPECT_FALSE(s.OutputPasses(stretched));
}

INSTANTIATE_TEST_SUITE_P(Tolerance, Mistakes,
                         testing::Values(DType::kF32, DType::kBF16, DType::kF16),
                         [](const auto& test) { return std::string(Name(test.param)); });

TEST(Tolerance, F32IsTightWhereThereIsLittleToRound) {
  // One key: o is v, lse is the score.
  const cases::Sample sample = cases::MakeSample(
      {.name = "one key", .problem = {.q_len = 5, .k_len = 1, .dim = 8, .want_lse = true}});
  const Results truth = Truth(sample.problem, sample.Inputs());
  const Results bounds = BoundsFor(sample.problem, sample.Inputs(), truth);
  for (std::int64_t n = 0; n < truth.o.size(); ++n) {
    EXPECT_LE(bounds.o[n], 22 * 0x1p-24 * std::fabs(truth.o[n]) + 1e-36);
  }
  for (std::int64_t n = 0; n < truth.lse.size(); ++n) EXPECT_LE(bounds.lse[n], 1e-5);
}

TEST(Tolerance, RowsThatSeeNothingAreExactInEveryDtype) {
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF16}) {
    const cases::Sample sample = cases::MakeSample(
        {.name = "dead",
         .problem = {
             .q_len = 9, .k_len = 3, .dim = 8, .dtype = type, .causal = true, .want_lse = true}});
    const Results truth = Truth(sample.problem, sample.Inputs());
    const Results bounds = BoundsFor(sample.problem, sample.Inputs(), truth);
    for (std::int64_t n = 0; n < 6 * 8; ++n) EXPECT_EQ(bounds.o[n], 0);
    Results wrong = truth;
    wrong.o[0] = 1e-30;
    EXPECT_FALSE(Compare(truth.o, bounds.o, wrong.o, type).passed());
    wrong.lse[0] = -3e38;
    EXPECT_FALSE(Compare(truth.lse, bounds.lse, wrong.lse, DType::kF32).passed());
  }
}

TEST(Tolerance, PeakedGrowingAndHugeDataKeepFiniteUsefulBounds) {
  for (const cases::Data data :
       {cases::Data::kPeaked, cases::Data::kGrowing, cases::Data::kHuge, cases::Data::kTiny,
        cases::Data::kDenormal, cases::Data::kOutlier}) {
    const Trial s(DType::kF32, data);
    double largest = 0, worst = 0;
    for (std::int64_t n = 0; n < s.truth.o.size(); ++n) {
      largest = std::max(largest, std::fabs(s.truth.o[n]));
      worst = std::max(worst, s.bounds.o[n]);
    }
    EXPECT_LT(worst, (data == cases::Data::kPeaked ? 0.05 : 2e-3) * largest + 1e-35)
        << cases::Name(data);
  }
}

}  // namespace
}  // namespace heed::verify
