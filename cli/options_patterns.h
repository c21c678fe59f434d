// cli/options_patterns.h: patterns of masks, block maps and lengths as texts. Not here: the arrays
// (bench/arrays.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/patterns.h"
#include "heed/problem.h"

namespace heed::cli {

// These throw what CLI11 reports as wrong usage, naming the option.

/// "random:0.7", "blocks:64:0.25", "causal", each for all heads and entries or behind a shape as in
/// "1,H,S,S:random:0.7"; or a shape alone.
void ParseMask(const std::string& text, Broadcast* mask, bench::Patterns* patterns);

/// "64x128:0.5": blocks of 64 queries and 128 keys, each kept with that chance; or a shape alone.
void ParseBlockMap(const std::string& text, Problem* problem, bench::Patterns* patterns);

/// "128,256", "64x256" (256 times 64), "128-2048:16" (16 lengths evenly from 128 to 2048, in an
/// order that looks random and is always the same), and lists of all of these.
std::vector<std::int64_t> ParseLengths(const char* option, const std::string& text);

}  // namespace heed::cli
