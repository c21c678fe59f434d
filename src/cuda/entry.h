// entry.h: one entry of the batch as the kernels see it: its lengths, its rule of who sees whom,
// where its rows lie. Index arrays live on the device, where nobody checked them: whatever they hold
// is brought into the range that is ours to touch. Not here: tiles, scores.
#pragma once

#include "cuda/call.h"
#include "cuda/ptx/ptx.h"

namespace heed::cuda {

struct Entry {
  Visibility sees;           // of this entry alone
  std::int64_t q_row = 0;    // its first row in q, o and lse
  std::int64_t q_batch = 0;  // its index along their batch axis
  // Where its keys lie. Not paged: row key_row of slot key_batch is key 0. Paged: row r of the entry
  // is row r % cache.rows of page table[r / cache.rows], and key 0 is row key_row.
  std::int64_t key_batch = 0, key_row = 0;
  const std::int32_t* table = nullptr;
  // Rows of keys that lie in its tensors, whether they exist or not: gradients of the latter are 0.
  std::int64_t capacity = 0;
};

HEED_DEVICE std::int64_t Within(const std::int32_t* array, std::int64_t at, std::int64_t low,
                                std::int64_t high) {
  return Clamp(ptx::LoadReadOnly(array + at), low, Max(low, high));
}

// Rows of entry b that the cache held before this call.
HEED_DEVICE std::int64_t CacheLength(const ForwardCall& c, std::int64_t b) {
  return Within(c.cache.seqlens, b, 0, c.k_len - c.cache.new_len);
}

HEED_DEVICE Entry EntryOf(const ForwardCall& c, std::int64_t b) {
  Entry e;
  std::int64_t sq = c.q_len, sk = c.k_len;
  e.q_batch = e.key_batch = b;
  if (c.cu_seqlens_q) {
    e.q_batch = e.key_batch = 0;
    e.q_row = Within(c.cu_seqlens_q, b, 0, c.total_q);
    e.key_row = Within(c.cu_seqlens_k, b, 0, c.total_k);
    sq = Min(Within(c.cu_seqlens_q, b + 1, e.q_row, c.total_q) - e.q_row, c.q_len);
    sk = Min(Within(c.cu_seqlens_k, b + 1, e.key_row, c.total_k) - e.key_row, c.k_len);
  }
  if (c.cache.seqlens) {
    const std::int64_t filled = CacheLength(c, b) + c.cache.new_len;
    if (c.cache.leftpad) e.key_row = Within(c.cache.leftpad, b, 0, filled);
    if (c.cache.batch_idx) e.key_batch = Within(c.cache.batch_idx, b, 0, c.cache.slots - 1);
    if (c.cache.table) e.table = c.cache.table + b * c.cache.blocks;
    sk = filled - e.key_row;
  }
  e.capacity = sk;
  if (c.key_lengths) sk = Within(c.key_lengths, b, 0, sk);
  e.sees = c.rule;
  e.sees.sq = sq;
  e.sees.sk = sk;
  e.sees.shift = c.query_offsets  ? std::int64_t{ptx::LoadReadOnly(c.query_offsets + b)}
                 : c.bottom_right ? sk - sq
                                  : c.rule.shift;
  return e;
}

// Elements from the start of `steps`' tensor to query i of head h: of q or o.
HEED_DEVICE std::int64_t QueryAt(const Steps& steps, const Entry& e, std::int64_t h,
                                 std::int64_t i) {
  return e.q_batch * steps.batch + (e.q_row + i) * steps.row + h * steps.head;
}
HEED_DEVICE std::int64_t LseAt(const ForwardCall& c, const Entry& e, std::int64_t b, std::int64_t h,
                               std::int64_t i) {
  return b * c.lse_batch + h * c.lse_head + e.q_row + i;
}
// Elements from an entry's first row of a kv head to its row `row`: of k or v. With a table the rows
// are spread over pages.
HEED_DEVICE std::int64_t RowOf(const CacheArrays& cache, const std::int32_t* table,
                               const Steps& steps, int row) {
  if (!table) return row * steps.row;
  const std::int32_t block = row / cache.rows;
  const std::int64_t page = Within(table, block, 0, cache.slots - 1);
  return page * steps.batch + (row - block * cache.rows) * steps.row;
}
// Elements to key j of kv head h.
HEED_DEVICE std::int64_t KeyAt(const ForwardCall& c, const Steps& steps, const Entry& e,
                               std::int64_t h, std::int64_t j) {
  return (e.table ? 0 : e.key_batch * steps.batch) + h * steps.head +
         RowOf(c.cache, e.table, steps, int(e.key_row + j));
}

}  // namespace heed::cuda
