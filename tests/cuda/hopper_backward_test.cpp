// hopper_backward_test.cpp: the Hopper backward in the emulator, under every schedule, against float64, and
// that each wait and fence of it is missed where it is left out.
#include "hopper_backward.h"

#include <cmath>
#include <random>

#include "emu/emu_testing.h"

namespace heed::cuda::hopper {
namespace {

struct Sizes {
  int heads = 1, sq = 128, sk = 128;
  bool causal = false;
};

template <class C>
struct Problem {
  using T = typename C::Element;
  static constexpr int kDim = C::kDim;
  Sizes n;
  int tiles;
  std::vector<T> q, k, v, dout, dk, dv;
  std::vector<float> lse2, delta, dq;
  std::vector<double> want_dq, want_dk, want_dv;
  BackwardCall call;

  explicit Problem(const Sizes& sizes) : n(sizes), tiles((n.sq + C::kRows - 1) / C::kRows) {
    std::mt19937 random(9);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<T>& x, int rows) {
      x.resize(size_t(rows * n.heads * kDim));
      for (T& e : x) e = ptx::FromFloat<T>(normal(random));
    };
    fill(q, n.sq);
    fill(k, n.sk);
    fill(v, n.sk);
    fill(dout, n.sq);
    dk.resize(k.size());
    dv.resize(k.size());
    lse2.assign(size_t(n.heads * tiles * C::kRows), INFINITY);
    delta.assign(lse2.size(), 0);
    dq.assign(lse2.size() * kDim, 0);
    Solve();
    call.q = Map(q, n.sq, C::kRows);
    call.k = Map(k, n.sk, C::kKeys);
    call.v = Map(v, n.sk, C::kKeys);
    call.dout = Map(dout, n.sq, C::kRows);
    call.lse2 = lse2.data();
    call.delta = delta.data();
    call.dq = dq.data();
    call.dk = dk.data();
    call.dv = dv.data();
    call.heads = n.heads;
    call.sq = n.sq;
    call.sk = n.sk;
    call.scale = float(kScale);
    call.scale_log2 = float(kScale * 1.4426950408889634);
    call.causal = n.causal;
  }

  static constexpr double kScale = 0.08838834764831845;  // 1 / sqrt(128)

  size_t At(int row, int head, int d) const { return size_t((row * n.heads + head) * kDim + d); }
  double Dot(const std::vector<T>& x, int i, const std::vector<T>& y, int j, int h) const {
    double sum = 0;
    for (int d = 0; d < kDim; ++d) {
      sum += double(ptx::ToFloat(x[At(i, h, d)])) * double(ptx::ToFloat(y[At(j, h, d)]));
    }
    return sum;
  }

  // In float64: lse and delta for the kernel, and what it should give.
  void Solve() {
    want_dq.assign(q.size(), 0);
    want_dk.assign(k.size(), 0);
    want_dv.assign(k.size(), 0);
    std::vector<double> p(size_t(n.sk)), dp(size_t(n.sk));
    for (int h = 0; h < n.heads; ++h) {
      for (int i = 0; i < n.sq; ++i) {
        const int keys = n.causal ? std::min(n.sk, std::max(0, i + n.sk - n.sq + 1)) : n.sk;
        double sum = 0, mean = 0;
        for (int j = 0; j < keys; ++j) {
          p[size_t(j)] = std::exp(Dot(q, i, k, j, h) * kScale);
          dp[size_t(j)] = Dot(dout, i, v, j, h);
          sum += p[size_t(j)];
        }
        for (int j = 0; j < keys; ++j) mean += p[size_t(j)] / sum * dp[size_t(j)];
        if (keys > 0) {
          const size_t at = size_t(h * tiles * C::kRows + i);
          lse2[at] = float(std::log2(sum));
          delta[at] = float(mean);
        }
        for (int j = 0; j < keys; ++j) {
          const double pij = p[size_t(j)] / sum, ds = pij * (dp[size_t(j)] - mean) * kScale;
          for (int d = 0; d < kDim; ++d) {
            want_dv[At(j, h, d)] += pij * double(ptx::ToFloat(dout[At(i, h, d)]));
            want_dk[At(j, h, d)] += ds * double(ptx::ToFloat(q[At(i, h, d)]));
            want_dq[At(i, h, d)] += ds * double(ptx::ToFloat(k[At(j, h, d)]));
          }
        }
      }
    }
  }

  ptx::TensorMap Map(std::vector<T>& x, int rows, int box) const {
    const uint64_t d = kDim, row = uint64_t(n.heads) * d * 2;
    return {x.data(),
            4,
            2,
            {d, uint64_t(rows), uint64_t(n.heads), 1},
            {2, row, d * 2, row * uint64_t(rows)},
            {64, uint32_t(box), 1, 1},
            true};
  }

