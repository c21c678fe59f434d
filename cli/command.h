// cli/command.h: what all commands share: exit codes, errors in one sentence, progress. Not here:
// any command.
#pragma once

#include <functional>
#include <string>

#include <CLI/CLI.hpp>

#include "heed/types.h"

namespace heed::cli {

/// What `heed` returns to the shell. Documented in every --help; scripts rely on the numbers.
enum Exit : int {
  kDone = 0,
  kFailed = 1,    ///< a check or a verification failed
  kUsage = 2,     ///< the command line is wrong
  kRefused = 3,   ///< the problem is invalid, or no backend (or not the one asked for) serves it
  kFile = 4,      ///< a file cannot be read, is malformed, or cannot be written
  kInternal = 5,  ///< memory ran out, or something else that should not happen
};

/// What the parsed command line asks for; returns an Exit.
using Action = std::function<int()>;

/// Each adds its command to the program. The action is set when that command is the one given.
void AddInfo(CLI::App& program, Action* action);
void AddExplain(CLI::App& program, Action* action);
void AddAttend(CLI::App& program, Action* action);
void AddCheck(CLI::App& program, Action* action);
void AddBench(CLI::App& program, Action* action);
void AddDemo(CLI::App& program, Action* action);

/// A command with its help: what it does, and examples below the options.
CLI::App* AddCommand(CLI::App& program, const std::string& name, const std::string& what,
                     const std::string& examples);

/// Prints "heed: <sentence>" on stderr, on one line whatever the sentence holds; returns `code`.
int Fail(Exit code, const std::string& sentence);
/// The exit code of a status from the library (its message is printed).
int FailProblem(const Status& status);
/// The same of a status from a reader or writer.
int FailFile(const Status& status);

/// A line about what long work is doing, on stderr and only if that is a terminal; gone at the end.
class Progress {
 public:
  Progress();
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void Show(const std::string& what);

 private:
  bool terminal_ = false;
  bool shown_ = false;
};

}  // namespace heed::cli
