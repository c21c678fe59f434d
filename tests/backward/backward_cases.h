// backward_cases.h: the list of backward calls: the options of the forward (cases_axes.h) without the
// cache, and with each some of the backward's own. Not here: running them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backward_call.h"
#include "cases.h"
#include "cases_axes.h"

namespace heed::testing_backward {

struct BackwardCase {
  cases::Choice choice;  ///< empty: a case that no choice describes
  cases::Case forward;
  Wishes wishes;
  const std::string& name() const { return forward.name; }
};

// What googletest prints of a case instead of its bytes.
inline void PrintTo(const BackwardCase& c, std::ostream* out) { *out << c.name(); }

/// Every option alone, every pair of their values that stand together without a cache, and some calls
/// with a few options. kTest: also calls over several blocks of keys and of queries.
std::vector<BackwardCase> BackwardCases(cases::Scale scale);

/// A random call that leaves alone every axis but `axes`, sizes, dtype, scale, softcap and data.
BackwardCase AnyBackwardCase(std::uint64_t seed, const std::vector<cases::AxisId>& axes);

/// The wishes that follow from a random number.
Wishes WishesOf(std::uint64_t bits);

}  // namespace heed::testing_backward
