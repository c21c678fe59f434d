// extremes_test.cpp: the ends of every option: tiny and huge caps and slopes, infinite biases, rows
// that see nothing, windows beyond the keys, sequences of one token, offsets beyond 2^31. Not here:
// ordinary values (pairwise_test.cpp), dropout's statistics (dropout_test.cpp).
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>
#include <vector>

#include "cases_axes.h"
#include "options_testing.h"
#include "verify/array.h"

namespace heed::testing_options {
namespace {

using namespace cases;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class Extremes : public testing::TestWithParam<std::tuple<Engine, DType>> {
 protected:
  const Engine& engine() const { return std::get<0>(GetParam()); }

  // Two entries, four heads in two groups, 50 x 77; more than one tile of everything.
  Case Plain(Data data = Data::kNormal) const {
    Case c;
    c.problem = {.batch = 2,
                 .q_len = 50,
                 .k_len = 77,
                 .q_heads = 4,
                 .k_heads = 2,
                 .dim = 40,
                 .dim_v = 24,
                 .dtype = std::get<1>(GetParam()),
                 .want_lse = true};
    c.data = data;
    c.seed = 11;
    return c;
  }

  Output Check(const Sample& sample) const {
    const Output out = RunOn(engine(), sample);
    ExpectWithin(ExpectedOf(sample.problem, sample.Inputs()), out, engine().name());
    return out;
  }
};

TEST_P(Extremes, Softcap) {
  for (const double cap : {1.2e-38, 1e-30, 1e-3, 1.0, 1e4, 3.4e38}) {
    for (const Data data : {Data::kNormal, Data::kPeaked}) {
      Case c = Plain(data);
      c.problem.softcap = cap;
      SCOPED_TRACE(cap);
      Check(MakeSample(c));
    }
  }
}

TEST_P(Extremes, Slopes) {
  for (const float slope : {0.f, -0.f, 1e-30f, 1.f, -0.25f, 1e4f, 1e30f}) {
    Case c = Plain();
    c.problem.alibi = Alibi::kPerHead;
    Sample sample = MakeSample(c);
    sample.slopes = {slope, 0.5f, slope, 0};
    SCOPED_TRACE(slope);
    Check(sample);
    sample.problem.causal = true;
    Check(sample);
  }
}

// -infinity acts as a mask that says no, to the bit where it hides whole rows, else within bounds.
TEST_P(Extremes, BiasOfMinusInfinityIsAMask) {
  Case c = Plain();
  c.problem.bias = {.given = true, .rows = 50, .cols = 77};
  c.problem.mask = c.problem.bias;
  Sample both = MakeSample(c);
  Sample biased = both, masked = both;
  for (std::size_t n = 0; n < 50 * 77; ++n) {
    const bool hidden = n / 77 == 3 || n % 77 == 5 || n % 11 == 0;
    const float bias = hidden ? -std::numeric_limits<float>::infinity() : 0.f, none = 0;
    std::memcpy(biased.bias.bytes.data() + 4 * n, &bias, 4);
    std::memcpy(masked.bias.bytes.data() + 4 * n, &none, 4);
    masked.mask.bytes[n] = std::byte{!hidden};
    biased.mask.bytes[n] = std::byte{1};
  }
  const Expected e = ExpectedOf(masked.problem, masked.Inputs());
  const Output a = RunOn(engine(), biased), b = RunOn(engine(), masked);
  ExpectWithin(e, a, "bias");
  ExpectWithin(e, b, "mask");
  for (const Output* out : {&a, &b}) EXPECT_EQ(out->Lse()[3], -kInfinity);
}

// A score of +infinity makes its row's o NaN and its lse no finite number, and no other row's.
TEST_P(Extremes, BiasOfPlusInfinitySpoilsItsRow) {
  Case c = Plain();
  c.problem.bias = {.given = true, .rows = 50, .cols = 77};
  Sample sample = MakeSample(c);
  const auto put = [&](std::size_t i, std::size_t j, double value) {
    verify::Store(sample.bias.bytes.data(), DType::kF32, static_cast<std::int64_t>(i * 77 + j),
                  value);
  };
  put(7, 76, kInfinity);
  put(30, 0, std::numeric_limits<double>::quiet_NaN());
  put(49, 33, kInfinity);
  const Output out = Check(sample);
  const std::vector<double> o = out.O(), lse = out.Lse();
  for (std::size_t n = 0; n < o.size(); ++n) {
    const std::size_t i = n / (4 * 24) % 50;
    ASSERT_EQ(std::isnan(o[n]), i == 7 || i == 30 || i == 49) << n;
  }
  for (std::size_t n = 0; n < lse.size(); ++n) {
    const std::size_t i = n % 50;
    EXPECT_EQ(std::isfinite(lse[n]), i != 7 && i != 30 && i != 49) << n;
  }
}

TEST_P(Extremes, RowsThatAMaskHidesWhole) {
  for (const bool sinks : {false, true}) {
    Case c = Plain();
    c.problem.mask = {.given = true, .heads = 4, .rows = 50};
    c.problem.sinks = sinks;
    Sample sample = MakeSample(c);
    for (std::size_t n = 0; n < 200; ++n) sample.mask.bytes[n] = std::byte{n % 50 % 3 != 0};
    const Output out = Check(sample);
    const std::vector<double> o = out.O(), lse = out.Lse();
    for (std::size_t n = 0; n < o.size(); ++n) {
      if (n / 96 % 50 % 3 == 0) {
        ASSERT_EQ(o[n], 0) << n;
      }
    }
    for (std::size_t n = 0; n < lse.size() && !sinks; ++n) {
      if (n % 50 % 3 == 0) {
        ASSERT_EQ(lse[n], -kInfinity) << n;
      }
    }
  }
}

TEST_P(Extremes, NothingIsSeenByAnyone) {
  Case c = Plain();
  c.problem.block_map = {.given = true, .rows = 4, .cols = 3};
  c.problem.block_rows = 16;
  c.problem.block_cols = 32;
  Sample sample = MakeSample(c);
  std::fill(sample.block_map.bytes.begin(), sample.block_map.bytes.end(), std::byte{0});
  const Output out = Check(sample);
  for (const double x : out.O()) ASSERT_EQ(x, 0);
}

TEST_P(Extremes, WindowsBeyondTheKeysAreNone) {
  const Sample plain = MakeSample(Plain());
  const Output none = RunOn(engine(), plain);
  for (const std::int64_t far :
       {std::int64_t{126}, std::int64_t{1} << 31, std::int64_t{1} << 41, INT64_MAX}) {
    Sample sample = plain;
    sample.problem.window_left = sample.problem.window_right = far;
    ExpectSame(none, RunOn(engine(), sample), std::to_string(far));
    sample.problem.prefix = far;
    sample.problem.window_left = 0;
    ExpectSame(none, RunOn(engine(), sample), "prefix " + std::to_string(far));
    sample.problem.prefix = 0;
    sample.problem.window_left = -1;
    sample.problem.chunk = far;
    sample.problem.align = Align::kTopLeft;
    ExpectSame(none, RunOn(engine(), sample), "chunk " + std::to_string(far));
  }
}

TEST_P(Extremes, OffsetsFarFromTheKeys) {
  for (const std::int64_t offset : {std::int64_t{-1} << 40, std::int64_t{-2147483649},
                                    std::int64_t{2147483648}, std::int64_t{1} << 40}) {
    SCOPED_TRACE(offset);
    Case c = Plain();
    c.problem.causal = true;
    c.problem.align = Align::kOffset;
    c.problem.query_offset = offset;
    Check(MakeSample(c));
    c.problem.prefix = 3;
    Check(MakeSample(c));
  }
}

// p = 1, so o is v to the bit; lse the score.
TEST_P(Extremes, SequencesOfOneToken) {
  Case c = Plain();
  Problem& p = c.problem;
  p.batch = 70;
  p.q_len = p.k_len = 1;
  p.k_heads = 4;
  p.ragged = p.causal = true;
  p.total_q = p.total_k = 70;
  Sample sample = MakeSample(c);
  sample.cu_seqlens_q.clear();
  for (std::int32_t n = 0; n <= 70; ++n) sample.cu_seqlens_q.push_back(n);
  sample.cu_seqlens_k = sample.cu_seqlens_q;
  const Output out = Check(sample);
  const std::vector<double> o = out.O();
  for (std::size_t n = 0; n < o.size(); ++n) {
    ASSERT_EQ(o[n], verify::Load(sample.v_memory.data(), p.dtype, static_cast<std::int64_t>(n)))
        << n;
  }
}

TEST_P(Extremes, DropoutOfNothingIsNone) {
  Case c = Plain();
  const Output none = RunOn(engine(), MakeSample(c));
  c.problem.seed = 5;
  c.problem.offset = 6;
  ExpectSame(none, RunOn(engine(), MakeSample(c)), "p = 0");
}

TEST_P(Extremes, DropoutOfNearlyAll) {
  Case c = Plain();
  c.problem.dropout_p = 0.999;
  c.problem.seed = 0xFFFFFFFFFFFFFFFF;
  c.problem.offset = 0xFFFFFFFF00000001;
  c.problem.want_probs = true;
  const Output out = Check(MakeSample(c));
  int kept = 0;
  for (const double p : out.Probs()) kept += !std::signbit(p) && p > 0;
  EXPECT_GT(kept, 5);  // 31 are expected of 30800
  EXPECT_LT(kept, 80);
}

// Address space without memory behind it, but for the pages that are touched.
class Sparse {
 public:
  explicit Sparse(std::size_t bytes) : bytes_(bytes) {
    map_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                -1, 0);
    if (map_ == MAP_FAILED) map_ = nullptr;
  }
  ~Sparse() {
    if (map_) munmap(map_, bytes_);
  }
  Sparse(const Sparse&) = delete;
  Sparse& operator=(const Sparse&) = delete;
  std::byte* data() { return static_cast<std::byte*>(map_); }

