// engine_testing.h: runs a problem on the cpu engine with guarded outputs. Not here: any check of
// values.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <ostream>
#include <string>
#include <vector>

#include "cases.h"
#include "heed/heed.h"
#include "verify/guarded.h"
#include "verify/layout.h"

namespace heed::cases {

// What googletest prints of a case instead of its bytes.
inline void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

}  // namespace heed::cases

namespace heed::testing_cpu {

inline std::vector<std::string> UsableIsas() {
  std::vector<std::string> isas;
  for (const BackendInfo& info : Backends()) {
    if (info.name != "cpu") continue;
    for (const IsaInfo& isa : info.isas) {
      if (isa.usable) isas.push_back(isa.name);
    }
  }
  return isas;
}

struct Output {
  Status status;
  verify::Guarded o, lse;
  std::vector<double> O() const { return o.Values().values; }
  std::vector<double> Lse() const { return lse.Values().values; }
};

/// Runs with the workspace that the plan asks for, checks that this ISA's kernels ran and that
/// nothing beside the outputs was touched.
inline Output RunOn(const std::string& isa, const Problem& problem, Buffers buffers,
                    int threads = 1) {
  Output out;
  const Result<Plan> plan = MakePlan(problem, {.backend = "cpu", .isa = isa, .threads = threads});
  if (!plan) {
    out.status = plan.status();
    ADD_FAILURE() << "refused: " << plan.status().message();
    return out;
  }
  constexpr std::size_t kZone = 4096;
  const auto bytes = static_cast<std::size_t>(plan->workspace_bytes());
  std::vector<std::byte> workspace(bytes + kZone,
                                   std::byte{0xFF});  // NaN: what is read must have been written
  out.o = verify::Guarded(verify::ViewOf(problem, verify::Role::kO));
  buffers.o = out.o.data();
  if (problem.want_lse) {
    out.lse = verify::Guarded(verify::ViewOf(problem, verify::Role::kLse));
    buffers.lse = static_cast<float*>(out.lse.data());
  }
  buffers.workspace = {workspace.data(), bytes};
  out.status = Run(*plan, buffers);
  EXPECT_TRUE(out.status.ok()) << out.status.message();
  EXPECT_EQ(out.o.Spilled(), 0) << "bytes around o were changed";
  if (problem.want_lse) {
    EXPECT_EQ(out.lse.Spilled(), 0) << "bytes around lse were changed";
  }
  for (std::size_t n = bytes; n < workspace.size(); ++n) {
    if (workspace[n] == std::byte{0xFF}) continue;
    ADD_FAILURE() << "wrote behind the workspace";
    break;
  }
  if (problem.batch * problem.q_len > 0) {
    EXPECT_EQ(LastIsa(), isa);
  }
  return out;
}

inline Output RunOn(const std::string& isa, const cases::Sample& sample, int threads = 1) {
  return RunOn(isa, sample.problem, sample.Inputs(), threads);
}

/// Equal bits, but that NaN equals NaN. The values are exact images of what lies in memory.
inline void ExpectSameBits(const std::vector<double>& a, const std::vector<double>& b,
                           const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (std::size_t n = 0; n < a.size(); ++n) {
    if (std::memcmp(&a[n], &b[n], sizeof a[n]) == 0 || (a[n] != a[n] && b[n] != b[n])) continue;
    ADD_FAILURE() << what << ": element " << n << " is " << a[n] << " and " << b[n];
    return;
  }
}

}  // namespace heed::testing_cpu
