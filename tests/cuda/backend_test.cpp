// backend_test.cpp: the host's half of the cuda backend: what it refuses and in which words, which
// kernels a call takes, its workspace, one-shot calls, a device that is not there. Numbers are the
// matter of forward_*_test.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "cuda/cuda_backward.h"
#include "cuda/cuda_call.h"
#include "cuda/instances.h"
#include "cuda/machines.h"
#include "emulated_device.h"
#include "heed/heed.h"

namespace heed::cuda {
namespace {

using testing::HasSubstr;

Problem Small(DType dtype = DType::kF16) {
  return {.q_len = 100, .k_len = 100, .q_heads = 2, .dim = 64, .dtype = dtype};
}

PlanOptions For(const char* arch = "auto") { return {.backend = "cuda", .arch = arch}; }

std::string Refused(const Problem& p, const PlanOptions& options = For("sm_80")) {
  const Result<Plan> plan = MakePlan(p, options);
  EXPECT_FALSE(plan.ok());
  EXPECT_EQ(plan.status().code(), StatusCode::kRefused);
  return plan.status().message();
}

struct Backend : testing::Test {
  EmulatedDevice& device = EmulatedDevice::The();
  void SetUp() override {
    device.Be(800);
    device.schedule = {};
    device.owns = true;
  }
};

TEST_F(Backend, RefusesInSentences) {
  Problem p = Small(DType::kF64);
  EXPECT_THAT(Refused(p), HasSubstr("dtype is f64; it computes in f32 from f32, bf16 or f16"));
  p = Small();
  p.dim = 257;
  EXPECT_THAT(Refused(p), HasSubstr("dim is 257; its tiles hold D and Dv of up to 256"));
  p.dim = 64;
  p.dim_v = 512;
  EXPECT_THAT(Refused(p), HasSubstr("dim_v is 512; its tiles hold D and Dv of up to 256"));
  p = Small(DType::kBF16);
  EXPECT_THAT(Refused(p, For("sm_75")),
              HasSubstr("dtype is bf16, and sm_75 does not multiply bf16: sm_80 and newer do"));
  p = Small();
  p.q_len = std::int64_t{1} << 31;
  EXPECT_THAT(Refused(p),
              HasSubstr("q_len is 2147483648; one sequence may have up to 1073741823 here"));
  p = Small();
  p.k_len = std::int64_t{1} << 30;
  EXPECT_THAT(Refused(p), HasSubstr("k_len is 1073741824; one sequence may have up to 1073741823"));
  p.k_len--;
  EXPECT_TRUE(MakePlan(p, For("sm_80")).ok());
  p = Small();
  p.batch = std::int64_t{1} << 31;
  EXPECT_THAT(Refused(p), HasSubstr("batch is 2147483648; it may be up to 2147483647 here"));
  p.batch = (std::int64_t{1} << 30) - 1;  // two heads, one tile of 128 queries each
  EXPECT_TRUE(MakePlan(p, For("sm_80")).ok());
  p.batch++;
  EXPECT_THAT(Refused(p), HasSubstr("it would take 2147483648 blocks, and a grid has up to "
                                    "2147483647"));
  PlanOptions options = For("sm_80");
  options.isa = "avx2";
  EXPECT_THAT(MakePlan(Small(), options).status().message(),
              HasSubstr("isa must be \"auto\", not \"avx2\""));
}

TEST_F(Backend, RefusesBackwardsInSentences) {
  Problem p = Small(DType::kF64);
  p.op = Op::kBackward;
  EXPECT_THAT(Refused(p), HasSubstr("dtype is f64; it computes in f32 from f32, bf16 or f16"));
  p.dtype = DType::kBF16;
  EXPECT_THAT(Refused(p, For("sm_75")), HasSubstr("sm_75 does not multiply bf16"));
  p.dim_v = 257;
  EXPECT_THAT(Refused(p), HasSubstr("dim_v is 257; its tiles hold D and Dv of up to 256"));
  p.dim_v = 64;
  p.k_len = std::int64_t{1} << 30;
  EXPECT_THAT(Refused(p), HasSubstr("k_len is 1073741824; one sequence may have up to 1073741823"));
  p.k_len = 100;
  p.batch = (std::int64_t{1} << 29) - 1;  // two heads, two tiles of 64 queries or keys each
  EXPECT_TRUE(MakePlan(p, For("sm_80")).ok());
  p.batch++;
  EXPECT_THAT(Refused(p), HasSubstr("it would take 2147483648 blocks, and a grid has up to "
                                    "2147483647"));
  p.batch = 1;
  const Result<Plan> plan = MakePlan(p, For("sm_80"));
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->workspace_bytes(), 2 * 100 * 16 + kAlign - 1);  // what is known of each row
  device.owns = false;
  std::vector<std::uint16_t> all(100 * 2 * 64);
  std::vector<float> lse(2 * 100);
  std::vector<std::byte> workspace(static_cast<std::size_t>(plan->workspace_bytes()));
  std::vector<std::uint16_t> o = all, dout = all, dq = all, dk = all, dv = all;
  const Buffers b = {.q = all.data(),
                     .k = all.data(),
                     .v = all.data(),
                     .o = o.data(),
                     .lse = lse.data(),
                     .dout = dout.data(),
                     .dq = dq.data(),
                     .dk = dk.data(),
                     .dv = dv.data(),
                     .workspace = workspace};
  EXPECT_THAT(heed::Run(*plan, b).message(), HasSubstr("q is in host memory"));
}

TEST_F(Backend, SaysWhatIsMissing) {
  device.Be(0);
  EXPECT_EQ(Refused(Small(), For()), "the cuda backend refuses: no CUDA device");
  const std::vector<BackendInfo> all = Backends();
  EXPECT_EQ(all[2].name, "cuda");
  EXPECT_FALSE(all[2].available);
  EXPECT_EQ(all[2].reason, "no CUDA device");
  EXPECT_THAT(all[2].archs, testing::ElementsAre("sm_75", "sm_80", "sm_86", "sm_89", "sm_90",
                                                 "sm_100", "sm_120"));
  // A plan for a device that is not there can be read, not run.
  Problem p = Small();
  const Result<Plan> plan = MakePlan(p, For("sm_90"));
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  EXPECT_THAT(plan->Describe(), HasSubstr("H100: 132 multiprocessors"));
  std::vector<std::uint16_t> q(100 * 2 * 64), k = q, v = q, o = q;
  const Buffers b = {.q = q.data(), .k = k.data(), .v = v.data(), .o = o.data()};
  Status status = heed::Run(*plan, b);
  EXPECT_EQ(status.code(), StatusCode::kDevice);
  EXPECT_EQ(status.message(), "no CUDA device");
  device.Be(800);
  EXPECT_THAT(heed::Run(*plan, b).message(),
              HasSubstr("the plan is for sm_90 and the device that is current here, emulated A100, "
                        "is sm_80"));
  device.Be(0);
  EXPECT_EQ(Forward(p, b, {.backend = "cuda"}).code(), StatusCode::kRefused);
}

// The kernels of a call in their order.
std::vector<Kernel> KernelsOf(const Problem& p, int arch = 800) {
  const Result<Plan> plan = MakePlan(p, For(arch == 750 ? "sm_75" : "sm_80"));
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  const Planned planned = PlanCall(plan->problem(), *FactsFor(TheDevice(), arch));
  Launch launches[kMostLaunches];
  std::vector<Kernel> kernels;
  for (int n = 0, count = LaunchesOf(plan->problem(), planned, launches); n < count; ++n) {
    kernels.push_back(InstanceOf(launches[n].row).kernel);
    EXPECT_GT(launches[n].blocks, 0);
  }
  EXPECT_EQ(static_cast<int>(kernels.size()), plan->Info().launches);
  return kernels;
}

TEST_F(Backend, Kernels) {
  using testing::ElementsAre;
  Problem p = Small();
  EXPECT_THAT(KernelsOf(p), ElementsAre(Kernel::forward_mma));
  EXPECT_THAT(KernelsOf(p, 750), ElementsAre(Kernel::forward_mma));
  EXPECT_THAT(KernelsOf(Small(DType::kF32)), ElementsAre(Kernel::forward_fma));
  p.mask = {.given = true, .rows = 100, .cols = 100};
  EXPECT_THAT(KernelsOf(p), ElementsAre(Kernel::classify, Kernel::forward_mma));
  p.want_probs = true;
  EXPECT_THAT(KernelsOf(p), ElementsAre(Kernel::classify, Kernel::forward_mma, Kernel::probs));
  p = Small();
  p.q_len = 1;
  EXPECT_THAT(KernelsOf(p), ElementsAre(Kernel::forward_mma));
  p.k_len = 257;  // two pieces
  EXPECT_THAT(KernelsOf(p), ElementsAre(Kernel::forward_mma, Kernel::join));
  p.mask = {.given = true, .cols = 257};  // looked at pair by pair
  EXPECT_THAT(KernelsOf(p), ElementsAre(Kernel::forward_mma, Kernel::join));
  p.want_probs = true;
  EXPECT_THAT(KernelsOf(p), ElementsAre(Kernel::classify, Kernel::forward_mma, Kernel::probs));
  p = Small();
  p.k_len = 0;
  p.q_len = 2;
  p.cache = {.given = true, .slots = 1, .rows = 300, .new_len = 2};
  EXPECT_THAT(KernelsOf(p), ElementsAre(Kernel::append, Kernel::forward_mma, Kernel::join));
  p.cache.new_len = 0;
  p.cache.rotary = Rotary::kHalf;
  p.cache.rotary_dim = 32;
  p.cache.rotary_rows = 400;
  EXPECT_THAT(KernelsOf(p), ElementsAre(Kernel::append, Kernel::forward_mma, Kernel::join));
  p = Small();
  p.batch = 0;
  EXPECT_TRUE(KernelsOf(p).empty());
  p = Small();
  p.k_len = 0;  // zeros are written all the same
  EXPECT_THAT(KernelsOf(p), ElementsAre(Kernel::forward_mma));
}

const Instance& InstanceFor(const Problem& p, int arch = 800) {
  const Result<Plan> plan = MakePlan(p, {.backend = "reference"});
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  const int row = PlanCall(plan->problem(), *FactsFor(TheDevice(), arch)).row;
  EXPECT_GE(row, 0);
  return InstanceOf(row);
}

TEST_F(Backend, KernelsOfTheBackward) {
  using testing::ElementsAre;
  const auto kernels = [&](const Problem& p) {
    const Result<Plan> plan = MakePlan(p, For("sm_80"));
    EXPECT_TRUE(plan.ok()) << plan.status().message();
    const PlannedBackward planned = PlanBackward(plan->problem(), *FactsFor(TheDevice(), 800));
    Launch launches[kMostBackwardLaunches];
    std::vector<Kernel> all;
    for (int n = 0, count = LaunchesOf(plan->problem(), planned, launches); n < count; ++n) {
      all.push_back(InstanceOf(launches[n].row).kernel);
      EXPECT_GT(launches[n].blocks, 0);
    }
    EXPECT_EQ(static_cast<int>(all.size()), plan->Info().launches);
    EXPECT_NE(plan->Describe().find("backward"), std::string::npos);
    return all;
  };
  Problem p = Small();
  p.op = heed::Op::kBackward;
  EXPECT_THAT(kernels(p), ElementsAre(Kernel::prepare, Kernel::queries_mma, Kernel::keys_mma));
  p.dtype = DType::kF32;
  EXPECT_THAT(kernels(p), ElementsAre(Kernel::prepare, Kernel::queries_fma, Kernel::keys_fma));
  p.mask = {.given = true, .rows = 100, .cols = 100};
  p.bias = {.given = true, .cols = 100};
  p.sinks = p.want_dbias = p.want_dsinks = true;
  EXPECT_THAT(kernels(p), ElementsAre(Kernel::classify, Kernel::prepare, Kernel::queries_fma,
                                      Kernel::keys_fma, Kernel::bias_fma, Kernel::sinks));
  p = Small();
  p.op = heed::Op::kBackward;
  p.q_len = 0;  // dk and dv are zeros all the same
  EXPECT_THAT(kernels(p), ElementsAre(Kernel::keys_mma));
}

TEST_F(Backend, PlainInstancesForPlainScores) {
  EXPECT_EQ(InstanceFor(Small()).terms, TermKind::plain);
  const auto general = [](auto change) {
    Problem p = Small();
    change(p);
    return InstanceFor(p).terms == TermKind::general;
  };
  EXPECT_TRUE(general([](Problem& p) { p.softcap = 30; }));
  EXPECT_TRUE(general([](Problem& p) { p.alibi = Alibi::kPerHead; }));
  EXPECT_TRUE(general([](Problem& p) { p.bias.given = true; }));
  EXPECT_TRUE(general([](Problem& p) { p.mask.given = true; }));
  EXPECT_TRUE(general([](Problem& p) { p.scale = 0; }));
  EXPECT_TRUE(general([](Problem& p) { p.scale = -1; }));
  EXPECT_TRUE(general([](Problem& p) { p.dropout_p = 0.1; }));
  EXPECT_FALSE(general([](Problem& p) { p.causal = true; }));
  EXPECT_FALSE(general([](Problem& p) { p.sinks = p.key_lengths = true; }));
  EXPECT_FALSE(general([](Problem& p) { p.scale = 1e30; }));
}

TEST_F(Backend, InstancesFitWidthAndDevice) {
  for (const int arch : {750, 800, 860, 890, 900, 1000, 1200}) {
    const Facts& facts = *FactsFor(TheDevice(), arch);
    for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF32}) {
      if (dtype == DType::kBF16 && arch < 800) continue;
      for (const std::int64_t dim : {1, 8, 64, 65, 96, 100, 128, 129, 192, 200, 256}) {
        for (const bool plain : {true, false}) {
          const Wanted wanted = {dtype, static_cast<int>(dim), plain, 0};
          const int row = FindForward(facts, wanted);
          ASSERT_GE(row, 0) << arch << " " << Name(dtype) << " " << dim;
          const Instance& i = InstanceOf(row);
          EXPECT_EQ(i.dtype, dtype);
          EXPECT_GE(i.dim, dim);
          EXPECT_LE(i.arch, arch);
          EXPECT_EQ(i.arch, dtype == DType::kF32 || arch < 800 ? 750 : 800);
          EXPECT_LE(i.shared_bytes(), facts.shared_block);
          EXPECT_TRUE(plain || i.terms == TermKind::general);
          EXPECT_GE(BlocksAtOnce(facts, i), 1);
          EXPECT_LE(BlocksAtOnce(facts, i), i.blocks);
        }
      }
      for (const Kernel kernel : {Kernel::append, Kernel::classify, Kernel::join, Kernel::probs}) {
        const int row = FindOther(facts, kernel, dtype);
        ASSERT_GE(row, 0);
        EXPECT_EQ(InstanceOf(row).kernel, kernel);
        EXPECT_LE(InstanceOf(row).arch, arch);
      }
    }
  }
}

