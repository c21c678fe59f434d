// engine_call.h: one forward problem of the cpu engine with random tensors, and the instruction
// sets usable here. Not here: what the right answer is.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "heed/heed.h"

namespace heed {

// Names of the cpu engine's instruction sets that this machine can run.
inline std::vector<std::string> UsableIsas() {
  std::vector<std::string> names;
  for (const BackendInfo& backend : Backends())
    if (backend.name == "cpu")
      for (const IsaInfo& isa : backend.isas)
        if (isa.usable) names.push_back(isa.name);
  return names;
}

inline Plan PlanOf(const Problem& problem, const PlanOptions& options) {
  const auto plan = MakePlan(problem, options);
  EXPECT_TRUE(plan) << plan.status().message();
  return *plan;
}

// `n` elements of `dtype` in about [-1, 1), as bytes.
inline std::vector<char> RandomTensor(std::int64_t n, DType dtype, std::uint32_t seed) {
  std::vector<char> bytes(static_cast<std::size_t>(n * SizeOf(dtype)));
  for (std::int64_t i = 0; i < n; i++) {
    seed = seed * 1664525u + 1013904223u;
    const float x = static_cast<float>(seed >> 8) * 0x1p-23f - 1;
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    std::uint16_t half = static_cast<std::uint16_t>(bits >> 16);
    // As f16: sign, an exponent in [-4, -1], ten random bits.
    if (dtype == DType::kF16)
      half = static_cast<std::uint16_t>((seed >> 31) << 15 | (11 + (seed >> 29 & 3)) << 10 |
                                        (seed >> 16 & 0x3ff));
    char* const to = bytes.data() + i * SizeOf(dtype);
    if (dtype == DType::kF32)
      std::memcpy(to, &x, 4);
    else
      std::memcpy(to, &half, 2);
  }
  return bytes;
}

// Contiguous tensors of one problem.
struct EngineCall {
  explicit EngineCall(const Problem& p)
      : problem(p),
        q(RandomTensor(p.batch * p.q_len * p.q_heads * p.dim, p.dtype, 1)),
        k(RandomTensor(p.batch * p.k_len * KeyHeads(p) * p.dim, p.dtype, 2)),
        v(RandomTensor(p.batch * p.k_len * KeyHeads(p) * DimV(p), p.dtype, 3)),
        o(static_cast<std::size_t>(p.batch * p.q_len * p.q_heads * DimV(p) *
                                   SizeOf(p.out_dtype.value_or(p.dtype)))),
        lse(static_cast<std::size_t>(p.batch * p.q_heads * p.q_len)) {}

  static std::int64_t KeyHeads(const Problem& p) { return p.k_heads ? p.k_heads : p.q_heads; }
  static std::int64_t DimV(const Problem& p) { return p.dim_v ? p.dim_v : p.dim; }

  Buffers With(Workspace workspace) {
    return {.q = q.data(),
            .k = k.data(),
            .v = v.data(),
            .o = o.data(),
            .lse = problem.want_lse ? lse.data() : nullptr,
            .workspace = workspace};
  }

  Problem problem;
  std::vector<char> q, k, v, o;
  std::vector<float> lse;
};

}  // namespace heed
