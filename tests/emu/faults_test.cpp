// Every class of fault in plain code, planted and reported: races, barriers, divergence, addresses,
// outputs. What concerns asynchronous copies and warpgroups is in async_faults_test.cpp.
#include "emu/emu_testing.h"

namespace emu {
namespace {

uint32_t Word(int i) { return ptx::SharedBase() + 4 * uint32_t(i); }

TEST(SharedFaults, ReadWithoutBarrier) {
  ExpectReported(
      Threads(64),
      [] {
        const int t = ptx::ThreadIndex();
        ptx::StoreShared(Word(t), t);
        ptx::SyncWarp();
        ptx::LoadShared<int>(Word(63 - t));  // the other warp's
      },
      "LoadShared at ");  // a race, or nothing written yet: by the order
}

TEST(SharedFaults, ReadNotOrderedAfterWrite) {
  ExpectReported(
      Threads(64),
      [] {
        const int t = ptx::ThreadIndex();
        ptx::StoreShared(Word(t), 0);
        ptx::SyncThreads();
        if (t < 32) ptx::StoreShared(Word(0), 1);  // and lane against lane
        ptx::LoadShared<int>(Word(0));
      },
      "race: ");
}

TEST(SharedFaults, WriteNotOrderedAfterRead) {
  ExpectReported(
      Threads(64),
      [] {
        const int t = ptx::ThreadIndex();
        ptx::StoreShared(Word(t), t);
        ptx::SyncThreads();
        const int x = ptx::LoadShared<int>(Word(63 - t));
        ptx::StoreShared(Word(t), x);  // the other may not have read it yet
      },
      "race: ");
}

TEST(SharedFaults, RaceWithinAWarp) {
  ExpectReported(
      Threads(32),
      [] {
        const int t = ptx::ThreadIndex();
        ptx::StoreShared(Word(t), t);
        ptx::ShuffleXor(t, 1);  // orders nothing
        ptx::LoadShared<int>(Word(t ^ 1));
      },
      "race: read not ordered after the write");
}

TEST(SharedFaults, NothingWritten) {
  ExpectReported(
      Threads(32), [] { ptx::LoadShared<int>(Word(0)); }, "that nothing wrote");
}

TEST(SharedFaults, Addresses) {
  ExpectReported(
      Threads(32), [] { ptx::StoreShared(Word(1024), 1); }, "4 bytes at offset 4096 of 4096");
  ExpectReported(
      Threads(32), [] { ptx::StoreShared(0u, 1); }, "out of range");
  ExpectReported(
      Threads(32), [] { ptx::StoreShared(ptx::SharedBase() + 2, 1); },
      "offset 2, not a multiple of 4");
}

TEST(BarrierFaults, HalfABlockAtABarrierIsADeadlockWithItsLine) {
  int line = 0;
  const auto kernel = [&] {
    if (ptx::ThreadIndex() < 32) {
      line = __LINE__ + 1;
      ptx::SyncThreads();
    }
  };
  Memory none;
  for (const Config& config : Schedules(Threads(64), 3)) {
    const std::string error = ErrorOf(config, none, kernel);
    EXPECT_THAT(error, testing::HasSubstr("deadlock"));
    EXPECT_THAT(error, testing::HasSubstr("warp 0 lanes ffffffff: SyncThreads at " __FILE__ ":" +
                                          std::to_string(line)));
    EXPECT_THAT(error, testing::HasSubstr("warp 1 lanes ffffffff: ended"));
  }
}

TEST(BarrierFaults, NamedBarrierMisused) {
  ExpectReported(
      Threads(64),
      [] {
        if (ptx::ThreadIndex() < 32) ptx::NamedSync(1, 64);
        if (ptx::ThreadIndex() >= 32) ptx::NamedSync(2, 64);
      },
      "deadlock");
  ExpectReported(
      Threads(64), [] { ptx::NamedSync(1, ptx::ThreadIndex() < 32 ? 64 : 32); },
      "NamedSync at ");  // two counts, or a deadlock: by the order
  ExpectReported(
      Threads(64), [] { ptx::NamedSync(16, 64); }, "named barrier 16");
  ExpectReported(
      Threads(64), [] { ptx::NamedSync(1, 40); }, "a multiple of 32");
}

TEST(WarpFaults, Divergence) {
  ExpectReported(
      Threads(32),
      [] {
        if (ptx::ThreadIndex() < 16) {
          ptx::Ballot(true);
        } else {
          ptx::ShuffleXor(1, 1);
        }
      },
      "diverged warp");
  ExpectReported(
      Threads(32),
      [] {
        if (ptx::ThreadIndex() < 16) ptx::Ballot(true);
      },
      "deadlock");
  ExpectReported(
      Threads(32), [] { ptx::Ballot(true, 0xffff); }, "not in its own mask");
  ExpectReported(
      Threads(32),
      [] {
        if (ptx::ThreadIndex() < 16) ptx::ShuffleXor(1, 16, 0xffff);
      },
      "which is not in the mask");
}

TEST(ArchFaults, NewerInstructions) {
  ExpectReported(
      Threads(32, 4096, 750),
      [] {
        float d[4] = {};
        const uint32_t a[4] = {}, b[2] = {};
        ptx::Mma<ptx::F16, 16>(d, a, b);
      },
      "needs sm_80, this is sm_75");
  ExpectReported(
      Threads(32, 4096, 800), [] { ptx::MbarrierInit(ptx::SharedBase(), 1); }, "needs sm_90");
}

struct Buffers {
  std::vector<int> in = std::vector<int>(32, 5), out = std::vector<int>(32), sum = {0};
  Memory memory;
  Buffers() {
    memory.Input("in", in);
    memory.Output("out", out);
    memory.Shared("sum", sum);
  }
};

TEST(GlobalFaults, AddressesAndInputs) {
  Buffers b;
  const int* in = b.in.data();
  int* out = b.out.data();
  ExpectReported(
      Threads(32), b.memory, [&] { ptx::LoadGlobal(in + 32); }, "read outside every buffer");
  ExpectReported(
      Threads(32), b.memory, [&] { ptx::StoreGlobal(out - 1, 1); }, "write outside every buffer");
  ExpectReported(
      Threads(32), b.memory, [&] { ptx::StoreGlobal(const_cast<int*>(in), 1); },
      "write to input in");
  ExpectReported(
      Threads(32), b.memory,
      [&] {
        ptx::LoadGlobal(reinterpret_cast<const ptx::U32x4*>(
            reinterpret_cast<const char*>(in) +
            (8 - reinterpret_cast<uintptr_t>(in) % 16 % 8 + 4)));
      },
      "misaligned global address");
  ExpectReported(
      Threads(32), b.memory, [&] { ptx::LoadReadOnly(b.sum.data()); }, "read-only load of sum");
}

TEST(GlobalFaults, OutputsAreWrittenExactlyOnce) {
  Buffers b;
  int* out = b.out.data();
  ExpectReported(
      Threads(32), b.memory, [&] { ptx::StoreGlobal(out, 1); }, "output out written twice");
  for (const Config& config : Schedules(Threads(32), 1)) {
    EXPECT_THAT(ErrorOf(config, b.memory,
                        [&] {
                          const int t = ptx::ThreadIndex();
                          if (t != 7) ptx::StoreGlobal(out + t, 1);
                        }),
                testing::HasSubstr("4 of 128 bytes of output out were never written, the first "
                                   "at 28"));
  }
  ExpectReported(
      Threads(32), b.memory, [&] { ptx::LoadGlobal(out + 1); }, "before it was written");
}

TEST(GlobalFaults, BlocksDoNotSeeEachOther) {
  Buffers b;
  int* out = b.out.data();
  Config two = Threads(32);
  two.grid[0] = 2;
  ExpectReported(
      two, b.memory,
      [&] {
        const int t = ptx::ThreadIndex() + 16 * ptx::BlockX();
        if (ptx::ThreadIndex() < 16) ptx::StoreGlobal(out + t, t);
        ptx::SyncThreads();
        ptx::LoadGlobal(out + ptx::ThreadIndex());
      },
      "output out");
  ExpectReported(
      Threads(32), b.memory, [&] { ptx::ReduceAdd(reinterpret_cast<float*>(out), 1.0f); },
      "which is not shared");
}

}  // namespace
}  // namespace emu
