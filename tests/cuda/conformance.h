// One block of 128 threads that exercises every primitive of the ptx layer whose layout or rounding
// a kernel relies on. Inputs are small integers, so results are exact and a GPU must give the bits
// that the emulator gives. This file: sm_75 and sm_80; conformance_wgmma.h: sm_90a.
#pragma once

#include "cuda/ptx/ptx.h"
#include "sections.h"

namespace heed::cuda::conformance {

constexpr int kSourceRows = 128, kSourceColumns = 64;  // f16, row-major

struct Params {
  ptx::TensorMap load;   // of source, boxes of 64 × 64, swizzled
  ptx::TensorMap store;  // of stored
  const uint16_t* source;
  uint32_t* out;     // kWords
  float* sums;       // 64, where atomics add
  float* reduced;    // 256, where bulk reductions add
  uint16_t* stored;  // 60 × 64: a tensor that ends before its box does
};

// The words of a section that this thread writes: word i of thread t is at i·kThreads + t.
struct Writer {
  uint32_t* to;
  HEED_DEVICE Writer(const Params& p, int offset) : to(p.out + offset + ptx::ThreadIndex()) {}
  HEED_DEVICE void Put(uint32_t word) {
    ptx::StoreGlobal(to, word);
    to += kThreads;
  }
  HEED_DEVICE void Put(float x) { Put(ptx::BitsOf(x)); }
};

// Two neighbouring f16 of the source as they lie, and one of them.
HEED_DEVICE uint32_t SourcePair(const Params& p, int i) {
  constexpr int kPairs = kSourceRows * kSourceColumns / 2;
  return ptx::LoadReadOnly(reinterpret_cast<const uint32_t*>(p.source) + i % kPairs);
}
HEED_DEVICE float SourceFloat(const Params& p, int i) {
  return ptx::ToFloat(ptx::F16{uint16_t(SourcePair(p, i))});
}
// Operand register i of this thread, as T.
template <class T>
HEED_DEVICE uint32_t Operand(const Params& p, int i) {
  const int at = ptx::ThreadIndex() * 29 + i * 131;
  if constexpr (sizeof(T) == 4) {
    return ptx::RoundTf32(SourceFloat(p, at));
  } else {
    return ptx::Pack<T>(SourceFloat(p, at), SourceFloat(p, at + 1));
  }
}

template <class T, int K>
HEED_DEVICE void PutMma(const Params& p, Writer& w) {
  uint32_t a[ptx::kMmaA<T, K>], b[ptx::kMmaB<T, K>];
  HEED_UNROLL
  for (int i = 0; i < ptx::kMmaA<T, K>; ++i) a[i] = Operand<T>(p, i);
  HEED_UNROLL
  for (int i = 0; i < ptx::kMmaB<T, K>; ++i) b[i] = Operand<T>(p, 7 + i);
  float d[4] = {1, 2, 3, 4};
  ptx::Mma<T, K>(d, a, b);
  HEED_UNROLL
  for (int i = 0; i < 4; ++i) w.Put(d[i]);
}

template <int Count, bool Trans>
HEED_DEVICE void PutLdmatrix(uint32_t row, Writer& w) {
  uint32_t r[Count];
  ptx::Ldmatrix<Count, Trans>(r, row);
  HEED_UNROLL
  for (int i = 0; i < Count; ++i) w.Put(r[i]);
}

// 24 words of each thread, side by side, each stored in the size that it was loaded in.
HEED_DEVICE void PutMemory(const Params& p, uint32_t shared) {
  const int t = ptx::ThreadIndex();
  const uint32_t* const from = reinterpret_cast<const uint32_t*>(p.source) + 4 * t;
  uint32_t* const to = p.out + kOffset<kMemory> + 24 * t;
  const auto move = [](auto* at, auto value) { ptx::StoreGlobal(at, value); };
  const auto bytes = reinterpret_cast<const uint8_t*>(from);
  const auto out = reinterpret_cast<uint8_t*>(to);
  move(out, ptx::LoadReadOnly(bytes + 1));
  move(out + 1, ptx::LoadGlobal(bytes + 3));
  move(reinterpret_cast<uint16_t*>(out + 2),
       ptx::LoadReadOnly(reinterpret_cast<const uint16_t*>(from) + 1));
  move(reinterpret_cast<uint16_t*>(to + 1),
       ptx::LoadGlobal(reinterpret_cast<const uint16_t*>(from) + 2));
  move(reinterpret_cast<uint16_t*>(to + 1) + 1, uint16_t(ptx::Forget(257 * t)));
  move(to + 2, ptx::LoadGlobal(from + 1));
  move(to + 3, uint32_t(ptx::BlockX() + 16 * ptx::GridX() + 256 * ptx::BlockY()) +
                   4096 * uint32_t(ptx::BlockZ()));
  move(reinterpret_cast<ptx::U32x2*>(to + 4),
       ptx::LoadReadOnly(reinterpret_cast<const ptx::U32x2*>(from) + 1));
  move(reinterpret_cast<ptx::U32x2*>(to + 6),
       ptx::LoadGlobal(reinterpret_cast<const ptx::U32x2*>(from)));
  const auto wide = reinterpret_cast<const ptx::U32x4*>(from);
  move(reinterpret_cast<ptx::U32x4*>(to + 8), ptx::LoadReadOnly(wide));
  move(reinterpret_cast<ptx::U32x4*>(to + 12), ptx::LoadGlobal(wide));
  const uint32_t own = shared + 16 * uint32_t(t);
  ptx::StoreShared(own, ptx::F32x4{float(t), -float(t), float(2 * t), 0.5f});
  move(reinterpret_cast<ptx::F32x4*>(to + 16), ptx::LoadShared<ptx::F32x4>(own));
  move(reinterpret_cast<ptx::U32x4*>(to + 20), ptx::LoadShared<ptx::U32x4>(own));
}

constexpr uint32_t kMmaShared = 48 * kThreads;

HEED_DEVICE void Turing(const Params& p) {
  const int t = ptx::ThreadIndex();
  const uint32_t s = ptx::SharedBase();
  {
    Writer w(p, kOffset<kNumbers>);
    const float x = SourceFloat(p, t), y = SourceFloat(p, t + 64);
    w.Put(ptx::Pack<ptx::F16>(x, y));
    w.Put(ptx::Pack<ptx::F16>(1.0f + float(t) * 0x1p-11f, 2049.0f + float(t)));  // ties
    w.Put(ptx::Pack<ptx::F16>(65519.0f + float(t), float(t) * 0x1p-25f));  // to ∞; subnormals
    w.Put(ptx::ToFloat(ptx::FromFloat<ptx::F16>(x * y)));
    w.Put(ptx::Ex2(float(t - 64)));
    w.Put(ptx::Ex2(ptx::NegInf()));
    w.Put(ptx::Ex2(-float(t) - 127.0f));  // subnormal: 0
    w.Put(ptx::Lg2(ptx::Ex2(float(t - 64))));
    // 1 + a/2^12 squared needs 24 bits behind the point: the product is rounded, the fused sum is not.
    const float odd = 1.0f + float(2 * t + 1) * 0x1p-12f;
    w.Put(ptx::Fadd(ptx::Fmul(odd, odd), -1.0f));
    w.Put(ptx::Fma(odd, odd, -1.0f));
  }
  {
    Writer w(p, kOffset<kShuffles>);
    w.Put(uint32_t(ptx::ShuffleXor(t, 5)));
    w.Put(uint32_t(ptx::ShuffleIndex(t, 7)));
    w.Put(uint32_t(ptx::ShuffleUp(t, 3)));
    w.Put(uint32_t(ptx::ShuffleDown(t, 4)));
    w.Put(ptx::Ballot(t % 3 == 0));
    w.Put(uint32_t(ptx::Any(t == 40)) + 2 * uint32_t(ptx::All(t >= 32)));
  }
  {
    Writer w(p, kOffset<kShared>);
    const uint32_t at = s + 16 * uint32_t(t), v = uint32_t(t) * 0x01000193u;
    ptx::StoreShared(at, ptx::U32x4{v, v + 1, v + 2, v + 3});
    ptx::StoreShared(at + 4, uint16_t(t));
    ptx::StoreShared(at + 8, ptx::U32x2{~v, v});
    const auto pair = ptx::LoadShared<ptx::U32x2>(at);
    w.Put(pair.x);
    w.Put(pair.y);
    w.Put(ptx::LoadShared<uint32_t>(at + 8));
    w.Put(uint32_t(ptx::LoadShared<uint16_t>(at + 14)));
  }
  ptx::SyncThreads();
  {
    // 128 rows of 16 bytes: warp w has the matrices 4w to 4w + 3.
    ptx::StoreShared(s + 16 * uint32_t(t),
                     ptx::U32x4{SourcePair(p, 4 * t), SourcePair(p, 4 * t + 1),
                                SourcePair(p, 4 * t + 2), SourcePair(p, 4 * t + 3)});
    ptx::SyncWarp();
    Writer w(p, kOffset<kLdmatrix>);
    const uint32_t row = s + 16 * uint32_t(t);
    PutLdmatrix<1, false>(row, w);
    PutLdmatrix<1, true>(row, w);
    PutLdmatrix<2, false>(row, w);
    PutLdmatrix<2, true>(row, w);
    PutLdmatrix<4, false>(row, w);
    PutLdmatrix<4, true>(row, w);
  }
  ptx::SyncThreads();
  PutMemory(p, s);
  Writer w(p, kOffset<kMmaF16K8>);
  PutMma<ptx::F16, 8>(p, w);
  // Sums of integers: exact in any order.
  ptx::ReduceAdd(p.sums + t % 64, float(t));
}

HEED_DEVICE void Ampere(const Params& p) {
  const int t = ptx::ThreadIndex();
  {
    Writer w(p, kOffset<kNumbers80>);
    w.Put(ptx::Pack<ptx::Bf16>(1.0f + float(t) * 0x1p-8f, -257.0f - float(t)));  // ties
    w.Put(ptx::ToFloat(ptx::FromFloat<ptx::Bf16>(SourceFloat(p, t))));
    w.Put(ptx::RoundTf32(1.0f + float(t) * 0x1p-11f));
  }
  {
    const uint32_t to = ptx::SharedBase() + 48 * uint32_t(t);
    const uint32_t* from = reinterpret_cast<const uint32_t*>(p.source) + 4 * t;
    ptx::CpAsync<16>(to, from, true);
    ptx::CpAsync<16>(to + 16, from, false);
    ptx::CpAsyncCommit();
    ptx::CpAsync<8>(to + 32, from + 2, true);
    ptx::CpAsync<4>(to + 40, from + 1, true);
    ptx::CpAsyncCommit();
    ptx::CpAsyncWait<1>();
    Writer w(p, kOffset<kCpAsync>);
    for (uint32_t i = 0; i < 8; ++i) w.Put(ptx::LoadShared<uint32_t>(to + 4 * i));
    ptx::CpAsyncWait<0>();
    for (uint32_t i = 8; i < 11; ++i) w.Put(ptx::LoadShared<uint32_t>(to + 4 * i));
  }
  Writer w(p, kOffset<kMma80>);
  PutMma<ptx::F16, 16>(p, w);
  PutMma<ptx::Bf16, 8>(p, w);
  PutMma<ptx::Bf16, 16>(p, w);
  PutMma<ptx::Tf32, 4>(p, w);
  PutMma<ptx::Tf32, 8>(p, w);
}

}  // namespace heed::cuda::conformance
