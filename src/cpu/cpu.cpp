// cpu.cpp: the cpu backend: which instruction set, which blocks, how many threads; then one
// parallel loop over the kernels' items. Not here: SIMD, the pool, rules that hold for every
// backend (problem/validate.cpp).
#include <cstring>
#include <string>

#include "backend.h"
#include "cpu/kernels.h"
#include "cpu/machine.h"
#include "cpu/threads.h"
#include "problem/normal.h"

namespace heed {
namespace cpu {
namespace {

// Best first. A null entry is a set that this build does not have.
struct Isa {
  const char* name;
  const Kernels* kernels;
};
constexpr Isa kIsas[] = {
#if defined(HEED_HAVE_AVX512BF16)
    {"avx512bf16", &avx512bf16::kKernels},
#endif
#if defined(HEED_HAVE_AVX512)
    {"avx512", &avx512::kKernels},
#endif
#if defined(HEED_HAVE_AVX2)
    {"avx2", &avx2::kKernels},
#endif
#if defined(HEED_HAVE_NEON)
    {"neon", &neon::kKernels},
#endif
    {"scalar", &scalar::kKernels},
};
constexpr int kIsaCount = static_cast<int>(sizeof kIsas / sizeof *kIsas);

thread_local const char* last_isa = "";

// Index into kIsas; -1 with the reason in *why.
int FindIsa(const std::string& name, std::string* why) {
  if (name == "auto") {
    static const int best = [] {
      int i = 0;
      while (WhyUnusable(kIsas[i].name)) i++;  // scalar always is
      return i;
    }();
    return best;
  }
  for (int i = 0; i < kIsaCount; i++) {
    if (name != kIsas[i].name) continue;
    const char* const reason = WhyUnusable(kIsas[i].name);
    if (!reason) return i;
    *why = "isa " + name + " cannot run here: " + reason;
    return -1;
  }
  *why = "isa is \"" + name + "\", which this build does not have; accepted: auto";
  for (const Isa& isa : kIsas) *why += std::string(", ") + isa.name;
  return -1;
}

// What the engine does not do, one row each.
const char* WhyNot(const Problem& p) {
  struct Row {
    bool asked;
    const char* reason;
  };
  const Row rows[] = {
      {p.op == Op::kBackward, "it computes no gradients yet"},
      {p.dtype == DType::kF64, "dtype is f64; it computes in f32 from f32, bf16 or f16"},
      {p.cache.given, "it reads no key/value cache yet"},
      {p.ragged, "it takes no ragged batches (cu_seqlens) yet"},
      {p.key_lengths, "it takes no key_lengths yet"},
      {p.prefix > 0, "it knows no prefix yet"},
      {p.softcap > 0, "it computes no softcap yet"},
      {p.alibi != Alibi::kNone, "it adds no ALiBi yet"},
      {p.bias.given, "it adds no bias yet"},
      {p.mask.given, "it reads no mask yet"},
      {p.block_map.given, "it reads no block_map yet"},
      {p.sinks, "it knows no sinks yet"},
      {p.dropout_p > 0, "it drops nothing out yet"},
      {p.want_probs, "it returns no probabilities yet"},
      {p.q_len > INT32_MAX || p.k_len > INT32_MAX,
       "q_len and k_len of one sequence end at 2147483647 here"},
  };
  for (const Row& row : rows)
    if (row.asked) return row.reason;
  return nullptr;
}

// Seconds of work of one thread, roughly: enough to tell 5 us from 40 us.
double EstimateSeconds(const Problem& p) {
  const double half = p.window_right == 0 && p.q_len > 1 ? 0.5 : 1;
  return half * static_cast<double>(p.batch * p.q_heads * p.q_len) * static_cast<double>(p.k_len) *
         static_cast<double>(2 * (p.dim + p.dim_v)) / 100e9;
}
constexpr double kAlone = 5e-6;  // below, a second thread costs more than it takes over
constexpr double kWake = 40e-6;  // below, one that is asleep would come too late

Steps StepsOf(const Strides& s) { return {s.batch, s.row, s.head}; }

Visibility VisibilityOfAll(const Problem& p) {
  return VisibilityOf(p, p.q_len, p.k_len, p.query_offset.value_or(0));
}

ForwardSchedule ScheduleOf(const Problem& p, const Kernels& kernels) {
  return {p.batch, p.q_heads, p.q_len, kernels.tile_rows, LaterRowsSeeMore(VisibilityOfAll(p))};
}

class Cpu final : public Backend {
 public:
  const char* name() const override { return "cpu"; }

  BackendInfo Info() const override {
    BackendInfo info{"cpu", true, "", {}};
    for (const Isa& isa : kIsas) {
      const char* const why = WhyUnusable(isa.name);
      info.isas.push_back({isa.name, !why, why ? why : ""});
    }
    return info;
  }

  Status Supports(const Problem& p, const PlanOptions& options) const override {
    if (const char* const why = WhyNot(p)) return {StatusCode::kRefused, why};
    std::string why;
    if (FindIsa(options.isa, &why) < 0) return {StatusCode::kRefused, why};
    return {};
  }

