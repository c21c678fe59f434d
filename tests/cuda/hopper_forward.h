// hopper_forward.h: a forward in Hopper's own instructions: one warpgroup loads keys and values by TMA,
// two compute by wgmma, and the product with the values of one tile overlaps the softmax of the next one.
// A test of the emulator and of how these instructions belong together; not part of the library. Not here:
// options but causal, other widths than multiples of 64.
#pragma once

#include "cuda/ptx/ptx.h"

namespace heed::cuda::hopper {

// What a test may leave out, to see that it is missed.
enum class Part {
  none,
  wait_q,         // that the queries have landed
  wait_k,         // that a tile of keys has
  wait_v,         // or of values
  wait_room,      // that a stage is free again
  release_k,      // says that it is
  scores_done,    // that wgmma has the scores
  output_done,    // and the output, before it is scaled
  fence,          // before wgmma reads registers
  expect,         // how many bytes a barrier waits for
  shift_of_edge,  // where the causal border stands with more keys than queries
};

template <class T, int kDimOf, int kKeysOf, bool kTurnsOf, Part kWithout = Part::none>
struct Config {
  using Element = T;
  template <Part kPart>
  static constexpr bool kHas = kPart != kWithout;
  static constexpr int kDim = kDimOf, kRows = 128, kKeys = kKeysOf, kStages = 2;
  static constexpr bool kTurns = kTurnsOf;  // the two take turns with the tensor cores
  static constexpr int kThreads = 3 * 128;
  static constexpr uint32_t kQueryBytes = kRows * kDim * 2, kTileBytes = kKeys * kDim * 2;
  static constexpr uint32_t kSharedBytes = kQueryBytes + 2 * kStages * kTileBytes + 8 * 16;
};

struct Call {
  // (batch, head, row, dim), boxes of rows x 64, swizzled by 128 bytes.
  ptx::TensorMap q, k, v;
  void* o = nullptr;  // (B, Sq, Hq, D)
  float* lse = nullptr;
  int heads = 1, group = 1, sq = 0, sk = 0;
  float scale_log2 = 1;
  bool causal = false;
};

template <class C>
struct Shared {
  uint32_t q = ptx::SharedBase();
  uint32_t k = q + C::kQueryBytes, v = k + C::kStages * C::kTileBytes;
  uint32_t q_full = v + C::kStages * C::kTileBytes;
  HEED_DEVICE uint32_t K(int stage) const { return k + uint32_t(stage) * C::kTileBytes; }
  HEED_DEVICE uint32_t V(int stage) const { return v + uint32_t(stage) * C::kTileBytes; }
  HEED_DEVICE uint32_t KFull(int stage) const { return q_full + 8 * uint32_t(1 + stage); }
  HEED_DEVICE uint32_t VFull(int stage) const { return KFull(C::kStages + stage); }
  HEED_DEVICE uint32_t KFree(int stage) const { return VFull(C::kStages + stage); }
  HEED_DEVICE uint32_t VFree(int stage) const { return KFree(C::kStages + stage); }
};

template <class C>
struct Ring {
  int stage = 0;
  uint32_t phase = 0;
  HEED_DEVICE void Next() {
    if (++stage == C::kStages) {
      stage = 0;
      phase ^= 1;
    }
  }
};

// A block's place.
struct Place {
  int row0, head, batch, tiles, shift;
};
template <class C>
HEED_DEVICE Place PlaceOf(const Call& c) {
  Place p{ptx::BlockX() * C::kRows, ptx::BlockY(), ptx::BlockZ(), 0, c.sk - c.sq};
  int keys = c.sk;
  if (c.causal) {
    const int seen = p.row0 + C::kRows + p.shift;
    keys = seen < 0 ? 0 : seen < keys ? seen : keys;
  }
  p.tiles = (keys + C::kKeys - 1) / C::kKeys;
  return p;
}

// ---- the warpgroup that loads

template <class C>
HEED_DEVICE void LoadTile(const ptx::TensorMap& map, uint32_t to, uint32_t barrier, int rows,
                          int row, int head, int batch) {
  const uint32_t bytes = uint32_t(rows) * C::kDim * 2;
  ptx::MbarrierArriveExpectTx(barrier, C::template kHas<Part::expect> ? bytes : bytes / 2);
  HEED_UNROLL
  for (int column = 0; column < C::kDim; column += 64) {
    const int at[4] = {column, row, head, batch};
    ptx::TmaLoad<4>(to + uint32_t(column * rows) * 2, &map, barrier, at);
  }
}

template <class C>
HEED_DEVICE void Produce(const Call& c, const Shared<C>& s, const Place& p) {
  const auto room = [&](uint32_t barrier, uint32_t phase) {
    if constexpr (C::template kHas<Part::wait_room>) ptx::MbarrierWait(barrier, phase ^ 1);
  };
  LoadTile<C>(c.q, s.q, s.q_full, C::kRows, p.row0, p.head, p.batch);
  Ring<C> ring;
  for (int tile = p.tiles - 1; tile >= 0; --tile, ring.Next()) {
    const int row = tile * C::kKeys, head = p.head / c.group;
    room(s.KFree(ring.stage), ring.phase);
    LoadTile<C>(c.k, s.K(ring.stage), s.KFull(ring.stage), C::kKeys, row, head, p.batch);
    room(s.VFree(ring.stage), ring.phase);
    LoadTile<C>(c.v, s.V(ring.stage), s.VFull(ring.stage), C::kKeys, row, head, p.batch);
  }
}

// ---- the warpgroups that compute

template <class C>
HEED_DEVICE void Scores(float (&s)[C::kKeys / 2], uint32_t q, uint32_t k) {
  HEED_UNROLL
  for (int d = 0; d < C::kDim / 16; ++d) {
    const uint32_t column = uint32_t(d / 4) * 128, within = uint32_t(d % 4) * 32;
    ptx::WgmmaShared<typename C::Element, C::kKeys, false, false>(
        s, ptx::SwizzledDescriptor(q + column * C::kRows + within, 16, 1024),
        ptx::SwizzledDescriptor(k + column * C::kKeys + within, 16, 1024), d > 0);
  }
  ptx::WgmmaCommit();
}

template <class C>
HEED_DEVICE void AddValues(float (&o)[C::kDim / 2], const uint32_t (&p)[C::kKeys / 16][4],
                           uint32_t v) {
  HEED_UNROLL
  for (int j = 0; j < C::kKeys / 16; ++j) {
    ptx::WgmmaRegisters<typename C::Element, C::kDim, true>(
        o, p[j], ptx::SwizzledDescriptor(v + uint32_t(j) * 2048, C::kKeys * 128, 1024), true);
  }
  ptx::WgmmaCommit();
}

// Of a thread's two rows.
template <class C>
struct Softmax {
  float max[2] = {ptx::NegInf(), ptx::NegInf()}, sum[2] = {0, 0}, rescale[2];

