// The matrix instructions of a warp, from the layouts that PTX documents: ldmatrix, stmatrix, mma.
#include <algorithm>
#include <cstring>

#include "emu/block.h"
#include "emu/machine.h"

namespace emu {

namespace {

struct Rows {
  uint32_t row;
  uint32_t* registers;
};

// Passes over the 8 groups of 4 banks that 8 rows of 16 bytes take; 1 without conflicts.
uint32_t Passes(void** arguments, int matrix) {
  uint32_t most = 0, in_group[8] = {};
  for (int i = 0; i < 8; ++i) {
    const uint32_t address = static_cast<Rows*>(arguments[8 * matrix + i])->row;
    bool again = false;
    for (int j = 0; j < i; ++j) {
      again = again || static_cast<Rows*>(arguments[8 * matrix + j])->row == address;
    }
    if (!again) most = std::max(most, ++in_group[address >> 4 & 7]);
  }
  return most;
}

}  // namespace

void Ldmatrix(uint32_t* to, int count, bool trans, uint32_t row, Site site) {
  Block& b = Now();
  b.Need(750, site);
  Rows mine{row, to};
  b.MeetWarp(~0u, &mine, site, [&](void** arguments) {
    uint16_t m[4][8][8];
    for (int l = 0; l < 8 * count; ++l) {
      Thread& t = b.threads[size_t(b.current->warp * 32 + l)];
      std::memcpy(m[l / 8][l % 8],
                  b.ForRead(static_cast<Rows*>(arguments[l])->row, 16, 16, t, site), 16);
    }
    for (int i = 0; i < count; ++i) b.stats.ldmatrix_passes += Passes(arguments, i);
    b.stats.ldmatrix_ideal += uint64_t(count);
    for (int l = 0; l < 32; ++l) {
      const int r = l / 4, c = 2 * (l % 4);
      for (int i = 0; i < count; ++i) {
        const uint16_t low = trans ? m[i][c][r] : m[i][r][c];
        const uint16_t high = trans ? m[i][c + 1][r] : m[i][r][c + 1];
        static_cast<Rows*>(arguments[l])->registers[i] = low | uint32_t(high) << 16;
      }
    }
  });
}

void Stmatrix(uint32_t row, const uint32_t* from, int count, bool trans, Site site) {
  Block& b = Now();
  b.Need(900, site);
  Rows mine{row, const_cast<uint32_t*>(from)};
  b.MeetWarp(~0u, &mine, site, [&](void** arguments) {
    uint16_t m[4][8][8];
    for (int l = 0; l < 32; ++l) {
      const int r = l / 4, c = 2 * (l % 4);
      for (int i = 0; i < count; ++i) {
        const uint32_t v = static_cast<Rows*>(arguments[l])->registers[i];
        (trans ? m[i][c][r] : m[i][r][c]) = uint16_t(v);
        (trans ? m[i][c + 1][r] : m[i][r][c + 1]) = uint16_t(v >> 16);
      }
    }
    for (int l = 0; l < 8 * count; ++l) {
      Thread& t = b.threads[size_t(b.current->warp * 32 + l)];
      std::memcpy(b.ForWrite(static_cast<Rows*>(arguments[l])->row, 16, 16, t, site),
                  m[l / 8][l % 8], 16);
    }
  });
}

void Mma(float* d, const uint32_t* a, const uint32_t* b, int k, int element_bytes,
         float (*to_float)(uint32_t), int arch, Site site) {
  Block& block = Now();
  block.Need(arch, site);
  struct Lane {
    float* d;
    const uint32_t *a, *b;
  } mine{d, a, b};
  block.MeetWarp(~0u, &mine, site, [&](void** arguments) {
    ++block.stats.mma;
    const int per = 4 / element_bytes;  // elements to a register
    const uint32_t low = element_bytes == 2 ? 0xffff : ~0u;
    float am[16][16] = {}, bm[16][8] = {}, dm[16][8] = {};
    for (int l = 0; l < 32; ++l) {
      const Lane& lane = *static_cast<Lane*>(arguments[l]);
      const int g = l / 4, t = l % 4;
      for (int r = 0; r < 16 * k / (32 * per); ++r) {
        for (int e = 0; e < per; ++e) {
          am[g + 8 * (r % 2)][4 * per * (r / 2) + per * t + e] =
              to_float(lane.a[r] >> 16 * e & low);
        }
      }
      for (int r = 0; r < 8 * k / (32 * per); ++r) {
        for (int e = 0; e < per; ++e) {
          bm[4 * per * r + per * t + e][g] = to_float(lane.b[r] >> 16 * e & low);
        }
      }
    }
    for (int i = 0; i < 16; ++i) {
      for (int x = 0; x < k; ++x) {
        for (int j = 0; j < 8; ++j) dm[i][j] += am[i][x] * bm[x][j];
      }
    }
    for (int l = 0; l < 32; ++l) {
      float* to = static_cast<Lane*>(arguments[l])->d;
      const int g = l / 4, t = l % 4;
      for (int i = 0; i < 4; ++i) to[i] += dm[g + 8 * (i / 2)][2 * t + i % 2];
    }
  });
}

}  // namespace emu
