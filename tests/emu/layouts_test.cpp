// The layouts that the emulator believes in, against the PTX manual's own index formulas, written
// out again here element by element: ldmatrix, stmatrix, mma, wgmma, TMA's swizzle. Small integers,
// so every product is exact.
#include "emu/emu_testing.h"
#include "emu/numbers.h"

namespace emu {
namespace {

using ptx::Bf16;
using ptx::F16;
using ptx::Tf32;

float SmallInteger(int i) { return float((i * 37 + 11) % 9 - 4); }

template <class T>
uint32_t BitsOf(float x) {
  if constexpr (std::is_same_v<T, Tf32>) {
    return Tf32OfFloat(x);
  } else {
    return ptx::FromFloat<T>(x).bits;
  }
}

// Runs a kernel on one warp or warpgroup and fails on any report.
void RunOnce(const Config& c, Memory& memory, const std::function<void()>& kernel) {
  EXPECT_EQ(ErrorOf(c, memory, kernel), "");
}

template <int Count, bool Trans>
void CheckLdmatrix() {
  std::vector<uint32_t> out(32 * Count);
  Memory memory;
  memory.Output("out", out);
  RunOnce(Threads(32), memory, [&] {
    const uint32_t s = ptx::SharedBase();
    const int l = ptx::ThreadIndex();
    for (int i = l; i < 1024; i += 32) {
      ptx::StoreShared(s + 2 * uint32_t(i), F16{uint16_t(i)});
    }
    ptx::SyncWarp();
    uint32_t r[Count];
    // Lane l gives a row; those beyond 8·Count give what must not be read.
    ptx::Ldmatrix<Count, Trans>(r, l < 8 * Count ? s + 32 * uint32_t(l) : 0);
    for (int i = 0; i < Count; ++i) ptx::StoreGlobal(&out[size_t(l * Count + i)], r[i]);
  });
  for (int l = 0; l < 32; ++l) {
    for (int i = 0; i < Count; ++i) {
      for (int e = 0; e < 2; ++e) {
        // PTX: thread l's element e of matrix i is in row l / 4, column 2·(l % 4) + e.
        const int row = Trans ? l % 4 * 2 + e : l / 4, column = Trans ? l / 4 : l % 4 * 2 + e;
        const int stored = 16 * (8 * i + row) + column;  // rows are 32 bytes apart
        EXPECT_EQ(out[size_t(l * Count + i)] >> 16 * e & 0xffff, uint32_t(stored))
            << l << " " << i << " " << e;
      }
    }
  }
}

TEST(Layouts, Ldmatrix) {
  CheckLdmatrix<1, false>();
  CheckLdmatrix<1, true>();
  CheckLdmatrix<2, false>();
  CheckLdmatrix<2, true>();
  CheckLdmatrix<4, false>();
  CheckLdmatrix<4, true>();
}

template <int Count, bool Trans>
void CheckStmatrix() {
  std::vector<uint32_t> out(32 * Count);
  Memory memory;
  memory.Output("out", out);
  RunOnce(Threads(32), memory, [&] {
    const uint32_t s = ptx::SharedBase();
    const int l = ptx::ThreadIndex();
    uint32_t r[Count];
    for (int i = 0; i < Count; ++i)
      r[i] = uint32_t(2 * l + 64 * i) | uint32_t(2 * l + 64 * i + 1) << 16;
    ptx::Stmatrix<Count, Trans>(l < 8 * Count ? s + 16 * uint32_t(l) : 0, r);
    ptx::SyncWarp();
    for (int i = l; i < 32 * Count; i += 32) {
      ptx::StoreGlobal(&out[size_t(i)], ptx::LoadShared<uint32_t>(s + 4 * uint32_t(i)));
    }
  });
  for (int i = 0; i < Count; ++i) {
    for (int row = 0; row < 8; ++row) {
      for (int column = 0; column < 8; ++column) {
        const int r = Trans ? column : row, c = Trans ? row : column;
        const uint32_t word = out[size_t(32 * i + 4 * row + column / 2)];
        EXPECT_EQ(word >> 16 * (column % 2) & 0xffff, uint32_t(64 * i + 8 * r + c));
      }
    }
  }
}

TEST(Layouts, Stmatrix) {
  CheckStmatrix<2, false>();
  CheckStmatrix<2, true>();
  CheckStmatrix<4, false>();
  CheckStmatrix<4, true>();
}

// Where PTX puts element i (counting elements, not registers) of a lane's A and B.
struct Index {
  int row, column;
};
template <class T, int K>
Index IndexA(int lane, int i) {
  const int group = lane / 4, in_group = lane % 4;
  if constexpr (std::is_same_v<T, Tf32>) {  // m16n8k4, m16n8k8 of .tf32
    return {i % 2 == 0 ? group : group + 8, i < 2 ? in_group : in_group + 4};
  } else if constexpr (K == 8) {  // m16n8k8 of .f16 and .bf16
    return {i < 2 ? group : group + 8, in_group * 2 + (i & 1)};
  } else {  // m16n8k16
    return {i < 2 || (i >= 4 && i < 6) ? group : group + 8,
            i < 4 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8};
  }
}
template <class T, int K>
Index IndexB(int lane, int i) {
  const int group = lane / 4, in_group = lane % 4;
  if constexpr (std::is_same_v<T, Tf32>) return {i == 0 ? in_group : in_group + 4, group};
  return {i < 2 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8, group};
}

template <class T, int K>
void CheckMma() {
  constexpr int kPer = 4 / int(sizeof(T));
  float a[16][K], b[K][8];
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < K; ++k) a[i][k] = SmallInteger(i * 19 + k);
  }
  for (int k = 0; k < K; ++k) {
    for (int j = 0; j < 8; ++j) b[k][j] = SmallInteger(k * 23 + j * 5);
  }
  std::vector<float> out(16 * 8);
  Memory memory;
  memory.Output("out", out);
  RunOnce(Threads(32, 0, ptx::detail::kMmaArch<T, K>), memory, [&] {
    const int l = ptx::ThreadIndex();
    uint32_t ra[ptx::kMmaA<T, K>] = {}, rb[ptx::kMmaB<T, K>] = {};
    for (int i = 0; i < ptx::kMmaA<T, K> * kPer; ++i) {
      const Index at = IndexA<T, K>(l, i);
      ra[i / kPer] |= BitsOf<T>(a[at.row][at.column]) << 16 * (i % kPer);
    }
    for (int i = 0; i < ptx::kMmaB<T, K> * kPer; ++i) {
      const Index at = IndexB<T, K>(l, i);
      rb[i / kPer] |= BitsOf<T>(b[at.row][at.column]) << 16 * (i % kPer);
    }
    float d[4] = {100, 200, 300, 400};
    ptx::Mma<T, K>(d, ra, rb);
    for (int i = 0; i < 4; ++i) {
      const int row = i < 2 ? l / 4 : l / 4 + 8, column = l % 4 * 2 + (i & 1);
      ptx::StoreGlobal(&out[size_t(row * 8 + column)], d[i] - float(100 * (i + 1)));
    }
  });
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      float sum = 0;
      for (int k = 0; k < K; ++k) sum += a[i][k] * b[k][j];
      EXPECT_EQ(out[size_t(i * 8 + j)], sum) << i << " " << j;
    }
  }
}

