// bench/measure.h: one measured call: time, share of the peak, and beside it the standard way.
// Not here: tables of calls (run.py), printing (the command line).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bench/needs.h"
#include "bench/patterns.h"
#include "heed/heed.h"

namespace heed::bench {

struct Request {
  Problem problem;
  Patterns patterns;  ///< of masks, maps and lengths
  PlanOptions plan;
  bool decode = false;        ///< what counts is how fast keys and values are read
  bool with_forward = false;  ///< of a backward: the forward before it is timed, too
  double seconds = 1;         ///< of timed runs; at least three runs are made
  bool one_shot = false;      ///< time heed::Forward, which plans every time, instead of heed::Run
  bool standard = false;
  std::uint64_t seed = 1;
  /// Flops per second that this machine has when it is idle, 0 = not known: far below it nothing is
  /// reported, nor where the peak moves by as much during the calls (busy.h), unless `any_peak`.
  double usual_peak = 0;
  bool any_peak = false;
  std::function<void(const std::string&)> progress;  ///< told what happens next; may be empty
};

struct Times {
  double median = 0, min = 0;  ///< seconds of one call
  std::int64_t runs = 0;
};

struct StandardReport {
  Times times;
  std::int64_t bytes = 0;         ///< scores, converted inputs, output
  std::string core;               ///< what OpenBLAS ran as
  double max_abs_difference = 0;  ///< of the two results: o, or the gradients
};

struct Report {
  Problem problem;  ///< with every default filled in
  PlanInfo info;    ///< with the forward timed, too: flops, bytes and workspace of both
  Times times;
  Needs needs;
  double peak = 0;        ///< flops per second that the same threads can issue; 0 = not known
  std::string peak_unit;  ///< "f32 fma", "bf16 dot"
  /// Bytes per second of a sequential read of as much memory, alternating with the calls; measured
  /// when decoding, and where memory bounds the call.
  std::optional<double> stream;

  double flops_rate() const { return needs.flops / times.median; }
  double bytes_rate() const { return needs.bytes / times.median; }
  /// Of the larger of the two times that the arithmetic at its peak and the reading at the speed of
  /// the stream would take; 0 where one is not known.
  double fraction_of_limit() const;

  std::optional<StandardReport> standard;
};

Result<Report> Measure(const Request& request);

/// Calls f again and again for that long, at least `least` times, in samples of 50 us or more, and
/// `between` after a sample when 10 ms have gone by since it last ran.
Times Repeat(double seconds, int least, const std::function<void()>& f,
             const std::function<void()>& between);

}  // namespace heed::bench
