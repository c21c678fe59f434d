// cli/command.cpp: errors and progress on stderr, the frame of a command's help.
#include "cli/command.h"

#include <unistd.h>

#include <cstdio>

namespace heed::cli {
namespace {

constexpr const char* kExitCodes =
    "Exit codes: 0 done, 1 a check failed, 2 wrong usage, 3 the problem is invalid or refused,\n"
    "            4 a file cannot be read or written, 5 out of memory.";

}  // namespace

CLI::App* AddCommand(CLI::App& program, const std::string& name, const std::string& what,
                     const std::string& examples) {
  CLI::App* command = program.add_subcommand(name, what);
  command->footer("Examples:\n" + examples + "\n\n" + kExitCodes);
  return command;
}

int Fail(Exit code, const std::string& sentence) {
  std::string line = sentence;
  for (char& c : line) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  std::fflush(stdout);  // so that the two streams read in order on a terminal
  std::fprintf(stderr, "heed: %s\n", line.c_str());
  return code;
}

int FailProblem(const Status& status) {
  const bool device = status.code() == StatusCode::kDevice;
  return Fail(device ? kInternal : Exit::kRefused, status.message());
}

int FailFile(const Status& status) { return Fail(kFile, status.message()); }

Progress::Progress() : terminal_(isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() {
  if (shown_) std::fprintf(stderr, "\r\033[K");
}

void Progress::Show(const std::string& what) {
  if (!terminal_) return;
  std::fprintf(stderr, "\r\033[K%s ...", what.c_str());
  std::fflush(stderr);
  shown_ = true;
}

}  // namespace heed::cli
