// lanes_check.cpp: the table of one instruction set's lanes operations. Compiled once per set with
// -DHEED_ISA=<name> and its flags, as the kernels are, and under their rules: no std templates.
#include "lanes_check.h"

#include "cpu/exp2.h"

namespace heed::cpu::HEED_ISA {
namespace {

V Flag(M m) { return Select(m, Set(1.f), Zero()); }

V Apply(LaneOp op, V a, V b, V c, const float* p) {
  V e;
  Exponent n;
  switch (op) {
    case LaneOp::kZero:
      return Zero();
    case LaneOp::kSet:
      return Set(*p);
    case LaneOp::kSplat:
      return Splat(p);
    case LaneOp::kAdd:
      return Add(a, b);
    case LaneOp::kSub:
      return Sub(a, b);
    case LaneOp::kMul:
      return Mul(a, b);
    case LaneOp::kDiv:
      return Div(a, b);
    case LaneOp::kFma:
      return Fma(a, b, c);
    case LaneOp::kFms:
      return Fms(a, b, c);
    case LaneOp::kMax:
      return Max(a, b);
    case LaneOp::kLt:
      return Flag(Lt(a, b));
    case LaneOp::kLe:
      return Flag(Le(a, b));
    case LaneOp::kEq:
      return Flag(Eq(a, b));
    case LaneOp::kAnd:
      return Flag(And(Lt(a, b), Lt(b, c)));
    case LaneOp::kAndNot:
      return Flag(AndNot(Lt(a, b), Lt(b, c)));
    case LaneOp::kSelect:
      return Select(Lt(a, b), b, c);
    case LaneOp::kAny:
      return Set(Any(Lt(a, b)) ? 1.f : 0.f);
    case LaneOp::kAllLe:
      return Set(AllLe(a, b) ? 1.f : 0.f);
    case LaneOp::kExp2Split:
      return Exp2Split(a, n);
    case LaneOp::kExp2Join:
      Exp2Split(a, n);
      return Exp2Join(b, n);
    case LaneOp::kFlushTiny:
      return FlushTiny(a, b);
    case LaneOp::kClampLow:
      return ClampLow(a);
    case LaneOp::kLog2Fraction:
      return Log2Split(a, e);
    case LaneOp::kLog2Exponent:
      Log2Split(a, e);
      return e;
    case LaneOp::kExp2Of4:
      return Exp2<4>(a);
    case LaneOp::kExp2Of5:
      return Exp2<5>(a);
    case LaneOp::kExp2OrZeroOf4:
      return Exp2OrZero<4>(a);
    case LaneOp::kExp2OrZeroOf5:
      return Exp2OrZero<5>(a);
    case LaneOp::kLog2:
      return Log2(a);
  }
  return Zero();
}

void Floats(LaneOp op, const float* a, const float* b, const float* c, float* out) {
  Store(out, Apply(op, Load(a), Load(b), Load(c), a));
}

void LoadFrom(DType dtype, const void* p, int n, float* out) {
  const float* const f = static_cast<const float*>(p);
  const std::uint16_t* const h = static_cast<const std::uint16_t*>(p);
  V x = Zero();
  if (dtype == DType::kF32) x = n < 0 ? Load(f) : LoadN(f, n);
  if (dtype == DType::kBF16) x = n < 0 ? LoadBf16(h) : LoadBf16N(h, n);
  if (dtype == DType::kF16) x = n < 0 ? LoadF16(h) : LoadF16N(h, n);
  Store(out, x);
}

void StoreTo(DType dtype, void* p, const float* from, int n) {
  float* const f = static_cast<float*>(p);
  std::uint16_t* const h = static_cast<std::uint16_t*>(p);
  const V x = Load(from);
  if (dtype == DType::kF32) n < 0 ? Store(f, x) : StoreN(f, x, n);
  if (dtype == DType::kBF16) n < 0 ? StoreBf16(h, x) : StoreBf16N(h, x, n);
  if (dtype == DType::kF16) n < 0 ? StoreF16(h, x) : StoreF16N(h, x, n);
}

void StreamTo(float* p, const float* from, int vectors) {
  for (int i = 0; i < vectors; i++) Stream(p + i * W, Load(from + i * W));
  EndStreams();
}

void TransposeRows(float* rows) {
  V r[W];
  for (int i = 0; i < W; i++) r[i] = Load(rows + i * W);
  Transpose(r);
  for (int i = 0; i < W; i++) Store(rows + i * W, r[i]);
}

template <int kCount = 1>
void RepeatOf(int n, const float* p, float* out) {
  if constexpr (kCount < W)
    if (n > kCount) return RepeatOf<2 * kCount>(n, p, out);
  Store(out, Repeat<kCount>(p));
}
template <int kStep = 1>
void FoldOf([[maybe_unused]] int step, [[maybe_unused]] const float* a,
            [[maybe_unused]] const float* b, [[maybe_unused]] float* out) {
  if constexpr (kStep < W) {
    if (step > kStep) return FoldOf<2 * kStep>(step, a, b, out);
    Store(out, FoldPairs<kStep>(Load(a), Load(b)));
  }
}

#if defined(HEED_NATIVE_BF16)
void DotOf(const std::uint32_t* a, const std::uint32_t* b, const float* c, float* out) {
  Store(out, Dot(LoadP(a), LoadP(b), Load(c)));
}
void Pack(const float* low, const float* high, std::uint32_t* out) {
  StoreP(out, PackP(Load(low), Load(high)));
}
void Unpack(const std::uint32_t* pairs, float* low, float* high) {
  Store(low, LowP(LoadP(pairs)));
  Store(high, HighP(LoadP(pairs)));
}
void Halves(std::uint32_t* pairs, const float* x) { StoreHalves(pairs, Load(x)); }
void ZipOf(const std::uint16_t* a, const std::uint16_t* b, int n, std::uint32_t* out) {
  StoreP(out, n < 0 ? ZipRows(a, b) : ZipRowsN(a, b, n));
}
template <int kCount = 1>
void RepeatPairs(int n, const std::uint16_t* p, std::uint32_t* out) {
  if constexpr (kCount < W)
    if (n > kCount) return RepeatPairs<2 * kCount>(n, p, out);
  StoreP(out, RepeatP<kCount>(p));
}
void ZipApart(const std::uint16_t* a, const std::uint16_t* b, float* low, float* high) {
  VP x, y;
  ZipRowsApart(a, b, x, y);
  V first = LowP(x), second = LowP(y);
  InOrder(first, second);
  Store(low, first);
  Store(low + W, second);
  first = HighP(x);
  second = HighP(y);
  InOrder(first, second);
  Store(high, first);
  Store(high + W, second);
}
void SetPair(std::uint32_t pair, std::uint32_t* out) { StoreP(out, SetP(pair)); }
#endif

}  // namespace

const LanesCheck kLanes = {
    .isa = kIsaName,
    .w = W,
    .floats = Floats,
    .load = LoadFrom,
    .store = StoreTo,
    .stream = StreamTo,
    .transpose = TransposeRows,
    .repeat = RepeatOf,
    .fold = FoldOf,
#if defined(HEED_NATIVE_BF16)
    .dot = DotOf,
    .pack = Pack,
    .unpack = Unpack,
    .store_halves = Halves,
    .zip = ZipOf,
    .set_pair = SetPair,
    .repeat_pairs = RepeatPairs,
    .zip_apart = ZipApart,
#endif
};

}  // namespace heed::cpu::HEED_ISA
