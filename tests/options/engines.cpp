// engines.cpp: the engines that the tests of options run on: the cpu engine's instruction sets and the
// reference. A file of its own, so that the same tests can be linked with another list
// (tests/cuda/cuda_engines.cpp).
#include "options_testing.h"

namespace heed::testing_options {

std::vector<Engine> Isas() {
  std::vector<Engine> engines;
  for (const BackendInfo& backend : Backends()) {
    if (backend.name != "cpu") continue;
    for (const IsaInfo& isa : backend.isas) {
      if (isa.usable) engines.push_back({"cpu", isa.name});
    }
  }
  return engines;
}

std::vector<Engine> Engines() {
  std::vector<Engine> engines = Isas();
  engines.insert(engines.begin(), {"reference", "auto"});
  return engines;
}

}  // namespace heed::testing_options
