// backward_cases.cpp: see backward_cases.h.
#include "backward_cases.h"

#include <algorithm>
#include <set>
#include <utility>

#include "cases_data.h"

namespace heed::testing_backward {
namespace {

using namespace cases;

constexpr AxisId kOfCaches[] = {kCache, kAppend, kBatchIdx, kLeftPad, kRotary};

// Each value alone, over several tiles unless sizes are the value.
std::vector<Choice> SingleChoices() {
  std::vector<Choice> choices = {Choice(kAxisCount, 0)};
  for (std::size_t a = 0; a < kAxisCount; ++a) {
    for (int v = 1; v < static_cast<int>(Axes()[a].values.size()); ++v) {
      Choice c(kAxisCount, 0);
      c[a] = v;
      if (a != kLengths) c[kLengths] = 5;
      if (a == kSpread) c[kBias] = c[kMask] = c[kBlockMap] = 1;
      choices.push_back(std::move(c));
    }
  }
  return choices;
}

BackwardCase Of(const Choice& choice, Scale scale, std::size_t n) {
  BackwardCase c{.choice = choice, .forward = CaseOf(choice, scale, n + 1), .wishes = {}};
  c.forward.name = std::to_string(n) + "_" + c.forward.name;
  c.wishes = WishesOf(HashOf(n + 1, {5}));
  return c;
}

// Several blocks of keys and of queries, of which some are skipped, with what crosses their edges.
std::vector<BackwardCase> LongCases() {
  const Problem base{
      .batch = 1, .q_len = 301, .k_len = 1100, .q_heads = 2, .k_heads = 1, .dim = 40, .dim_v = 24};
  std::vector<std::pair<const char*, Problem>> all;
  const auto add = [&](const char* name, auto&& change) {
    Problem p = base;
    change(&p);
    all.emplace_back(name, p);
  };
  add("plain", [](Problem*) {});
  add("causal", [](Problem* p) { p->causal = true; });
  add("square_causal", [](Problem* p) {
    p->q_len = p->k_len = 700;
    p->causal = true;
  });
  add("tall", [](Problem* p) {
    p->q_len = 1300;
    p->k_len = 130;
  });
  add("tall_window", [](Problem* p) {
    p->q_len = 900;
    p->k_len = 900;
    p->window_left = 70;
    p->window_right = 3;
  });
  add("prefix_chunk", [](Problem* p) {
    p->prefix = 9;
    p->chunk = 200;
  });
  add("dropout_softcap_bias", [](Problem* p) {
    p->dropout_p = 0.2;
    p->softcap = 5;
    p->bias = {.given = true, .rows = 301, .cols = 1100};
  });
  add("bias_of_keys_alibi_sinks", [](Problem* p) {
    p->bias = {.given = true, .heads = 2, .cols = 1100};
    p->alibi = Alibi::kPerHead;
    p->sinks = true;
  });
  add("block_map_mask", [](Problem* p) {
    p->block_rows = 64;
    p->block_cols = 128;
    p->block_map = {.given = true, .rows = 5, .cols = 9};
    p->mask = {.given = true, .rows = 301, .cols = 1100};
  });
  add("lengths", [](Problem* p) {
    p->batch = 2;
    p->key_lengths = true;
    p->causal = true;
  });
  std::vector<BackwardCase> cases;
  for (const auto& [name, problem] : all) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      BackwardCase c;
      c.forward = {.name = std::string("long_") + name + "_" + heed::Name(dtype),
                   .problem = problem,
                   .seed = cases.size() + 1};
      c.forward.problem.dtype = dtype;
      c.forward.problem.want_lse = true;
      c.wishes = WishesOf(HashOf(cases.size(), {6}));
      c.wishes.dbias = c.wishes.dsinks = true;
      cases.push_back(std::move(c));
    }
  }
  return cases;
}

