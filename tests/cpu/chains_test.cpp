// chains_test.cpp: how a backward's wave of units is shared: every unit in one chain, and units whose
// sums of a bias' gradient share memory in the same one, in their order.
#include <gtest/gtest.h>

#include <vector>

#include "cpu/backward_call.h"

namespace heed::cpu {
namespace {

// The chain of every unit of the wave; -1 where none has it, or where two have.
std::vector<std::int64_t> ChainsOf(const BackwardCall& c) {
  std::vector<std::int64_t> chains(static_cast<std::size_t>(c.last - c.first), -1);
  for (std::int64_t n = 0; n < c.Chains(); n++) {
    const BackwardCall::Chain chain = c.ChainAt(n);
    EXPECT_GT(chain.step, 0);
    for (std::int64_t unit = chain.first; unit < chain.last; unit += chain.step) {
      EXPECT_TRUE(unit >= c.first && unit < c.last) << "unit " << unit << " is not of this wave";
      if (unit < c.first || unit >= c.last) continue;
      std::int64_t& of = chains[static_cast<std::size_t>(unit - c.first)];
      EXPECT_EQ(of, -1) << "unit " << unit << " is in two chains";
      of = n;
    }
  }
  return chains;
}

TEST(Chains, EveryUnitOnceAndWhatSharesMemoryTogether) {
  for (std::int64_t k_heads = 1; k_heads <= 4; k_heads++)
    for (std::int64_t batch = 1; batch <= 4; batch++)
      for (int repeats = 0; repeats < 4; repeats++)
        for (std::int64_t first = 0; first < batch * k_heads; first++)
          for (std::int64_t last = first + 1; last <= batch * k_heads; last++) {
            BackwardCall c;
            c.k_heads = k_heads;
            c.first = first;
            c.last = last;
            c.chains_batch = repeats & 1;
            c.chains_heads = repeats & 2;
            const std::vector<std::int64_t> chains = ChainsOf(c);
            for (std::int64_t x = first; x < last; x++)
              for (std::int64_t y = first; y <= x; y++) {
                const bool one_entry = x / k_heads == y / k_heads,
                           one_head = x % k_heads == y % k_heads;
                const bool share = (one_entry || c.chains_batch) && (one_head || c.chains_heads);
                const std::int64_t a = chains[static_cast<std::size_t>(x - first)],
                                   b = chains[static_cast<std::size_t>(y - first)];
                ASSERT_NE(a, -1) << "unit " << x << " is in no chain";
                ASSERT_EQ(a == b, share)
                    << "units " << x << " and " << y << " of " << first << " to " << last << ", "
                    << k_heads << " heads, repeats over " << repeats;
              }
          }
}

}  // namespace
}  // namespace heed::cpu
