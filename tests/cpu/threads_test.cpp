// threads_test.cpp: heed's own pool: every item once, worker numbers, nesting, callers at once,
// sleepers, signals. Not here: fork (fork_test.cpp), loops of a host program (host_loop_test.cpp).
#include "cpu/threads.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "cover.h"
#include "heed/heed.h"

namespace heed::cpu {
namespace {

using namespace std::chrono_literals;

TEST(Pool, GivesEveryItemOnce) {
  for (const std::int64_t items : {0, 1, 2, 3, 7, 64, 1000, 4097})
    for (const int threads : {1, 2, 3, 8, 17})
      for (const std::int64_t claim : {1, 2, 8, 100000})
        for (const bool wake : {true, false})
          EXPECT_TRUE(Covers({items, threads, claim, wake}))
              << items << " items, " << threads << " threads, claims of " << claim << ", wake "
              << wake;
}

TEST(Pool, TakesNonsenseForTheLeast) {
  EXPECT_TRUE(Covers({-5, 4, 1, true}));
  EXPECT_TRUE(Covers({10, 0, 100, true}));
  EXPECT_TRUE(Covers({10, -3, 100, true}));
  EXPECT_TRUE(Covers({10, 4, 0, true}));  // claims of nothing would never end
}

TEST(Pool, KeepsClaimsSmallAtTheEnd) {
  Cover cover({100, 4, 8, true});
  cover.Run();
  EXPECT_TRUE(cover.complete());
  EXPECT_GE(cover.claims(), 100 / 8 + 4);  // guided: the last ones are single items
}

TEST(Pool, RunsThousandsOfShortLoops) {
  for (int i = 0; i < 5000; i++) ASSERT_TRUE(Covers({1 + i % 9, 2 + i % 3, 1, i % 5 != 0})) << i;
}

TEST(Pool, FinishesLoopsThatItsWorkersSleepThrough) {
  for (int i = 0; i < 5; i++) {
    std::this_thread::sleep_for(5ms);  // longer than workers spin
    EXPECT_TRUE(Covers({100, 4, 1, false}));
    std::this_thread::sleep_for(5ms);
    EXPECT_TRUE(Covers({100, 4, 1, true}));
  }
}

TEST(Pool, SharesTheItemsOfASlowLoop) {
  std::mutex mutex;
  std::set<int> workers;
  std::set<std::thread::id> threads;
  for (int round = 0; round < 20 && workers.size() < 3; round++) {  // a loaded machine is late
    const Loop loop{24, 3, 1, true};
    Cover cover(loop);
    Parallel(loop, [&](std::int64_t first, std::int64_t last, int worker) {
      std::this_thread::sleep_for(3ms);
      cover(first, last, worker);
      const std::lock_guard lock(mutex);
      workers.insert(worker);
      threads.insert(std::this_thread::get_id());
    });
    EXPECT_TRUE(cover.complete());
  }
  EXPECT_EQ(workers, (std::set<int>{0, 1, 2}));
  EXPECT_GE(threads.size(), 3u);
}

TEST(Pool, ReturnsOnlyWhenTheLastBodyHas) {
  for (int i = 0; i < 20; i++) {
    std::atomic<int> done{0};
    Parallel({8, 4, 1, true}, [&](std::int64_t first, std::int64_t last, int worker) {
      std::this_thread::sleep_for(worker == 0 ? 100us : 3000us);
      done += static_cast<int>(last - first);
    });
    EXPECT_EQ(done.load(), 8);
  }
}

TEST(Pool, RunsNestedLoops) {
  const Loop outer{20, 3, 2, true}, inner{50, 3, 4, true};
  std::atomic<int> incomplete{0};
  Cover cover(outer);
  Parallel(outer, [&](std::int64_t first, std::int64_t last, int worker) {
    for (std::int64_t i = first; i < last; i++)
      if (!Covers(inner)) incomplete++;
    cover(first, last, worker);
  });
  EXPECT_TRUE(cover.complete());
  EXPECT_EQ(incomplete.load(), 0);
}

TEST(Pool, ServesSeveralCallersAtOnce) {
  std::atomic<int> incomplete{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 5; c++)
    callers.emplace_back([&incomplete, c] {
      for (int i = 0; i < 300; i++)
        if (!Covers({1 + (i * 7 + c) % 40, 2 + c % 3, 1 + i % 4, i % 3 != 0})) incomplete++;
    });
  for (std::thread& t : callers) t.join();
  EXPECT_EQ(incomplete.load(), 0);
}

// What a body wrote is seen by the caller and by the next loop's bodies, without atomics of the
// caller's own. Under the thread sanitizer this is where a missing order would be reported.
TEST(Pool, OrdersWhatBodiesWrite) {
  std::vector<std::int64_t> x(200);
  for (int round = 0; round < 200; round++)
    Parallel({200, 3, 8, true}, [&](std::int64_t first, std::int64_t last, int) {
      // Another body's item of the round before.
      for (std::int64_t i = first; i < last; i++) x[static_cast<std::size_t>(i)] += i;
    });
  for (std::int64_t i = 0; i < 200; i++) EXPECT_EQ(x[static_cast<std::size_t>(i)], 200 * i);
}

TEST(Pool, LeavesSignalsToTheHost) {
  sigset_t before, after;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  std::atomic<int> open{0}, asked{0};
  Parallel({24, 3, 1, true}, [&](std::int64_t, std::int64_t, int worker) {
    std::this_thread::sleep_for(2ms);
    if (worker == 0) return;
    asked++;
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    for (const int s : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD, SIGALRM, SIGPROF})
      if (sigismember(&mask, s) != 1) open++;
  });
  EXPECT_GT(asked.load(), 0);
  EXPECT_EQ(open.load(), 0);
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  for (const int s : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD, SIGALRM, SIGPROF})
    EXPECT_EQ(sigismember(&before, s), sigismember(&after, s)) << s;
}

TEST(Pool, NeedsNoOpenMp) {
  ASSERT_TRUE(Covers({100, 4, 1, true}));
  std::ifstream maps("/proc/self/maps");
  ASSERT_TRUE(maps);
  for (std::string line; std::getline(maps, line);) {
    EXPECT_EQ(line.find("libgomp"), std::string::npos) << line;
    EXPECT_EQ(line.find("libomp"), std::string::npos) << line;
    EXPECT_EQ(line.find("libtbb"), std::string::npos) << line;
  }
}

TEST(Pool, HasWorkersForMoreThreadsThanThereAreProcessors) {
  // Last: the workers stay.
  EXPECT_TRUE(Covers({5000, 300, 3, true}));  // and beyond the pool's own limit
}

}  // namespace
}  // namespace heed::cpu
