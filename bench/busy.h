// bench/busy.h: whether the peak that was measured beside the calls is this machine's, or what other
// work left of it. Not here: measuring it (peak.h).
#pragma once

#include <string>
#include <vector>

#include "heed/types.h"

namespace heed::bench {

/// A share of the peak means nothing where the peak itself is what a neighbour leaves: another program
/// on the same core (a sibling thread, another guest) takes about half. Clocks move by less than this.
inline constexpr double kSteady = 0.8;

/// What the probe measured, flops per second: the best window before and after the timed calls, and
/// each window between them. Windows are short enough to fall between the time slices of another
/// program, hence `processor`.
struct PeakSamples {
  double before = 0, after = 0;
  std::vector<double> between;
  double processor = 1;  ///< share of the time that this thread was given one; 1 = not known

  double best() const;
  /// The smallest of the best before, the median between (of three windows or more), and the best
  /// after.
  double least() const;
};

/// kRefused, with both numbers: where the best is below kSteady of `usual` (flops per second, 0 = not
/// known), or, if `drift` counts, the least below kSteady of the best or the processor below kSteady.
Status CheckPeak(const PeakSamples& samples, double usual, bool drift);

}  // namespace heed::bench
