// cases_arrays.cpp: bias, masks, lengths, tables and the other arrays of a case's options, and what
// must not be read as NaN. Not here: q, k, v (cases_data.cpp).
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "cases.h"
#include "cases_data.h"

namespace heed::cases {
namespace {

// So that every kind of number has a stream of its own.
enum Stream : std::uint64_t {
  kBiasStream = 1001,
  kMaskStream,
  kBlockMapStream,
  kSlopeStream,
  kSinkStream,
  kLengthStream,
  kOffsetStream,
  kRaggedStream,
  kCacheStream,
  kPadStream,
  kSlotStream,
  kPageStream,
  kNewStream,
};

std::uint64_t Hash(const Case& c, Stream stream, std::initializer_list<std::int64_t> at) {
  return HashOf(c.seed * 4096 + stream, at);
}

// From low to high, both included.
std::int64_t Pick(std::uint64_t bits, std::int64_t low, std::int64_t high) {
  return low + static_cast<std::int64_t>(bits % static_cast<std::uint64_t>(high - low + 1));
}

// Memory of a broadcast tensor of elements of `size` bytes; put(at, b, h, i, j) writes one.
template <class PutOne>
Memory FillBroadcast(const Broadcast& t, std::int64_t size, PutOne&& put) {
  const std::int64_t sizes[] = {t.batch, t.heads, t.rows, t.cols};
  const std::int64_t given[] = {t.stride_batch, t.stride_head, t.stride_row, t.stride_col};
  std::int64_t strides[4], inside = 1, before = 0, behind = 1;
  for (int a = 3; a >= 0; --a) {
    strides[a] = sizes[a] == 1 ? 0 : given[a] == kPacked ? inside : given[a];
    inside = std::max(inside, sizes[a] * std::abs(strides[a]));
    const std::int64_t span = std::max<std::int64_t>(sizes[a] - 1, 0) * strides[a];
    (span < 0 ? before : behind) += std::abs(span);
  }
  Memory memory;
  memory.bytes.assign(static_cast<std::size_t>((before + behind) * size), kGap);
  memory.start = static_cast<std::size_t>(before * size);
  std::byte* const element0 = memory.bytes.data() + memory.start;
  for (std::int64_t b = 0; b < t.batch; ++b) {
    for (std::int64_t h = 0; h < t.heads; ++h) {
      for (std::int64_t i = 0; i < t.rows; ++i) {
        for (std::int64_t j = 0; j < t.cols; ++j) {
          const std::int64_t at = b * strides[0] + h * strides[1] + i * strides[2] + j * strides[3];
          put(element0 + at * size, b, h, i, j);
        }
      }
    }
  }
  return memory;
}

// N(0, 1), and one in sixteen -infinity, which acts as a mask.
void FillBias(const Case& c, Sample* s) {
  const Problem& p = s->problem;
  s->bias = FillBroadcast(
      p.bias, SizeOf(p.bias_dtype),
      [&](std::byte* at, std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
        const std::uint64_t bits = Hash(c, kBiasStream, {b, h, i, j});
        Put(p.bias_dtype, at,
            bits % 16 == 0 && p.bias.cols > 1 ? -std::numeric_limits<double>::infinity()
                                              : Normal(bits));
      });
}

bool MaskAt(const Case& c, std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
  switch (c.mask) {
    case Pattern::kRandom:
      return Uniform(Hash(c, kMaskStream, {b, h, i, j})) < 0.7;
    case Pattern::kBlocks:
      return Hash(c, kMaskStream, {b, h, i / 16, j / 32}) % 4 == 0;
    case Pattern::kTail:
      return j < Pick(Hash(c, kMaskStream, {b, h}), 0, c.problem.mask.cols);
  }
  return true;
}

void FillMasks(const Case& c, Sample* s) {
  const Problem& p = s->problem;
  if (p.mask.given) {
    s->mask = FillBroadcast(p.mask, 1,
                            [&](std::byte* at, std::int64_t b, std::int64_t h, std::int64_t i,
                                std::int64_t j) { *at = std::byte{MaskAt(c, b, h, i, j)}; });
  }
  if (p.block_map.given) {
    s->block_map = FillBroadcast(
        p.block_map, 1,
        [&](std::byte* at, std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
          *at = std::byte{Hash(c, kBlockMapStream, {b, h, i, j}) % 2 == 0};
        });
  }
}

// One per head, or per batch entry and head: 2^-1, 2^-2, …, as in the paper, some of them 0.
void FillPerHead(const Case& c, Sample* s) {
  const Problem& p = s->problem;
  const std::int64_t n = p.q_heads * (p.alibi == Alibi::kPerBatchHead ? p.batch : 1);
  for (std::int64_t h = 0; p.alibi != Alibi::kNone && h < n; ++h) {
    const std::int64_t power = Pick(Hash(c, kSlopeStream, {h}), 0, 8);
    s->slopes.push_back(power == 0 ? 0.f : std::ldexp(1.f, -static_cast<int>(power)));
  }
  for (std::int64_t h = 0; p.sinks && h < p.q_heads; ++h) {
    s->sinks.push_back(static_cast<float>(2 * Normal(Hash(c, kSinkStream, {h}))));
  }
}

void FillLengths(const Case& c, Sample* s) {
  const Problem& p = s->problem;
  if (p.ragged) {
    for (const int which : {0, 1}) {
      auto& cu = which == 0 ? s->cu_seqlens_q : s->cu_seqlens_k;
      cu.assign(1, 0);
      for (const std::int64_t n :
           RaggedLengths(c.seed, p.batch, which == 0 ? p.q_len : p.k_len, which)) {
        cu.push_back(cu.back() + static_cast<std::int32_t>(n));
      }
    }
  }
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const auto at = static_cast<std::size_t>(b);
    const std::int64_t there = p.ragged ? s->cu_seqlens_k[at + 1] - s->cu_seqlens_k[at] : p.k_len;
    const auto length = Pick(Hash(c, kLengthStream, {b}), 0, there);
    const auto offset = Pick(Hash(c, kOffsetStream, {b}), -p.q_len, p.k_len + 2);
    if (p.key_lengths) s->key_lengths.push_back(static_cast<std::int32_t>(length));
    if (p.query_offsets) s->query_offsets.push_back(static_cast<std::int32_t>(offset));
  }
}

// A permutation of 0 … n - 1.
std::vector<std::int32_t> Shuffled(const Case& c, Stream stream, std::int64_t n) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (std::int64_t at = n; at > 1; --at) {
    std::swap(order[static_cast<std::size_t>(at - 1)],
              order[static_cast<std::size_t>(Pick(Hash(c, stream, {at}), 0, at - 1))]);
  }
  return order;
}

