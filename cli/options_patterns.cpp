// cli/options_patterns.cpp: the small grammars of --mask, --block-map and --lengths. Not here: the
// arrays.
#include "cli/options_patterns.h"

#include <charconv>
#include <cmath>
#include <optional>

#include "bench/random.h"
#include "cli/options_parse.h"

namespace heed::cli {
namespace {

constexpr const char* kMasks =
    "a shape B,H,I,J, or random:P, blocks:N:P or causal, alone or behind a shape and a colon";
constexpr const char* kMaps = "a shape B,H,I,J, or RxC:P (blocks of R queries and C keys)";
constexpr const char* kLengths = "a list of N, NxC (C times N) or A-B:C (C lengths from A to B)";

std::vector<std::string> Split(const std::string& text, char at) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == at) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

template <class T>
std::optional<T> Read(const std::string& text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// A chance from 0 to 1.
bool ReadShare(const std::string& text, double* share) {
  const std::optional<double> value = Read<double>(text);
  if (!value || !(*value >= 0 && *value <= 1)) return false;
  *share = *value;
  return true;
}

bool ReadSize(const std::string& text, std::int64_t* size) {
  const std::optional<std::int64_t> value = Read<std::int64_t>(text);
  if (!value || *value < 1) return false;
  *size = *value;
  return true;
}

bool ReadPattern(const std::vector<std::string>& words, bench::Patterns* p) {
  using Mask = bench::Patterns::Mask;
  if (words[0] == "causal" && words.size() == 1) {
    p->mask = Mask::kCausal;
    return true;
  }
  if (words[0] == "random" && words.size() == 2) {
    p->mask = Mask::kRandom;
    return ReadShare(words[1], &p->mask_share);
  }
  if (words[0] == "blocks" && words.size() == 3) {
    p->mask = Mask::kBlocks;
    return ReadSize(words[1], &p->mask_block) && ReadShare(words[2], &p->mask_share);
  }
  return false;
}

// One item of a list of lengths, added to it.
bool ReadLengths(const std::string& item, std::vector<std::int64_t>* all) {
  constexpr std::int64_t kMost = 1 << 20;
  const auto times = item.find('x'), dash = item.find('-'), colon = item.find(':');
  std::int64_t first = 0, last = 0, count = 1;
  if (dash != std::string::npos) {
    if (colon == std::string::npos || colon < dash || !ReadSize(item.substr(colon + 1), &count) ||
        count > kMost) {
      return false;
    }
    const std::optional<std::int64_t> low = Read<std::int64_t>(item.substr(0, dash));
    const std::optional<std::int64_t> high =
        Read<std::int64_t>(item.substr(dash + 1, colon - dash - 1));
    if (!low || !high || *low < 0 || *high < *low) return false;
    first = *low;
    last = *high;
  } else {
    if (times != std::string::npos && !ReadSize(item.substr(times + 1), &count)) return false;
    const std::optional<std::int64_t> n = Read<std::int64_t>(item.substr(0, times));
    if (!n || *n < 0 || count > kMost) return false;
    first = last = *n;
  }
  std::vector<std::int64_t> run;
  for (std::int64_t n = 0; n < count; ++n) {
    const double step = count > 1 ? static_cast<double>(last - first) * static_cast<double>(n) /
                                        static_cast<double>(count - 1)
                                  : 0;
    run.push_back(first + std::llround(step));
  }
  if (first != last) bench::Shuffle(&run, /*seed=*/1);
  all->insert(all->end(), run.begin(), run.end());
  return true;
}

}  // namespace

void ParseMask(const std::string& text, Broadcast* mask, bench::Patterns* patterns) {
  std::vector<std::string> words = Split(text, ':');
  *mask = {.given = true, .batch = 1, .heads = 1, .rows = kWholeAxis, .cols = kWholeAxis};
  if (text.find(',') != std::string::npos) {
    *mask = ParseBroadcast("--mask", words[0]);
    words.erase(words.begin());
    if (words.empty()) return;
  }
  if (!ReadPattern(words, patterns)) Reject("--mask", text, kMasks);
}

void ParseBlockMap(const std::string& text, Problem* p, bench::Patterns* patterns) {
  if (text.find(',') != std::string::npos) {
    p->block_map = ParseBroadcast("--block-map", text);
    return;
  }
  const std::vector<std::string> words = Split(text, ':'), sizes = Split(words[0], 'x');
  if (words.size() != 2 || sizes.size() != 2 || !ReadSize(sizes[0], &p->block_rows) ||
      !ReadSize(sizes[1], &p->block_cols) || !ReadShare(words[1], &patterns->map_share)) {
    Reject("--block-map", text, kMaps);
  }
  patterns->map_given = true;
  p->block_map = {.given = true, .batch = 1, .heads = 1, .rows = kWholeAxis, .cols = kWholeAxis};
}

std::vector<std::int64_t> ParseLengths(const char* option, const std::string& text) {
  std::vector<std::int64_t> all;
  for (const std::string& item : Split(text, ',')) {
    if (!ReadLengths(item, &all)) Reject(option, text, kLengths);
  }
  return all;
}

}  // namespace heed::cli
