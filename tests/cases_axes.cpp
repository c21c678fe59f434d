// cases_axes.cpp: the axes, what excludes what, and the problem of a choice. Not here: which choices
// there are (cases_cover.cpp).
#include "cases_axes.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "cases_data.h"

namespace heed::cases {
namespace {

// The values behind the names, in the order of Axes().
constexpr DType kTypes[] = {DType::kF32, DType::kBF16, DType::kF16};
constexpr std::pair<int, int> kGroups[] = {{1, 1}, {2, 2}, {4, 2}, {8, 1}, {3, 3}};
using Sizes = std::array<std::pair<std::int64_t, std::int64_t>, 8>;
constexpr Sizes kSmallSizes = {
    {{17, 16}, {1, 1}, {1, 70}, {3, 41}, {8, 25}, {50, 50}, {33, 17}, {20, 49}}};
constexpr Sizes kTestSizes = {
    {{17, 64}, {1, 1}, {1, 300}, {3, 200}, {8, 129}, {130, 130}, {65, 33}, {100, 97}}};
constexpr Sizes kBenchSizes = {{{128, 512},
                                {1, 1024},
                                {1, 16384},
                                {4, 8192},
                                {16, 4096},
                                {1024, 1024},
                                {1024, 512},
                                {512, 2048}}};
constexpr std::pair<int, int> kDims[] = {{64, 64}, {33, 17}, {40, 24}, {128, 128}, {16, 100}};
constexpr double kSoftcaps[] = {0, 2, 30};
constexpr double kDropouts[] = {0, 0.1, 0.5};
constexpr std::int64_t kPageRows[] = {0, 0, 1, 7, 16};

void SetWindow(int value, Problem* p) {
  constexpr std::pair<int, int> kWindows[] = {{-1, -1}, {9, -1}, {-1, 5},
                                              {20, 3},  {0, 0},  {100000, 100000}};
  std::tie(p->window_left, p->window_right) = kWindows[value];
}

void SetAlign(int value, Problem* p) {
  if (value == 1) p->align = Align::kTopLeft;
  if (value < 2) return;
  p->align = Align::kOffset;
  if (value == 2) p->query_offset = (p->k_len + 1) / 2;
  if (value == 3) p->query_offset = -((p->q_len + 1) / 2);
  if (value == 4) p->query_offsets = true;
}

Broadcast Shape(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
  return {.given = true, .batch = b, .heads = h, .rows = i, .cols = j};
}

void SetBias(int value, int type, Problem* p) {
  const std::int64_t b = p->batch, h = p->q_heads, sq = p->q_len, sk = p->k_len;
  const Broadcast shapes[] = {{},
                              Shape(b, h, sq, sk),
                              Shape(1, 1, sq, sk),
                              Shape(1, h, 1, sk),
                              Shape(b, 1, sq, 1),
                              Shape(1, 1, 1, 1)};
  p->bias = shapes[value];
  if (type == 1) p->bias_dtype = p->dtype;
}

void SetMask(int value, Case* c) {
  Problem* p = &c->problem;
  const std::int64_t b = p->batch, h = p->q_heads, sq = p->q_len, sk = p->k_len;
  const Broadcast shapes[] = {
      {}, Shape(b, h, sq, sk), Shape(1, 1, sq, sk), Shape(b, 1, 1, sk), Shape(1, h, sq, 1)};
  constexpr Pattern kPatterns[] = {Pattern::kRandom, Pattern::kRandom, Pattern::kBlocks,
                                   Pattern::kTail, Pattern::kRandom};
  p->mask = shapes[value];
  c->mask = kPatterns[value];
}

void SetBlockMap(int value, Problem* p) {
  if (value == 0) return;
  constexpr std::pair<int, int> kBlocks[] = {{0, 0}, {16, 24}, {5, 7}, {64, 128}};
  std::tie(p->block_rows, p->block_cols) = kBlocks[value];
  const auto up = [](std::int64_t n, std::int64_t block) { return (n + block - 1) / block; };
  p->block_map = Shape(value == 2 ? p->batch : 1, value == 1 ? 1 : p->q_heads,
                       up(p->q_len, p->block_rows), up(p->k_len, p->block_cols));
}

void SetRagged(const Case& c, Problem* p) {
  p->ragged = true;
  for (const int which : {0, 1}) {
    std::int64_t& total = which == 0 ? p->total_q : p->total_k;
    for (const std::int64_t n :
         RaggedLengths(c.seed, p->batch, which == 0 ? p->q_len : p->k_len, which)) {
      total += n;
    }
  }
}

// Fields are set even where another axis excludes them: Validate is to say so. k_len becomes what
// an entry of the cache holds.
void SetCache(const Choice& at, Problem* p) {
  Cache& cache = p->cache;
  const std::int64_t sk = p->k_len;
  cache.given = at[kCache] != 0;
  if (cache.given) {
    const std::int64_t page = kPageRows[at[kCache]];
    cache.rows = page == 0 ? sk : page;
    cache.blocks = page == 0 ? 0 : (sk + page - 1) / page;
    cache.slots = p->batch * std::max<std::int64_t>(cache.blocks, 1) + 2;
    p->k_len = page == 0 ? sk : cache.blocks * page;
  }
  cache.new_len = std::min<std::int64_t>(at[kAppend] == 2 ? 5 : at[kAppend], p->k_len);
  cache.batch_idx = at[kBatchIdx] == 1;
  cache.leftpad = at[kLeftPad] == 1;
  if (at[kRotary] == 0) return;
  cache.rotary = at[kRotary] == 1 ? Rotary::kInterleaved : Rotary::kHalf;
  cache.rotary_dim = at[kRotary] == 1 ? p->dim / 2 * 2 : std::max<std::int64_t>(p->dim / 4 * 2, 2);
  cache.rotary_rows = p->k_len + p->q_len;
}

std::string NameOf(const Choice& choice) {
  std::string name;
  for (std::size_t a = 0; a < choice.size(); ++a) {
    const Axis& axis = Axes()[a];
    const char* value = axis.values[static_cast<std::size_t>(choice[a])];
    if (a == kDType || a == kLengths) {
      name += (name.empty() ? "" : "_") + std::string(value);
    } else if (choice[a] != 0) {
      name += "_" + std::string(axis.name) + "_" + value;
    }
  }
  return name;
}

}  // namespace

const std::vector<Axis>& Axes() {
  static const std::vector<Axis> axes = {
      {"dtype", {"f32", "bf16", "f16"}},
      {"batch", {"2", "1", "3"}},
      {"heads", {"1x1", "2x2", "4x2", "8x1", "3x3"}},
      {"lengths", {"s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"}},
      {"dims", {"64x64", "33x17", "40x24", "128x128", "16x100"}},
      {"causal", {"no", "yes"}},
      {"window", {"none", "left", "right", "both", "zero", "wide"}},
      {"align", {"bottomright", "topleft", "offset", "negative", "offsets"}},
      {"prefix", {"0", "3", "beyond"}},
      {"chunk", {"0", "16", "5"}},
      {"scale", {"default", "negative", "zero"}},
      {"softcap", {"0", "2", "30"}},
      {"alibi", {"none", "head", "batchhead"}},
      {"bias", {"none", "full", "pairs", "keys", "rows", "one"}},
      {"biastype", {"f32", "own"}},
      {"mask", {"none", "full", "blocks", "tail", "rows"}},
      {"blockmap", {"none", "16x24", "5x7", "64x128"}},
      {"spread", {"dense", "padded", "transposed", "reversed"}},
      {"sinks", {"no", "yes"}},
      {"dropout", {"0", "tenth", "half"}},
      {"keylengths", {"no", "yes"}},
      {"ragged", {"no", "yes"}},
      {"cache", {"none", "slots", "pages1", "pages7", "pages16"}},
      {"append", {"0", "1", "5"}},
      {"batchidx", {"no", "yes"}},
      {"leftpad", {"no", "yes"}},
      {"rotary", {"none", "interleaved", "half"}},
      {"results", {"lse", "o", "probs", "all"}},
      {"out", {"own", "f32"}},
      {"placed", {"dense", "headsfirst", "packed", "padded", "shared", "reversed"}},
      {"data", {"normal", "peaked", "growing"}},
  };
  return axes;
}

const std::vector<Exclusion>& Exclusions() {
  static const std::vector<Exclusion> exclusions = {
      {kCache, {1, 2, 3, 4}, kKeyLengths, {1}, "key_lengths and cache.given are both true"},
      {kCache, {1, 2, 3, 4}, kRagged, {1}, "ragged and cache.given are both true"},
      {kCache, {0}, kAppend, {1, 2}, "cache.new_len is set, but cache.given is false"},
      {kCache, {0}, kBatchIdx, {1}, "cache.batch_idx is set, but cache.given is false"},
      {kCache, {0}, kLeftPad, {1}, "cache.leftpad is set, but cache.given is false"},
      {kCache, {0}, kRotary, {1, 2}, "cache.rotary is set, but cache.given is false"},
      {kCache, {2, 3, 4}, kBatchIdx, {1}, "cache.batch_idx is true and cache.blocks is"},
      {kPlacement, {4}, kAppend, {1, 2}, "k_strides.batch is 0"},
      {kPlacement, {5}, kAppend, {1, 2}, "k_strides.row is -"},
  };
  return exclusions;
}

bool Together(int first, int a, int second, int b) {
  const auto has = [](const std::vector<int>& values, int value) {
    return std::find(values.begin(), values.end(), value) != values.end();
  };
  return std::none_of(Exclusions().begin(), Exclusions().end(), [&](const Exclusion& x) {
    return (x.first == first && x.second == second && has(x.a, a) && has(x.b, b)) ||
           (x.first == second && x.second == first && has(x.a, b) && has(x.b, a));
  });
}

bool Allowed(const Choice& choice) {
  for (std::size_t a = 0; a < choice.size(); ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      if (!Together(static_cast<int>(a), choice[a], static_cast<int>(b), choice[b])) return false;
    }
  }
  return true;
}

