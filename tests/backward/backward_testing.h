// backward_testing.h: backward calls made of the cases of the forward, one guarded run of them, and
// the judgement of their gradients. Not here: which cases (backward_cases.h).
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

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

/// What a backward call adds to the case of a forward one.
struct Wishes {
  bool dlse = false;
  bool dbias = false, dsinks = false;  ///< where the case has a bias, sinks
  bool f32_grads = false;
  cases::Placement placement = cases::Placement::kDense;  ///< of dout and the gradients
};

/// A backward call: a case's inputs, dout and dlse. Gaps of dout hold NaN.
struct Call {
  cases::Sample sample;
  Problem problem;  ///< op = kBackward
  verify::Guarded dout;
  std::vector<float> dlse;

  /// The forward of the same problem, with lse.
  Problem Forward() const;
  /// All inputs but o and lse; outputs are null.
  Buffers Inputs();
};
Call MakeCall(const cases::Case& c, const Wishes& wishes);

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
