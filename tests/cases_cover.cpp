// cases_cover.cpp: the list of cases with options: each value alone, a covering array of all pairs,
// a few at a time. Not here: the axes (cases_axes.cpp).
#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <utility>

#include "cases_axes.h"
#include "cases_data.h"

namespace heed::cases {
namespace {

constexpr int kUnset = -1;

// Which pairs still wait for a case. Values of all axes are numbered in one row.
class Missing {
 public:
  Missing() {
    for (const Axis& axis : Axes()) {
      first_.push_back(count_);
      count_ += axis.values.size();
    }
    waiting_.assign(count_ * count_, false);
    for (std::size_t a = 0; a < Axes().size(); ++a) {
      for (std::size_t b = 0; b < a; ++b) {
        for (std::size_t x = 0; x < Axes()[a].values.size(); ++x) {
          for (std::size_t y = 0; y < Axes()[b].values.size(); ++y) {
            const auto id = [](std::size_t n) { return static_cast<int>(n); };
            if (Together(id(a), id(x), id(b), id(y))) Set(a, id(x), b, id(y), true);
          }
        }
      }
    }
  }
  bool At(std::size_t a, int x, std::size_t b, int y) const { return waiting_[Index(a, x, b, y)]; }
  void Set(std::size_t a, int x, std::size_t b, int y, bool waits) {
    waiting_[Index(a, x, b, y)] = waiting_[Index(b, y, a, x)] = waits;
  }
  void Take(const Choice& c) {
    for (std::size_t a = 0; a < c.size(); ++a) {
      for (std::size_t b = 0; b < a; ++b) Set(a, c[a], b, c[b], false);
    }
  }
  // How many waiting pairs a value adds to a choice that is partly made.
  int Gain(const Choice& c, std::size_t axis, int value) const {
    int gain = 0;
    for (std::size_t b = 0; b < c.size(); ++b) {
      gain += b != axis && c[b] != kUnset && At(axis, value, b, c[b]);
    }
    return gain;
  }

 private:
  std::size_t Index(std::size_t a, int x, std::size_t b, int y) const {
    return (first_[a] + static_cast<std::size_t>(x)) * count_ + first_[b] +
           static_cast<std::size_t>(y);
  }
  std::vector<std::size_t> first_;
  std::size_t count_ = 0;
  std::vector<bool> waiting_;
};

bool Fits(const Choice& c, std::size_t axis, int value) {
  for (std::size_t b = 0; b < c.size(); ++b) {
    if (b != axis && c[b] != kUnset &&
        !Together(static_cast<int>(axis), value, static_cast<int>(b), c[b])) {
      return false;
    }
  }
  return true;
}

// Whether every axis that is left has a value that fits what is set. Exclusions here never chain
// further, which the test of the array would show.
bool Alive(const Choice& c) {
  for (std::size_t a = 0; a < c.size(); ++a) {
    if (c[a] != kUnset) continue;
    const int count = static_cast<int>(Axes()[a].values.size());
    bool any = false;
    for (int v = 0; v < count && !any; ++v) any = Fits(c, a, v);
    if (!any) return false;
  }
  return true;
}

// Fills in the rest, each axis with the value that serves most waiting pairs.
std::optional<Choice> Complete(Choice c, const Missing& missing, std::uint64_t seed) {
  std::vector<std::pair<std::uint64_t, std::size_t>> order;
  for (std::size_t a = 0; a < c.size(); ++a) {
    if (c[a] == kUnset) order.emplace_back(HashOf(seed, {static_cast<std::int64_t>(a)}), a);
  }
  std::sort(order.begin(), order.end());
  for (const auto& [unused, a] : order) {
    int best = kUnset, most = -1;
    const int count = static_cast<int>(Axes()[a].values.size());
    const int turn = static_cast<int>(HashOf(seed, {-1, static_cast<std::int64_t>(a)}) % 64);
    for (int n = 0; n < count; ++n) {
      const int value = (n + turn) % count;
      if (!Fits(c, a, value)) continue;
      Choice with = c;
      with[a] = value;
      const int gain = missing.Gain(c, a, value);
      if (gain <= most || !Alive(with)) continue;
      best = value;
      most = gain;
    }
    if (best == kUnset) return std::nullopt;
    c[a] = best;
  }
  return c;
}

int Worth(const Choice& c, const Missing& missing) {
  int worth = 0;
  for (std::size_t a = 0; a < c.size(); ++a) worth += missing.Gain(c, a, c[a]);
  return worth;
}

}  // namespace

std::vector<Choice> PairwiseChoices() {
  constexpr std::uint64_t kTries = 12;  // completions of one pair; the best of them is taken
  std::vector<Choice> choices;
  Missing missing;
  const std::size_t axes = Axes().size();
  for (std::size_t a = 0; a < axes; ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      for (int x = 0; x < static_cast<int>(Axes()[a].values.size()); ++x) {
        for (int y = 0; y < static_cast<int>(Axes()[b].values.size()); ++y) {
          if (!missing.At(a, x, b, y)) continue;
          Choice pair(axes, kUnset);
          pair[a] = x;
          pair[b] = y;
          std::optional<Choice> best;
          for (std::uint64_t t = 0; t < kTries && Alive(pair); ++t) {
            std::optional<Choice> c = Complete(pair, missing, choices.size() * kTries + t);
            if (c && (!best || Worth(*c, missing) > Worth(*best, missing))) best = std::move(c);
          }
          if (!best) {  // no choice at all holds this pair
            missing.Set(a, x, b, y, false);
            continue;
          }
          missing.Take(*best);
          choices.push_back(std::move(*best));
        }
      }
    }
  }
  return choices;
}

