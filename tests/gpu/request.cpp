// request.cpp: see request.h.
#include "request.h"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <sstream>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace heed::gpu {
namespace {

using Words = std::vector<std::string>;

// ---- Read(words, &value): all words, or false.

template <class T>
bool ReadNumber(const std::string& word, T* out) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), *out);
  return error == std::errc{} && end == word.data() + word.size();
}

template <class T>
bool ReadName(const std::string& word, std::initializer_list<std::pair<const char*, T>> known,
              T* out) {
  for (const auto& [name, value] : known) {
    if (word == name) return *out = value, true;
  }
  return false;
}

bool ReadOne(const std::string& word, bool* out) {
  return ReadName<bool>(word, {{"0", false}, {"1", true}}, out);
}
bool ReadOne(const std::string& word, int* out) { return ReadNumber(word, out); }
bool ReadOne(const std::string& word, std::int64_t* out) { return ReadNumber(word, out); }
bool ReadOne(const std::string& word, std::uint64_t* out) { return ReadNumber(word, out); }
bool ReadOne(const std::string& word, double* out) { return ReadNumber(word, out); }
bool ReadOne(const std::string& word, std::string* out) { return *out = word, true; }
bool ReadOne(const std::string& word, DType* out) {
  return ReadName<DType>(
      word,
      {{"f32", DType::kF32}, {"bf16", DType::kBF16}, {"f16", DType::kF16}, {"f64", DType::kF64}},
      out);
}
bool ReadOne(const std::string& word, Align* out) {
  return ReadName<Align>(word,
                         {{"bottom_right", Align::kBottomRight},
                          {"top_left", Align::kTopLeft},
                          {"offset", Align::kOffset}},
                         out);
}
bool ReadOne(const std::string& word, Alibi* out) {
  return ReadName<Alibi>(word,
                         {{"none", Alibi::kNone},
                          {"per_head", Alibi::kPerHead},
                          {"per_batch_head", Alibi::kPerBatchHead}},
                         out);
}
bool ReadOne(const std::string& word, Rotary* out) {
  return ReadName<Rotary>(
      word,
      {{"none", Rotary::kNone}, {"interleaved", Rotary::kInterleaved}, {"half", Rotary::kHalf}},
      out);
}
bool ReadOne(const std::string& word, Op* out) {
  return ReadName<Op>(word, {{"forward", Op::kForward}, {"backward", Op::kBackward}}, out);
}
template <class T>
bool ReadOne(const std::string& word, std::optional<T>* out) {
  return ReadOne(word, &out->emplace());
}
template <class T>
bool ReadOne(const std::string& word, T** out) {
  std::uintptr_t address = 0;
  if (!ReadNumber(word, &address)) return false;
  *out = reinterpret_cast<T*>(address);
  return true;
}

bool Read(const Words& words, std::initializer_list<std::int64_t*> out) {
  if (words.size() != out.size()) return false;
  std::size_t n = 0;
  for (std::int64_t* value : out) {
    if (!ReadNumber(words[n++], value)) return false;
  }
  return true;
}
bool Read(const Words& words, Strides* s) { return Read(words, {&s->batch, &s->row, &s->head}); }
bool Read(const Words& words, Broadcast* t) {
  t->given = true;
  return Read(words, {&t->batch, &t->heads, &t->rows, &t->cols, &t->stride_batch, &t->stride_head,
                      &t->stride_row, &t->stride_col});
}
bool Read(const Words& words, Workspace* w) {
  std::int64_t bytes = 0;
  if (words.size() != 2 || !ReadOne(words[0], &w->data) || !ReadNumber(words[1], &bytes))
    return false;
  w->bytes = static_cast<std::size_t>(bytes);
  return bytes >= 0;
}
template <class T>
bool Read(const Words& words, T* out) {
  return words.size() == 1 && ReadOne(words[0], out);
}

// ---- the names

using Setter = bool (*)(Request*, const Words&);

template <auto kField>
bool OfProblem(Request* r, const Words& words) {
  return Read(words, &(r->problem.*kField));
}
template <auto kField>
bool OfCache(Request* r, const Words& words) {
  r->problem.cache.given = true;
  return Read(words, &(r->problem.cache.*kField));
}
template <auto kField>
bool OfBuffers(Request* r, const Words& words) {
  return Read(words, &(r->buffers.*kField));
}
template <auto kField>
bool OfOptions(Request* r, const Words& words) {
  return Read(words, &(r->options.*kField));
}

