// hopper_backward.h: gradients in Hopper's own instructions: a block owns 128 keys and walks the queries,
// one warp loads, one adds dq to global memory by bulk reductions, two warpgroups of 64 keys each compute.
// A test of the emulator and of how these instructions belong together; not part of the library. Not here:
// options but causal, widths but 128, grouped heads; dq comes in f32, unscaled, in the order of registers.
#pragma once

#include "hopper_forward.h"

namespace heed::cuda::hopper {

// What a test may leave out, to see that it is missed.
enum class Step {
  none,
  wait_keys,
  wait_q,
  wait_dout,
  wait_room,      // that a stage of queries is free again
  scores_done,    // that wgmma has S
  products_done,  // and dP
  fence_ds,       // between what threads wrote and what wgmma reads
  ds_of_both,     // that the other warpgroup has written its half of dS
  dq_done,        // that wgmma has dq
  dq_room,        // that the last dq has left shared memory
  fence_dq,       // between what threads wrote and what the bulk reduction reads
  dq_read,        // that the reduction has read it
  release_dout,   // says that a stage is free
};

template <class T, Step kWithout = Step::none>
struct BackwardConfig {
  using Element = T;
  template <Step kStep>
  static constexpr bool kHas = kStep != kWithout;
  static constexpr int kDim = 128, kRows = 64, kKeys = 128, kStages = 2, kThreads = 3 * 128;
  static constexpr uint32_t kKeyBytes = kKeys * kDim * 2, kQueryBytes = kRows * kDim * 2;
  static constexpr uint32_t kDsBytes = kRows * kKeys * 2, kDqBytes = kRows * kDim * 4;
  static constexpr uint32_t kSharedBytes = 2 * kKeyBytes + 2 * kStages * kQueryBytes +
                                           2 * kDsBytes + kDqBytes + 2 * kStages * kRows * 4 +
                                           8 * 16;
};

struct BackwardCall {
  // (batch, head, row, dim), boxes of rows x 64, swizzled by 128 bytes.
  ptx::TensorMap q, k, v, dout;
  // (B, H, Sq up to a multiple of 64): lse in base 2, +infinity where a row sees nothing or is none; delta.
  const float *lse2 = nullptr, *delta = nullptr;
  float* dq = nullptr;                // to be added to: per (b, h, 64 queries), see DqAt
  void *dk = nullptr, *dv = nullptr;  // (B, Sk, H, D)
  int heads = 1, sq = 0, sk = 0;
  float scale = 1, scale_log2 = 1;
  bool causal = false;
};

// Where in its 64 x 128 block of dq an element lies: halves of 64 columns, in them as a warpgroup's
// registers do.
HEED_DEVICE int DqAt(int row, int column) {
  const int within = column % 64;
  const int thread = row / 16 * 32 + row % 8 * 4 + within % 8 / 2;
  return column / 64 * 4096 + (within / 8 * 128 + thread) * 4 + row % 16 / 8 * 2 + within % 2;
}

template <class C>
struct BackwardShared {
  uint32_t k = ptx::SharedBase(), v = k + C::kKeyBytes, q = v + C::kKeyBytes;
  uint32_t dout = q + C::kStages * C::kQueryBytes, ds = dout + C::kStages * C::kQueryBytes;
  uint32_t dq = ds + 2 * C::kDsBytes, lse = dq + C::kDqBytes;
  uint32_t delta = lse + C::kStages * C::kRows * 4;
  uint32_t keys_full = delta + C::kStages * C::kRows * 4;
  HEED_DEVICE uint32_t Q(int stage) const { return q + uint32_t(stage) * C::kQueryBytes; }
  HEED_DEVICE uint32_t Dout(int stage) const { return dout + uint32_t(stage) * C::kQueryBytes; }
  HEED_DEVICE uint32_t Lse(int stage) const { return lse + uint32_t(stage) * C::kRows * 4; }
  HEED_DEVICE uint32_t Delta(int stage) const { return delta + uint32_t(stage) * C::kRows * 4; }
  HEED_DEVICE uint32_t QFull(int stage) const { return keys_full + 8 * uint32_t(1 + stage); }
  HEED_DEVICE uint32_t DoutFull(int stage) const { return QFull(C::kStages + stage); }
  HEED_DEVICE uint32_t QFree(int stage) const { return DoutFull(C::kStages + stage); }
  HEED_DEVICE uint32_t DoutFree(int stage) const { return QFree(C::kStages + stage); }
};

struct Block {
  int key0, head, batch, first, last, shift;  // tiles of queries from first on
  HEED_DEVICE int Tile(int heads, int tile) const { return (batch * heads + head) * last + tile; }
};

// Named barriers; those of dq exist for each of the two warpgroups.
constexpr int kDsWritten = 1, kDqWritten = 2, kDqFree = 4;

// ---- the warps that load and store

template <class C>
HEED_DEVICE void LoadQueries(const BackwardCall& c, const BackwardShared<C>& s, const Block& b) {
  const auto tile = [&](const ptx::TensorMap& map, uint32_t to, uint32_t barrier, int rows,
                        int row) {
    HEED_UNROLL
    for (int column = 0; column < C::kDim; column += 64) {
      const int at[4] = {column, row, b.head, b.batch};
      ptx::TmaLoad<4>(to + uint32_t(column * rows) * 2, &map, barrier, at);
    }
  };
  const auto room = [&](uint32_t barrier, uint32_t phase) {
    if constexpr (C::template kHas<Step::wait_room>) ptx::MbarrierWait(barrier, phase ^ 1);
  };
  ptx::MbarrierArriveExpectTx(s.keys_full, 2 * C::kKeyBytes);
  tile(c.k, s.k, s.keys_full, C::kKeys, b.key0);
  tile(c.v, s.v, s.keys_full, C::kKeys, b.key0);
  Ring<C> ring;
  for (int m = b.first; m < b.last; ++m, ring.Next()) {
    const int stage = ring.stage, row = m * C::kRows, statistics = b.Tile(c.heads, m) * C::kRows;
    room(s.QFree(stage), ring.phase);
    ptx::MbarrierArriveExpectTx(s.QFull(stage), C::kQueryBytes + C::kRows * 4);
    tile(c.q, s.Q(stage), s.QFull(stage), C::kRows, row);
    ptx::BulkLoad(s.Lse(stage), c.lse2 + statistics, C::kRows * 4, s.QFull(stage));
    room(s.DoutFree(stage), ring.phase);
    ptx::MbarrierArriveExpectTx(s.DoutFull(stage), C::kQueryBytes + C::kRows * 4);
    tile(c.dout, s.Dout(stage), s.DoutFull(stage), C::kRows, row);
    ptx::BulkLoad(s.Delta(stage), c.delta + statistics, C::kRows * 4, s.DoutFull(stage));
  }
}

template <class C>
HEED_DEVICE void AddDq(const BackwardCall& c, const BackwardShared<C>& s, const Block& b) {
  constexpr uint32_t kHalf = C::kDqBytes / 2;
  for (int which = 0; which < 2; ++which) ptx::NamedArrive(kDqFree + which, 160);
  for (int m = b.first; m < b.last; ++m) {
    for (int which = 0; which < 2; ++which) {
      ptx::NamedSync(kDqWritten + which, 160);
      if (ptx::ThreadIndex() % 32 == 0) {
        float* const to = c.dq + b.Tile(c.heads, m) * C::kRows * C::kDim + which * int(kHalf / 4);
        ptx::BulkReduceAdd(to, s.dq + uint32_t(which) * kHalf, kHalf);
        ptx::BulkCommit();
        if constexpr (C::template kHas<Step::dq_read>) ptx::BulkWaitRead<0>();
      }
      ptx::SyncWarp();
      if (m + 1 < b.last) ptx::NamedArrive(kDqFree + which, 160);
    }
  }
}

// ---- the warpgroups that compute

// d = a b over the 128 of dim: 64 keys of a tile of 128 and all rows of a tile of queries.
template <class C>
HEED_DEVICE void OverDim(float (&d)[C::kRows / 2], uint32_t a, uint32_t b) {
  HEED_UNROLL
  for (int k = 0; k < C::kDim / 16; ++k) {
    const uint32_t column = uint32_t(k / 4) * 128, within = uint32_t(k % 4) * 32;
    ptx::WgmmaShared<typename C::Element, C::kRows, false, false>(
        d, ptx::SwizzledDescriptor(a + column * C::kKeys + within, 16, 1024),
        ptx::SwizzledDescriptor(b + column * C::kRows + within, 16, 1024), k > 0);
  }
  ptx::WgmmaCommit();
}

// sum += p rows over the queries of a tile.
template <class C>
HEED_DEVICE void OverRows(float (&sum)[C::kDim / 2], const uint32_t (&p)[C::kRows / 16][4],
                          uint32_t rows) {
  HEED_UNROLL
  for (int k = 0; k < C::kRows / 16; ++k) {
    ptx::WgmmaRegisters<typename C::Element, C::kDim, true>(
        sum, p[k], ptx::SwizzledDescriptor(rows + uint32_t(k) * 2048, C::kRows * 128, 1024), true);
  }
  ptx::WgmmaCommit();
}

template <class C>
HEED_DEVICE void Pack(uint32_t (&to)[C::kRows / 16][4], const float (&from)[C::kRows / 2]) {
  HEED_UNROLL
  for (int n = 0; n < C::kRows / 4; ++n) {
    to[n / 4][n % 4] = ptx::Pack<typename C::Element>(from[n * 2], from[n * 2 + 1]);
  }
}

template <class C>
HEED_DEVICE void StoreKeys(const BackwardCall& c, const Block& b, void* to,
                           const float (&d)[C::kDim / 2], float factor, int key, int column) {
  HEED_UNROLL
  for (int r = 0; r < 2; ++r, key += 8) {
    if (key >= c.sk) continue;
    auto* const row = static_cast<typename C::Element*>(to) +
                      ((b.batch * c.sk + key) * c.heads + b.head) * C::kDim + column;
    HEED_UNROLL
    for (int n = 0; n < C::kDim / 8; ++n) {
      ptx::StoreGlobal(
          reinterpret_cast<uint32_t*>(row + n * 8),
          ptx::Pack<typename C::Element>(d[n * 4 + r * 2] * factor, d[n * 4 + r * 2 + 1] * factor));
    }
  }
}

template <class C>
HEED_DEVICE void Gradients(const BackwardCall& c, const BackwardShared<C>& shared, const Block& b,
                           int which) {
  const int t = ptx::ThreadIndex(), lane = t % 32, warp = t / 32 % 4, column = lane % 4 * 2;
  const int key = b.key0 + which * 64 + warp * 16 + lane / 4;
  const uint32_t half = uint32_t(which) * 64 * 128;  // of a column of 64 of K and V
  float dk[C::kDim / 2] = {}, dv[C::kDim / 2] = {};
  Ring<C> ring;
  if constexpr (C::template kHas<Step::wait_keys>) {
    if (b.first < b.last) ptx::MbarrierWait(shared.keys_full, 0);
  }
  for (int m = b.first; m < b.last; ++m, ring.Next()) {
    const uint32_t q = shared.Q(ring.stage), dout = shared.Dout(ring.stage);
    const uint32_t ds = shared.ds + uint32_t(m % 2) * C::kDsBytes;
    const int query = m * C::kRows + column;
    float s[C::kRows / 2], dp[C::kRows / 2];
    if constexpr (C::template kHas<Step::wait_q>) {
      ptx::MbarrierWait(shared.QFull(ring.stage), ring.phase);
    }
    ptx::WgmmaFence();
    OverDim<C>(s, shared.k + half, q);
    if constexpr (C::template kHas<Step::wait_dout>) {
      ptx::MbarrierWait(shared.DoutFull(ring.stage), ring.phase);
    }
    OverDim<C>(dp, shared.v + half, dout);
    if constexpr (C::template kHas<Step::scores_done>) ptx::WgmmaWait<1>();

    const bool edge =
        b.key0 + C::kKeys > c.sk || (c.causal && b.key0 + C::kKeys - 1 > m * C::kRows + b.shift);
    HEED_UNROLL
    for (int n = 0; n < C::kRows / 4; ++n) {
      const int i = n / 2 * 8 + n % 2;
      const float lse = ptx::LoadShared<float>(shared.Lse(ring.stage) + uint32_t(i + column) * 4);
      HEED_UNROLL
      for (int r = 0; r < 2; ++r) {
        float& x = s[n / 2 * 4 + r * 2 + n % 2];
        x = ptx::Ex2(x * c.scale_log2 - lse);
        const int j = key + r * 8;
        if (edge && (j >= c.sk || (c.causal && j > query + i + b.shift))) x = 0;
      }
    }
    if constexpr (C::template kHas<Step::products_done>) ptx::WgmmaWait<0>();
    HEED_UNROLL
    for (int n = 0; n < C::kRows / 4; ++n) {
      const uint32_t i = uint32_t(n / 2 * 8 + n % 2 + column);
      const float delta = ptx::LoadShared<float>(shared.Delta(ring.stage) + i * 4);
      HEED_UNROLL
      for (int r = 0; r < 2; ++r) {
        const int at = n / 2 * 4 + r * 2 + n % 2;
        dp[at] = s[at] * (dp[at] - delta);
      }
    }
    uint32_t p[C::kRows / 16][4], d[C::kRows / 16][4];
    Pack<C>(p, s);
    Pack<C>(d, dp);
    const int row = which * 64 + warp * 16 + lane % 16;
    HEED_UNROLL
    for (int k = 0; k < C::kRows / 16; ++k) {
      ptx::Stmatrix<4, false>(ds + uint32_t(row * 128 + ((k * 2 + lane / 16) ^ (row & 7)) * 16),
                              d[k]);
    }
    ptx::WgmmaFence();
    OverRows<C>(dv, p, dout);
    if constexpr (C::template kHas<Step::fence_ds>) ptx::FenceProxyAsync();
    if constexpr (C::template kHas<Step::ds_of_both>) ptx::NamedSync(kDsWritten, 256);

    // dq = dS K: all keys, and of dim this warpgroup's half.
    float dq[C::kDim / 4];
    ptx::WgmmaFence();
    HEED_UNROLL
    for (int k = 0; k < C::kKeys / 16; ++k) {
      ptx::WgmmaShared<typename C::Element, C::kDim / 2, true, true>(
          dq, ptx::SwizzledDescriptor(ds + uint32_t(k) * 2048, 8192, 1024),
          ptx::SwizzledDescriptor(
              shared.k + uint32_t(which) * (C::kKeys * 128) + uint32_t(k) * 2048, 8192, 1024),
          k > 0);
    }
    ptx::WgmmaCommit();
    ptx::WgmmaWait<1>();  // dv
    if constexpr (C::template kHas<Step::release_dout>) {
      if (lane == 0) ptx::MbarrierArrive(shared.DoutFree(ring.stage));
    }
    OverRows<C>(dk, d, q);
    if constexpr (C::template kHas<Step::dq_done>) ptx::WgmmaWait<1>();
    if constexpr (C::template kHas<Step::dq_room>) ptx::NamedSync(kDqFree + which, 160);
    const uint32_t to = shared.dq + uint32_t(which) * (C::kDqBytes / 2);
    HEED_UNROLL
    for (int n = 0; n < C::kDim / 16; ++n) {
      ptx::StoreShared(to + uint32_t(n * 128 + t % 128) * 16,
                       ptx::F32x4{dq[n * 4], dq[n * 4 + 1], dq[n * 4 + 2], dq[n * 4 + 3]});
    }
    if constexpr (C::template kHas<Step::fence_dq>) ptx::FenceProxyAsync();
    ptx::NamedArrive(kDqWritten + which, 160);
    ptx::WgmmaWait<0>();  // dk
    if (lane == 0) ptx::MbarrierArrive(shared.QFree(ring.stage));
  }
  StoreKeys<C>(c, b, c.dk, dk, c.scale, key, column);
  StoreKeys<C>(c, b, c.dv, dv, 1, key, column);
}

// Of a grid (tiles of keys, heads, batch).
template <class C>
HEED_DEVICE void Backward(const BackwardCall& c) {
  const BackwardShared<C> shared;
  const int t = ptx::ThreadIndex();
  Block b{ptx::BlockX() * C::kKeys, ptx::BlockY(), ptx::BlockZ(), 0, 0, c.sk - c.sq};
  b.last = (c.sq + C::kRows - 1) / C::kRows;
  if (c.causal && b.key0 > b.shift) b.first = (b.key0 - b.shift) / C::kRows;
  if (t == 0) {
    ptx::MbarrierInit(shared.keys_full, 1);
    for (int stage = 0; stage < C::kStages; ++stage) {
      ptx::MbarrierInit(shared.QFull(stage), 1);
      ptx::MbarrierInit(shared.DoutFull(stage), 1);
      ptx::MbarrierInit(shared.QFree(stage), 8);  // a warp of those that compute each
      ptx::MbarrierInit(shared.DoutFree(stage), 8);
    }
    ptx::FenceMbarrierInit();
  }
  ptx::SyncThreads();
  if (t < 128) {
    ptx::SetMaxRegDec<24>();
    if (b.first >= b.last) return;
    if (t < 32) {
      if (ptx::Elect()) LoadQueries<C>(c, shared, b);
    } else if (t < 64) {
      AddDq<C>(c, shared, b);
    }
  } else {
    ptx::SetMaxRegInc<240>();
    Gradients<C>(c, shared, b, t / 128 - 1);
  }
}

}  // namespace heed::cuda::hopper