// The first entry's cache is full after the append, the second's holds nothing else, the rest are
// anything.
void FillCacheIndices(const Case& c, Sample* s) {
  const Problem& p = s->problem;
  const Cache& cache = p.cache;
  const std::vector<std::int32_t> slots = Shuffled(c, kSlotStream, cache.slots);
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const std::int64_t most = p.k_len - cache.new_len;
    const std::int64_t before = b == 0   ? most
                                : b == 1 ? 0
                                         : Pick(Hash(c, kCacheStream, {b}), 0, most);
    const std::int64_t used = before + cache.new_len;
    s->cache_seqlens.push_back(static_cast<std::int32_t>(before));
    if (cache.leftpad) {
      // Often a little, sometimes all.
      const std::uint64_t bits = Hash(c, kPadStream, {b});
      const std::int64_t pad = Pick(bits, 0, bits % 5 == 0 ? used : used / 3);
      s->cache_leftpad.push_back(static_cast<std::int32_t>(pad));
    }
    if (cache.batch_idx) s->cache_batch_idx.push_back(slots[static_cast<std::size_t>(b)]);
    for (std::int64_t block = 0; block < cache.blocks; ++block) {
      const bool looked_at = block * cache.rows < used;
      s->block_table.push_back(looked_at ? slots[static_cast<std::size_t>(b * cache.blocks + block)]
                                         : -1000000);
    }
  }
}

