// bench/cases.cpp: every case with options of the tests at the benchmark's sizes, timed: one JSON line
// each. Shows which combination of options is slow; the speed table is another one (run.py). Usage:
// heed_bench_cases [--backward] [ISA] [THREADS] [WORDS OF A NAME...]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "bench/inputs.h"
#include "bench/needs.h"
#include "bench/peak.h"
#include "heed/heed.h"
#include "io/convert.h"
#include "io/tensor.h"
#include "tests/cases.h"

namespace {

using Clock = std::chrono::steady_clock;

// Median seconds of five runs after one that is not counted.
double Time(const heed::Plan& plan, const heed::Buffers& buffers, heed::Status* status) {
  std::vector<double> seconds;
  for (int run = 0; run < 6 && *status; ++run) {
    const Clock::time_point start = Clock::now();
    *status = heed::Run(plan, buffers);
    if (run > 0) seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  if (!*status) return 0;
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

heed::io::AlignedBytes Bytes(std::int64_t n) {
  return heed::io::AlignedBytes(static_cast<std::size_t>(std::max<std::int64_t>(n, 64)));
}

// What a backward reads and writes beyond a forward: dense, with the gradients of bias and sinks.
struct Gradients {
  explicit Gradients(const heed::Problem& p) {
    const std::int64_t rows = (p.ragged ? p.total_q : p.batch * p.q_len) * p.q_heads;
    const std::int64_t keys = (p.ragged ? p.total_k : p.batch * p.k_len) * p.k_heads;
    const heed::Broadcast& t = p.bias;
    std::vector<float> noise(static_cast<std::size_t>(rows * p.dim_v));
    heed::bench::FillNormal(noise.data(), rows * p.dim_v, 9);
    dout = Bytes(rows * p.dim_v * 4);
    if (p.dtype == heed::DType::kF32) {
      std::copy(noise.begin(), noise.end(), reinterpret_cast<float*>(dout.data()));
    } else if (p.dtype == heed::DType::kBF16) {
      heed::io::RoundAll<heed::io::Bf16, float>(
          noise, {reinterpret_cast<heed::io::Bf16*>(dout.data()), noise.size()});
    } else {
      heed::io::RoundAll<heed::io::F16, float>(
          noise, {reinterpret_cast<heed::io::F16*>(dout.data()), noise.size()});
    }
    dq = Bytes(rows * p.dim * 4);
    dk = Bytes(keys * p.dim * 4);
    dv = Bytes(keys * p.dim_v * 4);
    dbias = Bytes(p.bias.given ? t.batch * t.heads * t.rows * t.cols * 4 : 0);
    dsinks = Bytes(p.q_heads * 4);
  }

  void AddTo(const heed::Problem& p, heed::Buffers* b) {
    b->dout = dout.data();
    b->dq = dq.data();
    b->dk = dk.data();
    b->dv = dv.data();
    if (p.want_dbias) b->dbias = dbias.data();
    if (p.want_dsinks) b->dsinks = reinterpret_cast<float*>(dsinks.data());
  }

  heed::io::AlignedBytes dout, dq, dk, dv, dbias, dsinks;
};

heed::Problem BackwardOf(heed::Problem p) {
  p.op = heed::Op::kBackward;
  p.want_probs = false;
  p.want_dbias = p.bias.given;
  p.want_dsinks = p.sinks;
  return p;
}

// False where it could not run.
bool Measure(const heed::cases::Case& c, const heed::PlanOptions& options, bool backward) {
  heed::cases::Sample sample = heed::cases::MakeSample(c);
  const heed::Problem forward = sample.problem;
  if (backward) sample.problem = BackwardOf(forward);
  const heed::Result<heed::Plan> plan = heed::MakePlan(sample.problem, options);
  heed::Status status = plan.status();
  if (status) {
    const heed::Problem& p = plan->problem();
    heed::Buffers b = sample.Inputs();
    const std::int64_t rows = p.ragged ? p.total_q : p.batch * p.q_len;
    const auto bytes = Bytes;
    // Padded rows of o reach beyond what their number says: none is more than twice as long.
    heed::io::AlignedBytes o = bytes(rows * p.q_heads * (2 * p.dim_v + 16) * 4),
                           lse = bytes(rows * p.q_heads * 4),
                           probs = bytes(p.want_probs ? p.batch * p.q_heads * p.q_len * p.k_len * 4
                                                      : 0),
                           workspace = bytes(plan->workspace_bytes());
    b.o = o.data();
    if (p.want_lse || backward) b.lse = reinterpret_cast<float*>(lse.data());
    if (p.want_probs) b.probs = probs.data();
    Gradients gradients(p);
    if (backward) {
      heed::Problem once = forward;
      once.want_lse = true;
      once.want_probs = false;
      status = heed::Forward(once, b, options);
      gradients.AddTo(p, &b);
    }
    b.workspace = workspace;
    heed::bench::PeakProbe peak(plan->Info().isa, p.dtype, plan->Info().threads);
    if (peak.valid()) peak.Sample(3);
    const double seconds = Time(*plan, b, &status);
    if (peak.valid()) peak.Sample(3);
    const heed::Result<heed::bench::Needs> needs =
        heed::bench::NeedsOf(*plan, b, false, p.cache.given);
    if (status && needs) {
      std::printf(
          "{\"case\": \"%s\", \"isa\": \"%s\", \"threads\": %d, \"us\": %.1f, \"gflops\": %.2f, "
          "\"fraction_of_peak\": %.3f}\n",
          c.name.c_str(), plan->Info().isa.c_str(), plan->Info().threads, seconds * 1e6,
          needs->flops / seconds / 1e9, peak.valid() ? needs->flops / seconds / peak.best() : 0.0);
      std::fflush(stdout);
      return true;
    }
    if (status) status = needs.status();
  }
  std::fprintf(stderr, "%s: %s\n", c.name.c_str(), status.message().c_str());
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  const bool backward = argc > 1 && std::string(argv[1]) == "--backward";
  if (backward) --argc, ++argv;
  const heed::PlanOptions options = {.backend = "cpu",
                                     .isa = argc > 1 ? argv[1] : "auto",
                                     .threads = argc > 2 ? std::atoi(argv[2]) : 1};
  bool all = true;
  for (const heed::cases::Case& c : heed::cases::Options(heed::cases::Scale::kBench)) {
    const bool wanted = std::all_of(argv + std::min(argc, 3), argv + argc, [&](const char* word) {
      return c.name.find(word) != std::string::npos;
    });
    if (backward && c.problem.cache.given) continue;  // has no gradient
    if (wanted) all = Measure(c, options, backward) && all;
  }
  return all ? 0 : 1;
}
