// plan_test.cpp: which backend serves a request, what is said where none does, and the one-shot
// calls.
#include "problem/plan.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "plan_testing.h"

namespace heed {
namespace {

Problem Small() { return {.q_len = 3, .k_len = 5, .q_heads = 2, .dim = 4}; }

// Two engines and one backend that only a name reaches.
struct Choice : testing::Test {
  FakeBackend fast, slow, exact;
  std::vector<Candidate> all;

  void SetUp() override {
    unsetenv("HEED_ISA");
    fast.its_name = "fast";
    fast.isas = {"wide", "narrow"};
    slow.its_name = "slow";
    exact.its_name = "exact";
    all = {{&fast, true, true}, {&slow, true, false}, {&exact, false, false}};
  }
  void TearDown() override { unsetenv("HEED_ISA"); }

  Status Ask(const PlanOptions& options = {}, const Problem& p = Small()) {
    impl = {};
    return Decide(p, options, all, &impl);
  }

  Plan::Impl impl;
};

TEST_F(Choice, TheFirstThatServes) {
  EXPECT_TRUE(Ask());
  EXPECT_EQ(impl.backend, &fast);
  EXPECT_EQ(impl.tuning.threads, 2);
  EXPECT_EQ(impl.problem.k_heads, 2);  // normal
  fast.refusal = "it cannot";
  EXPECT_TRUE(Ask({.threads = 5}));
  EXPECT_EQ(impl.backend, &slow);
  EXPECT_EQ(impl.tuning.threads, 5);
}

TEST_F(Choice, ByName) {
  for (const FakeBackend* b : {&fast, &slow, &exact}) {
    EXPECT_TRUE(Ask({.backend = b->its_name}));
    EXPECT_EQ(impl.backend, b);
  }
  slow.refusal = "it cannot";
  const Status status = Ask({.backend = "slow"});
  EXPECT_EQ(status.code(), StatusCode::kRefused);
  EXPECT_EQ(status.message(), "the slow backend refuses: it cannot");
}

TEST_F(Choice, AllRefuse) {
  fast.refusal = "it cannot do this";
  slow.refusal = "nor this";
  Status status = Ask();
  EXPECT_EQ(status.code(), StatusCode::kRefused);
  EXPECT_EQ(status.message(),
            "no backend serves this problem: fast: it cannot do this; slow: nor this; the exact "
            "backend would serve it if asked by name");
  exact.refusal = "nor that";
  EXPECT_EQ(Ask().message(),
            "no backend serves this problem: fast: it cannot do this; slow: nor this");
}

TEST_F(Choice, UnknownNames) {
  Status status = Ask({.backend = "gpu"});
  EXPECT_EQ(status.code(), StatusCode::kInvalid);
  EXPECT_EQ(status.message(), "backend is \"gpu\": this build knows auto, fast, slow, exact");
  fast.refusal = slow.refusal = "unknown isa";
  status = Ask({.isa = "wider"});
  EXPECT_EQ(status.code(), StatusCode::kInvalid);
  EXPECT_EQ(status.message(), "isa is \"wider\": this build knows auto, wide, narrow");
  EXPECT_EQ(Ask({.backend = "fast", .isa = "wider"}).message(), status.message());
  EXPECT_EQ(Ask({.backend = "fast", .isa = "narrow"}).message(),
            "the fast backend refuses: unknown isa");
  EXPECT_EQ(Ask({.threads = -1}).message(),
            "threads is -1: it must be 1 or more, or 0 for as many as this process may use");
}

TEST_F(Choice, WrongProblemsReachNoBackend) {
  Problem p = Small();
  p.dim = 0;
  const Status status = Ask({}, p);
  EXPECT_EQ(status.code(), StatusCode::kInvalid);
  EXPECT_EQ(status.message(), "dim is 0: it must be from 1 to 1024");
  EXPECT_EQ(fast.asked_isa, "");
}

TEST_F(Choice, IsaOfTheEnvironment) {
  setenv("HEED_ISA", "narrow", 1);
  EXPECT_TRUE(Ask());
  EXPECT_EQ(fast.asked_isa, "narrow");
  EXPECT_TRUE(Ask({.isa = "wide"}));  // what the caller says is stronger
  EXPECT_EQ(fast.asked_isa, "wide");
  EXPECT_TRUE(Ask({.backend = "exact"}));  // not meant for a backend without sets
  EXPECT_EQ(exact.asked_isa, "auto");
  setenv("HEED_ISA", "", 1);
  EXPECT_TRUE(Ask());
  EXPECT_EQ(fast.asked_isa, "auto");
  setenv("HEED_ISA", "wider", 1);
  fast.refusal = slow.refusal = "unknown isa";
  EXPECT_EQ(Ask().message(), "HEED_ISA is \"wider\": this build knows auto, wide, narrow");
}

// A backend whose buffers are memory of a device beside the others.
struct OnDevice : Choice {
  FakeBackend device;
  void SetUp() override {
    Choice::SetUp();
    device.its_name = "device";
    device.archs = {"old", "new"};
    all.push_back({&device, true, false, true});
  }
  Status AskOf(Place place, const PlanOptions& options = {}) {
    impl = {};
    return Decide(Small(), options, all, &impl, place);
  }
};

TEST_F(OnDevice, AutoFollowsTheBuffers) {
  EXPECT_TRUE(AskOf(Place::kHost));
  EXPECT_EQ(impl.backend, &fast);
  EXPECT_FALSE(impl.on_device);
  EXPECT_TRUE(AskOf(Place::kDevice));
  EXPECT_EQ(impl.backend, &device);
  EXPECT_TRUE(impl.on_device);
  fast.refusal = slow.refusal = "it cannot";
  EXPECT_EQ(AskOf(Place::kHost).message(),
            "no backend serves this problem: fast: it cannot; slow: it cannot; device: the buffers "
            "are not in device memory; the exact backend would serve it if asked by name");
  fast.refusal = "";
  device.refusal = "no such luck";
  EXPECT_EQ(AskOf(Place::kDevice).message(),
            "no backend serves this problem: fast: the buffers are in device memory; slow: it "
            "cannot; device: no such luck; the exact backend would serve it if asked by name");
  EXPECT_TRUE(AskOf(Place::kDevice, {.backend = "slow"}).code() == StatusCode::kRefused);
}

TEST_F(OnDevice, Architectures) {
  EXPECT_TRUE(AskOf(Place::kHost, {.backend = "device", .arch = "new"}));
  EXPECT_EQ(device.asked_arch, "new");
  EXPECT_TRUE(AskOf(Place::kDevice, {.arch = "old"}));
  EXPECT_EQ(device.asked_arch, "old");
  device.refusal = "unknown arch";
  EXPECT_EQ(AskOf(Place::kHost, {.backend = "device", .arch = "newer"}).message(),
            "arch is \"newer\": this build knows auto, old, new");
  EXPECT_EQ(AskOf(Place::kHost, {.backend = "fast", .arch = "newer"}).message(),
            "arch is \"newer\": this build knows auto, old, new");
  EXPECT_EQ(fast.asked_arch, "auto");  // which it does not know
  const Status status = AskOf(Place::kHost, {.backend = "fast", .arch = "new"});
  EXPECT_EQ(status.code(), StatusCode::kInvalid);
  EXPECT_EQ(
      status.message(),
      "arch is \"new\" and the plan is of the fast backend, which has no architectures: leave "
      "it \"auto\", or ask for a backend that has");
}

// ---------------------------------------------------------------- the API, with the real backends

TEST(MakePlan, SaysWhatIsWrong) {
  Problem p = Small();
  p.k_heads = 3;
  const Result<Plan> plan = MakePlan(p);
  EXPECT_FALSE(plan);
  EXPECT_EQ(plan.status().code(), StatusCode::kInvalid);
  EXPECT_FALSE(plan->valid());
}

TEST(MakePlan, AutoNeverChoosesTheReference) {
  Problem p = Small();
  p.dtype = DType::kF64;
  Result<Plan> plan = MakePlan(p);
  EXPECT_EQ(plan.status().code(), StatusCode::kRefused);
  EXPECT_NE(plan.status().message().find("cpu: "), std::string::npos);
  EXPECT_NE(plan.status().message().find("; the reference backend would serve it if asked by name"),
            std::string::npos);
  plan = MakePlan(p, {.backend = "reference"});
  ASSERT_TRUE(plan) << plan.status().message();
  EXPECT_STREQ(plan->backend(), "reference");
}

TEST(Plan, EmptyOneIsHarmless) {
  const Plan plan;
  EXPECT_FALSE(plan.valid());
  EXPECT_EQ(plan.workspace_bytes(), 0);
  EXPECT_STREQ(plan.backend(), "");
  EXPECT_EQ(plan.problem().dim, 0);
  EXPECT_EQ(plan.Info().backend, "");
  EXPECT_EQ(plan.Describe(), "plan      none: the plan is empty\n");
  EXPECT_EQ(heed::Run(plan, {}).code(), StatusCode::kInvalid);
}

struct Tensors {
  std::vector<float> q = std::vector<float>(24, 0.5f), k = std::vector<float>(40, 0.25f),
                     v = std::vector<float>(40, 3), o = std::vector<float>(24, -1),
                     lse = std::vector<float>(6), dout = std::vector<float>(24, 1),
                     dq = std::vector<float>(24), dk = std::vector<float>(40),
                     dv = std::vector<float>(40);
  Buffers forward() {
    return {.q = q.data(), .k = k.data(), .v = v.data(), .o = o.data(), .lse = lse.data()};
  }
  Buffers backward() {
    Buffers b = forward();
    b.dout = dout.data();
    b.dq = dq.data();
    b.dk = dk.data();
    b.dv = dv.data();
    return b;
  }
};

TEST(OneShot, ForwardAndBackwardOfOneProblem) {
  Problem p = Small();
  p.want_lse = true;
  for (const char* backend : {"auto", "reference"}) {
    Tensors t;
    const Status status = Forward(p, t.forward(), {.backend = backend});
    ASSERT_TRUE(status) << status.message();
    for (const float o : t.o) EXPECT_NEAR(o, 3, 1e-5);
  }
  Tensors t;
  ASSERT_TRUE(Forward(p, t.forward(), {.backend = "reference"}));
  const Status status = Backward(p, t.backward(), {.backend = "reference"});  // op is set there
  ASSERT_TRUE(status) << status.message();
  for (const float dv : t.dv) EXPECT_NEAR(dv, 0.6, 1e-5);  // 3 rows, 5 equal keys
}

TEST(OneShot, TakesTheWorkspaceThatFits) {
  Problem p = Small();
  p.want_lse = true;
  const Result<Plan> plan = MakePlan(p);
  ASSERT_TRUE(plan) << plan.status().message();
  Tensors t;
  std::vector<std::byte> mine(static_cast<std::size_t>(plan->workspace_bytes()));
  Buffers b = t.forward();
  b.workspace = mine;
  EXPECT_TRUE(Forward(p, b));
  b.workspace.bytes = 1;
  EXPECT_TRUE(Forward(p, b));  // too small: it takes its own
  ASSERT_GT(plan->workspace_bytes(), 1);
  EXPECT_EQ(heed::Run(*plan, b).code(), StatusCode::kBuffers);
}

TEST(OneShot, ChecksBuffersBeforeAnythingIsWritten) {
  Problem p = Small();
  p.want_lse = true;
  Tensors t;
  Buffers b = t.forward();
  b.v = nullptr;
  const Status status = Forward(p, b);
  EXPECT_EQ(status.code(), StatusCode::kBuffers);
  EXPECT_EQ(status.message(),
            "v is null: the problem asks for a pointer to 5 x 2 x 4 elements of f32");
  for (const float o : t.o) EXPECT_EQ(o, -1);
}

TEST(Backends, AreNamed) {
  const std::vector<BackendInfo> all = Backends();
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].name, "cpu");
  EXPECT_FALSE(all[0].isas.empty());
  EXPECT_EQ(all[1].name, "reference");
  EXPECT_TRUE(all[1].available);
  EXPECT_EQ(all[2].name, "cuda");
  EXPECT_FALSE(all[2].available);
  EXPECT_EQ(all[2].reason, "this build has no CUDA kernels");
}

TEST(Version, IsAVersion) {
  int major = -1, minor = -1, patch = -1;
  EXPECT_EQ(std::sscanf(Version(), "%d.%d.%d", &major, &minor, &patch), 3) << Version();
}

}  // namespace
}  // namespace heed
