// The emulator as a test sees it: run a kernel on a grid of blocks, one fiber a CUDA thread, and
// get an Error where a GPU would hang, race or read garbage. A test tool: never part of the library.
#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "emu/memory.h"

namespace emu {

// A report: what is wrong, the instruction, file and line, block and thread.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Which warp runs next. Greedy runs one until it blocks, lowest or highest first: the widest
// reorderings; Random draws warps, lanes and the order of blocks from the seed.
enum class Order { kGreedy, kReverse, kRandom };
// When bulk loads land: at the last legal moment, at once, or at a drawn one in between. cp.async
// and wgmma always take effect at their wait, with their destination poisoned until then.
enum class Landing { kLate, kEarly, kRandom };

struct Config {
  int grid[3] = {1, 1, 1};
  int threads = 128;          // a block's, a multiple of 32
  uint32_t shared_bytes = 0;  // dynamic shared memory
  int arch = 900;             // 750, 800, 900: an instruction of a newer one is an error
  Order order = Order::kGreedy;
  Landing landing = Landing::kLate;
  uint64_t seed = 1;
  bool races = true;           // the detector; off, kernels run up to twice as fast
  bool banks = false;          // count the conflicts of plain shared accesses too
  int registers_at_entry = 0;  // a thread's, for setmaxnreg's budget; 0: the budget is not checked
};

struct Stats {
  // Matrix instructions count once a warp or warpgroup, the others once a thread.
  uint64_t mma = 0, wgmma = 0, barriers = 0, async_copies = 0, bulk_copies = 0;
  // Shared accesses of a warp: passes over the banks that they take, and the fewest possible.
  uint64_t ldmatrix_passes = 0, ldmatrix_ideal = 0;
  uint64_t shared_passes = 0, shared_ideal = 0;  // only with Config::banks
};

// Runs `kernel` once per thread of each block, blocks one after another. Throws Error.
Stats Launch(const Config& config, Memory& memory, const std::function<void()>& kernel);
// The same without beginning and ending `memory`: one of several kernels that share it.
Stats RunGrid(const Config& config, Memory& memory, const std::function<void()>& kernel);

// The three schedules that every kernel is tested under.
std::vector<Config> Schedules(const Config& base, uint64_t seed);

}  // namespace emu
