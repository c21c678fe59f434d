// keys.h: where the rows of K and V of one entry and kv head lie: evenly spaced, or in pages. Not
// here: copying them (packing.h), which of them are seen.
#pragma once

#include "cpu/entry.h"
#include "cpu/lanes/base.h"

namespace heed::cpu::HEED_ISA {

template <class E>
struct KeyRows {
  const E *k, *v;               // not paged: row 0; paged: page 0
  std::int64_t k_step, v_step;  // elements from row to row
  // Paged: row `first` + j of the entry is key j.
  const std::int32_t* table;  // null: not paged
  std::int64_t page_rows, k_page, v_page, first;

  static HEED_INLINE KeyRows Of(const ForwardCall& c, const Entry& e, std::int64_t kv_head) {
    KeyRows rows;
    rows.k_step = c.k_steps.row;
    rows.v_step = c.v_steps.row;
    rows.table = e.table;
    rows.page_rows = c.cache.page_rows;
    rows.k_page = c.k_steps.batch;
    rows.v_page = c.v_steps.batch;
    rows.first = e.key_row;
    // Tensors without elements may be null.
    rows.k = static_cast<const E*>(c.k);
    rows.v = static_cast<const E*>(c.v);
    if (rows.k) rows.k += Start(c.k_steps, e, kv_head);
    if (rows.v) rows.v += Start(c.v_steps, e, kv_head);
    return rows;
  }

  // Offset of row 0, or of page 0.
  static HEED_INLINE std::int64_t Start(const Steps& steps, const Entry& e, std::int64_t kv_head) {
    const std::int64_t head = kv_head * steps.head;
    return e.table ? head : head + e.key_batch * steps.batch + e.key_row * steps.row;
  }

  HEED_INLINE const E* K(std::int64_t j) const {
    if (!table) return k + j * k_step;
    const std::int64_t row = first + j;
    return k + table[row / page_rows] * k_page + row % page_rows * k_step;
  }
  HEED_INLINE const E* V(std::int64_t j) const {
    if (!table) return v + j * v_step;
    const std::int64_t row = first + j;
    return v + table[row / page_rows] * v_page + row % page_rows * v_step;
  }
  // How many rows from j on are evenly spaced.
  HEED_INLINE std::int64_t Run(std::int64_t j) const {
    return table ? page_rows - (first + j) % page_rows : INT64_MAX;
  }
};

}  // namespace heed::cpu::HEED_ISA