Case CaseOf(const Choice& at, Scale scale, std::uint64_t seed) {
  Case c{.name = NameOf(at), .seed = seed};
  Problem& p = c.problem;
  p.dtype = kTypes[at[kDType]];
  p.batch = at[kBatch] == 0 ? 2 : at[kBatch] == 1 ? 1 : 3;
  std::tie(p.q_heads, p.k_heads) = kGroups[at[kHeads]];
  const Sizes& sizes = scale == Scale::kSmall  ? kSmallSizes
                       : scale == Scale::kTest ? kTestSizes
                                               : kBenchSizes;
  std::tie(p.q_len, p.k_len) = sizes[static_cast<std::size_t>(at[kLengths])];
  std::tie(p.dim, p.dim_v) = kDims[at[kWidths]];
  p.causal = at[kCausal] == 1;
  SetWindow(at[kWindow], &p);
  SetCache(at, &p);  // settles k_len
  SetAlign(at[kAlign], &p);
  p.prefix = at[kPrefix] == 0 ? 0 : at[kPrefix] == 1 ? 3 : p.k_len + 7;
  p.chunk = at[kChunk] == 0 ? 0 : at[kChunk] == 1 ? 16 : 5;
  if (at[kScale] != 0) p.scale = at[kScale] == 1 ? -0.3 : 0;
  p.softcap = kSoftcaps[at[kSoftcap]];
  p.alibi = static_cast<Alibi>(at[kAlibi]);
  SetBias(at[kBias], at[kBiasType], &p);
  SetMask(at[kMask], &c);
  SetBlockMap(at[kBlockMap], &p);
  c.spread = static_cast<Spread>(at[kSpread]);
  p.sinks = at[kSinks] == 1;
  p.dropout_p = kDropouts[at[kDropout]];
  p.seed = 0x123456789ABCDEFu * seed;
  p.offset = seed << 31;
  p.key_lengths = at[kKeyLengths] == 1;
  if (at[kRagged] == 1) SetRagged(c, &p);
  p.want_lse = at[kResults] == 0 || at[kResults] == 3;
  p.want_probs = at[kResults] >= 2;
  if (at[kOutType] == 1) p.out_dtype = DType::kF32;
  c.placement = static_cast<Placement>(at[kPlacement]);
  c.data = static_cast<Data>(at[kData]);
  SetStrides(c, &p);
  return c;
}

}  // namespace heed::cases
