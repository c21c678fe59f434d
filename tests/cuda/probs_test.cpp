// Probabilities in the emulator against the definition in float64, with every term, mask, layout and
// kind of visibility; dropout's signs; rows that see nothing or whose scores are huge.
#include "cuda/probs.h"

#include "attention_testing.h"

namespace heed::cuda {
namespace {

template <class T>
struct Probs : Attention<T> {
  using Base = Attention<T>;
  using Base::call;
  using Base::s;
  std::vector<T> probs16;
  std::vector<float> probs;

  explicit Probs(const Shape& shape) : Base(shape) {
    probs.resize(size_t(ProbsItems(call) * call.k_len));
    probs16.resize(probs.size());
    call.probs = s.out_f32 ? static_cast<void*>(probs.data()) : probs16.data();
  }

  void Run(const std::function<void()>& check) {
    using C = SmallConfig<T>;
    RunEverySchedule<C>(
        ProbsItems(call),
        [&](emu::Memory& memory) {
          Base::Inputs(memory);
          if (s.out_f32) memory.Output("probs", probs);
          if (!s.out_f32) memory.Output("probs", probs16);
        },
        [&] { Probabilities<C>(call); }, check);
  }

  void Compare() const {
    for (int b = 0; b < kBatch; ++b) {
      for (int h = 0; h < call.q_heads; ++h) {
        for (int i = 0; i < s.q_len; ++i) CompareRow(b, h, i);
      }
    }
  }
  void CompareRow(int b, int h, int i) const {
    const Row row = Base::RowOf(b, h, i);
    // Of p and of the sum; of their additions and of exp2; of the result.
    const double error = 2 * (row.error + 4 * 0x1p-24) + (s.k_len + 8) * 0x1p-24;
    for (int j = 0; j < call.k_len; ++j) {
      const size_t n =
          size_t(((b * call.q_heads + h) * s.q_len + i) * std::int64_t{call.k_len} + j);
      const float got = s.out_f32 ? probs[n] : Widen(probs16[n]);
      const double want = row.P(j);
      SCOPED_TRACE(testing::Message()
                   << "entry " << b << ", head " << h << ", query " << i << ", key " << j);
      ASSERT_NEAR(std::fabs(got), want, want * (error + HalfUnit<T>(s.out_f32)) + 0x1p-24);
      const bool seen = row.score[size_t(j)] > -INFINITY;
      ASSERT_EQ(std::signbit(got), seen && !Base::Kept(b, h, i, j));
    }
  }
};

class ProbsOf : public testing::TestWithParam<Shape> {};

template <class T>
void Check(const Shape& s) {
  Probs<T> probs(s);
  probs.Run([&] { probs.Compare(); });
}
TEST_P(ProbsOf, F32) { Check<F32>(GetParam()); }
TEST_P(ProbsOf, F16) { Check<F16>(GetParam()); }
TEST_P(ProbsOf, Bf16) { Check<Bf16>(GetParam()); }

INSTANTIATE_TEST_SUITE_P(
    Shapes, ProbsOf,
    testing::Values(Shape{}, Shape{.name = "causal", .out_f32 = true, .right = 0},
                    Shape{.name = "one_key", .k_len = 1, .sinks = true},
                    Shape{.name = "negative", .dim = 33, .k_len = 32, .scale = -1},
                    Shape{.name = "window", .dropout = 0.3, .left = 5, .right = 2, .prefix = 3},
                    Shape{.name = "chunks", .alibi = true, .chunk = 8},
                    Shape{.name = "softcap", .softcap = 2, .bias = true, .bias_f32 = false},
                    Shape{.name = "bias", .bias = true, .out_f32 = true, .dropout = 0.5},
                    Shape{.name = "mask", .mask = true, .sinks = true},
                    Shape{.name = "map", .map = true, .dropout = 0.1},
                    Shape{.name = "both", .mask = true, .map = true, .right = 0},
                    Shape{.name = "ragged", .alibi = true, .mask = true, .ragged = true},
                    Shape{.name = "paged", .k_len = 75, .paged = true, .right = 0},
                    Shape{.name = "leftpad", .k_len = 75, .paged = true, .leftpad = true},
                    Shape{.name = "offsets", .offsets = true, .right = 0},
                    Shape{.name = "lengths", .sinks = true, .lengths = true, .top_left = true}),
    NameOf);

template <class T>
struct ProbsTyped : testing::Test {};
TYPED_TEST_SUITE(ProbsTyped, Elements);

// exp(s - lse) in f32 could not tell these keys apart from none: log 70 is lost beside 2^20.
TYPED_TEST(ProbsTyped, HugeEqualScoresAreUniform) {
  for (const float bias : {-0x1p20f, 0x1p20f, -3.4028235e38f}) {
    Probs<TypeParam> probs({.bias = true, .out_f32 = true});
    probs.bias.assign(probs.bias.size(), bias);
    probs.q.assign(probs.q.size(), Rounded<TypeParam>(0));
    probs.Run([&] {
      for (float p : probs.probs) ASSERT_NEAR(p, 1.0 / 70, 1e-8);
    });
  }
}

TYPED_TEST(ProbsTyped, AScoreThatIsNotFiniteStaysInItsRow) {
  for (const float bad : {INFINITY, NAN}) {
    Probs<TypeParam> probs({.bias = true, .out_f32 = true});
    probs.bias[size_t(3 * 70 + 40)] = bad;
    probs.bias[5] = 0;
    probs.Run([&] {
      for (int b = 0; b < kBatch; ++b) {
        for (int i = 0; i < 9; ++i) {
          for (int j = 0; j < 70; ++j) {
            const float p = probs.probs[size_t(((b * probs.q_heads * 9) + i) * 70 + j)];
            ASSERT_EQ(std::isnan(p), i == 3) << "query " << i << ", key " << j;
          }
        }
      }
    });
  }
}

TYPED_TEST(ProbsTyped, NonsenseInIndexArraysStaysInside) {
  Probs<TypeParam> paged({.k_len = 75, .paged = true, .leftpad = true});
  paged.seqlens = {INT32_MAX, INT32_MIN};
  paged.leftpad = {INT32_MAX, INT32_MIN};
  for (size_t n = 0; n < paged.table.size(); ++n) paged.table[n] = n % 2 ? INT32_MAX : -5;
  paged.Run([] {});
  Probs<TypeParam> ragged({.ragged = true});
  ragged.cu_q = {-4, INT32_MAX, 2};
  ragged.cu_k = {60, INT32_MIN, INT32_MAX};
  ragged.Run([] {});
  Probs<TypeParam> lengths({.lengths = true, .offsets = true});
  lengths.lengths = {INT32_MAX, INT32_MIN};
  lengths.offsets = {INT32_MAX, INT32_MIN};
  lengths.Run([] {});
}

}  // namespace
}  // namespace heed::cuda
