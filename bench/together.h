// bench/together.h: the same work on several threads that start at the same moment, each on a
// processor of its own. Not here: a pool.
#pragma once

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "bench/machine.h"
#include "bench/spread.h"

namespace heed::bench {

/// Runs work(t) for t in [0, threads) at once, 0 on the calling thread; returns the seconds from
/// the first start to the last end.
template <class F>
double Together(int threads, const F& work) {
  std::vector<double> begin(static_cast<std::size_t>(threads)), end(begin);
  std::atomic<int> ready{0};
  const Spread caller(threads);
  const auto body = [&](int t) {
    if (t > 0) StayOn(t, threads);
    ready.fetch_add(1);
    while (ready.load() < threads) std::this_thread::yield();
    begin[static_cast<std::size_t>(t)] = Now();
    work(t);
    end[static_cast<std::size_t>(t)] = Now();
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(body, t);
  body(0);
  for (std::thread& other : others) other.join();
  return *std::max_element(end.begin(), end.end()) - *std::min_element(begin.begin(), begin.end());
}

}  // namespace heed::bench
