// entry.h: one entry of the batch: its lengths, where its rows lie in the tensors, and which pairs
// see each other. Not here: scores, sums.
#pragma once

#include <cstdint>

#include "heed/heed.h"
#include "problem/visibility.h"
#include "reference/tensor.h"

namespace heed::reference {

struct Entry {
  const Problem& problem;
  const Buffers& buffers;
  std::int64_t b;
  std::int64_t rows_q = 0, rows_k = 0;    // the tensors' rows that belong to this entry
  std::int64_t first_q = 0, first_k = 0;  // the first of them
  Visibility sees;  // its sq, sk: how many queries and keys there are (sk <= rows_k)

  Entry(const Problem& p, const Buffers& buf, std::int64_t batch_entry);

  std::int64_t sq() const { return sees.sq; }
  std::int64_t sk() const { return sees.sk; }

  // Rows of q, o and their gradients; of k, v or the cache, and their gradients.
  Place QueryAt(std::int64_t i) const;
  Place KeyAt(std::int64_t j) const;
  // Index into lse and dlse.
  std::int64_t LseAt(std::int64_t h, std::int64_t i) const;

  // Whether query i reads key j: Sees, the mask and the block map.
  bool Visible(std::int64_t h, std::int64_t i, std::int64_t j) const;
};

// Where row `row` of entry b lies in the cache, counted from the first row of its slot.
Place CacheRow(const Problem& p, const Buffers& buffers, std::int64_t b, std::int64_t row);

// Index of element (b, h, i, j) of a tensor that is repeated along its axes of size 1: by its
// strides, and as if it lay contiguous.
std::int64_t IndexOf(const Broadcast& t, std::int64_t b, std::int64_t h, std::int64_t i,
                     std::int64_t j);
std::int64_t PackedIndexOf(const Broadcast& t, std::int64_t b, std::int64_t h, std::int64_t i,
                           std::int64_t j);

}  // namespace heed::reference
