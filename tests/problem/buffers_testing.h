// buffers_testing.h: memory for every pointer that a problem asks for. Not here: the tests.
#pragma once

#include <cstddef>
#include <cstring>
#include <deque>
#include <vector>

#include "problem/layout.h"
#include "problem/normal.h"
#include "problem/validate.h"

namespace heed {

// A normal problem with buffers that fit it; index arrays hold the smallest valid numbers.
struct Call {
  Problem problem;
  Buffers buffers;
  std::int64_t workspace_bytes = 96;

  explicit Call(const Problem& p) : problem(Normalize(p)) {
    const Problem& n = problem;
    const Cache& c = n.cache;
    ForEachSequence(n, [&](const Sequence& s) {
      const View view = ViewOf(n, s);
      Extent extent;
      ExtentOf(view, SizeOf(s.dtype), &extent);
      const std::int64_t bytes = SizeOf(s.dtype);
      void* data =
          static_cast<char*>(Take((extent.last - extent.first) * bytes)) - extent.first * bytes;
      Set(s.id, data);
      return true;
    });
    ForEachBroadcast(n, [&](const BroadcastUse& use) {
      Set(use.id, Take(8 * 1024));
      return true;
    });
    const bool backward = n.op == Op::kBackward;
    Buffers& b = buffers;
    if (backward || n.want_lse) b.lse = Floats();
    if (n.want_probs) b.probs = Floats();
    if (n.alibi != Alibi::kNone) b.alibi_slopes = Floats();
    if (n.sinks) b.sinks = Floats();
    if (n.key_lengths) b.key_lengths = Ints(n.batch, 0);
    if (n.query_offsets) b.query_offsets = Ints(n.batch, 0);
    if (n.ragged) {
      b.cu_seqlens_q = Cumulative(n.total_q, n.q_len);
      b.cu_seqlens_k = Cumulative(n.total_k, n.k_len);
    }
    if (c.given) b.cache_seqlens = Ints(n.batch, 0);
    if (c.batch_idx) {
      std::int32_t* slots = Ints(n.batch, 0);
      for (std::int32_t i = 0; i < n.batch; i++) slots[i] = i;
      b.cache_batch_idx = slots;
    }
    if (c.leftpad) b.cache_leftpad = Ints(n.batch, 0);
    if (c.blocks > 0) {
      std::int32_t* table = Ints(n.batch * c.blocks, 0);
      for (std::int32_t i = 0; i < n.batch * c.blocks; i++) table[i] = i;
      b.block_table = table;
    }
    if (c.rotary != Rotary::kNone) {
      b.rotary_cos = Floats();
      b.rotary_sin = Floats();
    }
    if (n.dlse) b.dlse = Floats();
    if (n.want_dbias) b.dbias = Take(8 * 1024);
    if (n.want_dsinks) b.dsinks = Floats();
    b.workspace = {Take(workspace_bytes), static_cast<std::size_t>(workspace_bytes)};
  }

  Status Check(Place place = Place::kHost) const {
    return CheckBuffers(problem, workspace_bytes, buffers, place);
  }

  // Arrays of Buffers that are const there.
  std::int32_t* Mutable(const std::int32_t* array) { return const_cast<std::int32_t*>(array); }

  void* Take(std::int64_t bytes) {
    memory_.emplace_back(static_cast<std::size_t>(bytes) / 8 + 2);
    return memory_.back().data();
  }

 private:
  float* Floats() { return static_cast<float*>(Take(4 * 1024)); }

  std::int32_t* Ints(std::int64_t n, std::int32_t value) {
    auto* data = static_cast<std::int32_t*>(Take(4 * n));
    for (std::int64_t i = 0; i < n; i++) data[i] = value;
    return data;
  }

  // As long as they may be, until the total is used up.
  std::int32_t* Cumulative(std::int64_t total, std::int64_t longest) {
    std::int32_t* cu = Ints(problem.batch + 1, 0);
    for (std::int64_t b = 0; b < problem.batch; b++) {
      const std::int64_t next = cu[b] + longest;
      cu[b + 1] = static_cast<std::int32_t>(next < total ? next : total);
    }
    return cu;
  }

  void Set(TensorId id, void* data) {
    Buffers& b = buffers;
    switch (id) {
      case TensorId::kQ:
        b.q = data;
        break;
      case TensorId::kK:
        b.k = data;
        break;
      case TensorId::kV:
        b.v = data;
        break;
      case TensorId::kO:
        b.o = data;
        break;
      case TensorId::kKCache:
        b.k_cache = data;
        break;
      case TensorId::kVCache:
        b.v_cache = data;
        break;
      case TensorId::kKNew:
        b.k_new = data;
        break;
      case TensorId::kVNew:
        b.v_new = data;
        break;
      case TensorId::kDout:
        b.dout = data;
        break;
      case TensorId::kDq:
        b.dq = data;
        break;
      case TensorId::kDk:
        b.dk = data;
        break;
      case TensorId::kDv:
        b.dv = data;
        break;
      case TensorId::kBias:
        b.bias = data;
        break;
      case TensorId::kMask:
        b.mask = static_cast<std::uint8_t*>(data);
        break;
      case TensorId::kBlockMap:
        b.block_map = static_cast<std::uint8_t*>(data);
        break;
    }
  }

  std::deque<std::vector<std::uint64_t>> memory_;
};

inline Problem DenseForward() {
  return {.batch = 2,
          .q_len = 5,
          .k_len = 7,
          .q_heads = 6,
          .k_heads = 3,
          .dim = 8,
          .dim_v = 4,
          .want_lse = true};
}

// Every tensor and array that a dense forward may have.
inline Problem FullForward() {
  Problem p = DenseForward();
  p.alibi = Alibi::kPerBatchHead;
  p.bias = {.given = true, .rows = 5, .cols = 7};
  p.mask = {.given = true, .heads = 6, .cols = 7};
  p.block_rows = p.block_cols = 4;
  p.block_map = {.given = true, .rows = 2, .cols = 2};
  p.sinks = p.key_lengths = p.query_offsets = p.want_probs = true;
  p.align = Align::kOffset;
  return p;
}

inline Problem FullBackward() {
  Problem p = FullForward();
  p.op = Op::kBackward;
  p.want_lse = p.want_probs = false;
  p.dlse = p.want_dbias = p.want_dsinks = true;
  return p;
}

inline Problem RaggedForward() {
  Problem p = DenseForward();
  p.batch = 3;
  p.ragged = true;
  p.total_q = 9;
  p.total_k = 10;
  return p;
}

// 3 entries against 5 slots of 16 rows, 2 new rows each.
inline Problem CacheForward() {
  Problem p = DenseForward();
  p.batch = 3;
  p.k_len = 0;
  p.cache = {.given = true, .slots = 5, .rows = 16, .new_len = 2, .leftpad = true};
  return p;
}

// 3 entries of up to 3 pages of 4 rows, of 9 pages.
inline Problem PagedForward() {
  Problem p = CacheForward();
  p.cache.slots = 9;
  p.cache.rows = 4;
  p.cache.blocks = 3;
  return p;
}

}  // namespace heed
