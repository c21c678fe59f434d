// fork_test.cpp: a process that has used the pool may fork, whatever its threads are doing, and
// child and grandchild compute on. And how many threads a process may use, by its affinity.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "cover.h"
#include "heed/heed.h"

#if defined(__SANITIZE_THREAD__)
#define HEED_UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HEED_UNDER_TSAN 1
#endif
#endif

namespace heed::cpu {
namespace {

// Exit status of a child that runs f: 0 where f says so. A child that hangs is killed (-SIGALRM).
int InChild(const std::function<bool()>& f) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    _exit(f() ? 0 : 1);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return 1000;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

bool ManyLoops() {
  for (int i = 0; i < 50; i++)
    if (!Covers({100 + i, 2 + i % 3, 1 + i % 4, i % 4 != 0})) return false;
  return true;
}

class Fork : public ::testing::Test {
 protected:
  void SetUp() override {
#if defined(HEED_EMULATED)
    GTEST_SKIP() << "user-mode emulation loses count of its processors in a child of threads";
#elif defined(HEED_UNDER_TSAN)
    GTEST_SKIP() << "the thread sanitizer ends a child of a threaded process that starts threads";
#endif
  }
};

TEST_F(Fork, ChildAndGrandchildHaveAPoolOfTheirOwn) {
  ASSERT_TRUE(ManyLoops());
  EXPECT_EQ(InChild([] { return ManyLoops() && InChild(ManyLoops) == 0 && ManyLoops(); }), 0);
  EXPECT_EQ(InChild([] { return InChild(ManyLoops) == 0; }), 0) << "the child itself had none";
  EXPECT_TRUE(ManyLoops()) << "the parent's workers are still there";
}

TEST_F(Fork, ChildStartsThreads) {
  ASSERT_TRUE(ManyLoops());
  EXPECT_EQ(InChild([] {
              std::atomic<int> others{0};
              Parallel({24, 3, 1, true}, [&](std::int64_t, std::int64_t, int worker) {
                usleep(2000);
                others += worker != 0;
              });
              return others.load() > 0;
            }),
            0);
}

TEST_F(Fork, WhileAnotherThreadRunsLoops) {
  std::atomic<bool> stop{false}, complete{true};
  std::thread other([&] {
    while (!stop)
      if (!ManyLoops()) complete = false;
  });
  for (int i = 0; i < 30; i++) EXPECT_EQ(InChild(ManyLoops), 0) << i;
  stop = true;
  other.join();
  EXPECT_TRUE(complete);
}

void Serial(void*, std::int64_t items, int, Body body, void* ctx) { body(ctx, 0, items, 0); }

// Whichever lock guards the host's loop must not be inherited locked.
TEST_F(Fork, WhileAnotherThreadChangesTheLoop) {
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) {
      SetParallelFor(Serial, nullptr);
      SetParallelFor(nullptr, nullptr);
    }
  });
  for (int i = 0; i < 200; i++)
    EXPECT_EQ(InChild([] { return Covers({10, 2, 10, true}); }), 0) << i;
  stop = true;
  other.join();
}

TEST_F(Fork, FromWithinALoop) {
  std::atomic<int> failed{0};
  Parallel({6, 2, 1, true},
           [&](std::int64_t, std::int64_t, int) { failed += InChild(ManyLoops) != 0; });
  EXPECT_EQ(failed.load(), 0);
}

// The answer is kept for the life of the process: so it is asked for in children, before main and
// so before anything here has asked.
int ThreadsWithProcessors(int processors) {
  const int status = InChild([processors] {
    cpu_set_t all, some;
    CPU_ZERO(&some);
    if (sched_getaffinity(0, sizeof all, &all) != 0) return false;
    for (int cpu = 0, n = 0; cpu < CPU_SETSIZE && n < processors; cpu++)
      if (CPU_ISSET(cpu, &all)) {
        CPU_SET(cpu, &some);
        n++;
      }
    if (sched_setaffinity(0, sizeof some, &some) != 0) return false;
    _exit(100 + AvailableThreads());
  });
  return status - 100;
}
const int with_one = ThreadsWithProcessors(1), with_two = ThreadsWithProcessors(2);

TEST(AvailableThreads, FollowsTheAffinityOfTheProcess) {
  EXPECT_EQ(with_one, 1);
  EXPECT_GE(with_two, 1);
  EXPECT_LE(with_two, 2);
  EXPECT_GE(AvailableThreads(), 1);
  EXPECT_LE(AvailableThreads(), sysconf(_SC_NPROCESSORS_CONF));
}

}  // namespace
}  // namespace heed::cpu
