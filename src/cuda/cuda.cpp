// cuda.cpp: the cuda backend: what it refuses, what it plans, what it says of a plan; then a list of
// kernels for the device. Not here: how a call is cut (cuda_call.cpp), CUDA itself (device.cu).
#include <cmath>
#include <string>

#include "backend.h"
#include "cuda/cuda_backward.h"
#include "cuda/cuda_call.h"
#include "cuda/device.h"
#include "cuda/instances.h"
#include "cuda/machines.h"
#include "problem/geometry.h"
#include "problem/normal.h"
#include "problem/words.h"

namespace heed {
namespace cuda {
namespace {

Status Refuse(std::string why) { return {StatusCode::kRefused, std::move(why)}; }

// What no device changes.
Status CheckProblemIsServed(const Problem& p) {
  constexpr std::int64_t kMostRows = kFar - 1;
  if (p.dtype == DType::kF64)
    return Refuse("dtype is f64; it computes in f32 from f32, bf16 or f16");
  if (p.dim > 256 || p.dim_v > 256) {
    return Refuse(Words(p.dim > 256 ? "dim is " : "dim_v is ", p.dim > 256 ? p.dim : p.dim_v,
                        "; its tiles hold D and Dv of up to 256"));
  }
  if (p.q_len > kMostRows || p.k_len > kMostRows) {
    return Refuse(Words(p.q_len > kMostRows ? "q_len is " : "k_len is ",
                        p.q_len > kMostRows ? p.q_len : p.k_len, "; one sequence may have up to ",
                        kMostRows, " here"));
  }
  if (p.batch > INT32_MAX || p.q_heads > INT32_MAX) {
    return Refuse(Words(p.batch > INT32_MAX ? "batch is " : "q_heads is ",
                        p.batch > INT32_MAX ? p.batch : p.q_heads, "; it may be up to ", INT32_MAX,
                        " here"));
  }
  return {};
}

Status CheckArch(const Problem& p, const Facts& facts) {
  constexpr int kOldest = 750;
  if (facts.arch < kOldest) {
    return Refuse(Words("the device is a ", facts.name, ", ", ArchName(facts.arch),
                        "; the oldest one that it has kernels for is ", ArchName(kOldest)));
  }
  if (p.dtype == DType::kBF16 && facts.arch < 800) {
    return Refuse(
        Words("dtype is bf16, and ", ArchName(facts.arch),
              " does not multiply bf16: sm_80 and newer do (f16 and f32 are served everywhere)"));
  }
  return {};
}

// The rule of an entry that is as long as any.
Visibility LongestOf(const Problem& p) {
  return VisibilityOf(p, p.q_len, p.k_len, p.query_offset.value_or(0));
}

double Real(std::int64_t n) { return static_cast<double>(n); }

class Cuda final : public Backend {
 public:
  const char* name() const override { return "cuda"; }

  BackendInfo Info() const override {
    const bool here = TheDevice().Now() != nullptr;
    BackendInfo info{"cuda", here, here ? "" : TheDevice().WhyNot(), {}, {}};
    for (const Facts& facts : KnownMachines()) info.archs.push_back(ArchName(facts.arch));
    return info;
  }

  Status Supports(const Problem& p, const PlanOptions& options) const override {
    if (options.isa != "auto") {
      return Refuse("it has no instruction sets to choose from: isa must be \"auto\", not \"" +
                    options.isa + "\"");
    }
    const int arch = ArchOf(options.arch);
    if (arch < 0) return Refuse("arch is \"" + options.arch + "\", which it does not know");
    const Facts* const facts = FactsFor(TheDevice(), arch);
    if (!facts) return Refuse(TheDevice().WhyNot());
    if (Status status = CheckProblemIsServed(p); !status) return status;
    if (Status status = CheckArch(p, *facts); !status) return status;
    std::int64_t blocks = 0;
    bool served = false;
    if (p.op == heed::Op::kBackward) {
      const PlannedBackward planned = PlanBackward(p, *facts);
      served = planned.queries >= 0;
      if (served) blocks = BackwardBlocks(p, planned);
    } else {
      const Planned planned = PlanCall(p, *facts);
      served = planned.row >= 0;
      if (served) blocks = ForwardBlocks(p, planned);
    }
    if (!served) {
      return Refuse(Words("no kernel for D and Dv of ", Max(p.dim, p.dim_v), " fits the ",
                          facts->shared_block, " bytes of shared memory that a block of a ",
                          facts->name, " may have"));
    }
    if (blocks > kMostForwardBlocks) {
      return Refuse(Words("it would take ", blocks == INT64_MAX ? "more than " : "", blocks,
                          " blocks, and a grid has up to ", kMostForwardBlocks));
    }
    return {};
  }

