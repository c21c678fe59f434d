// Asynchronous copies: poison where they will land, then the data at the moment that the schedule
// chooses, the latest legal one by default.
#include <cstring>

#include "emu/block.h"
#include "emu/machine.h"

namespace emu {

namespace {

constexpr int kPoison = 0xFF;

void Finish(Block& b, Thread& t, const Copy& c) {
  b.shared.SetPending(c.to, c.bytes, false);
  uint8_t* to = b.ForWrite(c.to, c.bytes, c.bytes, t, c.site);
  if (c.valid) {
    std::memcpy(to, c.from, c.bytes);
  } else {
    std::memset(to, 0, c.bytes);
  }
}

bool Early(Block& b) {
  return b.config.landing == Landing::kEarly ||
         (b.config.landing == Landing::kRandom && b.Draw(2) == 0);
}

}  // namespace

void CpAsync(uint32_t to, const void* from, uint32_t bytes, bool valid, Site site) {
  Block& b = Now();
  Thread& t = *b.current;
  b.Need(800, site);
  ++b.stats.async_copies;
  if (reinterpret_cast<uintptr_t>(from) % bytes != 0) {
    b.Fail("misaligned global address: not a multiple of " + std::to_string(bytes), site);
  }
  if (valid) b.Check(b.memory.Read(from, bytes, b.number()), site);
  std::memset(b.ForWrite(to, bytes, bytes, t, site), kPoison, bytes);
  b.shared.SetPending(to, bytes, true);
  t.copies.push_back({to, from, bytes, valid, site});
}

void CpAsyncCommit(Site site) {
  Thread& t = *Now().current;
  Now().Need(800, site);
  t.copy_groups.push_back(std::move(t.copies));
  t.copies.clear();
}

void CpAsyncWait(int pending, Site site) {
  Block& b = Now();
  Thread& t = *b.current;
  b.Need(800, site);
  while (int(t.copy_groups.size()) > pending) {
    for (const Copy& c : t.copy_groups.front()) Finish(b, t, c);
    t.copy_groups.pop_front();
  }
}

namespace {

// Takes the shared bytes for the copy engine, which must come after all that was done with them.
int Claim(Block& b, uint32_t to, uint32_t bytes, uint32_t align, uint32_t barrier,
          const Site& site) {
  Mbarrier& m = b.FindMbarrier(barrier, site);
  if (!m.fenced) {
    b.Fail("a bulk load on an mbarrier that was initialised without FenceMbarrierInit", site);
  }
  const int i = b.IndexOf(m);
  uint8_t* p = b.At(to, bytes, align, site);
  if (b.config.races) {
    b.Check(b.shared.Write(to, bytes, {&b.current->clock, b.config.threads + i, m.phase + 1, true}),
            site);
  }
  std::memset(p, kPoison, bytes);
  ++b.stats.bulk_copies;
  return i;
}

void Fly(Block& b, std::function<void()> land) {
  if (b.config.landing == Landing::kEarly) {
    land();
  } else {
    b.flights.push_back({std::move(land)});
  }
}

// Calls f(global pointer or null, shared address) for each 16 bytes of a box, f taking how many of
// them lie inside the tensor.
template <class F>
void EachChunk(const TensorMap& m, const int* at, uint32_t shared, F f) {
  const uint32_t inner = m.box[0] * m.element;
  uint32_t rows = 1;
  for (int i = 1; i < m.rank; ++i) rows *= m.box[i];
  for (uint32_t r = 0; r < rows; ++r) {
    int64_t offset = 0;
    bool inside = true;
    uint32_t rest = r;
    for (int i = 1; i < m.rank; ++i) {
      const int64_t x = at[i] + int64_t(rest % m.box[i]);
      rest /= m.box[i];
      inside = inside && x >= 0 && x < int64_t(m.size[i]);
      offset += x * int64_t(m.stride[i]);
    }
    for (uint32_t byte = 0; byte < inner; byte += 16) {
      uint32_t to = shared + r * inner + byte;
      if (m.swizzle) to = Swizzle128(to);
      for (uint32_t e = 0; e < 16; e += m.element) {
        const int64_t x = at[0] + int64_t((byte + e) / m.element);
        const bool there = inside && x >= 0 && x < int64_t(m.size[0]);
        const char* p = static_cast<const char*>(m.base) + offset + x * m.element;
        f(there ? p : nullptr, to + e);
      }
    }
  }
}

uint32_t CheckMap(Block& b, const TensorMap& m, int rank, uint32_t shared, const Site& site) {
  if (m.rank != rank) {
    b.Fail("a tensor map of rank " + std::to_string(m.rank) + " used with rank " +
               std::to_string(rank),
           site);
  }
  uint32_t bytes = m.element;
  for (int i = 0; i < m.rank; ++i) bytes *= m.box[i];
  if (m.box[0] * m.element % 16 != 0) b.Fail("the box's inner size is no multiple of 16", site);
  if (m.swizzle && m.box[0] * m.element > 128) {
    b.Fail("the box's inner size is wider than the swizzle's 128 bytes", site);
  }
  if (m.swizzle && shared % 1024 != 0) {
    b.Fail("a swizzled box must lie at a multiple of 1024 in shared memory", site);
  }
  return bytes;
}

}  // namespace

void BulkLoad(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier, Site site) {
  Block& b = Now();
  b.Need(900, site);
  if (bytes % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0) {
    b.Fail("a bulk copy's size and addresses must be multiples of 16", site);
  }
  b.Check(b.memory.Read(from, bytes, b.number()), site);
  const int i = Claim(b, to, bytes, 16, barrier, site);
  Fly(b, [&b, i, to, from, bytes, site] {
    std::memcpy(b.At(to, bytes, 16, site), from, bytes);
    b.CompleteBytes(i, bytes);
  });
}

void PrefetchTensorMap(const TensorMap* map, Site site) {
  Now().Need(900, site);
  if (map->rank < 2 || map->rank > 4) Now().Fail("no tensor map lies there", site);
}

void TmaLoad(uint32_t to, const TensorMap* map, uint32_t barrier, const int* at, int rank,
             Site site) {
  Block& b = Now();
  b.Need(900, site);
  const uint32_t bytes = CheckMap(b, *map, rank, to, site);
  const int i = Claim(b, to, bytes, 128, barrier, site);
  struct Box {
    TensorMap map;
    int at[4] = {};
  } box{*map, {}};
  std::memcpy(box.at, at, sizeof(int) * size_t(rank));
  Fly(b, [&b, i, to, bytes, box, site] {
    EachChunk(box.map, box.at, to, [&](const char* from, uint32_t address) {
      uint8_t* p = b.At(address, box.map.element, 1, site);
      if (!from) {
        std::memset(p, 0, box.map.element);
        return;
      }
      b.Check(b.memory.Read(from, box.map.element, b.number()), site);
      std::memcpy(p, from, box.map.element);
    });
    b.CompleteBytes(i, bytes);
  });
}

// --- back to global memory: when the thread waits -----------------------------------------------

namespace {

void Queue(Block& b, std::function<void()> act) {
  if (Early(b)) {
    act();
    act = [] {};
  }
  b.current->bulk.push_back(std::move(act));
  ++b.stats.bulk_copies;
}

Access Engine(Block& b, const Clock& clock) {
  return {&clock, b.current->index, b.current->clock[size_t(b.current->index)], true};
}

}  // namespace

void BulkReduceAdd(float* to, uint32_t from, uint32_t bytes, Site site) {
  Block& b = Now();
  b.Need(900, site);
  if (bytes % 16 != 0 || reinterpret_cast<uintptr_t>(to) % 16 != 0) {
    b.Fail("a bulk copy's size and addresses must be multiples of 16", site);
  }
  b.Check(b.memory.Add(to, bytes), site);
  b.At(from, bytes, 16, site);
  Queue(b, [&b, to, from, bytes, site, clock = b.current->clock] {
    const uint8_t* p = b.At(from, bytes, 16, site);
    if (b.config.races) b.Check(b.shared.Read(from, bytes, Engine(b, clock)), site);
    for (uint32_t i = 0; i < bytes / 4; ++i) {
      float x;
      std::memcpy(&x, p + 4 * i, 4);
      to[i] += x;
    }
  });
}

void TmaStore(const TensorMap* map, uint32_t from, const int* at, int rank, Site site) {
  Block& b = Now();
  b.Need(900, site);
  const uint32_t bytes = CheckMap(b, *map, rank, from, site);
  struct Box {
    TensorMap map;
    int at[4] = {};
  } box{*map, {}};
  std::memcpy(box.at, at, sizeof(int) * size_t(rank));
  b.At(from, bytes, 128, site);
  Queue(b, [&b, from, bytes, box, site, clock = b.current->clock] {
    if (b.config.races) b.Check(b.shared.Read(from, bytes, Engine(b, clock)), site);
    EachChunk(box.map, box.at, from, [&](const char* to, uint32_t address) {
      if (!to) return;
      b.Check(b.memory.Write(to, box.map.element, b.number()), site);
      std::memcpy(const_cast<char*>(to), b.At(address, box.map.element, 1, site), box.map.element);
    });
  });
}

void BulkCommit(Site site) {
  Thread& t = *Now().current;
  Now().Need(900, site);
  t.bulk_groups.push_back(std::move(t.bulk));
  t.bulk.clear();
}

void BulkWait(int pending, Site site) {
  Thread& t = *Now().current;
  Now().Need(900, site);
  while (int(t.bulk_groups.size()) > pending) {
    for (const auto& act : t.bulk_groups.front()) act();
    t.bulk_groups.pop_front();
  }
}

void FenceProxyAsync(Site site) {
  Block& b = Now();
  b.Need(900, site);
  if (!b.config.races) return;
  uint32_t& time = b.current->clock[size_t(b.current->index)];
  b.shared.FenceProxy(b.current->index, time);
  ++time;
}

}  // namespace emu
