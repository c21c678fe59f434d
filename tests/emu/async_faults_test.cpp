// Every class of fault with asynchronous copies, mbarriers, wgmma and register budgets, planted and
// reported; each beside the correct program that it is one line away from.
#include "emu/emu_testing.h"

namespace emu {
namespace {

struct Input {
  std::vector<uint16_t> words = std::vector<uint16_t>(64 * 64, 0x3c00);  // f16 1
  std::vector<float> sums = std::vector<float>(64, 0.0f);
  Memory memory;
  TensorMap map{};
  Input() {
    memory.Input("words", words);
    memory.Shared("sums", sums);
    map = {words.data(), 2, 2, {64, 64}, {2, 128}, {64, 64}, true};
  }
};

enum class CpAsyncFault { kNone, kNoWait, kNoBarrier, kNoCommit, kEndsInFlight, kOverwritten };

void CpAsyncKernel(const Input& in, CpAsyncFault fault) {
  const uint32_t s = ptx::SharedBase(), t = uint32_t(ptx::ThreadIndex());
  ptx::CpAsync<16>(s + 16 * t, in.words.data() + 8 * t, true);
  if (fault != CpAsyncFault::kNoCommit) ptx::CpAsyncCommit();
  if (fault == CpAsyncFault::kEndsInFlight) return;
  if (fault == CpAsyncFault::kOverwritten) ptx::StoreShared(s + 16 * t, 0);
  if (fault != CpAsyncFault::kNoWait) ptx::CpAsyncWait<0>();
  if (fault != CpAsyncFault::kNoBarrier) ptx::SyncThreads();
  const auto x = ptx::LoadShared<uint32_t>(s + 16 * (t ^ 33));
  if (x != 0x3c003c00) ptx::StoreShared(0u, 0);  // out of range: must not happen
}

TEST(CpAsyncFaults, EachIsReported) {
  Input in;
  const Config c = Threads(64, 1024, 800);
  const auto run = [&](CpAsyncFault f) { return [&in, f] { CpAsyncKernel(in, f); }; };
  ExpectClean(c, in.memory, run(CpAsyncFault::kNone));
  ExpectReported(c, in.memory, run(CpAsyncFault::kNoWait), "cp.async was not waited for");
  ExpectReported(c, in.memory, run(CpAsyncFault::kNoCommit), "cp.async was not waited for");
  ExpectReported(c, in.memory, run(CpAsyncFault::kNoBarrier), "async_faults_test");
  ExpectReported(c, in.memory, run(CpAsyncFault::kOverwritten), "is to land");
  for (const Config& config : Schedules(c, 2)) {
    EXPECT_THAT(ErrorOf(config, in.memory, run(CpAsyncFault::kEndsInFlight)),
                testing::HasSubstr("ends with a cp.async in flight"));
  }
}

// One warpgroup loads a tile by TMA, multiplies it with itself, and adds up what it got by a bulk
// reduction: each line that orders something can be left out.
enum class Fault {
  kNone,
  kNoInitFence,
  kNoInitBarrier,
  kNoWait,
  kWrongPhase,
  kTooManyBytes,
  kTooFewBytes,
  kArriveTwice,
  kInitTwice,
  kPlainAccess,
  kNoWgmmaFence,
  kNoWgmmaWait,
  kOverwritten,
  kNoProxyFence,
  kNoBulkWait,
  kMisaligned
};

constexpr uint32_t kTile = 64 * 64 * 2, kStage = kTile, kBar = kTile + 256;

void TileKernel(Input& in, Fault fault) {
  const uint32_t s = ptx::SharedBase(), bar = s + kBar;
  const int t = ptx::ThreadIndex();
  if (t == 0) {
    ptx::MbarrierInit(bar, 1);
    if (fault == Fault::kInitTwice) ptx::MbarrierInit(bar, 1);
    if (fault != Fault::kNoInitFence) ptx::FenceMbarrierInit();
  }
  if (fault != Fault::kNoInitBarrier) ptx::SyncThreads();
  if (fault == Fault::kPlainAccess) ptx::LoadShared<uint32_t>(bar);
  if (t == 0) {
    const uint32_t bytes = fault == Fault::kTooManyBytes  ? kTile + 16
                           : fault == Fault::kTooFewBytes ? kTile - 16
                                                          : kTile;
    const int at[2] = {0, 0};
    ptx::MbarrierArriveExpectTx(bar, bytes);
    if (fault == Fault::kArriveTwice) ptx::MbarrierArrive(bar);
    ptx::TmaLoad<2>(s + (fault == Fault::kMisaligned ? 128 : 0), &in.map, bar, at);
  }
  if (fault != Fault::kNoWait) ptx::MbarrierWait(bar, fault == Fault::kWrongPhase ? 1 : 0);

  float d[32] = {};
  if (fault != Fault::kNoWgmmaFence) ptx::WgmmaFence();
  const uint64_t tile = ptx::SwizzledDescriptor(s, 0, 1024);
  ptx::WgmmaShared<ptx::F16, 64, false, false>(d, tile, tile, true);
  ptx::WgmmaCommit();
  if (fault == Fault::kOverwritten && t == 5) ptx::StoreShared(s, 0);
  float sum = 0;
  if (fault == Fault::kNoWgmmaWait) sum = d[0];
  ptx::WgmmaWait<0>();
  sum += d[0];

  if (t < 64) ptx::StoreShared(s + kStage + 4 * uint32_t(t), sum);
  if (fault != Fault::kNoProxyFence) ptx::FenceProxyAsync();
  ptx::SyncThreads();
  if (t == 0) {
    ptx::BulkReduceAdd(in.sums.data(), s + kStage, 256);
    ptx::BulkCommit();
    if (fault != Fault::kNoBulkWait) ptx::BulkWait<0>();
  }
}

std::string TileError(Fault fault, const Config& config) {
  Input in;
  const std::string error = ErrorOf(config, in.memory, [&] { TileKernel(in, fault); });
  if (!error.empty()) return error;
  for (float x : in.sums) {
    if (x != 16.0f) return "wrong numbers: " + std::to_string(x);
  }
  return "";
}

void ExpectTile(Fault fault, const std::string& words) {
  for (const Config& config : Schedules(Threads(128, kBar + 64), 11)) {
    EXPECT_THAT(TileError(fault, config), testing::HasSubstr(words)) << int(config.order);
  }
}

TEST(TileFaults, TheCorrectOneIsClean) {
  for (const Config& config : Schedules(Threads(128, kBar + 64), 11)) {
    EXPECT_EQ(TileError(Fault::kNone, config), "");
  }
}
TEST(TileFaults, Mbarriers) {
  ExpectTile(Fault::kNoInitFence, "without FenceMbarrierInit");
  ExpectTile(Fault::kNoInitBarrier, "async_faults_test");  // never initialised, or not ordered
  ExpectTile(Fault::kWrongPhase, "async_faults_test");     // a race or a deadlock
  ExpectTile(Fault::kTooManyBytes, "deadlock");
  ExpectTile(Fault::kArriveTwice, "more than the 1 of the phase");
  ExpectTile(Fault::kInitTwice, "initialised twice");
  ExpectTile(Fault::kPlainAccess, "plain access to an mbarrier");
}
TEST(TileFaults, TooFewBytesNeverCompleteAPhase) { ExpectTile(Fault::kTooFewBytes, "deadlock"); }
TEST(TileFaults, LoadsAreWaitedFor) {
  ExpectTile(Fault::kNoWait, "race: read not ordered after the write by the copy on mbarrier 0");
  ExpectTile(Fault::kMisaligned, "a multiple of 1024");
}
TEST(TileFaults, Wgmma) {
  ExpectTile(Fault::kNoWgmmaFence, "without wgmma.fence");
  ExpectTile(Fault::kNoWgmmaWait, "wrong numbers: nan");
  ExpectTile(Fault::kOverwritten, "race: read not ordered after the write by thread 5");
}
TEST(TileFaults, BulkStores) {
  ExpectTile(Fault::kNoProxyFence, "without fence.proxy.async");
  ExpectTile(Fault::kNoBulkWait, "ends with a bulk store in flight");
}

TEST(RegisterFaults, MoreThanTheBlockHas) {
  Config c = Threads(256);
  c.registers_at_entry = 128;
  const auto kernel = [](bool too_many) {
    return [too_many] {
      if (ptx::ThreadIndex() < 128) {
        ptx::SetMaxRegDec<40>();
      } else if (too_many) {
        ptx::SetMaxRegInc<224>();  // 88 were given back, 96 are wanted
      } else {
        ptx::SetMaxRegInc<216>();
      }
    };
  };
  Memory none;
  ExpectClean(c, none, kernel(false));
  ExpectReported(c, kernel(true), "deadlock");
}

}  // namespace
}  // namespace emu
