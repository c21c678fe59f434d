// cli/json.h: printing JSON. Not here: what it says.
#pragma once

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace heed::cli {

using Json = nlohmann::ordered_json;

/// A number, or null where it is not finite: JSON knows neither NaN nor infinity.
inline Json Number(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }

/// One object on one line (`indent` < 0) or over several. Bytes that are no UTF-8 are replaced.
inline void Print(const Json& json, int indent = 2) {
  const std::string text = json.dump(indent, ' ', false, Json::error_handler_t::replace);
  std::fprintf(stdout, "%s\n", text.c_str());
}

}  // namespace heed::cli
