// threads.h: the one parallel loop of the cpu backend. Not here: what is computed, how many threads
// are worth it (cpu.cpp).
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace heed::cpu {

// body(ctx, first, last, worker): items [first, last); worker in [0, threads), no two bodies at
// once with the same one.
using Body = void (*)(void* ctx, std::int64_t first, std::int64_t last, int worker);

struct Loop {
  std::int64_t items = 0;
  int threads = 1;
  std::int64_t max_claim = 1;  // items taken at once, at most
  bool wake = true;  // false: only workers that are still awake join in; for loops too short to pay
                     // for a wake-up
};

// Runs the loop on the host program's threads where SetParallelFor named some, else on heed's own;
// returns when it is done. Nested and concurrent loops are run by their caller alone. Never throws,
// never allocates once the workers exist.
void Parallel(const Loop& loop, Body body, void* ctx);

template <class F>
void Parallel(const Loop& loop, F&& f) {
  Parallel(
      loop,
      [](void* ctx, std::int64_t first, std::int64_t last, int worker) {
        (*static_cast<std::remove_reference_t<F>*>(ctx))(first, last, worker);
      },
      std::addressof(f));
}

}  // namespace heed::cpu
