// conformance_test.cpp: every case on every backend, instruction set and dtype of this build: it
// passes, gradients included.
#include "verify/conformance.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "verify/verify_testing.h"

namespace heed::verify {
namespace {

struct Where {
  std::string path, backend, isa;
  DType dtype;
};

std::string NameOf(const testing::TestParamInfo<Where>& test) {
  const Where& w = test.param;
  return StemOf(w.path) + "_" + (w.isa.empty() ? w.backend : w.isa) + "_" + Name(w.dtype);
}

RunOptions OptionsFor(const Where& w, bool backward) {
  RunOptions o;
  o.plan.backend = w.backend;
  if (!w.isa.empty()) o.plan.isa = w.isa;
  o.plan.threads = 2;
  o.dtype = w.dtype;
  o.backward = backward;
  return o;
}

std::vector<Where> On(const std::string& backend) {
  std::vector<Where> all;
  for (const BackendInfo& info : Backends()) {
    if (info.name != backend || !info.available) continue;
    std::vector<std::string> isas;
    for (const IsaInfo& isa : info.isas) {
      if (isa.usable) isas.push_back(isa.name);
    }
    if (info.isas.empty()) isas.push_back("");
    for (const std::string& path : CasePaths()) {
      for (const std::string& isa : isas) {
        for (const DType type : {DType::kF32, DType::kBF16, DType::kF16}) {
          all.push_back({path, backend, isa, type});
        }
      }
    }
  }
  return all;
}

class OnReference : public testing::TestWithParam<Where> {};

TEST_P(OnReference, PassesForwardAndBackward) {
  const CaseResult r = RunCase(GetParam().path, OptionsFor(GetParam(), true));
  EXPECT_EQ(r.status, CaseStatus::kPass) << r.reason;
  EXPECT_LE(r.ratio, 1);
  for (const TensorResult& t : r.tensors)
    RecordProperty(t.tensor, std::to_string(t.comparison.ratio));
}

class OnCpu : public testing::TestWithParam<Where> {};

TEST_P(OnCpu, PassesForwardAndBackward) {
  const Result<CaseFile> file = ReadCase(GetParam().path, GetParam().dtype);
  ASSERT_TRUE(file.ok()) << file.status().message();
  const CaseResult forward = RunCase(*file, OptionsFor(GetParam(), false));
  EXPECT_EQ(forward.status, CaseStatus::kPass) << forward.reason;
  EXPECT_EQ(LastIsa(), GetParam().isa);
  const CaseResult backward = RunCase(*file, OptionsFor(GetParam(), true));
  EXPECT_EQ(backward.status, CaseStatus::kPass) << backward.reason;
  EXPECT_LE(backward.ratio, 1);
}

INSTANTIATE_TEST_SUITE_P(Conformance, OnReference, testing::ValuesIn(On("reference")), NameOf);
INSTANTIATE_TEST_SUITE_P(Conformance, OnCpu, testing::ValuesIn(On("cpu")), NameOf);

TEST(Conformance, CoversTheReferenceAndTheEngine) {
  EXPECT_EQ(On("reference").size(), 69u * 3);
  EXPECT_GE(On("cpu").size(), 69u * 3);
}

}  // namespace
}  // namespace heed::verify
