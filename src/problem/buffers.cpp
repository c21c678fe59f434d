// buffers.cpp: CheckBuffers: pointers, alignment, workspace, overlap. Not here:
// what index arrays hold (buffers_index.cpp), whether two regions share memory (overlap.cpp).
#include <cstddef>
#include <optional>

#include "problem/buffers.h"
#include "problem/layout.h"
#include "problem/overlap.h"
#include "problem/validate.h"
#include "problem/words.h"

namespace heed {
namespace {

struct Element {
  const char* name;
  std::int64_t bytes;
  constexpr Element(const char* n, std::int64_t b) : name(n), bytes(b) {}
  constexpr Element(DType t) : name(Name(t)), bytes(SizeOf(t)) {}  // NOLINT: implicit on purpose
};
constexpr Element kInt32 = {"int32", 4};
constexpr Element kBool = {"bool", 1};

// Collects the regions of a call, until a pointer breaks a rule.
class Call {
 public:
  Status status;

  // A pointer that the problem asks for.
  bool Wanted(const char* name, const void* data, const View& view, Element element, bool written) {
    if (view.empty()) return true;
    const auto address = reinterpret_cast<std::uintptr_t>(data);
    if (data == nullptr || (address & static_cast<std::uintptr_t>(element.bytes - 1)) != 0) {
      return Fail(name, data, view, element);
    }
    Region& region = regions_[count_++];
    region = {name, address, 0, 0, view, element.bytes, written};
    Measure(&region);
    return true;
  }

  // `n` contiguous elements, asked for where `wanted`; `why` says what the problem says where not.
  bool Array(const char* name, const void* data, bool wanted, const char* why, std::int64_t n,
             Element element, bool written = false) {
    if (!wanted) return Unwanted(name, data, why);
    return Wanted(name, data, Contiguous(n), element, written);
  }

  bool Unwanted(const char* name, const void* data, const char* why) {
    return data == nullptr || FailUnwanted(name, why);
  }

  bool Workspace(const heed::Workspace& w, std::int64_t needed) {
    if (needed == 0) return true;
    if (w.data == nullptr || w.bytes < static_cast<std::size_t>(needed)) {
      status = {StatusCode::kBuffers,
                w.data == nullptr
                    ? Words("workspace is null and the plan needs ", needed, " bytes")
                    : Words("workspace has ", w.bytes, " bytes and the plan needs ", needed)};
      return false;
    }
    return Wanted("workspace", w.data, Contiguous(needed), {"byte", 1}, true);
  }

  // No output shares memory with anything else.
  bool Apart() {
    for (int a = 0; a < count_; a++) {
      if (!regions_[a].written) continue;
      for (int b = 0; b < count_; b++) {
        if (b == a || !Meet(regions_[a], regions_[b]) || !Share(regions_[a], regions_[b])) continue;
        status = {StatusCode::kBuffers, Words(regions_[a].name, " is written and overlaps ",
                                              regions_[b].name, ": they must not share memory")};
        return false;
      }
    }
    return true;
  }

 private:
  bool FailUnwanted(const char* name, const char* why) {
    status = {StatusCode::kBuffers, Words(name, " is given, but ", why, ": leave it null")};
    return false;
  }

  bool Fail(const char* name, const void* data, const View& view, Element element) {
    std::string shape;
    for (const Axis& axis : view.axes) {
      if (axis.size != 1) shape += Words(axis.size, " x ");
    }
    shape += Words(view.run, " elements of ", element.name);
    status = {StatusCode::kBuffers,
              data == nullptr ? Words(name, " is null: the problem asks for a pointer to ", shape)
                              : Words(name, " is at an address ",
                                      reinterpret_cast<std::uintptr_t>(data) %
                                          static_cast<std::uintptr_t>(element.bytes),
                                      " bytes beyond a multiple of ", element.bytes, ": ",
                                      element.name, " must be aligned to its size")};
    return false;
  }

