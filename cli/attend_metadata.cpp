// cli/attend_metadata.cpp: one row per key that has a meaning. Not here: tensors.
#include "cli/attend_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <functional>

#include "cli/json.h"
#include "cli/options_parse.h"

namespace heed::cli {
namespace {

// Takes a value, as text and as JSON; false: it makes no sense.
using Take = std::function<bool(const std::string& text, const Json& value)>;

Take Boolean(bool* to) {
  return [to](const std::string&, const Json& value) {
    if (!value.is_boolean()) return false;
    *to = value.get<bool>();
    return true;
  };
}

template <class T>
Take Integer(T* to) {
  return [to](const std::string&, const Json& value) {
    if (!value.is_number_integer()) return false;
    *to = value.get<T>();
    return true;
  };
}

Take Pair(std::int64_t* first, std::int64_t* second) {
  return [first, second](const std::string&, const Json& value) {
    if (!value.is_array() || value.size() != 2) return false;
    if (!value[0].is_number_integer() || !value[1].is_number_integer()) return false;
    *first = value[0].get<std::int64_t>();
    *second = value[1].get<std::int64_t>();
    return true;
  };
}

Take Real(const std::function<void(double)>& set) {
  return [set](const std::string&, const Json& value) {
    if (!value.is_number()) return false;
    set(value.get<double>());
    return true;
  };
}

Take TakeAlign(Problem* p) {
  return [p](const std::string& text, const Json&) {
    const std::optional<Align> align = AlignNamed(text);
    if (align) p->align = *align;
    return align.has_value();
  };
}

Take TakeLayout(std::string* layout) {
  return [layout](const std::string& text, const Json&) {
    *layout = text;
    std::transform(layout->begin(), layout->end(), layout->begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return *layout == "bshd" || *layout == "bhsd" || *layout == "thd" || *layout == "shd" ||
           *layout == "cache";
  };
}

Take TakeRotary(Rotary* rotary) {
  return [rotary](const std::string& text, const Json&) {
    *rotary = text == "half"          ? Rotary::kHalf
              : text == "interleaved" ? Rotary::kInterleaved
                                      : Rotary::kNone;
    return *rotary != Rotary::kNone || text == "none";
  };
}

}  // namespace

Status ApplyMetadata(const std::map<std::string, std::string>& metadata, Problem* p,
                     std::string* layout) {
  const std::pair<const char*, Take> rows[] = {
      {"layout", TakeLayout(layout)},
      {"causal", Boolean(&p->causal)},
      {"align", TakeAlign(p)},
      {"window", Pair(&p->window_left, &p->window_right)},
      {"prefix", Integer(&p->prefix)},
      {"chunk", Integer(&p->chunk)},
      {"scale", Real([p](double x) { p->scale = x; })},
      {"softcap", Real([p](double x) { p->softcap = x; })},
      {"dropout_p", Real([p](double x) { p->dropout_p = x; })},
      {"seed", Integer(&p->seed)},
      {"offset", Integer(&p->offset)},
      {"rotary", TakeRotary(&p->cache.rotary)},
      {"block_size", Pair(&p->block_rows, &p->block_cols)},
  };
  for (const auto& [key, take] : rows) {
    const auto entry = metadata.find(key);
    if (entry == metadata.end()) continue;
    const Json value = Json::parse(entry->second, nullptr, /*allow_exceptions=*/false);
    if (!take(entry->second, value)) {
      return {StatusCode::kInvalid, fmt::format("the metadata's {} is '{}', which makes no sense",
                                                key, entry->second.substr(0, 60))};
    }
  }
  return {};
}

}  // namespace heed::cli
