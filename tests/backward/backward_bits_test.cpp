// backward_bits_test.cpp: what the bits of gradients may not depend on: threads, the run, the rest of
// the batch; and that accumulating adds once. Not here: values (backward_pairwise_test.cpp).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "backward_cases.h"
#include "backward_testing.h"
#include "verify/layout.h"

namespace heed::testing_backward {
namespace {

using namespace cases;

// Of the random calls of each property.
#ifdef HEED_TEST_REDUCED
constexpr std::uint64_t kCalls = 16;
#else
constexpr std::uint64_t kCalls = 40;
#endif

const std::vector<AxisId> kAllButDropout = {kCausal, kWindow, kAlign,      kPrefix, kChunk,
                                            kAlibi,  kBias,   kBiasType,   kMask,   kBlockMap,
                                            kSpread, kSinks,  kKeyLengths, kRagged, kPlacement};

std::vector<AxisId> Everything() {
  std::vector<AxisId> axes = kAllButDropout;
  axes.push_back(kDropout);
  return axes;
}

class BackwardBits : public testing::TestWithParam<Engine> {};

void ExpectThreadsChangeNothing(const Engine& engine, const BackwardCase& c) {
  SCOPED_TRACE(c.name());
  Call call = MakeCall(c.forward, c.wishes);
  const Gradients one = Differentiate(engine, call, 1);
  ExpectSame(one, Differentiate(engine, call, 1), engine.name() + ", once more");
  for (const int threads : {2, 3, 8}) {
    ExpectSame(one, Differentiate(engine, call, threads),
               engine.name() + ", " + std::to_string(threads) + " threads");
  }
}

TEST_P(BackwardBits, ThreadsAndRunsChangeNoBit) {
  for (std::uint64_t seed = 1; seed <= kCalls; ++seed) {
    ExpectThreadsChangeNothing(GetParam(), AnyBackwardCase(seed, Everything()));
  }
}

// One head alone feeds all threads, and heads of a group add up in one order.
TEST_P(BackwardBits, ThreadsChangeNoBitOfLongCalls) {
#ifdef HEED_TEST_REDUCED
  // It has no threads, and takes minutes where it is instrumented or emulated.
  if (GetParam().name() == "reference") GTEST_SKIP() << "the reference has no threads";
#endif
  std::vector<Problem> problems = {
      {.q_len = 600, .k_len = 1100, .q_heads = 4, .k_heads = 1, .dim = 16, .causal = true}};
#ifndef HEED_TEST_REDUCED
  problems.push_back({.q_len = 600, .k_len = 1500, .dim = 24});
  problems.push_back(
      {.batch = 2, .q_len = 40, .k_len = 2100, .q_heads = 2, .dim = 16, .dim_v = 24});
#endif
  for (const Problem& p : problems) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      BackwardCase c;
      c.forward = {.name = "long", .problem = p, .seed = 3};
      c.forward.problem.dtype = dtype;
      c.forward.problem.want_lse = true;
      c.forward.problem.bias = {.given = true, .cols = p.k_len};
      c.forward.problem.sinks = true;
      c.wishes = {.dlse = true, .dbias = true, .dsinks = true};
      ExpectThreadsChangeNothing(GetParam(), c);
    }
  }
}

