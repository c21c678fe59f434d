// workspace_test.cpp: the workspace: its size does not grow with the sequence, it may lie anywhere
// and hold anything, and neither it nor a tensor is touched beyond its ends.
#include <gtest/gtest.h>

#include <cstring>

#include "engine_call.h"
#include "guarded.h"

namespace heed {
namespace {

constexpr DType kDTypes[] = {DType::kF32, DType::kBF16, DType::kF16};

TEST(Workspace, DoesNotGrowWithTheSequence) {
  for (const std::string& isa : UsableIsas())
    for (const DType dtype : kDTypes)
      for (const std::int64_t dim : {16, 40, 64, 128, 192, 256, 576}) {
        const auto bytes = [&](std::int64_t q_len, std::int64_t k_len, int threads, bool causal) {
          return PlanOf({.q_len = q_len,
                         .k_len = k_len,
                         .q_heads = 8,
                         .dim = dim,
                         .dtype = dtype,
                         .causal = causal},
                        {.backend = "cpu", .isa = isa, .threads = threads})
              .workspace_bytes();
        };
        const std::int64_t one = bytes(4096, 4096, 1, false);
        EXPECT_EQ(bytes(65536, 65536, 1, false), one);
        EXPECT_EQ(bytes(1 << 20, 1 << 20, 1, true), one);
        EXPECT_EQ(bytes(4096, 1 << 20, 1, false), one);
        EXPECT_EQ(bytes(1 << 20, 4096, 1, false), one);
        EXPECT_LE(one, 2 << 20) << "more than a core's own cache";
        EXPECT_LE(bytes(65536, 65536, 3, false), 3 * one);
        // Few rows: the queries and sums of eight heads at once, and what pieces of keys leave.
        EXPECT_LE(bytes(5, 7, 1, false), 1 << 20);
        EXPECT_EQ(bytes(5, 1 << 20, 1, false), bytes(5, 1 << 24, 1, false)) << "64 pieces at most";
      }
}

TEST(Workspace, ThatIsTooSmallIsRefused) {
  EngineCall call({.q_len = 50, .k_len = 60, .dim = 32});
  const Plan plan = PlanOf(call.problem, {.backend = "cpu"});
  std::vector<char> workspace(static_cast<std::size_t>(plan.workspace_bytes()));
  EXPECT_EQ(heed::Run(plan, call.With({workspace.data(), workspace.size() - 1})).code(),
            StatusCode::kBuffers);
  EXPECT_EQ(heed::Run(plan, call.With({nullptr, workspace.size()})).code(), StatusCode::kBuffers);
  EXPECT_TRUE(heed::Run(plan, call.With(workspace)));
}

// The result by a workspace of exactly the plan's size at `at` bytes into memory that was full of
// `fill`; what lies around the workspace must stay as it was.
std::vector<char> ResultAt(EngineCall& call, const Plan& plan, std::size_t at, int fill) {
  constexpr std::size_t kAround = 4096;
  const auto bytes = static_cast<std::size_t>(plan.workspace_bytes());
  std::vector<char> memory(bytes + 2 * kAround + at, static_cast<char>(fill));
  char* const base =
      memory.data() + kAround - reinterpret_cast<std::uintptr_t>(memory.data()) % 64 + at;
  std::memset(call.o.data(), 0x5a, call.o.size());
  const Status status = heed::Run(plan, call.With({base, bytes}));
  EXPECT_TRUE(status) << status.message();
  std::size_t changed = 0;
  for (const char& c : memory)
    if ((&c < base || &c >= base + bytes) && c != static_cast<char>(fill)) changed++;
  EXPECT_EQ(changed, 0u) << "bytes outside the workspace were written, which began " << at
                         << " behind a multiple of 64\n"
                         << plan.Describe();
  std::vector<char> result = call.o;
  const char* const lse = reinterpret_cast<const char*>(call.lse.data());
  result.insert(result.end(), lse, lse + call.lse.size() * sizeof(float));
  return result;
}

TEST(Workspace, MayLieAnywhereAndHoldAnything) {
  for (const std::string& isa : UsableIsas())
    for (const DType dtype : kDTypes)
      for (const std::int64_t dim : {1, 16, 72, 300}) {
        EngineCall call({.batch = 2,
                         .q_len = 53,
                         .k_len = 67,
                         .q_heads = 2,
                         .k_heads = 1,
                         .dim = dim,
                         .dtype = dtype,
                         .causal = true,
                         .want_lse = true});
        for (const int threads : {1, 3}) {
          const Plan plan =
              PlanOf(call.problem, {.backend = "cpu", .isa = isa, .threads = threads});
          const std::vector<char> zeros = ResultAt(call, plan, 0, 0);
          for (const int at : {0, 1, 4, 31, 32, 63}) {
            const int fill = at % 2 ? 0xff : 0x7f;  // NaNs, huge numbers
            EXPECT_EQ(ResultAt(call, plan, static_cast<std::size_t>(at), fill), zeros)
                << isa << " " << Name(dtype) << " dim " << dim << ", " << threads << " threads, at "
                << at << ", filled with " << fill;
          }
        }
      }
}

// Every tensor and the workspace with a page behind (or before) them that cannot even be read.
void RunGuarded(const Problem& problem, const PlanOptions& options, Guarded::Side side) {
  EngineCall call(problem);
  const Plan plan = PlanOf(problem, options);
  const auto workspace_bytes = static_cast<std::size_t>(plan.workspace_bytes());
  Guarded q(call.q.size(), side), k(call.k.size(), side), v(call.v.size(), side),
      o(call.o.size(), side), lse(call.lse.size() * 4, side), workspace(workspace_bytes, side);
  ASSERT_TRUE(q.data() && k.data() && v.data() && o.data() && lse.data() && workspace.data());
  std::memcpy(q.data(), call.q.data(), call.q.size());
  std::memcpy(k.data(), call.k.data(), call.k.size());
  std::memcpy(v.data(), call.v.data(), call.v.size());
  ASSERT_TRUE(heed::Run(plan, {.q = q.data(),
                               .k = k.data(),
                               .v = v.data(),
                               .o = o.data(),
                               .lse = lse.as<float>(),
                               .workspace = {workspace.data(), workspace_bytes}}));
  std::vector<char> ordinary(workspace_bytes);
  ASSERT_TRUE(heed::Run(plan, call.With(ordinary)));
  EXPECT_EQ(std::memcmp(o.data(), call.o.data(), call.o.size()), 0);
  EXPECT_EQ(std::memcmp(lse.data(), call.lse.data(), call.lse.size() * 4), 0);
}

TEST(Memory, IsNotTouchedBeyondItsEnds) {
  for (const std::string& isa : UsableIsas())
    for (const DType dtype : kDTypes)
      for (const std::int64_t dim : {1, 2, 5, 16, 17, 40, 64, 72})
        for (const std::int64_t dim_v : {std::int64_t{3}, std::int64_t{32}, dim})
          for (const std::int64_t q_len : {1, 3, 50})
            for (const std::int64_t k_len : {1, 6, 8, 97})
              for (const Guarded::Side side : {Guarded::kGuardBehind, Guarded::kGuardBefore}) {
                SCOPED_TRACE(isa + " " + Name(dtype) + " " + std::to_string(dim) + " x " +
                             std::to_string(dim_v) + ", " + std::to_string(q_len) + " x " +
                             std::to_string(k_len));
                RunGuarded({.q_len = q_len,
                            .k_len = k_len,
                            .dim = dim,
                            .dim_v = dim_v,
                            .dtype = dtype,
                            .causal = k_len == 97,
                            .want_lse = true},
                           {.backend = "cpu", .isa = isa, .threads = 1}, side);
              }
}

}  // namespace
}  // namespace heed
