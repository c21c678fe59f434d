// cpu.cpp: the cpu backend: which instruction set, which blocks, how many threads; then one
// parallel loop over the kernels' items. Not here: SIMD, the pool, rules that hold for every
// backend (problem/validate.cpp).
#include <cstring>
#include <string>

#include "backend.h"
#include "cpu/backward_call.h"
#include "cpu/cpu_backward.h"
#include "cpu/cpu_call.h"
#include "cpu/kernels.h"
#include "cpu/machine.h"
#include "cpu/threads.h"
#include "problem/geometry.h"
#include "problem/normal.h"

namespace heed {
namespace cpu {
namespace {

// Best first. A null entry is a set that this build does not have.
struct Isa {
  const char* name;
  const Kernels* kernels;
  const BackwardKernels* backward;
};
constexpr Isa kIsas[] = {
#if defined(HEED_HAVE_AVX512BF16)
    {"avx512bf16", &avx512bf16::kKernels, &avx512bf16::kBackwardKernels},
#endif
#if defined(HEED_HAVE_AVX512)
    {"avx512", &avx512::kKernels, &avx512::kBackwardKernels},
#endif
#if defined(HEED_HAVE_AVX2)
    {"avx2", &avx2::kKernels, &avx2::kBackwardKernels},
#endif
#if defined(HEED_HAVE_NEON)
    {"neon", &neon::kKernels, &neon::kBackwardKernels},
#endif
    {"scalar", &scalar::kKernels, &scalar::kBackwardKernels},
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
      {p.dtype == DType::kF64, "dtype is f64; it computes in f32 from f32, bf16 or f16"},
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
  const double rows = static_cast<double>(p.ragged ? p.total_q : p.batch * p.q_len);
  return half * rows * static_cast<double>(p.q_heads) * static_cast<double>(p.k_len) *
         FlopsPerPair(p) / 100e9;
}
constexpr double kAlone = 5e-6;  // below, a second thread costs more than it takes over
constexpr double kWake = 40e-6;  // below, one that is asleep would come too late

// The rule of an entry that is as long as any.
Visibility LongestOf(const Problem& p) {
  return VisibilityOf(p, p.q_len, p.k_len, p.query_offset.value_or(0));
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
    t.tile_rows = kernels.tile_rows;
    t.tile_keys = kernels.tile_keys;
    if (p.op == Op::kBackward) return TuneBackward(p, options, t);
    const ForwardCall call = CallOf(p, kernels);
    t.block_rows = static_cast<std::int64_t>(call.blocks.tiles) * kernels.tile_rows;
    t.block_keys = call.blocks.keys;
    t.items = p.ragged ? call.ragged.items() : call.items();
    t.threads = ThreadsFor(p, options, t.items);
    t.workspace_bytes =
        t.threads * PerThread(call, kernels) + PartialBytes(call) + KindBytes(call) + kAlign - 1;
    return t;
  }

  void Describe(const Problem& p, const Tuning& t, PlanInfo* info) const override {
    const Kernels& kernels = *kIsas[t.isa].kernels;
    info->isa = kernels.isa;
    if (p.op == Op::kBackward) return DescribeBackward(p, t, info);
    const ForwardCall call = CallOf(p, kernels);
    info->kernel =
        std::string(call.split.few ? "decode · " : "forward · ") + Arithmetic(p, kernels);
    if (call.packed) info->kernel += " · heads of a group together";
    if (call.split.pieces > 1)
      info->kernel += " · keys in up to " + std::to_string(call.split.pieces) + " pieces";
    info->bytes_moved = BytesMoved(p, t);
    info->workspace_formula =
        "threads x 4 bytes x (block rows x (D + Dv + 10) + block keys x (tile rows + packed D, "
        "Dv)), about";
    if (call.kinds.count() > 0)
      info->workspace_formula += "; 2 bytes for tile rows x 64 bytes of the mask";
    if (call.split.pieces > 0)
      info->workspace_formula += "; B x kv heads x pieces x rows x (Dv + 3) x 4 bytes";
  }

