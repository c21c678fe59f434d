// backward_testing.h: one guarded run of a backward call, and the judgement of its gradients. Not here:
// calls (backward_call.h), which of them (backward_cases.h).
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backward_call.h"
#include "cases.h"
#include "heed/heed.h"
#include "options/options_testing.h"
#include "verify/array.h"
#include "verify/guarded.h"
#include "verify/plain.h"

namespace heed::testing_backward {

using testing_options::Engine;
using testing_options::Engines;
using testing_options::ExpectSameBits;

/// The gradients of one run, each in guarded memory; those that were not asked for are empty.
struct Gradients {
  Status status;
  Problem problem;  ///< normal
  verify::Guarded o, lse, dq, dk, dv, dbias, dsinks;
};

/// The gradients as name and memory, in one order; only those that the problem asks for.
struct Named {
  const char* name;
  const verify::Guarded* values;
};
std::vector<Named> All(const Gradients& g);

/// Forward, then backward on what it gave, as in use. Expects that the engine serves both, that it is
/// the one that ran, that nothing beside the gradients changed, and that every element of them was
/// written. `before`: is called with the buffers of the backward before it runs, gradients included.
Gradients Differentiate(const Engine& engine, const Problem& problem, const Buffers& inputs,
                        int threads = 2, const std::function<void(Buffers*)>& before = {});
inline Gradients Differentiate(const Engine& engine, Call& call, int threads = 2) {
  return Differentiate(engine, call.problem, call.Inputs(), threads);
}

struct Expected {
  verify::Results truth, bounds;
};
Expected ExpectedOf(Call& call);

/// Every gradient within its bound.
void ExpectWithin(const Expected& expected, const Gradients& gradients, const std::string& what);

/// Every gradient of two runs of the same shapes has the same bits.
void ExpectSame(const Gradients& a, const Gradients& b, const std::string& what);

}  // namespace heed::testing_backward