  Tuning Tune(const Problem& p, const PlanOptions& options) const override {
    std::string unused;
    Tuning t;
    t.isa = FindIsa(options.isa, &unused);
    const Kernels& kernels = *kIsas[t.isa].kernels;
    const Blocks blocks = BlocksOf(p, kernels);
    t.tile_rows = kernels.tile_rows;
    t.tile_keys = kernels.tile_keys;
    t.block_rows = static_cast<std::int64_t>(blocks.tiles) * kernels.tile_rows;
    t.block_keys = blocks.keys;
    t.items = ScheduleOf(p, kernels).items();
    const int most = options.threads > 0           ? options.threads
                     : EstimateSeconds(p) < kAlone ? 1
                                                   : AvailableThreads();
    t.threads = static_cast<int>(Clamp(most, 1, Max(1, t.items)));
    t.workspace_bytes = t.threads * PerThread(p, kernels, blocks) + kAlign - 1;
    return t;
  }

  void Describe(const Problem& p, const Tuning& t, PlanInfo* info) const override {
    const Kernels& kernels = *kIsas[t.isa].kernels;
    info->isa = kernels.isa;
    info->kernel = std::string("forward · ") + Name(p.dtype) +
                   (p.dtype == DType::kBF16 && kernels.native_bf16 ? " pairs · dot"
                    : p.dtype == DType::kF32                       ? " · fma"
                                                                   : " widened to f32 · fma");
    info->bytes_moved = BytesMoved(p, t);
    info->workspace_formula =
        "threads x 4 bytes x (block rows x (D + Dv + 10) + block keys x (tile rows + packed D, "
        "Dv)), about";
  }

  Status Run(const Problem& p, const Tuning& t, const Buffers& b) const override {
    const Kernels& kernels = *kIsas[t.isa].kernels;
    const char* ran = kernels.isa;
    ForwardCall call;
    call.q = b.q;
    call.k = b.k;
    call.v = b.v;
    call.o = b.o;
    call.lse = b.lse;
    call.query_offsets = p.query_offsets ? b.query_offsets : nullptr;
    call.q_steps = StepsOf(p.q_strides);
    call.k_steps = StepsOf(p.k_strides);
    call.v_steps = StepsOf(p.v_strides);
    call.o_steps = StepsOf(p.o_strides);
    call.q_heads = p.q_heads;
    call.group = p.q_heads / p.k_heads;
    call.dim = static_cast<int>(p.dim);
    call.dim_v = static_cast<int>(p.dim_v);
    call.dtype = p.dtype;
    call.out_dtype = *p.out_dtype;
    call.scale = *p.scale;
    call.visibility = VisibilityOfAll(p);
    call.schedule = ScheduleOf(p, kernels);
    call.blocks = {static_cast<int>(t.block_rows / t.tile_rows), static_cast<int>(t.block_keys)};
    call.ran = &ran;

    const auto base = reinterpret_cast<std::uintptr_t>(b.workspace.data);
    char* const aligned = static_cast<char*>(b.workspace.data) + (kAlign - base % kAlign) % kAlign;
    const std::int64_t each = PerThread(p, kernels, call.blocks);
    Parallel({t.items, t.threads, call.blocks.tiles, EstimateSeconds(p) >= kWake},
             [&](std::int64_t first, std::int64_t last, int worker) {
               kernels.forward(call, first, last, aligned + worker * each);
             });
    if (t.items > 0) last_isa = ran;
    return {};
  }

 private:
  static constexpr std::int64_t kAlign = 64;

  static Blocks BlocksOf(const Problem& p, const Kernels& kernels) {
    return kernels.blocks(p.dtype, static_cast<int>(p.dim), static_cast<int>(p.dim_v), p.q_len,
                          p.k_len);
  }
  static std::int64_t PerThread(const Problem& p, const Kernels& kernels, Blocks blocks) {
    const std::int64_t n =
        kernels.workspace(p.dtype, static_cast<int>(p.dim), static_cast<int>(p.dim_v), blocks);
    return (n + kAlign - 1) / kAlign * kAlign;
  }

  // Every group of block rows reads the keys and values that it sees once; q and o move once
  // (docs/performance.md).
  static double BytesMoved(const Problem& p, const Tuning& t) {
    const Visibility v = VisibilityOfAll(p);
    double keys = 0;
    for (std::int64_t row = 0; row < p.q_len; row += t.block_rows) {
      const std::int64_t first = Band(v, row).first,
                         last = Band(v, Min(row + t.block_rows, p.q_len) - 1).last;
      keys += static_cast<double>(Max(last - first, 0));
    }
    const double in = static_cast<double>(SizeOf(p.dtype)),
                 out = static_cast<double>(SizeOf(*p.out_dtype));
    const double rows = static_cast<double>(p.q_len), d = static_cast<double>(p.dim),
                 dv = static_cast<double>(p.dim_v);
    return static_cast<double>(p.batch * p.q_heads) *
           (keys * (d + dv) * in + rows * d * in + rows * dv * out + (p.want_lse ? rows * 4 : 0));
  }
};

}  // namespace
}  // namespace cpu

const Backend& CpuBackend() {
  static const cpu::Cpu backend;
  return backend;
}

const char* LastIsa() { return cpu::last_isa; }

}  // namespace heed