  std::string Run(const emu::Config& schedule) {
    emu::Memory memory;
    memory.Input("q", q);
    memory.Input("k", k);
    memory.Input("v", v);
    memory.Input("dout", dout);
    memory.Input("lse", lse2);
    memory.Input("delta", delta);
    memory.Shared("dq", dq);
    memory.Output("dk", dk);
    memory.Output("dv", dv);
    emu::Config c = schedule;
    c.grid[0] = (n.sk + C::kKeys - 1) / C::kKeys;
    c.grid[1] = n.heads;
    c.threads = C::kThreads;
    c.shared_bytes = C::kSharedBytes;
    c.arch = 900;
    c.registers_at_entry = 168;
    return emu::ErrorOf(c, memory, [&] { Backward<C>(call); });
  }

  // |got - want| / |want| of dq, dk and dv, the largest; NaN counts as infinite.
  double Error() const {
    const auto relative = [](const std::vector<double>& want, auto&& got) {
      double difference = 0, size = 0;
      for (size_t i = 0; i < want.size(); ++i) {
        const double e = double(got(i)) - want[i];
        difference += e * e;
        size += want[i] * want[i];
      }
      const double error = std::sqrt(difference / size);
      return std::isnan(error) ? INFINITY : error;
    };
    const auto dq_at = [&](size_t i) {
      const int d = int(i) % kDim, h = int(i) / kDim % n.heads, row = int(i) / kDim / n.heads;
      const int block = (h * tiles + row / C::kRows) * C::kRows * kDim;
      return double(dq[size_t(block + DqAt(row % C::kRows, d))]) * kScale;
    };
    return std::max({relative(want_dq, dq_at),
                     relative(want_dk, [&](size_t i) { return ptx::ToFloat(dk[i]); }),
                     relative(want_dv, [&](size_t i) { return ptx::ToFloat(dv[i]); })});
  }
};

// P and dS are rounded to T, and so is what comes out: each by half an ulp at most.
template <class T>
constexpr double kBound = std::is_same_v<T, ptx::F16> ? 2 * 0x1p-12 : 2 * 0x1p-9;

template <class T>
void Check(const Sizes& sizes) {
  for (const emu::Config& schedule : emu::Schedules(emu::Config{}, 5)) {
    Problem<BackwardConfig<T>> p(sizes);
    ASSERT_EQ(p.Run(schedule), "") << "order " << int(schedule.order);
    EXPECT_LE(p.Error(), kBound<T>) << "order " << int(schedule.order);
  }
}

using ptx::Bf16;
using ptx::F16;

TEST(HopperBackward, Causal) { Check<Bf16>({.sq = 256, .sk = 256, .causal = true}); }
TEST(HopperBackward, SizesThatFillNoTile) { Check<Bf16>({.heads = 2, .sq = 100, .sk = 150}); }
TEST(HopperBackward, F16) { Check<F16>({.sq = 192, .sk = 128, .causal = true}); }
// Of the first ones, whole tiles are skipped.
TEST(HopperBackward, QueriesThatSeeNothing) { Check<F16>({.sq = 200, .sk = 70, .causal = true}); }

template <Step kWithout>
struct Left {
  static constexpr Step kStep = kWithout;
};
template <class L>
class LeftOut : public testing::Test {};
using Steps = testing::Types<Left<Step::wait_keys>, Left<Step::wait_q>, Left<Step::wait_dout>,
                             Left<Step::wait_room>, Left<Step::scores_done>,
                             Left<Step::products_done>, Left<Step::fence_ds>,
                             Left<Step::ds_of_both>, Left<Step::dq_done>, Left<Step::dq_room>,
                             Left<Step::fence_dq>, Left<Step::dq_read>, Left<Step::release_dout>>;
TYPED_TEST_SUITE(LeftOut, Steps);

constexpr Sizes kLeftOut = {.sq = 256, .sk = 128};

TYPED_TEST(LeftOut, IsMissed) {
  for (const emu::Config& schedule : emu::Schedules(emu::Config{}, 5)) {
    Problem<BackwardConfig<F16, TypeParam::kStep>> p(kLeftOut);
    if (p.Run(schedule).empty()) {
      EXPECT_GT(p.Error(), kBound<F16>) << "order " << int(schedule.order);
    }
  }
}
TEST(NothingLeftOut, IsClean) { Check<F16>(kLeftOut); }

}  // namespace
}  // namespace heed::cuda::hopper
