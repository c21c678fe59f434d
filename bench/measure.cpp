// bench/measure.cpp: inputs, plan, timed runs with the probes between them. Not here: printing.
#include "bench/measure.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <new>
#include <optional>
#include <utility>

#include "bench/busy.h"
#include "bench/inputs.h"
#include "bench/machine.h"
#include "bench/peak.h"
#include "bench/spread.h"
#include "bench/standard.h"
#include "bench/stream.h"

namespace heed::bench {
namespace {

constexpr int kProbesAround = 12;  // windows before and after the timed runs

// Shorter measurements are looks, which nobody quotes: a few windows of the probe would decide.
constexpr double kLeastSeconds = 0.1;

// The gradients need o and lse: the same problem forward, by the same backend.
Problem ForwardOf(Problem p) {
  p.op = Op::kForward;
  p.want_lse = true;
  p.dlse = p.want_dbias = p.want_dsinks = p.f32_grads = p.accumulate = false;
  return p;
}

Buffers ForwardOf(Buffers buffers) {
  buffers.dout = nullptr;
  buffers.dlse = nullptr;
  buffers.dq = buffers.dk = buffers.dv = buffers.dbias = nullptr;
  buffers.dsinks = nullptr;
  return buffers;
}

// A plan as the timed calls use it: run again and again, or made anew every time.
struct Timed {
  Plan plan;
  Problem problem;
  Buffers buffers;
  std::vector<std::byte> workspace;

