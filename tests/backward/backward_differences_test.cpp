// backward_differences_test.cpp: gradients against central differences of the forward in float64:
// what is computed is the derivative, not merely what another program computes. Not here: all
// combinations of options (backward_pairwise_test.cpp).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "backward_cases.h"
#include "backward_testing.h"
#include "verify/array.h"
#include "verify/layout.h"

namespace heed::testing_backward {
namespace {

using namespace cases;
using verify::Role;

// A call in float64 on copies of the call's values, so that a step of 1e-5 can be taken.
class Loss {
 public:
  explicit Loss(Call& call) : problem_(testing_options::NormalOf(call.Forward())) {
    const Problem narrow = problem_;
    buffers_ = call.sample.Inputs();
    dout_ = call.dout.Values();
    for (const float x : call.dlse) dlse_.push_back(x);
    Widen(narrow, Role::kQ, buffers_.q, &q_values_);
    Widen(narrow, Role::kK, buffers_.k, &k_values_);
    Widen(narrow, Role::kV, buffers_.v, &v_values_);
    problem_.dtype = DType::kF64;
    problem_.out_dtype.reset();
    problem_.q_strides = problem_.k_strides = problem_.v_strides = problem_.o_strides = {};
    buffers_.q = q_values_.data();
    buffers_.k = k_values_.data();
    buffers_.v = v_values_.data();
    if (problem_.sinks) {
      sinks_.assign(buffers_.sinks, buffers_.sinks + problem_.q_heads);
      buffers_.sinks = sinks_.data();
    }
    if (problem_.bias.given) {
      Widen(narrow, Role::kBias, buffers_.bias, &bias_);
      Broadcast& t = problem_.bias;
      t = {.given = true, .batch = t.batch, .heads = t.heads, .rows = t.rows, .cols = t.cols};
      problem_.bias_dtype = DType::kF64;
      buffers_.bias = bias_.data();
    }
  }

  std::vector<double>& q() { return q_values_; }
  std::vector<double>& k() { return k_values_; }
  std::vector<double>& v() { return v_values_; }
  std::vector<double>& bias() { return bias_; }
  std::vector<float>& sinks() { return sinks_; }

  // sum(o dout) + sum(lse dlse), of rows whose lse is finite: others have no gradient.
  double Value() const {
    const verify::Results r = verify::Truth(problem_, buffers_);
    double sum = 0;
    for (std::int64_t n = 0; n < r.o.size(); ++n) sum += r.o[n] * dout_[n];
    for (std::size_t n = 0; n < dlse_.size() && n < r.lse.values.size(); ++n) {
      if (std::isfinite(r.lse.values[n])) sum += r.lse.values[n] * dlse_[n];
    }
    return sum;
  }

 private:
  static void Widen(const Problem& p, Role role, const void* data, std::vector<double>* to) {
    *to = verify::Gather(verify::ViewOf(p, role, data)).values;
  }

  Problem problem_;
  Buffers buffers_;
  verify::Array dout_;
  std::vector<double> dlse_, q_values_, k_values_, v_values_, bias_;
  std::vector<float> sinks_;
};

// The step's own error is h^2 times a third derivative, some units here; the engine's is its bound.
// Sinks are f32 in every call, so their step is one that f32 holds.
template <class T>
void ExpectDerivative(const Loss& loss, std::vector<T>* x, const verify::Guarded& gradient,
                      const verify::Array& bound, const std::string& what) {
  constexpr double kStep = sizeof(T) == 4 ? 1.0 / 1024 : 1e-5;
  constexpr double kOfDifference = sizeof(T) == 4 ? 1e-5 : 1e-6;
  const verify::Array g = gradient.Values();
  ASSERT_EQ(x->size(), g.values.size()) << what;
  const std::size_t every = x->size() / 12 + 1;
  for (std::size_t n = 0; n < x->size(); n += every) {
    const T before = (*x)[n];
    (*x)[n] = static_cast<T>(before + kStep);
    const double above = loss.Value();
    (*x)[n] = static_cast<T>(before - kStep);
    const double below = loss.Value();
    (*x)[n] = before;
    const double slope = (above - below) / (2 * kStep);
    EXPECT_NEAR(g.values[n], slope, bound.values[n] + kOfDifference * (1 + std::fabs(slope)))
        << what << "[" << n << "]";
  }
}

#ifdef HEED_TEST_REDUCED
constexpr std::uint64_t kCalls = 8;
#else
constexpr std::uint64_t kCalls = 24;
#endif

class Differences : public testing::TestWithParam<Engine> {};

TEST_P(Differences, AreTheGradients) {
  const std::vector<AxisId> axes = {kCausal,  kWindow,     kAlign, kPrefix,   kChunk,
                                    kAlibi,   kBias,       kMask,  kBlockMap, kSinks,
                                    kDropout, kKeyLengths, kRagged};
  int biased = 0, sunk = 0;
  for (std::uint64_t seed = 300; seed < 300 + kCalls; ++seed) {
    BackwardCase c = AnyBackwardCase(seed * 3 + 1, axes);  // small sizes
    Problem& p = c.forward.problem;
    if (p.dtype == DType::kF16) p.dtype = p.bias_dtype = DType::kF32;
    c.forward.data = Data::kNormal;
    SCOPED_TRACE(c.name());
    Call call = MakeCall(c.forward, c.wishes);
    const Gradients g = Differentiate(GetParam(), call);
    const Expected e = ExpectedOf(call);
    Loss loss(call);
    ExpectDerivative(loss, &loss.q(), g.dq, e.bounds.dq, "dq");
    ExpectDerivative(loss, &loss.k(), g.dk, e.bounds.dk, "dk");
    ExpectDerivative(loss, &loss.v(), g.dv, e.bounds.dv, "dv");
    if (g.problem.want_dsinks) {
      ++sunk;
      ExpectDerivative(loss, &loss.sinks(), g.dsinks, e.bounds.dsinks, "dsinks");
    }
    if (!g.problem.want_dbias) continue;
    ++biased;
    ExpectDerivative(loss, &loss.bias(), g.dbias, e.bounds.dbias, "dbias");
  }
  EXPECT_GT(biased, 0);
  EXPECT_GT(sunk, 0);
}

INSTANTIATE_TEST_SUITE_P(Engines, Differences, testing::ValuesIn(Engines()),
                         [](const auto& test) { return test.param.name(); });

}  // namespace
}  // namespace heed::testing_backward
