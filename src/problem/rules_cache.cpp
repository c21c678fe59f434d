// rules_cache.cpp: the rules of the KV cache and its rotary embedding. Not here: what its arrays
// hold (buffers_index.cpp).
#include "problem/rules.h"
#include "problem/words.h"

namespace heed {
namespace {

// The first field that says something about a cache that is not there; null if none.
const char* StrayField(const Cache& c) {
  return c.slots != 0                ? "cache.slots"
         : c.rows != 0               ? "cache.rows"
         : c.blocks != 0             ? "cache.blocks"
         : c.new_len != 0            ? "cache.new_len"
         : c.batch_idx               ? "cache.batch_idx"
         : c.leftpad                 ? "cache.leftpad"
         : c.rotary != Rotary::kNone ? "cache.rotary"
         : c.rotary_dim != 0         ? "cache.rotary_dim"
         : c.rotary_rows != 0        ? "cache.rotary_rows"
                                     : nullptr;
}

constexpr Rule kNoCache[] = {
    {"cache fields without cache", [](const Problem& p) { return StrayField(p.cache) != nullptr; },
     [](const Problem& p, const Rule&) {
       return Words(
           StrayField(p.cache),
           " is set, but cache.given is false: set it, or leave every other field of cache "
           "alone");
     }},
};

constexpr Rule kCache[] = {
    {"cache capacity",
     [](const Problem& p) {
       std::int64_t rows = 0;
       return __builtin_mul_overflow(p.cache.blocks, p.cache.rows, &rows) || rows > kMaxSize;
     },
     [](const Problem& p, const Rule&) {
       return Words("cache.blocks is ", p.cache.blocks, " and cache.rows is ", p.cache.rows,
                    ": their product, the rows of one entry, must be at most ", kMaxSize,
                    " (2^40)");
     }},
    {"block_table fits",
     [](const Problem& p) {
       std::int64_t entries = 0;
       return __builtin_mul_overflow(p.batch, p.cache.blocks, &entries) || entries > INT64_MAX / 4;
     },
     [](const Problem& p, const Rule&) {
       return Words("batch is ", p.batch, " and cache.blocks is ", p.cache.blocks,
                    ": the int32 entries of block_table must fit in 9223372036854775807 bytes");
     }},
    {"no gradient through a cache", [](const Problem& p) { return p.op == Op::kBackward; },
     [](const Problem&, const Rule&) {
       return Words(
           "op is kBackward and cache.given is true: a call on a KV cache has no gradient; pass k "
           "and v instead of the cache");
     }},
    {"k_len with a cache",
     [](const Problem& p) { return p.k_len != 0 && p.k_len != CacheCapacity(p.cache); },
     [](const Problem& p, const Rule&) {
       return Words("k_len is ", p.k_len,
                    " and cache.given is true: leave k_len 0, the keys of an entry "
                    "are counted by cache_seqlens");
     }},
    {"key_lengths with a cache", [](const Problem& p) { return p.key_lengths; },
     [](const Problem&, const Rule&) {
       return Words(
           "key_lengths and cache.given are both true: with a cache the lengths come from "
           "cache_seqlens, so leave key_lengths false");
     }},
    {"cache.batch_idx with pages",
     [](const Problem& p) { return p.cache.batch_idx && p.cache.blocks > 0; },
     [](const Problem& p, const Rule&) {
       return Words(
           "cache.batch_idx is true and cache.blocks is ", p.cache.blocks,
           ": the block table already names the pages of every entry, so leave one of the two "
           "out");
     }},
    {"cache.slots for the batch",
     [](const Problem& p) {
       return !p.cache.batch_idx && p.cache.blocks == 0 && p.cache.slots < p.batch;
     },
     [](const Problem& p, const Rule&) {
       return Words("cache.slots is ", p.cache.slots, " and batch is ", p.batch,
                    ": entry b uses slot b, so there must be at least ", p.batch,
                    " slots, or cache.batch_idx, or pages");
     }},
    {"cache.new_len of the capacity",
     [](const Problem& p) { return p.cache.new_len > CacheCapacity(p.cache); },
     [](const Problem& p, const Rule&) {
       return Words("cache.new_len is ", p.cache.new_len, " and an entry of the cache holds ",
                    CacheCapacity(p.cache), " rows: new_len must be at most that");
     }},
};

constexpr Rule kRotary[] = {
    {"cache.rotary_dim",
     [](const Problem& p) {
       const std::int64_t r = p.cache.rotary_dim;
       return r < 2 || r > p.dim || r % 2 != 0;
     },
     [](const Problem& p, const Rule&) {
       return Words("cache.rotary_dim is ", p.cache.rotary_dim, " and dim is ", p.dim,
                    ": it must be even, from 2 to dim");
     }},
    {"cache.rotary_rows", Outside<&Cache::rotary_rows, 1, kMaxSize>,
     [](const Problem& p, const Rule&) {
       return Words("cache.rotary_rows is ", p.cache.rotary_rows,
                    ": it must be 1 or more, a row for every position that is used");
     }},
};

constexpr Rule kNoRotary[] = {
    {"rotary sizes without rotary",
     [](const Problem& p) { return p.cache.rotary_dim != 0 || p.cache.rotary_rows != 0; },
     [](const Problem& p, const Rule&) {
       return Words("cache.rotary_dim is ", p.cache.rotary_dim, " and cache.rotary_rows is ",
                    p.cache.rotary_rows,
                    ", but cache.rotary is kNone: they must be 0, or cache.rotary say how to pair");
     }},
};

constexpr RuleGroup kGroups[] = {
    When<kNoCache, [](const Problem& p) { return !p.cache.given; }>(),
    When<kCache, [](const Problem& p) { return p.cache.given; }>(),
    When<kRotary,
         [](const Problem& p) { return p.cache.given && p.cache.rotary != Rotary::kNone; }>(),
    When<kNoRotary,
         [](const Problem& p) { return p.cache.given && p.cache.rotary == Rotary::kNone; }>(),
};

}  // namespace

std::span<const RuleGroup> CacheRules() { return kGroups; }

}  // namespace heed
