// cli/demo_text.cpp: the captured tensors of a real model, passage by passage. Not here: attention.
#include <cmath>

#include "cli/demo.h"
#include "io/safetensors.h"

namespace heed::cli::demo {
namespace {

Status Wrong(const std::string& path, const std::string& what) {
  return {StatusCode::kInvalid, path + ": is no capture of a model's attention: " + what};
}

std::string Value(const io::TensorFile& file, const char* key) {
  const auto found = file.metadata.find(key);
  return found == file.metadata.end() ? "" : found->second;
}

// One text, or a JSON list of texts.
std::vector<std::string> Texts(const std::string& value, std::size_t count) {
  const Json list = Json::parse(value, nullptr, false);
  std::vector<std::string> texts;
  if (list.is_array()) {
    for (const Json& text : list) {
      texts.push_back(text.is_string() ? text.get<std::string>() : "");
    }
  } else {
    texts.push_back(value);
  }
  texts.resize(count);
  return texts;
}

bool IsListOfStrings(const Json& list) {
  if (!list.is_array()) return false;
  for (const Json& x : list) {
    if (!x.is_string()) return false;
  }
  return true;
}

// tokens: a list of word pieces, or one such list for each passage.
bool ReadTokens(const std::string& value, std::vector<Passage>* passages) {
  const Json list = Json::parse(value, nullptr, false);
  if (IsListOfStrings(list) && !list.empty()) {
    passages->push_back({.text = {}, .source = {}, .tokens = list.get<std::vector<std::string>>()});
    return true;
  }
  if (!list.is_array() || list.empty()) return false;
  for (const Json& tokens : list) {
    if (!IsListOfStrings(tokens)) return false;
    passages->push_back(
        {.text = {}, .source = {}, .tokens = tokens.get<std::vector<std::string>>()});
  }
  return true;
}

}  // namespace

Result<TextFile> ReadText(const std::string& path) {
  Result<io::TensorFile> read = io::ReadSafetensors(path);
  if (!read) return read.status();
  TextFile text;
  text.file = std::move(*read);
  text.model = Value(text.file, "model");
  text.layer = Value(text.file, "layer");
  if (!ReadTokens(Value(text.file, "tokens"), &text.passages)) {
    return Wrong(path, "its metadata has no list of tokens");
  }
  const std::vector<std::string> texts = Texts(Value(text.file, "text"), text.passages.size());
  const std::vector<std::string> sources = Texts(Value(text.file, "source"), text.passages.size());
  std::int64_t rows = 0;
  for (std::size_t i = 0; i < text.passages.size(); ++i) {
    text.passages[i].text = texts[i];
    text.passages[i].source = sources[i];
    text.passages[i].first = rows;
    rows += static_cast<std::int64_t>(text.passages[i].tokens.size());
  }
  for (const char* name : {"q", "k", "v", "o"}) {
    const io::Tensor* t = text.file.Find(name);
    if (t == nullptr || t->type != io::ElementType::kF32 || t->shape.size() < 3) {
      return Wrong(path, std::string("it has no F32 tensor ") + name + " of (rows, heads, width)");
    }
    const std::size_t n = t->shape.size();
    text.heads = t->shape[n - 2];
    text.dim = t->shape[n - 1];
    if (t->shape != text.file.Find("q")->shape || t->shape[n - 3] != rows ||
        t->ElementCount() != rows * text.heads * text.dim) {
      return Wrong(path, std::string(name) + " does not have a row for every token");
    }
  }
  const Json scale = Json::parse(Value(text.file, "scale"), nullptr, false);
  text.scale = scale.is_number() ? scale.get<double>() : 1 / std::sqrt(double(text.dim));
  return text;
}

Problem TextFile::ProblemOf(const Passage& passage) const {
  const auto rows = static_cast<std::int64_t>(passage.tokens.size());
  return {.q_len = rows,
          .k_len = rows,
          .q_heads = heads,
          .k_heads = heads,
          .dim = dim,
          .dim_v = dim,
          .scale = scale,
          .want_lse = true};
}

Buffers TextFile::InputsOf(const Passage& passage) const {
  const auto at = [&](const char* name) {
    return file.Find(name)->As<float>().data() + passage.first * heads * dim;
  };
  return {.q = at("q"), .k = at("k"), .v = at("v")};
}

const float* TextFile::ModelOut(const Passage& passage) const {
  return file.Find("o")->As<float>().data() + passage.first * heads * dim;
}

}  // namespace heed::cli::demo
