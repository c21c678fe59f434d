// bench/stream.cpp: samples of sequential reading. Not here: the instructions.
#include "bench/stream.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "bench/together.h"

namespace heed::bench {

ReadStream::ReadStream(const std::string& isa, int threads, std::int64_t bytes)
    : kernels_(KernelsOf(isa.c_str())) {
  if (kernels_ == nullptr) return;
  const int n = std::max(1, threads);
  bytes_ = std::max<std::int64_t>(bytes / n / kReadStep, 1) * kReadStep;
  try {
    for (int t = 0; t < n; ++t) {
      std::memset(parts_.emplace_back(bytes_, /*huge=*/true).data(), 1,
                  static_cast<std::size_t>(bytes_));
    }
  } catch (const std::bad_alloc&) {
    parts_.clear();
  }
}

void ReadStream::Sample() {
  if (parts_.empty()) return;
  const double seconds = Together(static_cast<int>(parts_.size()), [&](int t) {
    kernels_->read(parts_[static_cast<std::size_t>(t)].data(), bytes_);
  });
  rates_.push_back(static_cast<double>(bytes_) * static_cast<double>(parts_.size()) / seconds);
}

double ReadStream::median() const {
  if (rates_.empty()) return 0;
  std::vector<double> sorted = rates_;
  std::sort(sorted.begin(), sorted.end());
  const std::size_t n = sorted.size();
  return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

}  // namespace heed::bench