// A tensor (batch, rows, heads, width) of N(0, 1).
Memory FillRows(const Case& c, const Strides& strides, const Extents& e, int which) {
  const Strides s = Explicit(strides, e);
  const std::int64_t size = SizeOf(c.problem.dtype);
  Memory memory;
  memory.bytes.assign(static_cast<std::size_t>(((e.batch - 1) * s.batch + (e.rows - 1) * s.row +
                                                (e.heads - 1) * s.head + e.width) *
                                               size),
                      kGap);
  for (std::int64_t b = 0; b < e.batch; ++b) {
    for (std::int64_t row = 0; row < e.rows; ++row) {
      for (std::int64_t head = 0; head < e.heads; ++head) {
        for (std::int64_t d = 0; d < e.width; ++d) {
          const std::int64_t at = b * s.batch + row * s.row + head * s.head + d;
          Put(c.problem.dtype, memory.bytes.data() + at * size,
              Normal(Hash(c, kNewStream, {which, b, row, head, d})));
        }
      }
    }
  }
  return memory;
}

void FillCacheTensors(const Case& c, Sample* s) {
  const Problem& p = s->problem;
  const Cache& cache = p.cache;
  const auto e = ExtentsOf(p);
  if (cache.new_len > 0 && p.batch > 0) {
    s->k_new = FillRows(c, p.k_new_strides, {p.batch, cache.new_len, e[1].heads, e[1].width}, 0);
    s->v_new = FillRows(c, p.v_new_strides, {p.batch, cache.new_len, e[2].heads, e[2].width}, 1);
  }
  if (cache.rotary == Rotary::kNone) return;
  const std::int64_t pairs = cache.rotary_dim / 2, size = SizeOf(p.dtype);
  for (const bool sine : {false, true}) {
    Memory& table = sine ? s->rotary_sin : s->rotary_cos;
    table.bytes.resize(static_cast<std::size_t>(cache.rotary_rows * pairs * size));
    for (std::int64_t n = 0; n < cache.rotary_rows * pairs; ++n) {
      const double angle =
          static_cast<double>(n / pairs) *
          std::pow(1e4, -static_cast<double>(n % pairs) / static_cast<double>(pairs));
      Put(p.dtype, table.bytes.data() + n * size, sine ? std::sin(angle) : std::cos(angle));
    }
  }
}

// The row of the flattened (entries or slots, rows) that holds key j of entry b, counted with the
// padding.
std::int64_t RowOfKey(const Sample& s, std::int64_t b, std::int64_t j) {
  const Problem& p = s.problem;
  const auto at = static_cast<std::size_t>(b);
  if (p.ragged) return s.cu_seqlens_k[at] + j;
  if (!p.cache.given) return b * p.k_len + j;
  const Cache& cache = p.cache;
  if (cache.blocks > 0) {
    const std::int64_t block = b * cache.blocks + j / cache.rows;
    return s.block_table[static_cast<std::size_t>(block)] * cache.rows + j % cache.rows;
  }
  return (cache.batch_idx ? s.cache_batch_idx[at] : b) * cache.rows + j;
}

