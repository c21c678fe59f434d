// Probabilities in the emulator against the definition in float64, with every term, mask, layout and
// kind of visibility; dropout's signs; rows that see nothing or whose scores are huge.
#include "cuda/probs.h"

#include "kernels_testing.h"
#include "score/philox.h"

namespace heed::cuda {
namespace {

struct Shape {
  const char* name = "plain";
  int dim = 19, q_len = 9, k_len = 70;
  float scale = 0.2f, softcap = 0;
  bool alibi = false, bias = false, bias_f32 = true, mask = false, map = false, sinks = false;
  bool ragged = false, paged = false, lengths = false, out_f32 = false;
  double dropout = 0;
  std::int64_t left = -1, right = -1, prefix = 0, chunk = 0;
};

constexpr int kBatch = 2, kHeads = 2, kGroup = 2, kQHeads = kHeads * kGroup;
constexpr int kPage = 16, kPages = 16;

template <class T>
struct Probs {
  Shape s;
  std::vector<T> q, k, bias16;
  std::vector<float> bias, slopes = {0.25f, 0.5f, 0.0625f, 1}, sinks = {-1, 3, 40, -INFINITY};
  std::vector<std::uint8_t> mask, map;
  std::vector<std::int32_t> cu_q, cu_k, lengths, seqlens, table;
  std::vector<T> probs16;
  std::vector<float> probs;
  ForwardCall call;

  explicit Probs(const Shape& shape) : s(shape) {
    Values values(17);
    call.batch = kBatch;
    call.q_heads = kQHeads;
    call.group = kGroup;
    call.q_len = s.q_len;
    call.k_len = s.k_len;
    call.dim = s.dim;
    if (s.ragged) {
      cu_q = {0, s.q_len - 4, 2 * s.q_len - 4};
      cu_k = {0, s.k_len, s.k_len + 7};
      call.cu_seqlens_q = cu_q.data();
      call.cu_seqlens_k = cu_k.data();
      call.total_q = cu_q[2];
      call.total_k = cu_k[2];
    }
    call.q.steps = StepsOf(s.q_len, kQHeads, s.dim, 1);
    call.k.steps = StepsOf(s.paged ? kPage : s.k_len, kHeads, s.dim, 2);
    q = values.Of<T>(size_t(kBatch * call.q.steps.batch));
    k = values.Of<T>(size_t((s.paged ? kPages : kBatch) * call.k.steps.batch));
    call.q.data = q.data();
    call.k.data = k.data();
    if (s.paged) {
      call.k_len = int(CeilDiv(s.k_len, kPage)) * kPage;
      call.cache.blocks = call.k_len / kPage;
      call.cache.rows = kPage;
      call.cache.slots = kPages;
      for (int n = 0; n < kBatch * call.cache.blocks; ++n) table.push_back(n * 5 % kPages);
      seqlens = {s.k_len, 3};
      call.cache.seqlens = seqlens.data();
      call.cache.table = table.data();
    }
    if (s.lengths) {
      lengths = {s.k_len - 5, 0};
      call.key_lengths = lengths.data();
    }
    call.terms = Terms<float>::Of(
        {.scale = s.scale, .softcap = s.softcap, .alibi = s.alibi, .bias = s.bias});
    call.factors = FoldExp2(call.terms);
    if (s.alibi) call.slopes = slopes.data();
    const std::int64_t per_head = std::int64_t{s.q_len} * call.k_len;
    if (s.bias) {
      bias = values.Of<float>(size_t(kQHeads * per_head));
      bias[5] = -INFINITY;
      for (float x : bias) bias16.push_back(Rounded<T>(x));
      call.bias_f32 = s.bias_f32;
      call.bias = {s.bias_f32 ? static_cast<void*>(bias.data()) : bias16.data(), 0, per_head,
                   call.k_len, 1};
    }
    if (s.mask) {
      mask.resize(size_t(kBatch * per_head));
      for (auto& x : mask) x = values.Below(3) > 0;
      for (int j = 0; j < call.k_len; ++j) mask[size_t(call.k_len + j)] = 0;  // row 1 sees nothing
      call.mask = {mask.data(), per_head, 0, call.k_len, 1};
    }
    call.block_rows = 4;
    call.block_cols = 11;
    if (s.map) {
      const std::int64_t cols = CeilDiv(call.k_len, 11), rows = CeilDiv(s.q_len, 4);
      map.resize(size_t(kQHeads * rows * cols));
      for (auto& x : map) x = values.Below(3) > 0;
      call.block_map = {map.data(), 0, rows * cols, cols, 1};
    }
    if (s.sinks) call.sinks = sinks.data();
    call.drops = s.dropout > 0;
    call.dropout = DropoutOf(99, 5, s.dropout);
    call.rule.left = s.left;
    call.rule.right = s.right;
    call.rule.prefix = s.prefix;
    call.rule.chunk = s.chunk;
    call.out_f32 = s.out_f32;
    probs.resize(size_t(kBatch * kQHeads * per_head));
    probs16.resize(probs.size());
    call.probs = s.out_f32 ? static_cast<void*>(probs.data()) : probs16.data();
  }

