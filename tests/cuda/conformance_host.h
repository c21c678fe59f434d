// The host's half of the conformance run, the same for the emulator and for a GPU: inputs, buffers,
// the comparison with the committed file section by section.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "conformance_wgmma.h"

namespace heed::cuda::conformance {

struct HostBuffers {
  std::vector<uint16_t> source = std::vector<uint16_t>(kSourceRows * kSourceColumns);
  std::vector<uint32_t> out = std::vector<uint32_t>(kWords, 0);
  std::vector<float> sums = std::vector<float>(64, 1.0f);
  std::vector<float> reduced = std::vector<float>(256, 1.0f);
  std::vector<uint16_t> stored = std::vector<uint16_t>(60 * 64, 0xffff);

  HostBuffers() {
    const uint16_t integers[8] = {0x0000, 0x3c00, 0xbc00, 0x4000,   // 0, 1, -1, 2,
                                  0xc000, 0x4200, 0xc200, 0x3c00};  // -2, 3, -3, 1 in f16
    uint32_t random = 12345;
    for (uint16_t& x : source) {
      random = random * 1664525u + 1013904223u;
      x = integers[random >> 29];
    }
  }

  // What the kernels left in buffers of their own goes into its sections.
  void Collect(int arch) {
    Copy(kSums, sums.data());
    if (arch < 900) return;
    Copy(kBulkReduce, reduced.data());
    Copy(kTmaStore, stored.data());
  }

 private:
  void Copy(int section, const void* from) {
    __builtin_memcpy(&out[size_t(Offset(section))], from, 4 * size_t(kSections[section].words));
  }
};

inline std::vector<uint32_t> ReadFile(const char* path) {
  std::vector<uint32_t> words(kWords);
  std::FILE* f = std::fopen(path, "rb");
  if (!f) return {};
  const size_t n = std::fread(words.data(), 4, words.size(), f);
  const bool whole = n == words.size() && std::fgetc(f) == EOF;
  std::fclose(f);
  return whole ? words : std::vector<uint32_t>();
}

inline bool WriteFile(const char* path, const std::vector<uint32_t>& words) {
  std::FILE* f = std::fopen(path, "wb");
  if (!f) return false;
  const size_t n = std::fwrite(words.data(), 4, words.size(), f);
  return std::fclose(f) == 0 && n == words.size();
}

// One line a section that differs, of those that `arch` has; empty where all are equal.
inline std::string Differences(const std::vector<uint32_t>& got, const std::vector<uint32_t>& want,
                               int arch) {
  std::string text;
  for (int i = 0; i < kSectionCount && kSections[i].arch <= arch; ++i) {
    const size_t first = size_t(Offset(i));
    int differ = 0, where = 0;
    for (int w = kSections[i].words - 1; w >= 0; --w) {
      if (got[first + size_t(w)] != want[first + size_t(w)]) {
        ++differ;
        where = w;
      }
    }
    if (differ == 0) continue;
    char line[256];
    std::snprintf(line, sizeof line, "%s: %d of %d words differ, the first at %d: %08x, not %08x\n",
                  kSections[i].name, differ, kSections[i].words, where, got[first + size_t(where)],
                  want[first + size_t(where)]);
    text += line;
  }
  return text;
}

}  // namespace heed::cuda::conformance
