// What the emulated bodies of the ptx layer call: one function an instruction, without templates,
// so that a kernel compiles quickly. Everything acts on the block that runs now.
#pragma once

#include <cstdint>

#include "emu/site.h"
#include "emu/tensor_map.h"

namespace emu {

// Shared addresses start here, not at 0, so that one that was never computed is out of range.
inline constexpr uint32_t kSharedBase = 1024;

// --- sync.cpp ---
int ThreadIndex();
int BlockIndex(int axis);
int GridSize(int axis);
void Barrier(int id, int threads, bool wait, Site site);
void SyncThreads(Site site);
void SyncWarp(uint32_t lanes, Site site);
enum class Shuffled { kXor, kIndex, kUp, kDown };
uint32_t Shuffle(Shuffled kind, uint32_t value, int by, uint32_t lanes, Site site);
uint32_t Ballot(bool yes, uint32_t lanes, Site site);
bool Elect(Site site);
void SetMaxRegisters(int registers, bool more, Site site);

// --- plain.cpp ---
void LoadShared(uint32_t from, void* to, uint32_t bytes, Site site);
void StoreShared(uint32_t to, const void* from, uint32_t bytes, Site site);
void LoadGlobal(const void* from, void* to, uint32_t bytes, bool read_only, Site site);
void StoreGlobal(void* to, const void* from, uint32_t bytes, Site site);
uint32_t AtomicAdd(uint32_t* to, uint32_t value, Site site);
void ReduceAdd(float* to, float value, Site site);

// --- matrix.cpp ---
void Ldmatrix(uint32_t* to, int count, bool trans, uint32_t row, Site site);
void Stmatrix(uint32_t row, const uint32_t* from, int count, bool trans, Site site);
// `to_float` of one element's bits; 4 / element_bytes elements to a register.
void Mma(float* d, const uint32_t* a, const uint32_t* b, int k, int element_bytes,
         float (*to_float)(uint32_t), int arch, Site site);

// --- copies.cpp ---
void CpAsync(uint32_t to, const void* from, uint32_t bytes, bool valid, Site site);
void CpAsyncCommit(Site site);
void CpAsyncWait(int pending, Site site);
void BulkLoad(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier, Site site);
void BulkReduceAdd(float* to, uint32_t from, uint32_t bytes, Site site);
void BulkCommit(Site site);
void BulkWait(int pending, Site site);
void FenceProxyAsync(Site site);
void PrefetchTensorMap(const TensorMap* map, Site site);
void TmaLoad(uint32_t to, const TensorMap* map, uint32_t barrier, const int* at, int rank,
             Site site);
void TmaStore(const TensorMap* map, uint32_t from, const int* at, int rank, Site site);

// --- mbarrier.cpp ---
void MbarrierInit(uint32_t barrier, uint32_t arrivals, Site site);
void FenceMbarrierInit(Site site);
void MbarrierArrive(uint32_t barrier, uint32_t bytes, Site site);
void MbarrierWait(uint32_t barrier, uint32_t parity, Site site);

// --- wgmma.cpp ---
void WgmmaFence(Site site);
void WgmmaCommit(Site site);
void WgmmaWait(int pending, Site site);
struct WgmmaArguments {
  float* d;
  const uint32_t* a_registers;  // or null, and then a_shared
  uint64_t a_shared, b;
  int columns;
  bool trans_a, trans_b, add;
  float (*to_float)(uint16_t);
};
void Wgmma(WgmmaArguments arguments, Site site);

}  // namespace emu
