// heed/heed.h: exact attention in linear memory. Problem (what) -> Plan (how) -> Run on Buffers
// (where). The one header to include.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "heed/problem.h"
#include "heed/types.h"

#if defined(HEED_SHARED) && defined(__GNUC__)
#define HEED_API __attribute__((visibility("default")))
#else
#define HEED_API
#endif

namespace heed {

/// "major.minor.patch".
HEED_API const char* Version();

// ---------------------------------------------------------------- where

/// Scratch memory of one Run: any contiguous container of bytes, or a pointer and a size.
/// Alignment: none asked for.
struct Workspace {
  void* data = nullptr;
  std::size_t bytes = 0;
  Workspace() = default;
  Workspace(void* d, std::size_t n) : data(d), bytes(n) {}
  template <class Container, class = decltype(std::declval<Container&>().data())>
  Workspace(Container& c)
      : data(c.data()), bytes(c.size() * sizeof(*c.data())) {}  // NOLINT: implicit on purpose
};

/// Pointers of one call, in the layouts that the Problem states; those that it does not ask for
/// stay null. Host memory for the cpu and reference backends, memory of the device for cuda. Nothing here changes what is
/// computed.
struct Buffers {
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  void* o = nullptr;      ///< backward: read
  float* lse = nullptr;   ///< (B,Hq,Sq), ragged (Hq,T); backward: read
  void* probs = nullptr;  ///< (B,Hq,Sq,Sk)

  const float* alibi_slopes = nullptr;  ///< (Hq) or (B,Hq)
  const void* bias = nullptr;
  const std::uint8_t* mask = nullptr;
  const std::uint8_t* block_map = nullptr;
  const float* sinks = nullptr;                 ///< (Hq)
  const std::int32_t* key_lengths = nullptr;    ///< (B)
  const std::int32_t* query_offsets = nullptr;  ///< (B)
  const std::int32_t* cu_seqlens_q = nullptr;   ///< (B+1), ascending from 0 to total_q
  const std::int32_t* cu_seqlens_k = nullptr;   ///< (B+1), ascending from 0 to total_k

  void* k_cache = nullptr;  ///< read; rows are appended in place when new_len > 0
  void* v_cache = nullptr;
  const void* k_new = nullptr;
  const void* v_new = nullptr;
  const void* rotary_cos = nullptr;  ///< (rotary_rows, R/2), the tensors' dtype
  const void* rotary_sin = nullptr;
  const std::int32_t* cache_seqlens = nullptr;    ///< (B), rows in use before the append
  const std::int32_t* cache_batch_idx = nullptr;  ///< (B)
  const std::int32_t* cache_leftpad = nullptr;    ///< (B)
  const std::int32_t* block_table = nullptr;      ///< (B, blocks)

  const void* dout = nullptr;
  const float* dlse = nullptr;  ///< (B,Hq,Sq)
  void* dq = nullptr;
  void* dk = nullptr;
  void* dv = nullptr;
  void* dbias = nullptr;
  float* dsinks = nullptr;  ///< (Hq)

