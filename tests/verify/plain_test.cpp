// plain_test.cpp: the plain implementation in float64 against the expected values of every
// conformance case, which another program computed: each is a check of the other.
#include "verify/plain.h"

#include <gtest/gtest.h>

#include <cmath>

#include "verify/compare.h"
#include "verify/verify_testing.h"

namespace heed::verify {
namespace {

class PlainCase : public testing::TestWithParam<std::string> {};

// Files store f32: half an ulp of each value, and what float64 itself loses where sums cancel.
Array StorageBound(const Array& expected) {
  Array bound = expected;
  for (double& x : bound.values) {
    x = std::isfinite(x) ? 0.5001 * Ulp(DType::kF32, x) + 1e-12 : 0;
  }
  return bound;
}

TEST_P(PlainCase, InFloat64AgreesWithTheFile) {
  const Result<CaseFile> file = ReadCase(GetParam(), DType::kF32);
  ASSERT_TRUE(file.ok()) << file.status().message();
  const Results truth = Truth(FullProblem(*file), ReadableInputs(*file));
  int compared = 0;
  ForEachResult(file->expected, truth,
                [&](const char* name, const Array& expected, const Array& got) {
                  if (!expected.given()) return;
                  ++compared;
                  const Comparison c = Compare(expected, StorageBound(expected), got, DType::kF64);
                  EXPECT_TRUE(c.passed()) << name << ": " << c.Describe();
                });
  EXPECT_GE(compared, 2);
}

INSTANTIATE_TEST_SUITE_P(Conformance, PlainCase, testing::ValuesIn(CasePaths()),
                         [](const auto& test) { return StemOf(test.param); });

TEST(Plain, EveryCaseIsThere) { EXPECT_EQ(CasePaths().size(), 69u); }

}  // namespace
}  // namespace heed::verify
