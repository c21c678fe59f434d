// plan.h: what a Plan holds, and how it is decided among backends. Not here: the API (heed.h), its
// text (describe.cpp).
#pragma once

#include <span>

#include "backend.h"
#include "heed/heed.h"
#include "problem/validate.h"

namespace heed {

struct Candidate {
  const Backend* backend;
  bool automatic;  // "auto" asks it
  bool has_isas;   // HEED_ISA is meant for it
  // Its buffers are memory of a device, whose architecture a plan may name: "auto" asks it for such
  // buffers alone, and for them nobody else.
  bool on_device = false;
};

// Of this build, in the order in which `auto` asks them.
std::span<const Candidate> Candidates();

struct Plan::Impl {
  Problem problem;  // normal
  PlanOptions options;
  const Backend* backend = nullptr;
  bool on_device = false;
  Tuning tuning;
  std::span<const Candidate> candidates;
};

// The options as a candidate is to understand them: HEED_ISA where it is meant for it.
PlanOptions OptionsFor(const Candidate& candidate, const PlanOptions& options);

// Validates, asks the candidates, and fills in *impl. Allocates nothing unless it fails. `place`: of
// the buffers, as far as it is known.
Status Decide(const Problem& problem, const PlanOptions& options,
              std::span<const Candidate> candidates, Plan::Impl* impl, Place place = Place::kHost);

}  // namespace heed
