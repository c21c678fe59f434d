// any_case.h: random cases for property tests, and what their tests do to samples. Not here: the
// properties.
#pragma once

#include <rapidcheck.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "cases_axes.h"
#include "options_testing.h"

namespace heed::testing_options {

/// A random case that leaves alone every axis but `axes` and those that any call has: sizes, dtype,
/// scale, softcap, data, results. `always`: an axis that may not be 0; it must be one of `axes`.
inline cases::Case AnyCase(std::initializer_list<cases::AxisId> axes,
                           cases::AxisId always = cases::kAxisCount) {
  using namespace cases;
  std::uint64_t seed = *rc::gen::arbitrary<std::uint64_t>();
  Choice choice;
  do {
    choice = SparseChoice(seed++);
    for (int a = 0; a < kAxisCount; ++a) {
      const bool any = a <= kWidths || a == kScale || a == kSoftcap || a == kData ||
                       a == kResults || a == kOutType;
      if (!any && std::find(axes.begin(), axes.end(), a) == axes.end()) {
        choice[static_cast<std::size_t>(a)] = 0;
      }
    }
    // Without its axes, what belongs to a cache may have lost it.
  } while (!Allowed(choice) || (always != kAxisCount && choice[always] == 0));
  return CaseOf(choice, seed % 8 == 0 ? Scale::kTest : Scale::kSmall, seed % 100000 + 1);
}

/// For the trace of a failure.
inline std::string Words(const cases::Case& c) {
  return c.name + " with seed " + std::to_string(c.seed) + ", " + std::to_string(c.problem.q_len) +
         " x " + std::to_string(c.problem.k_len);
}

/// The shift of entry b, where `sk` keys exist.
inline std::int64_t ShiftOf(const cases::Sample& s, std::int64_t b, std::int64_t sk) {
  const Problem& p = s.problem;
  return p.align == Align::kBottomRight ? sk - p.q_len
         : p.align == Align::kTopLeft   ? 0
         : p.query_offsets              ? s.query_offsets[static_cast<std::size_t>(b)]
                                        : *p.query_offset;
}

/// Replaces a case's mask by `see(b, h, i, j)`, where the mask itself agrees.
template <class See>
void AddMask(cases::Sample* s, See&& see) {
  Problem& p = s->problem;
  const Problem normal = NormalOf(p);
  const cases::Memory old = s->mask;
  const auto* mask = reinterpret_cast<const std::uint8_t*>(old.bytes.data() + old.start);
  const Broadcast& t = normal.mask;
  std::vector<std::byte> bytes;
  for (std::int64_t b = 0; b < p.batch; ++b) {
    for (std::int64_t h = 0; h < p.q_heads; ++h) {
      for (std::int64_t i = 0; i < p.q_len; ++i) {
        for (std::int64_t j = 0; j < p.k_len; ++j) {
          const bool mine =
              !t.given ||
              mask[b * t.stride_batch + h * t.stride_head + i * t.stride_row + j * t.stride_col] !=
                  0;
          bytes.push_back(std::byte{mine && see(b, h, i, j)});
        }
      }
    }
  }
  p.mask = {.given = true, .batch = p.batch, .heads = p.q_heads, .rows = p.q_len, .cols = p.k_len};
  s->mask = {std::move(bytes), 0};
}

/// Every engine's results of `other`, which is another way to say `sample`, are within the bounds of
/// `other` around what is true of `sample`.
inline void ExpectEquivalent(const cases::Sample& sample, const cases::Sample& other) {
  Expected e = ExpectedOf(other.problem, other.Inputs());
  e.truth = ExpectedOf(sample.problem, sample.Inputs()).truth;
  for (const Engine& engine : Engines()) {
    ExpectWithin(e, RunOn(engine, other), engine.name());
  }
}

}  // namespace heed::testing_options