  void Run(const std::function<void()>& check) {
    using C = SmallConfig<T>;
    RunEverySchedule<C>(
        ProbsItems(call),
        [&](emu::Memory& memory) {
          memory.Input("q", q);
          memory.Shared("k", k);  // as a cache is that an earlier kernel appends to
          if (s.bias_f32) memory.Input("bias", bias);
          if (!s.bias_f32) memory.Input("bias", bias16);
          memory.Input("slopes", slopes);
          memory.Input("sinks", sinks);
          memory.Input("mask", mask);
          memory.Input("map", map);
          for (auto* v : {&cu_q, &cu_k, &lengths, &seqlens, &table}) memory.Input("indices", *v);
          if (s.out_f32) memory.Output("probs", probs);
          if (!s.out_f32) memory.Output("probs", probs16);
        },
        [&] { Probabilities<C>(call); }, check);
  }

  Visibility RuleOf(int b) const {
    Visibility v = call.rule;
    v.sq = s.q_len;
    v.sk = s.k_len;
    if (s.ragged) {
      v.sq = cu_q[size_t(b) + 1] - cu_q[size_t(b)];
      v.sk = cu_k[size_t(b) + 1] - cu_k[size_t(b)];
    }
    if (s.paged) v.sk = seqlens[size_t(b)];
    if (s.lengths) v.sk = lengths[size_t(b)];
    v.shift = v.sk - v.sq;
    return v;
  }
  const T* Key(int b, int hk, int j) const {
    const Steps& t = call.k.steps;
    const std::int64_t head = hk * t.head;
    if (s.ragged) return &k[size_t((cu_k[size_t(b)] + j) * t.row + head)];
    if (!s.paged) return &k[size_t(b * t.batch + j * t.row + head)];
    const int page = table[size_t(b * call.cache.blocks + j / kPage)];
    return &k[size_t(page * t.batch + j % kPage * t.row + head)];
  }
  const T* Query(int b, int h, int i) const {
    const Steps& t = call.q.steps;
    return &q[size_t((s.ragged ? (cu_q[size_t(b)] + i) * t.row : b * t.batch + i * t.row) +
                     h * t.head)];
  }

