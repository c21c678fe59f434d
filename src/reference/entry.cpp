// entry.cpp: lengths and places of one batch entry. Not here: scores, sums.
#include "reference/entry.h"

namespace heed::reference {

Entry::Entry(const Problem& p, const Buffers& buf, std::int64_t batch_entry)
    : problem(p), buffers(buf), b(batch_entry) {
  if (p.ragged) {
    first_q = buf.cu_seqlens_q[b];
    first_k = buf.cu_seqlens_k[b];
    rows_q = buf.cu_seqlens_q[b + 1] - first_q;
    rows_k = buf.cu_seqlens_k[b + 1] - first_k;
  } else if (p.cache.given) {
    first_k = p.cache.leftpad ? buf.cache_leftpad[b] : 0;
    rows_q = p.q_len;
    rows_k = buf.cache_seqlens[b] + p.cache.new_len - first_k;
  } else {
    rows_q = p.q_len;
    rows_k = p.k_len;
  }
  sees.sq = rows_q;
  sees.sk = p.key_lengths ? buf.key_lengths[b] : rows_k;
  switch (p.align) {
    case Align::kBottomRight:
      sees.shift = sees.sk - sees.sq;
      break;
    case Align::kTopLeft:
      sees.shift = 0;
      break;
    case Align::kOffset:
      sees.shift = p.query_offsets ? buf.query_offsets[b] : *p.query_offset;
      break;
  }
  sees.left = p.window_left;
  sees.right = p.causal ? 0 : p.window_right;
  sees.prefix = p.prefix;
  sees.chunk = p.chunk;
}

Place Entry::QueryAt(std::int64_t i) const {
  return problem.ragged ? Place{0, first_q + i} : Place{b, i};
}

Place Entry::KeyAt(std::int64_t j) const {
  if (problem.cache.given) return CacheRow(problem, buffers, b, first_k + j);
  return problem.ragged ? Place{0, first_k + j} : Place{b, j};
}

std::int64_t Entry::LseAt(std::int64_t h, std::int64_t i) const {
  return problem.ragged ? h * problem.total_q + first_q + i
                        : (b * problem.q_heads + h) * problem.q_len + i;
}

bool Entry::Visible(std::int64_t h, std::int64_t i, std::int64_t j) const {
  const Problem& p = problem;
  if (!Sees(sees, i, j)) return false;
  if (p.mask.given && !buffers.mask[IndexOf(p.mask, b, h, i, j)]) return false;
  return !p.block_map.given ||
         buffers.block_map[IndexOf(p.block_map, b, h, i / p.block_rows, j / p.block_cols)];
}

Place CacheRow(const Problem& p, const Buffers& buffers, std::int64_t b, std::int64_t row) {
  const Cache& cache = p.cache;
  if (cache.blocks > 0) {
    return {buffers.block_table[b * cache.blocks + row / cache.rows], row % cache.rows};
  }
  return {cache.batch_idx ? buffers.cache_batch_idx[b] : b, row};
}

std::int64_t IndexOf(const Broadcast& t, std::int64_t b, std::int64_t h, std::int64_t i,
                     std::int64_t j) {
  return b * t.stride_batch + h * t.stride_head + i * t.stride_row + j * t.stride_col;
}

std::int64_t PackedIndexOf(const Broadcast& t, std::int64_t b, std::int64_t h, std::int64_t i,
                           std::int64_t j) {
  if (t.batch == 1) b = 0;
  if (t.heads == 1) h = 0;
  if (t.rows == 1) i = 0;
  if (t.cols == 1) j = 0;
  return ((b * t.heads + h) * t.rows + i) * t.cols + j;
}

}  // namespace heed::reference
