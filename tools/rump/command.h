// A subcommand of rump as data: `--help` and the reading of options come from this one description.
#ifndef TOOLS_RUMP_COMMAND_H_
#define TOOLS_RUMP_COMMAND_H_

#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace rump {

struct Option {
  absl::string_view name;      // with its dashes: "--server", "-v"
  absl::string_view argument;  // name of its argument in the help; empty for a switch
  absl::string_view help;
};

// What a command was given.
struct Invocation {
  absl::flat_hash_map<std::string, std::string> options;  // by Option::name; "" for a switch
  std::vector<std::string> arguments;                     // behind the options

  bool has(absl::string_view option) const { return options.contains(option); }
};

struct Command {
  absl::string_view name;
  absl::string_view synopsis;  // behind "rump <name>"
  absl::string_view summary;   // one line
  absl::string_view description;
  std::span<const Option> options;
  // Whether everything behind the name belongs to another program, "--help" included.
  bool passes_options_on = false;
  // The exit status of rump's own failures under this command.
  int failure_status = 1;
  // Returns the exit status of rump.
  absl::StatusOr<int> (*run)(const Invocation&) = nullptr;
};

// One per file of that name.
extern const Command kRunCommand;
extern const Command kCheckCommand;
extern const Command kServerCommand;
extern const Command kPsCommand;
extern const Command kStatsCommand;
extern const Command kTraceCommand;
extern const Command kHaltCommand;

// --server is the same in every command that has it.
inline constexpr Option kServerOption = {"--server", "URL",
                                         "the server; otherwise the variable RUMP_SERVER names it"};

// So is --json in every report.
inline constexpr Option kJsonOption = {"--json", "", "as JSON"};

// Sorts `words` into options and arguments: "--name VALUE" and "--name=VALUE" up to the first word
// that is no option, or up to "--". InvalidArgument with a sentence for what `command` does not
// know.
absl::StatusOr<Invocation> ParseInvocation(const Command& command,
                                           std::span<const std::string> words);

// The text of `rump help <command>`, ending in '\n'.
std::string FormatHelp(const Command& command);

}  // namespace rump

#endif  // TOOLS_RUMP_COMMAND_H_
