// split_test.cpp: few queries against more keys than one piece takes: with every option, against
// float64; the same bits for any number of threads and any neighbours. Not here: short sequences
// (pairwise_test.cpp).
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "options_testing.h"

namespace heed::testing_options {
namespace {

using cases::Case;

Case Plain(const std::string& name, DType dtype) {
  Case c;
  c.name = name;
  Problem& p = c.problem;
  p.dtype = dtype;
  p.batch = 2;
  p.q_heads = 4;
  p.k_heads = 2;
  p.q_len = 2;
  p.k_len = 2500;
  p.dim = 24;
  p.dim_v = 20;
  p.want_lse = true;
  return c;
}

Broadcast Shape(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
  return {.given = true, .batch = b, .heads = h, .rows = i, .cols = j};
}

void SetCache(std::int64_t page, Problem* p) {
  Cache& c = p->cache;
  c.given = true;
  c.rows = page > 0 ? page : 2600;
  c.blocks = page > 0 ? (2600 + page - 1) / page : 0;
  c.slots = page > 0 ? p->batch * c.blocks + 1 : p->batch + 1;
  c.new_len = 2;
  c.leftpad = true;
  c.rotary = Rotary::kHalf;
  c.rotary_dim = 16;
  c.rotary_rows = 2700;
  p->k_len = page > 0 ? c.blocks * page : c.rows;
}

std::vector<Case> Cases(DType dtype) {
  std::vector<Case> all;
  const auto add = [&](const char* name, auto set) {
    all.push_back(Plain(name, dtype));
    set(&all.back().problem);
  };
  add("plain", [](Problem*) {});
  add("one_query_many_heads", [](Problem* p) { p->q_len = 1, p->q_heads = 40, p->k_heads = 1; });
  add("one_head", [](Problem* p) { p->q_heads = p->k_heads = 1, p->q_len = 1; });
  add("heads_of_their_own", [](Problem* p) { p->k_heads = 4, p->q_len = 5; });
  add("three_heads", [](Problem* p) { p->q_heads = 3, p->k_heads = 1, p->q_len = 1; });
  add("more_pieces_than_there_may_be", [](Problem* p) {
    p->q_heads = p->k_heads = p->batch = p->q_len = 1, p->k_len = 70001, p->dim = p->dim_v = 8;
  });
  add("wide", [](Problem* p) { p->dim = 576, p->dim_v = 512, p->batch = 1, p->k_heads = 1; });
  add("causal_window", [](Problem* p) { p->causal = true, p->window_left = 1500; });
  add("prefix", [](Problem* p) { p->causal = true, p->window_left = 3, p->prefix = 1100; });
  add("chunk", [](Problem* p) { p->chunk = 900, p->q_len = 4; });
  add("lengths", [](Problem* p) { p->key_lengths = true, p->batch = 5; });
  add("sees_nothing",
      [](Problem* p) { p->causal = true, p->align = Align::kOffset, p->query_offset = -1; });
  add("softcap", [](Problem* p) { p->softcap = 5; });
  add("alibi", [](Problem* p) { p->alibi = Alibi::kPerBatchHead; });
  add("bias", [](Problem* p) { p->bias = Shape(1, 4, 2, 2500); });
  add("bias_of_keys", [](Problem* p) { p->bias = Shape(2, 1, 1, 2500); });
  add("mask", [](Problem* p) { p->mask = Shape(2, 1, 2, 2500); });
  add("block_map", [](Problem* p) {
    p->block_map = Shape(1, 4, 1, 40), p->block_rows = 64, p->block_cols = 63;
  });
  add("sinks", [](Problem* p) { p->sinks = true; });
  add("dropout", [](Problem* p) { p->dropout_p = 0.3, p->seed = 7; });
  add("all_terms", [](Problem* p) {
    p->softcap = 9, p->alibi = Alibi::kPerHead, p->bias = Shape(1, 1, 2, 2500), p->sinks = true;
    p->mask = Shape(1, 1, 1, 2500), p->causal = true, p->window_right = 0;
  });
  add("f32_out", [](Problem* p) { p->out_dtype = DType::kF32, p->dim_v = 64; });
  add("cache", [](Problem* p) { SetCache(0, p); });
  add("pages_of_1", [](Problem* p) { SetCache(1, p); });
  add("pages_of_100", [](Problem* p) { SetCache(100, p), p->causal = true; });
  for (const cases::Data data : {cases::Data::kGrowing, cases::Data::kHuge, cases::Data::kPeaked}) {
    add(cases::Name(data), [](Problem*) {});
    all.back().data = data;
  }
#ifdef HEED_TEST_REDUCED
  // Where programs are instrumented or emulated: one case of each kind.
  const std::set<std::string> few = {"plain", "causal_window", "prefix",  "lengths",    "all_terms",
                                     "mask",  "block_map",     "dropout", "pages_of_1", "huge"};
  std::erase_if(all, [&](const Case& c) { return !few.contains(c.name); });
#endif
  return all;
}

using Param = std::tuple<Case, Engine>;

class SplitKeys : public testing::TestWithParam<Param> {};

TEST_P(SplitKeys, AreWithinBoundsAndAlwaysTheSame) {
  const auto& [c, engine] = GetParam();
  const auto& [sample, expected] = KnownOf(c);
  const Output one = RunOn(engine, sample, 1);
  ASSERT_TRUE(one.status.ok()) << one.status.message();
  ExpectWithin(expected, one, engine.name());
#ifdef HEED_TEST_REDUCED
  const std::vector<int> counts = {2};
#else
  const std::vector<int> counts = {2, 3};
#endif
  for (const int threads : counts) ExpectSame(one, RunOn(engine, sample, threads), "threads");
  if (c.problem.dropout_p > 0) return;  // it depends on the entry's number
  const Problem normal = NormalOf(c.problem);
  const auto rows = static_cast<std::size_t>(normal.q_heads * normal.q_len),
             width = static_cast<std::size_t>(normal.dim_v);
  for (std::int64_t b = 0; b < normal.batch; ++b) {
    Alone alone;
    MakeAlone(sample, b, &alone);
    const Output own = RunOn(engine, alone.problem, alone.buffers, 2);
    const auto part = [&](const std::vector<double>& all, std::size_t each) {
      const auto at = all.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(b) * each);
      return std::vector<double>(at, at + static_cast<std::ptrdiff_t>(each));
    };
    ExpectSameBits(part(one.O(), rows * width), own.O(), "o of entry " + std::to_string(b));
    ExpectSameBits(part(one.Lse(), rows), own.Lse(), "lse of entry " + std::to_string(b));
  }
}

std::vector<Case> AllCases() {
  std::vector<Case> all;
#ifdef HEED_TEST_REDUCED
  const std::vector<DType> dtypes = {DType::kF32, DType::kBF16};
#else
  const std::vector<DType> dtypes = {DType::kF32, DType::kBF16, DType::kF16};
#endif
  for (const DType dtype : dtypes) {
    for (Case& c : Cases(dtype)) {
      c.name = std::string(heed::Name(dtype)) + "_" + c.name;
      all.push_back(std::move(c));
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Decode, SplitKeys,
                         testing::Combine(testing::ValuesIn(AllCases()), testing::ValuesIn(Isas())),
                         [](const auto& test) {
                           return std::get<1>(test.param).name() + "_" +
                                  std::get<0>(test.param).name;
                         });

}  // namespace
}  // namespace heed::testing_options
