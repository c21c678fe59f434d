// cli/main.cpp: the program `heed`: parses, runs one command, turns every failure into a sentence
// and an exit code.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <string>

#include "cli/command.h"
#include "heed/heed.h"

namespace heed::cli {
namespace {

constexpr const char* kProgramExamples =
    "  heed demo                                        attention of a real model on real text\n"
    "  heed info                                        what this machine and this build can do\n"
    "  heed explain --sq 8192 --heads 32 --kv-heads 8 --d 128 --dtype bf16 --causal\n"
    "  heed attend in.safetensors out.safetensors --causal\n"
    "  heed bench --sq 2048 --d 64 --standard\n"
    "  heed check tests/data/conformance --backend reference";

// CLI11 puts one problem on several lines and adds advice; one sentence is enough.
int FailUsage(const CLI::App& program, const CLI::ParseError& error) {
  std::string command = "heed";
  for (const CLI::App* chosen : program.get_subcommands()) command += " " + chosen->get_name();
  std::string sentence = error.what();
  while (!sentence.empty() && (sentence.back() == '\n' || sentence.back() == '.')) {
    sentence.pop_back();
  }
  return Fail(kUsage, sentence + "; `" + command + " --help` shows what is accepted");
}

int Main(int argc, char** argv) {
  CLI::App program("heed: exact attention in linear memory", "heed");
  program.set_version_flag("--version", std::string("heed ") + Version());
  program.require_subcommand(1);
  program.get_formatter()->column_width(34);
  program.footer(std::string("Examples:\n") + kProgramExamples +
                 "\n\n`heed COMMAND --help` has the options and examples of a command.\n"
                 "Exit codes: 0 done, 1 a check failed, 2 wrong usage, 3 the problem is invalid or "
                 "refused,\n            4 a file cannot be read or written, 5 out of memory.\n"
                 "HEED_ISA in the environment forces the instruction set where --isa does not.");
  Action action;
  AddInfo(program, &action);
  AddExplain(program, &action);
  AddAttend(program, &action);
  AddCheck(program, &action);
  AddBench(program, &action);
  AddDemo(program, &action);

  try {
    program.parse(argc, argv);
    return action();
  } catch (const CLI::Success& success) {  // --help, --version
    return program.exit(success);
  } catch (const CLI::ParseError& error) {
    return FailUsage(program, error);
  }
}

}  // namespace
}  // namespace heed::cli

int main(int argc, char** argv) {
  // `heed ... | head` ends as any filter does, even where a parent left the signal ignored.
  std::signal(SIGPIPE, SIG_DFL);
  int code = heed::cli::kInternal;
  try {
    code = heed::cli::Main(argc, argv);
  } catch (const std::bad_alloc&) {
    return heed::cli::Fail(heed::cli::kInternal, "memory ran out");
  } catch (const std::exception& error) {
    return heed::cli::Fail(heed::cli::kInternal, error.what());
  }
  errno = 0;
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    return heed::cli::Fail(heed::cli::kFile,
                           std::string("standard output: ") + std::strerror(errno));
  }
  return code;
}
