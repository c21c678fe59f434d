// judge.h: whether results are right: conformance cases and the tests' lists of cases on a backend of
// choice in the memory of its device, and single calls whose results are there already. Not here: which
// cases, printing.
#pragma once

#include <string>

#include "backward/backward_cases.h"
#include "cases.h"
#include "heed/heed.h"
#include "verify/conformance.h"

namespace heed::gpu {

struct Verdict {
  std::string name;
  verify::CaseStatus status = verify::CaseStatus::kPass;
  std::string words;  ///< why not, or how large the worst error is
  double ratio = 0;   ///< of the worst error to its bound
};

/// One file in the form of flat_case.h, in a dtype. Gradients, too, where `backward`.
Verdict JudgeFlat(const std::string& path, DType dtype, bool backward, const PlanOptions& options);

/// One case of tests/cases.h, run twice: within its bounds of float64, and the same bits both times.
Verdict JudgeCase(const cases::Case& c, const PlanOptions& options);

/// One call of backward_cases.h: the backend's forward, then its backward on what that gave, twice:
/// gradients within their bounds of float64, and the same bits both times.
Verdict JudgeBackward(const testing_backward::BackwardCase& c, const PlanOptions& options);

/// A call whose results some backend computed: o and, where the problem wants it, lse; of a backward its
/// gradients. All in host memory, strides as the problem says.
Verdict JudgeResults(const Problem& problem, const Buffers& buffers);

}  // namespace heed::gpu