// Few rows of a group stand in one tile, whatever the number of keys is: so an entry's bits depend on
// its own sizes alone.
TEST_F(Backend, FewRowsArePacked) {
  Problem p = Small();
  p.q_heads = 8;
  p.k_heads = 2;
  const auto packed = [&](std::int64_t q_len, std::int64_t k_len, int arch = 800) {
    p.q_len = q_len;
    p.k_len = k_len;
    const Result<Plan> plan = MakePlan(p, {.backend = "reference"});
    const Planned planned = PlanCall(plan->problem(), *FactsFor(TheDevice(), arch));
    EXPECT_EQ(planned.call.blocks(), ForwardBlocks(plan->problem(), planned));
    if (planned.call.packed) {
      EXPECT_LE(q_len * 4, planned.instance().rows);
      EXPECT_EQ(planned.call.schedule.heads, 2);
      EXPECT_EQ(planned.call.split.pieces, PiecesOf(k_len) > 1 ? PiecesOf(k_len) : 0);
    }
    return planned.call.packed;
  };
  EXPECT_TRUE(packed(16, 10));
  EXPECT_TRUE(packed(16, 100000));
  EXPECT_FALSE(packed(17, 100000));
  p.dtype = DType::kF32;
  p.dim = 128;  // tiles of 32 rows
  EXPECT_TRUE(packed(8, 1000));
  EXPECT_FALSE(packed(9, 1000));
}

