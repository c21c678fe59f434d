// bench/peak.cpp: windows of peak arithmetic. Not here: the instructions.
#include "bench/peak.h"

#include <algorithm>
#include <vector>

#include "bench/machine.h"
#include "bench/together.h"

namespace heed::bench {
namespace {

// Long enough that a clock read (about 30 ns) is nothing, short enough to fit between
// interruptions.
constexpr double kWindowSeconds = 4e-4;

}  // namespace

PeakProbe::PeakProbe(const std::string& isa, DType dtype, int threads)
    : threads_(std::max(1, threads)) {
  const Kernels* kernels = KernelsOf(isa.c_str());
  if (kernels == nullptr) return;
  const bool dot = dtype == DType::kBF16 && kernels->dot != nullptr;
  run_ = dot ? kernels->dot : kernels->fma;
  unit_ = dot ? "bf16 dot" : "f32 fma";
  for (rounds_ = 1000;; rounds_ *= 2) {
    const double start = Now();
    run_(rounds_);
    if (Now() - start > kWindowSeconds / 2) break;
  }
}

double PeakProbe::Window() {
  std::vector<double> flops(static_cast<std::size_t>(threads_));
  const double seconds =
      Together(threads_, [&](int t) { flops[static_cast<std::size_t>(t)] = run_(rounds_); });
  double sum = 0;
  for (const double f : flops) sum += f;
  return sum / seconds;
}

double PeakProbe::Sample(int windows) {
  double best = 0;
  for (int i = 0; valid() && i < windows; ++i) best = std::max(best, Window());
  best_ = std::max(best_, best);
  return best;
}

}  // namespace heed::bench
