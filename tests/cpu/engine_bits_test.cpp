// engine_bits_test.cpp: what the bits of a result may not depend on: threads, the rest of the
// batch, strides, what else is asked for.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cases.h"
#include "engine_testing.h"
#include "verify/guarded.h"
#include "verify/layout.h"

namespace heed::testing_cpu {
namespace {

using cases::Case;
using cases::Data;
using cases::Placement;

// Shapes whose work is cut in several ways: many heads, few heads and many rows, one row, tile
// edges.
std::vector<Case> Shapes() {
  const std::vector<Problem> problems = {
      {.batch = 3, .q_len = 130, .k_len = 190, .q_heads = 4, .k_heads = 2, .dim = 64},
      {.batch = 1, .q_len = 513, .k_len = 600, .q_heads = 1, .dim = 32, .causal = true},
      {.batch = 2, .q_len = 1, .k_len = 777, .q_heads = 8, .k_heads = 1, .dim = 128},
      {.batch = 2, .q_len = 49, .k_len = 25, .q_heads = 3, .dim = 33, .dim_v = 17, .causal = true},
  };
  std::vector<Case> shapes;
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (Problem p : problems) {
      p.dtype = type;
      p.want_lse = true;
      const Data data = p.causal ? Data::kGrowing : Data::kNormal;
      shapes.push_back({.name = std::string(Name(type)) + "_s" + std::to_string(p.q_len),
                        .problem = p,
                        .data = data,
                        .seed = 7});
    }
  }
  return shapes;
}

class Bits : public testing::TestWithParam<std::tuple<Case, std::string>> {
 protected:
  const Case& shape() const { return std::get<0>(GetParam()); }
  const std::string& isa() const { return std::get<1>(GetParam()); }
};

TEST_P(Bits, DoNotDependOnThreads) {
  const cases::Sample sample = cases::MakeSample(shape());
  const Output one = RunOn(isa(), sample, 1);
  for (const int threads : {2, 3, 8}) {
    const Output many = RunOn(isa(), sample, threads);
    ExpectSameBits(one.O(), many.O(), "o with " + std::to_string(threads) + " threads");
    ExpectSameBits(one.Lse(), many.Lse(), "lse with " + std::to_string(threads) + " threads");
  }
}

TEST_P(Bits, DoNotDependOnTheRun) {
  const cases::Sample sample = cases::MakeSample(shape());
  const Output one = RunOn(isa(), sample, 3), two = RunOn(isa(), sample, 3);
  ExpectSameBits(one.O(), two.O(), "o");
  ExpectSameBits(one.Lse(), two.Lse(), "lse");
}

TEST_P(Bits, DoNotDependOnTheRestOfTheBatch) {
  const cases::Sample together = cases::MakeSample(shape());
  const Output batch = RunOn(isa(), together, 2);
  const std::vector<double> o = batch.O(), lse = batch.Lse();
  const auto entries = static_cast<std::size_t>(together.problem.batch);
  for (std::size_t b = 0; b < entries; ++b) {
    Case alone = shape();
    alone.problem.batch = 1;
    const Output out = RunOn(isa(), cases::MakeSample(alone, static_cast<std::int64_t>(b)), 2);
    const auto part = [&](const std::vector<double>& all) {
      const auto n = static_cast<std::ptrdiff_t>(all.size() / entries),
                 first = n * static_cast<std::ptrdiff_t>(b);
      return std::vector<double>(all.begin() + first, all.begin() + first + n);
    };
    ExpectSameBits(part(o), out.O(), "o of entry " + std::to_string(b));
    ExpectSameBits(part(lse), out.Lse(), "lse of entry " + std::to_string(b));
  }
}

TEST_P(Bits, DoNotDependOnStrides) {
  const Output dense = RunOn(isa(), cases::MakeSample(shape()), 2);
  for (const Placement placement : {Placement::kHeadsFirst, Placement::kPackedQkv,
                                    Placement::kPaddedRows, Placement::kReversedKeys}) {
    Case placed = shape();
    placed.placement = placement;
    const Output out = RunOn(isa(), cases::MakeSample(placed), 2);
    ExpectSameBits(dense.O(), out.O(), std::string("o, ") + cases::Name(placement));
    ExpectSameBits(dense.Lse(), out.Lse(), std::string("lse, ") + cases::Name(placement));
  }
}

TEST_P(Bits, DoNotDependOnWhetherLseIsAskedFor) {
  Case without = shape();
  without.problem.want_lse = false;
  ExpectSameBits(RunOn(isa(), cases::MakeSample(shape()), 1).O(),
                 RunOn(isa(), cases::MakeSample(without), 1).O(), "o");
}

TEST_P(Bits, OfAOneShotCallAreThoseOfAPlan) {
  const cases::Sample sample = cases::MakeSample(shape());
  verify::Guarded o(verify::ViewOf(sample.problem, verify::Role::kO)),
      lse(verify::ViewOf(sample.problem, verify::Role::kLse));
  Buffers b = sample.Inputs();
  b.o = o.data();
  b.lse = static_cast<float*>(lse.data());
  const Status status = Forward(sample.problem, b, {.backend = "cpu", .isa = isa(), .threads = 2});
  ASSERT_TRUE(status.ok()) << status.message();
  const Output planned = RunOn(isa(), sample, 1);
  ExpectSameBits(planned.O(), o.Values().values, "o");
  ExpectSameBits(planned.Lse(), lse.Values().values, "lse");
}

INSTANTIATE_TEST_SUITE_P(
    Engine, Bits, testing::Combine(testing::ValuesIn(Shapes()), testing::ValuesIn(UsableIsas())),
    [](const auto& test) { return std::get<1>(test.param) + "_" + std::get<0>(test.param).name; });

}  // namespace
}  // namespace heed::testing_cpu
