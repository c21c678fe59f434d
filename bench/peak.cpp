// bench/peak.cpp: windows of peak arithmetic and of sequential reading. Not here: the instructions.
#include "bench/peak.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "bench/machine.h"
#include "bench/together.h"

namespace heed::bench {
namespace {

// Long enough that a clock read (about 30 ns) is nothing, short enough to fit between
// interruptions.
constexpr double kWindowSeconds = 4e-4;
constexpr std::int64_t kReadUnit = 1024;  // Kernels::read takes multiples of it

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

void PeakProbe::Sample(int windows) {
  if (!valid()) return;
  for (int i = 0; i < windows; ++i) best_ = std::max(best_, Window());
}

ReadStream::ReadStream(const std::string& isa, int threads)
    : kernels_(KernelsOf(isa.c_str())), threads_(std::max(1, threads)) {
  if (kernels_ == nullptr) return;
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  const std::int64_t l3 = std::max<std::int64_t>(ThisMachine().l3_bytes, 16 << 20);
  std::int64_t total = std::min(5 * l3, kMost);
  if (const std::int64_t free = AvailableMemory(); free > 0) total = std::min(total, free / 8);
  bytes_ = total / threads_ / kReadUnit * kReadUnit;
  for (int t = 0; t < threads_; ++t) {
    void* part = std::aligned_alloc(4096, static_cast<std::size_t>((bytes_ + 4095) / 4096 * 4096));
    if (part == nullptr) {
      bytes_ = 0;
      return;
    }
    std::memset(part, 1, static_cast<std::size_t>(bytes_));  // pages of its own, not the zero page
    data_.push_back(part);
  }
  for (int i = 0; i < 3; ++i) Sample();
}

ReadStream::~ReadStream() {
  for (void* part : data_) std::free(part);
}

void ReadStream::Sample() {
  if (kernels_ == nullptr || bytes_ == 0) return;
  const double seconds = Together(
      threads_, [&](int t) { kernels_->read(data_[static_cast<std::size_t>(t)], bytes_); });
  best_ = std::max(best_, static_cast<double>(bytes_ * threads_) / seconds);
}

}  // namespace heed::bench
