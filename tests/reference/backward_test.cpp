// backward_test.cpp: every gradient against central differences of the forward, and what the
// backward does with its outputs.
#include <cmath>
#include <functional>

#include "run.h"

namespace heed {
namespace {

// sum(out * dout) + sum(lse * dlse), what the gradients are of.
double Loss(Call& c) {
  c.Forward();
  double sum = 0;
  for (std::size_t n = 0; n < c.o.size(); n++) sum += c.o[n] * c.dout[n];
  for (std::size_t n = 0; n < c.dlse.size(); n++) sum += double{c.lse[n]} * double{c.dlse[n]};
  return sum;
}

// h^2 is the error of the difference; lse is a float, so its last bit over h comes on top.
template <class T, class G>
void ExpectGradient(Call& c, std::vector<T>& x, const std::vector<G>& gradient, const char* name) {
  ASSERT_EQ(x.size(), gradient.size());
  const bool rough = !c.dlse.empty() || sizeof(T) == 4;
  const double h = rough ? 1.0 / 256 : 1e-5, tolerance = rough ? 1e-3 : 1e-8;
  const std::size_t step = x.size() / 40 + 1;  // forty of them are as good as all
  for (std::size_t n = 0; n < x.size(); n += step) {
    const T before = x[n];
    x[n] = static_cast<T>(double{before} + h);
    const double above = Loss(c);
    x[n] = static_cast<T>(double{before} - h);
    const double below = Loss(c);
    x[n] = before;
    EXPECT_NEAR(gradient[n], (above - below) / (2 * h), tolerance) << name << '[' << n << ']';
  }
}

void ExpectGradients(Call c) {
  c.Backward();
  ExpectGradient(c, c.q, c.dq, "dq");
  ExpectGradient(c, c.k, c.dk, "dk");
  ExpectGradient(c, c.v, c.dv, "dv");
  ExpectGradient(c, c.bias, c.dbias, "dbias");
  ExpectGradient(c, c.sinks, c.dsinks, "dsinks");
}

const Problem kSmall = {.batch = 2, .q_len = 5, .k_len = 6, .q_heads = 2, .dim = 3, .dim_v = 4};

TEST(Backward, Plain) { ExpectGradients(Call(kSmall)); }

TEST(Backward, GroupedHeadsAndCausal) {
  Problem p = kSmall;
  p.q_heads = 4, p.k_heads = 2, p.causal = true;
  ExpectGradients(Call(p));
}

TEST(Backward, SoftcapAlibiBias) {
  Call c(kSmall);
  c.p.softcap = 1.5, c.p.alibi = Alibi::kPerBatchHead, c.slopes = {0.5f, 0.25f, 0.1f, 0};
  c.p.bias = {.given = true, .batch = 2, .heads = 2, .rows = 5, .cols = 6};
  c.p.bias_dtype = DType::kF64, c.bias = Random(120, 5);
  ExpectGradients(c);
}

TEST(Backward, BiasIsSummedOverItsBroadcastAxes) {
  for (int axes = 0; axes < 16; axes++) {
    Call c(kSmall);
    c.p.bias = {.given = true,
                .batch = axes & 1 ? 2 : 1,
                .heads = axes & 2 ? 2 : 1,
                .rows = axes & 4 ? 5 : 1,
                .cols = axes & 8 ? 6 : 1};
    c.p.bias_dtype = DType::kF64;
    c.bias = Random(c.p.bias.batch * c.p.bias.heads * c.p.bias.rows * c.p.bias.cols, 6);
    c.Backward();
    ExpectGradient(c, c.bias, c.dbias, "dbias");
  }
}

TEST(Backward, Sinks) {
  Call c(kSmall);
  c.p.sinks = true, c.sinks = {0.5f, -1};
  ExpectGradients(c);
}

TEST(Backward, Dropout) {
  Call c(kSmall);
  c.p.dropout_p = 0.3, c.p.seed = 11;
  ExpectGradients(c);
}

TEST(Backward, ThroughLse) {
  Call c(kSmall);
  for (const double x : Random(20, 7)) c.dlse.push_back(static_cast<float>(x));
  c.p.sinks = true, c.sinks = {0.25f, -0.5f};
  c.p.causal = true;
  ExpectGradients(c);
}

TEST(Backward, RaggedWithLengthsMaskAndWindow) {
  Call c(Problem{.batch = 3,
                 .q_len = 4,
                 .k_len = 5,
                 .q_heads = 2,
                 .dim = 3,
                 .window_left = 2,
                 .key_lengths = true,
                 .ragged = true,
                 .total_q = 6,
                 .total_k = 8});
  c.cu_q = {0, 2, 2, 6}, c.cu_k = {0, 5, 5, 8}, c.key_lengths = {4, 0, 3};
  c.p.mask = {.given = true, .rows = 4, .cols = 5};
  for (int n = 0; n < 20; n++) c.mask.push_back(n % 7 != 2);
  ExpectGradients(c);
}

TEST(Backward, BlockMapPrefixAndScale) {
  Call c(kSmall);
  c.p.scale = -0.4, c.p.chunk = 3, c.p.prefix = 1;
  c.p.block_map = {.given = true, .rows = 3, .cols = 2};
  c.p.block_rows = 2, c.p.block_cols = 4, c.block_map = {1, 0, 1, 1, 1, 0};
  ExpectGradients(c);
}

TEST(Backward, AddsToWhatIsThereWhenAsked) {
  Call c(kSmall);
  c.p.bias = {.given = true, .cols = 6}, c.p.bias_dtype = DType::kF64, c.bias = Random(6, 5);
  c.p.sinks = true, c.sinks = {0, 1};
  Call sum = c;
  c.Backward();
  sum.p.accumulate = true;
  sum.dq.assign(c.dq.size(), 100), sum.dk.assign(c.dk.size(), 100);
  sum.dv.assign(c.dv.size(), 100), sum.dbias.assign(6, 100), sum.dsinks.assign(2, 100);
  sum.Backward();
  for (std::size_t n = 0; n < c.dq.size(); n++) EXPECT_DOUBLE_EQ(sum.dq[n], 100 + c.dq[n]);
  for (std::size_t n = 0; n < c.dk.size(); n++) EXPECT_DOUBLE_EQ(sum.dk[n], 100 + c.dk[n]);
  for (std::size_t n = 0; n < c.dv.size(); n++) EXPECT_DOUBLE_EQ(sum.dv[n], 100 + c.dv[n]);
  for (std::size_t n = 0; n < 6; n++) EXPECT_DOUBLE_EQ(sum.dbias[n], 100 + c.dbias[n]);
  for (std::size_t n = 0; n < 2; n++) EXPECT_FLOAT_EQ(sum.dsinks[n], 100 + c.dsinks[n]);
}

TEST(Backward, FloatGradientsOfSixteenBitTensors) {
  const std::uint16_t q[] = {0x3F80}, k[] = {0x3F80, 0}, v[] = {0x4040, 0x3F80};  // 1; 1, 0; 3, 1
  const std::uint16_t o = 0, dout = 0x3F80;
  const float lse = 0;
  float dq = 0, dk[2], dv[2];
  std::uint16_t narrow_dq = 0, narrow_dk[2], narrow_dv[2];
  Problem p{.q_len = 1, .k_len = 2, .dim = 1, .dtype = DType::kBF16, .op = Op::kBackward};
  p.f32_grads = true;
  Buffers b;
  b.q = q, b.k = k, b.v = v, b.dout = &dout;
  b.o = const_cast<std::uint16_t*>(&o), b.lse = const_cast<float*>(&lse);
  b.dq = &dq, b.dk = dk, b.dv = dv;
  ASSERT_TRUE(RunReference(p, b).ok());
  const double w = 1 / (1 + std::exp(-1.0));
  EXPECT_FLOAT_EQ(dv[0], static_cast<float>(w));
  EXPECT_FLOAT_EQ(dq, static_cast<float>(w * (1 - w) * 2));
  EXPECT_FLOAT_EQ(dk[1], static_cast<float>(-w * (1 - w) * 2));
  p.f32_grads = false;
  b.dq = &narrow_dq, b.dk = narrow_dk, b.dv = narrow_dv;
  ASSERT_TRUE(RunReference(p, b).ok());
  EXPECT_EQ(narrow_dv[0], 0x3F3B);  // 0.7310586 -> 0.73046875
}

}  // namespace
}  // namespace heed
