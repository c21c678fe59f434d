// rules_results.cpp: the rules about what is wanted: results of the forward, of the backward, their
// dtypes. Not here: strides of the results (rules_layout.cpp).
#include "problem/rules.h"
#include "problem/words.h"

namespace heed {
namespace {

constexpr std::int64_t kMostProbs = std::int64_t{1} << 31;

constexpr Rule kAny[] = {
    {"out_dtype of the tensors",
     [](const Problem& p) {
       return p.out_dtype && *p.out_dtype != p.dtype && *p.out_dtype != DType::kF32;
     },
     [](const Problem& p, const Rule&) {
       return Words("out_dtype is ", *p.out_dtype, " and dtype is ", p.dtype,
                    ": the output must be of the tensors' dtype or f32");
     }},
};

// "want_dbias is true and op is kForward: it belongs to the backward"
template <bool Problem::*Field>
constexpr Rule BackwardOnly(const char* name) {
  return {name, [](const Problem& p) { return p.*Field; },
          [](const Problem&, const Rule& rule) {
            return Words(FieldOf(rule),
                         " is true and op is kForward: it belongs to the backward; leave it false "
                         "or set op to kBackward");
          }};
}

constexpr Rule kForward[] = {
    BackwardOnly<&Problem::dlse>("dlse in the forward"),
    BackwardOnly<&Problem::want_dbias>("want_dbias in the forward"),
    BackwardOnly<&Problem::want_dsinks>("want_dsinks in the forward"),
    BackwardOnly<&Problem::f32_grads>("f32_grads in the forward"),
    BackwardOnly<&Problem::accumulate>("accumulate in the forward"),
};

// want_lse is no contradiction there: the backward always reads lse.
constexpr Rule kBackward[] = {
    {"want_probs in the backward", [](const Problem& p) { return p.want_probs; },
     [](const Problem&, const Rule&) {
       return Words(
           "want_probs is true and op is kBackward: the probabilities come from the forward; leave "
           "it false");
     }},
    {"want_dbias without bias", [](const Problem& p) { return p.want_dbias && !p.bias.given; },
     [](const Problem&, const Rule&) {
       return Words(
           "want_dbias is true and bias.given is false: there is no bias to have a gradient");
     }},
    {"want_dsinks without sinks", [](const Problem& p) { return p.want_dsinks && !p.sinks; },
     [](const Problem&, const Rule&) {
       return Words(
           "want_dsinks is true and sinks is false: there are no sinks to have a gradient");
     }},
    // bias itself may repeat rows by strides of 0, its gradient is contiguous.
    {"dbias fits",
     [](const Problem& p) {
       std::int64_t n = p.want_dbias ? SizeOf(DType::kF64) : 0;
       for (const std::int64_t size : {p.bias.batch, p.bias.heads, p.bias.rows, p.bias.cols}) {
         if (__builtin_mul_overflow(n, size, &n)) return true;
       }
       return false;
     },
     [](const Problem& p, const Rule&) {
       return Words("want_dbias is true and the bias has the shape (", p.bias.batch, ", ",
                    p.bias.heads, ", ", p.bias.rows, ", ", p.bias.cols,
                    "): its gradient must fit in 9223372036854775807 bytes");
     }},
};

constexpr Rule kProbs[] = {
    {"want_probs of 2^31 elements",
     [](const Problem& p) {
       std::int64_t n = 0;
       return __builtin_mul_overflow(p.batch, p.q_heads, &n) ||
              __builtin_mul_overflow(n, p.q_len, &n) ||
              __builtin_mul_overflow(n, KeyLength(p), &n) || n > kMostProbs;
     },
     [](const Problem& p, const Rule&) {
       return Words("want_probs is true and P would have ", p.batch, " x ", p.q_heads, " x ",
                    p.q_len, " x ", KeyLength(p), " elements: at most ", kMostProbs,
                    " (2^31) are given");
     }},
};

constexpr RuleGroup kGroups[] = {
    Always<kAny>(),
    When<kForward, [](const Problem& p) { return p.op == Op::kForward; }>(),
    When<kBackward, [](const Problem& p) { return p.op == Op::kBackward; }>(),
    When<kProbs, [](const Problem& p) { return p.want_probs; }>(),
};

}  // namespace

std::span<const RuleGroup> ResultRules() { return kGroups; }

}  // namespace heed
