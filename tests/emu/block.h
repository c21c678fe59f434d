// One block on the emulator: its threads as fibers, who runs next, where everybody waits. What
// instructions do to it is in sync.cpp, mbarrier.cpp, copies.cpp, matrix.cpp and wgmma.cpp.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "emu/fiber.h"
#include "emu/launch.h"
#include "emu/shared.h"

namespace emu {

// A cp.async on its way.
struct Copy {
  uint32_t to;
  const void* from;
  uint32_t bytes;
  bool valid;
  Site site;
};

using Groups = std::deque<std::vector<std::function<void()>>>;

struct Thread {
  int index = 0, lane = 0, warp = 0;
  Fiber fiber;
  enum class State { kReady, kBlocked, kDone } state = State::kReady;
  Site where{};
  Clock clock;
  std::vector<Copy> copies;  // not yet committed
  std::deque<std::vector<Copy>> copy_groups;
  std::vector<std::function<void()>> bulk;  // stores and reductions, not yet committed
  Groups bulk_groups;
  std::map<std::pair<const char*, int>, uint32_t> visits;  // of each shared access, for bank counts
};

// Lanes that meet in one instruction; the last to arrive runs it for all.
struct WarpMeeting {
  uint32_t mask, arrived;
  Site site;
  void* argument[32];
};

struct NamedBarrier {
  int expected = 0, arrived = 0;
  std::vector<int> waiting;
  Clock clock;
  Site site{};
};

struct Mbarrier {
  uint32_t address = 0;
  int initialiser = 0;                            // the thread
  bool fenced = false;                            // by it, so that the copy engine sees the barrier
  uint32_t count = 0, pending = 0;                // arrivals of a phase, and those still missing
  int64_t bytes = 0;                              // expected and not yet landed
  uint32_t phase = 0;                             // how many are over
  Clock gathering, released;                      // of this phase and of the last
  std::vector<std::pair<int, uint32_t>> waiting;  // thread, parity
};

// A wgmma between issue and wait.
struct Product {
  int columns;
  bool trans_a, trans_b, add, from_registers;
  uint64_t a, b;
  float (*to_float)(uint16_t);
  std::vector<float*> accumulators;        // of the 128 threads
  std::vector<const uint32_t*> registers;  // of A
  Clock clock;
  Site site;
};

struct Warpgroup {
  int arrived = 0;
  Site site{};
  void* argument[128];
  std::vector<Product> open;
  std::deque<std::vector<Product>> groups;
  // What the accumulators hold in truth while their owners see NaN.
  std::map<float*, std::vector<float>> hidden;
  bool fenced = false;
  int registers = 0, wanted = 0;  // a thread's; what it waits for
};

// A bulk load on its way to shared memory.
struct Flight {
  std::function<void()> land;
};

// One shared access of a warp, for bank counts.
struct BankGroup {
  uint32_t bytes = 0, lanes = 0;
  uint32_t address[32];
};
// A warp, a place in the text, and the how manieth visit of the lane there.
using BankKey = std::tuple<int, const char*, int, uint32_t>;

class Block {
 public:
  Block(const Config& config, Memory& memory, const std::function<void()>& kernel);

  void Run(int x, int y, int z);

  [[noreturn]] void Fail(const std::string& what, const Site& site) const;
  void Check(const std::string& wrong, const Site& site) const {
    if (!wrong.empty()) Fail(wrong, site);
  }
  void Need(int arch, const Site& site) const;

  // The current thread stops here until MakeReady.
  void Wait(const Site& site);
  void MakeReady(int thread);

  // --- shared memory, checked ---
  uint8_t* At(uint32_t address, uint32_t bytes, uint32_t align, const Site& site);
  uint8_t* ForRead(uint32_t address, uint32_t bytes, uint32_t align, Thread& by, const Site& site);
  uint8_t* ForWrite(uint32_t address, uint32_t bytes, uint32_t align, Thread& by, const Site& site);
  Access By(Thread& t) { return {&t.clock, t.index, t.clock[size_t(t.index)], false}; }