TEST(Layouts, Mma) {
  CheckMma<F16, 8>();
  CheckMma<F16, 16>();
  CheckMma<Bf16, 8>();
  CheckMma<Bf16, 16>();
  CheckMma<Tf32, 4>();
  CheckMma<Tf32, 8>();
}

// A 64 × 64 tile of 16-bit elements in the swizzled layout, one 128-byte row a row of the tile, as
// TMA puts it: chunk c of row r lies at chunk c ^ (r % 8).
uint32_t Swizzled(int row, int column) {
  return uint32_t(row * 128 + (column / 8 ^ row % 8) * 16 + column % 8 * 2);
}

TEST(Layouts, TmaSwizzleAndZerosOutside) {
  std::vector<uint16_t> in(60 * 80);
  for (size_t i = 0; i < in.size(); ++i) in[i] = uint16_t(i + 1);
  std::vector<uint16_t> out(64 * 64);
  TensorMap map{in.data(), 2, 2, {80, 60}, {2, 160}, {64, 64}, true};
  Memory memory;
  memory.Input("in", in);
  memory.Output("out", out);
  RunOnce(Threads(32, 8192 + 8), memory, [&] {
    const uint32_t s = ptx::SharedBase(), bar = s + 8192;
    const int l = ptx::ThreadIndex(), at[2] = {32, -3};
    if (l == 0) {
      ptx::MbarrierInit(bar, 1);
      ptx::FenceMbarrierInit();
      ptx::MbarrierArriveExpectTx(bar, 8192);
      ptx::TmaLoad<2>(s, &map, bar, at);
    }
    ptx::SyncWarp();
    ptx::MbarrierWait(bar, 0);
    for (int i = l; i < 64 * 64; i += 32) {
      ptx::StoreGlobal(&out[size_t(i)], ptx::LoadShared<F16>(s + Swizzled(i / 64, i % 64)).bits);
    }
  });
  for (int r = 0; r < 64; ++r) {
    for (int c = 0; c < 64; ++c) {
      const int row = r - 3, column = c + 32;
      const bool inside = row >= 0 && row < 60 && column < 80;
      ASSERT_EQ(out[size_t(r * 64 + c)], inside ? in[size_t(row * 80 + column)] : 0)
          << r << " " << c;
    }
  }
}

