// plans.h: plans kept for the next call of the same Problem, and running one: workspace, the GIL.
#pragma once

#include "errors.h"
#include "heed/heed.h"

namespace heed::python {

/// The plan of a problem on the device that is current, `device` (kHost: none): a kept one, or a new one. Kept are the last few hundred, by every field of
/// Problem and PlanOptions; never those with dropout, whose seed is new in each call. Fails with the
/// Status of MakePlan. The GIL must be held.
Plan PlanFor(const Problem& problem, const PlanOptions& options, int device);

/// Forgets all plans, so that the next ones see HEED_ISA as it is then.
void ForgetPlans();
std::size_t PlansKept();

/// Runs the plan of the problem without the GIL, with a workspace of this thread, or of PyTorch's on the
/// device.
void RunPlan(const Problem& problem, const Plan& plan, Buffers buffers, int device);

}  // namespace heed::python
