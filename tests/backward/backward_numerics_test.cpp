// backward_numerics_test.cpp: 16-bit gradients over hundreds of keys have at most twice the error of a plain
// program in the same precision. Not here: bounds that hold for every call (verify/tolerance.h).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "backward_testing.h"
#include "verify/array.h"

namespace heed::testing_backward {
namespace {

using cases::Data;
using verify::Array;

struct Kind {
  const char* name;
  Problem problem;
  Data data = Data::kNormal;
};

#ifdef HEED_TEST_REDUCED
constexpr std::int64_t kQueries = 40;
#else
constexpr std::int64_t kQueries = 300;
#endif

std::vector<Kind> Kinds() {
  const Problem base{
      .q_len = kQueries, .k_len = 500, .q_heads = 2, .k_heads = 1, .dim = 64, .want_lse = true};
  std::vector<Kind> kinds = {{"plain", base}, {"peaked", base, Data::kPeaked},
                             {"wide", base},  {"causal", base},
                             {"terms", base}, {"dropout", base}};
  kinds[2].problem.dim = 128;
  kinds[3].problem.causal = true;
  Problem& terms = kinds[4].problem;
  terms.softcap = 10;
  terms.alibi = Alibi::kPerHead;
  terms.sinks = true;
  terms.bias = {.given = true, .rows = kQueries, .cols = 500};
  kinds[5].problem.dropout_p = 0.1;
  return kinds;
}

double Worst(const Array& truth, const Array& got) {
  double worst = 0;
  for (std::int64_t n = 0; n < truth.size(); ++n)
    worst = std::max(worst, std::fabs(got[n] - truth[n]));
  return worst;
}

class BackwardNumerics : public testing::TestWithParam<DType> {};

TEST_P(BackwardNumerics, AtMostTwiceThePlainProgramsError) {
  for (const Kind& kind : Kinds()) {
    cases::Case c{.name = kind.name, .problem = kind.problem, .data = kind.data, .seed = 31};
    c.problem.dtype = GetParam();
    Call call = MakeCall(c, {.dlse = true, .dbias = true});
    const Problem normal = testing_options::NormalOf(call.problem);
    const Buffers inputs = call.Inputs();
    const verify::Results truth = verify::Truth(normal, inputs),
                          plain = verify::Plain(normal, inputs),
                          other = verify::Plain(normal, inputs, /*round_p=*/false);
    for (const Engine& engine : testing_options::Isas()) {
      const Gradients g = Differentiate(engine, call);
      using Tensor = std::pair<Array verify::Results::*, const verify::Guarded*>;
      std::vector<Tensor> tensors = {{&verify::Results::dq, &g.dq},
                                     {&verify::Results::dk, &g.dk},
                                     {&verify::Results::dv, &g.dv}};
      if (g.problem.want_dbias) tensors.push_back({&verify::Results::dbias, &g.dbias});
      for (std::size_t t = 0; t < tensors.size(); ++t) {
        const Array &want = truth.*tensors[t].first, got = tensors[t].second->Values();
        const double yardstick =
            std::max(Worst(want, plain.*tensors[t].first), Worst(want, other.*tensors[t].first));
        ASSERT_GT(yardstick, 0);
        for (std::int64_t n = 0; n < want.size(); ++n) {
          ASSERT_LE(std::fabs(got[n] - want[n]), 2 * yardstick + verify::Ulp(GetParam(), want[n]))
              << engine.name() << ", " << kind.name << ": " << All(g)[t].name << "[" << n << "]";
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, BackwardNumerics, testing::Values(DType::kBF16, DType::kF16),
                         [](const auto& test) { return std::string(heed::Name(test.param)); });

}  // namespace
}  // namespace heed::testing_backward
