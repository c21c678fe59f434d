// The scheduler: from a launch to fibers, whose turn it is, and what a deadlock looks like.
#include "emu/block.h"

#include <algorithm>
#include <cstdio>
#include <numeric>

namespace emu {

namespace {

Block* now = nullptr;

std::string Place(const Site& s) {
  return std::string(s.op) + " at " + s.at.file + ":" + std::to_string(s.at.line);
}

}  // namespace

Block& Now() { return *now; }

std::string Differ(const Site& here, const Site& there) {
  return "some are in " + Place(there) + ", others in " + Place(here);
}

Block::Block(const Config& c, Memory& m, const std::function<void()>& kernel)
    : config(c), memory(m), kernel_(kernel), stacks_(c.threads) {
  if (c.threads % 32 != 0 || c.threads < 32 || c.threads > 1024) {
    throw Error("a block of " + std::to_string(c.threads) +
                " threads: must be a multiple of 32, at most 1024");
  }
  random_ = c.seed * 0x9E3779B97F4A7C15u + 1;
  for (int i = 0; i < 4; ++i) Draw(2);
}

uint32_t Block::Draw(uint32_t below) {
  random_ ^= random_ << 13;
  random_ ^= random_ >> 7;
  random_ ^= random_ << 17;
  return uint32_t(random_ >> 32) % below;
}

void Block::Fail(const std::string& what, const Site& site) const {
  std::string text = what + " [" + Place(site) + "; block " + std::to_string(index[0]) + "," +
                     std::to_string(index[1]) + "," + std::to_string(index[2]);
  if (current) text += ", thread " + std::to_string(current->index);
  throw Error(text + "]");
}

void Block::Need(int arch, const Site& site) const {
  if (config.arch < arch) {
    Fail("the instruction needs sm_" + std::to_string(arch / 10) + ", this is sm_" +
             std::to_string(config.arch / 10),
         site);
  }
}

void Block::MakeReady(int thread) {
  Thread& t = threads[size_t(thread)];
  t.state = Thread::State::kReady;
  ready_[size_t(t.warp)] |= 1u << t.lane;
  ready_warps_ |= 1u << t.warp;
}

void Block::Land(size_t i) {
  Flight f = std::move(flights[i]);
  flights.erase(flights.begin() + long(i));
  Thread* const saved = current;
  try {
    f.land();
  } catch (const Error& e) {
    if (failure_.empty()) failure_ = e.what();
  }
  current = saved;
}

Thread* Block::Pick() {
  const bool drawn = config.landing == Landing::kRandom;
  if (drawn && !flights.empty() && Draw(8) == 0) Land(Draw(uint32_t(flights.size())));
  while (ready_warps_ == 0 && !flights.empty() && failure_.empty()) {
    if (live_ == 0) {
      failure_ = "the block ends while a bulk load is in flight";
    } else {  // nobody can run: the latest legal moment
      Land(drawn ? Draw(uint32_t(flights.size())) : 0);
    }
  }
  if (!failure_.empty() || ready_warps_ == 0) return nullptr;

  const bool random = config.order == Order::kRandom;
  int w = warp_now_;
  if (random && (ready_[size_t(w)] == 0 || Draw(4) == 0)) {
    do w = int(Draw(uint32_t(warps)));
    while (ready_[size_t(w)] == 0);
  } else if (ready_[size_t(w)] == 0) {
    w = config.order == Order::kGreedy ? __builtin_ctz(ready_warps_)
                                       : 31 - __builtin_clz(ready_warps_);
  }
  warp_now_ = w;
  const uint32_t lanes = ready_[size_t(w)];
  const bool lowest = random ? Draw(2) == 0 : config.order == Order::kGreedy;
  const int lane = lowest ? __builtin_ctz(lanes) : 31 - __builtin_clz(lanes);
  ready_[size_t(w)] &= ~(1u << lane);
  if (ready_[size_t(w)] == 0) ready_warps_ &= ~(1u << w);
  return &threads[size_t(w * 32 + lane)];
}

void Block::Leave(Fiber& from) {
  Thread* next = Pick();
  current = next;
  Fiber& to = next ? next->fiber : main_;
  if (&to != &from) Switch(from, to);
}

void Block::Wait(const Site& site) {
  Thread& t = *current;
  t.state = Thread::State::kBlocked;
  t.where = site;
  Leave(t.fiber);
}

void Block::CheckExit(Thread& t) {
  const Site site{"exit", {"the kernel's end", 0}};
  if (!t.copies.empty() || !t.copy_groups.empty()) {
    Fail("the thread ends with a cp.async in flight", site);
  }
  if (!t.bulk.empty() || !t.bulk_groups.empty()) {
    Fail("the thread ends with a bulk store in flight", site);
  }
  if (config.threads % 128 != 0) return;
  const Warpgroup& g = warpgroups[size_t(t.index / 128)];
  if (!g.open.empty() || !g.groups.empty()) Fail("the thread ends with a wgmma in flight", site);
}

void Block::Main() {
  Fiber::Entered();
  Block& b = *now;
  Thread& t = *b.current;
  try {
    b.kernel_();
    b.CheckExit(t);
  } catch (const std::exception& e) {  // leave the handler before the fiber is left
    if (b.failure_.empty()) b.failure_ = e.what();
  }
  t.state = Thread::State::kDone;
  --b.live_;
  b.Leave(t.fiber);
  __builtin_unreachable();
}

std::string Block::Deadlock() const {
  std::string text = "deadlock: nobody can run\n";
  for (int w = 0; w < warps; ++w) {
    std::map<std::string, uint32_t> places;
    for (int l = 0; l < 32; ++l) {
      const Thread& t = threads[size_t(w * 32 + l)];
      places[t.state == Thread::State::kDone ? "ended" : Place(t.where)] |= 1u << l;
    }
    for (const auto& [place, lanes] : places) {
      char mask[16];
      std::snprintf(mask, sizeof mask, "%08x", lanes);
      text += "  warp " + std::to_string(w) + " lanes " + mask + ": " + place + "\n";
    }
  }
  return text;
}

void Block::Run(int x, int y, int z) {
  index[0] = x, index[1] = y, index[2] = z;
  now = this;
  warps = config.threads / 32;
  ready_.assign(size_t(warps), 0);
  ready_warps_ = 0;
  meetings.assign(size_t(warps), {});
  for (NamedBarrier& b : barriers) b = {};
  mbarriers.clear();
  mbarriers.reserve(kMaxMbarriers);
  warpgroups.assign(size_t(config.threads / 128), {});
  for (Warpgroup& g : warpgroups) g.registers = config.registers_at_entry;
  free_registers = 0;
  flights.clear();
  banks.clear();
  shared.Begin(config.threads, config.shared_bytes, config.races);
  failure_.clear();
  live_ = config.threads;
  warp_now_ = config.order == Order::kReverse  ? warps - 1
              : config.order == Order::kRandom ? int(Draw(uint32_t(warps)))
                                               : 0;
  threads.clear();
  threads.resize(size_t(config.threads));
  for (int i = 0; i < config.threads; ++i) {
    Thread& t = threads[size_t(i)];
    t.index = i;
    t.lane = i % 32;
    t.warp = i / 32;
    t.clock.assign(size_t(config.threads + kMaxMbarriers), 0);
    t.clock[size_t(i)] = 1;
    t.fiber.Prepare(stacks_.Get(i), Stacks::kBytes, Main);
    MakeReady(i);
  }
  current = nullptr;
  Leave(main_);
  if (failure_.empty() && live_ > 0) failure_ = Deadlock();
  if (!failure_.empty()) throw Error(failure_);
  if (config.banks) CountBanks();
}

Stats Launch(const Config& config, Memory& memory, const std::function<void()>& kernel) {
  memory.Begin();
  const Stats stats = RunGrid(config, memory, kernel);
  if (std::string wrong = memory.End(); !wrong.empty()) throw Error(wrong);
  return stats;
}

Stats RunGrid(const Config& config, Memory& memory, const std::function<void()>& kernel) {
  Block block(config, memory, kernel);
  std::vector<int> order(size_t(config.grid[0]) * config.grid[1] * config.grid[2]);
  std::iota(order.begin(), order.end(), 0);
  if (config.order == Order::kReverse) std::reverse(order.begin(), order.end());
  if (config.order == Order::kRandom) {
    for (size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1], order[block.Draw(uint32_t(i))]);
    }
  }
  for (int n : order) {
    block.Run(n % config.grid[0], n / config.grid[0] % config.grid[1],
              n / (config.grid[0] * config.grid[1]));
  }
  return block.stats;
}

std::vector<Config> Schedules(const Config& base, uint64_t seed) {
  std::vector<Config> all(3, base);
  all[1].order = Order::kReverse;
  all[1].landing = Landing::kEarly;
  all[2].order = Order::kRandom;
  all[2].landing = Landing::kRandom;
  all[2].seed = seed;
  return all;
}

}  // namespace emu