  Workspace workspace;
  void* stream = nullptr;  ///< cudaStream_t, for device buffers
};

// ---------------------------------------------------------------- how

/// What a caller may decide about a Plan. Defaults choose; a name forces.
struct PlanOptions {
  /// "auto", "cpu", "cuda", "reference"; auto never chooses the reference, and cuda for buffers in
  /// device memory alone, which only the one-shot calls know.
  std::string backend = "auto";
  std::string isa = "auto";   ///< of the cpu backend: "avx512bf16", "avx512", "avx2", "neon",
                              ///< "scalar"; the environment's HEED_ISA where this says auto
  int threads = 0;            ///< 0 = as many as this process may use; results do not depend on it
  std::string arch = "auto";  ///< of the cuda backend: plan for "sm_75", "sm_80", …; auto is the
                              ///< device that is current
};

/// What a backend says to a request that another one serves.
struct Refusal {
  std::string backend;
  std::string reason;
};

/// The facts of a Plan, for people and programs. Counts are exact for what geometry decides.
struct PlanInfo {
  std::string backend;  ///< "cpu"
  std::string isa;      ///< "avx512bf16"; empty where there is none
  std::string arch;     ///< "sm_80"; empty where there is none
  std::string kernel;   ///< "forward · f32 · fma": what runs
  int threads = 1;
  std::int64_t tile_rows = 0, tile_keys = 0;  ///< the score tile: queries x keys
  /// Queries that share one pass over a block of keys, and that block.
  std::int64_t block_rows = 0, block_keys = 0;
  std::int64_t items = 0;  ///< independent pieces of work
  /// Over the whole batch, tile_rows x tile_keys each.
  std::int64_t tiles_full = 0, tiles_edge = 0, tiles_empty = 0;
  double visible_pairs = 0;   ///< (query, key) pairs that see each other, all heads
  double flops = 0;           ///< of visible pairs: forward 2(D+Dv) each, backward 6D+4Dv
  double dense_flops = 0;     ///< of all pairs
  double bytes_min = 0;       ///< every input read once, every output written once
  double bytes_moved = 0;     ///< from the outer caches into the core's: docs/performance.md
  double bytes_standard = 0;  ///< what the standard S x S way moves through memory
  std::int64_t workspace_bytes = 0;
  std::string workspace_formula;
  /// Of a plan for a device, else 0 and empty: kernels launched; threads and bytes of shared memory
  /// of a block (items counts the blocks), and blocks that run on a multiprocessor at a time.
  int launches = 0, block_threads = 0, blocks_at_once = 0;
  std::int64_t block_shared_bytes = 0;
  /// At best, what bounds that ("compute", "memory"), and what it takes of the device.
  double expected_seconds = 0;
  std::string expected_limit, assumes;
  std::vector<Refusal> besides;  ///< backends that would serve this, too, and when
  std::vector<Refusal> refused;  ///< backends that would not, and why
};

/// How one Problem will be computed. Immutable, printable, reusable, shareable between threads; a
/// cheap handle to copy.
class HEED_API Plan {
 public:
  struct Impl;
  Plan() = default;  ///< empty: Run refuses it
  explicit Plan(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

  bool valid() const { return impl_ != nullptr; }
  const Problem& problem() const;  ///< with every default filled in
  const char* backend() const;
  std::int64_t workspace_bytes() const;
  PlanInfo Info() const;
  std::string Describe() const;  ///< several lines: what `heed explain` prints

 private:
  friend HEED_API Status Run(const Plan& plan, const Buffers& buffers);
  std::shared_ptr<const Impl> impl_;
};

/// Ok, or the first rule of docs/semantics.md that the problem breaks, in a sentence. Asks no
/// backend.
HEED_API Status Validate(const Problem& problem);

/// Validates, asks the backends, and settles how the problem is computed. If all refuse, the
/// message lists every reason.
HEED_API Result<Plan> MakePlan(const Problem& problem, const PlanOptions& options = {});

/// Computes. Allocates nothing (the reference does), prints nothing, never aborts; checks the
/// buffers (and every index array in host memory; kernels clamp those in device memory) before
/// anything is written. On a device it returns when the work is on buffers.stream. Concurrent Runs of
/// one Plan need workspaces of their own.
HEED_API Status Run(const Plan& plan, const Buffers& buffers);

/// Plan, workspace and Run in one call. Uses buffers.workspace where it is large enough, else takes
/// its own for the call. Whatever problem.op says, Forward computes the forward and Backward the
/// backward: one Problem serves both.
HEED_API Status Forward(const Problem& problem, const Buffers& buffers,
                        const PlanOptions& options = {});
HEED_API Status Backward(const Problem& problem, const Buffers& buffers,
                         const PlanOptions& options = {});

// ---------------------------------------------------------------- parts of a whole

/// What a Forward over some of the keys gave, with out_dtype f32 and want_lse.
struct Partial {
  const float* o = nullptr;    ///< (B,Sq,Hq,Dv)
  const float* lse = nullptr;  ///< (B,Hq,Sq)
  Strides o_strides;           ///< any, as of an input
};

/// Sizes and place of what Merge makes; of ragged results B is 1 and Sq is T.
struct Merged {
  std::int64_t batch = 1, q_len = 0, q_heads = 1, dim_v = 0;
  DType out_dtype = DType::kF32;  ///< f32, bf16 or f16
  Strides o_strides;
  void* o = nullptr;
  float* lse = nullptr;  ///< null: not wanted
};

/// Attention over all keys from `count` parts of it over disjoint keys, exactly: lse is the log of
/// the sum of exp(lse), o the mean with those weights. A row of a part that saw nothing (lse
/// -infinity) has no say. At most one part may have carried the sinks. Parts are added in the order
/// given, in float64 and on the calling thread, so the bits depend on nothing else. The result may
/// lie where one f32 part lies; any other overlap is an error.
HEED_API Status Merge(const Partial* parts, std::int64_t count, const Merged& result);

// ---------------------------------------------------------------- which tiles a call computes

/// What the pairs of a tile that exist are to an engine.
enum class Tile : std::uint8_t {
  kEmpty,  ///< none is visible: skipped
  kFull,   ///< all are: computed without a look at any mask
  kEdge,   ///< some are: computed and masked
};

/// Tiles and visible pairs, counted.
struct TileTotals {
  std::int64_t full = 0, edge = 0, empty = 0;
  double visible_pairs = 0;
};

/// The scores of one query head, cut into tiles as a Plan cuts them, each for what is visible of
/// it: by geometry, lengths, mask and block map. Sizes are those of this batch entry.
struct TileMap {
  std::int64_t q_len = 0, k_len = 0;
  std::int64_t tile_rows = 0, tile_keys = 0;
  std::int64_t rows = 0, cols = 0;  ///< tiles down and across, the last ones may be partial
  std::vector<Tile> tiles;          ///< rows x cols, row by row
  TileTotals totals;