#define HEED_PROBLEM(name) \
  { #name, &OfProblem < &Problem::name> }
#define HEED_CACHE(name) \
  { "cache." #name, &OfCache<&Cache::name> }
#define HEED_AT(name) \
  { "at." #name, &OfBuffers<&Buffers::name> }

const std::map<std::string, Setter>& Names() {
  static const std::map<std::string, Setter> kNames = {
      HEED_PROBLEM(batch),
      HEED_PROBLEM(q_len),
      HEED_PROBLEM(k_len),
      HEED_PROBLEM(q_heads),
      HEED_PROBLEM(k_heads),
      HEED_PROBLEM(dim),
      HEED_PROBLEM(dim_v),
      HEED_PROBLEM(dtype),
      HEED_PROBLEM(causal),
      HEED_PROBLEM(window_left),
      HEED_PROBLEM(window_right),
      HEED_PROBLEM(align),
      HEED_PROBLEM(query_offset),
      HEED_PROBLEM(query_offsets),
      HEED_PROBLEM(prefix),
      HEED_PROBLEM(chunk),
      HEED_PROBLEM(scale),
      HEED_PROBLEM(softcap),
      HEED_PROBLEM(alibi),
      HEED_PROBLEM(bias),
      HEED_PROBLEM(bias_dtype),
      HEED_PROBLEM(mask),
      HEED_PROBLEM(block_map),
      HEED_PROBLEM(block_rows),
      HEED_PROBLEM(block_cols),
      HEED_PROBLEM(sinks),
      HEED_PROBLEM(key_lengths),
      HEED_PROBLEM(ragged),
      HEED_PROBLEM(total_q),
      HEED_PROBLEM(total_k),
      HEED_PROBLEM(dropout_p),
      HEED_PROBLEM(seed),
      HEED_PROBLEM(offset),
      HEED_PROBLEM(op),
      HEED_PROBLEM(want_lse),
      HEED_PROBLEM(want_probs),
      HEED_PROBLEM(out_dtype),
      HEED_PROBLEM(dlse),
      HEED_PROBLEM(want_dbias),
      HEED_PROBLEM(want_dsinks),
      HEED_PROBLEM(f32_grads),
      HEED_PROBLEM(accumulate),
      HEED_PROBLEM(q_strides),
      HEED_PROBLEM(k_strides),
      HEED_PROBLEM(v_strides),
      HEED_PROBLEM(o_strides),
      HEED_PROBLEM(k_new_strides),
      HEED_PROBLEM(v_new_strides),
      HEED_PROBLEM(dout_strides),
      HEED_PROBLEM(dq_strides),
      HEED_PROBLEM(dk_strides),
      HEED_PROBLEM(dv_strides),
      HEED_CACHE(slots),
      HEED_CACHE(rows),
      HEED_CACHE(blocks),
      HEED_CACHE(new_len),
      HEED_CACHE(batch_idx),
      HEED_CACHE(leftpad),
      HEED_CACHE(rotary),
      HEED_CACHE(rotary_dim),
      HEED_CACHE(rotary_rows),
      HEED_AT(q),
      HEED_AT(k),
      HEED_AT(v),
      HEED_AT(o),
      HEED_AT(lse),
      HEED_AT(probs),
      HEED_AT(alibi_slopes),
      HEED_AT(bias),
      HEED_AT(mask),
      HEED_AT(block_map),
      HEED_AT(sinks),
      HEED_AT(key_lengths),
      HEED_AT(query_offsets),
      HEED_AT(cu_seqlens_q),
      HEED_AT(cu_seqlens_k),
      HEED_AT(k_cache),
      HEED_AT(v_cache),
      HEED_AT(k_new),
      HEED_AT(v_new),
      HEED_AT(rotary_cos),
      HEED_AT(rotary_sin),
      HEED_AT(cache_seqlens),
      HEED_AT(cache_batch_idx),
      HEED_AT(cache_leftpad),
      HEED_AT(block_table),
      HEED_AT(dout),
      HEED_AT(dlse),
      HEED_AT(dq),
      HEED_AT(dk),
      HEED_AT(dv),
      HEED_AT(dbias),
      HEED_AT(dsinks),
      HEED_AT(workspace),
      HEED_AT(stream),
      {"plan.backend", &OfOptions<&PlanOptions::backend>},
      {"plan.isa", &OfOptions<&PlanOptions::isa>},
      {"plan.threads", &OfOptions<&PlanOptions::threads>},
  };
  return kNames;
}

#undef HEED_PROBLEM
#undef HEED_CACHE
#undef HEED_AT

Status Bad(std::string sentence) { return {StatusCode::kInvalid, std::move(sentence)}; }

}  // namespace

Status Parse(const std::string& text, Request* out) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream in(line);
    std::string name;
    if (!(in >> name)) continue;
    const auto at = Names().find(name);
    if (at == Names().end()) return Bad("a call has no field '" + name + "'");
    Words words;
    for (std::string word; in >> word;) words.push_back(word);
    if (!at->second(out, words)) return Bad("'" + line + "' cannot be read");
  }
  return {};
}

}  // namespace heed::gpu
