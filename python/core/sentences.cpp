// sentences.cpp: see sentences.h. A name that is new in the library shows as it is until it gets its row.
#include "sentences.h"

#include <cctype>
#include <cstddef>
#include <string_view>

namespace heed::python {
namespace {

struct Row {
  std::string_view theirs, ours;
};

// Several words that mean one thing, before the words by themselves.
constexpr Row kPhrases[] = {
    {"align is kOffset without an offset: give query_offset, or query_offsets = true and one "
     "offset per batch entry",
     "align is \"offset\" and query_offset is None: give one number, or int32 (B,)"},
    {"Align::kOffset only", "align=\"offset\" only"},
    {"query_offsets is true", "query_offset has a number for each entry"},
    {" and cache.new_len is 0: the one must be 0 or more, and their sum at most",
     ": it must be from 0 to"},
    {"cache.batch_idx is true", "cache_batch_idx is given"},
    {"bias.given is false", "bias is None"},
    {"sinks is false", "sinks is None"},
    {"want_dbias is true", "return_dbias is True"},
    {"want_dsinks is true", "return_dsinks is True"},
    {"want_probs is true", "return_probs is True"},
    {"leave it false or set op to kBackward", "leave it False, or backward=True"},
    {"op is kBackward", "this is a backward"},
    {"op is kForward", "this is a forward"},
    {"leave want_probs false", "leave return_probs False"},
    {", or 0 for dim", ""},
    {"new_len must be at most that", "it may be given at most so many"},
};

constexpr Row kWords[] = {
    {"q_heads", "H"},
    {"k_heads", "Hk"},
    {"dim", "D"},
    {"dim_v", "Dv"},
    {"total_q", "q.shape[0]"},
    {"total_k", "k.shape[0]"},
    {"window_left", "window[0]"},
    {"window_right", "window[1]"},
    {"block_rows", "block_size[0]"},
    {"block_cols", "block_size[1]"},
    {"bias_dtype", "bias.dtype"},
    {"kTopLeft", "\"top_left\""},
    {"kBottomRight", "\"bottom_right\""},
    {"want_probs", "return_probs"},
    {"want_dbias", "return_dbias"},
    {"want_dsinks", "return_dsinks"},
    {"cache.slots", "k_cache.shape[0]"},
    {"cache.rows", "k_cache.shape[1]"},
    {"cache.blocks", "block_table.shape[1]"},
    {"cache.new_len", "k_new.shape[1]"},
    {"cache.batch_idx", "cache_batch_idx"},
    {"cache.leftpad", "cache_leftpad"},
    {"cache.rotary_dim", "twice rotary_cos.shape[1]"},
    {"cache.rotary_rows", "rotary_cos.shape[0]"},
    {"isa", "the instruction set in backend"},
};

// The axes of what broadcasts, and the strides of rows, by the names of their fields.
constexpr Row kAxes[] = {{"batch", "-4"}, {"heads", "-3"}, {"rows", "-2"}, {"cols", "-1"}};
constexpr Row kStrideAxes[] = {{"batch", "0"}, {"row", "1"}, {"head", "2"}};
constexpr Row kRaggedStrideAxes[] = {{"row", "0"}, {"head", "1"}};

template <std::size_t N>
std::string_view Find(const Row (&rows)[N], std::string_view word) {
  for (const Row& row : rows) {
    if (row.theirs == word) return row.ours;
  }
  return {};
}

bool OfAWord(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

std::string WordOf(std::string_view word, const Problem& p) {
  if (word == "q_len") return p.ragged ? "max_seqlen_q" : "Sq";
  if (word == "k_len") return p.ragged ? "max_seqlen_k" : "Sk";
  if (const std::string_view ours = Find(kWords, word); !ours.empty()) return std::string(ours);
  const std::size_t dot = word.find('.');
  if (dot == std::string_view::npos) return std::string(word);
  const std::string_view tensor = word.substr(0, dot), axis = word.substr(dot + 1);
  if (tensor == "bias" || tensor == "mask" || tensor == "block_map") {
    const std::string_view at = Find(kAxes, axis);
    if (!at.empty()) return std::string(tensor) + ".shape[" + std::string(at) + "]";
  }
  constexpr std::string_view kStrides = "_strides";
  if (tensor.size() > kStrides.size() && tensor.ends_with(kStrides)) {
    std::string name(tensor.substr(0, tensor.size() - kStrides.size()));
    if (p.cache.given && (name == "k" || name == "v")) name += "_cache";
    const std::string_view at = p.ragged ? Find(kRaggedStrideAxes, axis) : Find(kStrideAxes, axis);
    if (!at.empty()) return "the stride of axis " + std::string(at) + " of " + name;
  }
  return std::string(word);
}

}  // namespace

std::string InPythonsWords(const std::string& sentence, const Problem& problem) {
  std::string phrased = sentence;
  for (const Row& row : kPhrases) {
    const std::size_t at = phrased.find(row.theirs);
    if (at != std::string::npos) phrased.replace(at, row.theirs.size(), row.ours);
  }
  std::string out;
  for (std::size_t i = 0; i < phrased.size();) {
    std::size_t end = i;
    // A dot belongs to a word that goes on behind it.
    while (end < phrased.size() &&
           (OfAWord(phrased[end]) || (phrased[end] == '.' && end > i && end + 1 < phrased.size() &&
                                      OfAWord(phrased[end + 1])))) {
      end++;
    }
    if (end == i) {
      out += phrased[i++];
      continue;
    }
    out += WordOf(std::string_view(phrased).substr(i, end - i), problem);
    i = end;
  }
  return out;
}

}  // namespace heed::python