  Region
      regions_[32];  // 29 pointers of Buffers, of which no problem asks for all, and the workspace
  int count_ = 0;
};

// The pointer to a strided tensor.
const void* PointerOf(const Buffers& b, TensorId id) {
  switch (id) {
    case TensorId::kQ:
      return b.q;
    case TensorId::kK:
      return b.k;
    case TensorId::kV:
      return b.v;
    case TensorId::kO:
      return b.o;
    case TensorId::kKCache:
      return b.k_cache;
    case TensorId::kVCache:
      return b.v_cache;
    case TensorId::kKNew:
      return b.k_new;
    case TensorId::kVNew:
      return b.v_new;
    case TensorId::kDout:
      return b.dout;
    case TensorId::kDq:
      return b.dq;
    case TensorId::kDk:
      return b.dk;
    case TensorId::kDv:
      return b.dv;
    case TensorId::kBias:
      return b.bias;
    case TensorId::kMask:
      return b.mask;
    case TensorId::kBlockMap:
      return b.block_map;
  }
  return nullptr;
}

bool CheckTensors(const Problem& p, const Buffers& b, Call* call) {
  constexpr const char* kNoCache = "cache.given is false";
  constexpr const char* kCache = "keys and values come from the cache";
  constexpr const char* kNoNew = "cache.new_len is 0";
  constexpr const char* kForward = "op is kForward";
  const bool cache = p.cache.given, append = cache && p.cache.new_len > 0;
  const bool backward = p.op == Op::kBackward;
  return (!cache || (call->Unwanted("k", b.k, kCache) && call->Unwanted("v", b.v, kCache))) &&
         (cache || (call->Unwanted("k_cache", b.k_cache, kNoCache) &&
                    call->Unwanted("v_cache", b.v_cache, kNoCache))) &&
         (append ||
          (call->Unwanted("k_new", b.k_new, kNoNew) && call->Unwanted("v_new", b.v_new, kNoNew))) &&
         (backward ||
          (call->Unwanted("dout", b.dout, kForward) && call->Unwanted("dq", b.dq, kForward) &&
           call->Unwanted("dk", b.dk, kForward) && call->Unwanted("dv", b.dv, kForward))) &&
         (p.bias.given || call->Unwanted("bias", b.bias, "bias.given is false")) &&
         (p.mask.given || call->Unwanted("mask", b.mask, "mask.given is false")) &&
         (p.block_map.given ||
          call->Unwanted("block_map", b.block_map, "block_map.given is false")) &&
         ForEachSequence(p,
                         [&](const Sequence& s) {
                           return call->Wanted(Name(s.id), PointerOf(b, s.id), ViewOf(p, s),
                                               s.dtype, s.written);
                         }) &&
         ForEachBroadcast(p, [&](const BroadcastUse& use) {
           return call->Wanted(Name(use.id), PointerOf(b, use.id), ViewOf(p.*use.tensor),
                               use.id == TensorId::kBias ? Element(p.bias_dtype) : kBool, false);
         });
}

// Contiguous arrays.
bool CheckArrays(const Problem& p, const Buffers& b, Call* call) {
  const Cache& c = p.cache;
  const bool backward = p.op == Op::kBackward, rotary = c.rotary != Rotary::kNone;
  const std::int64_t n = p.batch, hq = p.q_heads, table = c.rotary_rows * (c.rotary_dim / 2);
  const std::int64_t rows = hq * (p.ragged ? p.total_q : n * p.q_len);
  const char* in_forward = "op is kForward";
  const DType f32 = DType::kF32;
  return call->Array("lse", b.lse, backward || p.want_lse, "want_lse is false", rows, f32,
                     !backward) &&
         call->Array("probs", b.probs, p.want_probs, "want_probs is false",
                     p.want_probs ? n * hq * p.q_len * p.k_len : 0, *p.out_dtype, true) &&
         call->Array("alibi_slopes", b.alibi_slopes, p.alibi != Alibi::kNone, "alibi is kNone",
                     p.alibi == Alibi::kPerBatchHead ? n * hq : hq, f32) &&
         call->Array("sinks", b.sinks, p.sinks, "sinks is false", hq, f32) &&
         call->Array("key_lengths", b.key_lengths, p.key_lengths, "key_lengths is false", n,
                     kInt32) &&
         call->Array("query_offsets", b.query_offsets, p.query_offsets, "query_offsets is false", n,
                     kInt32) &&
         call->Array("cu_seqlens_q", b.cu_seqlens_q, p.ragged, "ragged is false", n + 1, kInt32) &&
         call->Array("cu_seqlens_k", b.cu_seqlens_k, p.ragged, "ragged is false", n + 1, kInt32) &&
         call->Array("cache_seqlens", b.cache_seqlens, c.given, "cache.given is false", n,
                     kInt32) &&
         call->Array("cache_batch_idx", b.cache_batch_idx, c.batch_idx, "cache.batch_idx is false",
                     n, kInt32) &&
         call->Array("cache_leftpad", b.cache_leftpad, c.leftpad, "cache.leftpad is false", n,
                     kInt32) &&
         call->Array("block_table", b.block_table, c.blocks > 0, "cache.blocks is 0", n * c.blocks,
                     kInt32) &&
         call->Array("rotary_cos", b.rotary_cos, rotary, "cache.rotary is kNone", table, p.dtype) &&
         call->Array("rotary_sin", b.rotary_sin, rotary, "cache.rotary is kNone", table, p.dtype) &&
         call->Array("dlse", b.dlse, p.dlse, backward ? "dlse is false" : in_forward, rows, f32) &&
         call->Array("dbias", b.dbias, p.want_dbias, backward ? "want_dbias is false" : in_forward,
                     p.want_dbias ? p.bias.batch * p.bias.heads * p.bias.rows * p.bias.cols : 0,
                     p.f32_grads ? f32 : p.bias_dtype, true) &&
         call->Array("dsinks", b.dsinks, p.want_dsinks,
                     backward ? "want_dsinks is false" : in_forward, hq, f32, true);
}

}  // namespace

Status CheckBuffers(const Problem& p, std::int64_t workspace_bytes, const Buffers& b, Place place) {
  const bool host = place == Place::kHost;
  Call call;
  if (!CheckTensors(p, b, &call) || !CheckArrays(p, b, &call) ||
      (host && !call.Unwanted("stream", b.stream, "the buffers are host memory")) ||
      !call.Workspace(b.workspace, workspace_bytes) || !call.Apart()) {
    return call.status;
  }
  return host ? CheckIndexArrays(p, b) : Status();
}

}  // namespace heed
