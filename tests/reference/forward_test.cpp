// forward_test.cpp: the reference where the answer is known by hand: each rule of the contract
// alone. Not here: edges (edge_test.cpp), the cache (cache_test.cpp).
#include <cmath>

#include "run.h"
#include "score/philox.h"

namespace heed {
namespace {

// One head, one dimension, q = 1: the scores are the keys.
Call Scores(std::int64_t sq, Doubles keys, Problem p = {}) {
  p.q_len = sq;
  p.k_len = static_cast<std::int64_t>(keys.size());
  p.dim = 1;
  Call c(p);
  c.q.assign(c.q.size(), 1);
  for (std::size_t n = 0; n < c.k.size(); n++) c.k[n] = keys[n % keys.size()];
  for (std::size_t n = 0; n < c.v.size(); n++) c.v[n] = static_cast<double>(n % keys.size());
  return c;
}

TEST(Forward, OneKeyIsItsValue) {
  Call c(Problem{.q_len = 3, .k_len = 1, .q_heads = 2, .dim = 5});
  c.Forward();
  for (std::size_t n = 0; n < c.o.size(); n++) EXPECT_EQ(c.o[n], c.v[n % 10]);
}

TEST(Forward, WeighsByTheExponentialOfTheScore) {
  Call c = Scores(1, {0, std::log(3)});
  c.Forward();
  EXPECT_DOUBLE_EQ(c.o[0], 0.75);
  EXPECT_FLOAT_EQ(c.lse[0], std::log(4.0f));
}

TEST(Forward, ScaleDefaultsToOneOverTheRootOfDim) {
  Call c(Problem{.q_len = 1, .k_len = 2, .dim = 4});
  c.q = {1, 1, 1, 1}, c.k = {0, 0, 0, 0, 1, 1, 1, 1}, c.v = {0, 0, 0, 0, 1, 1, 1, 1};
  c.Forward();
  EXPECT_DOUBLE_EQ(c.o[0], 1 / (1 + std::exp(-4 / std::sqrt(4.0))));
  c.p.scale = 0.25;
  c.Forward();
  EXPECT_DOUBLE_EQ(c.o[0], 1 / (1 + std::exp(-1.0)));
  c.p.scale = 0;
  c.Forward();
  EXPECT_EQ(c.o[0], 0.5);
}

TEST(Forward, TermsApplyInOrder) {
  Call c = Scores(1, {1, -2});
  c.p.softcap = 1.5, c.p.alibi = Alibi::kPerHead, c.slopes = {0.5f};
  c.p.bias = {.given = true, .cols = 2}, c.p.bias_dtype = DType::kF64, c.bias = {0.25, -1};
  c.Forward();
  // Bottom right: the query stands at key 1.
  const double s0 = 1.5 * std::tanh(1 / 1.5) - 0.5 + 0.25, s1 = 1.5 * std::tanh(-2 / 1.5) - 1;
  EXPECT_NEAR(c.lse[0], std::log(std::exp(s0) + std::exp(s1)), 1e-7);
  EXPECT_NEAR(c.o[0], 1 / (1 + std::exp(s0 - s1)), 1e-15);
}

// o is the mean of the visible keys' numbers where all scores are 0.
void ExpectMeans(Call c, const Doubles& means) {
  c.k.assign(c.k.size(), 0);
  c.Forward();
  ASSERT_EQ(c.o.size(), means.size());
  for (std::size_t n = 0; n < means.size(); n++) EXPECT_DOUBLE_EQ(c.o[n], means[n]) << n;
}

TEST(Forward, CausalAlignments) {
  const Doubles keys = {0, 0, 0, 0};
  ExpectMeans(Scores(2, keys, {.causal = true}), {1, 1.5});
  ExpectMeans(Scores(2, keys, {.causal = true, .align = Align::kTopLeft}), {0, 0.5});
  ExpectMeans(Scores(2, keys, {.causal = true, .align = Align::kOffset, .query_offset = 1}),
              {0.5, 1});
  ExpectMeans(Scores(2, keys, {.causal = true, .align = Align::kOffset, .query_offset = -1}),
              {0, 0});
}

TEST(Forward, WindowPrefixAndChunk) {
  const Doubles keys = {0, 0, 0, 0, 0, 0};
  ExpectMeans(Scores(6, keys, {.window_left = 1, .window_right = 1}), {0.5, 1, 2, 3, 4, 4.5});
  ExpectMeans(Scores(6, keys, {.window_left = 0, .window_right = 0, .prefix = 2}),
              {0.5, 0.5, 1, 4 / 3.0, 5 / 3.0, 2});
  ExpectMeans(Scores(6, keys, {.chunk = 4}), {1.5, 1.5, 1.5, 1.5, 4.5, 4.5});
}

TEST(Forward, MaskAndBlockMapHide) {
  Call c = Scores(2, {0, 0, 0, 0});
  c.p.mask = {.given = true, .rows = 2, .cols = 4};
  c.mask = {1, 0, 0, 1, 0, 1, 1, 1};
  ExpectMeans(c, {1.5, 2});
  c.p.block_map = {.given = true, .rows = 1, .cols = 2};
  c.p.block_rows = 5, c.p.block_cols = 3, c.block_map = {1, 0};
  ExpectMeans(c, {0, 1.5});
  Call d = Scores(3, {0, 0, 0, 0});
  d.p.block_map = {.given = true, .rows = 2, .cols = 2};
  d.p.block_rows = 2, d.p.block_cols = 3, d.block_map = {1, 0, 0, 1};
  ExpectMeans(d, {1, 1, 3});
}

TEST(Forward, LengthsAndOffsetsArePerEntry) {
  Call c = Scores(1, {0, 0, 0, 0}, {.batch = 3, .key_lengths = true});
  c.key_lengths = {4, 1, 2};
  ExpectMeans(c, {1.5, 0, 0.5});
  c.p.window_left = 1;  // bottom right: of the keys that there are
  ExpectMeans(c, {2.5, 0, 0.5});
  Call d = Scores(1, {0, 0, 0, 0},
                  {.batch = 3, .causal = true, .align = Align::kOffset, .query_offsets = true});
  d.query_offsets = {0, 1, 3};
  ExpectMeans(d, {0, 0.5, 1.5});
}

TEST(Forward, SinkJoinsTheSumAlone) {
  Call c = Scores(1, {0, 0}, {.sinks = true});
  c.sinks = {std::log(2.0f)};
  c.Forward();
  EXPECT_NEAR(c.o[0], 0.25, 1e-7);
  EXPECT_FLOAT_EQ(c.lse[0], std::log(4.0f));
}

TEST(Forward, HeadsOfAGroupShareTheirKeys) {
  Call c(Problem{.q_len = 3, .k_len = 4, .q_heads = 4, .k_heads = 2, .dim = 3, .dim_v = 2});
  for (std::size_t n = 0; n < c.q.size(); n++) c.q[n] = c.q[n % 3];  // every head asks the same
  c.Forward();
  for (std::size_t i = 0; i < 3; i++) {
    for (std::size_t d = 0; d < 2; d++) {
      const auto o = [&](std::size_t h) { return c.o[(i * 4 + h) * 2 + d]; };
      EXPECT_EQ(o(0), o(1));
      EXPECT_EQ(o(2), o(3));
      EXPECT_NE(o(0), o(2));
    }
  }
}

TEST(Forward, RaggedIsEverySequenceAlone) {
  Call c(Problem{.batch = 3,
                 .q_len = 4,
                 .k_len = 5,
                 .q_heads = 2,
                 .dim = 3,
                 .causal = true,
                 .ragged = true,
                 .total_q = 6,
                 .total_k = 8});
  c.cu_q = {0, 2, 2, 6}, c.cu_k = {0, 5, 5, 8};
  c.p.bias = {.given = true, .rows = 4, .cols = 5}, c.p.bias_dtype = DType::kF64;
  c.bias = Random(20, 9);
  c.Forward();
  for (const int b : {0, 2}) {
    const std::int64_t q0 = c.cu_q[b], sq = c.cu_q[b + 1] - q0, k0 = c.cu_k[b];
    Call one(
        Problem{.q_len = sq, .k_len = c.cu_k[b + 1] - k0, .q_heads = 2, .dim = 3, .causal = true});
    one.q.assign(c.q.begin() + q0 * 6, c.q.begin() + (q0 + sq) * 6);
    one.k.assign(c.k.begin() + k0 * 6, c.k.begin() + (k0 + one.p.k_len) * 6);
    one.v.assign(c.v.begin() + k0 * 6, c.v.begin() + (k0 + one.p.k_len) * 6);
    one.p.bias = {.given = true, .rows = sq, .cols = one.p.k_len, .stride_row = 5};
    one.p.bias_dtype = DType::kF64;
    one.bias = c.bias;
    one.Forward();
    for (std::size_t n = 0; n < one.o.size(); n++) EXPECT_EQ(one.o[n], c.o[q0 * 6 + n]);
    for (std::int64_t h = 0; h < 2; h++) {
      for (std::int64_t i = 0; i < sq; i++) EXPECT_EQ(one.lse[h * sq + i], c.lse[h * 6 + q0 + i]);
    }
  }
}

TEST(Forward, DropoutFollowsKeepAndLeavesLseAlone) {
  Problem p{.batch = 2, .q_len = 3, .k_len = 5, .q_heads = 2, .dim = 4};
  Call plain(p);
  plain.p.want_probs = true;
  plain.Forward();
  Call c(p);
  c.p.dropout_p = 0.5, c.p.seed = 42, c.p.offset = 7, c.p.want_probs = true;
  c.Forward();
  EXPECT_EQ(c.lse, plain.lse);
  const Dropout d = DropoutOf(42, 7, 0.5);
  for (int bh = 0; bh < 4; bh++) {
    for (int i = 0; i < 3; i++) {
      double o = 0;
      for (int j = 0; j < 5; j++) {
        const auto n = static_cast<std::size_t>((bh * 3 + i) * 5 + j);
        const bool keep = Keep(d, bh, i, j);
        EXPECT_EQ(c.probs[n], keep ? plain.probs[n] : -plain.probs[n]);
        if (keep) o += 2 * plain.probs[n] * c.v[((bh / 2 * 5 + j) * 2 + bh % 2) * 4];
      }
      EXPECT_NEAR(c.o[((bh / 2 * 3 + i) * 2 + bh % 2) * 4], o, 1e-15);
    }
  }
}

TEST(Forward, ProbabilitiesOfARowSumToOne) {
  Call c(Problem{.q_len = 4, .k_len = 6, .dim = 3, .causal = true, .want_probs = true});
  c.Forward();
  for (std::int64_t i = 0; i < 4; i++) {
    double sum = 0;
    for (std::int64_t j = 0; j < 6; j++) {
      sum += c.probs[i * 6 + j];
      EXPECT_EQ(c.probs[i * 6 + j] == 0, j > i + 2);
    }
    EXPECT_NEAR(sum, 1, 1e-15);
  }
}

// (B,H,S,D) views of q and o, k and v interleaved in one tensor, k reversed: strides say where
// everything lies.
TEST(Forward, StridesSayWhereThingsLie) {
  Call c(Problem{.batch = 2, .q_len = 3, .k_len = 4, .q_heads = 2, .dim = 3});
  c.Forward();
  Doubles q(36), kv(2 * 48), o(36);
  for (int b = 0; b < 2; b++) {
    for (int h = 0; h < 2; h++) {
      for (int d = 0; d < 3; d++) {
        for (int i = 0; i < 3; i++) {
          q[((b * 2 + h) * 3 + i) * 3 + d] = c.q[((b * 3 + i) * 2 + h) * 3 + d];
        }
        for (int j = 0; j < 4; j++) {
          kv[((b * 4 + 3 - j) * 4 + h) * 3 + d] = c.k[((b * 4 + j) * 2 + h) * 3 + d];
          kv[((b * 4 + j) * 4 + 2 + h) * 3 + d] = c.v[((b * 4 + j) * 2 + h) * 3 + d];
        }
      }
    }
  }
  Problem p = c.p;
  p.q_strides = p.o_strides = {18, 3, 9};
  p.k_strides = {48, -12, 3};
  p.v_strides = {48, 12, 3};
  Buffers b;
  b.q = q.data(), b.k = kv.data() + 3 * 12, b.v = kv.data() + 6, b.o = o.data();
  const Status s = RunReference(p, b);
  ASSERT_TRUE(s.ok()) << s.message();
  for (int n = 0; n < 36; n++) {
    const int d = n % 3, i = n / 3 % 3, h = n / 9 % 2, e = n / 18;
    EXPECT_EQ(o[n], c.o[((e * 3 + i) * 2 + h) * 3 + d]);
  }
}

// One rounding, at the end: a bf16 call is the float64 answer to the rounded inputs, rounded.
TEST(Forward, RoundsOnceAtTheEnd) {
  std::uint16_t q[] = {0x3F80}, k[] = {0x3F80, 0x0000}, v[] = {0x4040, 0x3F80},
                o = 0;  // 1; 1, 0; 3, 1
  Problem p{.q_len = 1, .k_len = 2, .dim = 1, .dtype = DType::kBF16};
  Buffers b;
  b.q = q, b.k = k, b.v = v, b.o = &o;
  ASSERT_TRUE(RunReference(p, b).ok());
  EXPECT_EQ(o, 0x401E);  // 1 + 2 / (1 + 1/e) = 2.4621 -> 2.46875
  p.out_dtype = DType::kF32;
  float wide = 0;
  b.o = &wide;
  ASSERT_TRUE(RunReference(p, b).ok());
  EXPECT_FLOAT_EQ(wide, 2.4621172f);
}

TEST(Backend, RefusesAnInstructionSet) {
  const Problem p = Normalize(Problem{.q_len = 1, .k_len = 1, .dim = 1});
  EXPECT_TRUE(ReferenceBackend().Supports(p, {}).ok());
  const Status s = ReferenceBackend().Supports(p, {.isa = "avx2"});
  EXPECT_EQ(s.code(), StatusCode::kRefused);
  EXPECT_NE(s.message().find("avx2"), std::string::npos);
}

TEST(Backend, DescribesItself) {
  const Problem p = Normalize(Problem{.batch = 2, .q_len = 3, .k_len = 0, .q_heads = 2, .dim = 4});
  const Tuning t = ReferenceBackend().Tune(p, {});
  EXPECT_EQ(t.isa, -1);
  EXPECT_EQ(t.tile_rows, 1);
  EXPECT_EQ(t.tile_keys, 1);  // never 0, whatever the sizes are
  EXPECT_EQ(t.workspace_bytes, 0);
  PlanInfo info;
  ReferenceBackend().Describe(p, t, &info);
  EXPECT_EQ(info.kernel, "float64 · definitions");
  EXPECT_EQ(info.bytes_moved, 0);
  EXPECT_EQ(ReferenceBackend().Info().name, "reference");
  EXPECT_TRUE(ReferenceBackend().Info().available);
}

}  // namespace
}  // namespace heed