TEST_F(Backend, Workspace) {
  Problem p = Small();
  p.q_len = 3;
  p.k_len = 1000;
  const Result<Plan> plan = MakePlan(p, For());
  ASSERT_TRUE(plan.ok());
  // Two heads, four pieces, tiles of 64 rows, 64 floats and an lse each.
  EXPECT_EQ(plan->workspace_bytes(), 2 * 4 * 64 * (64 + 1) * 4 + kAlign - 1);
  EXPECT_THAT(plan->Describe(), HasSubstr("keys in up to 4 pieces"));
  EXPECT_EQ(MakePlan(Small(), For())->workspace_bytes(), 0);
  EXPECT_EQ(MakePlan(Small(), For())->Info().workspace_formula, "none");
}

// Buffers in device memory choose the backend, its workspace is memory of the device, on the stream.
TEST_F(Backend, OneShot) {
  Problem p = Small();
  p.q_len = 2;
  p.k_len = 600;
  std::vector<std::uint16_t> q(2 * 2 * 64), k(600 * 2 * 64), v(600 * 2 * 64, 0x3C00), o(2 * 2 * 64);
  int stream = 0;
  device.owns = false;
  Buffers b = {.q = q.data(), .k = k.data(), .v = v.data(), .o = o.data()};
  b.stream = &stream;
  EXPECT_THAT(Forward(p, b).message(),
              HasSubstr("stream is given, but the buffers are host memory"));
  EXPECT_THAT(Forward(p, b, For()).message(), HasSubstr("q is in host memory"));
  device.owns = true;
  device.taken = device.given = 0;
  const Status status = Forward(p, b);
  ASSERT_TRUE(status) << status.message();
  EXPECT_EQ(device.ran, "forward_mma join");
  EXPECT_EQ(device.stream, &stream);
  EXPECT_EQ(device.taken, 1);
  EXPECT_EQ(device.given, 1);
  for (const std::uint16_t x : o) EXPECT_EQ(x, 0x3C00);  // the mean of ones
}

}  // namespace
}  // namespace heed::cuda
