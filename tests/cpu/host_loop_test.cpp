// host_loop_test.cpp: SetParallelFor puts a host program's loop in place of the pool, and no result
// depends on who runs the items. Not here: the pool itself (threads_test.cpp).
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "cover.h"
#include "heed/heed.h"

namespace heed::cpu {
namespace {

// A host's loop for as long as this lives.
struct Hosted {
  Hosted(ParallelFor loop, void* host) { SetParallelFor(loop, host); }
  ~Hosted() { SetParallelFor(nullptr, nullptr); }
};

struct Calls {
  std::atomic<int> loops{0};
  std::atomic<std::int64_t> items{0};
};
void Count(void* host, std::int64_t items, int, Body body, void* ctx) {
  static_cast<Calls*>(host)->loops++;
  static_cast<Calls*>(host)->items += items;
  body(ctx, 0, items, 0);
}
void OneByOneBackwards(void*, std::int64_t items, int threads, Body body, void* ctx) {
  for (std::int64_t i = items; i-- > 0;) body(ctx, i, i + 1, static_cast<int>(i % threads));
}
void OwnThreads(void*, std::int64_t items, int threads, Body body, void* ctx) {
  std::vector<std::thread> all;
  for (int t = 0; t < threads; t++)
    all.emplace_back([=] {
      for (std::int64_t i = t; i < items; i += threads) body(ctx, i, i + 1, t);
    });
  for (std::thread& t : all) t.join();
}

TEST(SetParallelFor, ReplacesThePoolUntilNull) {
  Calls calls;
  {
    const Hosted hosted(Count, &calls);
    EXPECT_TRUE(Covers({100, 4, 8, true}));
    EXPECT_TRUE(Covers({50, 2, 8, true}));
  }
  EXPECT_EQ(calls.loops.load(), 2);
  EXPECT_EQ(calls.items.load(), 150);
  EXPECT_TRUE(Covers({100, 4, 8, true}));
  EXPECT_EQ(calls.loops.load(), 2) << "null puts the pool back";
}

TEST(SetParallelFor, TakesEveryKindOfLoop) {
  for (const ParallelFor loop : {OneByOneBackwards, OwnThreads}) {
    const Hosted hosted(loop, nullptr);
    for (const std::int64_t items : {0, 1, 2, 77})
      for (const int threads : {1, 2, 5}) EXPECT_TRUE(Covers({items, threads, 4, true}));
  }
}

TEST(SetParallelFor, MayBeCalledWhileLoopsRun) {
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) {
      SetParallelFor(OneByOneBackwards, nullptr);
      SetParallelFor(nullptr, nullptr);
    }
  });
  for (int i = 0; i < 500; i++) EXPECT_TRUE(Covers({20, 3, 2, true}));
  stop = true;
  other.join();
}

// One problem with its data; several tiles of rows, blocks of keys and heads, so that there is
// something to share.
struct Example {
  Problem problem{.batch = 2,
                  .q_len = 150,
                  .k_len = 310,
                  .q_heads = 4,
                  .k_heads = 2,
                  .dim = 40,
                  .causal = true,
                  .want_lse = true};
  std::vector<float> q = Numbers(2 * 150 * 4 * 40, 1), k = Numbers(2 * 310 * 2 * 40, 2),
                     v = Numbers(2 * 310 * 2 * 40, 3);

  static std::vector<float> Numbers(std::size_t n, unsigned seed) {
    std::vector<float> x(n);
    for (float& e : x) {
      seed = seed * 1664525u + 1013904223u;
      e = static_cast<float>(seed >> 8) * 0x1p-23f - 1;
    }
    return x;
  }
  // o and then lse, by a workspace of this call's own.
  std::vector<float> Result(const Plan& plan) const {
    std::vector<float> out(q.size() + 2 * 4 * 150);
    std::vector<char> workspace(static_cast<std::size_t>(plan.workspace_bytes()));
    const Status status = Run(plan, {.q = q.data(),
                                     .k = k.data(),
                                     .v = v.data(),
                                     .o = out.data(),
                                     .lse = out.data() + q.size(),
                                     .workspace = workspace});
    EXPECT_TRUE(status) << status.message();
    return out;
  }
  Plan PlanFor(int threads) const {
    const auto plan = MakePlan(problem, {.backend = "cpu", .threads = threads});
    EXPECT_TRUE(plan) << plan.status().message();
    return *plan;
  }
};

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof a[0]) == 0;
}

TEST(Results, DoNotDependOnWhoRunsTheItems) {
  const Example example;
  const std::vector<float> one = example.Result(example.PlanFor(1));
  for (const int threads : {2, 3, 8}) {
    const Plan plan = example.PlanFor(threads);
    EXPECT_TRUE(SameBits(one, example.Result(plan))) << threads << " threads";
    Calls calls;
    {
      const Hosted hosted(Count, &calls);
      EXPECT_TRUE(SameBits(one, example.Result(plan))) << threads << ", a host's loop";
    }
    EXPECT_EQ(calls.loops.load(), 1);
    for (const ParallelFor loop : {OneByOneBackwards, OwnThreads}) {
      const Hosted hosted(loop, nullptr);
      EXPECT_TRUE(SameBits(one, example.Result(plan))) << threads << ", a host's loop";
    }
  }
}

TEST(Results, DoNotDependOnOtherCallersOfTheSamePlan) {
  const Example example;
  const Plan plan = example.PlanFor(3);
  const std::vector<float> alone = example.Result(plan);
  std::atomic<int> different{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; c++)
    callers.emplace_back([&] {
      for (int i = 0; i < 3; i++)
        if (!SameBits(alone, example.Result(plan))) different++;
    });
  for (std::thread& t : callers) t.join();
  EXPECT_EQ(different.load(), 0);
}

}  // namespace
}  // namespace heed::cpu
