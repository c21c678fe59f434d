// The conformance kernel's part for sm_90a: TMA, barriers, wgmma, stmatrix, bulk copies.
#pragma once

#include "conformance.h"

namespace heed::cuda::conformance {

constexpr uint32_t kTile = 64 * 64 * 2;
constexpr uint32_t kHopperShared = 2 * kTile + 2048 + 24;

// A 16-deep slice of a swizzled 64 × 64 tile: along its rows' bytes, or transposed, down its rows.
HEED_DEVICE uint64_t Slice(uint32_t tile, bool trans, int k) {
  return ptx::SwizzledDescriptor(tile + uint32_t(k) * (trans ? 2048 : 32), kTile, 1024);
}

template <bool TransA, bool TransB>
HEED_DEVICE void PutWgmma(uint32_t a, uint32_t b, Writer& w) {
  float d[16] = {};
  ptx::WgmmaFence();
  HEED_UNROLL
  for (int k = 0; k < 4; ++k) {
    ptx::WgmmaShared<ptx::F16, 32, TransA, TransB>(d, Slice(a, TransA, k), Slice(b, TransB, k),
                                                   k > 0);
  }
  ptx::WgmmaCommit();
  ptx::WgmmaWait<0>();
  HEED_UNROLL
  for (int i = 0; i < 16; ++i) w.Put(d[i]);
}

// A's values come from the source; B is the tile's f16, which as bf16 are other numbers: multiples
// of 2^-7 up to 32, so that sums of 32 products stay below 20 bits.
template <class T>
HEED_DEVICE void PutWgmmaRegisters(const Params& p, uint32_t b, Writer& w) {
  uint32_t a[2][4];
  HEED_UNROLL
  for (int i = 0; i < 8; ++i) a[i / 4][i % 4] = Operand<T>(p, i);
  float d[16] = {};
  ptx::WgmmaFence();
  HEED_UNROLL
  for (int k = 0; k < 2; ++k) {
    ptx::WgmmaRegisters<T, 32, true>(d, a[k], Slice(b, true, k), k > 0);
  }
  ptx::WgmmaCommit();
  ptx::WgmmaWait<0>();
  HEED_UNROLL
  for (int i = 0; i < 16; ++i) w.Put(d[i]);
}

template <int Count, bool Trans>
HEED_DEVICE uint32_t* PutStmatrix(const Params& p, uint32_t scratch, uint32_t* out) {
  const int t = ptx::ThreadIndex();
  uint32_t r[Count];
  HEED_UNROLL
  for (int i = 0; i < Count; ++i) r[i] = SourcePair(p, 4 * t + i);
  const uint32_t matrices = scratch + uint32_t(t / 32) * 128 * Count;  // of this warp
  ptx::SyncThreads();
  ptx::Stmatrix<Count, Trans>(matrices + 16 * uint32_t(t % (8 * Count)), r);
  ptx::SyncThreads();
  for (int i = t; i < 128 * Count; i += kThreads) {
    ptx::StoreGlobal(out + i, ptx::LoadShared<uint32_t>(scratch + 4 * uint32_t(i)));
  }
  return out + 128 * Count;
}

// What half of the threads and then a neighbour left in shared memory, seen through a named barrier and
// an mbarrier that counts all of them.
HEED_DEVICE void PutBarriers(const Params& p, uint32_t scratch, uint32_t bar) {
  const int t = ptx::ThreadIndex();
  Writer w(p, kOffset<kBarriers>);
  ptx::StoreShared(scratch + 4 * uint32_t(t), uint32_t(t) * 0x01000193u);
  if (t < kThreads / 2) {
    ptx::NamedArrive(1, kThreads);
    w.Put(uint32_t(t));
  } else {
    ptx::NamedSync(1, kThreads);
    w.Put(ptx::LoadShared<uint32_t>(scratch + 4 * uint32_t(t - kThreads / 2)));
  }
  ptx::MbarrierArrive(bar);
  ptx::MbarrierWait(bar, 0);
  w.Put(ptx::LoadShared<uint32_t>(scratch + 4 * uint32_t((t + 1) % kThreads)));
}

HEED_DEVICE void Hopper(const Params& p) {
  const int t = ptx::ThreadIndex();
  const uint32_t s = ptx::SharedBase(), scratch = s + 2 * kTile, bar = scratch + 2048;
  if (t == 0) {
    ptx::MbarrierInit(bar, 1);
    ptx::MbarrierInit(bar + 8, 1);
    ptx::MbarrierInit(bar + 16, kThreads);
    ptx::FenceMbarrierInit();
    ptx::PrefetchTensorMap(&p.load);
  }
  ptx::SyncThreads();

  // A box that begins outside the tensor and one that lies in it; then both as they should be.
  for (int turn = 0; turn < 2; ++turn) {
    if (t == 0) {
      ptx::MbarrierArriveExpectTx(bar, 2 * kTile);
      const int first[2] = {turn == 0 ? 8 : 0, turn == 0 ? -5 : 0}, second[2] = {0, 64};
      ptx::TmaLoad<2>(s, &p.load, bar, first);
      ptx::TmaLoad<2>(s + kTile, &p.load, bar, second);
    }
    ptx::MbarrierWait(bar, uint32_t(turn));
    if (turn > 0) break;
    uint32_t* out = p.out + kOffset<kTmaLoad>;
    for (int i = t; i < 2 * 2048; i += kThreads) {
      ptx::StoreGlobal(out + i, ptx::LoadShared<uint32_t>(s + 4 * uint32_t(i)));
    }
    ptx::SyncThreads();
  }

  {
    Writer w(p, kOffset<kWgmmaShared>);
    PutWgmma<false, false>(s, s + kTile, w);
    PutWgmma<false, true>(s, s + kTile, w);
    PutWgmma<true, false>(s, s + kTile, w);
    PutWgmma<true, true>(s, s + kTile, w);
  }
  {
    // B's 128 columns lie in both tiles, 64 in each: that is what `leading` is for.
    float d[64] = {};
    ptx::WgmmaFence();
    ptx::WgmmaShared<ptx::F16, 128, false, true>(d, Slice(s, false, 0), Slice(s, true, 0), true);
    ptx::WgmmaCommit();
    ptx::WgmmaWait<0>();
    Writer w(p, kOffset<kWgmmaWide>);
    HEED_UNROLL
    for (int i = 0; i < 64; ++i) w.Put(d[i]);
  }
  {
    Writer w(p, kOffset<kWgmmaRegisters>);
    PutWgmmaRegisters<ptx::Bf16>(p, s, w);
    PutWgmmaRegisters<ptx::F16>(p, s, w);
  }
  {
    uint32_t* out = p.out + kOffset<kStmatrix>;
    out = PutStmatrix<2, false>(p, scratch, out);
    out = PutStmatrix<2, true>(p, scratch, out);
    out = PutStmatrix<4, false>(p, scratch, out);
    PutStmatrix<4, true>(p, scratch, out);
  }
  ptx::FenceProxyAsync();  // the bulk load overwrites what stmatrix wrote
  ptx::SyncThreads();

  if (t == 0) {
    ptx::MbarrierArriveExpectTx(bar + 8, 1024);
    ptx::BulkLoad(scratch, p.source, 1024, bar + 8);
  }
  ptx::MbarrierWait(bar + 8, 0);
  uint32_t* out = p.out + kOffset<kBulkLoad>;
  for (int i = t; i < 256; i += kThreads) {
    ptx::StoreGlobal(out + i, ptx::LoadShared<uint32_t>(scratch + 4 * uint32_t(i)));
  }
  ptx::SyncThreads();

  for (int i = t; i < 256; i += kThreads) {
    ptx::StoreShared(scratch + 4 * uint32_t(i), float(i) - 100.0f);
  }
  ptx::FenceProxyAsync();
  ptx::SyncThreads();
  if (t == 0) {
    ptx::BulkReduceAdd(p.reduced, scratch, 1024);
    ptx::BulkReduceAdd(p.reduced, scratch, 1024);
    ptx::BulkCommit();
    const int at[2] = {0, 0};
    ptx::TmaStore<2>(&p.store, s, at);  // 64 rows, of which 60 exist
    ptx::BulkCommit();
    ptx::BulkWaitRead<1>();
    ptx::BulkWait<0>();
  }
  const uint32_t chosen = ptx::Ballot(ptx::Elect());
  if (t % 32 == 0) {
    ptx::StoreGlobal(p.out + kOffset<kElect> + t / 32,
                     uint32_t(chosen != 0 && (chosen & (chosen - 1)) == 0));
  }
  ptx::SyncThreads();
  PutBarriers(p, scratch, bar + 16);
}

}  // namespace heed::cuda::conformance
