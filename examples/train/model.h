// model.h: one transformer block over characters, and SGD with momentum. Not here: its layers
// (layers.h), attention (attention.h).
#pragma once

#include <cstdint>
#include <vector>

#include "attention.h"
#include "layers.h"
#include "text.h"

namespace train {

struct Config {
  int letters = 0;  // of the text
  int batch = 8, length = 64;
  int heads = 4, kv_heads = 2, head_dim = 16;
  int hidden = 128;
  float rate = 0.1f, momentum = 0.9f;
  float longest = 1;  // gradients are cut to this length

  int width() const { return heads * head_dim; }
};

//   x = letter + position
//   x = x + attention(norm x) Wo        q, k, v = norm x times a matrix each
//   x = x + silu(norm x W1) W2
//   logits = norm x U
class Model {
 public:
  Model() = default;  // empty, to be assigned to
  Model(const Config& config, Attention attention, std::uint64_t seed);

  // One step of SGD; the loss before it, nats a character.
  heed::Result<double> Step(const Batch& batch);

 private:
  struct Activations;
  heed::Result<double> Forward(const Batch& batch, Activations* a);
  heed::Status Backward(const Batch& batch, const Activations& a);
  std::vector<Matrix*> Parameters();

  Config config_;
  Attention attention_;
  Matrix letters_, positions_;  // a row for each
  Matrix query_, key_, value_, out_, up_, down_, unembed_;
};

}  // namespace train