  // --- happens-before ---
  void Release(Thread& t, Clock& into);
  void Acquire(Thread& t, const Clock& from);

  // --- meetings ---
  template <class Act>
  void MeetWarp(uint32_t mask, void* argument, const Site& site, Act act);
  template <class Act>
  void MeetWarpgroup(void* argument, const Site& site, Act act);

  // --- mbarriers ---
  Mbarrier& FindMbarrier(uint32_t address, const Site& site);
  int IndexOf(const Mbarrier& m) const { return int(&m - mbarriers.data()); }
  void Advance(Mbarrier& m);
  void CompleteBytes(int barrier, uint32_t bytes);

  int number() const { return index[0] + config.grid[0] * (index[1] + config.grid[1] * index[2]); }
  uint32_t Draw(uint32_t below);
  void CountBanks();

  Config config;
  Memory& memory;
  Stats stats;
  int index[3] = {};
  int warps = 0;
  std::vector<Thread> threads;
  Thread* current = nullptr;
  Shared shared;
  std::vector<std::vector<WarpMeeting>> meetings;  // per warp
  NamedBarrier barriers[16];
  std::vector<Mbarrier> mbarriers;
  std::vector<Warpgroup> warpgroups;
  int free_registers = 0;
  std::deque<Flight> flights;
  std::map<BankKey, BankGroup> banks;

 private:
  static void Main();
  void CheckExit(Thread& t);
  Thread* Pick();
  void Leave(Fiber& from);
  void Land(size_t i);
  std::string Deadlock() const;

  const std::function<void()>& kernel_;
  Stacks stacks_;
  Fiber main_;
  std::vector<uint32_t> ready_;  // lanes, per warp
  uint32_t ready_warps_ = 0;
  int warp_now_ = 0, live_ = 0;
  uint64_t random_ = 1;
  std::string failure_;
};

// The block that runs now.
Block& Now();

// --- templates --------------------------------------------------------------------------------

std::string Differ(const Site& here, const Site& there);
inline bool Same(const Site& a, const Site& b) {
  return a.at.line == b.at.line && std::string(a.op) == b.op;
}

template <class Act>
void Block::MeetWarp(uint32_t mask, void* argument, const Site& site, Act act) {
  Thread& t = *current;
  auto& met = meetings[size_t(t.warp)];
  if (!(mask >> t.lane & 1)) Fail("the lane is not in its own mask", site);
  size_t i = 0;
  while (i < met.size() && !(met[i].mask & mask)) ++i;
  if (i == met.size()) met.push_back({mask, 0, site, {}});
  if (!Same(met[i].site, site)) Fail("diverged warp: " + Differ(site, met[i].site), site);
  if (met[i].mask != mask) Fail("lanes of one warp meet with different masks", site);
  met[i].argument[t.lane] = argument;
  met[i].arrived |= 1u << t.lane;
  if (met[i].arrived != mask) {
    Wait(site);
    return;
  }
  WarpMeeting all = met[i];
  met.erase(met.begin() + long(i));
  act(all.argument);
  for (uint32_t lanes = mask & ~(1u << t.lane); lanes != 0; lanes &= lanes - 1) {
    MakeReady(t.warp * 32 + __builtin_ctz(lanes));
  }
}

template <class Act>
void Block::MeetWarpgroup(void* argument, const Site& site, Act act) {
  Thread& t = *current;
  if (config.threads % 128 != 0) Fail("a warpgroup needs whole groups of 128 threads", site);
  Warpgroup& g = warpgroups[size_t(t.index / 128)];
  if (g.arrived > 0 && !Same(g.site, site)) {
    Fail("diverged warpgroup: " + Differ(site, g.site), site);
  }
  g.site = site;
  g.argument[t.index % 128] = argument;
  if (++g.arrived < 128) {
    Wait(site);
    return;
  }
  g.arrived = 0;
  act(g, g.argument);
  const int first = t.index / 128 * 128;
  for (int i = first; i < first + 128; ++i) {
    if (i != t.index) MakeReady(i);
  }
}

}  // namespace emu
