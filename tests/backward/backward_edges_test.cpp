// backward_edges_test.cpp: rows that see nothing, biases of minus infinity, NaN in one row: where
// gradients are exactly 0 and how far what is not finite reaches. Not here: ordinary values
// (backward_pairwise_test.cpp).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "backward_cases.h"
#include "backward_testing.h"
#include "verify/array.h"

namespace heed::testing_backward {
namespace {

using cases::Case;

class BackwardEdges : public testing::TestWithParam<std::tuple<Engine, DType>> {
 protected:
  const Engine& engine() const { return std::get<0>(GetParam()); }

  // Two entries, four heads in two groups, 70 x 90: more than one tile of everything.
  Case Plain() const {
    Case c;
    c.problem = {.batch = 2,
                 .q_len = 70,
                 .k_len = 90,
                 .q_heads = 4,
                 .k_heads = 2,
                 .dim = 40,
                 .dim_v = 24,
                 .dtype = std::get<1>(GetParam()),
                 .want_lse = true};
    c.seed = 21;
    return c;
  }

  Case WithEverything() const {
    Case c = Plain();
    Problem& p = c.problem;
    p.causal = true;
    p.window_left = 50;
    p.softcap = 20;
    p.bias = {.given = true, .batch = 2, .heads = 4, .rows = 70, .cols = 90};
    p.sinks = true;
    p.dropout_p = 0.1;
    return c;
  }

