// bench/spread.h: one processor for each thread while something is timed. Not here: the threads.
#pragma once

#include <memory>

namespace heed::bench {

/// While it lives the threads that this process has (those that it begins later: not) stay on
/// processors of their own: the calling one on the first that the process may use, the others on
/// the rest in the order in which they were begun. A scheduler that saves processors puts threads
/// that were asleep on one of them, some for tens of milliseconds, and two threads then have the
/// speed of one. Does nothing for threads = 1, and where there are fewer processors than that.
class Spread {
 public:
  explicit Spread(int threads);
  ~Spread();
  Spread(const Spread&) = delete;
  Spread& operator=(const Spread&) = delete;

 private:
  struct Before;
  std::unique_ptr<Before> before_;
};

/// Puts the calling thread on the processor of its number, as Spread does, for good if it is one
/// of several that do not outlive the work.
void StayOn(int thread, int threads);

}  // namespace heed::bench
