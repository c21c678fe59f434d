// bench/busy.cpp: see busy.h.
#include "bench/busy.h"

#include <algorithm>
#include <cstdio>

namespace heed::bench {
namespace {

std::string Gigaflops(double rate) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GFLOP/s", rate / 1e9);
  return text;
}

Status Busy(const std::string& what) {
  return {StatusCode::kRefused,
          what +
              ": the machine is busy with other work, and a share of such a peak means nothing; "
              "wait until it is idle, or say --any-peak"};
}

}  // namespace

double PeakSamples::best() const {
  double most = std::max(before, after);
  for (const double rate : between) most = std::max(most, rate);
  return most;
}

double PeakSamples::least() const {
  const double ends = std::min(before, after);
  if (between.size() < 3) return ends;
  std::vector<double> sorted = between;
  std::sort(sorted.begin(), sorted.end());
  return std::min(ends, sorted[sorted.size() / 2]);
}

Status CheckPeak(const PeakSamples& samples, double usual, bool drift) {
  const double best = samples.best();
  if (best <= 0) return {};  // there is no probe
  if (usual > 0 && best < kSteady * usual) {
    return Busy("the peak measured beside the calls is " + Gigaflops(best) + ", less than 0.8 of " +
                Gigaflops(usual) + ", which this machine usually has");
  }
  if (drift && samples.least() < kSteady * best) {
    return Busy("the peak measured beside the calls was once " + Gigaflops(best) + " and once " +
                Gigaflops(samples.least()) + ", less than 0.8 of it");
  }
  if (drift && samples.processor < kSteady) {
    char text[64];
    std::snprintf(text, sizeof text, "the calls had a processor for %.0f %% of their time",
                  100 * samples.processor);
    return Busy(std::string(text) + ", less than 80 %");
  }
  return {};
}

}  // namespace heed::bench
