// bench/spread.cpp: by the affinity of Linux; a thread that cannot be moved stays where it is.
#include "bench/spread.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace heed::bench {
namespace {

// Those that this process may use, as it was when first asked: before any thread was moved.
// More than the 1024 of a cpu_set_t: none are known, and nothing is moved.
const std::vector<int>& Processors() {
  static const std::vector<int> processors = [] {
    std::vector<int> all;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return all;
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set)) all.push_back(i);
    return all;
  }();
  return processors;
}

bool Enough(int threads) {
  return threads > 1 && static_cast<std::size_t>(threads) <= Processors().size();
}

void Move(pid_t thread, int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  sched_setaffinity(thread, sizeof set, &set);
}

}  // namespace

struct Spread::Before {
  std::vector<std::pair<pid_t, cpu_set_t>> masks;
};

Spread::Spread(int threads) : before_(std::make_unique<Before>()) {
  if (!Enough(threads)) return;
  std::error_code none;
  std::vector<pid_t> others;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task", none)) {
    const pid_t thread = static_cast<pid_t>(std::stol(entry.path().filename().string()));
    cpu_set_t mask;
    if (sched_getaffinity(thread, sizeof mask, &mask) == 0)
      before_->masks.emplace_back(thread, mask);
    if (thread != gettid()) others.push_back(thread);
  }
  std::sort(others.begin(), others.end());
  const std::vector<int>& processors = Processors();
  Move(gettid(), processors[0]);
  for (std::size_t i = 0; i < others.size(); ++i)
    Move(others[i], processors[1 + i % (processors.size() - 1)]);
}

Spread::~Spread() {
  for (const auto& [thread, mask] : before_->masks) sched_setaffinity(thread, sizeof mask, &mask);
}

void StayOn(int thread, int threads) {
  if (Enough(threads)) Move(gettid(), Processors()[static_cast<std::size_t>(thread)]);
}

}  // namespace heed::bench
