// cli/demo_words.cpp: which word attends to which, in bars. Not here: attention.
#include <algorithm>
#include <numeric>
#include <set>
#include <string>

#include "cli/demo.h"
#include "cli/words.h"

namespace heed::cli::demo {
namespace {

/// A row of a head worth looking at; shown only if the passage has that word there.
struct Look {
  int head;
  std::int64_t row;
  const char* word;
};

struct Chapter {
  const char* title;
  std::vector<Look> looks;
};

// Chosen by looking at this passage (data/README.md): they illustrate it and prove nothing.
const std::vector<Chapter>& Chapters() {
  static const std::vector<Chapter> chapters = {
      {"head 3: a pronoun finds its name", {{3, 11, "her"}, {3, 70, "she"}, {3, 89, "her"}}},
      {"head 11: a compound finds its first part", {{11, 105, "chain"}}},
      {"heads 6 and 7: the two ends of a phrase, 6 looks back and 7 ahead",
       {{6, 13, "on"}, {7, 13, "on"}, {6, 244, "mind"}, {7, 241, "flashed"}}},
  };
  return chapters;
}

class Viewer {
 public:
  Viewer(const Passage& passage, const std::vector<float>& probs)
      : tokens_(passage.tokens), probs_(probs), n_(static_cast<std::int64_t>(tokens_.size())) {}

  double P(int head, std::int64_t i, std::int64_t j) const {
    return std::fabs(probs_[static_cast<std::size_t>((head * n_ + i) * n_ + j)]);
  }

  std::int64_t Strongest(int head, std::int64_t i) const {
    std::int64_t best = 0;
    for (std::int64_t j = 1; j < n_; ++j) {
      if (P(head, i, j) > P(head, i, best)) best = j;
    }
    return best;
  }

  bool Has(const Look& look) const {
    return look.row < n_ && tokens_[static_cast<std::size_t>(look.row)] == look.word;
  }

  std::string Word(std::int64_t i) const {
    return fmt::format("{}@{}", tokens_[static_cast<std::size_t>(i)], i);
  }

  void Show(const Look& look, const Screen& screen) const {
    std::vector<std::int64_t> keys(static_cast<std::size_t>(n_));
    std::iota(keys.begin(), keys.end(), 0);
    const auto shown = std::min<std::ptrdiff_t>(3, n_);
    std::partial_sort(keys.begin(), keys.begin() + shown, keys.end(), [&](auto a, auto b) {
      return P(look.head, look.row, a) > P(look.head, look.row, b);
    });
    for (std::ptrdiff_t rank = 0; rank < shown; ++rank) {
      const std::int64_t j = keys[static_cast<std::size_t>(rank)];
      const double p = P(look.head, look.row, j);
      screen.Print("    {} {} {} {}\n", Column(rank == 0 ? Word(look.row) + " looks at" : "", 22),
                   Column(Word(j), 16), Bar(p, 30), Percent(p));
    }
  }

  // Mean weight on the key `step` after the query.
  double Neighbour(int head, std::int64_t step) const {
    double sum = 0;
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < n_; ++i) {
      if (i + step < 0 || i + step >= n_) continue;
      sum += P(head, i, i + step);
      ++count;
    }
    return count == 0 ? 0 : sum / static_cast<double>(count);
  }

  void ShowPronouns(const Screen& screen) const {
    static const std::set<std::string> kPronouns = {"she", "her"};
    int all = 0, named = 0;
    for (std::int64_t i = 0; i < n_; ++i) {
      if (kPronouns.count(tokens_[static_cast<std::size_t>(i)]) == 0) continue;
      ++all;
      named += tokens_[static_cast<std::size_t>(Strongest(3, i))] == "alice";
    }
    if (all > 0) {
      screen.Print("    of the {} words `she` and `her`, {} look most at an `alice`\n", all, named);
    }
  }

 private:
  const std::vector<std::string>& tokens_;
  const std::vector<float>& probs_;
  std::int64_t n_;
};

}  // namespace

Status ShowWords(const TextFile& text, const Screen& screen) {
  const Passage& passage = text.passages.front();
  if (text.heads < 12) return {};  // another capture: nothing here was chosen for it
  const Result<std::vector<float>> probs =
      Probabilities(text.ProblemOf(passage), text.InputsOf(passage));
  if (!probs) return probs.status();
  const Viewer viewer(passage, *probs);
  screen.Print("\n  Who looks at whom (position after the @, weight of the probability):\n");
  for (const Chapter& chapter : Chapters()) {
    if (!std::all_of(chapter.looks.begin(), chapter.looks.end(),
                     [&](const Look& look) { return viewer.Has(look); })) {
      continue;
    }
    screen.Print("\n  {}\n", chapter.title);
    for (const Look& look : chapter.looks) viewer.Show(look, screen);
    if (chapter.looks.front().head == 3) viewer.ShowPronouns(screen);
  }
  screen.Print("\n  heads 8 and 9: the next word and the one before, on average\n");
  for (const auto& [head, step, name] : {std::tuple{8, 1, "next"}, {9, -1, "previous"}}) {
    const double mean = viewer.Neighbour(head, step);
    screen.Print("    {} {} {} {}\n", Column(fmt::format("head {}", head), 22), Column(name, 16),
                 Bar(mean, 30), Percent(mean));
  }
  return {};
}

}  // namespace heed::cli::demo
