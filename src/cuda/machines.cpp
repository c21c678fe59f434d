// machines.cpp: see machines.h.
#include "cuda/machines.h"

namespace heed::cuda {

std::span<const Facts> KnownMachines() {
  constexpr std::int64_t kKb = 1024, kMb = kKb * kKb;
  // Name, arch, multiprocessors, shared memory of a block and of a multiprocessor, L2, boost clock,
  // memory: from NVIDIA's data sheets and the table of compute capabilities.
  static const Facts kAll[] = {
      {"T4", 750, 40, 64 * kKb, 64 * kKb, 4 * kMb, 1.59e9, 320e9},
      {"A100", 800, 108, 163 * kKb, 164 * kKb, 40 * kMb, 1.41e9, 2039e9},
      {"A10", 860, 72, 99 * kKb, 100 * kKb, 6 * kMb, 1.695e9, 600e9},
      {"L4", 890, 58, 99 * kKb, 100 * kKb, 48 * kMb, 2.04e9, 300e9},
      {"H100", 900, 132, 227 * kKb, 228 * kKb, 50 * kMb, 1.83e9, 3350e9},
      {"B200", 1000, 148, 227 * kKb, 228 * kKb, 126 * kMb, 1.85e9, 8000e9},
      {"RTX 5090", 1200, 170, 99 * kKb, 100 * kKb, 96 * kMb, 2.41e9, 1792e9},
  };
  return kAll;
}

std::string ArchName(int arch) { return "sm_" + std::to_string(arch / 10); }

const Facts* FactsFor(const Device& device, int arch) {
  const Facts* const here = device.Now();
  if (arch == 0 || (here && here->arch == arch)) return here;
  for (const Facts& facts : KnownMachines()) {
    if (facts.arch == arch) return &facts;
  }
  return nullptr;
}

int ArchOf(const std::string& name) {
  if (name == "auto") return 0;
  for (const Facts& facts : KnownMachines()) {
    if (name == ArchName(facts.arch)) return facts.arch;
  }
  return -1;
}

// Per multiprocessor and clock, two for a multiply-add.
double PeakFlops(const Facts& facts, DType dtype) {
  struct Row {
    int arch;
    double tensor, lanes;
  };
  constexpr Row kRows[] = {{750, 1024, 128}, {800, 2048, 128},  {860, 1024, 256},
                           {900, 4096, 256}, {1000, 8192, 256}, {1200, 512, 256}};
  double per_clock = 0;
  for (const Row& row : kRows) {
    if (facts.arch >= row.arch) per_clock = dtype == DType::kF32 ? row.lanes : row.tensor;
  }
  return per_clock * facts.multiprocessors * facts.clock_hz;
}

}  // namespace heed::cuda
