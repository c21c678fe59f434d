// cover_test.cpp: the covering array of options: every pair of values that can stand together occurs,
// and every pair that cannot is refused in a sentence. Not here: results (pairwise_test.cpp).
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <tuple>

#include "cases_axes.h"
#include "heed/heed.h"

namespace heed::cases {
namespace {

using Pair = std::tuple<int, int, int, int>;  // first axis, its value, second axis, its value

std::string Words(const Pair& pair) {
  const auto [a, x, b, y] = pair;
  const auto value = [](int axis, int v) {
    const Axis& it = Axes()[static_cast<std::size_t>(axis)];
    return std::string(it.name) + " = " + it.values[static_cast<std::size_t>(v)];
  };
  return value(a, x) + " with " + value(b, y);
}

void AddPairs(const Choice& c, const std::vector<int>& axes, std::set<Pair>* pairs) {
  for (const int a : axes) {
    for (const int b : axes) {
      if (b < a) {
        pairs->insert({a, c[static_cast<std::size_t>(a)], b, c[static_cast<std::size_t>(b)]});
      }
    }
  }
}

// By looking at every combination of the axes that any exclusion names: the rest are free. Shares
// nothing with the program that builds the array but the list of exclusions.
std::set<Pair> PairsThatCanStandTogether() {
  std::set<int> named;
  for (const Exclusion& x : Exclusions()) named.insert({x.first, x.second});
  const std::vector<int> bound(named.begin(), named.end());
  std::set<Pair> pairs;
  Choice c(Axes().size(), 0);
  const std::function<void(std::size_t)> walk = [&](std::size_t n) {
    if (n == bound.size()) {
      if (Allowed(c)) AddPairs(c, bound, &pairs);
      return;
    }
    const auto axis = static_cast<std::size_t>(bound[n]);
    for (int v = 0; v < static_cast<int>(Axes()[axis].values.size()); ++v) {
      c[axis] = v;
      walk(n + 1);
    }
  };
  walk(0);
  for (int a = 0; a < kAxisCount; ++a) {
    for (int b = 0; b < a; ++b) {
      if (named.count(a) && named.count(b)) continue;
      for (int x = 0; x < static_cast<int>(Axes()[static_cast<std::size_t>(a)].values.size());
           ++x) {
        for (int y = 0; y < static_cast<int>(Axes()[static_cast<std::size_t>(b)].values.size());
             ++y) {
          pairs.insert({a, x, b, y});
        }
      }
    }
  }
  return pairs;
}

TEST(Cover, HasEveryPairThatCanStandTogether) {
  std::vector<int> all(kAxisCount);
  for (int a = 0; a < kAxisCount; ++a) all[static_cast<std::size_t>(a)] = a;
  std::set<Pair> there;
  const std::vector<Choice> choices = PairwiseChoices();
  for (const Choice& c : choices) {
    ASSERT_EQ(c.size(), Axes().size());
    ASSERT_TRUE(Allowed(c));
    AddPairs(c, all, &there);
  }
  const std::set<Pair> wanted = PairsThatCanStandTogether();
  int missing = 0;
  for (const Pair& pair : wanted) {
    if (there.count(pair)) continue;
    if (++missing < 20) ADD_FAILURE() << "no case has " << Words(pair);
  }
  EXPECT_EQ(missing, 0);
  EXPECT_EQ(there.size(), wanted.size());
  EXPECT_GT(wanted.size(), 4000u);
  EXPECT_LT(choices.size(), 150u) << "the array has grown beyond what runs in a test";
  RecordProperty("pairs", static_cast<int>(wanted.size()));
  RecordProperty("cases", static_cast<int>(choices.size()));
}

TEST(Cover, IsTheSameEveryTime) { EXPECT_EQ(PairwiseChoices(), PairwiseChoices()); }

TEST(Cover, EveryCaseIsValidAtEveryScale) {
  for (const Scale scale : {Scale::kSmall, Scale::kTest, Scale::kBench}) {
    std::set<std::string> names;
    for (const Case& c : Options(scale)) {
      const Status status = Validate(c.problem);
      EXPECT_TRUE(status.ok()) << c.name << ": " << status.message();
      EXPECT_TRUE(names.insert(c.name).second) << c.name << " twice";
    }
  }
}

// The exclusions that a choice breaks.
int Broken(const Choice& c) {
  int broken = 0;
  for (const Exclusion& x : Exclusions()) {
    const auto has = [&](AxisId axis, const std::vector<int>& values) {
      return std::find(values.begin(), values.end(), c[axis]) != values.end();
    };
    broken += has(x.first, x.a) && has(x.second, x.b);
  }
  return broken;
}

TEST(Cover, WhatIsExcludedIsRefusedInASentence) {
  for (const Exclusion& x : Exclusions()) {
    for (const int a : x.a) {
      for (const int b : x.b) {
        bool tried = false;
        for (const int cache : {0, 1, 4}) {  // whichever leaves this exclusion as the only one
          Choice c(Axes().size(), 0);
          c[kCache] = cache;
          c[x.first] = a;
          c[x.second] = b;
          if (Broken(c) != 1 || tried) continue;
          tried = true;
          const Status status = Validate(CaseOf(c, Scale::kTest, 1).problem);
          EXPECT_FALSE(status.ok()) << Words({x.first, a, x.second, b});
          EXPECT_NE(status.message().find(x.says), std::string::npos) << status.message();
        }
        EXPECT_TRUE(tried) << Words({x.first, a, x.second, b});
      }
    }
  }
}

// Every field that an axis may set, as numbers.
std::vector<double> FactsOf(const Case& c) {
  const Problem& p = c.problem;
  const Cache& cache = p.cache;
  std::vector<double> facts;
  const auto add = [&](auto... values) { (facts.push_back(static_cast<double>(values)), ...); };
  add(p.dtype, p.batch, p.q_heads, p.k_heads, p.q_len, p.k_len, p.dim, p.dim_v, p.causal,
      p.window_left, p.window_right, p.align, p.query_offset.value_or(0), p.query_offsets, p.prefix,
      p.chunk, p.scale.value_or(1e9), p.softcap, p.alibi, p.bias_dtype, p.block_rows, p.block_cols,
      p.sinks, p.dropout_p, p.key_lengths, p.ragged, p.want_lse, p.want_probs,
      p.out_dtype.value_or(DType::kF64), c.data, c.mask);
  add(cache.given, cache.rows, cache.blocks, cache.new_len, cache.batch_idx, cache.leftpad,
      cache.rotary, cache.rotary_dim);
  for (const Broadcast* t : {&p.bias, &p.mask, &p.block_map}) {
    add(t->given, t->batch, t->heads, t->rows, t->cols, t->stride_batch, t->stride_head,
        t->stride_row, t->stride_col);
  }
  for (const Strides* t : {&p.q_strides, &p.k_strides, &p.v_strides}) {
    add(t->batch, t->row, t->head);
  }
  return facts;
}

// No two values of an axis are one and the same case.
TEST(Cover, EveryValueChangesTheCase) {
  for (int axis = 0; axis < kAxisCount; ++axis) {
    const auto at = static_cast<std::size_t>(axis);
    for (int v = 1; v < static_cast<int>(Axes()[at].values.size()); ++v) {
      Choice c(Axes().size(), 0);
      c[kCache] = axis >= kAppend && axis <= kRotary;
      c[kBias] = c[kMask] = 1;
      if (axis == kBiasType) c[kDType] = 1;  // f32's own type is f32
      Choice other = c;
      other[at] = v;
      if (other == c) continue;
      EXPECT_NE(FactsOf(CaseOf(c, Scale::kTest, 1)), FactsOf(CaseOf(other, Scale::kTest, 1)))
          << Words({axis, v, axis, 0});
    }
  }
}

}  // namespace
}  // namespace heed::cases
