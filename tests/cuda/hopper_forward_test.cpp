// hopper_forward_test.cpp: the Hopper forward in the emulator, under every schedule, against float64, and
// that each wait and fence of it is missed where it is left out.
#include "hopper_forward.h"

#include <cmath>
#include <random>

#include "emu/emu_testing.h"

namespace heed::cuda::hopper {
namespace {

struct Sizes {
  int batch = 1, heads = 1, group = 1, sq = 128, sk = 256;
  bool causal = false;
};

template <class C>
struct Problem {
  using T = typename C::Element;
  Sizes n;
  std::vector<T> q, k, v, o;
  std::vector<float> lse;
  Call call;

  explicit Problem(const Sizes& sizes) : n(sizes) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<T>& x, int rows, int heads) {
      x.resize(size_t(n.batch * rows * heads * C::kDim));
      for (T& e : x) e = ptx::FromFloat<T>(normal(random));
    };
    const int kv_heads = n.heads / n.group;
    fill(q, n.sq, n.heads);
    fill(k, n.sk, kv_heads);
    fill(v, n.sk, kv_heads);
    o.resize(q.size());
    lse.resize(size_t(n.batch * n.heads * n.sq));
    call.q = Map(q, n.sq, n.heads, C::kRows);
    call.k = Map(k, n.sk, kv_heads, C::kKeys);
    call.v = Map(v, n.sk, kv_heads, C::kKeys);
    call.o = o.data();
    call.lse = lse.data();
    call.heads = n.heads;
    call.group = n.group;
    call.sq = n.sq;
    call.sk = n.sk;
    call.causal = n.causal;
    call.scale_log2 = float(Scale() * 1.4426950408889634);
  }

  static double Scale() { return 1 / std::sqrt(double(C::kDim)); }

  ptx::TensorMap Map(std::vector<T>& x, int rows, int heads, int box) const {
    const uint64_t d = C::kDim, row = uint64_t(heads) * d * 2;
    return {x.data(),
            4,
            2,
            {d, uint64_t(rows), uint64_t(heads), uint64_t(n.batch)},
            {2, row, d * 2, row * uint64_t(rows)},
            {64, uint32_t(box), 1, 1},
            true};
  }

  std::string Run(const emu::Config& schedule, bool outputs = true) {
    emu::Memory memory;
    memory.Input("q", q);
    memory.Input("k", k);
    memory.Input("v", v);
    if (outputs) {
      memory.Output("o", o);
      memory.Output("lse", lse);
    } else {
      memory.Shared("o", o);
      memory.Shared("lse", lse);
    }
    emu::Config c = schedule;
    c.grid[0] = (n.sq + C::kRows - 1) / C::kRows;
    c.grid[1] = n.heads;
    c.grid[2] = n.batch;
    c.threads = C::kThreads;
    c.shared_bytes = C::kSharedBytes;
    c.arch = 900;
    c.registers_at_entry = 168;  // what three warpgroups leave each thread
    return emu::ErrorOf(c, memory, [&] { Forward<C>(call); });
  }

  // Largest errors of o and lse against float64; NaN counts as infinite.
  std::pair<double, double> Errors() const {
    const auto at = [](const std::vector<T>& x, int row, int heads, int head, int d) {
      return double(ptx::ToFloat(x[size_t((row * heads + head) * C::kDim + d)]));
    };
    double worst_o = 0, worst_lse = 0;
    const auto add = [](double got, double want, double* worst) {
      const double error = got == want ? 0 : std::fabs(got - want);
      *worst = error <= *worst ? *worst : std::isnan(error) ? INFINITY : error;
    };
    const int kv_heads = n.heads / n.group;
    std::vector<double> s(size_t(n.sk), 0);
    for (int b = 0; b < n.batch; ++b) {
      for (int h = 0; h < n.heads; ++h) {
        for (int i = 0; i < n.sq; ++i) {
          const int keys = n.causal ? std::min(n.sk, std::max(0, i + n.sk - n.sq + 1)) : n.sk;
          double sum = 0, out[C::kDim] = {};
          for (int j = 0; j < keys; ++j) {
            double dot = 0;
            for (int d = 0; d < C::kDim; ++d) {
              dot += at(q, b * n.sq + i, n.heads, h, d) *
                     at(k, b * n.sk + j, kv_heads, h / n.group, d);
            }
            const double p = std::exp(dot * Scale());
            sum += p;
            for (int d = 0; d < C::kDim; ++d) {
              out[d] += p * at(v, b * n.sk + j, kv_heads, h / n.group, d);
            }
          }
          for (int d = 0; d < C::kDim; ++d) {
            add(at(o, b * n.sq + i, n.heads, h, d), sum > 0 ? out[d] / sum : 0, &worst_o);
          }
          add(double(lse[size_t((b * n.heads + h) * n.sq + i)]), std::log(sum), &worst_lse);
        }
      }
    }
    return {worst_o, worst_lse};
  }
};

