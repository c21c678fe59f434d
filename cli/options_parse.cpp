// cli/options_parse.cpp: parsing of dtypes, alignments, lists of integers. Not here: which options
// there are.
#include "cli/options_parse.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <string_view>

namespace heed::cli {

std::optional<DType> DTypeNamed(const std::string& name) {
  for (const DType t : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
    if (name == heed::Name(t)) return t;
  }
  return std::nullopt;
}

const char* Name(Op op) { return op == Op::kBackward ? "backward" : "forward"; }

const char* Name(Align align) {
  return align == Align::kTopLeft  ? "top-left"
         : align == Align::kOffset ? "offset"
                                   : "bottom-right";
}

std::optional<Align> AlignNamed(const std::string& name) {
  std::string dashed = name;
  std::replace(dashed.begin(), dashed.end(), '_', '-');
  for (const Align align : {Align::kBottomRight, Align::kTopLeft, Align::kOffset}) {
    if (dashed == Name(align)) return align;
  }
  return std::nullopt;
}

std::optional<std::vector<std::int64_t>> Integers(const std::string& text, std::size_t count) {
  std::vector<std::int64_t> all;
  const char* at = text.data();
  const char* end = at + text.size();
  while (true) {
    std::int64_t value = 0;
    const auto [stop, error] = std::from_chars(at, end, value);
    if (error != std::errc()) return std::nullopt;
    all.push_back(value);
    if (stop == end) break;
    if (*stop != ',') return std::nullopt;
    at = stop + 1;
  }
  if (all.size() != count) return std::nullopt;
  return all;
}

void Reject(const char* option, const std::string& text, const std::string& wanted) {
  throw CLI::ValidationError(option, "'" + text + "' is not " + wanted);
}

void Contradict(const char* option, const std::string& sentence) {
  throw CLI::ValidationError(option, sentence);
}

DType ParseDType(const char* option, const std::string& text) {
  const std::optional<DType> dtype = DTypeNamed(text);
  if (!dtype) Reject(option, text, "one of f32, bf16, f16, f64");
  return *dtype;
}

std::vector<std::int64_t> ParseIntegers(const char* option, const std::string& text,
                                        std::size_t count, const char* wanted) {
  std::optional<std::vector<std::int64_t>> all = Integers(text, count);
  if (!all) Reject(option, text, wanted);
  return *all;
}

Broadcast ParseBroadcast(const char* option, const std::string& text) {
  // Letters become the number that no size can be.
  std::string numbers;
  for (std::size_t n = 0; n < text.size(); ++n) {
    const bool alone =
        (n == 0 || text[n - 1] == ',') && (n + 1 == text.size() || text[n + 1] == ',');
    if (alone && std::string_view("BHSIJ").find(text[n]) != std::string_view::npos) {
      numbers += std::to_string(kWholeAxis);
    } else {
      numbers += text[n];
    }
  }
  const std::optional<std::vector<std::int64_t>> n = Integers(numbers, 4);
  if (!n) Reject(option, text, "four sizes B,H,I,J, a letter for a whole axis");
  return {.given = true, .batch = (*n)[0], .heads = (*n)[1], .rows = (*n)[2], .cols = (*n)[3]};
}

}  // namespace heed::cli
