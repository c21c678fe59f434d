// buffers_index.cpp: what the index arrays of a call may hold: cu_seqlens, lengths, slots, pages.
// Not here: whether the arrays are there (buffers.cpp).
#include <algorithm>
#include <cstdint>

#include "problem/buffers.h"
#include "problem/layout.h"
#include "problem/words.h"

namespace heed {
namespace {

template <class... Pieces>
Status Wrong(const Pieces&... pieces) {
  return {StatusCode::kBuffers, Words(pieces...)};
}

Status CheckCumulative(const char* name, const std::int32_t* cu, std::int64_t batch,
                       std::int64_t total, const char* total_name, std::int64_t longest,
                       const char* longest_name) {
  if (cu[0] != 0) return Wrong(name, "[0] is ", cu[0], ": it must be 0");
  for (std::int64_t b = 0; b < batch; b++) {
    const std::int64_t length = std::int64_t{cu[b + 1]} - cu[b];
    if (length < 0) {
      return Wrong(name, "[", b + 1, "] is ", cu[b + 1], " and ", name, "[", b, "] is ", cu[b],
                   ": the entries must not descend");
    }
    if (length > longest) {
      return Wrong("sequence ", b, " of ", name, " has length ", length, " and ", longest_name,
                   " is ", longest, ": no sequence may be longer");
    }
  }
  if (cu[batch] != total) {
    return Wrong(name, "[", batch, "] is ", cu[batch], " and ", total_name, " is ", total,
                 ": they must be equal");
  }
  return {};
}

Status CheckRagged(const Problem& p, const Buffers& b) {
  const Status q = CheckCumulative("cu_seqlens_q", b.cu_seqlens_q, p.batch, p.total_q, "total_q",
                                   p.q_len, "q_len");
  if (!q) return q;
  return CheckCumulative("cu_seqlens_k", b.cu_seqlens_k, p.batch, p.total_k, "total_k", p.k_len,
                         "k_len");
}

Status CheckKeyLengths(const Problem& p, const Buffers& buffers) {
  for (std::int64_t b = 0; b < p.batch; b++) {
    const std::int64_t there =
        p.ragged ? buffers.cu_seqlens_k[b + 1] - buffers.cu_seqlens_k[b] : p.k_len;
    const std::int64_t length = buffers.key_lengths[b];
    if (length < 0 || length > there) {
      return Wrong("key_lengths[", b, "] is ", length, ": it must be from 0 to ", there,
                   ", the keys of entry ", b);
    }
  }
  return {};
}

// ---------------------------------------------------------------- the cache

// Rows [first, last) of a slot or page that entry b appends to.
struct Part {
  std::int64_t page, first, last;
};

// The parts that the appends of all entries consist of, in order.
class Parts {
 public:
  Parts(const Problem& p, const Buffers& buffers) : p_(p), buffers_(buffers) { Settle(); }
  bool done() const { return b_ == p_.batch; }
  std::int64_t entry() const { return b_; }
  void Next() {
    row_ = (row_ / p_.cache.rows + 1) * p_.cache.rows;
    if (row_ >= buffers_.cache_seqlens[b_] + p_.cache.new_len) {
      b_++;
      Settle();
    }
  }
  Part Get() const {
    const Cache& c = p_.cache;
    const std::int64_t end = buffers_.cache_seqlens[b_] + c.new_len, block = row_ / c.rows;
    const std::int64_t page = c.blocks > 0  ? buffers_.block_table[b_ * c.blocks + block]
                              : c.batch_idx ? buffers_.cache_batch_idx[b_]
                                            : b_;
    const std::int64_t first = row_ - block * c.rows;
    return {page, first, std::min(c.rows, end - block * c.rows)};
  }

