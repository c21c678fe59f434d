// verify/case_settings.cpp: see case_settings.h.
#include "verify/case_settings.h"

namespace heed::verify {

Status Settings::Flag(const char* key, bool* out) const {
  const std::string word = Word(key, "false");
  *out = word == "true";
  if (*out || word == "false") return {};
  return {StatusCode::kInvalid, "the setting '" + std::string(key) + "' must be true or false"};
}

Status Settings::Pair(const char* key, std::int64_t* first, std::int64_t* second) const {
  if (!Has(key)) return {};
  std::string text = Word(key, "");
  std::erase(text, ' ');
  const char *p = text.data(), *last = p + text.size();
  const auto number = [&](char before, std::int64_t* out) {
    if (p == last || *p != before) return false;
    const auto [end, error] = std::from_chars(p + 1, last, *out);
    p = end;
    return error == std::errc{};
  };
  if (number('[', first) && number(',', second) && p + 1 == last && *p == ']') return {};
  return {StatusCode::kInvalid,
          "the setting '" + std::string(key) + "' must be two whole numbers in brackets"};
}

}  // namespace heed::verify
