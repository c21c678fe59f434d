// bench/arrays.cpp: masks and maps by chance, lengths in a row, pages in random order. Not here:
// tensors of numbers (inputs.cpp).
#include "bench/arrays.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <numeric>
#include <string>

#include "bench/machine.h"
#include "bench/random.h"

namespace heed::bench {
namespace {

std::int32_t Int(std::int64_t n) { return static_cast<std::int32_t>(n); }

// 0, 1, ..., n - 1 in random order.
std::vector<std::int32_t> Permutation(std::int64_t n, std::uint64_t seed) {
  std::vector<std::int32_t> all(static_cast<std::size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  Shuffle(&all, seed);
  return all;
}

// Flags of a row of `cols` pairs, `step` apart.
class RowPattern {
 public:
  RowPattern(const Patterns& patterns, std::uint64_t seed) : p_(patterns), seed_(seed) {}

  void Fill(std::int64_t head, std::int64_t i, std::int64_t shift, std::int64_t cols,
            std::int64_t step, std::uint8_t* row) {
    switch (p_.mask) {
      case Patterns::Mask::kCausal:
        for (std::int64_t j = 0; j < cols; ++j) row[j * step] = j <= i + shift ? 1 : 0;
        return;
      case Patterns::Mask::kBlocks: {
        // The same state for all rows of a block.
        std::uint64_t state = seed_ + static_cast<std::uint64_t>(head) * 0x632BE59BD9B4E019u +
                              static_cast<std::uint64_t>(i / p_.mask_block) * 0xD1342543DE82EF95u;
        bool visible = false;
        for (std::int64_t j = 0; j < cols; ++j) {
          if (j % p_.mask_block == 0) visible = Chance(p_.mask_share, &state);
          row[j * step] = visible ? 1 : 0;
        }
        return;
      }
      case Patterns::Mask::kNone:
      case Patterns::Mask::kRandom:
        for (std::int64_t j = 0; j < cols; ++j) {
          row[j * step] = Chance(p_.mask_share, &seed_) ? 1 : 0;
        }
    }
  }

 private:
  const Patterns& p_;
  std::uint64_t seed_;
};

}  // namespace

Extent ExtentOf(std::int64_t batch, std::int64_t rows, std::int64_t heads, std::int64_t width,
                const Strides& strides) {
  if (batch == 0 || rows == 0 || heads == 0 || width == 0) return {0, 0};
  Extent e{0, width};
  for (const std::int64_t reach :
       {(batch - 1) * strides.batch, (rows - 1) * strides.row, (heads - 1) * strides.head}) {
    e.elements += std::abs(reach);
    e.low += std::min<std::int64_t>(reach, 0);
  }
  return e;
}

Extent ExtentOf(const Broadcast& b) {
  Extent e{0, 1};
  const std::int64_t sizes[4] = {b.batch, b.heads, b.rows, b.cols};
  const std::int64_t strides[4] = {b.stride_batch, b.stride_head, b.stride_row, b.stride_col};
  for (int i = 0; i < 4; ++i) {
    if (sizes[i] == 0) return {0, 0};
    const std::int64_t reach = (sizes[i] - 1) * strides[i];
    e.elements += std::abs(reach);
    e.low += std::min<std::int64_t>(reach, 0);
  }
  return e;
}

Arrays::Ints* Arrays::Take(std::int64_t count) {
  // One more: an array without elements still needs an address.
  ints_.emplace_back(static_cast<std::size_t>(count) + 1);
  return &ints_.back();
}

std::int64_t Arrays::LengthOf(std::int64_t b, std::int64_t most) const {
  const std::vector<std::int64_t>& all = patterns_.lengths;
  if (all.empty()) return most;
  return std::clamp<std::int64_t>(all[static_cast<std::size_t>(b) % all.size()], 0, most);
}

void Arrays::MakeRagged() {
  const Problem& p = problem_;
  const std::vector<std::int64_t>& lengths = patterns_.lengths;
  const bool given = static_cast<std::int64_t>(lengths.size()) == p.batch;
  for (const bool keys : {false, true}) {
    const std::int64_t total = keys ? p.total_k : p.total_q;
    Ints& cu = *Take(p.batch + 1);
    for (std::int64_t b = 0; b < p.batch; ++b) {
      const auto at = static_cast<std::size_t>(b);
      // As equal as they can be, where nothing was said.
      const std::int64_t equal = total / p.batch + (b < total % p.batch ? 1 : 0);
      cu[at + 1] = Int(cu[at] + (given ? lengths[at] : equal));
    }
    (keys ? buffers_.cu_seqlens_k : buffers_.cu_seqlens_q) = cu.data();
  }
}

void Arrays::MakeLengths() {
  const Problem& p = problem_;
  if (p.key_lengths) {
    Ints& lengths = *Take(p.batch);
    for (std::int64_t b = 0; b < p.batch; ++b) {
      const std::int32_t* cu = buffers_.cu_seqlens_k;
      const std::int64_t most = cu != nullptr ? cu[b + 1] - cu[b] : p.k_len;
      lengths[static_cast<std::size_t>(b)] = Int(LengthOf(b, most));
    }
    buffers_.key_lengths = lengths.data();
  }
  if (p.query_offsets) {
    Ints& offsets = *Take(p.batch);
    std::fill(offsets.begin(), offsets.end(), Int(p.k_len - p.q_len));
    buffers_.query_offsets = offsets.data();
  }
}

Status Arrays::MakeCache() {
  const Problem& p = problem_;
  const Cache& c = p.cache;
  if (!c.given) return {};
  Ints& lengths = *Take(p.batch);
  Ints& pad = *Take(c.leftpad ? p.batch : 0);
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const std::int64_t used = std::max(LengthOf(b, p.k_len), c.new_len);
    lengths[static_cast<std::size_t>(b)] = Int(used - c.new_len);
    // Up to a quarter of the rows, entry by entry another part of it.
    if (c.leftpad) pad[static_cast<std::size_t>(b)] = Int(b * 7 % (used / 4 + 1));
  }
  buffers_.cache_seqlens = lengths.data();
  if (c.leftpad) buffers_.cache_leftpad = pad.data();
  const std::int64_t wanted = c.blocks > 0 ? p.batch * c.blocks : p.batch;
  if (c.new_len > 0 && c.slots < wanted) {
    return {StatusCode::kRefused,
            "the benchmark appends to a place of its own for every entry: cache.slots is " +
                std::to_string(c.slots) + " and " + std::to_string(wanted) + " are needed"};
  }
  if (!c.batch_idx && c.blocks == 0) return {};
  const std::vector<std::int32_t> order = Permutation(c.slots, seed_ + 21);
  Ints& places = *Take(wanted);
  for (std::size_t n = 0; n + 1 < places.size() && !order.empty(); ++n) {
    places[n] = order[n % order.size()];
  }
  (c.blocks > 0 ? buffers_.block_table : buffers_.cache_batch_idx) = places.data();
  return {};
}

const std::uint8_t* Arrays::MakeMask() {
  const Broadcast& t = problem_.mask;
  const Extent extent = ExtentOf(t);
  flags_.emplace_back(extent.elements);
  auto* first = reinterpret_cast<std::uint8_t*>(flags_.back().data()) - extent.low;
  if (extent.elements == 0) return first;
  std::memset(flags_.back().data(), 0, static_cast<std::size_t>(extent.elements));
  RowPattern pattern(patterns_, seed_ + 5);
  for (std::int64_t b = 0; b < t.batch; ++b) {
    for (std::int64_t h = 0; h < t.heads; ++h) {
      for (std::int64_t i = 0; i < t.rows; ++i) {
        pattern.Fill(b * t.heads + h, i, problem_.k_len - problem_.q_len, t.cols, t.stride_col,
                     first + b * t.stride_batch + h * t.stride_head + i * t.stride_row);
      }
    }
  }
  return first;
}

const std::uint8_t* Arrays::MakeMap() {
  const Extent extent = ExtentOf(problem_.block_map);
  flags_.emplace_back(extent.elements);
  auto* flags = reinterpret_cast<std::uint8_t*>(flags_.back().data());
  std::uint64_t state = seed_ + 6;
  for (std::int64_t i = 0; i < extent.elements; ++i) {
    flags[i] = Chance(patterns_.map_share, &state) ? 1 : 0;
  }
  return flags - extent.low;
}

Result<Arrays> Arrays::Make(const Problem& problem, const Patterns& patterns, std::uint64_t seed) {
  const auto entries = static_cast<double>(problem.batch);
  const Cache& cache = problem.cache;
  double bytes = 0;
  for (const bool used : {problem.ragged, problem.ragged, problem.key_lengths,
                          problem.query_offsets, cache.given, cache.leftpad, cache.batch_idx}) {
    if (used) bytes += 4 * entries;
  }
  if (cache.batch_idx || cache.blocks > 0) bytes += 4 * static_cast<double>(cache.slots);
  bytes += 4 * entries * static_cast<double>(cache.blocks);
  bytes += static_cast<double>(problem.mask.given ? ExtentOf(problem.mask).elements : 0) +
           static_cast<double>(problem.block_map.given ? ExtentOf(problem.block_map).elements : 0);
  const auto too_much = [&] {
    return Status(StatusCode::kRefused, "masks and index arrays take " +
                                            std::to_string(bytes / 1e9) +
                                            " GB, more than this machine has free");
  };
  const std::int64_t free = AvailableMemory();
  if (free > 0 && bytes > 0.8 * static_cast<double>(free)) return too_much();
  try {
    Arrays arrays;
    arrays.problem_ = problem;
    arrays.patterns_ = patterns;
    arrays.seed_ = seed;
    if (problem.ragged) arrays.MakeRagged();
    arrays.MakeLengths();
    if (Status status = arrays.MakeCache(); !status) return status;
    if (problem.mask.given) arrays.buffers_.mask = arrays.MakeMask();
    if (problem.block_map.given) arrays.buffers_.block_map = arrays.MakeMap();
    return arrays;
  } catch (const std::bad_alloc&) {
    return too_much();
  }
}

void Arrays::AddTo(Buffers* buffers) const {
  buffers->mask = buffers_.mask;
  buffers->block_map = buffers_.block_map;
  buffers->key_lengths = buffers_.key_lengths;
  buffers->query_offsets = buffers_.query_offsets;
  buffers->cu_seqlens_q = buffers_.cu_seqlens_q;
  buffers->cu_seqlens_k = buffers_.cu_seqlens_k;
  buffers->cache_seqlens = buffers_.cache_seqlens;
  buffers->cache_batch_idx = buffers_.cache_batch_idx;
  buffers->cache_leftpad = buffers_.cache_leftpad;
  buffers->block_table = buffers_.block_table;
}

}  // namespace heed::bench