  // Scores of keys from `key` on become probabilities; `border`: the first row's last key, where some
  // are hidden.
  HEED_DEVICE void Step(float (&s)[C::kKeys / 2], const Call& c, int key, bool edge, int border) {
    HEED_UNROLL
    for (int r = 0; r < 2; ++r) {
      float m = max[r];
      HEED_UNROLL
      for (int n = 0; n < C::kKeys / 4; ++n) {
        float& x = s[n / 2 * 4 + r * 2 + n % 2];
        const int j = key + n / 2 * 8 + n % 2;
        if (edge && (j >= c.sk || (c.causal && j > border + 8 * r))) x = ptx::NegInf();
        m = x > m ? x : m;
      }
      HEED_UNROLL
      for (int lanes = 1; lanes <= 2; ++lanes) {
        const float other = ptx::ShuffleXor(m, lanes);
        m = other > m ? other : m;
      }
      const float shift = m == ptx::NegInf() ? 0 : m * c.scale_log2;
      rescale[r] = ptx::Ex2(max[r] * c.scale_log2 - shift);
      max[r] = m;
      sum[r] *= rescale[r];
      HEED_UNROLL
      for (int n = 0; n < C::kKeys / 4; ++n) {
        float& x = s[n / 2 * 4 + r * 2 + n % 2];
        x = ptx::Ex2(x * c.scale_log2 - shift);
        sum[r] += x;
      }
    }
  }
};

template <class C>
HEED_DEVICE void Store(const Call& c, const Place& p, const Softmax<C>& softmax,
                       const float (&o)[C::kDim / 2], int row, int column) {
  HEED_UNROLL
  for (int r = 0; r < 2; ++r, row += 8) {
    float sum = softmax.sum[r];
    sum += ptx::ShuffleXor(sum, 1);
    sum += ptx::ShuffleXor(sum, 2);
    if (row >= c.sq) continue;
    const float inverse = sum > 0 ? 1 / sum : 0;
    const float ln2 = 0.6931471805599453f;
    const float lse =
        sum > 0 ? (softmax.max[r] * c.scale_log2 + ptx::Lg2(sum)) * ln2 : ptx::NegInf();
    if (column == 0) ptx::StoreGlobal(c.lse + (p.batch * c.heads + p.head) * c.sq + row, lse);
    auto* const to = static_cast<typename C::Element*>(c.o) +
                     ((p.batch * c.sq + row) * c.heads + p.head) * C::kDim + column;
    HEED_UNROLL
    for (int n = 0; n < C::kDim / 8; ++n) {
      ptx::StoreGlobal(reinterpret_cast<uint32_t*>(to + n * 8),
                       ptx::Pack<typename C::Element>(o[n * 4 + r * 2] * inverse,
                                                      o[n * 4 + r * 2 + 1] * inverse));
    }
  }
}

template <class C>
HEED_DEVICE void Consume(const Call& c, const Shared<C>& shared, const Place& place, int which) {
  const int t = ptx::ThreadIndex(), lane = t % 32, column = lane % 4 * 2;
  const int row = place.row0 + which * 64 + t / 32 % 4 * 16 + lane / 4;
  const int shift = C::template kHas<Part::shift_of_edge> ? place.shift : 0;
  const uint32_t q = shared.q + uint32_t(which) * 64 * 128;
  float o[C::kDim / 2] = {}, s[C::kKeys / 2];
  uint32_t p[C::kKeys / 16][4];
  Softmax<C> softmax;
  Ring<C> keys, values;
  const auto fence = [&] {
    if constexpr (C::template kHas<Part::fence>) ptx::WgmmaFence();
  };
  const auto wait_k = [&] {
    if constexpr (C::template kHas<Part::wait_k>)
      ptx::MbarrierWait(shared.KFull(keys.stage), keys.phase);
  };
  const auto wait_v = [&] {
    if constexpr (C::template kHas<Part::wait_v>)
      ptx::MbarrierWait(shared.VFull(values.stage), values.phase);
  };
  const auto release_k = [&] {
    if (C::template kHas<Part::release_k> && lane == 0)
      ptx::MbarrierArrive(shared.KFree(keys.stage));
    keys.Next();
  };
  const auto probabilities = [&](int tile) {
    const int last = (tile + 1) * C::kKeys;
    const bool edge = last > c.sk || (c.causal && last - 1 > place.row0 + which * 64 + shift);
    softmax.Step(s, c, tile * C::kKeys + column, edge, row + shift);
  };
  const auto pack = [&] {
    HEED_UNROLL
    for (int n = 0; n < C::kKeys / 4; ++n) {
      p[n / 4][n % 4] = ptx::Pack<typename C::Element>(s[n * 2], s[n * 2 + 1]);
    }
  };
  // Barrier 1 is where the second one waits for the first one's turn to end, 2 the other way round.
  const auto turn_begins = [&] {
    if (C::kTurns) ptx::NamedSync(2 - which, 256);
  };
  const auto turn_ends = [&] {
    if (C::kTurns) ptx::NamedArrive(1 + which, 256);
  };

  if (place.tiles > 0) {
    if (which == 0) turn_ends();  // so the second one begins
    if constexpr (C::template kHas<Part::wait_q>) ptx::MbarrierWait(shared.q_full, 0);
    wait_k();
    fence();
    Scores<C>(s, q, shared.K(keys.stage));
    if constexpr (C::template kHas<Part::scores_done>) ptx::WgmmaWait<0>();
    release_k();
    probabilities(place.tiles - 1);
    pack();
    for (int tile = place.tiles - 2; tile >= 0; --tile) {
      wait_k();
      turn_begins();
      fence();
      Scores<C>(s, q, shared.K(keys.stage));
      wait_v();
      AddValues<C>(o, p, shared.V(values.stage));  // overlaps the softmax below
      turn_ends();
      ptx::WgmmaWait<1>();
      release_k();
      probabilities(tile);
      if constexpr (C::template kHas<Part::output_done>) ptx::WgmmaWait<0>();
      if (lane == 0) ptx::MbarrierArrive(shared.VFree(values.stage));
      values.Next();
      pack();
      HEED_UNROLL
      for (int d = 0; d < C::kDim / 2; ++d) o[d] *= softmax.rescale[d / 2 % 2];
    }
    wait_v();
    fence();
    AddValues<C>(o, p, shared.V(values.stage));
    ptx::WgmmaWait<0>();
    if (which == 1) turn_begins();
  }
  Store<C>(c, place, softmax, o, row, column);
}

// Of a grid (tiles of queries, heads, batch).
template <class C>
HEED_DEVICE void Forward(const Call& c) {
  const Shared<C> shared;
  const Place place = PlaceOf<C>(c);
  const int t = ptx::ThreadIndex();
  if (t == 0) {
    ptx::MbarrierInit(shared.q_full, 1);
    for (int stage = 0; stage < C::kStages; ++stage) {
      ptx::MbarrierInit(shared.KFull(stage), 1);
      ptx::MbarrierInit(shared.VFull(stage), 1);
      ptx::MbarrierInit(shared.KFree(stage), 8);  // a warp of the consumers each
      ptx::MbarrierInit(shared.VFree(stage), 8);
    }
    ptx::FenceMbarrierInit();
  }
  ptx::SyncThreads();
  if (t < 128) {
    ptx::SetMaxRegDec<24>();
    if (t < 32 && place.tiles > 0 && ptx::Elect()) Produce<C>(c, shared, place);
  } else {
    ptx::SetMaxRegInc<240>();
    Consume<C>(c, shared, place, t / 128 - 1);
  }
}

}  // namespace heed::cuda::hopper