  Status Run(const Problem& p, const Tuning& t, const Buffers& b) const override {
    const Kernels& kernels = *kIsas[t.isa].kernels;
    const char* ran = kernels.isa;
    if (p.op == Op::kBackward) {
      RunBackward(p, b, kernels, *kIsas[t.isa].backward, t.threads, EstimateSeconds(p) >= kWake,
                  &ran);
      if (t.items > 0) last_isa = ran;
      return {};
    }
    ForwardCall call = CallOf(p, kernels);
    SetPointers(p, b, &call);
    call.ran = &ran;

    char* const aligned = AlignedStart(b.workspace);
    const std::int64_t each = PerThread(call, kernels);
    const bool wake = EstimateSeconds(p) >= kWake;
    if (call.probs) {
      const std::int64_t rows = p.batch * p.q_heads * p.q_len,
                         bytes = p.k_len * SizeOf(*p.out_dtype);
      Parallel({rows, t.threads, 1, wake}, [&](std::int64_t first, std::int64_t last, int) {
        std::memset(static_cast<char*>(call.probs) + first * bytes, 0,
                    static_cast<std::size_t>((last - first) * bytes));
      });
    }
    if (call.cache.seqlens && call.cache.new_len > 0) {
      const std::int64_t rows = p.batch * call.cache.new_len * p.k_heads;
      Parallel({rows, t.threads, 8, wake}, [&](std::int64_t first, std::int64_t last, int) {
        kernels.append(call, first, last);
      });
    }
    call.split.partials = reinterpret_cast<float*>(aligned + t.threads * each);
    if (call.kinds.count() > 0) {
      call.kinds.words =
          reinterpret_cast<std::uint16_t*>(aligned + t.threads * each + PartialBytes(call));
      Classify(call, kernels, t.threads, wake);
    }
    const std::int64_t together =
        call.split.pieces > 0 ? HeadsAtOnce(call.split) : call.blocks.tiles;
    Parallel({t.items, t.threads, together, wake},
             [&](std::int64_t first, std::int64_t last, int worker) {
               kernels.forward(call, first, last, aligned + worker * each);
             });
    if (call.split.pieces > 0)
      Parallel(
          {p.batch * p.k_heads * call.split.rows, t.threads, call.split.rows, false},
          [&](std::int64_t first, std::int64_t last, int) { kernels.join(call, first, last); });
    if (t.items > 0) last_isa = ran;
    return {};
  }

 private:
  static int ThreadsFor(const Problem& p, const PlanOptions& options, std::int64_t items) {
    const int most = options.threads > 0           ? options.threads
                     : EstimateSeconds(p) < kAlone ? 1
                                                   : AvailableThreads();
    return static_cast<int>(Clamp(most, 1, Max(1, items)));
  }

  static std::string Arithmetic(const Problem& p, const Kernels& kernels) {
    return std::string(Name(p.dtype)) + (p.dtype == DType::kBF16 && kernels.native_bf16
                                             ? " pairs · dot"
                                         : p.dtype == DType::kF32 ? " · fma"
                                                                  : " widened to f32 · fma");
  }

  static Tuning TuneBackward(const Problem& p, const PlanOptions& options, Tuning t) {
    const Kernels& kernels = *kIsas[t.isa].kernels;
    const BackwardKernels& backward = *kIsas[t.isa].backward;
    t.items = SizeOfBackward(p, kernels, backward, 1).items;
    t.threads = ThreadsFor(p, options, t.items);
    const BackwardSize size = SizeOfBackward(p, kernels, backward, t.threads);
    t.block_rows = size.block_rows;
    t.block_keys = size.block_keys;
    t.workspace_bytes = size.workspace_bytes;
    return t;
  }

  static void DescribeBackward(const Problem& p, const Tuning& t, PlanInfo* info) {
    info->kernel = "backward · " + Arithmetic(p, *kIsas[t.isa].kernels);
    info->workspace_formula = BackwardFormula();
    info->bytes_moved = BackwardBytes(p, t.block_keys);
  }

  static std::int64_t PartialBytes(const ForwardCall& call) {
    return call.split.pieces > 0 ? call.items() * call.split.floats() * std::int64_t{sizeof(float)}
                                 : 0;
  }
  static std::int64_t KindBytes(const ForwardCall& call) {
    return call.kinds.count() * std::int64_t{sizeof(std::uint16_t)};
  }
  static std::int64_t PerThread(const ForwardCall& call, const Kernels& kernels) {
    return AlignUp(kernels.workspace(WorkShapeOf(call)));
  }

  // Every group of block rows reads the keys and values that it sees once; q and o move once
  // (docs/performance.md).
  static double BytesMoved(const Problem& p, const Tuning& t) {
    const Visibility v = LongestOf(p);
    const bool packed = Packed(p, *kIsas[t.isa].kernels);
    const std::int64_t per_query = packed ? p.q_heads / p.k_heads : 1,
                       heads = packed ? p.k_heads : p.q_heads;
    double keys = 0;
    for (std::int64_t row = 0; row < p.q_len * per_query; row += t.block_rows) {
      const std::int64_t last = Min(row + t.block_rows, p.q_len * per_query) - 1;
      const Interval seen = {Band(v, row / per_query).first, Band(v, last / per_query).last};
      keys += static_cast<double>(seen.size() + (seen.first > v.prefix ? PrefixKeys(v).last : 0));
    }
    const double in = static_cast<double>(SizeOf(p.dtype)),
                 out = static_cast<double>(SizeOf(*p.out_dtype));
    const double d = static_cast<double>(p.dim), dv = static_cast<double>(p.dim_v);
    const double rows = static_cast<double>((p.ragged ? p.total_q : p.batch * p.q_len) * p.q_heads);
    return static_cast<double>(p.batch * heads) * keys * (d + dv) * in +
           rows * (d * in + dv * out + (p.want_lse ? 4 : 0));
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
