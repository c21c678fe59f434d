// A block's shared memory and who touched it last: the race detector. Vector clocks, one entry per
// thread and one per mbarrier, which stands for the copy engine in that barrier's phases.
//
// What orders two accesses: SyncThreads, named barriers, an mbarrier's arrive and wait, SyncWarp.
// Shuffles, votes and matrix instructions do not, as PTX does not promise it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "emu/machine.h"

namespace emu {

using Clock = std::vector<uint32_t>;

inline constexpr int kMaxMbarriers = 64;

void Join(Clock& into, const Clock& from);

// Who accesses: a thread by its own clock, or the copy engine on behalf of one.
struct Access {
  const Clock* clock;  // what happened before
  int who;             // the thread, or threads + mbarrier; -1: a read that nobody need wait for
  uint32_t epoch;      // who's own time
  bool async_proxy;    // by the copy engine or wgmma: generic writes need a proxy fence before
};

class Shared {
 public:
  void Begin(int threads, uint32_t bytes, bool races);

  // The bytes, after checks of range and alignment; a sentence in `wrong` otherwise.
  uint8_t* Find(uint32_t address, uint32_t bytes, uint32_t align, std::string& wrong);

  // Each returns what is wrong, or nothing.
  std::string Read(uint32_t address, uint32_t bytes, const Access& by);
  // The same of an mbarrier's own eight bytes: whether its initialisation is ordered before.
  std::string ReadBarrier(uint32_t address, const Access& by) const;
  std::string Write(uint32_t address, uint32_t bytes, const Access& by);
  // A reader more, of an access that Read has checked.
  void MarkRead(uint32_t address, uint32_t bytes, int thread, uint32_t epoch);
  // From now on, or no longer, a cp.async is to land there and nobody may read.
  void SetPending(uint32_t address, uint32_t bytes, bool pending);
  // From now on an mbarrier: no plain access.
  void SetBarrier(uint32_t address);

  void FenceProxy(int thread, uint32_t epoch) { fences_[size_t(thread)].push_back(epoch); }
  bool races() const { return races_; }

 private:
  // Of two bytes, the smallest element: neighbours may be written by different threads.
  struct Granule {
    uint16_t writer;
    bool written, async, pending, barrier;
    uint32_t epoch;
  };
  // A warp's last readers: the lanes that read at this epoch of their own.
  struct Readers {
    uint32_t lanes, epoch;
  };
  std::string Name(int who) const;
  std::string CheckWriter(const Granule& g, const Access& by) const;

  int threads_ = 0, warps_ = 0;
  bool races_ = false;
  std::vector<uint8_t> bytes_;
  std::vector<Granule> granules_;
  std::vector<Readers> readers_;
  std::vector<std::vector<uint32_t>> fences_;
};

}  // namespace emu
