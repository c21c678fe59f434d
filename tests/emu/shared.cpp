// The race detector: every access against the last writer and the last readers.
#include "emu/shared.h"

namespace emu {

void Join(Clock& into, const Clock& from) {
  uint32_t* a = into.data();
  const uint32_t* b = from.data();
  for (size_t i = 0, n = into.size(); i < n; ++i) a[i] = a[i] > b[i] ? a[i] : b[i];
}

void Shared::Begin(int threads, uint32_t bytes, bool races) {
  threads_ = threads;
  warps_ = threads / 32;
  races_ = races;
  bytes_.assign(bytes, 0xFF);  // NaN in every floating-point type
  if (!races) return;
  granules_.assign(bytes / 2 + 1, {});
  readers_.assign((bytes / 2 + 1) * size_t(warps_), {});
  fences_.assign(size_t(threads), {});
}

uint8_t* Shared::Find(uint32_t address, uint32_t bytes, uint32_t align, std::string& wrong) {
  if (address < kSharedBase || uint64_t(address) + bytes > uint64_t(kSharedBase) + bytes_.size()) {
    wrong = "shared address out of range: " + std::to_string(bytes) + " bytes at offset " +
            std::to_string(int64_t(address) - kSharedBase) + " of " + std::to_string(bytes_.size());
    return nullptr;
  }
  if (address % align != 0) {
    wrong = "misaligned shared address: offset " + std::to_string(address - kSharedBase) +
            ", not a multiple of " + std::to_string(align);
    return nullptr;
  }
  return bytes_.data() + (address - kSharedBase);
}

std::string Shared::Name(int who) const {
  if (who >= threads_) return "the copy on mbarrier " + std::to_string(who - threads_);
  return "thread " + std::to_string(who) + " (warp " + std::to_string(who / 32) + ")";
}

// A generic write is visible to the async proxy only behind a fence of its writer, itself ordered
// before the reader.
std::string Shared::CheckWriter(const Granule& g, const Access& by) const {
  if (g.writer != by.who && g.epoch > (*by.clock)[g.writer]) {
    return "race: read not ordered after the write by " + Name(g.writer);
  }
  if (!by.async_proxy || g.async) return {};
  const auto& fences = fences_[g.writer];
  for (size_t i = fences.size(); i-- > 0 && fences[i] >= g.epoch;) {
    if (fences[i] <= (*by.clock)[g.writer]) return {};
  }
  return "asynchronous read of a plain write without fence.proxy.async by " + Name(g.writer);
}

std::string Shared::Read(uint32_t address, uint32_t bytes, const Access& by) {
  if (!races_) return {};
  const uint32_t first = (address - kSharedBase) / 2, end = (address - kSharedBase + bytes + 1) / 2;
  for (uint32_t i = first; i < end; ++i) {
    const Granule& g = granules_[i];
    if (g.barrier) return "plain access to an mbarrier";
    if (g.pending) return "read of shared memory whose cp.async was not waited for";
    if (!g.written) return "read of shared memory that nothing wrote";
    if (std::string wrong = CheckWriter(g, by); !wrong.empty()) return wrong;
  }
  if (by.who >= 0) MarkRead(address, bytes, by.who, by.epoch);
  return {};
}

std::string Shared::ReadBarrier(uint32_t address, const Access& by) const {
  return CheckWriter(granules_[(address - kSharedBase) / 2], by);
}

void Shared::MarkRead(uint32_t address, uint32_t bytes, int thread, uint32_t epoch) {
  if (!races_) return;
  const uint32_t first = (address - kSharedBase) / 2, end = (address - kSharedBase + bytes + 1) / 2;
  for (uint32_t i = first; i < end; ++i) {
    Readers& r = readers_[size_t(i) * warps_ + thread / 32];
    if (r.epoch != epoch) r = {0, epoch};
    r.lanes |= 1u << thread % 32;
  }
}

std::string Shared::Write(uint32_t address, uint32_t bytes, const Access& by) {
  if (!races_) return {};
  const Clock& before = *by.clock;
  const uint32_t first = (address - kSharedBase) / 2, end = (address - kSharedBase + bytes + 1) / 2;
  for (uint32_t i = first; i < end; ++i) {
    Granule& g = granules_[i];
    if (g.barrier) return "plain access to an mbarrier";
    if (g.pending) return "write where a cp.async that was not waited for is to land";
    if (g.written && g.writer != by.who && g.epoch > before[g.writer]) {
      return "race: write not ordered after the write by " + Name(g.writer);
    }
    Readers* readers = &readers_[size_t(i) * warps_];
    for (int w = 0; w < warps_; ++w) {
      for (uint32_t lanes = readers[w].lanes; lanes != 0; lanes &= lanes - 1) {
        const int who = w * 32 + __builtin_ctz(lanes);
        if (who != by.who && readers[w].epoch > before[who]) {
          return "race: write not ordered after the read by " + Name(who);
        }
      }
      readers[w].lanes = 0;
    }
    g = {uint16_t(by.who), true, by.async_proxy, false, false, by.epoch};
  }
  return {};
}

void Shared::SetPending(uint32_t address, uint32_t bytes, bool pending) {
  if (!races_) return;
  const uint32_t first = (address - kSharedBase) / 2;
  for (uint32_t i = 0; i < bytes / 2; ++i) granules_[first + i].pending = pending;
}

void Shared::SetBarrier(uint32_t address) {
  if (!races_) return;
  for (uint32_t i = 0; i < 4; ++i) granules_[(address - kSharedBase) / 2 + i].barrier = true;
}

}  // namespace emu