 private:
  void Settle() {
    if (!done()) row_ = buffers_.cache_seqlens[b_];
  }
  const Problem& p_;
  const Buffers& buffers_;
  std::int64_t b_ = 0, row_ = 0;
};

// Two entries that write one row. A bit per page hash tells most pages apart; only where two meet
// in a bit are the parts before looked through. So the cost stays near one step a part until there
// are thousands, without memory of its own.
Status CheckWritesApart(const Problem& p, const Buffers& buffers) {
  constexpr std::uint64_t kBits = 1 << 15;
  std::uint64_t seen[kBits / 64] = {};
  std::int64_t n = 0;
  for (Parts now(p, buffers); !now.done(); now.Next(), n++) {
    const Part part = now.Get();
    const std::uint64_t hash =
        static_cast<std::uint64_t>(part.page) * 0x9E3779B97F4A7C15u >> 49;  // golden ratio; 15 bits
    const std::uint64_t bit = std::uint64_t{1} << (hash % 64);
    const bool met = (seen[hash / 64] & bit) != 0;
    seen[hash / 64] |= bit;
    if (!met) continue;
    Parts before(p, buffers);
    for (std::int64_t m = 0; m < n; m++, before.Next()) {
      const Part other = before.Get();
      if (other.page != part.page || other.first >= part.last || part.first >= other.last) continue;
      return Wrong("entries ", before.entry(), " and ", now.entry(), " would both write row ",
                   std::max(other.first, part.first), " of ",
                   p.cache.blocks > 0 ? "page " : "slot ", part.page,
                   ": every appended row must be one entry's own");
    }
  }
  return {};
}

// Pages of the rows [first, last) of entry b.
Status CheckPages(const Cache& c, const Buffers& buffers, std::int64_t b, std::int64_t first,
                  std::int64_t last) {
  for (std::int64_t block = first / c.rows; block * c.rows < last; block++) {
    const std::int64_t page = buffers.block_table[b * c.blocks + block];
    if (page < 0 || page >= c.slots) {
      return Wrong("block_table[", b, "][", block, "] is ", page, " and entry ", b, " uses rows ",
                   first, " to ", last - 1, ": it must be from 0 to ", c.slots - 1,
                   ", the pages there are");
    }
  }
  return {};
}

Status CheckCacheLengths(const Problem& p, const Buffers& buffers) {
  const Cache& c = p.cache;
  for (std::int64_t b = 0; b < p.batch; b++) {
    const std::int64_t before = buffers.cache_seqlens[b], used = before + c.new_len;
    if (before < 0 || used > p.k_len) {
      return Wrong("cache_seqlens[", b, "] is ", before, " and cache.new_len is ", c.new_len,
                   ": the one must be 0 or more, and their sum at most ", p.k_len,
                   ", the rows of an entry");
    }
    const std::int64_t leftpad = c.leftpad ? buffers.cache_leftpad[b] : 0;
    if (leftpad < 0 || leftpad > used) {
      return Wrong("cache_leftpad[", b, "] is ", leftpad, ": it must be from 0 to ", used,
                   ", the rows in use after the append");
    }
  }
  return {};
}

// Slot or pages and the rotary positions of entry b, whose lengths are right.
Status CheckPlaces(const Problem& p, const Buffers& buffers, std::int64_t b) {
  const Cache& c = p.cache;
  const std::int64_t before = buffers.cache_seqlens[b], used = before + c.new_len;
  const std::int64_t leftpad = c.leftpad ? buffers.cache_leftpad[b] : 0;
  if (c.batch_idx && (buffers.cache_batch_idx[b] < 0 || buffers.cache_batch_idx[b] >= c.slots)) {
    return Wrong("cache_batch_idx[", b, "] is ", buffers.cache_batch_idx[b],
                 ": it must be from 0 to ", c.slots - 1, ", the slots there are");
  }
  if (c.rotary != Rotary::kNone) {
    // Queries stand behind one another where the mask depends on the position, else at one place.
    const bool moving = p.window_left >= 0 || p.window_right >= 0;
    const std::int64_t rows =
        std::max(c.new_len, moving ? p.q_len : std::min<std::int64_t>(p.q_len, 1));
    if (rows > 0 && before + rows > c.rotary_rows) {
      return Wrong("cache.rotary_rows is ", c.rotary_rows, " and entry ", b, " needs position ",
                   before + rows - 1, ": there must be at least ", before + rows, " rows");
    }
  }
  // Rows before the padding's end are neither read nor, unless new, written.
  return c.blocks > 0 ? CheckPages(c, buffers, b, std::min(leftpad, before), used) : Status();
}

Status CheckCache(const Problem& p, const Buffers& buffers) {
  for (std::int64_t b = 0; b < p.batch; b++) {
    Status status = CheckPlaces(p, buffers, b);
    if (!status) return status;
  }
  const bool may_meet = p.cache.blocks > 0 || p.cache.batch_idx;
  return may_meet && p.cache.new_len > 0 ? CheckWritesApart(p, buffers) : Status();
}

}  // namespace

Status CheckLengths(const Problem& problem, const Buffers& buffers) {
  if (problem.ragged) {
    Status status = CheckRagged(problem, buffers);
    if (!status) return status;
  }
  if (problem.key_lengths) {
    Status status = CheckKeyLengths(problem, buffers);
    if (!status) return status;
  }
  return problem.cache.given ? CheckCacheLengths(problem, buffers) : Status();
}

Status CheckIndexArrays(const Problem& problem, const Buffers& buffers) {
  Status status = CheckLengths(problem, buffers);
  return status && problem.cache.given ? CheckCache(problem, buffers) : status;
}

}  // namespace heed
