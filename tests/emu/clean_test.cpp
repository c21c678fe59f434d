// Correct programs are clean and give the right numbers under every schedule: barriers, pipelines,
// shuffles, copies; and what the emulator counts. Conversions against plain definitions.
#include <cmath>
#include <cstring>

#include "emu/emu_testing.h"
#include "emu/numbers.h"

namespace emu {
namespace {

TEST(Clean, ShufflesAndVotes) {
  std::vector<int> out(32 * 6);
  Memory memory;
  memory.Output("out", out);
  ExpectClean(Threads(32), memory, [&] {
    const int l = ptx::ThreadIndex();
    const int got[6] = {ptx::ShuffleXor(l, 5),
                        ptx::ShuffleIndex(l, 7),
                        ptx::ShuffleUp(l, 3),
                        ptx::ShuffleDown(l, 4),
                        int(ptx::Ballot(l % 3 == 0)),
                        ptx::Any(l == 9) + 2 * ptx::All(l < 32) + 4 * ptx::All(l == 9)};
    for (int i = 0; i < 6; ++i) ptx::StoreGlobal(&out[size_t(l * 6 + i)], got[i]);
  });
  for (int l = 0; l < 32; ++l) {
    EXPECT_EQ(out[size_t(l * 6)], l ^ 5);
    EXPECT_EQ(out[size_t(l * 6 + 1)], 7);
    EXPECT_EQ(out[size_t(l * 6 + 2)], l < 3 ? l : l - 3);
    EXPECT_EQ(out[size_t(l * 6 + 3)], l > 27 ? l : l + 4);
    EXPECT_EQ(out[size_t(l * 6 + 4)], int(0x49249249));
    EXPECT_EQ(out[size_t(l * 6 + 5)], 3);
  }
}

TEST(Clean, HalvesOfAWarpMeetSeparately) {
  std::vector<int> out(32);
  Memory memory;
  memory.Output("out", out);
  ExpectClean(Threads(32), memory, [&] {
    const int l = ptx::ThreadIndex();
    const uint32_t half = l < 16 ? 0xffffu : 0xffff0000u;
    ptx::StoreGlobal(&out[size_t(l)], ptx::ShuffleXor(l, 15, half));
  });
  for (int l = 0; l < 32; ++l) EXPECT_EQ(out[size_t(l)], l ^ 15);
}

// Warp 0 fills two stages with cp.async, warps 1 and 2 read them; named barriers hand them over.
TEST(Clean, NamedBarriersHandStagesOver) {
  constexpr int kSteps = 5;
  std::vector<int> in(kSteps * 32 * 4), out(2, 0);
  for (size_t i = 0; i < in.size(); ++i) in[i] = int(i * i % 1001);
  Memory memory;
  memory.Input("in", in);
  memory.Output("out", out);
  ExpectClean(Threads(96, 1024, 800), memory, [&] {
    const int t = ptx::ThreadIndex(), lane = t % 32;
    int sum = 0;
    for (int step = 0; step < kSteps; ++step) {
      const uint32_t stage = ptx::SharedBase() + uint32_t(step % 2) * 512;
      const int full = 1 + step % 2, empty = 3 + step % 2;
      if (t < 32) {
        if (step >= 2) ptx::NamedSync(empty, 96);
        ptx::CpAsync<16>(stage + 16 * uint32_t(lane), &in[size_t(step * 128 + lane * 4)], true);
        ptx::CpAsyncCommit();
        ptx::CpAsyncWait<0>();
        ptx::NamedArrive(full, 96);
      } else {
        ptx::NamedSync(full, 96);
        for (int i = 0; i < 4; ++i) {
          sum += ptx::LoadShared<int>(stage + 4 * uint32_t(lane * 4 + i)) * (t / 32);
        }
        if (step + 2 < kSteps) ptx::NamedArrive(empty, 96);
      }
    }
    for (int bits = 16; bits > 0; bits /= 2) sum += ptx::ShuffleXor(sum, bits);
    if (t >= 32 && lane == 0) ptx::StoreGlobal(&out[size_t(t / 32 - 1)], sum);
  });
  int sum = 0;
  for (int x : in) sum += x;
  EXPECT_EQ(out[0], sum);
  EXPECT_EQ(out[1], 2 * sum);
}

// The same by mbarriers and bulk copies, phases going round.
TEST(Clean, MbarrierPipeline) {
  constexpr int kSteps = 7;
  std::vector<int> in(kSteps * 64), out(64, 0);
  for (size_t i = 0; i < in.size(); ++i) in[i] = int(i);
  Memory memory;
  memory.Input("in", in);
  memory.Output("out", out);
  ExpectClean(Threads(96, 1024), memory, [&] {
    const int t = ptx::ThreadIndex();
    const uint32_t s = ptx::SharedBase(), full = s + 512, empty = s + 528;
    if (t == 0) {
      for (uint32_t i = 0; i < 2; ++i) {
        ptx::MbarrierInit(full + 8 * i, 1);
        ptx::MbarrierInit(empty + 8 * i, 2);
      }
      ptx::FenceMbarrierInit();
    }
    ptx::SyncThreads();
    int sum = 0;
    for (int step = 0; step < kSteps; ++step) {
      const uint32_t stage = uint32_t(step % 2), phase = uint32_t(step / 2 % 2);
      if (t < 32) {
        if (ptx::Elect()) {
          ptx::MbarrierWait(empty + 8 * stage, phase ^ 1);
          ptx::MbarrierArriveExpectTx(full + 8 * stage, 256);
          ptx::BulkLoad(s + 256 * stage, &in[size_t(step * 64)], 256, full + 8 * stage);
        }
        ptx::SyncWarp();
      } else {
        ptx::MbarrierWait(full + 8 * stage, phase);
        sum += ptx::LoadShared<int>(s + 256 * stage + 4 * uint32_t(t - 32));
        ptx::SyncWarp();
        if (t % 32 == 0) ptx::MbarrierArrive(empty + 8 * stage);
      }
    }
    if (t >= 32) ptx::StoreGlobal(&out[size_t(t - 32)], sum);
  });
  for (int t = 0; t < 64; ++t)
    EXPECT_EQ(out[size_t(t)], kSteps * t + 64 * (kSteps * (kSteps - 1) / 2));
}

TEST(Clean, BlocksShareCounters) {
  std::vector<uint32_t> count = {0}, out(6);
  Memory memory;
  memory.Shared("count", count);
  memory.Output("out", out);
  Config c = Threads(32);
  c.grid[0] = 3;
  c.grid[1] = 2;
  for (const Config& config : Schedules(c, 5)) {
    count[0] = 0;
    EXPECT_EQ(ErrorOf(config, memory,
                      [&] {
                        if (ptx::ThreadIndex() > 0) return;
                        const uint32_t turn = ptx::AtomicAdd(count.data(), 1u);
                        ptx::StoreGlobal(&out[size_t(ptx::BlockY() * ptx::GridX() + ptx::BlockX())],
                                         turn);
                      }),
              "");
    EXPECT_EQ(count[0], 6u);
    EXPECT_THAT(out, testing::UnorderedElementsAre(0u, 1u, 2u, 3u, 4u, 5u));
  }
}

TEST(Counts, BankConflicts) {
  for (bool swizzled : {false, true}) {
    Memory none;
    Config c = Threads(32, 8192);
    c.banks = true;
    const Stats stats = Launch(c, none, [&] {
      const uint32_t s = ptx::SharedBase(), l = uint32_t(ptx::ThreadIndex());
      for (uint32_t i = 0; i < 8; ++i) {  // rows of 128 bytes: lane l writes row l
        ptx::StoreShared(s + l * 128 + (swizzled ? i ^ l % 8 : i) * 16, ptx::U32x4{i, i, i, i});
      }
      ptx::SyncWarp();
      uint32_t r[4];
      ptx::Ldmatrix<4, false>(r, s + l * 128 + (swizzled ? l % 8 : 0) * 16);
    });
    EXPECT_EQ(stats.ldmatrix_ideal, 4u);
    EXPECT_EQ(stats.ldmatrix_passes, swizzled ? 4u : 32u);
    EXPECT_EQ(stats.shared_ideal, 32u);
    EXPECT_EQ(stats.shared_passes, swizzled ? 32u : 256u);
  }
}

TEST(Counts, AWarpsInstructionCountsOnce) {
  Memory none;
  const Stats stats = Launch(Threads(64), none, [] {
    float d[4] = {};
    const uint32_t a[2] = {}, b[1] = {};
    ptx::Mma<ptx::F16, 8>(d, a, b);
  });
  EXPECT_EQ(stats.mma, 2u);
}

TEST(Counts, TheSeedAloneDecides) {
  const auto order = [](uint64_t seed) {
    std::vector<int> seen;
    Memory none;
    Config c = Threads(128);
    c.order = Order::kRandom;
    c.seed = seed;
    Launch(c, none, [&] {
      for (int i = 0; i < 4; ++i) {
        seen.push_back(ptx::ThreadIndex());
        ptx::SyncWarp();
      }
    });
    return seen;
  };
  EXPECT_EQ(order(1), order(1));
  EXPECT_NE(order(1), order(2));
}

TEST(Numbers, EveryF16AndBf16ComesBack) {
  for (uint32_t i = 0; i < 65536; ++i) {
    const uint16_t h = uint16_t(i);
    const float x = FloatOfF16(h), y = FloatOfBf16(h);
    const int e = h >> 10 & 31, m = h & 1023;
    if (e == 31 && m != 0) {
      EXPECT_TRUE(std::isnan(x));
      EXPECT_EQ(F16OfFloat(x), 0x7fff);
    } else {
      const double value = e == 31  ? INFINITY
                           : e == 0 ? std::ldexp(m, -24)
                                    : std::ldexp(1024 + m, e - 25);
      EXPECT_EQ(x, float(h >> 15 ? -value : value));
      EXPECT_EQ(F16OfFloat(x), h);
    }
    EXPECT_EQ(Bf16OfFloat(y), std::isnan(y) ? 0x7fff : h);
  }
}

// Between two neighbours: below the middle down, above it up, the middle to even (tf32: away from
// zero).
TEST(Numbers, Rounding) {
  for (uint32_t i = 0; i < 0x7bff; i += 7) {
    const float low = FloatOfF16(uint16_t(i)), high = FloatOfF16(uint16_t(i + 1));
    const float middle = low + (high - low) / 2;
    EXPECT_EQ(F16OfFloat(std::nextafter(middle, low)), i);
    EXPECT_EQ(F16OfFloat(std::nextafter(middle, high)), i + 1);
    EXPECT_EQ(F16OfFloat(middle), i % 2 == 0 ? i : i + 1);
  }
  EXPECT_EQ(F16OfFloat(65519.0f), 0x7bff);
  EXPECT_EQ(F16OfFloat(65520.0f), 0x7c00);
  EXPECT_EQ(Bf16OfFloat(Float(0x3f808000)), 0x3f80);
  EXPECT_EQ(Bf16OfFloat(Float(0x3f818000)), 0x3f82);
  EXPECT_EQ(Tf32OfFloat(Float(0x3f801000)), 0x3f802000u);
  EXPECT_EQ(Tf32OfFloat(Float(0x3f800fff)), 0x3f800000u);
}

}  // namespace
}  // namespace emu
