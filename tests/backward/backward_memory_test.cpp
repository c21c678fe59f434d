// backward_memory_test.cpp: the backward's workspace: linear in the sequence, anywhere, holding
// anything; and that nothing, tensors included, is touched beyond its ends. Not here: values.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <list>
#include <string>
#include <vector>

#include "cpu/engine_call.h"
#include "cpu/guarded.h"

namespace heed {
namespace {

constexpr DType kDTypes[] = {DType::kF32, DType::kBF16, DType::kF16};

std::int64_t WorkspaceOf(const Problem& p, const std::string& isa, int threads) {
  return PlanOf(p, {.backend = "cpu", .isa = isa, .threads = threads}).workspace_bytes();
}

// A few numbers for each row of the problem, whatever the lengths: what S x S would take is 64 times as
// much already at the second of these.
TEST(BackwardWorkspace, IsLinearInTheSequence) {
  for (const std::string& isa : UsableIsas()) {
    for (const DType dtype : kDTypes) {
      for (const std::int64_t dim : {16, 64, 128}) {
        const auto bytes = [&](std::int64_t q_len, std::int64_t k_len, std::int64_t heads) {
          return WorkspaceOf({.q_len = q_len,
                              .k_len = k_len,
                              .q_heads = heads,
                              .dim = dim,
                              .dtype = dtype,
                              .op = Op::kBackward},
                             isa, 1);
        };
        for (const std::int64_t heads : {1, 8}) {
          const std::int64_t one = bytes(4096, 4096, heads), four = bytes(16384, 16384, heads);
          EXPECT_LE(four, 4.2 * static_cast<double>(one));
          EXPECT_LE(bytes(65536, 65536, heads), 4.2 * static_cast<double>(four));
          EXPECT_LT(four, std::int64_t{16384} * 16384 * 4 / 8) << "S x S bits";
        }
      }
    }
  }
}

// Every tensor of a call, outputs last, as bytes; with a bias, sinks and dlse.
struct Tensors {
  explicit Tensors(const Problem& p) : problem(p) {
    const std::int64_t hk = EngineCall::KeyHeads(p), dv = EngineCall::DimV(p);
    const std::int64_t rows = p.batch * p.q_len * p.q_heads, keys = p.batch * p.k_len * hk;
    const auto random = [&](std::int64_t n, DType type) {
      bytes.push_back(RandomTensor(n, type, static_cast<std::uint32_t>(bytes.size() + 1)));
    };
    random(rows * p.dim, p.dtype);           // q
    random(keys * p.dim, p.dtype);           // k
    random(keys * dv, p.dtype);              // v
    random(rows * dv, p.dtype);              // dout
    random(rows, DType::kF32);               // dlse
    random(p.q_len * p.k_len, DType::kF32);  // bias
    random(p.q_heads, DType::kF32);          // sinks
    random(rows * dv, p.dtype);              // o
    random(rows, DType::kF32);               // lse
    results = bytes.size();
    random(rows * p.dim, p.dtype);           // dq
    random(keys * p.dim, p.dtype);           // dk
    random(keys * dv, p.dtype);              // dv
    random(p.q_len * p.k_len, DType::kF32);  // dbias
    random(p.q_heads, DType::kF32);          // dsinks
  }

  // Forward and backward on memory at `at`, in the order above.
  void Run(const std::vector<void*>& at, const Plan& plan, Workspace workspace) const {
    const auto f = [&](std::size_t n) { return static_cast<float*>(at[n]); };
    Buffers b{
        .q = at[0], .k = at[1], .v = at[2], .o = at[7], .lse = f(8), .bias = at[5], .sinks = f(6)};
    Problem forward = problem;
    forward.op = Op::kForward;
    forward.dlse = forward.want_dbias = forward.want_dsinks = false;
    const PlanOptions options{.backend = "cpu", .isa = plan.Info().isa, .threads = 1};
    Status status = Forward(forward, b, options);
    ASSERT_TRUE(status) << status.message();
    b.dout = at[3];
    b.dlse = f(4);
    b.dq = at[9];
    b.dk = at[10];
    b.dv = at[11];
    b.dbias = at[12];
    b.dsinks = f(13);
    b.workspace = workspace;
    status = heed::Run(plan, b);
    ASSERT_TRUE(status) << status.message();
  }

