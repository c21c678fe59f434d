// fuzz_block_map.cpp: libFuzzer target for block maps through Run: any block sizes, shapes that fit or
// do not, any content, with a mask, causal and windows. Not here: other inputs.
#include "fuzz_call.h"

namespace heed::fuzz {
namespace {

std::int64_t Up(std::int64_t n, std::int64_t block) { return (n + block - 1) / block; }

// A size that is right most often, else one beside it or anything.
std::int64_t Size(Bytes* bytes, std::int64_t right) {
  const std::int64_t kind = bytes->Below(8);
  return kind == 7 ? bytes->Index(0, 50) : kind == 6 ? right - 1 : kind == 5 ? right + 1 : right;
}

std::vector<std::uint8_t> Bits(Bytes* bytes, const Broadcast& t) {
  std::vector<std::uint8_t> bits(static_cast<std::size_t>(t.batch * t.heads * t.rows * t.cols));
  for (std::size_t n = 0; n < bits.size(); n += 8) {
    const std::uint8_t byte = bytes->Next();
    for (std::size_t m = n; m < n + 8 && m < bits.size(); ++m) bits[m] = byte >> (m - n) & 1;
  }
  return bits;
}

void Try(Bytes bytes) {
  Call call;
  Problem& p = call.problem;
  p.batch = 1 + bytes.Below(2);
  p.q_len = bytes.Below(60);
  p.k_len = bytes.Below(80);
  p.k_heads = 1;
  p.q_heads = 1 + bytes.Below(3);
  p.dim = p.dim_v = 8;
  p.want_lse = true;
  p.block_rows = bytes.Index(1, 40);
  p.block_cols = bytes.Index(1, 40);
  p.block_map.given = true;
  const std::int64_t heads = bytes.Flag() ? p.q_heads : 1, batch = bytes.Flag() ? p.batch : 1;
  p.block_map.batch = Size(&bytes, batch);
  p.block_map.heads = Size(&bytes, heads);
  p.block_map.rows = p.block_rows > 0 ? Size(&bytes, Up(p.q_len, p.block_rows)) : 1;
  p.block_map.cols = p.block_cols > 0 ? Size(&bytes, Up(p.k_len, p.block_cols)) : 1;
  p.causal = bytes.Flag();
  if (bytes.Flag()) p.window_left = bytes.Below(40);
  if (bytes.Flag()) p.prefix = bytes.Below(20);
  if (bytes.Flag()) {
    p.align = Align::kOffset;
    p.query_offset = bytes.Index(-70, 90);
  }
  if (bytes.Below(4) == 0) {
    p.mask = {.given = true, .rows = p.q_len, .cols = p.k_len};
  }
  const Status status = Validate(p);
  Require(status.ok() == status.message().empty());
  if (!status) return;
  call.block_map = Bits(&bytes, p.block_map);
  if (p.mask.given) call.mask = Bits(&bytes, p.mask);
  call.FillTensors();
  call.Try();
}

}  // namespace
}  // namespace heed::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  heed::fuzz::Try({data, size});
  return 0;
}