// One product of depth 64 as four instructions; operands in shared memory, each as it lies or
// transposed, or A in registers.
template <class T, bool TransA, bool TransB, bool Registers>
void CheckWgmma() {
  std::vector<float> out(64 * 64);
  float x[64][64], y[64][64];
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < 64; ++j) {
      x[i][j] = SmallInteger(i * 13 + j * 3);
      y[i][j] = SmallInteger(i * 7 + j * 29 + 1);
    }
  }
  Memory memory;
  memory.Output("out", out);
  RunOnce(Threads(128, 16384), memory, [&] {
    const uint32_t s = ptx::SharedBase();
    const int t = ptx::ThreadIndex();
    for (int i = t; i < 64 * 64; i += 128) {
      ptx::StoreShared(s + Swizzled(i / 64, i % 64), ptx::FromFloat<T>(x[i / 64][i % 64]));
      ptx::StoreShared(s + 8192 + Swizzled(i / 64, i % 64), ptx::FromFloat<T>(y[i / 64][i % 64]));
    }
    ptx::FenceProxyAsync();
    ptx::SyncThreads();
    const auto slice = [](uint32_t tile, bool trans, int k) {
      return trans ? ptx::SwizzledDescriptor(tile + uint32_t(k) * 2048, 0, 1024)
                   : ptx::SwizzledDescriptor(tile + uint32_t(k) * 32, 0, 1024);
    };
    float d[32] = {};
    uint32_t a[4][4];
    for (int k = 0; k < 4; ++k) {
      for (int i = 0; i < 8; ++i) {  // as an m16n8k16 A of the warp's rows
        const Index at = IndexA<F16, 16>(t % 32, i);
        const uint32_t bits = ptx::FromFloat<T>(x[t / 32 * 16 + at.row][k * 16 + at.column]).bits;
        a[k][i / 2] = i % 2 == 0 ? bits : a[k][i / 2] | bits << 16;
      }
    }
    ptx::WgmmaFence();
    for (int k = 0; k < 4; ++k) {
      const uint64_t b = slice(s + 8192, TransB, k);
      if constexpr (Registers) {
        ptx::WgmmaRegisters<T, 64, TransB>(d, a[k], b, k > 0);
      } else {
        ptx::WgmmaShared<T, 64, TransA, TransB>(d, slice(s, TransA, k), b, k > 0);
      }
    }
    ptx::WgmmaCommit();
    ptx::WgmmaWait<0>();
    for (int i = 0; i < 32; ++i) {  // PTX: D fragment of wgmma .m64nNk16
      const int row = t / 32 * 16 + t % 32 / 4 + (i % 4 < 2 ? 0 : 8);
      const int column = i / 4 * 8 + t % 4 * 2 + (i & 1);
      ptx::StoreGlobal(&out[size_t(row * 64 + column)], d[i]);
    }
  });
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < 64; ++j) {
      float sum = 0;
      for (int k = 0; k < 64; ++k) {
        sum += (TransA ? x[k][i] : x[i][k]) * (TransB ? y[k][j] : y[j][k]);
      }
      ASSERT_EQ(out[size_t(i * 64 + j)], sum) << i << " " << j;
    }
  }
}

TEST(Layouts, Wgmma) {
  CheckWgmma<F16, false, false, false>();
  CheckWgmma<F16, false, true, false>();
  CheckWgmma<F16, true, false, false>();
  CheckWgmma<F16, true, true, false>();
  CheckWgmma<F16, false, false, true>();
  CheckWgmma<F16, false, true, true>();
  CheckWgmma<Bf16, false, false, false>();
  CheckWgmma<Bf16, false, true, true>();
}

}  // namespace
}  // namespace emu