// Widths that no axis has, and numbers at the ends of what there is.
std::vector<BackwardCase> UnusualCases() {
  std::vector<BackwardCase> cases;
  const auto add = [&](const std::string& name, const Problem& problem, Data data) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      BackwardCase c;
      c.forward = {.name = name + "_" + heed::Name(dtype),
                   .problem = problem,
                   .data = data,
                   .seed = 500 + cases.size()};
      c.forward.problem.dtype = dtype;
      c.forward.problem.want_lse = true;
      c.wishes = WishesOf(HashOf(cases.size(), {8}));
      cases.push_back(std::move(c));
    }
  };
  constexpr std::pair<int, int> kWidths[] = {{1, 1},     {2, 3},     {15, 65},  {72, 96},
                                             {192, 256}, {576, 512}, {1024, 8}, {3, 1024}};
  for (const auto& [dim, dim_v] : kWidths) {
    add("wide_" + std::to_string(dim) + "x" + std::to_string(dim_v),
        {.batch = 1,
         .q_len = 29,
         .k_len = 61,
         .q_heads = 2,
         .k_heads = 1,
         .dim = dim,
         .dim_v = dim_v,
         .causal = true},
        Data::kNormal);
  }
  // Not kHuge: dk, which is ds q, would be 1e59 there.
  for (const Data data : {Data::kFalling, Data::kOutlier, Data::kEqual, Data::kIntegers,
                          Data::kTiny, Data::kDenormal}) {
    add(std::string("data_") + Name(data),
        {.batch = 1, .q_len = 50, .k_len = 190, .q_heads = 2, .dim = 64, .causal = true}, data);
  }
  // |lse| beyond 2^12: maxima and sums are computed again.
  for (const double scale : {600.0, -600.0}) {
    add(scale > 0 ? "scale_huge" : "scale_huge_negative",
        {.batch = 1, .q_len = 50, .k_len = 190, .q_heads = 2, .dim = 64, .scale = scale},
        Data::kNormal);
  }
  return cases;
}

}  // namespace

Wishes WishesOf(std::uint64_t bits) {
  constexpr Placement kPlacements[] = {Placement::kDense, Placement::kHeadsFirst,
                                       Placement::kPaddedRows, Placement::kPackedQkv};
  return {.dlse = bits % 2 == 1,
          .dbias = bits / 2 % 4 != 0,
          .dsinks = bits / 8 % 4 != 0,
          .f32_grads = bits / 32 % 2 == 1,
          .placement = kPlacements[bits / 64 % 4]};
}

std::vector<BackwardCase> BackwardCases(Scale scale) {
  std::vector<Choice> choices = SingleChoices();
  for (Choice& c : PairwiseChoices()) choices.push_back(std::move(c));
  const std::uint64_t sparse = scale == Scale::kTest ? 160 : 30;
  for (std::uint64_t n = 0; n < sparse; ++n) choices.push_back(SparseChoice(n));
  std::vector<BackwardCase> cases;
  std::set<Choice> seen;
  for (Choice& c : choices) {
    for (const AxisId a : kOfCaches) c[a] = 0;
    c[kResults] = 0;  // probs, and a forward without lse, are not the backward's
    if (Allowed(c) && seen.insert(c).second) cases.push_back(Of(c, scale, cases.size()));
  }
  if (scale == Scale::kTest) {
    for (BackwardCase& c : LongCases()) cases.push_back(std::move(c));
    for (BackwardCase& c : UnusualCases()) cases.push_back(std::move(c));
  }
  return cases;
}

BackwardCase AnyBackwardCase(std::uint64_t seed, const std::vector<AxisId>& axes) {
  Choice c;
  std::uint64_t attempt = seed * 1000;
  do {
    c = SparseChoice(attempt++);
    for (int a = 0; a < kAxisCount; ++a) {
      const bool any = a <= kWidths || a == kScale || a == kSoftcap || a == kData || a == kOutType;
      if (!any && std::find(axes.begin(), axes.end(), a) == axes.end()) {
        c[static_cast<std::size_t>(a)] = 0;
      }
    }
  } while (!Allowed(c));
  BackwardCase made = Of(c, seed % 3 == 0 ? Scale::kTest : Scale::kSmall, seed);
  made.wishes = WishesOf(HashOf(seed, {7}));
  return made;
}

}  // namespace heed::testing_backward
