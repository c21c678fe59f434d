// cli/options.h: the vocabulary of Problem as command line options. Not here: tensors, rules (the
// library's).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "bench/patterns.h"
#include "heed/heed.h"

namespace heed::cli {

/// Options that describe a problem. What is given is laid over what a command starts with: its
/// defaults, or what a file says.
class ProblemOptions {
 public:
  /// Which part of the vocabulary a command takes.
  enum Part : unsigned {
    kSizes = 1,     ///< sizes, dtype, layout
    kVisible = 2,   ///< who sees whom: causal, align, window, ...
    kScore = 4,     ///< scale, softcap
    kArrays = 8,    ///< options that come with arrays: bias, mask, sinks, ragged batches, cache
    kResults = 16,  ///< forward or backward, and which results
    kDropout = 32,
    kAll = 63,
  };
  void AddTo(CLI::App& command, unsigned parts);

  /// `problem` with the options that were given. May throw what CLI11 reports as wrong usage, where
  /// options contradict each other.
  Problem Over(Problem problem);

  /// What masks, block maps and lengths hold; complete after Over.
  const bench::Patterns& patterns() const { return patterns_; }
  /// --op decode: a forward of few queries, for what it reads.
  bool decode() const { return decode_; }
  /// --op forward+backward: a backward, and the forward before it.
  bool with_forward() const { return with_forward_; }

 private:
  using Edit = std::function<void(Problem*)>;
  void AddSizes(CLI::App& command);
  void AddVisible(CLI::App& command);
  void AddScore(CLI::App& command);
  void AddArrays(CLI::App& command);
  void AddPatterns(CLI::App& command, const char* group);
  void AddCache(CLI::App& command, const char* group);
  void AddResults(CLI::App& command);
  void AddDropout(CLI::App& command);

  // One option each. `set` may throw what CLI11 reports as wrong usage.
  void Integer(CLI::App& command, const char* group, const char* name, const char* help,
               const std::function<void(Problem*, std::int64_t)>& set);
  void Real(CLI::App& command, const char* group, const char* name, const char* help,
            const std::function<void(Problem*, double)>& set);
  CLI::Option* Text(CLI::App& command, const char* group, const char* name, const char* type,
                    const char* help, const std::function<void(Problem*, const std::string&)>& set);
  void Flag(CLI::App& command, const char* group, const char* name, const char* help,
            const Edit& set);

  // Where all options are known (options_settle.cpp).
  void SettleSizes(Problem* p) const;
  void SettleLengths(Problem* p) const;
  void SettleBatch(Problem* p) const;
  void SettlePages(Problem* p);

  std::vector<Edit> edits_;
  bool sizes_ = false;    ///< the command takes sizes
  bool square_ = true;    ///< --sk was not given: it is --sq
  bool queries_ = false;  ///< --sq was given
  bool batch_ = false;    ///< --batch was given
  bool align_ = false;    ///< --align was given
  bool decode_ = false;
  bool with_forward_ = false;
  bool key_lengths_ = false;       ///< lengths are those of --key-lengths, not of --lengths
  std::int64_t page_size_ = 0;     ///< 0: --page-size was not given
  std::int64_t kv_megabytes_ = 0;  ///< 0: --kv-total-mb was not given
  std::string layout_ = "bshd";
  bench::Patterns patterns_;
};

/// --backend, --isa, --arch, --threads.
void AddPlanOptions(CLI::App& command, PlanOptions* options);

/// The problem as JSON: sizes, and whatever is not at its default.
nlohmann::ordered_json ToJson(const Problem& problem);

}  // namespace heed::cli