  Tuning Tune(const Problem& p, const PlanOptions& options) const override {
    const Facts& facts = *FactsFor(TheDevice(), ArchOf(options.arch));
    Tuning t;
    t.arch = facts.arch;
    if (p.op == heed::Op::kBackward) {
      const PlannedBackward planned = PlanBackward(p, facts);
      t.tile_rows = t.block_rows = planned.call.tile_rows;
      t.tile_keys = t.block_keys = planned.call.tile_keys;
      t.items = planned.call.query_blocks() + planned.call.key_blocks();
      t.workspace_bytes = WorkspaceBytes(planned);
      return t;
    }
    const Planned planned = PlanCall(p, facts);
    t.tile_rows = t.block_rows = planned.instance().rows;
    t.tile_keys = t.block_keys = planned.instance().keys;
    t.items = ForwardBlocks(p, planned);
    t.workspace_bytes = WorkspaceBytes(planned);
    return t;
  }

  void Describe(const Problem& p, const Tuning& t, PlanInfo* info) const override {
    const Device& device = TheDevice();
    const Facts& facts = *FactsFor(device, t.arch);
    info->arch = ArchName(t.arch);
    if (p.op == heed::Op::kBackward) {
      DescribeBackward(p, PlanBackward(p, facts), info);
    } else {
      DescribeForward(p, PlanCall(p, facts), info);
    }
    Expect(p, facts, info);
    info->assumes += device.Now() == &facts ? "; this device" : "; not here: assumed";
  }

  Status Run(const Problem& p, const Tuning& t, const Buffers& b) const override {
    const Device& device = TheDevice();
    const Facts* const facts = device.Now();
    if (!facts) return {StatusCode::kDevice, device.WhyNot()};
    if (facts->arch != t.arch) {
      return {StatusCode::kDevice,
              Words("the plan is for ", ArchName(t.arch), " and the device that is current here, ",
                    facts->name, ", is ", ArchName(facts->arch), ": plan where it runs")};
    }
    const void* const data = b.q ? b.q : b.o;
    if (data != nullptr && !device.Owns(data)) {
      return {StatusCode::kBuffers, Words(b.q ? "q" : "o",
                                          " is in host memory: the cuda backend reads "
                                          "and writes memory of a device")};
    }
    if (p.op == heed::Op::kBackward) {
      PlannedBackward planned = PlanBackward(p, *facts);
      SetPointers(p, b, &planned);
      Launch launches[kMostBackwardLaunches];
      const auto count = static_cast<std::size_t>(LaunchesOf(p, planned, launches));
      if (count == 0) return {};
      return device.Run({{launches, count}, planned.call.forward, p, b, &planned.call});
    }
    Planned planned = PlanCall(p, *facts);
    SetPointers(p, b, &planned);
    Launch launches[kMostLaunches];
    const int count = LaunchesOf(p, planned, launches);
    if (count == 0) return {};
    return device.Run({{launches, static_cast<std::size_t>(count)}, planned.call, p, b});
  }

  bool Owns(const void* data) const override { return TheDevice().Owns(data); }
  void* Take(std::size_t bytes, void* stream) const override {
    return TheDevice().Take(bytes, stream);
  }
  void Give(void* data, void* stream) const override { TheDevice().Give(data, stream); }

 private:
  static void DescribeForward(const Problem& p, const Planned& planned, PlanInfo* info) {
    const Instance& instance = planned.instance();
    info->kernel = Words("forward · ", p.dtype, p.dtype == DType::kF32 ? " · fma · " : " · mma · ",
                         instance.name);
    if (planned.call.packed) info->kernel += " · heads of a group together";
    if (planned.call.split.pieces > 0) {
      info->kernel += Words(" · keys in up to ", planned.call.split.pieces, " pieces");
    }
    info->bytes_moved = BytesMoved(p, planned);
    info->workspace_formula = WorkspaceFormula(planned);
    Launch launches[kMostLaunches];
    info->launches = LaunchesOf(p, planned, launches);
    DescribeBlock(*planned.facts, instance, info);
  }

