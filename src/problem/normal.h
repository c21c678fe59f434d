// normal.h: a Problem with every default filled in, and the Visibility of one of its sequences. Not
// here: rules (validate.h).
#pragma once

#include "heed/problem.h"
#include "problem/visibility.h"

namespace heed {

// Fills in, of a problem that Validate passed: k_heads, dim_v, scale, out_dtype, window_right = 0
// where causal, k_len where there is a cache (its capacity per entry), and every stride (0 on axes
// of size 1; those of tensors that are not used, too). Ragged tensors get batch stride 0.
// Normalize(Normalize(p)) == Normalize(p).
Problem Normalize(const Problem& problem);

// Of a normal problem: the rule of one sequence with sq queries and sk keys. query_offset is that
// entry's, used with kOffset only.
Visibility VisibilityOf(const Problem& problem, std::int64_t sq, std::int64_t sk,
                        std::int64_t query_offset);

}  // namespace heed