  Gradients Check(Call& call) const {
    const Gradients g = Differentiate(engine(), call);
    ExpectWithin(ExpectedOf(call), g, engine().name());
    return g;
  }
};

// Dense: (b, s, h, d) of a tensor with `rows` rows of `heads` heads.
std::int64_t Flat(std::int64_t b, std::int64_t s, std::int64_t h, std::int64_t rows,
                  std::int64_t heads, std::int64_t width) {
  return ((b * rows + s) * heads + h) * width;
}

bool AllZero(const verify::Array& a, std::int64_t first, std::int64_t count) {
  for (std::int64_t n = first; n < first + count; ++n) {
    if (a[n] != 0) return false;
  }
  return true;
}

TEST_P(BackwardEdges, RowsThatSeeNothingAndKeysThatNobodySees) {
  for (const double dropout : {0.0, 0.5}) {
    Case c = Plain();
    Problem& p = c.problem;
    p.q_len = 90;
    p.k_len = 70;  // the first 20 queries see nothing
    p.causal = true;
    p.window_left = 30;
    p.key_lengths = true;
    p.dropout_p = dropout;
    p.bias = {.given = true, .batch = 2, .heads = 4, .rows = 90, .cols = 70};
    Call call = MakeCall(c, {.dlse = true, .dbias = true});
    call.sample.key_lengths = {70, 33};
    const Gradients g = Check(call);
    const verify::Array dq = g.dq.Values(), dk = g.dk.Values(), dv = g.dv.Values(),
                        dbias = g.dbias.Values();
    for (std::int64_t i = 0; i < 20; ++i) {
      EXPECT_TRUE(AllZero(dq, Flat(0, i, 0, 90, 4, 40), 4 * 40)) << "query " << i;
      EXPECT_TRUE(AllZero(dbias, i * 70, 70)) << "bias of query " << i;
    }
    EXPECT_FALSE(AllZero(dq, Flat(0, 20, 0, 90, 4, 40), 40));
    for (std::int64_t j = 33; j < 70; ++j) {
      EXPECT_TRUE(AllZero(dk, Flat(1, j, 0, 70, 2, 40), 2 * 40)) << "key " << j;
      EXPECT_TRUE(AllZero(dv, Flat(1, j, 0, 70, 2, 24), 2 * 24)) << "value " << j;
    }
  }
}

TEST_P(BackwardEdges, NoKeyAtAll) {
  Case c = Plain();
  c.problem.key_lengths = true;
  c.problem.sinks = true;
  Call call = MakeCall(c, {.dlse = true, .dsinks = true});
  call.sample.key_lengths = {0, 90};
  const Gradients g = Check(call);
  EXPECT_TRUE(AllZero(g.dq.Values(), 0, 70 * 4 * 40));
  EXPECT_TRUE(AllZero(g.dk.Values(), 0, 90 * 2 * 40));
  EXPECT_TRUE(AllZero(g.dv.Values(), 0, 90 * 2 * 24));
}

TEST_P(BackwardEdges, BiasesOfMinusInfinity) {
  Case c = Plain();
  c.problem.bias = {.given = true, .heads = 4, .rows = 70, .cols = 90};
  Call call = MakeCall(c, {.dbias = true});
  const auto hidden = [](std::int64_t h, std::int64_t i, std::int64_t j) {
    return i == 7 || (h * 5 + i * 3 + j) % 11 == 0;  // all of row 7
  };
  auto* bias = reinterpret_cast<float*>(call.sample.bias.bytes.data() + call.sample.bias.start);
  for (std::int64_t n = 0; n < 4 * 70 * 90; ++n) {
    if (hidden(n / 6300, n / 90 % 70, n % 90)) bias[n] = -std::numeric_limits<float>::infinity();
  }
  const Gradients g = Check(call);
  const verify::Array dbias = g.dbias.Values();
  for (std::int64_t n = 0; n < dbias.size(); ++n) {
    ASSERT_TRUE(std::isfinite(dbias[n])) << n;
    if (hidden(n / 6300, n / 90 % 70, n % 90)) {
      ASSERT_EQ(dbias[n], 0) << n;
    }
  }
  EXPECT_TRUE(AllZero(g.dq.Values(), Flat(0, 7, 0, 70, 4, 40), 4 * 40));
}

// A row of one tensor becomes NaN: gradients of other entries and of other groups of heads keep
// their bits.
void ExpectContained(const Engine& engine, const Case& c, const char* tensor) {
  SCOPED_TRACE(tensor);
  const Wishes wishes = {.dlse = true, .dbias = true, .dsinks = true};
  Call clean = MakeCall(c, wishes), spoiled = MakeCall(c, wishes);
  const Problem& p = c.problem;
  const std::int64_t b = 1, hk = 0, size = SizeOf(p.dtype);
  const auto spoil = [&](std::byte* data, std::int64_t first, std::int64_t width) {
    std::fill_n(data + first * size, width * size, std::byte{0xFF});
  };
  const std::string name = tensor;
  if (name == "q") spoil(spoiled.sample.q_memory.data(), Flat(b, 41, 1, p.q_len, 4, p.dim), p.dim);
  if (name == "k") spoil(spoiled.sample.k_memory.data(), Flat(b, 52, hk, p.k_len, 2, p.dim), p.dim);
  if (name == "v") {
    spoil(spoiled.sample.v_memory.data(), Flat(b, 52, hk, p.k_len, 2, p.dim_v), p.dim_v);
  }
  if (name == "dout") {
    spoil(static_cast<std::byte*>(spoiled.dout.data()), Flat(b, 41, 1, p.q_len, 4, p.dim_v),
          p.dim_v);
  }
  const Gradients good = Differentiate(engine, clean), bad = Differentiate(engine, spoiled);
  int changed = 0;
  const auto compare = [&](const char* what, const verify::Guarded& x, const verify::Guarded& y,
                           auto&& within) {
    const verify::Array u = x.Values(), w = y.Values();
    for (std::int64_t n = 0; n < u.size(); ++n) {
      if (within(verify::CoordinateOf(u.shape, n))) {
        changed += std::isnan(w[n]);
      } else {
        ASSERT_EQ(u[n], w[n]) << engine.name() << ": " << what << "[" << n << "]";
      }
    }
  };
  using At = std::vector<std::int64_t>;
  const auto of_query = [&](const At& at) { return at[0] == b && at[2] / 2 == hk; };
  const auto of_key = [&](const At& at) { return at[0] == b && at[2] == hk; };
  compare("dq", good.dq, bad.dq, of_query);
  compare("dk", good.dk, bad.dk, of_key);
  compare("dv", good.dv, bad.dv, of_key);
  EXPECT_GT(changed, 0) << "the NaN reached nothing";
  if (good.problem.want_dbias) {
    compare("dbias", good.dbias, bad.dbias,
            [&](const At& at) { return at[0] == b && at[1] / 2 == hk; });
  }
  if (good.problem.want_dsinks) {
    compare("dsinks", good.dsinks, bad.dsinks, [&](const At& at) { return at[0] / 2 == hk; });
  }
}

TEST_P(BackwardEdges, NaNStaysInItsEntryAndGroup) {
  for (const char* tensor : {"q", "k", "v", "dout"}) {
    ExpectContained(engine(), Plain(), tensor);
    ExpectContained(engine(), WithEverything(), tensor);
  }
}

// Lanes beyond the last row have no probability, however large the scores that they repeat; an odd
// number of rows leaves half a pair.
TEST_P(BackwardEdges, TheLargestBiasIsFinite) {
  Case c = Plain();
  c.problem.q_len = 5;
  c.problem.bias = {.given = true, .cols = 90};
  Call call = MakeCall(c, {.dbias = true, .f32_grads = true});
  auto* bias = reinterpret_cast<float*>(call.sample.bias.bytes.data() + call.sample.bias.start);
  for (std::int64_t n = 0; n < 90; ++n) bias[n] = std::numeric_limits<float>::max();
  const Gradients g = Differentiate(engine(), call);
  const Gradients want = Differentiate(Engine{"reference", "auto"}, call);
  const std::vector<Named> got = All(g), truth = All(want);
  for (std::size_t t = 0; t < got.size(); ++t) {
    const verify::Array values = got[t].values->Values(), expected = truth[t].values->Values();
    for (std::int64_t n = 0; n < values.size(); ++n) {
      ASSERT_NEAR(values[n], expected[n], 0.05) << got[t].name << " " << n;
    }
  }
}

// A sink that no score stands beside takes all of its row, and so all of dlse, whatever its size.
TEST_P(BackwardEdges, ALargeSinkHasTheWholeRow) {
  Case c = Plain();
  c.problem.key_lengths = true;
  c.problem.sinks = true;
  Call call = MakeCall(c, {.dlse = true, .dsinks = true});
  call.sample.key_lengths = {0, 0};
  call.sample.sinks = {1e7f, -3e5f, 3e38f, 12.f};
  std::fill(call.dlse.begin(), call.dlse.end(), 1.f);
  const Gradients g = Differentiate(engine(), call);
  for (const double x : g.dsinks.Values().values) EXPECT_EQ(x, 2 * 70);
}

TEST_P(BackwardEdges, NothingToDo) {
  for (const auto& [batch, sq, sk] : {std::tuple{0, 5, 5}, {2, 0, 5}, {2, 5, 0}, {2, 0, 0}}) {
    Case c = Plain();
    c.problem.batch = batch;
    c.problem.q_len = sq;
    c.problem.k_len = sk;
    c.problem.sinks = true;
    Call call = MakeCall(c, {.dsinks = true});
    SCOPED_TRACE(testing::Message() << batch << " x " << sq << " x " << sk);
    Check(call);
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, BackwardEdges,
                         testing::Combine(testing::ValuesIn(Engines()),
                                          testing::Values(DType::kF32, DType::kBF16, DType::kF16)),
                         [](const auto& test) {
                           return std::get<0>(test.param).name() + "_" +
                                  heed::Name(std::get<1>(test.param));
                         });

}  // namespace
}  // namespace heed::testing_backward