  static void DescribeBackward(const Problem& p, const PlannedBackward& planned, PlanInfo* info) {
    const Instance& instance = InstanceOf(planned.queries);
    info->kernel = Words("backward · ", p.dtype, p.dtype == DType::kF32 ? " · fma · " : " · mma · ",
                         instance.name, ", ", InstanceOf(planned.keys).name);
    if (p.want_dbias) info->kernel += Words(", ", InstanceOf(planned.bias).name);
    info->bytes_moved = BytesMoved(p, planned);
    info->workspace_formula = WorkspaceFormula(planned);
    Launch launches[kMostBackwardLaunches];
    info->launches = LaunchesOf(p, planned, launches);
    DescribeBlock(*planned.facts, instance, info);
  }

  static void DescribeBlock(const Facts& facts, const Instance& instance, PlanInfo* info) {
    info->block_threads = instance.threads();
    info->block_shared_bytes = instance.shared_bytes();
    info->blocks_at_once = BlocksAtOnce(facts, instance);
  }

  // Tiles of queries read the keys that they see, tiles of keys the queries that see them, twice as
  // much; and every input and gradient once.
  static double BytesMoved(const Problem& p, const PlannedBackward& planned) {
    const ForwardSchedule& s = planned.call.forward.schedule;
    const Visibility v = LongestOf(p);
    double pairs = 0;  // of a tile's side with the rows that it sees
    for (std::int64_t row = 0; row < s.q_len; row += s.tile_rows) {
      const std::int64_t last = Min(row + s.tile_rows, s.q_len) - 1;
      pairs += Real(Interval{Band(v, row).first, Band(v, last).last}.size() +
                    (Band(v, row).first > v.prefix ? PrefixKeys(v).last : 0));
    }
    const double heads = Real(p.batch * p.q_heads), in = Real(SizeOf(p.dtype));
    return 2 * heads * pairs * Real(p.dim + p.dim_v) * in +
           heads * Real(p.q_len) * Real(2 * p.dim + 2 * p.dim_v) * in;
  }

  // Every tile of rows reads the keys that it sees once; q and o move once. (Pieces share them.)
  static double BytesMoved(const Problem& p, const Planned& planned) {
    const Visibility v = LongestOf(p);
    const ForwardSchedule& s = planned.call.schedule;
    const std::int64_t group = planned.call.packed ? planned.call.group : 1;
    double keys = 0;
    for (std::int64_t row = 0; row < s.q_len; row += s.tile_rows) {
      const std::int64_t last = Min(row + s.tile_rows, s.q_len) - 1;
      const Interval seen = {Band(v, row / group).first, Band(v, last / group).last};
      keys += Real(seen.size() + (seen.first > v.prefix ? PrefixKeys(v).last : 0));
    }
    const double in = Real(SizeOf(p.dtype)), out = Real(SizeOf(*p.out_dtype));
    const double d = Real(p.dim), dv = Real(p.dim_v);
    const double rows = Real((p.ragged ? p.total_q : p.batch * p.q_len) * p.q_heads);
    return Real(s.batch * s.heads) * keys * (d + dv) * in +
           rows * (d * in + dv * out + (p.want_lse ? 4 : 0));
  }

  // The best that arithmetic and memory allow: full tensor cores on as many multiprocessors as there
  // are blocks for, every input read once.
  static void Expect(const Problem& p, const Facts& facts, PlanInfo* info) {
    const double busy =
        Real(Min(Max(info->items, 1), facts.multiprocessors)) / facts.multiprocessors;
    const double peak = PeakFlops(facts, p.dtype);
    const double compute = info->flops / (peak * busy),
                 memory = info->bytes_min / facts.bytes_per_second;
    info->expected_seconds = compute > memory ? compute : memory;
    info->expected_limit = memory > compute ? "memory" : "compute";
    info->assumes = Words(facts.name, ": ", facts.multiprocessors, " multiprocessors, ",
                          std::llround(peak / 1e12), " TFLOP/s ", p.dtype, ", ",
                          std::llround(facts.bytes_per_second / 1e9), " GB/s");
  }
};

}  // namespace
}  // namespace cuda

const Backend& CudaBackend() {
  static const cuda::Cuda backend;
  return backend;
}

}  // namespace heed
