// main.cpp: trains a small transformer on a text, attention and its gradients by heed. Usage:
//   heed_example_train [--text FILE] [--steps N] [--backend NAME] [--beside NAME]
// --beside trains the same model on another backend, too, and compares the two curves.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

#include "model.h"
#include "text.h"

#ifndef HEED_TRAIN_TEXT
#define HEED_TRAIN_TEXT "LICENSE"
#endif

namespace {

struct Options {
  std::string text = HEED_TRAIN_TEXT, backend = "auto", beside;
  int steps = 400;
  bool whole = true;  // no --steps: the loss has to fall as far as it should
};

std::optional<Options> Parse(int argc, char** argv) {
  Options o;
  for (int n = 1; n < argc; n += 2) {
    const std::string name = argv[n];
    if (n + 1 == argc) return std::nullopt;
    if (name == "--text") o.text = argv[n + 1];
    else if (name == "--backend") o.backend = argv[n + 1];
    else if (name == "--beside") o.beside = argv[n + 1];
    else if (name == "--steps" && (o.steps = std::atoi(argv[n + 1])) > 0) o.whole = false;
    else return std::nullopt;
  }
  return o;
}

int Fail(const std::string& sentence) {
  std::fprintf(stderr, "%s\n", sentence.c_str());
  return 1;
}

// How far the losses of two backends may be apart before step t (from 0).
//
// Only attention differs, by what rounding to f32 does to its results and gradients: sums over up to
// 128 rows of a key and 16 columns, so at most (128 + 16 + 10) 2^-24 = 9e-6 of them, taken as 1e-5.
// Steps are cut to a length of 1, so each moves the two sets of parameters apart by at most that times
// rate / (1 - momentum) = 1; where steps descend, what lies apart already does not grow; and the loss
// changes by at most its slope, which is about 1 where steps are cut, times that distance.
double Apart(int t) { return 1e-5 * (1 + t); }

heed::Result<train::Model> Make(const train::Config& c, const std::string& backend, bool say) {
  // One thread: the calls are small, and results do not depend on it.
  heed::Result<train::Attention> attention = train::Attention::Make(
      {c.batch, c.length, c.heads, c.kv_heads, c.head_dim}, {.backend = backend, .threads = 1});
  if (!attention) return attention.status();
  if (say) std::printf("%s", attention->backward().Describe().c_str());
  return train::Model(c, std::move(*attention), /*seed=*/1);
}

}  // namespace

int main(int argc, char** argv) {
  const std::optional<Options> o = Parse(argc, argv);
  if (!o) return Fail("usage: heed_example_train [--text FILE] [--steps N] [--backend NAME] [--beside NAME]");
  const train::Text text = train::ReadText(o->text);
  train::Config config;
  config.letters = static_cast<int>(text.letters.size());
  if (text.tokens.size() < 1000) return Fail(o->text + ": no text of 1000 characters or more");

  heed::Result<train::Model> model = Make(config, o->backend, true);
  if (!model) return Fail(model.status().message());
  std::optional<train::Model> other;
  if (!o->beside.empty()) {
    heed::Result<train::Model> made = Make(config, o->beside, false);
    if (!made) return Fail(made.status().message());
    other = std::move(*made);
  }
  const double entropy = text.UnigramEntropy();
  std::printf("text      %zu characters, %d different; their entropy is %.4f nats\n", text.tokens.size(),
              config.letters, entropy);

  const auto start = std::chrono::steady_clock::now();
  std::uint64_t state = 7;
  double sum = 0, worst = 0, share = 0, last = 0;
  int in_sum = 0;
  for (int t = 0; t < o->steps; ++t) {
    const train::Batch batch = train::Draw(text, config.batch, config.length, &state);
    const heed::Result<double> loss = model->Step(batch);
    if (!loss) return Fail(loss.status().message());
    if (other) {
      const heed::Result<double> same = other->Step(batch);
      if (!same) return Fail(same.status().message());
      // Written so that NaN fails.
      if (!(std::fabs(*loss - *same) <= Apart(t))) {
        return Fail("step " + std::to_string(t) + ": the losses are " + std::to_string(*loss) + " and " +
                    std::to_string(*same) + ", further apart than " + std::to_string(Apart(t)));
      }
      worst = std::max(worst, std::fabs(*loss - *same));
      share = std::max(share, std::fabs(*loss - *same) / Apart(t));
    }
    sum += *loss;
    ++in_sum;
    if ((t + 1) % 20 == 0 || t + 1 == o->steps) {
      last = sum / in_sum;
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      std::printf("step %4d of %d   loss %.4f nats a character   %5.1f s\n", t + 1, o->steps, last, seconds.count());
      std::fflush(stdout);
      sum = in_sum = 0;
    }
  }
  if (other) {
    std::printf("beside    %s: losses at most %.1e apart, %.4f of what rounding may do by then\n",
                o->beside.c_str(), worst, share);
  }
  if (!o->whole) return 0;
  if (!(last < entropy)) return Fail("the loss did not fall below the entropy of single characters");
  std::printf("the loss is %.4f below the entropy of single characters: the model looks back\n", entropy - last);
  return 0;
}
