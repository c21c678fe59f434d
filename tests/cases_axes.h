// cases_axes.h: the options of a call as axes with named values, which of them exclude each other,
// and a covering array of their pairs. Not here: numbers and memory (cases.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cases.h"

namespace heed::cases {

/// Value 0 of an axis is "not used", or the simplest.
enum AxisId : std::uint8_t {
  kDType,
  kBatch,
  kHeads,
  kLengths,  ///< Sq x Sk
  kWidths,   ///< D x Dv
  kCausal,
  kWindow,
  kAlign,
  kPrefix,
  kChunk,
  kScale,
  kSoftcap,
  kAlibi,
  kBias,
  kBiasType,
  kMask,
  kBlockMap,
  kSpread,  ///< how bias, mask and block map lie in memory
  kSinks,
  kDropout,
  kKeyLengths,
  kRagged,
  kCache,
  kAppend,
  kBatchIdx,
  kLeftPad,
  kRotary,
  kResults,
  kOutType,
  kPlacement,
  kData,
  kAxisCount,
};

struct Axis {
  const char* name;
  std::vector<const char*> values;
};
const std::vector<Axis>& Axes();

/// The number of a value for every axis.
using Choice = std::vector<int>;

/// Value `a` of one axis and value `b` of another, and words of the sentence that Validate has for
/// them.
struct Exclusion {
  AxisId first;
  std::vector<int> a;
  AxisId second;
  std::vector<int> b;
  const char* says;
};
const std::vector<Exclusion>& Exclusions();

/// Whether two values may stand together, as far as the exclusions of these two axes go.
bool Together(int first, int a, int second, int b);
/// Whether no two values of the choice exclude each other.
bool Allowed(const Choice& choice);

/// The problem that a choice describes, with strides; valid where the choice is allowed.
Case CaseOf(const Choice& choice, Scale scale, std::uint64_t seed);

/// A few values that are not 0, whatever `seed` says; sizes and dtype vary freely. Allowed.
Choice SparseChoice(std::uint64_t seed);

/// Choices in which every pair of values that can stand together does so once at least. Built one
/// after the other, each around a pair that is still missing; the same on every machine.
std::vector<Choice> PairwiseChoices();

}  // namespace heed::cases
