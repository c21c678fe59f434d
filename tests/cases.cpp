// cases.cpp: the list of cases. Not here: their numbers (cases_data.cpp).
#include "cases.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <tuple>
#include <utility>

namespace heed::cases {
namespace {

// Sizes at which some tile, block or vector of some kernel ends, their neighbours, and primes.
constexpr std::int64_t kSizes[] = {1,   2,   3,   5,   7,   8,   9,   15,  16,  17,
                                   23,  24,  25,  31,  47,  48,  49,  61,  95,  96,
                                   97,  101, 127, 128, 129, 191, 192, 193, 211, 255,
                                   256, 257, 307, 383, 384, 385, 401, 511, 512, 513};
constexpr std::int64_t kWidths[] = {1,  2,  3,  8,   15,  16,  17,  31,  33,  40,  64,
                                    65, 72, 96, 100, 127, 128, 192, 256, 512, 1024};
constexpr DType kTypes[] = {DType::kF32, DType::kBF16, DType::kF16};
constexpr std::pair<int, int> kHeads[] = {{1, 1}, {2, 2}, {4, 2}, {4, 1}, {3, 3}, {6, 2}};
constexpr std::int64_t kBatches[] = {1, 2, 3};
constexpr double kDefaultScale = 1e9;  // stands for "not given"
constexpr double kScales[] = {kDefaultScale, kDefaultScale, kDefaultScale, 0, -0.3, 1.5, 1e-3};
constexpr Data kData[] = {Data::kNormal,   Data::kNormal,  Data::kNormal,  Data::kPeaked,
                          Data::kGrowing,  Data::kFalling, Data::kOutlier, Data::kEqual,
                          Data::kIntegers, Data::kHuge,    Data::kTiny,    Data::kDenormal};
constexpr Placement kPlacements[] = {Placement::kDense,      Placement::kHeadsFirst,
                                     Placement::kPackedQkv,  Placement::kPaddedRows,
                                     Placement::kSharedKeys, Placement::kReversedKeys};
enum class Position { kBottomRight, kTopLeft, kAtZero, kInside, kNegative, kBeyond, kFarNegative };
constexpr std::pair<bool, Position> kPositions[] = {
    {false, Position::kBottomRight}, {true, Position::kBottomRight}, {true, Position::kTopLeft},
    {true, Position::kAtZero},       {true, Position::kInside},      {true, Position::kNegative},
    {true, Position::kBeyond},       {true, Position::kFarNegative}, {false, Position::kNegative}};

// Deals every value of a list before any comes twice, in an order that changes every time.
class Dealer {
 public:
  Dealer(std::size_t count, std::uint64_t seed) : order_(count), state_(seed) {
    for (std::size_t n = 0; n < count; ++n) order_[n] = n;
  }
  std::size_t Next() {
    if (at_ == 0) Shuffle();
    const std::size_t dealt = order_[at_];
    at_ = (at_ + 1) % order_.size();
    return dealt;
  }

