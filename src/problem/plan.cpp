// plan.cpp: MakePlan, Run and the one-shot calls: which backend serves a request, or why none does.
// Holds the one getenv. Not here: rules of a problem (validate.cpp), what a Plan says about itself
// (describe.cpp).
#include "problem/plan.h"

#include <cstdlib>
#include <new>
#include <string_view>

#include "problem/absent.h"
#include "problem/normal.h"
#include "problem/validate.h"
#include "problem/words.h"

#ifndef HEED_VERSION
#define HEED_VERSION "unknown"
#endif

namespace heed {
namespace {

// Short enough to need no memory of its own.
Status OutOfMemory() { return {StatusCode::kRefused, "out of memory"}; }

// HEED_ISA, where it says something; else null.
const char* IsaOfEnvironment() {
  const char* isa = std::getenv("HEED_ISA");
  return isa != nullptr && *isa != '\0' ? isa : nullptr;
}

// Ok, or the sentence that names what there is. Asked only after a refusal.
Status CheckIsaName(const PlanOptions& options, std::span<const Candidate> candidates) {
  const char* environment = options.isa == "auto" ? IsaOfEnvironment() : nullptr;
  const std::string isa = environment ? environment : options.isa;
  if (isa == "auto") return {};
  std::string known = "auto";
  for (const Candidate& c : candidates) {
    if (!c.has_isas) continue;
    for (const IsaInfo& info : c.backend->Info().isas) {
      if (info.name == isa) return {};
      known += ", " + info.name;
    }
  }
  return {StatusCode::kInvalid,
          Words(environment ? "HEED_ISA" : "isa", " is \"", isa, "\": this build knows ", known)};
}

Status UnknownBackend(const std::string& name, std::span<const Candidate> candidates) {
  std::string known = "auto";
  for (const Candidate& c : candidates) known += Words(", ", c.backend->name());
  return {StatusCode::kInvalid, Words("backend is \"", name, "\": this build knows ", known)};
}

// Ok, or why not; where ok, *impl is complete.
Status Ask(const Candidate& candidate, const PlanOptions& options, Plan::Impl* impl) {
  const PlanOptions own = OptionsFor(candidate, options);
  Status status = candidate.backend->Supports(impl->problem, own);
  if (status) {
    impl->backend = candidate.backend;
    impl->tuning = candidate.backend->Tune(impl->problem, own);
  }
  return status;
}

// Every reason, and who would have served the request if named.
Status AllRefuse(const PlanOptions& options, std::span<const Candidate> candidates,
                 const Problem& problem) {
  Status isa = CheckIsaName(options, candidates);
  if (!isa) return isa;
  std::string reasons, named;
  for (const Candidate& c : candidates) {
    const Status status = c.backend->Supports(problem, OptionsFor(c, options));
    if (c.automatic) {
      reasons += Words(reasons.empty() ? "" : "; ", c.backend->name(), ": ", status.message());
    } else if (status) {
      named += Words("; the ", c.backend->name(), " backend would serve it if asked by name");
    }
  }
  return {StatusCode::kRefused, Words("no backend serves this problem: ", reasons, named)};
}

Status RunChecked(const Plan::Impl& impl, const Buffers& buffers) {
  Status status = CheckBuffers(impl.problem, impl.tuning.workspace_bytes, buffers);
  return status ? impl.backend->Run(impl.problem, impl.tuning, buffers) : status;
}

Status OneShot(const Problem& problem, const Buffers& buffers, const PlanOptions& options) {
  Plan::Impl impl;
  Status status = Decide(problem, options, Candidates(), &impl);
  if (!status) return status;
  const auto needed = static_cast<std::size_t>(impl.tuning.workspace_bytes);
  if (buffers.workspace.data != nullptr && buffers.workspace.bytes >= needed) {
    return RunChecked(impl, buffers);
  }
  void* own = std::malloc(needed > 0 ? needed : 1);
  if (own == nullptr) {
    return {StatusCode::kBuffers, Words("no memory for a workspace of ", needed, " bytes")};
  }
  Buffers complete = buffers;
  complete.workspace = {own, needed};
  status = RunChecked(impl, complete);
  std::free(own);
  return status;
}

Status OneShotAs(Op op, const Problem& problem, const Buffers& buffers,
                 const PlanOptions& options) {
  try {
    if (problem.op == op) return OneShot(problem, buffers, options);
    Problem p = problem;
    p.op = op;
    return OneShot(p, buffers, options);
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  }
}

}  // namespace

PlanOptions OptionsFor(const Candidate& candidate, const PlanOptions& options) {
  PlanOptions o = options;
  if (o.isa == "auto" && candidate.has_isas) {
    if (const char* isa = IsaOfEnvironment()) o.isa = isa;
  }
  return o;
}

std::span<const Candidate> Candidates() {
  static const Absent kCuda("cuda", "this build has no CUDA kernels");
  static const Candidate kCandidates[] = {
      {&CpuBackend(), true, true},
      {&ReferenceBackend(), false, false},
      {&kCuda, true, false},  // last, so that a plan does not ask it
  };
  return kCandidates;
}

Status Decide(const Problem& problem, const PlanOptions& options,
              std::span<const Candidate> candidates, Plan::Impl* impl) {
  Status status = CheckProblem(problem);
  if (!status) return status;
  if (options.threads < 0) {
    return {StatusCode::kInvalid,
            Words("threads is ", options.threads,
                  ": it must be 1 or more, or 0 for as many as this process may use")};
  }
  impl->problem = Normalize(problem);
  impl->options = options;
  impl->candidates = candidates;

  if (options.backend == "auto") {
    for (const Candidate& c : candidates) {
      if (c.automatic && Ask(c, options, impl)) return {};
    }
    return AllRefuse(options, candidates, impl->problem);
  }
  for (const Candidate& c : candidates) {
    if (options.backend != c.backend->name()) continue;
    status = Ask(c, options, impl);
    if (status) return {};
    Status isa = CheckIsaName(options, candidates);
    if (!isa) return isa;
    return {StatusCode::kRefused,
            Words("the ", c.backend->name(), " backend refuses: ", status.message())};
  }
  return UnknownBackend(options.backend, candidates);
}

Result<Plan> MakePlan(const Problem& problem, const PlanOptions& options) {
  try {
    const auto impl = std::make_shared<Plan::Impl>();
    Status status = Decide(problem, options, Candidates(), impl.get());
    if (!status) return status;
    return Plan(impl);
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  }
}

Status Run(const Plan& plan, const Buffers& buffers) {
  if (!plan.valid()) {
    return {StatusCode::kInvalid,
            "the plan is empty: make one with MakePlan and look at its status"};
  }
  try {
    return RunChecked(*plan.impl_, buffers);
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  }
}

Status Forward(const Problem& problem, const Buffers& buffers, const PlanOptions& options) {
  return OneShotAs(Op::kForward, problem, buffers, options);
}

Status Backward(const Problem& problem, const Buffers& buffers, const PlanOptions& options) {
  return OneShotAs(Op::kBackward, problem, buffers, options);
}

std::vector<BackendInfo> Backends() {
  std::vector<BackendInfo> all;
  for (const Candidate& c : Candidates()) all.push_back(c.backend->Info());
  return all;
}

const char* Version() { return HEED_VERSION; }

}  // namespace heed
