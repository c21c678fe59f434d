// The conformance kernel's output: named sections of 32-bit words, by the architecture that has the
// instructions, and where each begins. For the kernel, the emulator's test and the GPU's host.
#pragma once

namespace heed::cuda::conformance {

constexpr int kThreads = 128;

struct Section {
  const char* name;
  int arch;
  int words;
};

// In the order in which they lie in the file; architectures ascend.
enum SectionId {
  kNumbers,
  kShuffles,
  kShared,
  kLdmatrix,
  kMmaF16K8,
  kSums,
  kMemory,
  kNumbers80,
  kCpAsync,
  kMma80,
  kTmaLoad,
  kWgmmaShared,
  kWgmmaWide,
  kWgmmaRegisters,
  kStmatrix,
  kBulkLoad,
  kBulkReduce,
  kTmaStore,
  kElect,
  kBarriers,
  kSectionCount
};
constexpr Section kSections[kSectionCount] = {
    {"pack f16, ex2 of integers and infinity, products rounded and fused", 750, 10 * kThreads},
    {"shuffles and votes", 750, 6 * kThreads},
    {"shared loads and stores of 2 to 16 bytes", 750, 4 * kThreads},
    {"ldmatrix x1 x2 x4, plain and transposed", 750, 14 * kThreads},
    {"mma f16 k8", 750, 4 * kThreads},
    {"atomic sums", 750, 64},
    {"global loads and stores of 1 to 16 bytes, shared ones of 16, block and grid", 750,
     24 * kThreads},
    {"pack bf16, round tf32", 800, 3 * kThreads},
    {"cp.async of 4, 8 and 16 bytes, zeros", 800, 11 * kThreads},
    {"mma f16 k16, bf16 k8 k16, tf32 k4 k8", 800, 20 * kThreads},
    {"TMA load: swizzle, zeros outside", 900, 2 * 2048},
    {"wgmma n32 from shared memory, each transposition", 900, 4 * 16 * kThreads},
    {"wgmma n128 over two column blocks", 900, 64 * kThreads},
    {"wgmma n32 bf16 and f16 with A in registers", 900, 2 * 16 * kThreads},
    {"stmatrix x2 x4, plain and transposed", 900, 2 * 256 + 2 * 512},
    {"bulk load", 900, 256},
    {"bulk reduce", 900, 256},
    {"TMA store: swizzle, nothing outside", 900, 60 * 32},
    {"elect", 900, 4},
    {"named barriers, mbarrier arrivals", 900, 2 * kThreads},
};

constexpr int Offset(int section) {
  int words = 0;
  for (int i = 0; i < section; ++i) words += kSections[i].words;
  return words;
}
template <int Id>
inline constexpr int kOffset = Offset(Id);  // for device code, which calls no constexpr functions
constexpr int kWords = Offset(kSectionCount);

// Of the sections of one architecture: the first, and one past the last.
constexpr int First(int arch) {
  int i = 0;
  while (i < kSectionCount && kSections[i].arch < arch) ++i;
  return i;
}
constexpr int End(int arch) {
  int i = First(arch);
  while (i < kSectionCount && kSections[i].arch == arch) ++i;
  return i;
}

}  // namespace heed::cuda::conformance