// Large heads of a group take turns, unless the gradient of a bias sums over them: then they go together, and
// give the same sums in the same order.
TEST_P(BackwardBits, HeadsInTurnsChangeNoBit) {
  const Engine& engine = GetParam();
  if (engine.backend != "cpu") GTEST_SKIP() << "heads take turns in the cpu engine alone";
  BackwardCase c;
  c.forward = {.name = "turns",
               .problem = {.q_len = 100, .k_len = 800, .q_heads = 4, .dim = 1024, .dim_v = 24},
               .seed = 3};
  Problem& p = c.forward.problem;
  p.k_heads = 1;
  p.window_left = 300;
  p.dtype = DType::kBF16;
  p.want_lse = true;
  p.bias = {.given = true, .cols = p.k_len};
  p.sinks = true;
  c.wishes = {.dlse = true, .dsinks = true};
  Call turns = MakeCall(c.forward, c.wishes);
  c.wishes.dbias = true;
  Call together = MakeCall(c.forward, c.wishes);
  const auto bytes = [&](const Call& call) {
    const Result<Plan> plan =
        MakePlan(call.problem, {.backend = "cpu", .isa = engine.isa, .threads = 1});
    return plan ? plan->workspace_bytes() : 0;
  };
  EXPECT_GT(bytes(turns), 0);
  EXPECT_LT(bytes(turns), bytes(together));
  const Gradients one = Differentiate(engine, turns, 1);
  ExpectSame(one, Differentiate(engine, turns, 3), engine.name() + ", 3 threads");
  const Gradients other = Differentiate(engine, together, 2);
  const std::vector<Named> x = All(one), y = All(other);
  for (const Named& a : x) {
    const auto b = std::find_if(y.begin(), y.end(),
                                [&](const Named& n) { return std::string(n.name) == a.name; });
    ASSERT_NE(b, y.end()) << a.name;
    ExpectSameBits(a.values->Values().values, b->values->Values().values,
                   engine.name() + ", all heads together: " + a.name);
  }
}

// Entry b of a batch as a call of its own, by moving pointers.
struct AloneCall {
  testing_options::Alone alone;
  std::vector<float> dlse;
};

void MakeAlone(Call& call, std::int64_t b, AloneCall* one) {
  const Problem p = testing_options::NormalOf(call.problem);
  const Buffers inputs = call.Inputs();
  testing_options::MakeAlone(call.sample, b, &one->alone);
  Problem& own = one->alone.problem;
  Buffers& x = one->alone.buffers;
  Problem backward = p;
  for (auto field :
       {&Problem::batch, &Problem::q_len, &Problem::k_len, &Problem::total_q, &Problem::total_k}) {
    backward.*field = own.*field;
  }
  backward.bias = own.bias;
  backward.mask = own.mask;
  backward.block_map = own.block_map;
  own = backward;
  const std::int64_t first = p.ragged ? inputs.cu_seqlens_q[b] : 0;
  const std::int64_t step = p.ragged ? first * p.dout_strides.row : b * p.dout_strides.batch;
  x.dout = static_cast<const std::byte*>(inputs.dout) + step * SizeOf(p.dtype);
  if (!p.dlse) return;
  for (std::int64_t h = 0; h < p.q_heads; ++h) {
    const float* row =
        inputs.dlse + (p.ragged ? h * p.total_q + first : (b * p.q_heads + h) * p.q_len);
    one->dlse.insert(one->dlse.end(), row, row + own.q_len);
  }
  if (one->dlse.empty()) one->dlse.push_back(0);
  x.dlse = one->dlse.data();
}

// Rows [first, last) of a (B, S, H, D) or (T, H, D) tensor.
std::vector<double> RowsOf(const verify::Guarded& t, std::int64_t first, std::int64_t last) {
  const verify::Array all = t.Values();
  const std::size_t rank = all.shape.size();
  const std::int64_t row = all.shape[rank - 2] * all.shape[rank - 1];
  return {all.values.begin() + first * row, all.values.begin() + last * row};
}

// Of dbias the part of entry b that an entry alone has.
std::vector<double> BiasOf(const Gradients& batch, const Gradients& own, std::int64_t b) {
  const verify::Array all = batch.dbias.Values();
  const std::vector<std::int64_t>&whole = all.shape, part = own.dbias.view().shape;
  std::vector<double> values;
  for (std::int64_t n = 0; n < verify::CountOf(part); ++n) {
    const std::vector<std::int64_t> at = verify::CoordinateOf(part, n);
    values.push_back(all[((b * whole[1] + at[1]) * whole[2] + at[2]) * whole[3] + at[3]]);
  }
  return values;
}

