// words.cpp: numbers as text. Not here: sentences.
#include "problem/words.h"

#include <charconv>

namespace heed {

std::string ToWords(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value);
  return std::string(text, end.ptr);
}

}  // namespace heed
