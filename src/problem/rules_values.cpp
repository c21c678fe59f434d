// rules_values.cpp: the rules that look at one field alone. Not here: fields against each other
// (rules_shape.cpp).
#include <cfloat>
#include <cmath>

#include "problem/rules.h"
#include "problem/words.h"

namespace heed {
namespace {

// "dtype is 9: it must be 0 (f32), 1 (bf16), 2 (f16) or 3 (f64)"
template <auto Field>
std::string SayEnum(const Problem& p, const Rule& rule) {
  return Words(rule.name, " is ", static_cast<int>(Get<Field>(p)), ": it must be ", rule.accepted);
}

template <auto Field, auto Last>
bool NotIn(const Problem& p) {
  return Get<Field>(p) > Last;
}

template <auto Field, auto Last>
constexpr Rule EnumRule(const char* name, const char* accepted) {
  return {name, NotIn<Field, Last>, SayEnum<Field>, accepted};
}

// "batch is -1: it must be from 0 to 1099511627776 (2^40)"
template <auto Field>
std::string SayField(const Problem& p, const Rule& rule) {
  return Words(rule.name, " is ", Get<Field>(p), ": it must be ", rule.accepted);
}

template <auto Field, std::int64_t low = 0, std::int64_t high = kMaxSize>
constexpr Rule Range(const char* name, const char* accepted = "from 0 to 1099511627776 (2^40)") {
  return {name, Outside<Field, low, high>, SayField<Field>, accepted};
}

constexpr const char* kDTypes = "0 (f32), 1 (bf16), 2 (f16) or 3 (f64)";
constexpr const char* kWindow = "0 or more, or -1 for no bound";
constexpr const char* kFiniteScale =
    "a finite number that f32 can hold, from -3.4028235e+38 to 3.4028235e+38";

// Scores are f32 whatever the tensors are, unless these are f64.
bool FitsScore(const Problem& p, double value) {
  return std::isfinite(value) && (p.dtype == DType::kF64 || std::fabs(value) <= FLT_MAX);
}

constexpr Rule kEnums[] = {
    EnumRule<&Problem::op, Op::kBackward>("op", "0 (forward) or 1 (backward)"),
    EnumRule<&Problem::dtype, DType::kF64>("dtype", kDTypes),
    EnumRule<&Problem::bias_dtype, DType::kF64>("bias_dtype", kDTypes),
    {"out_dtype", [](const Problem& p) { return p.out_dtype && *p.out_dtype > DType::kF64; },
     [](const Problem& p, const Rule&) {
       return Words("out_dtype is ", static_cast<int>(*p.out_dtype), ": it must be ", kDTypes);
     }},
    EnumRule<&Problem::align, Align::kOffset>("align",
                                              "0 (bottom right), 1 (top left) or 2 (offset)"),
    EnumRule<&Problem::alibi, Alibi::kPerBatchHead>(
        "alibi", "0 (none), 1 (per head) or 2 (per batch and head)"),
    EnumRule<&Cache::rotary, Rotary::kHalf>("cache.rotary",
                                            "0 (none), 1 (interleaved) or 2 (halves)"),
};

constexpr Rule kNumbers[] = {
    Range<&Problem::batch>("batch"),
    Range<&Problem::q_len>("q_len"),
    Range<&Problem::k_len>("k_len"),
    Range<&Problem::q_heads, 1>("q_heads", "from 1 to 1099511627776 (2^40)"),
    Range<&Problem::k_heads>("k_heads", "from 1 to q_heads and divide it, or 0 for q_heads"),
    Range<&Problem::dim, 1, 1024>("dim", "from 1 to 1024"),
    Range<&Problem::dim_v, 0, 1024>("dim_v", "from 1 to 1024, or 0 for dim"),

    Range<&Problem::window_left, -1, INT64_MAX>("window_left", kWindow),
    Range<&Problem::window_right, -1, INT64_MAX>("window_right", kWindow),
    Range<&Problem::prefix, 0, INT64_MAX>("prefix", "0 or more"),
    Range<&Problem::chunk, 0, INT64_MAX>("chunk", "1 or more, or 0 for none"),
    {"query_offset",
     [](const Problem& p) {
       return p.query_offset && (*p.query_offset > kMaxSize || *p.query_offset < -kMaxSize);
     },
     [](const Problem& p, const Rule&) {
       return Words("query_offset is ", *p.query_offset, ": it must be from ", -kMaxSize, " to ",
                    kMaxSize, " (2^40)");
     }},

    {"scale", [](const Problem& p) { return p.scale && !FitsScore(p, *p.scale); },
     [](const Problem& p, const Rule&) {
       return Words("scale is ", *p.scale, ": it must be ", kFiniteScale);
     }},
    // Below f32's normal numbers s / softcap would not be a number.
    {"softcap",
     [](const Problem& p) {
       return p.softcap != 0 &&
              !(FitsScore(p, p.softcap) &&
                p.softcap >= (p.dtype == DType::kF64 ? DBL_MIN : double{FLT_MIN}));
     },
     [](const Problem& p, const Rule&) {
       return Words("softcap is ", p.softcap, ": it must be ",
                    p.dtype == DType::kF64 ? "a positive normal number"
                                           : "from 1.1754944e-38 to 3.4028235e+38",
                    ", or 0 for none");
     }},
    {"dropout_p", [](const Problem& p) { return !(p.dropout_p >= 0 && p.dropout_p < 1); },
     [](const Problem& p, const Rule&) {
       return Words("dropout_p is ", p.dropout_p, ": it must be at least 0 and less than 1");
     }},
};

constexpr Rule kRagged[] = {
    Range<&Problem::total_q, 0, INT32_MAX>("total_q",
                                           "from 0 to 2147483647: cu_seqlens_q is int32"),
    Range<&Problem::total_k, 0, INT32_MAX>("total_k",
                                           "from 0 to 2147483647: cu_seqlens_k is int32"),
};

constexpr Rule kBlocks[] = {
    Range<&Problem::block_rows, 1>("block_rows", "1 or more where block_map is given"),
    Range<&Problem::block_cols, 1>("block_cols", "1 or more where block_map is given"),
};

constexpr Rule kCache[] = {
    Range<&Cache::slots>("cache.slots"),
    Range<&Cache::rows, 1>("cache.rows", "1 or more"),
    Range<&Cache::blocks>("cache.blocks", "1 or more, or 0 for a cache without pages"),
    Range<&Cache::new_len>("cache.new_len"),
};

constexpr RuleGroup kGroups[] = {
    Always<kEnums>(),
    Always<kNumbers>(),
    When<kRagged, [](const Problem& p) { return p.ragged; }>(),
    When<kBlocks, [](const Problem& p) { return p.block_map.given; }>(),
    When<kCache, [](const Problem& p) { return p.cache.given; }>(),
};

}  // namespace

std::span<const RuleGroup> ValueRules() { return kGroups; }

}  // namespace heed