TEST_P(BackwardBits, TheRestOfTheBatchChangesNoBit) {
  const Engine& engine = GetParam();
  [[maybe_unused]] int batches = 0, ragged = 0;
  for (std::uint64_t seed = 100; seed < 100 + kCalls; ++seed) {
    const BackwardCase c = AnyBackwardCase(seed, kAllButDropout);
    SCOPED_TRACE(c.name());
    Call call = MakeCall(c.forward, c.wishes);
    const Gradients batch = Differentiate(engine, call);
    const Problem& p = batch.problem;
    if (p.batch == 1) continue;
    ++(p.ragged ? ragged : batches);
    for (std::int64_t b = 0; b < p.batch; ++b) {
      AloneCall one;
      MakeAlone(call, b, &one);
      const Gradients own = Differentiate(engine, one.alone.problem, one.alone.buffers);
      const std::string what = engine.name() + ", entry " + std::to_string(b) + ": ";
      const Buffers x = call.Inputs();
      const auto rows = [&](const std::int32_t* cu, std::int64_t length) {
        return p.ragged ? std::pair<std::int64_t, std::int64_t>(cu[b], cu[b + 1])
                        : std::pair(b * length, (b + 1) * length);
      };
      const auto [q0, q1] = rows(x.cu_seqlens_q, p.q_len);
      const auto [k0, k1] = rows(x.cu_seqlens_k, p.k_len);
      ExpectSameBits(RowsOf(batch.dq, q0, q1), own.dq.Values().values, what + "dq");
      ExpectSameBits(RowsOf(batch.dk, k0, k1), own.dk.Values().values, what + "dk");
      ExpectSameBits(RowsOf(batch.dv, k0, k1), own.dv.Values().values, what + "dv");
      if (p.want_dbias && p.bias.batch > 1) {
        ExpectSameBits(BiasOf(batch, own, b), own.dbias.Values().values, what + "dbias");
      }
    }
  }
  EXPECT_GT(batches, 2);
#ifndef HEED_TEST_REDUCED
  EXPECT_GT(ragged, 1);
#endif
}

