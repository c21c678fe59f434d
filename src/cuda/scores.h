// scores.h: from products q.k in registers to scores in powers of two: terms, masks, who sees whom;
// and what dropout keeps of the probabilities. Works on QueriesDown and KeysDown of any fragment
// (fragments.h). Not here: a term (score/terms.h), the rule (problem/visibility.h), the sums
// (softmax.h), gradients (gradients.h).
#pragma once

#include "cuda/fragments.h"
#include "cuda/row_facts.h"
#include "cuda/score_lanes.h"

namespace heed::cuda {

// Hidden scores become -infinity, the others stay as they are: by position.
template <class Facts, class View>
HEED_DEVICE void HideByPosition(const Facts& facts, int prefix, int key, View s) {
  HEED_UNROLL
  for (int q = 0; q < View::kQueries; q++) {
    const SeenKeys seen = facts.Seen(View::Query(q));
    HEED_UNROLL
    for (int k = 0; k < View::kKeys; k++) {
      const int j = key + View::Key(k);
      if (!(j < prefix || (j >= seen.first && j < seen.last))) s(q, k) = ptx::NegInf();
    }
  }
}

// By mask and block map. Keys from `end` on do not exist.
template <class Facts, class View>
HEED_DEVICE void HideByArrays(const ForwardCall& c, const Facts& facts, int key, int end, View s) {
  HEED_UNROLL
  for (int q = 0; q < View::kQueries; q++) {
    const auto* mask = static_cast<const std::uint8_t*>(c.mask.data);
    const auto* blocks = static_cast<const std::uint8_t*>(c.block_map.data);
    if (mask) mask += facts.Arrays(View::Query(q)).mask;
    if (blocks) blocks += facts.Blocks(View::Query(q)).blocks;
    uint32_t hidden = 0;  // a bit a key: so that this loop need not be unrolled
    HEED_NO_UNROLL
    for (int k = 0; k < View::kKeys; k++) {
      const int j = key + View::Key(k);
      if (j >= end) break;
      const bool seen =
          (!mask || ptx::LoadReadOnly(mask + j * c.mask.col)) &&
          (!blocks || ptx::LoadReadOnly(blocks + j / int(c.block_cols) * c.block_map.col));
      hidden |= uint32_t(!seen) << k;
    }
    HEED_UNROLL
    for (int k = 0; k < View::kKeys; k++) {
      if (hidden >> k & 1) s(q, k) = ptx::NegInf();
    }
  }
}

// The bias of one row at the keys of(n); `row`: elements to it. Keys from `end` on do not exist.
template <class T, class L, class Keys>
HEED_DEVICE typename L::Real BiasOf(const ForwardCall& c, std::int64_t row, const Keys& of,
                                    int end) {
  const auto load = [&](const auto* from) {
    from += row;
    return L::Each([&](int n) {
      const int j = of(n);
      return j < end ? Widen(ptx::LoadReadOnly(from + j * c.bias.col)) : 0.f;
    });
  };
  return c.bias_f32 ? load(static_cast<const float*>(c.bias.data))
                    : load(static_cast<const T*>(c.bias.data));
}

// Products q.k -> scores in powers of two. rate(q, of capped scores): called where scores bend.
template <class T, class Facts, class View, class Rate>
HEED_DEVICE void ApplyTerms(const ForwardCall& c, const Facts& facts, int key, int end, View s,
                            const Rate& rate) {
  using L = ThreadLanes<View::kKeys>;
  HEED_UNROLL
  for (int q = 0; q < View::kQueries; q++) {
    typename L::Real x = L::Each([&](int k) { return s(q, k) * c.factors.inner; });
    x = Cap<L>(c.terms, x);
    if (c.terms.bends()) rate(q, x);
    At<L> at{};
    if (c.terms.positional()) {
      // However far: the part that 32 bits do not hold is a float of its own.
      const Position p = facts.At(View::Query(q));
      const std::int64_t ahead = p.position - key;
      const int near = int(Clamp(ahead, -kFar, kFar));
      const float far = float(ahead - near);
      at.slope = L::Const(p.slope);
      at.distance = L::Each([&](int k) { return float(near - View::Key(k)) + far; });
    }
    if (c.terms.bias) {
      at.bias = FoldableBias<L>(BiasOf<T, L>(
          c, facts.Arrays(View::Query(q)).bias, [&](int k) { return key + View::Key(k); }, end));
    }
    x = Offset<L>(c.terms, x, at);
    HEED_UNROLL
    for (int k = 0; k < View::kKeys; k++) s(q, k) = x.of[k] * c.factors.outer;
  }
}
template <class T, class Facts, class View>
HEED_DEVICE void ApplyTerms(const ForwardCall& c, const Facts& facts, int key, int end, View s) {
  ApplyTerms<T>(c, facts, key, end, s, [](int, const auto&) {});
}

// Which of the tile's probabilities of query q dropout keeps: a bit a key. `key` is a multiple of 4.
template <class View, class Facts>
HEED_DEVICE uint32_t KeptOf(const ForwardCall& c, const Facts& facts, int key, int q) {
  const BlockRow row = facts.Blocks(View::Query(q));
  uint32_t keep = 0;
  HEED_NO_UNROLL
  for (int k = 0; k < View::kKeys; k += View::kRun) {
    const int j = key + View::Key(k);
    keep |= (KeepFour(c.dropout, row.bh, row.query, j / 4) >> j % 4 & ((1u << View::kRun) - 1))
            << k;
  }
  return keep;
}

// Probabilities that dropout drops become 0.
template <class Facts, class View>
HEED_DEVICE void Drop(const ForwardCall& c, const Facts& facts, int key, View p) {
  HEED_UNROLL
  for (int q = 0; q < View::kQueries; q++) {
    const uint32_t keep = KeptOf<View>(c, facts, key, q);
    HEED_UNROLL
    for (int k = 0; k < View::kKeys; k++) {
      if (!(keep >> k & 1)) p(q, k) = 0;
    }
  }
}

}  // namespace heed::cuda
