// sentences.h: the library's sentences in Python's words. Not here: raising them (errors.h).
#pragma once

#include <string>

#include "heed/heed.h"

namespace heed::python {

/// What the library says of a Problem names its fields; here they get the names of the keywords and
/// of the axes in Python's documentation: "cache.new_len is 3" is "k_new.shape[1] is 3".
std::string InPythonsWords(const std::string& sentence, const Problem& problem);

}  // namespace heed::python
