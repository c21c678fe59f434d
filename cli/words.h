// cli/words.h: numbers and lists as people read them. Not here: what is said.
#pragma once

#include <string>
#include <vector>

namespace heed::cli {

std::string Bytes(double bytes);      ///< "168 MB", powers of ten
std::string Seconds(double seconds);  ///< "4.52 ms"
std::string Flops(double flops);      ///< "129 GFLOP"
std::string Percent(double share);    ///< "90.1 %"
std::string Count(double count);      ///< "1,234,567"
std::string Join(const std::vector<std::string>& words, const std::string& between);

/// A bar of blocks, `share` of `width` columns long, padded with spaces to that width.
std::string Bar(double share, int width);
/// `text` padded with spaces (or cut, with an ellipsis) to `width` columns; counts code points.
std::string Column(const std::string& text, int width);

}  // namespace heed::cli
