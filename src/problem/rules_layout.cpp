// rules_layout.cpp: the rules of strides: every offset fits 64 bits, and no two elements of an
// output share memory. Not here: whether two tensors overlap (buffers.cpp).
#include "problem/rules.h"
#include "problem/words.h"

namespace heed {
namespace {

bool Fits(View view, std::int64_t bytes) {
  Extent extent;
  return Resolve(&view) && ExtentOf(view, bytes, &extent);
}

std::string SayTooLarge(const Problem& p, const Rule&) {
  std::string shape;
  (void)(ForEachSequence(p,
                         [&](const Sequence& s) {
                           if (Fits(ViewOf(p, s), SizeOf(s.dtype))) return true;
                           shape = Words(Name(s.id), " of shape (", s.batch, ", ", s.rows, ", ",
                                         s.heads, ", ", s.width);
                           return false;
                         }) &&
         ForEachBroadcast(p, [&](const BroadcastUse& use) {
           const Broadcast& t = p.*use.tensor;
           if (Fits(ViewOf(t), use.bytes)) return true;
           shape = Words(Name(use.id), " of shape (", t.batch, ", ", t.heads, ", ", t.rows, ", ",
                         t.cols);
           return false;
         }));
  return shape +
         ") has an offset beyond 9223372036854775807 bytes: its sizes and strides must be smaller";
}

// What is wrong with the strides of one output: axis < 0 if nothing.
struct Clash {
  int axis = -1;
  std::int64_t stride = 0, needed = 0;
};

// Elements are distinct if every axis steps over all that the axes of smaller stride span. (Not the
// only way, but no layout that anyone uses interleaves its axes otherwise.)
Clash FindClash(const View& view) {
  bool done[View::kAxes] = {};
  std::int64_t span = view.run;  // from the first to behind the last element, of the axes done
  for (int round = 0; round < View::kAxes; round++) {
    int next = -1;
    for (int a = 0; a < View::kAxes; a++) {
      const Axis& axis = view.axes[a];
      if (axis.size == 1 || done[a]) continue;
      if (next < 0 || axis.stride < view.axes[next].stride) next = a;
    }
    if (next < 0) break;
    const Axis& axis = view.axes[next];
    if (axis.stride < span) return {next, axis.stride, span};
    span += (axis.size - 1) * axis.stride;  // fits: the rule before saw to it
    done[next] = true;
  }
  return {};
}

template <class F>
bool ForEachOutput(const Problem& p, F f) {
  return ForEachSequence(p, [&](const Sequence& s) {
    if (!s.written) return true;
    View view = ViewOf(p, s);
    Resolve(&view);
    return view.empty() || f(s, FindClash(view));
  });
}

constexpr const char* kAxisNames[] = {"", "batch", "row", "head"};

constexpr Rule kLayout[] = {
    {"tensors fit",
     [](const Problem& p) {
       return !(ForEachSequence(
                    p, [&](const Sequence& s) { return Fits(ViewOf(p, s), SizeOf(s.dtype)); }) &&
                ForEachBroadcast(p, [&](const BroadcastUse& use) {
                  return Fits(ViewOf(p.*use.tensor), use.bytes);
                }));
     },
     SayTooLarge},
    {"lse fits",
     [](const Problem& p) {
       const std::int64_t tokens = p.ragged ? 1 : p.q_len;  // an entry, at least one
       std::int64_t n = 0;
       return __builtin_mul_overflow(p.batch, tokens > 1 ? tokens : 1, &n) ||
              __builtin_mul_overflow(n > p.total_q ? n : p.total_q, p.q_heads, &n) ||
              n > INT64_MAX / 4;
     },
     [](const Problem& p, const Rule&) {
       return Words("batch is ", p.batch, ", q_heads ", p.q_heads, " and there are ",
                    p.ragged ? p.total_q : p.q_len,
                    " queries: lse, one f32 for each of their product, must fit in "
                    "9223372036854775807 bytes");
     }},
    {"strides of an output",
     [](const Problem& p) {
       return !ForEachOutput(p, [](const Sequence&, const Clash& c) { return c.axis < 0; });
     },
     [](const Problem& p, const Rule&) {
       std::string text;
       ForEachOutput(p, [&](const Sequence& s, const Clash& c) {
         if (c.axis < 0) return true;
         text = Words(s.strides_name, ".", kAxisNames[c.axis], " is ", c.stride,
                      " and the axes inside it span ", c.needed, " elements: ", Name(s.id),
                      " is written, so the stride must be at least ", c.needed,
                      ", or elements would overlap");
         return false;
       });
       return text;
     }},
};

constexpr RuleGroup kGroups[] = {
    Always<kLayout>(),
};

}  // namespace

std::span<const RuleGroup> LayoutRules() { return kGroups; }

}  // namespace heed
