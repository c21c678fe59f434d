// mbarriers: arrivals, bytes and phases, and who waits for them.
#include "emu/block.h"
#include "emu/machine.h"

namespace emu {

Mbarrier& Block::FindMbarrier(uint32_t address, const Site& site) {
  At(address, 8, 8, site);
  for (Mbarrier& m : mbarriers) {
    if (m.address == address) return m;
  }
  Fail("the mbarrier was never initialised", site);
}

// Ends phases as long as nothing is missing in them.
void Block::Advance(Mbarrier& m) {
  if (m.pending > 0 || m.bytes != 0) return;
  ++m.phase;
  m.pending = m.count;
  m.released.swap(m.gathering);
  m.gathering.assign(m.released.size(), 0);
  auto waiting = std::move(m.waiting);
  m.waiting.clear();
  for (const auto& [thread, parity] : waiting) {
    if ((m.phase & 1) != parity) {
      MakeReady(thread);
    } else {
      m.waiting.push_back({thread, parity});
    }
  }
}

// Bytes of a copy have landed: the copy engine's time in this phase is known to who waits for it.
void Block::CompleteBytes(int number, uint32_t bytes) {
  Mbarrier& m = mbarriers[size_t(number)];
  m.bytes -= bytes;
  if (config.races) m.gathering[size_t(config.threads + number)] = m.phase + 1;
  Advance(m);
}

void MbarrierInit(uint32_t barrier, uint32_t arrivals, Site site) {
  Block& b = Now();
  b.Need(900, site);
  for (const Mbarrier& m : b.mbarriers) {
    if (m.address == barrier) b.Fail("the mbarrier is initialised twice", site);
  }
  b.ForWrite(barrier, 8, 8, *b.current, site);
  if (arrivals == 0) b.Fail("an mbarrier for 0 arrivals", site);
  if (b.mbarriers.size() == kMaxMbarriers) {
    b.Fail("more than " + std::to_string(kMaxMbarriers) + " mbarriers", site);
  }
  Mbarrier m;
  m.address = barrier;
  m.initialiser = b.current->index;
  m.count = m.pending = arrivals;
  m.gathering.assign(b.current->clock.size(), 0);
  m.released = m.gathering;
  b.mbarriers.push_back(std::move(m));
  b.shared.SetBarrier(barrier);
}

void FenceMbarrierInit(Site site) {
  Block& b = Now();
  b.Need(900, site);
  for (Mbarrier& m : b.mbarriers) {
    if (m.initialiser == b.current->index) m.fenced = true;
  }
}

namespace {

// The barrier must have been initialised, visibly: by this thread or behind a barrier.
void CheckVisible(Block& b, uint32_t barrier, const Site& site) {
  if (!b.config.races) return;
  Access by = b.By(*b.current);
  by.who = -1;
  b.Check(b.shared.ReadBarrier(barrier, by), site);
}

}  // namespace

void MbarrierArrive(uint32_t barrier, uint32_t bytes, Site site) {
  Block& b = Now();
  b.Need(900, site);
  Mbarrier& m = b.FindMbarrier(barrier, site);
  CheckVisible(b, barrier, site);
  if (m.pending == 0) {
    b.Fail("an arrival more than the " + std::to_string(m.count) + " of the phase", site);
  }
  m.bytes += bytes;
  --m.pending;
  b.Release(*b.current, m.gathering);
  b.Advance(m);
}

void MbarrierWait(uint32_t barrier, uint32_t parity, Site site) {
  Block& b = Now();
  b.Need(900, site);
  Mbarrier& m = b.FindMbarrier(barrier, site);
  CheckVisible(b, barrier, site);
  while ((m.phase & 1) == parity) {
    m.waiting.push_back({b.current->index, parity});
    b.Wait(site);
  }
  b.Acquire(*b.current, m.released);
}

}  // namespace emu
