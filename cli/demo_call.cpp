// cli/demo_call.cpp: one call by the engine and by the reference, compared. Not here: printing.
#include <algorithm>
#include <cstddef>

#include "bench/measure.h"
#include "cli/demo.h"
#include "verify/layout.h"
#include "verify/tolerance.h"

namespace heed::cli::demo {
namespace {

verify::Array GatherOf(const Problem& problem, verify::Role role, const void* data) {
  return verify::Gather(verify::ViewOf(problem, role, data));
}

// Dense, contiguous, in float64.
Problem InFloat64(Problem p) {
  p.dtype = DType::kF64;
  p.out_dtype.reset();
  p.q_strides = p.k_strides = p.v_strides = p.o_strides = Strides{};
  return p;
}

// No null pointer, even for a tensor without elements.
template <class T>
std::vector<T> Room(std::int64_t count) {
  return std::vector<T>(static_cast<std::size_t>(std::max<std::int64_t>(count, 1)));
}

}  // namespace

Result<verify::Results> Reference(const Problem& problem, const Buffers& inputs) {
  const Problem p = InFloat64(problem);
  const verify::Array q = GatherOf(problem, verify::Role::kQ, inputs.q);
  const verify::Array k = GatherOf(problem, verify::Role::kK, inputs.k);
  const verify::Array v = GatherOf(problem, verify::Role::kV, inputs.v);
  verify::Results results;
  results.o = verify::Zeros(verify::ViewOf(p, verify::Role::kO).shape);
  std::vector<float> lse = Room<float>(p.batch * p.q_heads * p.q_len);
  const Buffers buffers{.q = q.values.data(),
                        .k = k.values.data(),
                        .v = v.values.data(),
                        .o = results.o.values.data(),
                        .lse = p.want_lse ? lse.data() : nullptr};
  if (Status s = Forward(p, buffers, {.backend = "reference"}); !s) return s;
  if (p.want_lse) results.lse = GatherOf(p, verify::Role::kLse, lse.data());
  return results;
}

Result<std::vector<float>> Probabilities(const Problem& problem, const Buffers& inputs) {
  Problem p = problem;
  p.want_probs = true;
  p.want_lse = false;
  std::vector<float> probs = Room<float>(p.q_heads * p.q_len * p.k_len);
  std::vector<float> o = Room<float>(p.q_heads * p.q_len * p.dim_v);
  Buffers buffers = inputs;
  buffers.o = o.data();
  buffers.probs = probs.data();
  if (Status s = Forward(p, buffers, {.backend = "reference"}); !s) return s;
  return probs;
}

Result<Answer> Ask(const Problem& problem, const Buffers& inputs, const PlanOptions& options) {
  const Result<Plan> plan = MakePlan(problem, options);
  if (!plan) return plan.status();
  Answer answer;
  answer.info = plan->Info();
  const std::int64_t rows = problem.batch * problem.q_heads * problem.q_len;
  answer.o.resize(static_cast<std::size_t>(rows * problem.dim_v * SizeOf(problem.dtype)));
  answer.lse.resize(static_cast<std::size_t>(rows) * sizeof(float));
  std::vector<std::byte> workspace(static_cast<std::size_t>(plan->workspace_bytes()));
  Buffers buffers = inputs;
  buffers.o = answer.o.data();
  buffers.lse = reinterpret_cast<float*>(answer.lse.data());
  buffers.workspace = workspace;
  if (Status s = Run(*plan, buffers); !s) return s;
  answer.seconds = bench::Repeat(
                       0.05, 3, [&] { static_cast<void>(Run(*plan, buffers)); }, [] {})
                       .median;

  const Result<verify::Results> expected = Reference(problem, inputs);
  if (!expected) return expected.status();
  const verify::Results bounds = verify::BoundsFor(problem, inputs, *expected);
  answer.out_against_reference = verify::Compare(
      expected->o, bounds.o, verify::ViewOf(problem, verify::Role::kO, answer.o.data()));
  answer.lse_against_reference = verify::Compare(
      expected->lse, bounds.lse, verify::ViewOf(problem, verify::Role::kLse, answer.lse.data()));
  return answer;
}

verify::Comparison AgainstModel(const Problem& problem, const Buffers& inputs, const float* model) {
  // The model computed in f32 too, in another order: each side may be off by the bound, and
  // `inputs.o` holds the engine's answer.
  verify::Results at;
  at.o = GatherOf(problem, verify::Role::kO, model);
  at.lse = GatherOf(problem, verify::Role::kLse, inputs.lse);
  verify::Results bounds = verify::BoundsFor(problem, inputs, at);
  for (double& bound : bounds.o.values) bound *= 2;
  return verify::Compare(at.o, bounds.o, verify::ViewOf(problem, verify::Role::kO, inputs.o));
}

}  // namespace heed::cli::demo