namespace {

// Each value alone, in the plain call or, what belongs to a cache, in the plain cache.
std::vector<Choice> SingleChoices() {
  std::vector<Choice> choices = {Choice(Axes().size(), 0)};
  for (std::size_t a = 0; a < Axes().size(); ++a) {
    for (int v = 1; v < static_cast<int>(Axes()[a].values.size()); ++v) {
      Choice c(Axes().size(), 0);
      c[a] = v;
      if (!Allowed(c)) c[kCache] = 1;
      // Sizes over several tiles, unless sizes are the value.
      if (a != kLengths) c[kLengths] = 5;
      if (a == kSpread) c[kBias] = c[kMask] = c[kBlockMap] = 1;
      choices.push_back(std::move(c));
    }
  }
  return choices;
}

}  // namespace

Choice SparseChoice(std::uint64_t seed) {
  for (std::int64_t attempt = 0;; ++attempt) {
    Choice c(Axes().size(), 0);
    for (std::size_t a = 0; a < c.size(); ++a) {
      const std::uint64_t bits = HashOf(seed, {attempt, static_cast<std::int64_t>(a)});
      if (a <= kWidths || bits % 5 == 0)
        c[a] = static_cast<int>(bits / 5 % Axes()[a].values.size());
    }
    if (Allowed(c)) return c;
  }
}

std::vector<Case> Options(Scale scale) {
  std::vector<Choice> choices = SingleChoices();
  for (Choice& c : PairwiseChoices()) choices.push_back(std::move(c));
  // In the array of pairs most options are on in every case, so most rows see little: hence some
  // more with a few at a time.
  const std::uint64_t sparse = scale == Scale::kTest ? 240 : 40;
  for (std::uint64_t n = 0; n < sparse; ++n) choices.push_back(SparseChoice(n));
  std::vector<Case> cases;
  for (const Choice& choice : choices) {
    Case c = CaseOf(choice, scale, cases.size() + 1);
    c.name = std::to_string(cases.size()) + "_" + c.name;
    cases.push_back(std::move(c));
  }
  return cases;
}

}  // namespace heed::cases
