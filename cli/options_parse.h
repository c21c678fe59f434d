// cli/options_parse.h: texts of the command line as values of the vocabulary. Not here: which
// options there are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "heed/problem.h"

namespace heed::cli {

std::optional<DType> DTypeNamed(const std::string& name);
std::optional<Align> AlignNamed(const std::string& name);  ///< "top-left" and "top_left" alike
const char* Name(Op op);
const char* Name(Align align);

/// Every integer of a text such as "127,0"; nullopt unless it is exactly `count` of them.
std::optional<std::vector<std::int64_t>> Integers(const std::string& text, std::size_t count);

// These throw what CLI11 reports as wrong usage, naming the option.
[[noreturn]] void Reject(const char* option, const std::string& text, const std::string& wanted);
[[noreturn]] void Contradict(const char* option, const std::string& sentence);
DType ParseDType(const char* option, const std::string& text);
std::vector<std::int64_t> ParseIntegers(const char* option, const std::string& text,
                                        std::size_t count, const char* wanted);
/// Four sizes; a letter (as in 1,H,S,S) is the whole axis, kWholeAxis until the sizes are known.
inline constexpr std::int64_t kWholeAxis = INT64_MIN + 1;
Broadcast ParseBroadcast(const char* option, const std::string& text);

}  // namespace heed::cli
