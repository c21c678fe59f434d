// A warpgroup's matrix instruction, run when it is waited for: until then its owners see NaN in the
// accumulators, and operands that are overwritten too early give wrong numbers or a race.
#include <cmath>
#include <cstring>

#include "emu/block.h"
#include "emu/machine.h"

namespace emu {

namespace {

// A shared operand as its descriptor says: the layouts are drawn in the ptx layer's wgmma.h.
struct Operand {
  uint32_t start, leading, stride;
  bool trans;

  Operand(uint64_t d, bool transposed)
      : start(uint32_t(d & 0x3fff) << 4),
        leading(uint32_t(d >> 16 & 0x3fff) << 4),
        stride(uint32_t(d >> 32 & 0x3fff) << 4),
        trans(transposed) {}

  uint32_t Address(int mn, int k) const {
    const uint32_t m = uint32_t(mn), kk = uint32_t(k);
    return Swizzle128(trans
                          ? start + m / 64 * leading + 2 * (m % 64) + kk / 8 * stride + kk % 8 * 128
                          : start + m / 8 * stride + m % 8 * 128 + 2 * kk);
  }
};

// rows × 16 elements of an operand in shared memory.
std::vector<float> ReadShared(Block& b, const Product& p, const Operand& o, int rows, int group) {
  std::vector<float> out(size_t(rows) * 16);
  for (int i = 0; i < rows; ++i) {
    for (int k = 0; k < 16; ++k) {
      const uint32_t address = o.Address(i, k);
      uint16_t bits;
      std::memcpy(&bits, b.At(address, 2, 2, p.site), 2);
      if (b.config.races) {
        b.Check(b.shared.Read(address, 2, {&p.clock, -1, 0, true}), p.site);
        for (int w = 0; w < 4; ++w) {  // a lane of each warp stands for it
          const Thread& t = b.threads[size_t(group * 128 + w * 32)];
          b.shared.MarkRead(address, 2, t.index, t.clock[size_t(t.index)]);
        }
      }
      out[size_t(i) * 16 + size_t(k)] = p.to_float(bits);
    }
  }
  return out;
}

// A's 64 × 16 elements from four registers a thread, laid out as mma's.
std::vector<float> ReadRegisters(const Product& p) {
  std::vector<float> out(64 * 16);
  for (int t = 0; t < 128; ++t) {
    const int row = t / 32 * 16 + t % 32 / 4, k = 2 * (t % 4);
    for (int r = 0; r < 4; ++r) {
      for (int e = 0; e < 2; ++e) {
        const uint16_t bits = uint16_t(p.registers[size_t(t)][r] >> 16 * e);
        out[size_t((row + 8 * (r % 2)) * 16 + 8 * (r / 2) + k + e)] = p.to_float(bits);
      }
    }
  }
  return out;
}

void Execute(Block& b, const Product& p, Warpgroup& g, int group) {
  ++b.stats.wgmma;
  const int n = p.columns;
  const std::vector<float> bt = ReadShared(b, p, Operand(p.b, p.trans_b), n, group);
  const std::vector<float> a =
      p.from_registers ? ReadRegisters(p) : ReadShared(b, p, Operand(p.a, p.trans_a), 64, group);
  std::vector<float> columns(size_t(16) * n);  // b again, k outermost: the inner loop runs along n
  for (int j = 0; j < n; ++j) {
    for (int k = 0; k < 16; ++k) columns[size_t(k * n + j)] = bt[size_t(j * 16 + k)];
  }
  std::vector<float> d(size_t(64) * n, 0.0f);
  for (int i = 0; i < 64; ++i) {
    for (int k = 0; k < 16; ++k) {
      const float x = a[size_t(i * 16 + k)];
      for (int j = 0; j < n; ++j) d[size_t(i * n + j)] += x * columns[size_t(k * n + j)];
    }
  }
  for (int t = 0; t < 128; ++t) {
    std::vector<float>& sum = g.hidden[p.accumulators[size_t(t)]];
    const int row = t / 32 * 16 + t % 32 / 4, column = 2 * (t % 4);
    for (int i = 0; i < n / 2; ++i) {
      const int r = row + 8 * (i / 2 % 2), c = 8 * (i / 4) + column + i % 2;
      const float v = d[size_t(r * n + c)];
      sum[size_t(i)] = p.add ? sum[size_t(i)] + v : v;
    }
  }
}

bool AddsTo(const std::vector<Product>& products, const float* accumulator) {
  for (const Product& p : products) {
    for (const float* a : p.accumulators) {
      if (a == accumulator) return true;
    }
  }
  return false;
}

bool InFlight(const Warpgroup& g, const float* accumulator) {
  for (const auto& group : g.groups) {
    if (AddsTo(group, accumulator)) return true;
  }
  return AddsTo(g.open, accumulator);
}

}  // namespace

void WgmmaFence(Site site) {
  Block& b = Now();
  b.Need(900, site);
  b.MeetWarpgroup(nullptr, site, [](Warpgroup& g, void**) { g.fenced = true; });
}

void WgmmaCommit(Site site) {
  Block& b = Now();
  b.Need(900, site);
  b.MeetWarpgroup(nullptr, site, [](Warpgroup& g, void**) {
    g.groups.push_back(std::move(g.open));
    g.open.clear();
  });
}

void Wgmma(WgmmaArguments mine, Site site) {
  Block& b = Now();
  b.Need(900, site);
  b.MeetWarpgroup(&mine, site, [&](Warpgroup& g, void** arguments) {
    if (!g.fenced) b.Fail("wgmma without wgmma.fence since the last wait", site);
    const WgmmaArguments& one = *static_cast<WgmmaArguments*>(arguments[0]);
    const int first = b.current->index / 128 * 128;
    Product p{one.columns,
              one.trans_a,
              one.trans_b,
              one.add,
              one.a_registers != nullptr,
              one.a_shared,
              one.b,
              one.to_float,
              {},
              {},
              b.threads[size_t(first)].clock,
              site};
    for (uint64_t d : {one.b, p.from_registers ? one.b : one.a_shared}) {
      if (d >> 62 != 1) b.Fail("a descriptor without the 128-byte swizzle", site);
    }
    for (int t = 0; t < 128; ++t) {
      const WgmmaArguments& x = *static_cast<WgmmaArguments*>(arguments[t]);
      if (x.b != one.b || x.a_shared != one.a_shared || x.add != one.add) {
        b.Fail("the threads of a warpgroup give a wgmma different operands", site);
      }
      p.accumulators.push_back(x.d);
      p.registers.push_back(x.a_registers);
      if (!g.hidden.count(x.d)) g.hidden[x.d].assign(x.d, x.d + x.columns / 2);
      for (int i = 0; i < x.columns / 2; ++i) x.d[i] = NAN;
    }
    g.open.push_back(std::move(p));
  });
}

void WgmmaWait(int pending, Site site) {
  Block& b = Now();
  b.Need(900, site);
  b.MeetWarpgroup(nullptr, site, [&](Warpgroup& g, void**) {
    while (int(g.groups.size()) > pending) {
      const std::vector<Product> done = std::move(g.groups.front());
      g.groups.pop_front();
      for (const Product& p : done) Execute(b, p, g, b.current->index / 128);
      for (const Product& p : done) {
        for (float* accumulator : p.accumulators) {
          auto it = g.hidden.find(accumulator);
          if (it == g.hidden.end() || InFlight(g, accumulator)) continue;
          std::memcpy(accumulator, it->second.data(), it->second.size() * sizeof(float));
          g.hidden.erase(it);
        }
      }
    }
    if (g.groups.empty()) g.fenced = false;
  });
}

}  // namespace emu
