// backward_call.h: backward calls made of the cases of the forward. Not here: which cases
// (backward_cases.h), running them.
#pragma once

#include <vector>

#include "cases.h"
#include "heed/heed.h"
#include "verify/guarded.h"

namespace heed::testing_backward {

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

}  // namespace heed::testing_backward
