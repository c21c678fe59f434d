// bench/standard_rows.h: what the forward and the backward of standard attention share: rows on several
// threads, an element of any dtype. Not here: products.
#pragma once

#include <cstdint>

#include "bench/standard.h"
#include "bench/together.h"

namespace heed::bench {

/// Element i of a tensor.
double StandardValue(const void* data, DType dtype, std::int64_t i);

template <class F>
void Standard::EachRow(const F& work) const {
  const Problem& p = problem_;
  // Below this many scores a thread costs more than it saves.
  const int threads = p.q_len * p.k_len < (1 << 18) ? 1 : threads_;
  Together(threads, [&](int t) {
    const std::int64_t from = p.q_len * t / threads, to = p.q_len * (t + 1) / threads;
    work(from, to - from);
  });
}

}  // namespace heed::bench