  Tile At(std::int64_t row, std::int64_t col) const {
    return tiles[static_cast<std::size_t>(row * cols + col)];
  }
};

/// The map of query head h of batch entry b. Of the buffers it reads what decides who sees whom,
/// in host memory: mask, block_map, key_lengths, query_offsets, cu_seqlens, cache_seqlens,
/// cache_leftpad; the rest may be null. At most 2^28 tiles.
HEED_API Result<TileMap> MapTiles(const Plan& plan, const Buffers& buffers, std::int64_t b,
                                  std::int64_t h);

/// The totals of all heads of all entries: those of PlanInfo where geometry alone decides.
HEED_API Result<TileTotals> CountVisible(const Plan& plan, const Buffers& buffers);

// ---------------------------------------------------------------- what is here

struct IsaInfo {
  std::string name;
  bool usable = false;  ///< this machine can run it
  std::string reason;   ///< why not
};
struct BackendInfo {
  std::string name;
  bool available = false;
  std::string reason;              ///< why not
  std::vector<IsaInfo> isas;       ///< best first
  std::vector<std::string> archs;  ///< that a plan can be made for, here or not: "sm_75", …
};

/// Backends of this build, in the order in which `auto` asks them.
HEED_API std::vector<BackendInfo> Backends();

/// Threads that this process may use: affinity and cgroup limits respected.
HEED_API int AvailableThreads();

/// Runs body(ctx, first, last, worker) over [0, items) in claims; worker < threads, and no two
/// bodies share one at a time. Must return only when all items are done. Must not throw.
using ParallelFor = void (*)(void* host, std::int64_t items, int threads,
                             void (*body)(void* ctx, std::int64_t first, std::int64_t last,
                                          int worker),
                             void* ctx);

/// Makes the cpu backend use a host program's threads; null puts heed's own pool back. `host` is
/// handed through. Thread safe.
HEED_API void SetParallelFor(ParallelFor parallel_for, void* host);

/// The ISA whose kernels ran last on this thread, written from inside the kernel's own translation
/// unit; "" if none. For tests.
HEED_API const char* LastIsa();

}  // namespace heed
