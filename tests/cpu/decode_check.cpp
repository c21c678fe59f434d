// decode_check.cpp: the table of one instruction set's decode kernels. Compiled once per set with
// -DHEED_ISA=<name> and its flags, as the kernels are, and under their rules: no std templates.
#include "decode_check.h"

#include "cpu/decode.h"

namespace heed::cpu::HEED_ISA {
namespace {

// The parts of a call that joining the pieces looks at.
ForwardCall CallOf(const DecodeCall& c, float* partials) {
  ForwardCall call;
  call.o = c.o;
  call.lse = c.lse;
  call.q_heads = c.heads * c.rows;  // every row is a head of its own, with one query
  call.group = c.rows;
  call.o_steps.head = c.dim_v;
  call.lse_head = 1;
  call.q_len = 1;
  call.k_len = c.keys;
  call.dim = c.dim;
  call.dim_v = c.dim_v;
  call.dtype = c.dtype;
  call.out_dtype = c.o_f32 ? DType::kF32 : c.dtype;
  call.split.pieces = static_cast<int>(heed::Max(1, CeilDiv(c.keys, c.piece)));
  call.split.rows = c.rows;
  call.split.o_step = RoundUp(c.dim_v, W);
  call.split.partials = partials;
  return call;
}

template <class F>
void RunOf(const DecodeCall& c, void* scratch) {
  using E = typename F::E;
  const int walked = c.together ? c.heads : 1;
  const std::int64_t work = DecodeWorkspace<F>(c.dim, c.dim_v, c.rows, walked);
  const ForwardCall call = CallOf(c, reinterpret_cast<float*>(static_cast<char*>(scratch) + work));
  for (std::int64_t n = 0; n < call.split.pieces; n++)
    for (int h = 0; h < c.heads; h += walked) {
      DecodeArgs<E> a;
      a.dim = c.dim;
      a.dim_v = c.dim_v;
      a.rows = c.rows;
      a.heads = walked;
      a.keys.k = static_cast<const E*>(c.k) + h * c.k_head;
      a.keys.v = static_cast<const E*>(c.v) + h * c.v_head;
      a.keys.k_step = c.k_row;
      a.keys.v_step = c.v_row;
      a.keys.table = c.table;
      a.keys.page_rows = c.page_rows;
      a.keys.k_page = c.k_page;
      a.keys.v_page = c.v_page;
      a.keys.first = c.first_row;
      a.k_head = c.k_head;
      a.v_head = c.v_head;
      const E* q[kDecodeHeads * kDecodeRows];
      float sinks[kDecodeHeads * kDecodeRows];
      for (int r = 0; r < walked * c.rows; r++) {
        q[r] = static_cast<const E*>(c.q) + (h * c.rows + r) * c.dim;
        if (c.sinks) sinks[r] = FoldExp2<ScalarLanes<float>>(c.sinks[h * c.rows + r]);
      }
      a.q = q;
      a.first = n * c.piece;
      a.last = heed::Min(a.first + c.piece, c.keys);
      a.end = c.keys;
      a.cached = c.cached;
      a.row_first = c.row_first;
      a.row_last = c.row_last;
      a.prefix = c.prefix;
      a.positions = c.positions;
      a.terms = Terms<float>::Of({c.scale, c.softcap, c.slopes != nullptr, false});
      a.slopes = c.slopes ? c.slopes + h * c.rows : nullptr;
      a.sinks = c.sinks && n == 0 ? sinks : nullptr;
      for (int i = 0; i < walked; i++)
        a.parts[i] = Partial::At(call.split, (h + i) * call.split.pieces + n);
      DecodePiece<F>(a, scratch);
    }
  JoinRows<F>(call, 0, static_cast<std::int64_t>(c.heads) * c.rows);
}

template <class F>
std::int64_t ScratchOf(const DecodeCall& c) {
  const ForwardCall call = CallOf(c, nullptr);
  return DecodeWorkspace<F>(c.dim, c.dim_v, c.rows, c.together ? c.heads : 1) +
         c.heads * call.split.pieces * call.split.floats() *
             static_cast<std::int64_t>(sizeof(float));
}

std::int64_t Scratch(const DecodeCall& c) {
  if (c.dtype == DType::kF32) return ScratchOf<Format<DType::kF32>>(c);
  if (c.dtype == DType::kBF16) return ScratchOf<Format<DType::kBF16>>(c);
  return ScratchOf<Format<DType::kF16>>(c);
}
void Compute(const DecodeCall& c, void* scratch) {
  if (c.dtype == DType::kF32) return RunOf<Format<DType::kF32>>(c, scratch);
  if (c.dtype == DType::kBF16) return RunOf<Format<DType::kBF16>>(c, scratch);
  RunOf<Format<DType::kF16>>(c, scratch);
}

}  // namespace

const DecodeCheck kDecode = {kIsaName, Format<DType::kBF16>::X::kDot, kDecodeRows, Scratch,
                             Compute};

}  // namespace heed::cpu::HEED_ISA
