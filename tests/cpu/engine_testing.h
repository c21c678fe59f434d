// engine_testing.h: the guarded run of options_testing.h, on one instruction set of the cpu engine.
// Not here: any check of values.
#pragma once

#include <string>
#include <vector>

#include "options/options_testing.h"

namespace heed::testing_cpu {

using testing_options::ExpectSameBits;
using testing_options::Output;

inline std::vector<std::string> UsableIsas() {
  std::vector<std::string> isas;
  for (const testing_options::Engine& engine : testing_options::Isas()) isas.push_back(engine.isa);
  return isas;
}

inline Output RunOn(const std::string& isa, const Problem& problem, Buffers buffers,
                    int threads = 1) {
  return testing_options::RunOn({"cpu", isa}, problem, buffers, threads);
}

inline Output RunOn(const std::string& isa, const cases::Sample& sample, int threads = 1) {
  return RunOn(isa, sample.problem, sample.Inputs(), threads);
}

}  // namespace heed::testing_cpu