// o of up to 4, rounded once to T, from P rounded to T: 2^-11 or 2^-8 each way. lse: sums of products in
// f32, below 10 in size.
template <class C>
void Check(const Sizes& sizes) {
  constexpr double kOutput = std::is_same_v<typename C::Element, ptx::F16> ? 4e-3 : 3.2e-2;
  std::vector<uint16_t> first;
  for (const emu::Config& schedule : emu::Schedules(emu::Config{}, 11)) {
    Problem<C> p(sizes);
    ASSERT_EQ(p.Run(schedule), "") << "order " << int(schedule.order);
    const auto [o, lse] = p.Errors();
    EXPECT_LE(o, kOutput) << "order " << int(schedule.order);
    EXPECT_LE(lse, 1e-5) << "order " << int(schedule.order);
    std::vector<uint16_t> bits;
    for (const auto x : p.o) bits.push_back(x.bits);
    if (first.empty()) first = bits;
    EXPECT_TRUE(bits == first) << "other bits in order " << int(schedule.order);
  }
}

using ptx::Bf16;
using ptx::F16;

TEST(HopperForward, Causal) {
  Check<Config<F16, 64, 128, false>>(
      {.heads = 2, .group = 2, .sq = 256, .sk = 256, .causal = true});
}
TEST(HopperForward, TakingTurns) {
  Check<Config<Bf16, 128, 64, true>>({.sk = 320});
  Check<Config<Bf16, 128, 64, true>>({.batch = 2, .sq = 70, .sk = 130, .causal = true});
}
TEST(HopperForward, SizesThatFillNoTile) {
  Check<Config<F16, 64, 128, false>>({.batch = 2, .heads = 2, .sq = 133, .sk = 77});
}
// The first rows see nothing, and the first block no tile at all.
TEST(HopperForward, MoreQueriesThanKeys) {
  Check<Config<F16, 64, 128, false>>({.sq = 300, .sk = 60, .causal = true});
}

// What is left out is reported by the emulator, or makes the result wrong, under every schedule.
template <Part kWithout>
struct Left {
  static constexpr Part kPart = kWithout;
};
template <class L>
class LeftOut : public testing::Test {};
using Parts = testing::Types<Left<Part::wait_q>, Left<Part::wait_k>, Left<Part::wait_v>,
                             Left<Part::wait_room>, Left<Part::release_k>, Left<Part::scores_done>,
                             Left<Part::output_done>, Left<Part::fence>, Left<Part::expect>,
                             Left<Part::shift_of_edge>>;
TYPED_TEST_SUITE(LeftOut, Parts);

constexpr Sizes kLeftOut = {.sq = 128, .sk = 384, .causal = true};

TYPED_TEST(LeftOut, IsMissed) {
  for (const emu::Config& schedule : emu::Schedules(emu::Config{}, 11)) {
    Problem<Config<F16, 64, 64, true, TypeParam::kPart>> p(kLeftOut);
    const std::string report = p.Run(schedule, false);
    if (report.empty()) {
      EXPECT_GT(p.Errors().first, 4e-3) << "order " << int(schedule.order);
    }
  }
}
TEST(NothingLeftOut, IsClean) {
  Problem<Config<F16, 64, 64, true>> p(kLeftOut);
  EXPECT_EQ(p.Run(emu::Schedules(emu::Config{}, 11).front(), false), "");
  EXPECT_LE(p.Errors().first, 4e-3);
}

}  // namespace
}  // namespace heed::cuda::hopper
