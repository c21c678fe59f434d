// fuzz_call.h: a call made of a fuzzer's bytes: memory of exactly the size that a problem asks for, and
// the same call, forward and backward, on the reference and on the engine. Not here: what is drawn
// (fuzz_*.cpp).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "heed/heed.h"

namespace heed::fuzz {

inline void Require(bool holds) {
  if (!holds) __builtin_trap();
}

// Numbers out of the fuzzer's bytes, zeros behind their end.
class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  std::uint8_t Next() { return at_ < size_ ? data_[at_++] : 0; }
  bool Flag() { return Next() % 2 == 1; }
  std::int64_t Below(std::int64_t n) { return Next() % n; }
  // From low to high; a byte of 255 asks for the next four, so that any int32 can come.
  std::int32_t Index(std::int64_t low, std::int64_t high) {
    const std::uint8_t byte = Next();
    if (byte != 255) return static_cast<std::int32_t>(low + byte % (high - low + 1));
    std::uint32_t bits = 0;
    for (int n = 0; n < 4; ++n) bits = bits << 8 | Next();
    return static_cast<std::int32_t>(bits);
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_, at_ = 0;
};

// f32 tensors, contiguous. Vectors are as long as they must be and no longer, so that the address
// sanitizer sees the first byte too far.
struct Call {
  Problem problem;
  std::vector<float> q, k, v, k_new, v_new, cos, sin;
  std::vector<std::int32_t> key_lengths, query_offsets, cu_q, cu_k, seqlens, batch_idx, leftpad,
      table;
  std::vector<std::uint8_t> mask, block_map;

  // Of a valid problem.
  void FillTensors() {
    const Problem& p = problem;
    const Cache& c = p.cache;
    const std::int64_t queries = p.ragged ? p.total_q : p.batch * p.q_len;
    const std::int64_t keys = c.given ? c.slots * c.rows : p.ragged ? p.total_k : p.batch * p.k_len;
    Fill(queries * p.q_heads * p.dim, &q);
    Fill(keys * p.k_heads * p.dim, &k);
    Fill(keys * p.k_heads * p.dim_v, &v);
    Fill(p.batch * c.new_len * p.k_heads * p.dim, &k_new);
    Fill(p.batch * c.new_len * p.k_heads * p.dim_v, &v_new);
    Fill(c.rotary_rows * (c.rotary_dim / 2), &cos);
    Fill(c.rotary_rows * (c.rotary_dim / 2), &sin);
  }

  // Both answer alike: the same error and nothing written, or results that are near each other.
  void Try() {
    const Problem& p = problem;
    const std::int64_t queries = p.ragged ? p.total_q : p.batch * p.q_len;
    struct Results {
      std::vector<float> o, lse, k, v;
      Status status;
    } results[2];
    for (const int engine : {0, 1}) {
      Results& r = results[engine];
      r.o.assign(static_cast<std::size_t>(queries * p.q_heads * p.dim_v), 77);
      r.lse.assign(static_cast<std::size_t>(queries * p.q_heads), 77);
      r.k = k;
      r.v = v;
      Buffers b = Inputs();
      b.o = r.o.data();
      b.lse = r.lse.data();
      if (p.cache.given) {
        b.k_cache = r.k.data();
        b.v_cache = r.v.data();
      }
      r.status = Forward(p, b, {.backend = engine == 0 ? "reference" : "cpu", .threads = 1});
    }
    const Results &want = results[0], &got = results[1];
    Require(want.status.ok() == got.status.ok());
    Require(want.status.message() == got.status.message());
    if (!want.status) {
      for (const float x : got.o) Require(x == 77);
      for (const float x : got.lse) Require(x == 77);
      Require(got.k == k && got.v == v);
      return;
    }
    Near(want.o, got.o);
    Near(want.lse, got.lse);
    Near(want.k, got.k);
    Near(want.v, got.v);
  }

  // The backward on what the reference's forward gave, or on anything where that found an error: both
  // answer alike again. Not of a cache.
  void TryBackward() {
    Problem p = problem;
    const std::int64_t queries = p.ragged ? p.total_q : p.batch * p.q_len;
    const std::int64_t keys = p.ragged ? p.total_k : p.batch * p.k_len;
    std::vector<float> o(static_cast<std::size_t>(queries * p.q_heads * p.dim_v), 1), dout;
    std::vector<float> lse(static_cast<std::size_t>(queries * p.q_heads), 1);
    Buffers forward = Inputs();
    forward.o = o.data();
    forward.lse = lse.data();
    (void)Forward(p, forward, {.backend = "reference"});
    Fill(queries * p.q_heads * p.dim_v, &dout);
    p.op = Op::kBackward;
    struct Gradients {
      std::vector<float> q, k, v;
      Status status;
    } results[2];
    for (const int engine : {0, 1}) {
      Gradients& g = results[engine];
      g.q.assign(static_cast<std::size_t>(queries * p.q_heads * p.dim), 77);
      g.k.assign(static_cast<std::size_t>(keys * p.k_heads * p.dim), 77);
      g.v.assign(static_cast<std::size_t>(keys * p.k_heads * p.dim_v), 77);
      Buffers b = forward;
      b.dout = dout.data();
      b.dq = g.q.data();
      b.dk = g.k.data();
      b.dv = g.v.data();
      g.status = Backward(p, b, {.backend = engine == 0 ? "reference" : "cpu", .threads = 1});
    }
    const Gradients &want = results[0], &got = results[1];
    Require(want.status.ok() == got.status.ok());
    Require(want.status.message() == got.status.message());
    for (const auto gradient : {&Gradients::q, &Gradients::k, &Gradients::v}) {
      if (want.status) {
        Near(want.*gradient, got.*gradient);
      } else {
        for (const float x : got.*gradient) Require(x == 77);
      }
    }
  }

 private:
  Buffers Inputs() {
    const Problem& p = problem;
    const auto optional = [](const auto& array) { return array.empty() ? nullptr : array.data(); };
    Buffers b;
    b.q = q.data();
    if (!p.cache.given) {
      b.k = k.data();
      b.v = v.data();
    }
    b.k_new = optional(k_new);
    b.v_new = optional(v_new);
    b.rotary_cos = optional(cos);
    b.rotary_sin = optional(sin);
    b.key_lengths = optional(key_lengths);
    b.query_offsets = optional(query_offsets);
    b.cu_seqlens_q = optional(cu_q);
    b.cu_seqlens_k = optional(cu_k);
    b.cache_seqlens = optional(seqlens);
    b.cache_batch_idx = optional(batch_idx);
    b.cache_leftpad = optional(leftpad);
    b.block_table = optional(table);
    b.mask = optional(mask);
    b.block_map = optional(block_map);
    return b;
  }

  // Numbers in [-1, 1), the same in every run.
  static void Fill(std::int64_t n, std::vector<float>* to) {
    std::uint32_t state = static_cast<std::uint32_t>(n);
    to->resize(static_cast<std::size_t>(n));
    for (float& x : *to) {
      state = state * 1664525u + 1013904223u;
      x = static_cast<float>(state >> 8) * 0x1p-23f - 1;
    }
  }

  // Values are at most a few units large: 1e-4 is far above any rounding and far below any key.
  static void Near(const std::vector<float>& a, const std::vector<float>& b) {
    Require(a.size() == b.size());
    for (std::size_t n = 0; n < a.size(); ++n) {
      Require(a[n] == b[n] || std::fabs(a[n] - b[n]) < 1e-4f);
    }
  }
};

}  // namespace heed::fuzz
