// nonsense.h: calls whose index arrays hold anything, on the emulated device. Not here: which, and what is
// expected of them (forward_index_test.cpp, backward_index_test.cpp).
#pragma once

#include <cstdint>
#include <functional>
#include <iterator>
#include <random>
#include <utility>
#include <vector>

#include "cases.h"
#include "cases_axes.h"
#include "cases_run.h"

namespace heed::cuda {

// Every second number of the index arrays becomes one that was never a length, page or slot.
inline void SpoilArrays(cases::Sample* sample, std::mt19937* random) {
  constexpr std::int32_t kNonsense[] = {INT32_MIN, INT32_MAX, -1, 1 << 30, -7, 0, 1, 41, 1000};
  for (auto* array : {&sample->key_lengths, &sample->query_offsets, &sample->cu_seqlens_q,
                      &sample->cu_seqlens_k, &sample->cache_seqlens, &sample->cache_batch_idx,
                      &sample->cache_leftpad, &sample->block_table}) {
    for (std::int32_t& x : *array) {
      if ((*random)() % 2 == 0) x = kNonsense[(*random)() % std::size(kNonsense)];
    }
  }
}

using Kinds = std::vector<std::vector<std::pair<cases::AxisId, int>>>;

// `times` calls of each kind and dtype: made by make(case, n), their arrays spoiled in sample(call), run by
// run(call) under a schedule and on an architecture in turn. Ends at the first failure.
template <class Make, class SampleOf, class Run>
void RunNonsense(const Kinds& kinds, int times, Make&& make, SampleOf&& sample, Run&& run) {
  using namespace cases;
  EmulatedDevice& device = EmulatedDevice::The();
  std::mt19937 random(7);
  int seed = 0;
  for (const auto& options : kinds) {
    for (const DType dtype : {DType::kF16, DType::kF32}) {
      Choice choice(kAxisCount, 0);
      choice[kDType] = dtype == DType::kF16 ? 2 : 0;
      choice[kBatch] = 2;
      choice[kHeads] = 2;
      choice[kLengths] = 3;
      for (const auto& [axis, value] : options) choice[axis] = value;
      if (!Allowed(choice)) ADD_FAILURE() << "not a case";
      for (int n = 0; n < times; ++n) {
        auto call = make(CaseOf(choice, Scale::kTest, ++seed), n);
        SpoilArrays(&std::invoke(sample, call), &random);
        device.arrays_are_wrong = true;
        UnderSchedule(n % 3, n % 2 == 0 ? 800 : 750, [&] { run(call); });
        device.arrays_are_wrong = false;
        if (testing::Test::HasFailure()) return;
      }
    }
  }
}

}  // namespace heed::cuda