 private:
  std::size_t bytes_;
  void* map_ = nullptr;
};

// Three rows of k, v, q and o, each more than 2^31 elements behind the other; so the rows of bias and
// mask. The same bits as from tensors that lie close together.
TEST_P(Extremes, OffsetsBeyondTwoToThe31) {
  Case c = Plain();
  Problem& p = c.problem;
  p.batch = 1;
  p.q_len = p.k_len = 3;
  p.q_heads = 2;
  p.k_heads = 1;
  p.bias = {.given = true, .rows = 3, .cols = 3};
  p.mask = p.bias;
  const Sample close = MakeSample(c);
  const Output want = RunOn(engine(), close);

  const std::int64_t far = (std::int64_t{1} << 31) + 16, size = SizeOf(p.dtype);
  Sparse q(static_cast<std::size_t>((2 * far + 100) * 4)),
      k(static_cast<std::size_t>((2 * far + 100) * 4)),
      v(static_cast<std::size_t>((2 * far + 100) * 4)),
      o(static_cast<std::size_t>((2 * far + 100) * 4)),
      bias(static_cast<std::size_t>((2 * far + 100) * 4)),
      mask(static_cast<std::size_t>(2 * far + 100));
  if (!q.data() || !k.data() || !v.data() || !o.data() || !bias.data() || !mask.data()) {
    GTEST_SKIP() << "no address space of 34 GB per tensor";
  }
  const auto spread = [&](const void* from, std::int64_t row_bytes, std::int64_t step_bytes,
                          std::byte* to) {
    for (std::int64_t row = 0; row < 3; ++row) {
      std::memcpy(to + row * step_bytes, static_cast<const std::byte*>(from) + row * row_bytes,
                  static_cast<std::size_t>(row_bytes));
    }
  };
  spread(close.q_memory.data(), 2 * p.dim * size, far * size, q.data());
  spread(close.k_memory.data(), p.dim * size, far * size, k.data());
  spread(close.v_memory.data(), p.dim_v * size, far * size, v.data());
  spread(close.bias.data(), 3 * 4, far * 4, bias.data());
  spread(close.mask.data(), 3, far, mask.data());
  Problem sparse = close.problem;
  sparse.q_strides.row = sparse.k_strides.row = sparse.v_strides.row = sparse.o_strides.row = far;
  sparse.bias.stride_row = sparse.mask.stride_row = far;
  std::vector<float> lse(6, 77);
  Buffers b = {.q = q.data(), .k = k.data(), .v = v.data(), .o = o.data(), .lse = lse.data()};
  b.bias = bias.data();
  b.mask = reinterpret_cast<const std::uint8_t*>(mask.data());
  const Status status = Forward(sparse, b, {.backend = engine().backend, .isa = engine().isa});
  ASSERT_TRUE(status.ok()) << status.message();
  const std::vector<double> expected = want.O();
  for (std::int64_t n = 0; n < 3 * 2 * p.dim_v; ++n) {
    const std::int64_t row = n / (2 * p.dim_v), column = n % (2 * p.dim_v);
    ASSERT_EQ(verify::Load(o.data(), p.dtype, row * far + column),
              expected[static_cast<std::size_t>(n)])
        << n;
  }
  ExpectSameBits(std::vector<double>(lse.begin(), lse.end()), want.Lse(), "lse");
}

// The same for the slots and rows of a cache, the append included.
TEST_P(Extremes, CacheBeyondTwoToThe31) {
  Choice choice(kAxisCount, 0);
  choice[kCache] = choice[kAppend] = 1;
  choice[kLengths] = 3;
  choice[kDType] = static_cast<int>(std::get<1>(GetParam()));
  const Sample close = MakeSample(CaseOf(choice, Scale::kSmall, 3));
  const Output want = RunOn(engine(), close);
  const Problem normal = want.problem;
  const std::int64_t far = (std::int64_t{1} << 31) + 32, size = SizeOf(normal.dtype);
  const std::int64_t slots = normal.cache.slots, slot = normal.k_strides.batch;
  Sparse k(static_cast<std::size_t>(slots * far * 4)), v(static_cast<std::size_t>(slots * far * 4));
  if (!k.data() || !v.data()) GTEST_SKIP() << "no address space of 34 GB per tensor";
  for (std::int64_t s = 0; s < slots; ++s) {
    const auto bytes = static_cast<std::size_t>(slot * size);
    std::memcpy(k.data() + s * far * size, close.k_memory.data() + s * slot * size, bytes);
    std::memcpy(v.data() + s * far * size, close.v_memory.data() + s * slot * size, bytes);
  }
  Problem sparse = close.problem;
  sparse.k_strides.batch = sparse.v_strides.batch = far;
  Buffers b = close.Inputs();
  b.k_cache = k.data();
  b.v_cache = v.data();
  verify::Guarded o(want.o.view()), lse(want.lse.view());
  b.o = o.data();
  b.lse = static_cast<float*>(lse.data());
  const Status status = Forward(sparse, b, {.backend = engine().backend, .isa = engine().isa});
  ASSERT_TRUE(status.ok()) << status.message();
  ExpectSameBits(o.Values().values, want.O(), "o");
  ExpectSameBits(lse.Values().values, want.Lse(), "lse");
}

INSTANTIATE_TEST_SUITE_P(Engines, Extremes,
                         testing::Combine(testing::ValuesIn(Engines()),
                                          testing::Values(DType::kF32, DType::kBF16, DType::kF16)),
                         [](const auto& test) {
                           return std::get<0>(test.param).name() + "_" +
                                  Name(std::get<1>(test.param));
                         });

}  // namespace
}  // namespace heed::testing_options