// What is there is rounded once with the sum: both roundings, and in 16 bits that of the gradient
// alone, are half an ulp each.
TEST_P(BackwardBits, AccumulateAddsOnce) {
  const Engine& engine = GetParam();
  for (std::uint64_t seed = 200; seed < 200 + kCalls / 2; ++seed) {
    const BackwardCase c = AnyBackwardCase(seed, Everything());
    SCOPED_TRACE(c.name());
    Call call = MakeCall(c.forward, c.wishes);
    const Gradients alone = Differentiate(engine, call);
    call.problem.accumulate = true;
    const auto start = [](std::int64_t n) { return static_cast<double>(n % 7 - 3) / 4; };
    const Gradients sum = Differentiate(engine, call.problem, call.Inputs(), 2, [&](Buffers* b) {
      const auto fill = [&](verify::Role role, void* data) {
        const verify::View view = verify::ViewOf(alone.problem, role);
        for (std::int64_t n = 0; data != nullptr && n < verify::CountOf(view.shape); ++n) {
          verify::Store(data, view.type, verify::OffsetOf(view, n), start(n));
        }
      };
      fill(verify::Role::kDq, b->dq);
      fill(verify::Role::kDk, b->dk);
      fill(verify::Role::kDv, b->dv);
      fill(verify::Role::kDbias, b->dbias);
      fill(verify::Role::kDsinks, b->dsinks);
    });
    const std::vector<Named> before = All(alone), after = All(sum);
    for (std::size_t g = 0; g < before.size(); ++g) {
      const verify::Array x = before[g].values->Values(), y = after[g].values->Values();
      const DType type = before[g].values->view().type;
      for (std::int64_t n = 0; n < x.size(); ++n) {
        const double want = start(n) + x[n];
        ASSERT_NEAR(y[n], want, verify::Ulp(type, x[n]) + verify::Ulp(type, want))
            << engine.name() << ": " << before[g].name << "[" << n << "]";
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, BackwardBits, testing::ValuesIn(Engines()),
                         [](const auto& test) { return test.param.name(); });

// Three entries with key counts of their own and a bias in common, whose gradient is wanted.
struct CommonBias {
  Problem problem;
  std::vector<std::int32_t> lengths;
  std::vector<float> q, k, bias;
  Buffers buffers;

  CommonBias(std::int64_t queries, std::int64_t dim, std::vector<std::int32_t> key_lengths)
      : lengths(std::move(key_lengths)) {
    Problem& p = problem;
    p.op = Op::kBackward;
    p.batch = static_cast<std::int64_t>(lengths.size());
    p.q_len = queries;
    p.k_len = *std::max_element(lengths.begin(), lengths.end());
    p.dim = dim;
    p.key_lengths = true;
    p.want_dbias = true;
    p.bias = {.given = true, .cols = p.k_len};
    Fill(&q, p.batch * queries * dim, 7, 3);
    Fill(&k, p.batch * p.k_len * dim, 11, 5);
    Fill(&bias, queries * p.k_len, 13, 7);
    buffers.q = buffers.dout = q.data();
    buffers.k = buffers.v = k.data();
    buffers.bias = bias.data();
    buffers.key_lengths = lengths.data();
  }
  static void Fill(std::vector<float>* x, std::int64_t n, std::size_t period, float divisor) {
    x->resize(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < x->size(); ++i)
      (*x)[i] = static_cast<float>(i * i % period) / divisor - 1;
  }
};

// Each entry has more keys than the one before: the gradient makes one item walk them in turn, and
// what it keeps of the bias' row must do for the longer ones, too.
TEST(BackwardBits, LongerEntriesReadMoreOfACommonRowOfTheBias) {
  CommonBias call(20, 16, {10, 40, 90});
  Problem& p = call.problem;
  p.q_strides.batch = p.k_strides.batch = p.v_strides.batch = p.dout_strides.batch = 0;
  const std::ptrdiff_t size = p.q_len * p.dim;
  for (const Engine& engine : Engines()) {
    const std::vector<double> batch = Differentiate(engine, p, call.buffers, 1).dq.Values().values;
    Problem alone = p;
    alone.batch = 1;
    Buffers b = call.buffers;
    for (std::ptrdiff_t n = 0; n < p.batch; ++n, ++b.key_lengths) {
      ExpectSameBits({batch.begin() + n * size, batch.begin() + (n + 1) * size},
                     Differentiate(engine, alone, b, 1).dq.Values().values, engine.name());
    }
  }
}

// Each entry has blocks of its own: the same keys lie in different parts of different entries.
TEST(BackwardBits, EntriesOfDifferentLengthsAddToACommonBiasInOneOrder) {
  CommonBias call(5, 8, {4200, 1030, 600});
  Problem& p = call.problem;
  const Buffers& b = call.buffers;
  for (const std::int64_t rows : {std::int64_t{1}, p.q_len}) {
    p.bias.rows = rows;
    const verify::Array want = Differentiate(Engine{"reference", "auto"}, p, b, 1).dbias.Values();
    for (const Engine& engine : Engines()) {
      const Gradients one = Differentiate(engine, p, b, 1);
      for (const int threads : {2, 8})
        for (int run = 0; run < 3; ++run)
          ExpectSame(one, Differentiate(engine, p, b, threads), engine.name());
      const verify::Array got = one.dbias.Values();
      for (std::int64_t n = 0; n < want.size(); ++n) ASSERT_NEAR(want[n], got[n], 1e-6) << n;
    }
  }
}

}  // namespace
}  // namespace heed::testing_backward
