// rules_shape.cpp: the rules that hold fields against each other: heads, alignment, broadcast
// shapes, ragged totals. Not here: strides (rules_layout.cpp), the cache (rules_cache.cpp).
#include "problem/rules.h"
#include "problem/schedule.h"
#include "problem/words.h"

namespace heed {
namespace {

std::int64_t Batch(const Problem& p) { return p.batch; }
std::int64_t QHeads(const Problem& p) { return p.q_heads; }
std::int64_t QLen(const Problem& p) { return p.q_len; }
std::int64_t KLen(const Problem& p) { return KeyLength(p); }
std::int64_t BlocksOfRows(const Problem& p) { return CeilDiv(p.q_len, p.block_rows); }
std::int64_t BlocksOfCols(const Problem& p) { return CeilDiv(KeyLength(p), p.block_cols); }

using Size = std::int64_t (*)(const Problem&);

// "bias.rows is 3 and q_len is 5: it must be 5, or 1 to be repeated"
template <Broadcast Problem::*Tensor, std::int64_t Broadcast::*Axis, Size Full>
constexpr Rule OneOr(const char* name, const char* full) {
  return {name, [](const Problem& p) { return p.*Tensor.*Axis != 1 && p.*Tensor.*Axis != Full(p); },
          [](const Problem& p, const Rule& rule) {
            return Words(rule.name, " is ", p.*Tensor.*Axis, " and ", rule.accepted, " is ",
                         Full(p), ": it must be ", Full(p), ", or 1 to be repeated");
          },
          full};
}

template <std::int64_t Broadcast::*Axis, Size Full>
constexpr Rule Exactly(const char* name, const char* full) {
  return {name, [](const Problem& p) { return p.block_map.*Axis != Full(p); },
          [](const Problem& p, const Rule& rule) {
            return Words(rule.name, " is ", p.block_map.*Axis, ": it must be ", Full(p),
                         ", which is ", rule.accepted);
          },
          full};
}

// Something that would be ignored: "total_q is 7, but ragged is false: it must be 0 then"
template <auto Field>
constexpr Rule Unused(const char* name, const char* why) {
  return {name, [](const Problem& p) { return Get<Field>(p) != 0; },
          [](const Problem& p, const Rule& rule) {
            return Words(FieldOf(rule), " is ", Get<Field>(p), ", but ", rule.accepted,
                         " is false: it must be 0");
          },
          why};
}

constexpr Rule kGeneral[] = {
    {"q_heads a multiple of k_heads", [](const Problem& p) { return p.q_heads % KeyHeads(p) != 0; },
     [](const Problem& p, const Rule&) {
       return Words("k_heads is ", p.k_heads, " and q_heads is ", p.q_heads,
                    ": q_heads must be a multiple of k_heads");
     }},
    {"query_offset with its align",
     [](const Problem& p) { return p.query_offset && p.align != Align::kOffset; },
     [](const Problem& p, const Rule&) {
       return Words("query_offset is ", *p.query_offset, " and align is ",
                    p.align == Align::kTopLeft ? "kTopLeft" : "kBottomRight",
                    ": an offset is used with Align::kOffset only");
     }},
    {"query_offsets with their align",
     [](const Problem& p) { return p.query_offsets && p.align != Align::kOffset; },
     [](const Problem& p, const Rule&) {
       return Words("query_offsets is true and align is ",
                    p.align == Align::kTopLeft ? "kTopLeft" : "kBottomRight",
                    ": offsets are used with Align::kOffset only");
     }},
    {"align kOffset has an offset",
     [](const Problem& p) {
       return p.align == Align::kOffset && !p.query_offset && !p.query_offsets;
     },
     [](const Problem&, const Rule&) {
       return Words(
           "align is kOffset without an offset: give query_offset, or query_offsets = true and one "
           "offset per batch entry");
     }},
    {"one kind of offset", [](const Problem& p) { return p.query_offset && p.query_offsets; },
     [](const Problem& p, const Rule&) {
       return Words(
           "query_offset is ", *p.query_offset,
           " and query_offsets is true: give the one for all entries or one per entry, not "
           "both");
     }},
    // Philox counts rows, heads and groups of four keys in 32 bits each: beyond, the pattern
    // repeats.
    {"dropout's counters",
     [](const Problem& p) {
       constexpr std::int64_t kWord = std::int64_t{1} << 32;
       std::int64_t heads = 0;
       return p.dropout_p > 0 && (__builtin_mul_overflow(p.batch, p.q_heads, &heads) ||
                                  heads > kWord || p.q_len > kWord || p.k_len / 4 >= kWord);
     },
     [](const Problem& p, const Rule&) {
       return Words("dropout_p is ", p.dropout_p, " with batch ", p.batch, ", q_heads ", p.q_heads,
                    ", q_len ", p.q_len, ", k_len ", p.k_len,
                    ": dropout accepts up to 2^32 heads of the batch, 2^32 queries and 2^34 keys");
     }},
};

constexpr Rule kNoBlockMap[] = {
    Unused<&Problem::block_rows>("block_rows without block_map", "block_map.given"),
    Unused<&Problem::block_cols>("block_cols without block_map", "block_map.given"),
};

constexpr Rule kBias[] = {
    {"bias_dtype of the tensors",
     [](const Problem& p) { return p.bias_dtype != DType::kF32 && p.bias_dtype != p.dtype; },
     [](const Problem& p, const Rule&) {
       return Words("bias_dtype is ", p.bias_dtype, " and dtype is ", p.dtype,
                    ": the bias must be f32 or the tensors' dtype");
     }},
    OneOr<&Problem::bias, &Broadcast::batch, Batch>("bias.batch", "batch"),
    OneOr<&Problem::bias, &Broadcast::heads, QHeads>("bias.heads", "q_heads"),
    OneOr<&Problem::bias, &Broadcast::rows, QLen>("bias.rows", "q_len"),
    OneOr<&Problem::bias, &Broadcast::cols, KLen>("bias.cols", "k_len"),
};

constexpr Rule kMask[] = {
    OneOr<&Problem::mask, &Broadcast::batch, Batch>("mask.batch", "batch"),
    OneOr<&Problem::mask, &Broadcast::heads, QHeads>("mask.heads", "q_heads"),
    OneOr<&Problem::mask, &Broadcast::rows, QLen>("mask.rows", "q_len"),
    OneOr<&Problem::mask, &Broadcast::cols, KLen>("mask.cols", "k_len"),
};

constexpr Rule kBlockMap[] = {
    OneOr<&Problem::block_map, &Broadcast::batch, Batch>("block_map.batch", "batch"),
    OneOr<&Problem::block_map, &Broadcast::heads, QHeads>("block_map.heads", "q_heads"),
    Exactly<&Broadcast::rows, BlocksOfRows>("block_map.rows",
                                            "q_len divided by block_rows, rounded up"),
    Exactly<&Broadcast::cols, BlocksOfCols>("block_map.cols",
                                            "k_len divided by block_cols, rounded up"),
};

// "total_q is 100, but 3 sequences of up to 30 queries hold 90: ..."
template <std::int64_t Problem::*Total, std::int64_t Problem::*Longest>
constexpr Rule TotalFits(const char* name, const char* longest) {
  return {name,
          [](const Problem& p) {
            std::int64_t most = 0;
            return !__builtin_mul_overflow(p.batch, p.*Longest, &most) && p.*Total > most;
          },
          [](const Problem& p, const Rule& rule) {
            return Words(FieldOf(rule), " is ", p.*Total, ", but ", p.batch, " sequences of ",
                         rule.accepted, " ", p.*Longest, " hold ", p.batch * p.*Longest,
                         " at most");
          },
          longest};
}

const Sequence* RaggedBatchStride(const Problem& p, Sequence* found) {
  const auto packed = [&](const Sequence& s) {
    const std::int64_t stride = (p.*s.strides).batch;
    if (stride == kPacked || stride == 0) return true;
    *found = s;
    return false;
  };
  return ForEachSequence(p, packed) ? nullptr : found;
}

constexpr Rule kRagged[] = {
    {"ragged without cache", [](const Problem& p) { return p.cache.given; },
     [](const Problem&, const Rule&) {
       return Words(
           "ragged and cache.given are both true: queries against a cache are a dense batch, so "
           "leave one of the two out");
     }},
    TotalFits<&Problem::total_q, &Problem::q_len>("total_q of the sequences", "q_len"),
    TotalFits<&Problem::total_k, &Problem::k_len>("total_k of the sequences", "k_len"),
    {"ragged batch strides",
     [](const Problem& p) {
       Sequence s{};
       return RaggedBatchStride(p, &s) != nullptr;
     },
     [](const Problem& p, const Rule&) {
       Sequence s{};
       RaggedBatchStride(p, &s);
       return Words(s.strides_name, ".batch is ", (p.*s.strides).batch,
                    ", but ragged tensors (T,H,D) have no batch axis: leave it kPacked");
     }},
};

constexpr Rule kDense[] = {
    Unused<&Problem::total_q>("total_q without ragged", "ragged"),
    Unused<&Problem::total_k>("total_k without ragged", "ragged"),
};

constexpr RuleGroup kGroups[] = {
    Always<kGeneral>(),
    When<kNoBlockMap, [](const Problem& p) { return !p.block_map.given; }>(),
    When<kDense, [](const Problem& p) { return !p.ragged; }>(),
    When<kRagged, [](const Problem& p) { return p.ragged; }>(),
    When<kBias, [](const Problem& p) { return p.bias.given; }>(),
    When<kMask, [](const Problem& p) { return p.mask.given; }>(),
    When<kBlockMap, [](const Problem& p) { return p.block_map.given; }>(),
};

}  // namespace

std::span<const RuleGroup> ShapeRules() { return kGroups; }

}  // namespace heed
