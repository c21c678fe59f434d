// cover.h: a loop body that notes which items it was given and by whom. Not here: loops.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/threads.h"

namespace heed::cpu {

// Whether a loop gave every item to exactly one body, in claims that the rules of threads.h allow.
// Errors are counted, not reported where they happen: bodies run in children of fork, too.
class Cover {
 public:
  explicit Cover(const Loop& loop)
      : loop_(loop),
        seen_(static_cast<std::size_t>(loop.items > 0 ? loop.items : 0)),
        busy_(static_cast<std::size_t>(loop.threads > 0 ? loop.threads : 1)) {}

  // Runs the loop that it was made for.
  void Run() {
    Parallel(loop_, [this](std::int64_t first, std::int64_t last, int worker) {
      (*this)(first, last, worker);
    });
  }

  void operator()(std::int64_t first, std::int64_t last, int worker) {
    if (first < 0 || first >= last || last > loop_.items) return Fail();
    if (worker < 0 || worker >= static_cast<int>(busy_.size())) return Fail();
    std::atomic<int>& busy = busy_[static_cast<std::size_t>(worker)];
    if (busy.exchange(1) != 0) Fail();
    // A loop that its caller runs alone comes as one claim.
    if (last - first > std::max<std::int64_t>(1, loop_.max_claim) && last - first != loop_.items)
      Fail();
    for (std::int64_t i = first; i < last; i++) seen_[static_cast<std::size_t>(i)]++;
    claims_++;
    busy.store(0);
  }

  bool complete() const {
    for (const auto& n : seen_)
      if (n.load() != 1) return false;
    return errors_.load() == 0;
  }
  int claims() const { return claims_.load(); }

 private:
  void Fail() { errors_++; }
  Loop loop_;
  std::vector<std::atomic<int>> seen_, busy_;
  std::atomic<int> errors_{0}, claims_{0};
};

inline bool Covers(const Loop& loop) {
  Cover cover(loop);
  cover.Run();
  return cover.complete();
}

}  // namespace heed::cpu
