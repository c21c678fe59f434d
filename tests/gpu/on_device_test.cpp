// on_device_test.cpp: a call that was copied to another place gives what it gives here, and whoever
// writes beside an array there is caught.
#include "gpu/on_device.h"

#include <gmock/gmock.h>

#include <cstring>
#include <string>
#include <vector>

#include "gpu/judge.h"

namespace heed::gpu {
namespace {

using testing::HasSubstr;

// Two heads of 3 x 4 numbers; k lies backwards, so that its memory begins before its first element.
struct Small {
  Problem problem{.batch = 1, .q_len = 3, .k_len = 4, .q_heads = 2, .dim = 4, .want_lse = true};
  std::vector<float> q = std::vector<float>(24, 0.5f), k = std::vector<float>(32, 0.25f), v = k;
  std::vector<float> o = std::vector<float>(24), lse = std::vector<float>(6);

  Small() {
    problem.k_strides = {0, -8, 4};
    for (std::size_t n = 0; n < v.size(); ++n) v[n] = float(n);
  }
  Plan plan() const { return *MakePlan(problem, {.backend = "reference"}); }
  Buffers buffers() {
    return {.q = q.data(), .k = k.data() + 24, .v = v.data(), .o = o.data(), .lse = lse.data()};
  }
  std::string With(Status (*run)(const Plan&, const Buffers&)) {
    return RunOnDevice(plan(), buffers(), run).message();
  }
};

// A write at an offset in bytes.
template <class T>
void Write(T* data, std::ptrdiff_t offset) {
  reinterpret_cast<unsigned char*>(const_cast<std::remove_const_t<T>*>(data))[offset] ^= 1;
}

TEST(OnDevice, GivesWhatTheCallGivesHere) {
  Small here, there;
  std::vector<std::byte> workspace(std::size_t(here.plan().workspace_bytes()));
  Buffers b = here.buffers();
  b.workspace = workspace;
  ASSERT_TRUE(heed::Run(here.plan(), b).ok());
  ASSERT_EQ(RunOnDevice(there.plan(), there.buffers()).message(), "");
  EXPECT_EQ(there.o, here.o);
  EXPECT_EQ(there.lse, here.lse);
}

TEST(OnDevice, ArraysKeepTheirPlaceWithin256Bytes) {
  Small s;
  static Buffers host;
  host = s.buffers();
  EXPECT_EQ(s.With([](const Plan&, const Buffers& b) {
    const auto place = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16; };
    EXPECT_NE(b.q, host.q);
    EXPECT_EQ(place(b.q), place(host.q));
    EXPECT_EQ(place(b.k), place(host.k));
    EXPECT_EQ(place(b.o), place(host.o));
    return Status();
  }),
            "");
}

TEST(OnDevice, WritesBesideAnArrayAreCaught) {
  Small s;
  EXPECT_THAT(s.With([](const Plan&, const Buffers& b) {
    Write(static_cast<float*>(b.o), -1);
    return Status();
  }),
              HasSubstr("bytes before o were changed"));
  EXPECT_THAT(s.With([](const Plan&, const Buffers& b) {
    Write(b.lse, 6 * 4);
    return Status();
  }),
              HasSubstr("bytes behind lse were changed"));
  EXPECT_THAT(s.With([](const Plan&, const Buffers& b) {
    Write(static_cast<const float*>(b.k), -3 * 8 * 4);
    return Status();
  }),
              HasSubstr("k, an input, was changed"));
  EXPECT_THAT(s.With([](const Plan& plan, const Buffers& b) {
    Write(static_cast<char*>(b.workspace.data), plan.workspace_bytes());
    return Status();
  }),
              HasSubstr("bytes behind the workspace were changed"));
  EXPECT_EQ(
      s.With([](const Plan&, const Buffers&) { return Status(StatusCode::kDevice, "it is gone"); }),
      "it is gone");
}

TEST(Judge, ResultsThatAreWrongAreSaidToBe) {
  Small s;
  ASSERT_TRUE(RunOnDevice(s.plan(), s.buffers()).ok());
  EXPECT_EQ(JudgeResults(s.problem, s.buffers()).status, verify::CaseStatus::kPass);
  s.lse[5] += 1e-4f;
  const Verdict wrong = JudgeResults(s.problem, s.buffers());
  EXPECT_EQ(wrong.status, verify::CaseStatus::kFail);
  EXPECT_THAT(wrong.words, HasSubstr("lse: worst error"));
  s.problem.q_heads = -1;
  EXPECT_EQ(JudgeResults(s.problem, s.buffers()).status, verify::CaseStatus::kFail);
}

}  // namespace
}  // namespace heed::gpu