  // The gradients, one behind the other, by a workspace of exactly the plan's size at `offset` bytes
  // behind a multiple of 64, which was full of `fill`.
  std::vector<char> Gradients(const Plan& plan, std::size_t offset, int fill) {
    std::vector<void*> at;
    for (std::vector<char>& t : bytes) at.push_back(t.data());
    constexpr std::size_t kAround = 4096;
    const auto size = static_cast<std::size_t>(plan.workspace_bytes());
    std::vector<char> memory(size + 2 * kAround + offset, static_cast<char>(fill));
    char* const base =
        memory.data() + kAround - reinterpret_cast<std::uintptr_t>(memory.data()) % 64 + offset;
    Run(at, plan, {base, size});
    std::size_t changed = 0;
    for (const char& c : memory) {
      changed += (&c < base || &c >= base + size) && c != static_cast<char>(fill);
    }
    EXPECT_EQ(changed, 0u) << "bytes outside the workspace were written\n" << plan.Describe();
    std::vector<char> all;
    for (std::size_t n = results; n < bytes.size(); ++n) {
      all.insert(all.end(), bytes[n].begin(), bytes[n].end());
    }
    return all;
  }

  Problem problem;
  std::vector<std::vector<char>> bytes;
  std::size_t results = 0;
};

Problem Small(std::int64_t dim, DType dtype) {
  return {.batch = 1,
          .q_len = 53,
          .k_len = 67,
          .q_heads = 2,
          .k_heads = 1,
          .dim = dim,
          .dtype = dtype,
          .causal = true,
          .bias = {.given = true, .rows = 53, .cols = 67},
          .sinks = true,
          .op = Op::kBackward,
          .want_lse = true,
          .dlse = true,
          .want_dbias = true,
          .want_dsinks = true};
}

TEST(BackwardWorkspace, MayLieAnywhereAndHoldAnything) {
  for (const std::string& isa : UsableIsas()) {
    for (const DType dtype : kDTypes) {
      for (const std::int64_t dim : {1, 16, 72, 300}) {
        Tensors tensors(Small(dim, dtype));
        for (const int threads : {1, 3}) {
          const Plan plan =
              PlanOf(tensors.problem, {.backend = "cpu", .isa = isa, .threads = threads});
          const std::vector<char> zeros = tensors.Gradients(plan, 0, 0);
          for (const int at : {0, 1, 4, 31, 63}) {
            const int fill = at % 2 ? 0xff : 0x7f;  // NaNs, huge numbers
            EXPECT_EQ(tensors.Gradients(plan, static_cast<std::size_t>(at), fill), zeros)
                << isa << " " << Name(dtype) << " dim " << dim << ", " << threads << " threads, at "
                << at;
          }
        }
      }
    }
  }
}

// Every tensor and the workspace with a page behind (or before) them that cannot even be read.
TEST(BackwardMemory, IsNotTouchedBeyondItsEnds) {
  for (const std::string& isa : UsableIsas()) {
    for (const DType dtype : kDTypes) {
      for (const std::int64_t dim : {1, 5, 16, 17, 40, 64}) {
        for (const std::int64_t dim_v : {std::int64_t{3}, std::int64_t{32}, dim}) {
          for (const std::int64_t q_len : {1, 3, 50}) {
            for (const std::int64_t k_len : {1, 6, 97}) {
              for (const Guarded::Side side : {Guarded::kGuardBehind, Guarded::kGuardBefore}) {
                SCOPED_TRACE(isa + " " + Name(dtype) + " " + std::to_string(dim) + " x " +
                             std::to_string(dim_v) + ", " + std::to_string(q_len) + " x " +
                             std::to_string(k_len));
                Problem p = Small(dim, dtype);
                p.dim_v = dim_v;
                p.q_len = p.bias.rows = q_len;
                p.k_len = p.bias.cols = k_len;
                Tensors tensors(p);
                const Plan plan = PlanOf(p, {.backend = "cpu", .isa = isa, .threads = 1});
                const std::vector<char> want = tensors.Gradients(plan, 0, 0);
                const auto bytes = static_cast<std::size_t>(plan.workspace_bytes());
                std::list<Guarded> memory;
                std::vector<void*> at;
                for (const std::vector<char>& t : tensors.bytes) {
                  ASSERT_TRUE(memory.emplace_back(t.size(), side).data());
                  at.push_back(memory.back().data());
                  std::memcpy(at.back(), t.data(), t.size());
                }
                Guarded workspace(bytes, side);
                ASSERT_TRUE(workspace.data());
                tensors.Run(at, plan, {workspace.data(), bytes});
                std::vector<char> got;
                for (std::size_t n = tensors.results; n < at.size(); ++n) {
                  const char* from = static_cast<const char*>(at[n]);
                  got.insert(got.end(), from, from + tensors.bytes[n].size());
                }
                EXPECT_EQ(got, want);
              }
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace heed
