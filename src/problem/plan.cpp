// plan.cpp: MakePlan, Run and the one-shot calls: which backend serves a request, or why none does.
// Holds the one getenv. Not here: rules of a problem (validate.cpp), what a Plan says about itself
// (describe.cpp).
#include "problem/plan.h"

#include <cstdlib>
#include <new>
#include <string_view>

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

// The same for architectures, which only plans for a device have.
Status CheckArchName(const PlanOptions& options, std::span<const Candidate> candidates) {
  if (options.arch == "auto") return {};
  std::string known = "auto";
  for (const Candidate& c : candidates) {
    if (!c.on_device) continue;
    for (const std::string& arch : c.backend->Info().archs) {
      if (arch == options.arch) return {};
      known += ", " + arch;
    }
  }
  return {StatusCode::kInvalid, Words("arch is \"", options.arch, "\": this build knows ", known)};
}

Status CheckNames(const PlanOptions& options, std::span<const Candidate> candidates) {
  Status isa = CheckIsaName(options, candidates);
  return isa ? CheckArchName(options, candidates) : isa;
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
    impl->on_device = candidate.on_device;
    impl->tuning = candidate.backend->Tune(impl->problem, own);
  }
  return status;
}

// An architecture that the plan made has no use for.
Status CheckArchUsed(const PlanOptions& options, const Plan::Impl& impl) {
  if (impl.on_device || options.arch == "auto") return {};
  Status known = CheckArchName(options, impl.candidates);
  if (!known) return known;
  return {StatusCode::kInvalid,
          Words("arch is \"", options.arch, "\" and the plan is of the ", impl.backend->name(),
                " backend, which has no architectures: leave it \"auto\", or ask for a backend "
                "that has")};
}

// Every reason, and who would have served the request if named.
Status AllRefuse(const PlanOptions& options, std::span<const Candidate> candidates,
                 const Problem& problem, Place place) {
  Status names = CheckNames(options, candidates);
  if (!names) return names;
  std::string reasons, named;
  for (const Candidate& c : candidates) {
    const Status status = c.backend->Supports(problem, OptionsFor(c, options));
    if (c.automatic && !status) {
      reasons += Words(reasons.empty() ? "" : "; ", c.backend->name(), ": ", status.message());
    } else if (c.automatic) {
      reasons += Words(reasons.empty() ? "" : "; ", c.backend->name(), ": the buffers are ",
                       place == Place::kHost ? "not " : "", "in device memory");
    } else if (status) {
      named += Words("; the ", c.backend->name(), " backend would serve it if asked by name");
    }
  }
  return {StatusCode::kRefused, Words("no backend serves this problem: ", reasons, named)};
}

Status RunChecked(const Plan::Impl& impl, const Buffers& buffers) {
  Status status = CheckBuffers(impl.problem, impl.tuning.workspace_bytes, buffers,
                               impl.on_device ? Place::kDevice : Place::kHost);
  return status ? impl.backend->Run(impl.problem, impl.tuning, buffers) : status;
}

Place PlaceOf(const Buffers& buffers) {
  const void* const data = buffers.q ? buffers.q : buffers.o;
  for (const Candidate& c : Candidates()) {
    if (c.on_device && data != nullptr && c.backend->Owns(data)) return Place::kDevice;
  }
  return Place::kHost;
}

Status OneShot(const Problem& problem, const Buffers& buffers, const PlanOptions& options) {
  Plan::Impl impl;
  Status status = Decide(problem, options, Candidates(), &impl, PlaceOf(buffers));
  if (!status) return status;
  const auto needed = static_cast<std::size_t>(impl.tuning.workspace_bytes);
  if (buffers.workspace.data != nullptr && buffers.workspace.bytes >= needed) {
    return RunChecked(impl, buffers);
  }
  if (needed == 0) return RunChecked(impl, buffers);
  void* own = impl.backend->Take(needed, buffers.stream);
  if (own == nullptr) {
    return {StatusCode::kBuffers, Words("no memory for a workspace of ", needed, " bytes")};
  }
  Buffers complete = buffers;
  complete.workspace = {own, needed};
  status = RunChecked(impl, complete);
  impl.backend->Give(own, buffers.stream);
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
  // Not said to it, and not refused by it: Decide does that where it is the one chosen.
  if (!candidate.on_device) o.arch = "auto";
  return o;
}

std::span<const Candidate> Candidates() {
  static const Candidate kCandidates[] = {
      {&CpuBackend(), true, true},
      {&ReferenceBackend(), false, false},
      {&CudaBackend(), true, false, true},
  };
  return kCandidates;
}

Status Decide(const Problem& problem, const PlanOptions& options,
              std::span<const Candidate> candidates, Plan::Impl* impl, Place place) {
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
      if (c.automatic && c.on_device == (place == Place::kDevice) && Ask(c, options, impl)) {
        return CheckArchUsed(options, *impl);
      }
    }
    return AllRefuse(options, candidates, impl->problem, place);
  }
  for (const Candidate& c : candidates) {
    if (options.backend != c.backend->name()) continue;
    status = Ask(c, options, impl);
    if (status) return CheckArchUsed(options, *impl);
    Status names = CheckNames(options, candidates);
    if (!names) return names;
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