  void Compare() const {
    for (int b = 0; b < kBatch; ++b) {
      for (int h = 0; h < kQHeads; ++h) {
        for (int i = 0; i < s.q_len; ++i) CompareRow(b, h, i);
      }
    }
  }
  void CompareRow(int b, int h, int i) const {
    using L = ScalarLanes<double>;
    const auto terms = Terms<double>::Of(
        {.scale = s.scale, .softcap = s.softcap, .alibi = s.alibi, .bias = s.bias});
    const Visibility rule = RuleOf(b);
    std::vector<double> score(size_t(call.k_len), -INFINITY);
    double m = s.sinks ? sinks[size_t(h)] : -INFINITY, largest = 0;
    for (int j = 0; j < call.k_len; ++j) {
      if (!Sees(rule, i, j)) continue;
      const auto at = [&](const Spread& t) {
        return size_t(b * t.batch + h * t.head + i * t.row + j * t.col);
      };
      if (s.mask && !mask[at(call.mask)]) continue;
      const Spread& t = call.block_map;
      if (s.map && !map[size_t(b * t.batch + h * t.head + i / 4 * t.row + j / 11 * t.col)])
        continue;
      double product = 0, size = 0;
      for (int d = 0; d < s.dim; ++d) {
        const double x = double(Widen(Query(b, h, i)[d])) * Widen(Key(b, h / kGroup, j)[d]);
        product += x;
        size += std::fabs(x);
      }
      At<L> place = {s.alibi ? slopes[size_t(h)] : 0, double(i + rule.shift - j), 0};
      if (s.bias)
        place.bias = s.bias_f32 ? double(bias[at(call.bias)]) : Widen(bias16[at(call.bias)]);
      score[size_t(j)] = Modify<L>(terms, product, place);
      m = std::fmax(m, score[size_t(j)]);
      if (std::isfinite(score[size_t(j)])) {
        largest = std::fmax(largest, std::fabs(score[size_t(j)]) + std::fabs(m) +
                                         (s.dim + 4) * size * std::fabs(s.scale));
      }
    }
    double l = s.sinks && sinks[size_t(h)] > -INFINITY ? std::exp(sinks[size_t(h)] - m) : 0;
    for (double x : score) l += x > -INFINITY ? std::exp(x - m) : 0;
    // Roundings of a score and of m, in p and in the sum; of the sum; of exp2; then of the result.
    const double u = 0x1p-24;
    const double error = 2 * (8 * largest * u + 8 * u) + s.k_len * u;
    const double half = s.out_f32 || sizeof(T) == 4   ? u
                        : std::is_same_v<T, ptx::F16> ? 0x1p-11
                                                      : 0x1p-8;
    for (int j = 0; j < call.k_len; ++j) {
      const size_t n = size_t(((b * kQHeads + h) * s.q_len + i) * std::int64_t{call.k_len} + j);
      const float got = s.out_f32 ? probs[n] : Widen(probs16[n]);
      const bool seen = score[size_t(j)] > -INFINITY;
      const double want = seen ? std::exp(score[size_t(j)] - m) / l : 0;
      SCOPED_TRACE(testing::Message()
                   << "entry " << b << ", head " << h << ", query " << i << ", key " << j);
      ASSERT_NEAR(std::fabs(got), want, want * (error + half) + 0x1p-24);
      const bool dropped = seen && call.drops && !Keep(call.dropout, b * kQHeads + h, i, j);
      ASSERT_EQ(std::signbit(got), dropped);
    }
  }
};

std::string Name(const testing::TestParamInfo<Shape>& info) { return info.param.name; }

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
                    Shape{.name = "lengths", .sinks = true, .lengths = true}),
    Name);

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
            const float p = probs.probs[size_t(((b * kQHeads * 9) + i) * 70 + j)];
            ASSERT_EQ(std::isnan(p), i == 3) << "query " << i << ", key " << j;
          }
        }
      }
    });
  }
}

TYPED_TEST(ProbsTyped, NonsenseInIndexArraysStaysInside) {
  Probs<TypeParam> paged({.k_len = 75, .paged = true});
  paged.seqlens = {INT32_MAX, INT32_MIN};
  for (size_t n = 0; n < paged.table.size(); ++n) paged.table[n] = n % 2 ? INT32_MAX : -5;
  paged.Run([] {});
  Probs<TypeParam> ragged({.ragged = true});
  ragged.cu_q = {-4, INT32_MAX, 2};
  ragged.cu_k = {60, INT32_MIN, INT32_MAX};
  ragged.Run([] {});
}

}  // namespace
}  // namespace heed::cuda