  Status Call(const Request& request) {
    if (!request.one_shot) {
      buffers.workspace = workspace;
      return Run(plan, buffers);
    }
    return problem.op == Op::kBackward ? Backward(problem, buffers, request.plan)
                                       : Forward(problem, buffers, request.plan);
  }
};

Result<Timed> MakeTimed(const Problem& problem, const Request& request) {
  const Result<Plan> plan = MakePlan(problem, request.plan);
  if (!plan) return plan.status();
  return Timed{.plan = *plan,
               .problem = problem,
               .buffers = {},
               .workspace = std::vector<std::byte>(
                   static_cast<std::size_t>(request.one_shot ? 0 : plan->workspace_bytes()))};
}

void Add(const PlanInfo& forward, PlanInfo* info) {
  info->kernel = forward.kernel + " and " + info->kernel;
  info->flops += forward.flops;
  info->dense_flops += forward.dense_flops;
  info->bytes_min += forward.bytes_min;
  info->workspace_bytes = std::max(info->workspace_bytes, forward.workspace_bytes);
}

Result<StandardReport> MeasureStandard(const Request& request, const Plan& plan,
                                       const Buffers& buffers, int threads) {
  Result<std::unique_ptr<Standard>> standard =
      Standard::Make({.problem = plan.problem(),
                      .buffers = buffers,
                      .threads = threads,
                      .with_forward = request.with_forward});
  if (!standard) return standard.status();
  StandardReport report;
  (*standard)->Run();  // touches its memory for the first time, and has its threads
  const Spread spread(threads);
  report.times = Repeat(
      request.seconds, 2, [&] { (*standard)->Run(); }, [] {});
  report.bytes = (*standard)->bytes();
  report.core = (*standard)->core();
  report.max_abs_difference = (*standard)->MaxAbsDifference();
  return report;
}

Result<Report> MeasureOrThrow(const Request& request) {
  const auto tell = [&](const char* what) {
    if (request.progress) request.progress(what);
  };
  Result<Timed> timed = MakeTimed(request.problem, request);
  if (!timed) return timed.status();
  const Plan& plan = timed->plan;
  Report report;
  report.problem = plan.problem();
  report.info = plan.Info();
  const bool backward = report.problem.op == Op::kBackward;

  tell("making up the inputs");
  const Result<Inputs> inputs =
      Inputs::Make(plan.problem(), request.patterns, request.seed, request.decode);
  if (!inputs) return inputs.status();
  const Buffers buffers = timed->buffers = inputs->buffers();
  const Result<Needs> needs = NeedsOf(plan, buffers, request.patterns.v_in_k, request.decode);
  if (!needs) return needs.status();
  report.needs = *needs;
  std::optional<Timed> before;  // the forward that a backward needs
  if (backward) {
    Result<Timed> forward = MakeTimed(ForwardOf(plan.problem()), request);
    if (!forward) return forward.status();
    before.emplace(std::move(*forward));
    before->buffers = ForwardOf(buffers);
    if (Status status = before->Call(request); !status) return status;
    if (request.with_forward) {
      const Result<Needs> more = NeedsOf(before->plan, buffers, false, false);
      if (!more) return more.status();
      report.needs.flops += more->flops;
      report.needs.bytes += more->bytes;
      Add(before->plan.Info(), &report.info);
    }
  }

  const auto run = [&] {
    if (before && request.with_forward) {
      if (Status status = before->Call(request); !status) return status;
    }
    return timed->Call(request);
  };
  tell("measuring the peak");
  PeakProbe peak(report.info.isa, report.problem.dtype, report.info.threads);
  PeakSamples samples{.before = peak.Sample(kProbesAround)};
  std::optional<ReadStream> stream;
  if (request.decode || report.needs.memory_bound()) {
    stream.emplace(report.info.isa, report.info.threads,
                   static_cast<std::int64_t>(report.needs.bytes));
    stream->Sample();
  }
  if (Status status = run(); !status) return status;  // it warms up, and the pool has its threads

  tell("timing");
  std::optional<Spread> spread(std::in_place, report.info.threads);
  Status failed;
  const double start = Now(), processor = ProcessorTime();
  report.times = Repeat(
      request.seconds, 3,
      [&] {
        if (Status status = run(); !status) failed = status;
      },
      [&] {
        samples.between.push_back(peak.Sample(1));
        if (stream) stream->Sample();
      });
  spread.reset();
  if (!failed) return failed;
  // With more threads the calling one may sleep until the others are done.
  if (report.info.threads == 1) samples.processor = (ProcessorTime() - processor) / (Now() - start);
  samples.after = peak.Sample(kProbesAround);
  if (!request.any_peak) {
    Status busy = CheckPeak(samples, request.usual_peak, request.seconds >= kLeastSeconds);
    if (!busy) return busy;
  }
  report.peak = peak.best();
  report.peak_unit = peak.unit();

  if (stream) {
    stream->Sample();
    if (stream->median() > 0) report.stream = stream->median();
  }
  if (request.standard) {
    tell("timing standard attention");
    Result<StandardReport> standard = MeasureStandard(request, plan, buffers, report.info.threads);
    if (!standard) return standard.status();
    report.standard = *standard;
  }
  return report;
}

}  // namespace

double Report::fraction_of_limit() const {
  if (peak <= 0 || !stream || times.median <= 0) return 0;
  return std::max(needs.flops / peak, needs.bytes / *stream) / times.median;
}

Times Repeat(double seconds, int least, const std::function<void()>& f,
             const std::function<void()>& between) {
  constexpr double kSample = 50e-6, kBetween = 10e-3;
  std::int64_t inner = 1;
  for (;; inner *= 2) {
    const double start = Now();
    for (std::int64_t i = 0; i < inner; ++i) f();
    if (Now() - start >= kSample || inner >= 1 << 16) break;
  }
  std::vector<double> samples;
  double probed = Now();
  for (const double start = Now();
       Now() - start < seconds || samples.size() < static_cast<std::size_t>(least);) {
    const double begin = Now();
    for (std::int64_t i = 0; i < inner; ++i) f();
    const double end = Now();
    samples.push_back((end - begin) / static_cast<double>(inner));
    if (end - probed > kBetween) {
      between();
      probed = Now();
    }
  }
  std::sort(samples.begin(), samples.end());
  const std::size_t n = samples.size();
  return {.median = (samples[(n - 1) / 2] + samples[n / 2]) / 2,
          .min = samples.front(),
          .runs = static_cast<std::int64_t>(n) * inner};
}

Result<Report> Measure(const Request& request) {
  try {
    return MeasureOrThrow(request);
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kRefused, "there is not enough memory for this measurement");
  }
}

}  // namespace heed::bench
