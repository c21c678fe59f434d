// judge.cpp: see judge.h.
#include "judge.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <utility>
#include <vector>

#include "flat_case.h"
#include "on_device.h"
#include "verify/compare.h"
#include "verify/guarded.h"
#include "verify/layout.h"
#include "verify/plain.h"
#include "verify/tolerance.h"

namespace heed::gpu {
namespace {

using verify::CaseStatus;
using verify::Guarded;
using verify::Role;

// The results of one run, each in guarded memory.
struct Outputs {
  Guarded o, lse, probs, k_cache, v_cache;
  Guarded dq, dk, dv, dbias, dsinks;
};

// A result that a call has.
struct Part {
  const char* name;
  Role role;
  Guarded Outputs::*got;
  verify::Array verify::Results::*want;
};

std::vector<Part> PartsOf(const Problem& p) {
  using verify::Results;
  std::vector<Part> parts;
  const auto add = [&](bool has, const Part& part) {
    if (has) parts.push_back(part);
  };
  const bool backward = p.op == Op::kBackward, cache = p.cache.given;
  add(!backward, {"o", Role::kO, &Outputs::o, &Results::o});
  add(!backward && p.want_lse, {"lse", Role::kLse, &Outputs::lse, &Results::lse});
  add(p.want_probs, {"probs", Role::kProbs, &Outputs::probs, &Results::probs});
  add(cache, {"k_cache", Role::kKCache, &Outputs::k_cache, &Results::k_cache});
  add(cache, {"v_cache", Role::kVCache, &Outputs::v_cache, &Results::v_cache});
  add(backward, {"dq", Role::kDq, &Outputs::dq, &Results::dq});
  add(backward, {"dk", Role::kDk, &Outputs::dk, &Results::dk});
  add(backward, {"dv", Role::kDv, &Outputs::dv, &Results::dv});
  add(p.want_dbias, {"dbias", Role::kDbias, &Outputs::dbias, &Results::dbias});
  add(p.want_dsinks, {"dsinks", Role::kDsinks, &Outputs::dsinks, &Results::dsinks});
  return parts;
}

// Where a call keeps it.
const void* In(const Buffers& b, Role role) {
  switch (role) {
    case Role::kO:
      return b.o;
    case Role::kLse:
      return b.lse;
    case Role::kDq:
      return b.dq;
    case Role::kDk:
      return b.dk;
    case Role::kDv:
      return b.dv;
    case Role::kDbias:
      return b.dbias;
    case Role::kDsinks:
      return b.dsinks;
    default:
      return nullptr;
  }
}

void* Make(const Problem& p, Role role, Guarded* out) {
  *out = Guarded(verify::ViewOf(p, role));
  return out->data();
}

void* CopyOf(const Problem& p, Role role, const void* from, Guarded* out) {
  auto* const to = static_cast<std::byte*>(Make(p, role, out));
  const std::int64_t size = SizeOf(p.dtype);
  verify::ForEachOffset(verify::ViewOf(p, role), [&](std::int64_t offset) {
    std::memcpy(to + offset * size, static_cast<const std::byte*>(from) + offset * size,
                static_cast<std::size_t>(size));
  });
  return to;
}

Status RunInto(const Plan& plan, Buffers b, Outputs* out) {
  const Problem& p = plan.problem();
  if (p.op == Op::kBackward) {
    b.dq = Make(p, Role::kDq, &out->dq);
    b.dk = Make(p, Role::kDk, &out->dk);
    b.dv = Make(p, Role::kDv, &out->dv);
    if (p.want_dbias) b.dbias = Make(p, Role::kDbias, &out->dbias);
    if (p.want_dsinks) b.dsinks = static_cast<float*>(Make(p, Role::kDsinks, &out->dsinks));
    return RunOnDevice(plan, b);
  }
  b.o = Make(p, Role::kO, &out->o);
  if (p.want_lse) b.lse = static_cast<float*>(Make(p, Role::kLse, &out->lse));
  if (p.want_probs) b.probs = Make(p, Role::kProbs, &out->probs);
  if (p.cache.given) {
    b.k_cache = CopyOf(p, Role::kKCache, b.k_cache, &out->k_cache);
    b.v_cache = CopyOf(p, Role::kVCache, b.v_cache, &out->v_cache);
  }
  return RunOnDevice(plan, b);
}

// Judges one result after the other, until one is wrong.
class Judgement {
 public:
  explicit Judgement(Verdict* verdict) : verdict_(*verdict) {}

