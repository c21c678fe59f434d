// text.h: a text as characters, and batches of stretches of it. Not here: the model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace train {

// A text as indices into the list of its distinct bytes.
struct Text {
  std::vector<int> tokens;
  std::vector<unsigned char> letters;

  // Of the frequencies of single characters, nats: what a model that looks at nothing can reach.
  double UnigramEntropy() const;
};

// Empty where the file cannot be read.
Text ReadText(const std::string& path);

// Stretches of length + 1 characters: each predicts the next from those before it.
struct Batch {
  std::vector<int> inputs, targets;  // (batch, length)
};
// Starts are drawn from `state`, which moves on: the same state gives the same batches.
Batch Draw(const Text& text, int batch, int length, std::uint64_t* state);

// Uniform in [0, 1), the same on every machine: SplitMix64.
double Uniform(std::uint64_t* state);

}  // namespace train
