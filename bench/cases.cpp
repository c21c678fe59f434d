// bench/cases.cpp: every case with options of the tests at the benchmark's sizes, timed: one JSON line
// each. Shows which combination of options is slow; the speed table is another one (run.py). Usage:
// heed_bench_cases [ISA] [THREADS] [WORDS OF A NAME...]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "bench/needs.h"
#include "bench/peak.h"
#include "heed/heed.h"
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

// False where it could not run.
bool Measure(const heed::cases::Case& c, const heed::PlanOptions& options) {
  const heed::cases::Sample sample = heed::cases::MakeSample(c);
  const heed::Result<heed::Plan> plan = heed::MakePlan(sample.problem, options);
  heed::Status status = plan.status();
  if (status) {
    const heed::Problem& p = plan->problem();
    heed::Buffers b = sample.Inputs();
    const std::int64_t rows = p.ragged ? p.total_q : p.batch * p.q_len;
    const auto bytes = [](std::int64_t n) {
      return heed::io::AlignedBytes(static_cast<std::size_t>(std::max<std::int64_t>(n, 64)));
    };
    // Padded rows of o reach beyond what their number says: none is more than twice as long.
    heed::io::AlignedBytes o = bytes(rows * p.q_heads * (2 * p.dim_v + 16) * 4),
                           lse = bytes(rows * p.q_heads * 4),
                           probs = bytes(p.want_probs ? p.batch * p.q_heads * p.q_len * p.k_len * 4
                                                      : 0),
                           workspace = bytes(plan->workspace_bytes());
    b.o = o.data();
    if (p.want_lse) b.lse = reinterpret_cast<float*>(lse.data());
    if (p.want_probs) b.probs = probs.data();
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
  const heed::PlanOptions options = {.backend = "cpu",
                                     .isa = argc > 1 ? argv[1] : "auto",
                                     .threads = argc > 2 ? std::atoi(argv[2]) : 1};
  bool all = true;
  for (const heed::cases::Case& c : heed::cases::Options(heed::cases::Scale::kBench)) {
    const bool wanted = std::all_of(argv + std::min(argc, 3), argv + argc, [&](const char* word) {
      return c.name.find(word) != std::string::npos;
    });
    if (wanted) all = Measure(c, options) && all;
  }
  return all ? 0 : 1;
}
