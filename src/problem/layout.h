// layout.h: the tensors of a Problem: which ones it uses, their shapes, strides and extents. Not
// here: rules, pointers.
#pragma once

#include <cstdint>

#include "heed/problem.h"

namespace heed {

// Sizes and shifts beyond this are refused, so that sums of a few of them never overflow. 2^40 rows
// of one f32 are 4 TiB: no machine holds a tensor that needs more.
inline constexpr std::int64_t kMaxSize = std::int64_t{1} << 40;
// |i + shift - j| stays below 3 * 2^40, so a window or a chunk of this size is as good as any
// larger one.
inline constexpr std::int64_t kFar = std::int64_t{1} << 42;

struct Axis {
  std::int64_t size, stride;
};

// A strided view: `run` contiguous elements at every point of at most four axes, the outermost
// first.
struct View {
  static constexpr int kAxes = 4;
  Axis axes[kAxes];
  std::int64_t run;

  constexpr bool empty() const {
    for (const Axis& a : axes) {
      if (a.size == 0) return true;
    }
    return run == 0;
  }
};

constexpr View Contiguous(std::int64_t elements) {
  return {{{1, 0}, {1, 0}, {1, 0}, {1, 0}}, elements};
}

// Fills in the strides that say kPacked: an axis steps over everything inside it, whatever strides
// were given there, so that the batch of a (B,H,S,D) tensor or of a slice of a packed one is right,
// too. Axes of size 1 get stride 0. False if a stride does not fit 64 bits.
constexpr bool Resolve(View* view) {
  std::int64_t reach = view->run;
  for (int a = View::kAxes - 1; a >= 0; a--) {
    Axis& axis = view->axes[a];
    if (axis.size == 1) {
      axis.stride = 0;
      continue;
    }
    if (axis.stride == kPacked) axis.stride = reach;
    std::int64_t span = 0;
    if (__builtin_mul_overflow(axis.size, axis.stride < 0 ? -axis.stride : axis.stride, &span)) {
      return false;
    }
    if (span > reach) reach = span;
  }
  return true;
}

// Offsets [first, last) in elements that a resolved view touches; first <= 0.
struct Extent {
  std::int64_t first, last;
};

// False if an offset, in bytes of elements of `bytes`, does not fit 64 bits.
constexpr bool ExtentOf(const View& view, std::int64_t bytes, Extent* extent) {
  *extent = {};
  if (view.empty()) return true;
  std::int64_t first = 0, last = view.run;
  for (const Axis& axis : view.axes) {
    std::int64_t span = 0;
    if (__builtin_mul_overflow(axis.size - 1, axis.stride, &span)) return false;
    std::int64_t& end = axis.stride < 0 ? first : last;
    if (__builtin_add_overflow(end, span, &end)) return false;
  }
  std::int64_t whole = 0;
  if (__builtin_sub_overflow(last, first, &whole) || __builtin_mul_overflow(whole, bytes, &whole)) {
    return false;
  }
  *extent = {first, last};
  return true;
}

// ---------------------------------------------------------------- the tensors with strides of
// their own

enum class TensorId : std::uint8_t {
  kQ,
  kK,
  kV,
  kO,
  kKCache,
  kVCache,
  kKNew,
  kVNew,
  kDout,
  kDq,
  kDk,
  kDv,
  kBias,
  kMask,
  kBlockMap
};

constexpr const char* Name(TensorId id) {
  constexpr const char* kNames[] = {"q",       "k",     "v",     "o",    "k_cache",
                                    "v_cache", "k_new", "v_new", "dout", "dq",
                                    "dk",      "dv",    "bias",  "mask", "block_map"};
  return kNames[static_cast<int>(id)];
}

// A (batch, rows, heads, width) tensor: in a ragged batch its rows are all tokens and the batch is
// 1, in a cache the batch are the slots or pages.
struct Sequence {
  TensorId id;
  Strides Problem::*strides;
  const char* strides_name;
  std::int64_t batch, rows, heads, width;
  DType dtype;
  bool written;
};

constexpr std::int64_t KeyHeads(const Problem& p) { return p.k_heads == 0 ? p.q_heads : p.k_heads; }
constexpr std::int64_t DimV(const Problem& p) { return p.dim_v == 0 ? p.dim : p.dim_v; }
constexpr DType OutDType(const Problem& p) { return p.out_dtype.value_or(p.dtype); }
constexpr DType GradDType(const Problem& p) { return p.f32_grads ? DType::kF32 : p.dtype; }
// Rows that one entry may fill.
constexpr std::int64_t CacheCapacity(const Cache& c) {
  return c.blocks > 0 ? c.blocks * c.rows : c.rows;
}
// Sk, with a cache its capacity.
constexpr std::int64_t KeyLength(const Problem& p) {
  return p.cache.given ? CacheCapacity(p.cache) : p.k_len;
}

// Calls f(Sequence) for each one that the problem uses, until f says false; false if it did.
template <class F>
constexpr bool ForEachSequence(const Problem& p, F&& f) {
  using S = Sequence;
  const std::int64_t hq = p.q_heads, hk = KeyHeads(p), d = p.dim, dv = DimV(p);
  const std::int64_t b = p.ragged ? 1 : p.batch;
  const std::int64_t sq = p.ragged ? p.total_q : p.q_len, sk = p.ragged ? p.total_k : p.k_len;
  const bool backward = p.op == Op::kBackward;
  const DType t = p.dtype, out = OutDType(p), grad = GradDType(p);
  if (!f(S{TensorId::kQ, &Problem::q_strides, "q_strides", b, sq, hq, d, t, false})) return false;
  if (p.cache.given) {
    const Cache& c = p.cache;
    const bool append = c.new_len > 0;
    if (!f(S{TensorId::kKCache, &Problem::k_strides, "k_strides", c.slots, c.rows, hk, d, t,
             append}) ||
        !f(S{TensorId::kVCache, &Problem::v_strides, "v_strides", c.slots, c.rows, hk, dv, t,
             append})) {
      return false;
    }
    if (append && (!f(S{TensorId::kKNew, &Problem::k_new_strides, "k_new_strides", b, c.new_len, hk,
                        d, t, false}) ||
                   !f(S{TensorId::kVNew, &Problem::v_new_strides, "v_new_strides", b, c.new_len, hk,
                        dv, t, false}))) {
      return false;
    }
  } else if (!f(S{TensorId::kK, &Problem::k_strides, "k_strides", b, sk, hk, d, t, false}) ||
             !f(S{TensorId::kV, &Problem::v_strides, "v_strides", b, sk, hk, dv, t, false})) {
    return false;
  }
  if (!f(S{TensorId::kO, &Problem::o_strides, "o_strides", b, sq, hq, dv, out, !backward}))
    return false;
  return !backward ||
         (f(S{TensorId::kDout, &Problem::dout_strides, "dout_strides", b, sq, hq, dv, t, false}) &&
          f(S{TensorId::kDq, &Problem::dq_strides, "dq_strides", b, sq, hq, d, grad, true}) &&
          f(S{TensorId::kDk, &Problem::dk_strides, "dk_strides", b, sk, hk, d, grad, true}) &&
          f(S{TensorId::kDv, &Problem::dv_strides, "dv_strides", b, sk, hk, dv, grad, true}));
}

constexpr View ViewOf(const Problem& p, const Sequence& s) {
  const Strides& t = p.*s.strides;
  return {{{1, 0}, {s.batch, t.batch}, {s.rows, t.row}, {s.heads, t.head}}, s.width};
}

constexpr View ViewOf(const Broadcast& t) {
  return {{{t.batch, t.stride_batch},
           {t.heads, t.stride_head},
           {t.rows, t.stride_row},
           {t.cols, t.stride_col}},
          1};
}

struct BroadcastUse {
  TensorId id;
  Broadcast Problem::*tensor;
  std::int64_t bytes;
};

// Calls f(BroadcastUse) for each one that is given, until f says false; false if it did.
template <class F>
constexpr bool ForEachBroadcast(const Problem& p, F&& f) {
  return (!p.bias.given ||
          f(BroadcastUse{TensorId::kBias, &Problem::bias, SizeOf(p.bias_dtype)})) &&
         (!p.mask.given || f(BroadcastUse{TensorId::kMask, &Problem::mask, 1})) &&
         (!p.block_map.given || f(BroadcastUse{TensorId::kBlockMap, &Problem::block_map, 1}));
}

}  // namespace heed
