// The conformance kernel in the emulator, under every schedule, against the committed file, which
// is what a GPU is compared with.
#include "conformance_host.h"
#include "emu/emu_testing.h"

namespace heed::cuda::conformance {
namespace {

const char* const kFile = HEED_SOURCE_DIR "/tests/data/cuda/conformance.bin";

// One kernel; the sections of its architecture are the only outputs, so that each word is written
// by the kernel that should.
std::string RunKernel(int arch, uint32_t shared_bytes, void (*kernel)(const Params&),
                      HostBuffers& b, const emu::Config& schedule) {
  emu::Memory memory;
  memory.Input("source", b.source);
  memory.Shared("sums", b.sums);
  memory.Shared("reduced", b.reduced);
  if (arch == 900) memory.Output("stored", b.stored);
  for (int i = First(arch); i < End(arch); ++i) {
    if (i == kSums || i == kBulkReduce || i == kTmaStore) continue;
    memory.Add(kSections[i].name, b.out.data() + Offset(i), 4 * size_t(kSections[i].words),
               emu::Use::kOutput);
  }
  Params p{};
  p.load = {b.source.data(), 2, 2, {64, 128}, {2, 128}, {64, 64}, true};
  p.store = {b.stored.data(), 2, 2, {64, 60}, {2, 128}, {64, 64}, true};
  p.source = b.source.data();
  p.out = b.out.data();
  p.sums = b.sums.data();
  p.reduced = b.reduced.data();
  p.stored = b.stored.data();
  emu::Config c = schedule;
  c.arch = arch;
  c.threads = kThreads;
  c.shared_bytes = shared_bytes;
  return emu::ErrorOf(c, memory, [&] { kernel(p); });
}

HostBuffers RunAll(const emu::Config& schedule) {
  HostBuffers b;
  EXPECT_EQ(RunKernel(750, kMmaShared, Turing, b, schedule), "");
  EXPECT_EQ(RunKernel(800, kMmaShared, Ampere, b, schedule), "");
  EXPECT_EQ(RunKernel(900, kHopperShared, Hopper, b, schedule), "");
  b.Collect(900);
  return b;
}

TEST(Conformance, TheEmulatorGivesTheCommittedFile) {
  const std::vector<uint32_t> want = ReadFile(kFile);
  for (const emu::Config& schedule : emu::Schedules(emu::Config{}, 5)) {
    const HostBuffers b = RunAll(schedule);
    if (want.empty()) {
      ADD_FAILURE() << kFile << " is missing or has the wrong size";
    } else {
      EXPECT_EQ(Differences(b.out, want, 900), "") << "order " << int(schedule.order);
    }
    if (testing::Test::HasFailure()) {
      const char* const here = HEED_BINARY_DIR "/conformance.bin";
      WriteFile(here, b.out);
      GTEST_LOG_(INFO) << "what the emulator gives now is in " << here
                       << "; it replaces the committed file where the change is meant";
      break;
    }
  }
}

TEST(Conformance, ADifferenceNamesItsSection) {
  const HostBuffers b = RunAll(emu::Config{});
  std::vector<uint32_t> other = b.out;
  other[size_t(Offset(kMmaF16K8)) + 3] ^= 1;
  other[size_t(Offset(kWgmmaWide)) + 5] ^= 1;
  EXPECT_THAT(Differences(other, b.out, 900), testing::HasSubstr("mma f16 k8: 1 of 512 words"));
  EXPECT_THAT(Differences(other, b.out, 900), testing::HasSubstr("the first at 5"));
  EXPECT_THAT(Differences(other, b.out, 800), testing::Not(testing::HasSubstr("wgmma")));
}

}  // namespace
}  // namespace heed::cuda::conformance
