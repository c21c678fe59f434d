// fuzz_index.cpp: libFuzzer target for the index arrays through Run: cu_seqlens, lengths, offsets,
// slots, padding, block tables. Not here: other inputs, random Problems (fuzz_validate.cpp).
#include "fuzz_call.h"

namespace heed::fuzz {
namespace {

void DrawRagged(Bytes* bytes, Call* call) {
  Problem& p = call->problem;
  p.ragged = true;
  p.total_q = bytes->Below(p.batch * p.q_len + 1);
  p.total_k = bytes->Below(p.batch * p.k_len + 1);
  for (const bool keys : {false, true}) {
    auto& cu = keys ? call->cu_k : call->cu_q;
    const std::int64_t total = keys ? p.total_k : p.total_q;
    // Most often right at both ends: else hardly any would be.
    for (std::int64_t b = 0; b <= p.batch; ++b) {
      const bool end = b == 0 || b == p.batch;
      cu.push_back(end && bytes->Below(16) != 0 ? static_cast<std::int32_t>(b == 0 ? 0 : total)
                                                : bytes->Index(0, total));
    }
  }
}

void DrawCache(Bytes* bytes, Call* call) {
  Problem& p = call->problem;
  Cache& c = p.cache;
  c.given = true;
  p.k_len = 0;
  c.rows = 1 + bytes->Below(12);
  const bool paged = bytes->Flag();
  c.blocks = paged ? 1 + bytes->Below(4) : 0;
  c.batch_idx = !paged && bytes->Flag();
  c.slots = paged ? 1 + bytes->Below(12) : p.batch + bytes->Below(3);
  c.leftpad = bytes->Flag();
  const std::int64_t capacity = paged ? c.blocks * c.rows : c.rows;
  c.new_len = bytes->Below(capacity < 4 ? capacity + 1 : 4);
  if (bytes->Flag()) {
    c.rotary = bytes->Flag() ? Rotary::kHalf : Rotary::kInterleaved;
    c.rotary_dim = 4;
    c.rotary_rows = capacity + 2;  // for some queries too few
  }
  for (std::int64_t b = 0; b < p.batch; ++b) {
    call->seqlens.push_back(bytes->Index(0, capacity - c.new_len + (bytes->Below(16) == 0)));
    if (c.leftpad) call->leftpad.push_back(bytes->Index(0, 3));
    if (c.batch_idx) call->batch_idx.push_back(bytes->Index(0, c.slots - 1));
    for (std::int64_t n = 0; n < c.blocks; ++n) {
      call->table.push_back(bytes->Index(0, c.slots - (bytes->Below(16) != 0)));
    }
  }
}

void Try(Bytes bytes) {
  Call call;
  Problem& p = call.problem;
  p.batch = 1 + bytes.Below(4);
  p.q_len = 1 + bytes.Below(9);
  p.k_len = 1 + bytes.Below(40);
  p.k_heads = 1 + bytes.Below(2);
  p.q_heads = p.k_heads * (1 + bytes.Below(3));
  p.dim = 4 + bytes.Below(14);
  p.dim_v = 1 + bytes.Below(17);
  p.want_lse = true;
  p.causal = bytes.Flag();
  if (bytes.Flag()) p.window_left = bytes.Below(9);
  const std::int64_t kind = bytes.Below(4);
  if (kind == 1) DrawRagged(&bytes, &call);
  if (kind >= 2) DrawCache(&bytes, &call);
  p.key_lengths = kind < 2 && bytes.Flag();
  p.query_offsets = bytes.Flag();
  if (p.query_offsets) p.align = Align::kOffset;
  for (std::int64_t b = 0; b < p.batch; ++b) {
    if (p.key_lengths) call.key_lengths.push_back(bytes.Index(0, p.k_len));
    if (p.query_offsets) call.query_offsets.push_back(bytes.Index(-9, 40));
  }
  Require(Validate(p).ok());
  call.FillTensors();
  call.Try();
  if (!p.cache.given) call.TryBackward();
}

}  // namespace
}  // namespace heed::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  heed::fuzz::Try({data, size});
  return 0;
}
