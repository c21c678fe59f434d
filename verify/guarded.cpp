// verify/guarded.cpp: see guarded.h.
#include "verify/guarded.h"

#include <algorithm>
#include <utility>

namespace heed::verify {
namespace {

constexpr std::size_t kZone =
    4096;  // bytes, a multiple of the alignment: wider than any row of a tile
constexpr std::byte kPattern{0xFF};

}  // namespace

Guarded::Guarded(View view) : view_(std::move(view)) {
  const Reach reach = ReachOf(view_);
  const auto size = static_cast<std::size_t>(SizeOf(view_.type));
  const std::size_t before =
      (static_cast<std::size_t>(-reach.first) * size + kZone - 1) / kZone * kZone;
  start_ = kZone + before;
  bytes_.assign(start_ + static_cast<std::size_t>(reach.last) * size + kZone, kPattern);
}

void* Guarded::data() { return bytes_.data() + start_; }

View Guarded::view() const {
  View v = view_;
  v.data = bytes_.data() + start_;
  return v;
}

std::int64_t Guarded::Spilled() const {
  const auto size = static_cast<std::size_t>(SizeOf(view_.type));
  std::vector<bool> ours(bytes_.size(), false);
  const std::int64_t count = CountOf(view_.shape);
  for (std::int64_t n = 0; n < count; ++n) {
    const std::int64_t at =
        static_cast<std::int64_t>(start_) + OffsetOf(view_, n) * static_cast<std::int64_t>(size);
    std::fill_n(ours.begin() + at, size, true);
  }
  std::int64_t spilled = 0;
  for (std::size_t n = 0; n < bytes_.size(); ++n) spilled += !ours[n] && bytes_[n] != kPattern;
  return spilled;
}

}  // namespace heed::verify
