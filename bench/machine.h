// bench/machine.h: facts about this machine that a measurement is quoted with. Not here: speeds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace heed::bench {

struct Machine {
  std::string cpu;     ///< model name
  int processors = 0;  ///< online, whatever this process may use
  std::int64_t l1d_bytes = 0, l2_bytes = 0, l3_bytes = 0;  ///< 0 = unknown
  std::int64_t memory_bytes = 0;
  std::vector<std::string> features;  ///< those that heed cares for and the processor has
  std::vector<std::string> missing;   ///< those that it would use if they were there
};

Machine ThisMachine();

/// Memory that can be taken now without swapping, 0 if unknown.
std::int64_t AvailableMemory();

/// Compiler and build type that this program was made with.
std::string Compiler();
std::string BuildType();

/// Seconds on a clock that never goes back.
double Now();

/// Seconds that the calling thread was given a processor.
double ProcessorTime();

}  // namespace heed::bench
