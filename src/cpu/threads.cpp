// threads.cpp: heed's own pool, and the seam by which a host program replaces it. Not here:
// kernels, limits (machine.cpp).
#include "cpu/threads.h"

#include <pthread.h>

#include <atomic>
#include <csignal>
#include <mutex>
#include <new>
#include <type_traits>

#include "heed/heed.h"

namespace heed::cpu {
namespace {

inline void Relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Workers spin for a while after a job (a stream of calls finds them awake: 1 us), then sleep (15
// to 40 us to wake). The caller works too and waits only for workers that have begun: one that is
// still asleep when the job is done is not missed.
//
//   job_ ++  ──► awake workers see it, take ids 1.. while the job is open, claim items, leave
//   caller:      publish, claim items as worker 0, close the job, wait until active_ == 0
//
// The one mutable global of the library, together with the host's loop below.
class Pool {
 public:
  static constexpr int kMaxThreads = 256;

  void Run(const Loop& loop, Body body, void* ctx) {
    const int threads = loop.threads < kMaxThreads ? loop.threads : kMaxThreads;
    bool idle = false;
    if (!busy_.compare_exchange_strong(idle, true, std::memory_order_acquire))
      return body(ctx, 0, loop.items, 0);
    while (started_ < threads - 1 && Start()) started_++;
    body_ = body;
    ctx_ = ctx;
    items_ = loop.items;
    threads_ = threads;
    max_claim_ = loop.max_claim > 0 ? loop.max_claim : 1;
    next_.store(0, std::memory_order_relaxed);
    ids_.store(1, std::memory_order_relaxed);
    open_.store(true);  // sequentially consistent, as job_ and active_: a worker either sees the
                        // job closed or is waited for
    job_.fetch_add(1);
    if (loop.wake) job_.notify_all();
    Work(0);
    open_.store(false);
    while (active_.load() != 0) Relax();
    busy_.store(false, std::memory_order_release);
  }

 private:
  static constexpr int kSpins = 4000;  // 40 to 80 us

  // False where the system gives no more threads: then there are fewer.
  bool Start() {
    sigset_t all, before;
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
      return false;  // signals are the host's business
    pthread_t thread;
    const bool ok = pthread_create(
                        &thread, nullptr,
                        [](void* p) -> void* {
                          static_cast<Pool*>(p)->Serve();
                          return nullptr;
                        },
                        this) == 0;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (ok) pthread_detach(thread);
    return ok;
  }

  // Guided claims: large ones first, single items at the end, so that the tail is short.
  void Work(int id) {
    const std::int64_t share = 2 * static_cast<std::int64_t>(threads_);
    std::int64_t at = next_.load(std::memory_order_relaxed);
    for (;;) {
      std::int64_t n;
      do {
        if (at >= items_) return;
        n = (items_ - at) / share;
        n = n < 1 ? 1 : n > max_claim_ ? max_claim_ : n;
      } while (!next_.compare_exchange_weak(at, at + n, std::memory_order_relaxed));
      body_(ctx_, at, at + n, id);
      at = next_.load(std::memory_order_relaxed);
    }
  }

  [[noreturn]] void Serve() {
    std::uint32_t seen = 0;
    for (;;) {
      std::uint32_t job;
      for (int i = 0; (job = job_.load()) == seen;)
        if (++i < kSpins)
          Relax();
        else
          job_.wait(seen);
      seen = job;
      active_.fetch_add(1);
      if (open_.load()) {
        const int id = ids_.fetch_add(1);
        if (id < threads_) Work(id);
      }
      active_.fetch_sub(1);
    }
  }

  alignas(64) std::atomic<std::uint32_t> job_{0};
  std::atomic<bool> open_{false}, busy_{false};
  alignas(64) std::atomic<std::int64_t> next_{0};
  alignas(64) std::atomic<int> active_{0}, ids_{0};
  // Of the job; written while no worker is active.
  Body body_ = nullptr;
  void* ctx_ = nullptr;
  std::int64_t items_ = 0, max_claim_ = 1;
  int threads_ = 0, started_ = 0;
};

struct Host {
  std::mutex mutex;
  ParallelFor loop = nullptr;
  void* host = nullptr;
};

// Made by the compiler, not by a first call: another thread's first call cannot be cut in half by
// fork. Never destroyed: workers may outlive static destructors.
constinit Pool the_pool;
constinit Host the_host;
static_assert(std::is_trivially_destructible_v<Pool>);

// A child has none of the threads, whatever they were doing: it forgets them and begins anew. It
// must not inherit a mutex that one of them held.
[[maybe_unused]] const int fork_handlers =
    pthread_atfork([] { the_host.mutex.lock(); }, [] { the_host.mutex.unlock(); },
                   [] {
                     new (&the_pool) Pool;
                     the_host.mutex.unlock();
                   });

}  // namespace

void Parallel(const Loop& loop, Body body, void* ctx) {
  if (loop.items <= 0) return;
  if (loop.threads <= 1 || loop.items == 1) return body(ctx, 0, loop.items, 0);
  ParallelFor host_loop;
  void* host;
  {
    const std::lock_guard lock(the_host.mutex);
    host_loop = the_host.loop;
    host = the_host.host;
  }
  if (host_loop) return host_loop(host, loop.items, loop.threads, body, ctx);
  the_pool.Run(loop, body, ctx);
}

}  // namespace heed::cpu

namespace heed {

void SetParallelFor(ParallelFor parallel_for, void* host) {
  const std::lock_guard lock(cpu::the_host.mutex);
  cpu::the_host.loop = parallel_for;
  cpu::the_host.host = host;
}

}  // namespace heed
