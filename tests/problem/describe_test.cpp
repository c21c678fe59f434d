// describe_test.cpp: the lines of Describe and the facts of Info. Not here: counting
// (geometry_test.cpp).
#include <gtest/gtest.h>

#include <memory>

#include "plan_testing.h"

namespace heed {
namespace {

struct Described : testing::Test {
  FakeBackend fast, exact;
  std::vector<Candidate> all;

  void SetUp() override {
    fast.its_name = "fast";
    fast.isas = {"wide"};
    exact.its_name = "exact";
    all = {{&fast, true, true}, {&exact, false, false}};
  }

  Plan Make(const Problem& p, const PlanOptions& options = {}) {
    const auto impl = std::make_shared<Plan::Impl>();
    const Status status = Decide(p, options, all, impl.get());
    EXPECT_TRUE(status) << status.message();
    return Plan(impl);
  }

  // The line that begins with this word, without it.
  std::string Line(const Plan& plan, const std::string& word) {
    const std::string text = plan.Describe();
    std::size_t at = 0;
    while (at < text.size()) {
      const std::size_t end = text.find('\n', at);
      if (text.compare(at, word.size(), word) == 0) return text.substr(at + 10, end - at - 10);
      at = end + 1;
    }
    return "no line " + word;
  }
};

Problem Causal() {
  return {.batch = 1, .q_len = 64, .k_len = 64, .q_heads = 2, .dim = 32, .causal = true};
}

TEST_F(Described, Lines) {
  fast.workspace = 1234567;
  exact.refusal = "it has a reason";
  const Plan plan = Make(Causal(), {.threads = 1});
  EXPECT_EQ(plan.Describe(),
            "plan      fast · wide · forward · fake · 1 thread\n"
            "tiles     4 × 8 keys in blocks of 8 × 32; 2 items; 56 % of 256 tiles computed (44 % "
            "full, 13 % edge), 44 % skipped\n"
            "work      532 kFLOP of 1049 (causal); memory 49.2 kB read, 16.4 kB written; standard "
            "attention would move 197 kB\n"
            "limit     5.00 MB between the caches; workspace 1.23 MB = so much\n"
            "refused   exact: it has a reason\n");
}

TEST_F(Described, Info) {
  fast.workspace = 77;
  const PlanInfo info = Make(Causal(), {.threads = 3}).Info();
  EXPECT_EQ(info.backend, "fast");
  EXPECT_EQ(info.isa, "wide");
  EXPECT_EQ(info.kernel, "forward · fake");
  EXPECT_EQ(info.threads, 3);
  EXPECT_EQ(info.tile_rows, 4);
  EXPECT_EQ(info.tile_keys, 8);
  EXPECT_EQ(info.block_rows, 8);
  EXPECT_EQ(info.block_keys, 32);
  EXPECT_EQ(info.items, 2);
  EXPECT_EQ(info.tiles_full, 2 * 56);
  EXPECT_EQ(info.tiles_edge, 2 * 16);
  EXPECT_EQ(info.tiles_empty, 2 * 56);
  EXPECT_EQ(info.visible_pairs, 2 * 64 * 65 / 2);
  EXPECT_EQ(info.flops, info.visible_pairs * 128);
  EXPECT_EQ(info.dense_flops, 2 * 64 * 64 * 128);
  EXPECT_EQ(info.bytes_min, 4 * 4 * 64 * 2 * 32);
  EXPECT_EQ(info.bytes_moved, 5e6);
  EXPECT_EQ(info.bytes_standard, info.bytes_min + 4 * 4 * 2 * 64 * 64);
  EXPECT_EQ(info.workspace_bytes, 77);
  EXPECT_EQ(info.workspace_formula, "so much");
  EXPECT_TRUE(info.refused.empty());
  ASSERT_EQ(info.besides.size(), 1u);
  EXPECT_EQ(info.besides[0].backend, "exact");
  EXPECT_EQ(info.besides[0].reason, "would serve this if asked by name");
}

TEST_F(Described, OtherBackends) {
  EXPECT_EQ(Line(Make(Causal(), {.backend = "exact"}), "besides"), "fast: would serve this, too");
  fast.refusal = "it cannot";
  EXPECT_EQ(Line(Make(Causal(), {.backend = "exact"}), "refused"), "fast: it cannot");
}

TEST_F(Described, OneAndMany) {
  EXPECT_EQ(Line(Make(Causal(), {.threads = 2}), "plan"),
            "fast · wide · forward · fake · 2 threads");
  const Problem one = {.q_len = 1, .k_len = 1, .dim = 1};
  EXPECT_EQ(
      Line(Make(one), "tiles"),
      "4 × 8 keys in blocks of 8 × 32; 1 item; 100 % of 1 tile computed (100 % full, 0 % edge)");
  EXPECT_EQ(Line(Make(one), "work"),
            "4 FLOP; memory 12 B read, 4 B written; standard attention would move 32 B");
  EXPECT_EQ(Line(Make(one), "limit"), "5.00 MB between the caches; workspace 0 B = so much");
}

TEST_F(Described, Nothing) {
  EXPECT_EQ(Line(Make({.batch = 0, .q_len = 4, .k_len = 4, .dim = 8}), "tiles"),
            "4 × 8 keys in blocks of 8 × 32; 0 items; nothing to compute");
}

TEST_F(Described, SmallSharesAreNotRoundedAway) {
  const Problem p = {.q_len = 4096, .k_len = 4096, .dim = 8, .causal = true, .window_left = 0};
  EXPECT_EQ(
      Line(Make(p), "tiles"),
      "4 × 8 keys in blocks of 8 × 32; 1 item; < 1 % of 524288 tiles computed (0 % full, < 1 % "
      "edge), > 99 % skipped");
}

TEST_F(Described, WhatHidesAndWhatIsNotKnown) {
  Problem p = Causal();
  p.window_left = 7;
  p.chunk = 32;
  p.prefix = 2;
  p.key_lengths = true;
  p.mask = {.given = true};
  const std::string line = Line(Make(p), "work");
  EXPECT_NE(line.find(" (causal, window, chunk, prefix); "), std::string::npos) << line;
  EXPECT_NE(line.find("; geometry only, without what is in mask, key_lengths"), std::string::npos)
      << line;
}

TEST_F(Described, LongSequencesTakeNoLongTime) {
  const std::int64_t n = std::int64_t{1} << 24;
  const PlanInfo info = Make({.q_len = n, .k_len = n, .dim = 64, .causal = true}).Info();
  EXPECT_EQ(info.visible_pairs, static_cast<double>(n) * static_cast<double>(n + 1) / 2);
}

}  // namespace
}  // namespace heed
