// allocation_test.cpp: the engine's Run takes no memory from the system's allocator, on any thread.
// Counts calls of the malloc family. Not here: how the workspace is used (workspace_test.cpp), the
// reference, which allocates and says so in its plan.
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <thread>

#include "engine_call.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<int> allocations{0};

void Note() {
  if (counting.load(std::memory_order_relaxed)) allocations++;
}

}  // namespace

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HEED_SANITIZER_ALLOCATES 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HEED_SANITIZER_ALLOCATES 1
#endif
#endif

#if defined(HEED_SANITIZER_ALLOCATES)
// The sanitizer's allocator stands in for the system's and calls back.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void*,
                                                                  std::size_t),
                                                         void (*)(const volatile void*));
namespace {
const int installed = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t) { Note(); }, [](const volatile void*) {});
}
#else
// These names in the program stand in for the C library's everywhere, libstdc++'s operator new
// included.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

__attribute__((visibility("default"))) void* malloc(std::size_t n) noexcept {
  Note();
  return __libc_malloc(n);
}
__attribute__((visibility("default"))) void* calloc(std::size_t n, std::size_t size) noexcept {
  Note();
  return __libc_calloc(n, size);
}
__attribute__((visibility("default"))) void* realloc(void* p, std::size_t n) noexcept {
  Note();
  return __libc_realloc(p, n);
}
__attribute__((visibility("default"))) void* memalign(std::size_t align, std::size_t n) noexcept {
  Note();
  return __libc_memalign(align, n);
}
__attribute__((visibility("default"))) void* aligned_alloc(std::size_t align,
                                                           std::size_t n) noexcept {
  Note();
  return __libc_memalign(align, n);
}
__attribute__((visibility("default"))) int posix_memalign(void** p, std::size_t align,
                                                          std::size_t n) noexcept {
  Note();
  *p = __libc_memalign(align, n);
  return *p ? 0 : ENOMEM;
}
}
#endif

namespace heed {
namespace {

template <class F>
int CountAllocations(F&& f) {
  allocations = 0;
  counting = true;
  f();
  counting = false;
  return allocations;
}

// The compiler may leave out a pair of new and delete that nobody can see.
void* volatile sink;

TEST(Counting, SeesEveryWayToAskForMemory) {
  EXPECT_EQ(CountAllocations([] {}), 0);
  const auto counts = [](void* (*take)()) {
    return CountAllocations([take] {
      sink = take();
      std::free(sink);
    });
  };
  EXPECT_EQ(counts([] { return std::malloc(10); }), 1);
  EXPECT_EQ(counts([] { return std::calloc(10, 3); }), 1);
  EXPECT_GE(counts([] { return std::realloc(std::malloc(10), 10000); }), 2);
#if !defined(HEED_SANITIZER_ALLOCATES)  // they do not call back for this one
  EXPECT_EQ(counts([] { return std::aligned_alloc(64, 128); }), 1);
#endif
  EXPECT_EQ(CountAllocations([] {
              sink = new char[100];
              delete[] static_cast<char*>(sink);
            }),
            1);
  EXPECT_GE(CountAllocations([] { sink = std::make_unique<std::string>(100, 'x').get(); }), 2);
}

void ExpectNone(const Problem& problem, const PlanOptions& options) {
  const Plan plan = PlanOf(problem, options);
  EngineCall call(problem);
  std::vector<char> workspace(static_cast<std::size_t>(plan.workspace_bytes()));
  const Buffers buffers = call.With(workspace);
  EXPECT_TRUE(Run(plan, buffers));
  bool ok = true;
  EXPECT_EQ(CountAllocations([&] {
              for (int i = 0; i < 3; i++) ok = Run(plan, buffers).ok() && ok;
            }),
            0)
      << plan.Describe();
  EXPECT_TRUE(ok);
}

void ExpectNoneBackward(Problem problem, const PlanOptions& options) {
  problem.want_lse = true;
  EngineCall call(problem);  // o and lse may be anything
  problem.op = Op::kBackward;
  const Plan plan = PlanOf(problem, options);
  std::vector<char> workspace(static_cast<std::size_t>(plan.workspace_bytes()));
  const std::vector<char> dout = call.o;
  std::vector<char> dq = call.q, dk = call.k, dv = call.v;
  Buffers buffers = call.With(workspace);
  buffers.dout = dout.data();
  buffers.dq = dq.data();
  buffers.dk = dk.data();
  buffers.dv = dv.data();
  EXPECT_TRUE(Run(plan, buffers));
  bool ok = true;
  EXPECT_EQ(CountAllocations([&] {
              for (int i = 0; i < 3; i++) ok = Run(plan, buffers).ok() && ok;
            }),
            0)
      << plan.Describe();
  EXPECT_TRUE(ok);
}

// The pool's threads are started by the first call that wants them, and sanitizers allocate when a
// thread begins, which may be a while later.
void StartThreads() {
  EngineCall call({.q_len = 500, .k_len = 500, .q_heads = 4, .dim = 64});
  const Plan plan = PlanOf(call.problem, {.backend = "cpu", .threads = 4});
  std::vector<char> workspace(static_cast<std::size_t>(plan.workspace_bytes()));
  EXPECT_TRUE(Run(plan, call.With(workspace)));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
}

TEST(Engine, AllocatesNothing) {
  StartThreads();
  for (const std::string& isa : UsableIsas())
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
      for (const int threads : {1, 2, 3}) {
        const PlanOptions options{.backend = "cpu", .isa = isa, .threads = threads};
        ExpectNone({.batch = 2,
                    .q_len = 70,
                    .k_len = 90,
                    .q_heads = 4,
                    .k_heads = 2,
                    .dim = 40,
                    .dtype = dtype,
                    .causal = true,
                    .want_lse = true},
                   options);
        ExpectNoneBackward({.batch = 2,
                            .q_len = 70,
                            .k_len = 90,
                            .q_heads = 4,
                            .k_heads = 2,
                            .dim = 40,
                            .dtype = dtype,
                            .causal = true,
                            .softcap = 5,
                            .dropout_p = 0.1},
                           options);
        ExpectNone({.q_len = 1, .k_len = 16, .dim = 64, .dtype = dtype}, options);
        ExpectNone({.q_len = 33,
                    .k_len = 300,
                    .q_heads = 2,
                    .dim = 17,
                    .dim_v = 300,
                    .dtype = dtype,
                    .window_left = 20,
                    .out_dtype = DType::kF32},
                   options);
        ExpectNone({.q_len = 0, .k_len = 300, .dim = 17, .dtype = dtype}, options);
        ExpectNone({.q_len = 5, .k_len = 0, .dim = 16, .dtype = dtype, .want_lse = true}, options);
      }
}

TEST(Engine, AllocatesNothingForAHostsLoop) {
  SetParallelFor(
      [](void*, std::int64_t items, int, void (*body)(void*, std::int64_t, std::int64_t, int),
         void* ctx) { body(ctx, 0, items, 0); },
      nullptr);
  ExpectNone({.q_len = 200, .k_len = 200, .q_heads = 4, .dim = 64},
             {.backend = "cpu", .threads = 4});
  SetParallelFor(nullptr, nullptr);
}

}  // namespace
}  // namespace heed