 private:
  void Shuffle() {
    for (std::size_t n = order_.size(); n > 1; --n) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX
      std::swap(order_[n - 1], order_[(state_ >> 33) % n]);
    }
  }
  std::vector<std::size_t> order_;
  std::size_t at_ = 0;
  std::uint64_t state_;
};

void SetPosition(Position position, Problem* p) {
  if (position == Position::kTopLeft) p->align = Align::kTopLeft;
  if (position == Position::kBottomRight || position == Position::kTopLeft) return;
  p->align = Align::kOffset;
  p->query_offset = position == Position::kAtZero     ? 0
                    : position == Position::kInside   ? (p->k_len + 1) / 2
                    : position == Position::kNegative ? -((p->q_len + 1) / 2)
                    : position == Position::kBeyond   ? p->k_len + 3
                                                      : -p->q_len - 3;
}

std::string NameOf(const Case& c) {
  const Problem& p = c.problem;
  const auto number = [](std::int64_t x) { return std::to_string(x); };
  std::string name = std::string(heed::Name(p.dtype)) + "_b" + number(p.batch) + "_h" +
                     number(p.q_heads) + "x" + number(p.k_heads) + "_s" + number(p.q_len) + "x" +
                     number(p.k_len) + "_d" + number(p.dim) + "x" + number(p.dim_v);
  if (p.causal) name += "_causal";
  if (p.align == Align::kTopLeft) name += "_topleft";
  if (p.query_offset) {
    name += *p.query_offset < 0 ? "_offsetminus" + number(-*p.query_offset)
                                : "_offset" + number(*p.query_offset);
  }
  if (p.scale)
    name += *p.scale == 0  ? "_scale0"
            : *p.scale < 0 ? "_scaleneg"
            : *p.scale > 1 ? "_scalebig"
                           : "_scalesmall";
  return name + "_" + Name(c.data) + "_" + Name(c.placement);
}

double Cost(const Problem& p) {
  return static_cast<double>(p.batch * p.q_heads * p.q_len) * static_cast<double>(p.k_len) *
         static_cast<double>(p.dim + p.dim_v);
}

// The next smaller value of kSizes.
std::int64_t Smaller(std::int64_t size) {
  const auto* at = std::lower_bound(std::begin(kSizes), std::end(kSizes), size);
  return at == std::begin(kSizes) ? size : *(at - 1);
}

std::vector<Case> Drawn(int count, double largest_cost) {
  std::uint64_t seed = 20;
  const auto dealer = [&](const auto& list) { return Dealer(std::size(list), ++seed); };
  Dealer rows = dealer(kSizes), keys = dealer(kSizes), dim = dealer(kWidths),
         dim_v = dealer(kWidths), type = dealer(kTypes), heads = dealer(kHeads),
         batch = dealer(kBatches), scale = dealer(kScales), data = dealer(kData),
         placement = dealer(kPlacements), position = dealer(kPositions),
         options = dealer(std::array<int, 8>{});
  std::vector<Case> cases;
  for (int n = 0; n < count; ++n) {
    Case c;
    Problem& p = c.problem;
    p.dtype = kTypes[type.Next()];
    p.batch = kBatches[batch.Next()];
    std::tie(p.q_heads, p.k_heads) = kHeads[heads.Next()];
    p.q_len = kSizes[rows.Next()];
    p.k_len = kSizes[keys.Next()];
    p.dim = kWidths[dim.Next()];
    p.dim_v = kWidths[dim_v.Next()];
    const std::size_t option = options.Next();
    if (option % 4 != 0) p.dim_v = p.dim;  // three in four
    p.want_lse = option != 1;
    if (const double s = kScales[scale.Next()]; s != kDefaultScale) p.scale = s;
    const auto [causal, where] = kPositions[position.Next()];
    c.data = kData[data.Next()];
    c.placement = kPlacements[placement.Next()];
    c.seed = static_cast<std::uint64_t>(n) + 100;
    while (Cost(p) > largest_cost) {
      if (p.batch > 1) {
        --p.batch;
      } else if (p.q_heads > p.k_heads || p.q_heads > 2) {
        p.q_heads = p.k_heads = 1;
      } else if (p.q_len >= p.k_len) {
        p.q_len = Smaller(p.q_len);
      } else {
        p.k_len = Smaller(p.k_len);
      }
    }
    p.causal = causal;
    SetPosition(where, &p);
    c.name = NameOf(c);
    cases.push_back(std::move(c));
  }
  return cases;
}

// Shapes that deserve a place of their own.
std::vector<Case> Chosen() {
  std::vector<Case> cases;
  const auto add = [&](Problem p, Data data = Data::kNormal,
                       Placement placement = Placement::kDense) {
    if (p.k_heads == 0) p.k_heads = p.q_heads;
    if (p.dim_v == 0) p.dim_v = p.dim;
    p.want_lse = true;
    for (const DType type : kTypes) {
      p.dtype = type;
      Case c{.problem = p, .data = data, .placement = placement, .seed = cases.size() + 1};
      c.name = NameOf(c);
      cases.push_back(std::move(c));
    }
  };
  add({.q_len = 513, .k_len = 513, .q_heads = 2, .k_heads = 1, .dim = 64, .causal = true});
  add({.q_len = 400, .k_len = 1031, .dim = 64});
  add({.q_len = 300, .k_len = 777, .dim = 128, .causal = true}, Data::kPeaked);
  add({.q_len = 100, .k_len = 1300, .dim = 64}, Data::kGrowing);
  add({.q_len = 129, .k_len = 600, .dim = 32, .causal = true}, Data::kGrowing);
  add({.batch = 2, .q_len = 128, .k_len = 128, .q_heads = 4, .dim = 64}, Data::kNormal,
      Placement::kPackedQkv);
  add({.q_len = 17, .k_len = 100, .q_heads = 4, .k_heads = 1, .dim = 576, .dim_v = 512});
  add({.q_len = 1, .k_len = 1, .q_heads = 2, .dim = 1});
  add({.batch = 2, .q_len = 1, .k_len = 300, .q_heads = 8, .k_heads = 2, .dim = 128});
  add({.q_len = 40, .k_len = 1, .q_heads = 3, .dim = 64});
  add({.q_len = 65, .k_len = 33, .q_heads = 2, .dim = 48, .dim_v = 80, .causal = true},
      Data::kNormal, Placement::kPaddedRows);
  for (const Data data :
       {Data::kHuge, Data::kTiny, Data::kDenormal, Data::kEqual, Data::kOutlier, Data::kFalling}) {
    add({.q_len = 50, .k_len = 333, .q_heads = 2, .dim = 64, .causal = data == Data::kOutlier},
        data);
  }
  // Nothing to do, or nothing to see.
  add({.batch = 0, .q_len = 5, .k_len = 5, .dim = 16});
  add({.q_len = 0, .k_len = 5, .dim = 16});
  add({.q_len = 5, .k_len = 0, .q_heads = 2, .dim = 16});
  add({.q_len = 60, .k_len = 20, .q_heads = 2, .dim = 16, .causal = true});
  add({.q_len = 70,
       .k_len = 70,
       .dim = 64,
       .causal = true,
       .align = Align::kOffset,
       .query_offset = -70});
  return cases;
}

}  // namespace

const char* Name(Data data) {
  constexpr const char* kNames[] = {"normal", "peaked",   "growing", "falling", "outlier",
                                    "equal",  "integers", "huge",    "tiny",    "denormal"};
  return kNames[static_cast<int>(data)];
}

const char* Name(Spread spread) {
  constexpr const char* kNames[] = {"dense", "padded", "transposed", "reversed"};
  return kNames[static_cast<int>(spread)];
}

const char* Name(Placement placement) {
  constexpr const char* kNames[] = {"dense",  "headsfirst", "packed",
                                    "padded", "shared",     "reversed"};
  return kNames[static_cast<int>(placement)];
}

std::vector<Case> DenseForward() {
  std::vector<Case> cases = Chosen();
  for (Case& c : Drawn(200, 2e7)) cases.push_back(std::move(c));
  // Names are test names: unique, whatever was drawn.
  for (std::size_t n = 0; n < cases.size(); ++n) {
    cases[n].name = std::to_string(n) + "_" + cases[n].name;
  }
  return cases;
}

std::vector<Case> DenseForwardReduced() {
  std::vector<Case> cases;
  for (Case& c : DenseForward()) {
    if (Cost(c.problem) <= 1.5e6) cases.push_back(std::move(c));
  }
  return cases;
}

}  // namespace heed::cases
