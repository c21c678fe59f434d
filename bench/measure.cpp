// bench/measure.cpp: inputs, plan, timed runs with the probes between them. Not here: printing.
#include "bench/measure.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <new>

#include "bench/inputs.h"
#include "bench/machine.h"
#include "bench/peak.h"
#include "bench/standard.h"
#include "bench/stream.h"

namespace heed::bench {
namespace {

constexpr int kProbesAround = 12;  // windows before and after the timed runs

// The gradients need o and lse: the same problem forward, by the same backend.
Status RunForward(const Plan& plan, const Buffers& all, const PlanOptions& options) {
  Buffers buffers = all;
  buffers.dout = nullptr;
  buffers.dlse = nullptr;
  buffers.dq = buffers.dk = buffers.dv = buffers.dbias = nullptr;
  buffers.dsinks = nullptr;
  Problem p = plan.problem();
  p.op = Op::kForward;
  p.want_lse = true;
  p.dlse = p.want_dbias = p.want_dsinks = p.f32_grads = p.accumulate = false;
  return Forward(p, buffers, options);
}

Result<StandardReport> MeasureStandard(const Request& request, const Plan& plan,
                                       const Buffers& buffers, int threads) {
  Result<std::unique_ptr<Standard>> standard = Standard::Make(plan.problem(), buffers, threads);
  if (!standard) return standard.status();
  StandardReport report;
  (*standard)->Run();  // touches its memory for the first time
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
  const Result<Plan> plan = MakePlan(request.problem, request.plan);
  if (!plan) return plan.status();
  Report report;
  report.problem = plan->problem();
  report.info = plan->Info();

  tell("making up the inputs");
  const Result<Inputs> inputs =
      Inputs::Make(plan->problem(), request.patterns, request.seed, request.decode);
  if (!inputs) return inputs.status();
  Buffers buffers = inputs->buffers();
  const Result<Needs> needs = NeedsOf(*plan, buffers, request.patterns.v_in_k, request.decode);
  if (!needs) return needs.status();
  report.needs = *needs;
  std::vector<std::byte> workspace(static_cast<std::size_t>(plan->workspace_bytes()));
  const bool backward = report.problem.op == Op::kBackward;
  if (backward) {
    if (Status status = RunForward(*plan, buffers, request.plan); !status) return status;
  }
  if (!request.one_shot) buffers.workspace = workspace;

  const auto run = [&] {
    if (!request.one_shot) return Run(*plan, buffers);
    return backward ? Backward(request.problem, buffers, request.plan)
                    : Forward(request.problem, buffers, request.plan);
  };
  tell("measuring the peak");
  PeakProbe peak(report.info.isa, report.problem.dtype, report.info.threads);
  peak.Sample(kProbesAround);
  std::optional<ReadStream> stream;
  if (request.decode || report.needs.memory_bound()) {
    stream.emplace(report.info.isa, report.info.threads,
                   static_cast<std::int64_t>(report.needs.bytes));
    stream->Sample();
  }
  if (Status status = run(); !status) return status;  // and it warms up

  tell("timing");
  Status failed;
  report.times = Repeat(
      request.seconds, 3,
      [&] {
        if (Status status = run(); !status) failed = status;
      },
      [&] {
        peak.Sample(1);
        if (stream) stream->Sample();
      });
  if (!failed) return failed;
  peak.Sample(kProbesAround);
  report.peak = peak.best();
  report.peak_unit = peak.unit();

  if (stream) {
    stream->Sample();
    if (stream->median() > 0) report.stream = stream->median();
  }
  if (request.standard) {
    tell("timing standard attention");
    Result<StandardReport> standard = MeasureStandard(request, *plan, buffers, report.info.threads);
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
