// verify/case_settings.h: the metadata of a conformance case as values. Not here: tensors, what a
// setting means.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <system_error>

#include "heed/types.h"
#include "io/tensor.h"

namespace heed::verify {

/// A setting that is absent leaves its default; one that cannot be read gives a sentence.
class Settings {
 public:
  explicit Settings(const io::TensorFile& file) : file_(file) {}

  bool Has(const char* key) const { return file_.metadata.contains(key); }

  std::string Word(const char* key, const char* otherwise) const {
    const auto at = file_.metadata.find(key);
    return at == file_.metadata.end() ? otherwise : at->second;
  }

  template <class T>
  Status Number(const char* key, T* out) const {
    if (!Has(key)) return {};
    const std::string text = Word(key, "");
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
    if (error == std::errc{} && end == text.data() + text.size()) return {};
    return {StatusCode::kInvalid,
            "the setting '" + std::string(key) + "' is not a number that fits"};
  }

  Status Flag(const char* key, bool* out) const;
  /// "[a, b]".
  Status Pair(const char* key, std::int64_t* first, std::int64_t* second) const;

 private:
  const io::TensorFile& file_;
};

}  // namespace heed::verify
