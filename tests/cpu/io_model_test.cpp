// io_model_test.cpp: the bytes that a plan says it moves against the lines that the kernels' own
// text moves across a model of a cache; and what the standard S x S way moves across the same. Not
// here: speed, real caches.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "cache_model.h"
#include "cpu/cpu_call.h"
#include "cpu/kernels.h"
#include "heed/heed.h"
#include "problem/normal.h"

namespace heed::cpu {

namespace counting {
extern const Kernels kKernels;
}

namespace {
CacheModel* model = nullptr;  // of the run in progress
}
void NoteAccess(const void* p, std::size_t bytes, bool written) {
  model->Access(p, bytes, written);
}

namespace {

using counting::kKernels;

// The scalar plan: the counting lanes are its lanes.
Plan ScalarPlan(const Problem& p) {
  const auto plan = MakePlan(p, {.backend = "cpu", .isa = "scalar", .threads = 1});
  EXPECT_TRUE(plan) << plan.status().message();
  return *plan;
}

std::size_t Bytes(double elements, DType dtype) {
  return static_cast<std::size_t>(elements * static_cast<double>(SizeOf(dtype)));
}

struct Sizes {
  std::size_t q, k, v, o;
};
Sizes SizesOf(const Problem& p) {
  const double rows = static_cast<double>(p.batch * p.q_len * p.q_heads),
               keys = static_cast<double>(p.batch * p.k_len * p.k_heads),
               d = static_cast<double>(p.dim), dv = static_cast<double>(p.dim_v);
  return {Bytes(rows * d, p.dtype), Bytes(keys * d, p.dtype), Bytes(keys * dv, p.dtype),
          Bytes(rows * dv, *p.out_dtype)};
}

std::int64_t WorkspaceOf(const Problem& p, Blocks blocks) {
  return kKernels.workspace({.dtype = p.dtype,
                             .dim = static_cast<int>(p.dim),
                             .dim_v = static_cast<int>(p.dim_v),
                             .blocks = blocks});
}

// What must be at hand: the workspace; the keys and values of one block beside those of the next,
// which come in while the last ones are not yet the oldest; the rows of q and o that pass by.
std::size_t WorkingSet(const Problem& p, Blocks blocks) {
  const std::int64_t keys = blocks.keys * (p.dim + p.dim_v) * SizeOf(p.dtype),
                     rows = blocks.tiles * kKernels.tile_rows *
                            (p.dim * SizeOf(p.dtype) + p.dim_v * SizeOf(*p.out_dtype));
  return static_cast<std::size_t>(WorkspaceOf(p, blocks) + 2 * keys + rows + 1024);
}

// Runs a normalised problem through a cache of `cache` bytes. All tensors are zero: nothing here
// depends on values.
std::unique_ptr<CacheModel> Count(const Problem& p, Blocks blocks, std::size_t cache) {
  const Sizes sizes = SizesOf(p);
  const auto workspace = static_cast<std::size_t>(WorkspaceOf(p, blocks));
  auto run = std::make_unique<CacheModel>(sizes.q + sizes.k + sizes.v + sizes.o + workspace + 4096);
  const char* ran = nullptr;
  ForwardCall call = CallOf(p, kKernels);
  call.q = run->Take("q", sizes.q);
  call.k = run->Take("k", sizes.k);
  call.v = run->Take("v", sizes.v);
  call.o = run->Take("o", sizes.o);
  void* const work = run->Take("workspace", workspace);
  call.blocks = blocks;
  call.ran = &ran;
  run->Start(cache);
  // At hand from the start, and clean: plain code, whose accesses are not seen, writes the rows'
  // state.
  run->Access(work, workspace, true);
  run->Forget("workspace");
  model = run.get();
  kKernels.forward(call, 0, call.items(), work);
  model = nullptr;
  run->Forget("workspace");  // what it holds at the end is nobody's
  run->Flush();
  EXPECT_STREQ(ran, "counting");
  return run;
}

double KeysAndValues(const CacheModel& run) { return run.Of("k").all() + run.Of("v").all(); }

TEST(IoModel, CountsTheBlocksOfTheScalarPlan) {
  for (const std::int64_t dim : {16, 64, 512}) {
    const PlanInfo info = ScalarPlan({.q_len = 4096, .k_len = 4096, .dim = dim}).Info();
    EXPECT_EQ(info.tile_rows, kKernels.tile_rows);
    EXPECT_EQ(info.tile_keys, kKernels.tile_keys);
  }
}

// PlanInfo::bytes_moved is what crosses the border of a cache that holds one working set.
TEST(IoModel, ThePlansBytesAreThoseCounted) {
  const Problem problems[] = {
      {.q_len = 240, .k_len = 512, .dim = 16},
      {.q_len = 240, .k_len = 512, .dim = 32, .dim_v = 64},
      {.q_len = 250, .k_len = 700, .dim = 40},  // nothing divides anything
      {.q_len = 480, .k_len = 480, .dim = 32, .causal = true},
      {.q_len = 960, .k_len = 960, .dim = 32, .window_left = 300, .window_right = 0},
      {.batch = 2, .q_len = 100, .k_len = 300, .q_heads = 4, .k_heads = 2, .dim = 32},
      {.q_len = 240, .k_len = 512, .dim = 64, .dtype = DType::kBF16},
      {.q_len = 240, .k_len = 512, .dim = 64, .dtype = DType::kF16, .out_dtype = DType::kF32},
  };
  for (const Problem& problem : problems) {
    const Plan plan = ScalarPlan(problem);
    const PlanInfo info = plan.Info();
    const Blocks blocks{static_cast<int>(info.block_rows / info.tile_rows),
                        static_cast<int>(info.block_keys)};
    const auto run = Count(plan.problem(), blocks, WorkingSet(plan.problem(), blocks));
    // Where rows see only some keys, neighbouring blocks of rows find a few still there.
    const double slack = info.tiles_empty > 0 ? 0.15 : 0.02;
    EXPECT_NEAR(run->Total(), info.bytes_moved, slack * info.bytes_moved) << plan.Describe();
    EXPECT_LE(run->Of("workspace").all(), 0.02 * run->Total()) << "it stays in the cache";
  }
}

// A window whose keys stay in the cache from one block of rows to the next moves less than stated.
TEST(IoModel, ThePlansBytesAreABoundForNarrowWindows) {
  const Plan plan =
      ScalarPlan({.q_len = 480, .k_len = 480, .dim = 32, .window_left = 63, .window_right = 0});
  const Blocks blocks{8, 64};
  const auto run = Count(plan.problem(), blocks, WorkingSet(plan.problem(), blocks));
  EXPECT_LE(run->Total(), plan.Info().bytes_moved);
  EXPECT_GE(run->Total(), plan.Info().bytes_min);
}

// The same as docs/performance.md derives it, for any number of rows of a block: each block of rows
// reads all keys and values once, q is read and o written once.
double Derived(const Problem& p, std::int64_t block_rows) {
  const double sq = static_cast<double>(p.q_len), sk = static_cast<double>(p.k_len),
               width = static_cast<double>((p.dim + p.dim_v) * SizeOf(p.dtype));
  return std::ceil(sq / static_cast<double>(block_rows)) * sk * width + sq * width;
}

// One head, S x S, f32, d = 32.
struct Square {
  explicit Square(std::int64_t s)
      : plan(ScalarPlan({.q_len = s, .k_len = s, .dim = 32})), p(plan.problem()) {}
  std::unique_ptr<CacheModel> Run(int tiles) const {
    const Blocks blocks{tiles, 64};
    return Count(p, blocks, WorkingSet(p, blocks));
  }
  double DerivedFor(int tiles) const {
    return Derived(p, std::int64_t{tiles} * kKernels.tile_rows);
  }
  Plan plan;
  const Problem& p;
};

TEST(IoModel, TwiceTheRowsOfABlockHalveTheReadsOfKeysAndValues) {
  const Square s(768);
  double before = 0;
  for (const int tiles : {8, 16, 32, 64}) {
    const auto run = s.Run(tiles);
    EXPECT_NEAR(run->Total(), s.DerivedFor(tiles), 0.01 * s.DerivedFor(tiles)) << tiles;
    if (before > 0) {
      EXPECT_NEAR(before / KeysAndValues(*run), 2, 0.1) << tiles;
    }
    before = KeysAndValues(*run);
    EXPECT_EQ(run->Of("q").read, 768 * 32 * 4);
    EXPECT_EQ(run->Of("o").written, 768 * 32 * 4);
    EXPECT_EQ(run->Of("o").read, 0);
  }
}

TEST(IoModel, TwiceTheSequenceQuadruplesTheReadsOfKeysAndValues) {
  const auto once = Square(384).Run(32), twice = Square(768).Run(32);
  EXPECT_NEAR(KeysAndValues(*twice) / KeysAndValues(*once), 4, 0.1);
}

// The premise: less than a working set at hand, and everything is read again for every tile.
TEST(IoModel, ACacheThatIsTooSmallReadsMore) {
  const Square s(384);
  const Blocks blocks{32, 64};
  const std::size_t enough = WorkingSet(s.p, blocks);
  const double measured = Count(s.p, blocks, enough)->Total();
  EXPECT_GT(Count(s.p, blocks, enough / 4)->Total(), 1.5 * measured);
  // And one that holds everything moves what must be moved.
  EXPECT_EQ(Count(s.p, blocks, 1 << 24)->Total(), s.plan.Info().bytes_min);
}

// The standard way: S = QK' in memory, softmax over its rows, O = PV, products blocked as well as
// the engine's. Only the accesses matter.
std::unique_ptr<CacheModel> CountStandard(const Problem& p, std::int64_t block_rows,
                                          std::size_t cache) {
  const Sizes sizes = SizesOf(p);
  const std::int64_t s = p.q_len, block_keys = 64;
  const auto row = static_cast<std::size_t>(p.dim * 4);
  auto run = std::make_unique<CacheModel>(sizes.q * 4 + static_cast<std::size_t>(s * s * 4) + 4096);
  const char* const q = static_cast<char*>(run->Take("q", sizes.q));
  const char* const k = static_cast<char*>(run->Take("k", sizes.k));
  const char* const v = static_cast<char*>(run->Take("v", sizes.v));
  const char* const o = static_cast<char*>(run->Take("o", sizes.o));
  const char* const scores =
      static_cast<char*>(run->Take("s", static_cast<std::size_t>(s * s * 4)));
  const auto score = [&](std::int64_t i, std::int64_t j) { return scores + (i * s + j) * 4; };
  const auto at = [&](const char* x, std::int64_t i) { return x + i * p.dim * 4; };
  const auto for_blocks = [&](const auto& pair) {
    for (std::int64_t i0 = 0; i0 < s; i0 += block_rows)
      for (std::int64_t j0 = 0; j0 < s; j0 += block_keys)
        for (std::int64_t i = i0; i < Min(i0 + block_rows, s); i++)
          for (std::int64_t j = j0; j < Min(j0 + block_keys, s); j++) pair(i, j);
  };
  run->Start(cache);
  for_blocks([&](std::int64_t i, std::int64_t j) {
    run->Access(at(q, i), row, false);
    run->Access(at(k, j), row, false);
    run->Access(score(i, j), 4, true);
  });
  for (std::int64_t i = 0; i < s; i++)
    for (const bool written : {false, false, true})  // the maximum, the sum, the quotients
      run->Access(score(i, 0), static_cast<std::size_t>(s * 4), written);
  for_blocks([&](std::int64_t i, std::int64_t j) {
    run->Access(score(i, j), 4, false);
    run->Access(at(v, j), row, false);
    run->Access(at(o, i), row, true);
  });
  run->Flush();
  return run;
}

TEST(IoModel, TheStandardWayMovesItsSquareMatrixFourTimes) {
  const Square small(384), large(768);
  const int tiles = 64;
  const std::int64_t rows = std::int64_t{tiles} * kKernels.tile_rows;
  const std::size_t cache = WorkingSet(large.p, {tiles, 64});
  const auto once = CountStandard(small.p, rows, cache),
             twice = CountStandard(large.p, rows, cache);
  EXPECT_NEAR(twice->Of("s").all() / once->Of("s").all(), 4, 0.1);
  // PlanInfo::bytes_standard takes the products' own reads for one pass over their inputs.
  const double stated = large.plan.Info().bytes_standard;
  EXPECT_NEAR(twice->Total(), stated, 0.15 * stated);
  // Through the same cache, with the same blocks: what the engine saves.
  EXPECT_GT(twice->Total(), 8 * large.Run(tiles)->Total());
}

}  // namespace
}  // namespace heed::cpu
