// options_testing.h: every engine of this build, one guarded run on one of them, and the judgement of
// its results. Not here: which cases.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "cases.h"
#include "heed/heed.h"
#include "verify/guarded.h"
#include "verify/plain.h"

namespace heed::cases {

// What googletest prints of a case instead of its bytes.
inline void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

}  // namespace heed::cases

namespace heed::testing_options {

struct Engine {
  std::string backend, isa;
  std::string name() const { return isa == "auto" ? backend : isa; }
};

inline void PrintTo(const Engine& e, std::ostream* out) { *out << e.name(); }

/// The reference, and the cpu engine on every instruction set that this machine can run.
std::vector<Engine> Engines();

/// The same, of the cpu engine alone.
std::vector<Engine> Isas();

/// The problem with every default filled in.
Problem NormalOf(const Problem& problem);

/// Results of one run, each in guarded memory; those that were not asked for are empty.
struct Output {
  Status status;
  Problem problem;  ///< normal
  verify::Guarded o, lse, probs, k_cache, v_cache;

  std::vector<double> O() const { return o.Values().values; }
  std::vector<double> Lse() const { return lse.Values().values; }
  std::vector<double> Probs() const { return probs.Values().values; }
};

/// Runs with copies of the caches, and expects that the engine serves the problem, that it is the one
/// that ran, and that nothing beside the outputs changed.
Output RunOn(const Engine& engine, const Problem& problem, Buffers buffers, int threads = 2);

inline Output RunOn(const Engine& engine, const cases::Sample& sample, int threads = 2) {
  return RunOn(engine, sample.problem, sample.Inputs(), threads);
}

/// The same where an error is expected: also that no output changed.
Status RunRefused(const Engine& engine, const Problem& problem, Buffers buffers);

struct Expected {
  verify::Results truth, bounds;
};
Expected ExpectedOf(const Problem& problem, const Buffers& inputs);

/// A case's numbers and what they give: made once for engines that take the case one after the other.
struct Known {
  cases::Sample sample;
  Expected expected;
};
const Known& KnownOf(const cases::Case& c);

/// Every result within its bound.
void ExpectWithin(const Expected& expected, const Output& output, const std::string& what);

/// Equal bits, but that NaN equals NaN.
void ExpectSameBits(const std::vector<double>& a, const std::vector<double>& b,
                    const std::string& what);

/// Every result of two runs has the same bits.
void ExpectSame(const Output& a, const Output& b, const std::string& what);

/// Entry b of a batch as a call of its own, by moving pointers: of ragged batches (the longest lengths
/// are then its own) and caches, too. Outputs are not set. (Dropout depends on b: such an entry alone
/// is another problem.)
struct Alone {
  Problem problem;
  Buffers buffers;
  std::vector<std::int32_t> cu_q, cu_k;  ///< what buffers may point to
};
void MakeAlone(const cases::Sample& sample, std::int64_t b, Alone* alone);

}  // namespace heed::testing_options
