// backward_testing.cpp: see backward_testing.h.
#include "backward_testing.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "verify/compare.h"
#include "verify/layout.h"
#include "verify/tolerance.h"

namespace heed::testing_backward {
namespace {

using verify::Guarded;
using verify::Role;

constexpr std::size_t kZone = 4096;

PlanOptions OptionsOf(const Engine& engine, int threads) {
  return {.backend = engine.backend, .isa = engine.isa, .threads = threads};
}

void* Make(const Problem& p, Role role, Guarded* out) {
  *out = Guarded(verify::ViewOf(p, role));
  return out->data();
}

// The workspace starts as NaN: what is read of it must have been written. A zone lies behind it.
Status RunPlan(const Plan& plan, Buffers buffers) {
  const auto bytes = static_cast<std::size_t>(plan.workspace_bytes());
  std::vector<std::byte> workspace(bytes + kZone, std::byte{0xFF});
  buffers.workspace = {workspace.data(), bytes};
  Status status = Run(plan, buffers);
  EXPECT_TRUE(std::all_of(workspace.begin() + static_cast<std::ptrdiff_t>(bytes), workspace.end(),
                          [](std::byte b) { return b == std::byte{0xFF}; }))
      << "wrote behind the workspace";
  return status;
}

bool RunForward(const Engine& engine, const Problem& backward, Buffers buffers, int threads,
                Gradients* out) {
  Problem p = backward;
  p.op = Op::kForward;
  p.want_lse = true;
  p.dlse = p.want_dbias = p.want_dsinks = p.f32_grads = p.accumulate = false;
  buffers.dout = nullptr;
  buffers.dlse = nullptr;
  testing_options::Output forward = testing_options::RunOn(engine, p, buffers, threads);
  out->status = forward.status;
  out->o = std::move(forward.o);
  out->lse = std::move(forward.lse);
  return out->status.ok();
}

}  // namespace

std::vector<Named> All(const Gradients& g) {
  std::vector<Named> all = {{"dq", &g.dq}, {"dk", &g.dk}, {"dv", &g.dv}};
  if (g.problem.want_dbias) all.push_back({"dbias", &g.dbias});
  if (g.problem.want_dsinks) all.push_back({"dsinks", &g.dsinks});
  return all;
}

Gradients Differentiate(const Engine& engine, const Problem& problem, const Buffers& inputs,
                        int threads, const std::function<void(Buffers*)>& before) {
  Gradients out;
  const Result<Plan> plan = MakePlan(problem, OptionsOf(engine, threads));
  if (!plan) {
    out.status = plan.status();
    ADD_FAILURE() << engine.name() << ": " << plan.status().message();
    return out;
  }
  const Problem& p = out.problem = plan->problem();
  if (!RunForward(engine, problem, inputs, threads, &out)) return out;
  const std::vector<double> o = out.o.Values().values, lse = out.lse.Values().values;
  Buffers b = inputs;
  b.o = out.o.data();
  b.lse = static_cast<float*>(out.lse.data());
  b.dq = Make(p, Role::kDq, &out.dq);
  b.dk = Make(p, Role::kDk, &out.dk);
  b.dv = Make(p, Role::kDv, &out.dv);
  if (p.want_dbias) b.dbias = Make(p, Role::kDbias, &out.dbias);
  if (p.want_dsinks) b.dsinks = static_cast<float*>(Make(p, Role::kDsinks, &out.dsinks));
  if (before) before(&b);
  out.status = RunPlan(*plan, b);
  EXPECT_TRUE(out.status.ok()) << engine.name() << ": " << out.status.message();
  for (const Named& g : All(out)) {
    EXPECT_EQ(g.values->Spilled(), 0) << engine.name() << ": bytes around " << g.name;
  }
  ExpectSameBits(o, out.o.Values().values, engine.name() + ": o after the backward");
  ExpectSameBits(lse, out.lse.Values().values, engine.name() + ": lse after the backward");
  const std::int64_t rows = p.ragged ? p.total_q : p.batch * p.q_len;
  if (engine.backend == "cpu" && rows > 0) {
    EXPECT_EQ(LastIsa(), engine.isa);
  }
  return out;
}

Expected ExpectedOf(Call& call) {
  const Problem normal = testing_options::NormalOf(call.problem);
  const Buffers inputs = call.Inputs();
  Expected e;
  e.truth = verify::Truth(normal, inputs);
  e.bounds = verify::BoundsFor(normal, inputs, e.truth);
  return e;
}

void ExpectWithin(const Expected& e, const Gradients& g, const std::string& what) {
  const auto judge = [&](const char* name, const verify::Array& want, const verify::Array& bound,
                         const Guarded& got) {
    const verify::Comparison c = verify::Compare(want, bound, got.view());
    EXPECT_TRUE(c.passed()) << what << ": " << name << ": " << c.Describe();
  };
  judge("dq", e.truth.dq, e.bounds.dq, g.dq);
  judge("dk", e.truth.dk, e.bounds.dk, g.dk);
  judge("dv", e.truth.dv, e.bounds.dv, g.dv);
  if (g.problem.want_dbias) judge("dbias", e.truth.dbias, e.bounds.dbias, g.dbias);
  if (g.problem.want_dsinks) judge("dsinks", e.truth.dsinks, e.bounds.dsinks, g.dsinks);
}

void ExpectSame(const Gradients& a, const Gradients& b, const std::string& what) {
  const std::vector<Named> x = All(a), y = All(b);
  ASSERT_EQ(x.size(), y.size());
  for (std::size_t n = 0; n < x.size(); ++n) {
    ExpectSameBits(x[n].values->Values().values, y[n].values->Values().values,
                   what + ": " + x[n].name);
  }
}

}  // namespace heed::testing_backward
