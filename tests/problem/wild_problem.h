// wild_problem.h: problems out of any stream of numbers: some tame, so that they are often valid,
// some with any 64-bit value anywhere. Shared with the fuzzer, so it sees the public API alone.
#pragma once

#include <bit>
#include <cstdint>

#include "heed/problem.h"

namespace heed {

// `next` gives 64 bits a call.
template <class Next>
class WildProblem {
 public:
  explicit WildProblem(Next next) : next_(next) {}

  Problem Draw() {
    tame_ = Bits() % 2 == 0;
    Problem p;
    p.batch = Size(3);
    p.q_len = Size(9);
    p.k_len = Size(9);
    p.k_heads = Size(3);
    p.q_heads = tame_ ? (p.k_heads == 0 ? 2 : p.k_heads * static_cast<std::int64_t>(Bits() % 3 + 1))
                      : Size(6);
    p.dim = tame_ ? static_cast<std::int64_t>(Bits() % 20 + 1) : Size(20);
    p.dim_v = Size(20);
    p.dtype = Enum<DType>(4);
    p.bias_dtype = tame_ ? p.dtype : Enum<DType>(4);
    p.causal = Flag();
    p.window_left = Seldom() ? Size(5) : -1;
    p.window_right = Seldom() ? Size(5) : -1;
    p.prefix = Seldom() ? Size(4) : 0;
    p.chunk = Seldom() ? Size(4) : 0;
    p.align = Enum<Align>(3);
    if (p.align == Align::kOffset || Wild()) {
      if (Flag()) {
        p.query_offset = Flag() ? Any(20) : -(Any(20) / 2);
      } else {
        p.query_offsets = true;
      }
    }
    if (Seldom()) p.scale = Real();
    if (Seldom()) p.softcap = Real();
    if (Seldom()) p.dropout_p = tame_ ? 0.25 : Real();
    p.alibi = Enum<Alibi>(3);
    p.sinks = Flag();
    p.key_lengths = Seldom();
    DrawBroadcasts(&p);
    if (Seldom()) DrawRagged(&p);
    if (Seldom()) DrawCache(&p);
    DrawResults(&p);
    for (const auto strides :
         {&Problem::q_strides, &Problem::k_strides, &Problem::v_strides, &Problem::o_strides,
          &Problem::k_new_strides, &Problem::v_new_strides, &Problem::dout_strides,
          &Problem::dq_strides, &Problem::dk_strides, &Problem::dv_strides}) {
      if (Wild()) p.*strides = {Any(1000), Any(1000), Any(1000)};
    }
    return p;
  }

 private:
  std::uint64_t Bits() { return next_(); }
  bool Flag() { return Bits() % 2 == 0; }
  bool Seldom() { return Bits() % 8 == 0; }
  bool Wild() { return !tame_ && Bits() % 8 == 0; }

  // Any number, but small ones, powers of two and the ends more often.
  std::int64_t Any(std::int64_t small) {
    const std::uint64_t kind = tame_ ? 0 : Bits() % 8, bits = Bits();
    if (kind < 5) return static_cast<std::int64_t>(bits % static_cast<std::uint64_t>(small + 1));
    if (kind == 5) return static_cast<std::int64_t>(bits);
    if (kind == 6)
      return static_cast<std::int64_t>((std::uint64_t{1} << (bits % 64)) + bits / 64 % 3 - 1);
    return bits % 2 == 0 ? -static_cast<std::int64_t>(bits % 100) : INT64_MAX;
  }
  std::int64_t Size(std::int64_t small) { return Any(small); }

  template <class E>
  E Enum(std::uint8_t count) {
    return static_cast<E>(Bits() % (count + (Wild() ? 2u : 0u)));
  }

  double Real() {
    return tame_ ? static_cast<double>(Bits() % 100 + 1) / 10 : std::bit_cast<double>(Bits());
  }

  void DrawShape(std::int64_t batch, std::int64_t heads, std::int64_t rows, std::int64_t cols,
                 Broadcast* t) {
    t->given = true;
    t->batch = Flag() ? 1 : batch;
    t->heads = Flag() ? 1 : heads;
    t->rows = Flag() ? 1 : rows;
    t->cols = Flag() ? 1 : cols;
    if (Wild()) t->cols = Any(9);
    if (Wild()) t->stride_batch = Any(99);
    if (Wild()) t->stride_head = Any(99);
    if (Wild()) t->stride_row = Any(99);
    if (Wild()) t->stride_col = Any(99);
  }

  void DrawBroadcasts(Problem* p) {
    if (Seldom()) DrawShape(p->batch, p->q_heads, p->q_len, p->k_len, &p->bias);
    if (Seldom()) DrawShape(p->batch, p->q_heads, p->q_len, p->k_len, &p->mask);
    if (Seldom()) {
      p->block_rows = 1 + Any(4) % 1000;
      p->block_cols = 1 + Any(4) % 1000;
      DrawShape(p->batch, p->q_heads, 1, 1, &p->block_map);
      p->block_map.rows = Blocks(p->q_len, p->block_rows);
      p->block_map.cols = Blocks(p->k_len, p->block_cols);
    }
  }
  static std::int64_t Blocks(std::int64_t n, std::int64_t block) {
    return block <= 0 || n <= 0 ? 0 : (n - 1) / block + 1;
  }

  void DrawRagged(Problem* p) {
    p->ragged = true;
    p->total_q = tame_ ? p->batch * p->q_len / 2 : Any(9);
    p->total_k = tame_ ? p->batch * p->k_len / 2 : Any(9);
  }

  void DrawCache(Problem* p) {
    Cache& c = p->cache;
    c.given = true;
    c.slots = tame_ ? p->batch : Any(5);
    c.rows = 1 + Any(9) % 10000;
    c.blocks = Flag() ? 0 : Any(4);
    c.new_len = Any(1);
    c.batch_idx = (c.blocks == 0 || Wild()) && Seldom();
    c.leftpad = Flag();
    c.rotary = Enum<Rotary>(3);
    if (c.rotary != Rotary::kNone || Wild()) {
      c.rotary_dim = tame_ ? 2 : Any(8);
      if (tame_) p->dim += 1;
      c.rotary_rows = 30 + Any(9) % 10000;
    }
    if (tame_) {
      p->k_len = 0;
      p->key_lengths = p->ragged = false;
      p->total_q = p->total_k = 0;
      p->bias = p->mask = p->block_map = {};
      p->block_rows = p->block_cols = 0;
    }
  }

  void DrawResults(Problem* p) {
    p->op = tame_ && p->cache.given ? Op::kForward : Enum<Op>(2);
    p->want_lse = Flag();
    if (Seldom()) p->out_dtype = tame_ ? DType::kF32 : Enum<DType>(4);
    const bool backward = p->op == Op::kBackward;
    p->want_probs = (!backward || Wild()) && Seldom();
    if (backward || Wild()) {
      p->dlse = Flag();
      p->want_dbias = (p->bias.given || Wild()) && Flag();
      p->want_dsinks = (p->sinks || Wild()) && Flag();
      p->f32_grads = Flag();
      p->accumulate = Flag();
    }
  }

  Next next_;
  bool tame_ = true;
};

}  // namespace heed
