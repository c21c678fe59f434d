// Threads that meet: barriers of a block, warp shuffles and votes, a warpgroup's register budget.
#include "emu/block.h"
#include "emu/machine.h"

namespace emu {

int ThreadIndex() { return Now().current->index; }
int BlockIndex(int axis) { return Now().index[axis]; }
int GridSize(int axis) { return Now().config.grid[axis]; }

// What t did so far happened before whatever acquires `into`; t's time goes on.
void Block::Release(Thread& t, Clock& into) {
  if (!config.races) return;
  if (into.empty()) into.assign(t.clock.size(), 0);
  Join(into, t.clock);
  ++t.clock[size_t(t.index)];
}

void Block::Acquire(Thread& t, const Clock& from) {
  if (config.races && !from.empty()) Join(t.clock, from);
}

void Barrier(int id, int threads, bool wait, Site site) {
  Block& b = Now();
  Thread& t = *b.current;
  ++b.stats.barriers;
  if (id < 0 || id > 15) {
    b.Fail("named barrier " + std::to_string(id) + ": there are 0 to 15", site);
  }
  if (threads < 32 || threads % 32 != 0 || threads > b.config.threads) {
    b.Fail("a barrier of " + std::to_string(threads) +
               " threads: must be a multiple of 32 and at most " + std::to_string(b.config.threads),
           site);
  }
  NamedBarrier& n = b.barriers[id];
  if (n.arrived > 0 && n.expected != threads) {
    b.Fail("barrier " + std::to_string(id) + " is used with " + std::to_string(n.expected) +
               " and with " + std::to_string(threads) + " threads",
           site);
  }
  if (n.arrived == 0) {
    n.expected = threads;
    n.clock.clear();
  }
  b.Release(t, n.clock);
  if (wait) n.waiting.push_back(t.index);
  if (++n.arrived < n.expected) {
    if (wait) b.Wait(site);
    return;
  }
  n.arrived = 0;
  for (int i : n.waiting) {
    b.Acquire(b.threads[size_t(i)], n.clock);
    if (i != t.index) b.MakeReady(i);
  }
  n.waiting.clear();
}

void SyncThreads(Site site) { Barrier(0, Now().config.threads, true, site); }

void SyncWarp(uint32_t lanes, Site site) {
  Block& b = Now();
  b.MeetWarp(lanes, nullptr, site, [&](void**) {
    Thread* warp = &b.threads[size_t(b.current->warp * 32)];
    Clock all;
    for (int l = 0; l < 32; ++l) {
      if (lanes >> l & 1) b.Release(warp[l], all);
    }
    for (int l = 0; l < 32; ++l) {
      if (lanes >> l & 1) b.Acquire(warp[l], all);
    }
  });
}

uint32_t Shuffle(Shuffled kind, uint32_t value, int by, uint32_t lanes, Site site) {
  Block& b = Now();
  struct Lane {
    uint32_t value, result;
    int by;
  } mine{value, value, by};
  b.MeetWarp(lanes, &mine, site, [&](void** arguments) {
    for (int l = 0; l < 32; ++l) {
      if (!(lanes >> l & 1)) continue;
      Lane& lane = *static_cast<Lane*>(arguments[l]);
      int from = l;
      if (kind == Shuffled::kXor) from = l ^ lane.by;
      if (kind == Shuffled::kIndex) from = lane.by & 31;
      if (kind == Shuffled::kUp) from = l - lane.by < 0 ? l : l - lane.by;
      if (kind == Shuffled::kDown) from = l + lane.by > 31 ? l : l + lane.by;
      if (from < 0 || from > 31 || !(lanes >> from & 1)) {
        b.Fail("lane " + std::to_string(l) + " reads lane " + std::to_string(from) +
                   ", which is not in the mask",
               site);
      }
      lane.result = static_cast<Lane*>(arguments[from])->value;
    }
  });
  return mine.result;
}

uint32_t Ballot(bool yes, uint32_t lanes, Site site) {
  struct Lane {
    bool yes;
    uint32_t result;
  } mine{yes, 0};
  Now().MeetWarp(lanes, &mine, site, [&](void** arguments) {
    uint32_t result = 0;
    for (int l = 0; l < 32; ++l) {
      if ((lanes >> l & 1) && static_cast<Lane*>(arguments[l])->yes) result |= 1u << l;
    }
    for (int l = 0; l < 32; ++l) {
      if (lanes >> l & 1) static_cast<Lane*>(arguments[l])->result = result;
    }
  });
  return mine.result;
}

bool Elect(Site site) {
  Block& b = Now();
  b.Need(900, site);
  bool chosen = false;
  b.MeetWarp(~0u, &chosen, site, [&](void** arguments) {
    // Kernels must not rely on which lane it is.
    const uint32_t l = b.config.order == Order::kRandom    ? b.Draw(32)
                       : b.config.order == Order::kReverse ? 31
                                                           : 0;
    *static_cast<bool*>(arguments[l]) = true;
  });
  return chosen;
}

namespace {

void GrantRegisters(Block& b) {
  for (size_t i = 0; i < b.warpgroups.size(); ++i) {
    Warpgroup& g = b.warpgroups[i];
    if (g.wanted == 0 || (g.wanted - g.registers) * 128 > b.free_registers) continue;
    b.free_registers -= (g.wanted - g.registers) * 128;
    g.registers = g.wanted;
    g.wanted = 0;
    if (b.current->index / 128 == int(i)) continue;  // its threads still meet
    for (int t = int(i) * 128; t < int(i) * 128 + 128; ++t) {
      if (b.threads[size_t(t)].state == Thread::State::kBlocked) b.MakeReady(t);
    }
  }
}

}  // namespace

void SetMaxRegisters(int registers, bool more, Site site) {
  Block& b = Now();
  b.Need(900, site);
  if (registers < 24 || registers > 256 || registers % 8 != 0) {
    b.Fail("setmaxnreg to " + std::to_string(registers) + ": a multiple of 8 from 24 to 256", site);
  }
  b.MeetWarpgroup(nullptr, site, [&](Warpgroup& g, void**) {
    if (b.config.registers_at_entry == 0) return;
    if (more ? registers < g.registers : registers > g.registers) {
      b.Fail("setmaxnreg from " + std::to_string(g.registers) + " to " + std::to_string(registers) +
                 (more ? ": .inc lowers nothing" : ": .dec raises nothing"),
             site);
    }
    if (more) {
      g.wanted = registers;
    } else {
      b.free_registers += (g.registers - registers) * 128;
      g.registers = registers;
    }
    GrantRegisters(b);
  });
  while (b.warpgroups[size_t(b.current->index / 128)].wanted != 0) b.Wait(site);
}

}  // namespace emu
