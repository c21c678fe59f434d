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
  const auto size = static_cast<std::int64_t>(SizeOf(view_.type));
  io::AlignedBytes others = bytes_;
  ForEachOffset(view_, [&](std::int64_t offset) {
    std::fill_n(others.begin() + static_cast<std::ptrdiff_t>(start_) + offset * size, size,
                kPattern);
  });
  return std::count_if(others.begin(), others.end(), [](std::byte b) { return b != kPattern; });
}

Scratch::Scratch(std::int64_t bytes)
    : bytes_(static_cast<std::size_t>(bytes)), memory_(bytes_ + kZone, kPattern) {}

bool Scratch::Intact() const {
  return std::all_of(memory_.begin() + static_cast<std::ptrdiff_t>(bytes_), memory_.end(),
                     [](std::byte b) { return b == kPattern; });
}

}  // namespace heed::verify
