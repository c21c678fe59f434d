// decode_items.h: the items of a split that the decode kernel serves: from a call to its pieces. Not
// here: the kernel (decode.h), joining (pieces.h).
#pragma once

#include "cpu/decode.h"
#include "cpu/rotary.h"

namespace heed::cpu::HEED_ISA {

// A thread's workspace: the kernel's, and the rotated queries behind it.
template <class F>
std::int64_t DecodeItemsWorkspace(const WorkShape& s) {
  const std::int64_t rotated = s.rotary ? std::int64_t{s.few_rows} * s.few_heads * s.dim : 0;
  return DecodeWorkspace<F>(s.dim, s.dim_v, s.few_rows, s.few_heads) +
         (rotated * static_cast<std::int64_t>(sizeof(typename F::E)) + 63) / 64 * 64;
}

template <class F>
class DecodeItems {
  using E = typename F::E;

 public:
  DecodeItems(const ForwardCall& call, void* workspace) : c_(call), workspace_(workspace) {
    rotated_ =
        reinterpret_cast<E*>(static_cast<char*>(workspace) +
                             DecodeWorkspace<F>(c_.dim, c_.dim_v, static_cast<int>(c_.split.rows),
                                                HeadsAtOnce(c_.split)));
    a_.dim = c_.dim;
    a_.dim_v = c_.dim_v;
    a_.rows = static_cast<int>(c_.split.rows);
    a_.k_head = c_.k_steps.head;
    a_.v_head = c_.v_steps.head;
    a_.q = q_;
    a_.row_first = first_;
    a_.row_last = last_;
    a_.positions = positions_;
    a_.terms = c_.terms;
    // What lies in a cache anyway is not asked for: that costs 8 % there.
    constexpr std::int64_t kCacheBytes = 4 << 20;
    a_.cached = c_.dense.batch * c_.split.heads * c_.k_len * (c_.dim + c_.dim_v) *
                    static_cast<std::int64_t>(sizeof(E)) <=
                kCacheBytes;
  }

  void Items(std::int64_t first, std::int64_t last) {
    while (first < last) {
      const SplitItem item = c_.split.At(first);
      // Neighbours that are heads of one piece.
      std::int64_t heads = 1;
      while (c_.split.interleaved && heads < kDecodeHeads && first + heads < last &&
             item.h + heads < c_.split.heads)
        heads++;
      Piece(item, first, static_cast<int>(heads));
      first += heads;
    }
  }

 private:
  void Piece(const SplitItem& item, std::int64_t number, int heads) {
    const Entry e = EntryOf(c_, item.b);
    const Interval piece = PieceOf(c_.split, e.sees.sk, item.piece);
    a_.heads = heads;
    a_.keys = KeyRows<E>::Of(c_, e, item.h);
    a_.first = piece.first;
    a_.last = piece.last;
    a_.end = e.sees.sk;
    a_.prefix = PrefixKeys(e.sees).last;
    a_.slopes = c_.slopes ? slopes_ : nullptr;
    a_.sinks = c_.sinks && item.piece == 0 ? sinks_ : nullptr;
    for (int r = 0; r < a_.rows; r++) {
      const std::int64_t query = r / c_.group;
      const Interval keys = Band(e.sees, query);
      first_[r] = keys.first;
      last_[r] = keys.last;
      positions_[r] = query + e.sees.shift;
    }
    for (int k = 0; k < heads; k++) {
      a_.parts[k] = Partial::At(c_.split, number + k);
      for (int r = 0; r < a_.rows; r++) Row(e, item, k, r);
    }
    DecodePiece<F>(a_, workspace_);
  }

  void Row(const Entry& e, const SplitItem& item, int k, int r) {
    const std::int64_t query = r / c_.group, h = (item.h + k) * c_.group + r % c_.group;
    const int at = k * a_.rows + r;
    q_[at] =
        QueryRow<F>(c_, e, item.b, h, query, rotated_ + static_cast<std::int64_t>(at) * c_.dim);
    if (a_.slopes) slopes_[at] = c_.slopes[item.b * c_.slopes_batch + h];
    if (a_.sinks) sinks_[at] = FoldExp2<ScalarLanes<float>>(c_.sinks[h]);
  }

  const ForwardCall& c_;
  void* workspace_;
  E* rotated_;
  DecodeArgs<E> a_;
  const E* q_[kDecodeHeads * kDecodeRows];
  std::int64_t first_[kDecodeRows], last_[kDecodeRows], positions_[kDecodeRows];
  float slopes_[kDecodeHeads * kDecodeRows], sinks_[kDecodeHeads * kDecodeRows];
};

}  // namespace heed::cpu::HEED_ISA