// Rows of k and v that are no entry's key become NaN; rows that an append writes are none yet.
void EraseUnused(const Case& c, Sample* s) {
  const Problem& p = s->problem;
  if (!p.key_lengths && !p.cache.given) return;
  const auto e = ExtentsOf(p);
  const bool shared = c.placement == Placement::kSharedKeys;
  std::vector<bool> used(static_cast<std::size_t>(e[1].batch * e[1].rows), false);
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const auto at = static_cast<std::size_t>(b);
    const std::int64_t first = p.cache.leftpad ? s->cache_leftpad[at] : 0;
    const std::int64_t last = p.cache.given ? s->cache_seqlens[at] : s->key_lengths[at];
    for (std::int64_t j = first; j < last; ++j) {
      const std::int64_t row = RowOfKey(*s, b, j);
      used[static_cast<std::size_t>(shared ? row % e[1].rows : row)] = true;
    }
  }
  const std::int64_t size = SizeOf(p.dtype);
  for (const int t : {1, 2}) {
    const Extents& x = e[static_cast<std::size_t>(t)];
    const Strides strides = Explicit(t == 1 ? p.k_strides : p.v_strides, x);
    std::vector<std::byte>& own = t == 1 ? s->k_memory : s->v_memory;
    // Slices lie in the memory of the first of them.
    std::vector<std::byte>& memory = !own.empty() ? own : p.cache.given ? s->k_memory : s->q_memory;
    const std::size_t start = t == 1 ? s->k_start : s->v_start;
    for (std::int64_t row = 0; row < (shared ? x.rows : x.batch * x.rows); ++row) {
      if (used[static_cast<std::size_t>(row)]) continue;
      for (std::int64_t head = 0; head < x.heads; ++head) {
        const std::int64_t at =
            row / x.rows * strides.batch + row % x.rows * strides.row + head * strides.head;
        std::fill_n(memory.begin() + static_cast<std::ptrdiff_t>(start) + at * size, x.width * size,
                    kGap);
      }
    }
  }
}

}  // namespace

std::vector<std::int64_t> RaggedLengths(std::uint64_t seed, std::int64_t batch,
                                        std::int64_t longest, int which) {
  std::vector<std::int64_t> lengths;
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::uint64_t bits = HashOf(seed * 4096 + kRaggedStream, {which, b});
    // The empty sequence lacks queries, or keys, or both.
    const bool empty = b == 1 && (seed + static_cast<std::uint64_t>(which)) % 3 != 0;
    lengths.push_back(b == 0 ? longest : empty ? 0 : Pick(bits, 0, longest));
  }
  return lengths;
}

void FillArrays(const Case& c, Sample* sample) {
  const Problem& p = sample->problem;
  if (p.bias.given) FillBias(c, sample);
  FillMasks(c, sample);
  FillPerHead(c, sample);
  FillLengths(c, sample);
  if (p.cache.given) {
    FillCacheIndices(c, sample);
    FillCacheTensors(c, sample);
  }
  EraseUnused(c, sample);
}

Buffers Sample::Inputs() const {
  const Problem& p = problem;
  const auto optional = [](const auto& array) { return array.empty() ? nullptr : array.data(); };
  const auto tensor = [](const Memory& memory) {
    return memory.bytes.empty() ? nullptr : memory.data();
  };
  const std::vector<std::byte>& k_at = k_memory.empty() ? q_memory : k_memory;
  const std::vector<std::byte>& v_at = !v_memory.empty() ? v_memory
                                       : p.cache.given   ? k_memory
                                                         : q_memory;
  Buffers b;
  b.q = q_memory.data() + q_start;
  if (p.cache.given) {
    b.k_cache = const_cast<std::byte*>(k_at.data() + k_start);
    b.v_cache = const_cast<std::byte*>(v_at.data() + v_start);
  } else {
    b.k = k_at.data() + k_start;
    b.v = v_at.data() + v_start;
  }
  b.bias = tensor(bias);
  b.mask = static_cast<const std::uint8_t*>(tensor(mask));
  b.block_map = static_cast<const std::uint8_t*>(tensor(block_map));
  b.k_new = tensor(k_new);
  b.v_new = tensor(v_new);
  b.rotary_cos = tensor(rotary_cos);
  b.rotary_sin = tensor(rotary_sin);
  b.alibi_slopes = optional(slopes);
  b.sinks = optional(sinks);
  b.key_lengths = optional(key_lengths);
  b.query_offsets = optional(query_offsets);
  b.cu_seqlens_q = optional(cu_seqlens_q);
  b.cu_seqlens_k = optional(cu_seqlens_k);
  b.cache_seqlens = optional(cache_seqlens);
  b.cache_batch_idx = optional(cache_batch_idx);
  b.cache_leftpad = optional(cache_leftpad);
  b.block_table = optional(block_table);
  return b;
}

}  // namespace heed::cases
