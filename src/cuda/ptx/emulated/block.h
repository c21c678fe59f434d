// Threads of a block, emulated.
#pragma once

#include "cuda/ptx/emulated/base.h"

namespace heed::cuda::ptx {

HEED_DEVICE int ThreadIndex() { return emu::ThreadIndex(); }
HEED_DEVICE int BlockX() { return emu::BlockIndex(0); }
HEED_DEVICE int BlockY() { return emu::BlockIndex(1); }
HEED_DEVICE int BlockZ() { return emu::BlockIndex(2); }
HEED_DEVICE int GridX() { return emu::GridSize(0); }
HEED_DEVICE int Forget(int x) { return x; }

HEED_DEVICE void SyncThreads(HEED_AT) { emu::SyncThreads({"SyncThreads", at}); }
HEED_DEVICE void SyncWarp(uint32_t lanes = ~0u, HEED_AT) { emu::SyncWarp(lanes, {"SyncWarp", at}); }
HEED_DEVICE void NamedSync(int id, int threads, HEED_AT) {
  emu::Barrier(id, threads, true, {"NamedSync", at});
}
HEED_DEVICE void NamedArrive(int id, int threads, HEED_AT) {
  emu::Barrier(id, threads, false, {"NamedArrive", at});
}

namespace detail {
template <class T>
HEED_DEVICE T Shuffle(emu::Shuffled kind, T value, int by, uint32_t lanes, emu::Site site) {
  static_assert(sizeof(T) == 4);
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  bits = emu::Shuffle(kind, bits, by, lanes, site);
  __builtin_memcpy(&value, &bits, 4);
  return value;
}
}  // namespace detail

template <class T>
HEED_DEVICE T ShuffleXor(T value, int bits, uint32_t lanes = ~0u, HEED_AT) {
  return detail::Shuffle(emu::Shuffled::kXor, value, bits, lanes, {"ShuffleXor", at});
}
template <class T>
HEED_DEVICE T ShuffleIndex(T value, int lane, uint32_t lanes = ~0u, HEED_AT) {
  return detail::Shuffle(emu::Shuffled::kIndex, value, lane, lanes, {"ShuffleIndex", at});
}
template <class T>
HEED_DEVICE T ShuffleUp(T value, int by, uint32_t lanes = ~0u, HEED_AT) {
  return detail::Shuffle(emu::Shuffled::kUp, value, by, lanes, {"ShuffleUp", at});
}
template <class T>
HEED_DEVICE T ShuffleDown(T value, int by, uint32_t lanes = ~0u, HEED_AT) {
  return detail::Shuffle(emu::Shuffled::kDown, value, by, lanes, {"ShuffleDown", at});
}

HEED_DEVICE uint32_t Ballot(bool yes, uint32_t lanes = ~0u, HEED_AT) {
  return emu::Ballot(yes, lanes, {"Ballot", at});
}
HEED_DEVICE bool Any(bool yes, uint32_t lanes = ~0u, HEED_AT) {
  return emu::Ballot(yes, lanes, {"Any", at}) != 0;
}
HEED_DEVICE bool All(bool yes, uint32_t lanes = ~0u, HEED_AT) {
  return emu::Ballot(yes, lanes, {"All", at}) == lanes;
}
HEED_DEVICE bool Elect(HEED_AT) { return emu::Elect({"Elect", at}); }

template <int Registers>
HEED_DEVICE void SetMaxRegDec(HEED_AT) {
  emu::SetMaxRegisters(Registers, false, {"SetMaxRegDec", at});
}
template <int Registers>
HEED_DEVICE void SetMaxRegInc(HEED_AT) {
  emu::SetMaxRegisters(Registers, true, {"SetMaxRegInc", at});
}

}  // namespace heed::cuda::ptx