  void Add(const char* name, const verify::Array& want, const verify::Array& bound,
           const verify::View& got) {
    if (verdict_.status != CaseStatus::kPass) return;
    const verify::Comparison c = verify::Compare(want, bound, got);
    if (!c.passed()) return Fail(std::string(name) + ": " + c.Describe());
    if (!verdict_.words.empty() && c.ratio <= verdict_.ratio) return;
    verdict_.ratio = c.ratio;
    verdict_.words = std::string(name) + ": " + c.Describe();
  }
  void Add(const char* name, const verify::Array& want, const verify::Array& bound,
           const Guarded& got) {
    Add(name, want, bound, got.view());
    if (got.Spilled() != 0) Fail(std::string("bytes around ") + name + " were changed");
  }
  void Same(const char* name, const Guarded& first, const Guarded& second) {
    const verify::Array a = first.Values(), b = second.Values();
    for (std::int64_t n = 0; n < a.size(); ++n) {
      const double x = a[n], y = b[n];
      if (std::memcmp(&x, &y, sizeof x) == 0 || (x != x && y != y)) continue;
      return Fail(std::string(name) + ": a second run gave other bits, first at element " +
                  std::to_string(n));
    }
  }
  void Fail(std::string words) {
    if (verdict_.status != CaseStatus::kPass) return;
    verdict_.status = CaseStatus::kFail;
    verdict_.words = std::move(words);
  }

 private:
  Verdict& verdict_;
};

void JudgeTwice(const Plan& plan, const Buffers& inputs, Judgement* judgement) {
  const Problem& p = plan.problem();
  Outputs first, second;
  for (Outputs* out : {&first, &second}) {
    if (Status status = RunInto(plan, inputs, out); !status) {
      return judgement->Fail(status.message());
    }
  }
  const verify::Results want = verify::Truth(p, inputs);
  const verify::Results bounds = verify::BoundsFor(p, inputs, want);
  for (const Part& part : PartsOf(p)) {
    judgement->Add(part.name, want.*part.want, bounds.*part.want, first.*part.got);
    judgement->Same(part.name, first.*part.got, second.*part.got);
  }
}

// What `judge` throws becomes a failure.
template <class F>
Verdict Judged(std::string name, F&& judge) {
  Verdict verdict{.name = std::move(name)};
  Judgement judgement(&verdict);
  try {
    judge(&verdict, &judgement);
  } catch (const std::exception& e) {
    judgement.Fail(e.what());
  }
  return verdict;
}

// A plan, or the refusal in the verdict.
Result<Plan> PlanOr(const Problem& problem, const PlanOptions& options, Verdict* verdict) {
  Result<Plan> plan = MakePlan(problem, options);
  if (plan) return plan;
  verdict->status =
      plan.status().code() == StatusCode::kRefused ? CaseStatus::kRefused : CaseStatus::kFail;
  verdict->words = plan.status().message();
  return plan;
}

}  // namespace

Verdict JudgeFlat(const std::string& path, DType dtype, bool backward, const PlanOptions& options) {
  return Judged(path, [&](Verdict* verdict, Judgement* judgement) {
    Result<io::TensorFile> file = ReadFlatCase(path);
    if (!file) return judgement->Fail(file.status().message());
    const Result<verify::CaseFile> read = verify::CaseOf(std::move(*file), dtype);
    if (!read) return judgement->Fail(read.status().message());
    const verify::CaseResult r = verify::RunCase(
        *read, {.plan = options,
                .dtype = dtype,
                .backward = backward,
                .run = [](const Plan& plan, const Buffers& b) { return RunOnDevice(plan, b); }});
    *verdict = {std::string(Name(dtype)) + " " + r.name, r.status, r.reason, r.ratio};
  });
}

Verdict JudgeCase(const cases::Case& c, const PlanOptions& options) {
  return Judged(c.name, [&](Verdict* verdict, Judgement* judgement) {
    const cases::Sample sample = cases::MakeSample(c);
    const Result<Plan> plan = PlanOr(sample.problem, options, verdict);
    if (plan) JudgeTwice(*plan, sample.Inputs(), judgement);
  });
}

Verdict JudgeBackward(const testing_backward::BackwardCase& c, const PlanOptions& options) {
  return Judged(c.name(), [&](Verdict* verdict, Judgement* judgement) {
    testing_backward::Call call = testing_backward::MakeCall(c.forward, c.wishes);
    const Result<Plan> forward = PlanOr(call.Forward(), options, verdict);
    if (!forward) return;
    const Result<Plan> backward = PlanOr(call.problem, options, verdict);
    if (!backward) return;
    Outputs results;
    if (Status status = RunInto(*forward, call.sample.Inputs(), &results); !status) {
      return judgement->Fail("the forward: " + status.message());
    }
    Buffers b = call.Inputs();
    b.o = results.o.data();
    b.lse = static_cast<float*>(results.lse.data());
    JudgeTwice(*backward, b, judgement);
  });
}

Verdict JudgeResults(const Problem& problem, const Buffers& buffers) {
  return Judged("", [&](Verdict* verdict, Judgement* judgement) {
    const Result<Plan> plan = PlanOr(problem, {.backend = "reference"}, verdict);
    if (!plan) return;
    const Problem& p = plan->problem();
    const verify::Results want = verify::Truth(p, buffers);
    const verify::Results bounds = verify::BoundsFor(p, buffers, want);
    for (const Part& part : PartsOf(p)) {
      const void* const got = In(buffers, part.role);
      if (got == nullptr) return judgement->Fail(std::string(part.name) + " is not given");
      judgement->Add(part.name, want.*part.want, bounds.*part.want,
                     verify::ViewOf(p, part.role, got));
    }
  });
}

}  // namespace heed::gpu
