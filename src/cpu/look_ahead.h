// look_ahead.h: which lines come next in the walk of the forward, and when they are asked for. Not
// here: asking (ahead.h), the walk (forward.h).
#pragma once

#include "cpu/ahead.h"
#include "cpu/keys.h"
#include "cpu/rows.h"

namespace heed::cpu::HEED_ISA {

template <class E>
class LookAhead {
  static constexpr std::int64_t kBytes = sizeof(E);

 public:
  explicit LookAhead(const ForwardCall& call) : c_(call) {}

  // The group that is walked, and the item behind it.
  struct Here {
    std::int64_t b, head, row;  // entry, query head, first query: where its mask lies
    const Entry* entry;
    const KeyRows<E>* keys;
    int tiles;
    std::int64_t next;
    std::int64_t columns;  // score tiles of this block that somebody sees, over all query tiles
  };

  // Chooses what is asked for while the block of keys at k0 is computed: the next block before
  // `last` or, behind the last one, the queries and the first block of what comes next.
  void Aim(const Here& here, std::int64_t k0, std::int64_t last) {
    ahead_.Clear();
    mask_lines_ = 0;
    if (here.keys->table) return;
    const Visibility& sees = here.entry->sees;
    const bool split = c_.split.pieces > 0;
    // Keys and values that were walked before and take half the L2 at most are still there.
    const bool warm = sees.sk * (c_.dim + c_.dim_v) * kBytes <= 1 << 19;
    if (split) last = sees.sk;  // the next piece of these keys is next
    const std::int64_t k1 = k0 + c_.blocks.keys;
    if (k1 < last) {
      Mask(here.b, here.head, here.row, k1, sees, here.tiles * kRows);
      if (!(warm && here.keys->k == walked_)) Keys(*here.keys, k1, last);
    } else if (here.next < c_.items()) {
      Behind(here, warm);
    }
    stride_ = split ? 1 : 64 / kKeys;
    // All of the mask within the tiles that are computed; keys and values in proportion to them.
    const std::int64_t steps = heed::Max(here.columns / stride_, 1),
                       looks = here.tiles * heed::Max(c_.blocks.keys / (stride_ * kKeys), 1);
    // Where little is computed, most of them would be asked for in vain, in its way (10 % of a block
    // map kept, bf16: 1 point).
    touch_ = CeilDiv(mask_lines_, steps);
    if (steps * 4 >= looks) touch_ += CeilDiv(ahead_.lines() - mask_lines_, looks);
    if (here.columns == 0) ahead_.Touch(mask_lines_);
  }

  // Asks for a part; returns how many of `whole` score tiles may pass before the next part. Few rows
  // need their keys sooner: they take one.
  HEED_INLINE int Step(int whole) {
    if (touch_ == 0) return whole;
    ahead_.Touch(touch_);
    return whole < stride_ ? whole : stride_;
  }

  void Walked(const E* k) { walked_ = k; }

 private:
  void Behind(const Here& here, bool warm) {
    std::int64_t b, h, row = 0;
    if (c_.split.pieces > 0) {
      const SplitItem item = c_.split.At(here.next);
      b = item.b;
      h = item.h;
    } else {
      const Item item = c_.At(here.next);
      if (item.rows.empty()) return;
      b = item.b;
      h = item.h;
      row = c_.packed ? 0 : item.rows.first;
    }
    const Entry e = EntryOf(c_, b);
    const KeyRows<E> keys = KeyRows<E>::Of(c_, e, c_.packed ? h : h / c_.group);
    const std::int64_t first = Band(e.sees, row).first;
    Mask(b, h, row, first, e.sees, c_.blocks.tiles * kRows);
    if (!c_.packed && c_.split.pieces == 0) {
      const std::int64_t rows = heed::Min(e.sees.sq - row, c_.blocks.tiles * kRows);
      ahead_.Add(static_cast<const E*>(c_.q) + QueryAt(c_.q_steps, e, h, row), rows,
                 c_.q_steps.row * kBytes, c_.dim * kBytes);
    }
    if (!(warm && keys.k == here.keys->k)) Keys(keys, first, e.sees.sk);
  }

  void Keys(const KeyRows<E>& keys, std::int64_t first, std::int64_t last) {
    const std::int64_t rows = heed::Min(last - first, c_.blocks.keys);
    if (rows <= 0) return;
    ahead_.Add(keys.K(first), rows, keys.k_step * kBytes, c_.dim * kBytes);
    if (keys.v != keys.k)  // values may be a part of the keys (MLA)
      ahead_.Add(keys.V(first), rows, keys.v_step * kBytes, c_.dim_v * kBytes);
  }

  // The mask's bytes come in many short rows, each a miss of its own where nobody asked before. Asking
  // tile by tile, one tile ahead, instead of block by block gains nothing.
  void Mask(std::int64_t b, std::int64_t h, std::int64_t row, std::int64_t key,
            const Visibility& sees, std::int64_t rows) {
    if (!c_.mask.data || c_.mask.col != 1 || c_.mask.row == 0 || c_.packed) return;
    if (!MostIsRead(b, h, row, heed::Min(rows, sees.sq - row), key)) return;
    const auto* const mask = static_cast<const std::uint8_t*>(c_.mask.data);
    ahead_.Add(mask + RowOf(c_.mask, b, h, row) + key, heed::Min(rows, sees.sq - row), c_.mask.row,
               heed::Min(c_.blocks.keys, sees.sk - key));
    mask_lines_ = ahead_.lines();
  }

  // Whether the mask is mostly of the kind that must be read; where it is not, the tile that needs
  // some of it asks itself.
  bool MostIsRead(std::int64_t b, std::int64_t h, std::int64_t row, std::int64_t rows,
                  std::int64_t key) const {
    if (!c_.kinds.words) return true;
    int mixed = 0, known = 0;
    const std::int64_t last = heed::Min(CeilDiv(key + c_.blocks.keys, 64), c_.kinds.groups);
    for (std::int64_t i = row; i < row + rows; i += kRows) {
      const std::uint16_t* const words = c_.kinds.words + c_.kinds.At(b, h, i / kRows);
      for (std::int64_t group = key / 64; group < last; group++)
        (words[group] & 0x5555 ? mixed : known)++;
    }
    return mixed > known;
  }

  const ForwardCall& c_;
  Ahead ahead_;
  std::int64_t mask_lines_ = 0;  // they are asked for first
  std::int64_t touch_ = 0;       // lines a step
  int stride_ = 1;               // score tiles between two steps
  const E* walked_ = nullptr;    // keys of the group before
};

}  // namespace heed::cpu::HEED_ISA
