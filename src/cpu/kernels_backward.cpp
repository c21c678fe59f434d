// kernels_backward.cpp: the table of one instruction set's backward. Compiled once per set with
// -DHEED_ISA=<name> and its flags, like kernels.cpp. Not here: the kernels (backward.h), the choice
// among sets (cpu.cpp).
#include "cpu/backward.h"
#include "cpu/backward_rows.h"

namespace heed::cpu::HEED_ISA {
namespace {

void Prepare(const BackwardCall& call, std::int64_t first, std::int64_t last, void* workspace) {
  const char* const name = kIsaName;
  __atomic_store_n(call.in.ran, name, __ATOMIC_RELAXED);  // every thread writes the same
  WithFormat(call.in.dtype,
             [&]<class F>(F) { BackwardRows<F>(call, workspace).Prepare(first, last); });
}

void Items(const BackwardCall& call, std::int64_t first, std::int64_t last, void* workspace) {
  WithFormat(call.in.dtype, [&]<class F>(F) { Backward<F>(call, workspace).Items(first, last); });
}

void Finish(const BackwardCall& call, std::int64_t first, std::int64_t last, void* workspace) {
  WithFormat(call.in.dtype,
             [&]<class F>(F) { BackwardRows<F>(call, workspace).Finish(first, last); });
}

template <class G>
void StoreBiasAs(const BackwardCall& call, std::int64_t first, std::int64_t last, void* to) {
  const float* const from = static_cast<const float*>(call.dbias.to.data);
  constexpr std::int64_t kAtOnce = 1 << 20;  // StoreScaled counts in int
  for (; first < last; first += kAtOnce)
    StoreScaled<G>(from + first, static_cast<int>(heed::Min(last - first, kAtOnce)), 1,
                   call.accumulate, static_cast<typename G::E*>(to) + first);
}
void StoreBias(const BackwardCall& call, std::int64_t first, std::int64_t last, void* to) {
  if (call.dbias.f32) return StoreBiasAs<Format<DType::kF32>>(call, first, last, to);
  WithFormat(call.in.dtype, [&]<class F>(F) { StoreBiasAs<F>(call, first, last, to); });
}

std::int64_t Workspace(const BackwardCall& call) {
  std::int64_t bytes = 0;
  WithFormat(call.in.dtype, [&]<class F>(F) { bytes = GradientWork<F>().Carve(nullptr, call); });
  return bytes;
}

std::int64_t Packed(const BackwardCall& call) {
  std::int64_t units = 0;
  WithFormat(call.in.dtype, [&]<class F>(F) {
    units = PackedQueries<F>().Carve(nullptr, call.TilesOfWave(), call);
  });
  return units * 4;
}

std::int64_t KeySums(const BackwardCall& call) {
  std::int64_t floats = 0;
  WithFormat(call.in.dtype, [&]<class F>(F) {
    GradientWork<F> w;
    w.Carve(nullptr, call);
    floats = call.wave * call.key_blocks * w.sum_keys * (w.padded + w.padded_v);
  });
  return floats * 4;
}

// 256 keys and 192 queries at head dims up to 128, within a 1 MB L2; less of both beyond.
Blocks BlocksOf(int dim, int dim_v) {
  const int big = dim > dim_v ? dim : dim_v, over = big > 128 ? (big + 127) / 128 : 1;
  Blocks b;
  b.tiles = static_cast<int>(Clamp(kGradTiles / over, 1, kGradTiles));
  const int most = over > 4 ? 96 : over > 1 ? 192 : 256;
  b.keys = most < kMaxKeys ? most : kMaxKeys;
  return b;
}

}  // namespace

const BackwardKernels kBackwardKernels = {
    W > kKeys ? W : kKeys, BlocksOf, Workspace, Prepare, Items, Finish, Packed, KeySums, StoreBias};

}  // namespace heed::cpu::HEED_ISA
