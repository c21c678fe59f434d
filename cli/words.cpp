// cli/words.cpp: units, columns and bars.
#include "cli/words.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace heed::cli {
namespace {

// Three figures and a prefix of the thousand below: 168.4e6 -> "168 M".
std::string Scaled(double value, const char* unit) {
  static constexpr const char* kPrefixes[] = {"", "k", "M", "G", "T", "P", "E"};
  if (!std::isfinite(value)) return fmt::format("{} {}", value, unit);
  int power = 0;
  while (std::fabs(value) >= 999.5 && power < 6) {
    value /= 1000;
    ++power;
  }
  const double magnitude = std::fabs(value);
  const bool whole = value == std::floor(value) && magnitude < 1000;
  const int digits = whole || magnitude >= 99.95 ? 0 : magnitude >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f} {}{}", value, digits, kPrefixes[power], unit);
}

}  // namespace

std::string Bytes(double bytes) { return Scaled(bytes, "B"); }
std::string Flops(double flops) { return Scaled(flops, "FLOP"); }
std::string Percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

std::string Seconds(double seconds) {
  if (seconds >= 1 || seconds <= 0) return fmt::format("{:.2f} s", seconds);
  if (seconds >= 1e-3) return fmt::format("{:.2f} ms", seconds * 1e3);
  if (seconds >= 1e-6) return fmt::format("{:.2f} µs", seconds * 1e6);
  return fmt::format("{:.0f} ns", seconds * 1e9);
}

std::string Count(double count) {
  std::string digits = fmt::format("{:.0f}", count);
  const std::size_t first = digits[0] == '-' ? 1 : 0;
  for (std::size_t at = digits.size(); at > first + 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

std::string Join(const std::vector<std::string>& words, const std::string& between) {
  std::string all;
  for (const std::string& word : words) {
    if (!all.empty()) all += between;
    all += word;
  }
  return all;
}

std::string Bar(double share, int width) {
  static constexpr const char* kParts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const double clipped = std::clamp(std::isnan(share) ? 0.0 : share, 0.0, 1.0);
  const int eighths = static_cast<int>(std::lround(clipped * width * 8));
  std::string bar;
  for (int i = 0; i < eighths / 8; ++i) bar += "█";
  bar += kParts[eighths % 8];
  return Column(bar, width);
}

std::string Column(const std::string& text, int width) {
  const auto starts = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
  const auto columns = std::count_if(text.begin(), text.end(), starts);
  if (columns <= width) {
    return text + std::string(static_cast<std::size_t>(width - columns), ' ');
  }
  std::string cut;
  int kept = 0;
  for (const char c : text) {
    if (starts(c) && ++kept == width) break;
    cut += c;
  }
  return cut + "…";
}

}  // namespace heed::cli
