// cli/demo.h: the parts of `heed demo` and what they hand to each other. Not here: the parts.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cli/json.h"
#include "heed/heed.h"
#include "io/tensor.h"
#include "verify/compare.h"
#include "verify/plain.h"

namespace heed::cli::demo {

/// Text for people; silent where JSON is asked for.
struct Screen {
  bool on = true;
  template <class... Args>
  void Print(fmt::format_string<Args...> text, Args&&... args) const {
    if (!on) return;
    fmt::print(text, std::forward<Args>(args)...);
    std::fflush(stdout);
  }
};

/// What has been verified so far.
struct Tally {
  int passed = 0, failed = 0;
  bool Add(bool good) {
    ++(good ? passed : failed);
    return good;
  }
};

// ---------------------------------------------------------------------------------- inputs

/// One text that a model read on its own: rows [first, first + tokens) of the file's tensors.
struct Passage {
  std::string text, source;
  std::vector<std::string> tokens;
  std::int64_t first = 0;
};

/// q, k, v of one layer of a real model, and the attention that the model itself computed.
struct TextFile {
  io::TensorFile file;
  std::string model, layer;
  std::vector<Passage> passages;

  Problem ProblemOf(const Passage& passage) const;  ///< dense, one entry, lse wanted
  Buffers InputsOf(const Passage& passage) const;
  const float* ModelOut(const Passage& passage) const;

  std::int64_t heads = 0, dim = 0;
  double scale = 0;
};

/// Reads a file in the layout that data/README.md describes.
Result<TextFile> ReadText(const std::string& path);

// ---------------------------------------------------------------------------------- calls

/// o (and lse where wanted) of the reference backend in float64, from the inputs as they are.
Result<verify::Results> Reference(const Problem& problem, const Buffers& inputs);

/// P (Hq, Sq, Sk) of the reference backend in f32; batch 1.
Result<std::vector<float>> Probabilities(const Problem& problem, const Buffers& inputs);

/// The engine's answer to one dense problem, compared with the reference element by element.
struct Answer {
  PlanInfo info;
  double seconds = 0;  ///< median of a few runs
  io::AlignedBytes o, lse;
  verify::Comparison out_against_reference, lse_against_reference;
};
Result<Answer> Ask(const Problem& problem, const Buffers& inputs, const PlanOptions& options);

/// How far `o` is from the model's own f32 output, which may be off by the same derived bound.
verify::Comparison AgainstModel(const Problem& problem, const Buffers& inputs, const float* model);

// ---------------------------------------------------------------------------------- parts

/// Which word attends to which, for heads of `text` (data/minilm.safetensors) worth looking at.
Status ShowWords(const TextFile& text, const Screen& screen);

/// A long sequence beside standard attention: time, memory, error of sampled rows against float64.
Status ShowLong(std::int64_t tokens, const PlanOptions& options, const Screen& screen, Tally* tally,
                Json* json);

}  // namespace heed::cli::demo
