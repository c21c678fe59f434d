// entry.h: one entry of the batch as the kernels see it: its lengths, its rule of who sees whom,
// where its rows lie. Integers only. Not here: lanes, scores; whether the arrays are right
// (problem/buffers_index.cpp checked them).
#pragma once

#include "cpu/kernels.h"

namespace heed::cpu {

struct Entry {
  Visibility sees;           // of this entry alone
  std::int64_t q_row = 0;    // its first row in q, o and lse
  std::int64_t q_batch = 0;  // its index along their batch axis
  // Where its keys lie. Not paged: row key_row of slot key_batch is key 0. Paged: row r of the
  // entry is row r % page_rows of page table[r / page_rows], and key 0 is row key_row.
  std::int64_t key_batch = 0, key_row = 0;
  const std::int32_t* table = nullptr;
};

HEED_HD Entry EntryOf(const ForwardCall& c, std::int64_t b) {
  Entry e;
  std::int64_t sq = c.q_len, sk = c.k_len;
  e.q_batch = e.key_batch = b;
  if (c.cu_seqlens_q) {
    e.q_batch = e.key_batch = 0;
    e.q_row = c.cu_seqlens_q[b];
    e.key_row = c.cu_seqlens_k[b];
    sq = c.cu_seqlens_q[b + 1] - e.q_row;
    sk = c.cu_seqlens_k[b + 1] - e.key_row;
  }
  if (c.cache.seqlens) {
    if (c.cache.leftpad) e.key_row = c.cache.leftpad[b];
    if (c.cache.batch_idx) e.key_batch = c.cache.batch_idx[b];
    if (c.cache.table) e.table = c.cache.table + b * c.cache.blocks;
    sk = c.cache.seqlens[b] + c.cache.new_len - e.key_row;
  }
  if (c.key_lengths) sk = c.key_lengths[b];
  e.sees = c.rule;
  e.sees.sq = sq;
  e.sees.sk = sk;
  e.sees.shift = c.query_offsets ? c.query_offsets[b] : c.bottom_right ? sk - sq : c.rule.shift;
  return e;
}

// Where query i of head h lies, in elements: its row of q or of o, and its place in lse.
HEED_HD std::int64_t QueryAt(const Steps& steps, const Entry& e, std::int64_t h, std::int64_t i) {
  return e.q_batch * steps.batch + (e.q_row + i) * steps.row + h * steps.head;
}
HEED_HD std::int64_t LseAt(const ForwardCall& c, const Entry& e, std::int64_t b, std::int64_t h,
                           std::int64_t i) {
  return b * c.lse_batch + h * c.lse_head + e.q_row + i;
}

}  // namespace heed::cpu
