// Plain loads and stores of shared and global memory, and how often they collide in the banks.
#include <algorithm>
#include <cstring>

#include "emu/block.h"
#include "emu/machine.h"

namespace emu {

uint8_t* Block::At(uint32_t address, uint32_t bytes, uint32_t align, const Site& site) {
  std::string wrong;
  uint8_t* p = shared.Find(address, bytes, align, wrong);
  Check(wrong, site);
  return p;
}

uint8_t* Block::ForRead(uint32_t address, uint32_t bytes, uint32_t align, Thread& by,
                        const Site& site) {
  uint8_t* p = At(address, bytes, align, site);
  if (config.races) Check(shared.Read(address, bytes, By(by)), site);
  return p;
}

uint8_t* Block::ForWrite(uint32_t address, uint32_t bytes, uint32_t align, Thread& by,
                         const Site& site) {
  uint8_t* p = At(address, bytes, align, site);
  if (config.races) Check(shared.Write(address, bytes, By(by)), site);
  return p;
}

namespace {

void CountAccess(Block& b, uint32_t address, uint32_t bytes, const Site& site) {
  if (!b.config.banks) return;
  Thread& t = *b.current;
  const uint32_t visit = t.visits[{site.at.file, site.at.line}]++;
  BankGroup& g = b.banks[{t.warp, site.at.file, site.at.line, visit}];
  g.bytes = bytes;
  g.lanes |= 1u << t.lane;
  g.address[t.lane] = address;
}

}  // namespace

// 32 banks of 4 bytes. Wide accesses go by the half or quarter warp; equal words are read once.
void Block::CountBanks() {
  for (const auto& [key, g] : banks) {
    const int lanes = g.bytes <= 4 ? 32 : int(128 / g.bytes);
    for (int first = 0; first < 32; first += lanes) {
      std::vector<uint32_t> words;
      for (int l = first; l < first + lanes; ++l) {
        if (!(g.lanes >> l & 1)) continue;
        for (uint32_t w = 0; w < std::max(1u, g.bytes / 4); ++w) {
          words.push_back(g.address[l] / 4 + w);
        }
      }
      if (words.empty()) continue;
      std::sort(words.begin(), words.end());
      words.erase(std::unique(words.begin(), words.end()), words.end());
      uint32_t most = 0, in_bank[32] = {};
      for (uint32_t w : words) most = std::max(most, ++in_bank[w % 32]);
      stats.shared_passes += most;
      ++stats.shared_ideal;
    }
  }
}

void LoadShared(uint32_t from, void* to, uint32_t bytes, Site site) {
  Block& b = Now();
  std::memcpy(to, b.ForRead(from, bytes, bytes, *b.current, site), bytes);
  CountAccess(b, from, bytes, site);
}

void StoreShared(uint32_t to, const void* from, uint32_t bytes, Site site) {
  Block& b = Now();
  std::memcpy(b.ForWrite(to, bytes, bytes, *b.current, site), from, bytes);
  CountAccess(b, to, bytes, site);
}

namespace {

void CheckAligned(Block& b, const void* p, uint32_t bytes, const Site& site) {
  if (reinterpret_cast<uintptr_t>(p) % bytes != 0) {
    b.Fail("misaligned global address: not a multiple of " + std::to_string(bytes), site);
  }
}

}  // namespace

void LoadGlobal(const void* from, void* to, uint32_t bytes, bool read_only, Site site) {
  Block& b = Now();
  CheckAligned(b, from, bytes, site);
  if (read_only) b.Check(b.memory.ReadOnly(from, bytes), site);
  b.Check(b.memory.Read(from, bytes, b.number()), site);
  std::memcpy(to, from, bytes);
}

void StoreGlobal(void* to, const void* from, uint32_t bytes, Site site) {
  Block& b = Now();
  CheckAligned(b, to, bytes, site);
  b.Check(b.memory.Write(to, bytes, b.number()), site);
  std::memcpy(to, from, bytes);
}

uint32_t AtomicAdd(uint32_t* to, uint32_t value, Site site) {
  Block& b = Now();
  CheckAligned(b, to, 4, site);
  b.Check(b.memory.Add(to, 4), site);
  const uint32_t before = *to;
  *to += value;
  return before;
}

void ReduceAdd(float* to, float value, Site site) {
  Block& b = Now();
  CheckAligned(b, to, 4, site);
  b.Check(b.memory.Add(to, 4), site);
  *to += value;
}

}  // namespace emu
