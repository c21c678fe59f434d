// text.cpp: see text.h.
#include "text.h"

#include <array>
#include <cmath>
#include <fstream>
#include <iterator>

namespace train {

double Text::UnigramEntropy() const {
  std::vector<double> counts(letters.size(), 0);
  for (const int token : tokens) counts[static_cast<std::size_t>(token)] += 1;
  double sum = 0;
  for (const double count : counts) {
    const double p = count / static_cast<double>(tokens.size());
    sum -= p * std::log(p);
  }
  return sum;
}

Text ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  Text text;
  std::array<int, 256> index;
  index.fill(-1);
  for (const char c : bytes) {
    const auto letter = static_cast<unsigned char>(c);
    if (index[letter] < 0) {
      index[letter] = static_cast<int>(text.letters.size());
      text.letters.push_back(letter);
    }
    text.tokens.push_back(index[letter]);
  }
  return text;
}

Batch Draw(const Text& text, int batch, int length, std::uint64_t* state) {
  Batch b;
  const std::size_t starts = text.tokens.size() - static_cast<std::size_t>(length);
  for (int n = 0; n < batch; ++n) {
    const auto start = static_cast<std::size_t>(Uniform(state) * static_cast<double>(starts));
    for (std::size_t i = start; i < start + static_cast<std::size_t>(length); ++i) {
      b.inputs.push_back(text.tokens[i]);
      b.targets.push_back(text.tokens[i + 1]);
    }
  }
  return b;
}

double Uniform(std::uint64_t* state) {
  std::uint64_t z = (*state += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

}  // namespace train
