// rump: runs programs on a rump_server, and asks and controls servers.
#include <stdio.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "protocol/banner.h"
#include "tools/rump/command.h"

namespace rump {
namespace {

constexpr absl::string_view kVersion = "0.1";
constexpr int kUsageFailure = 125;

constexpr const Command* kCommands[] = {&kRunCommand, &kCheckCommand, &kServerCommand,
                                        &kPsCommand,  &kStatsCommand, &kTraceCommand,
                                        &kHaltCommand};

const Command* FindCommand(absl::string_view name) {
  const auto* const found = std::ranges::find(kCommands, name, &Command::name);
  return found == std::end(kCommands) ? nullptr : *found;
}

std::string Overview() {
  std::string text =
      "Usage: rump COMMAND [ARGUMENT...]\n"
      "Unmodified programs with their sockets on a kernel in another process.\n\n"
      "Commands:\n";
  for (const Command* command : kCommands) {
    absl::StrAppendFormat(&text, "  %-8s %s\n", command->name, command->summary);
  }
  absl::StrAppend(&text, "\n'rump help COMMAND' or 'rump COMMAND --help' says more.\n",
                  "'rump --version' prints the version.\n");
  return text;
}

int Print(absl::string_view text) {
  return fwrite(text.data(), 1, text.size(), stdout) == text.size() ? 0 : 1;
}

int UsageFailure(absl::string_view what) {
  fprintf(stderr, "rump: %s; see 'rump help'\n", std::string(what).c_str());
  return kUsageFailure;
}

int RunCommand(const Command& command, std::span<const std::string> words) {
  if (!command.passes_options_on && !words.empty() && (words[0] == "--help" || words[0] == "-h")) {
    return Print(FormatHelp(command));
  }
  absl::StatusOr<Invocation> invocation = ParseInvocation(command, words);
  absl::StatusOr<int> result = invocation.ok() ? command.run(*invocation) : invocation.status();
  if (result.ok()) return *result;
  fprintf(stderr, "rump %s: %s\n", std::string(command.name).c_str(),
          std::string(result.status().message()).c_str());
  if (absl::IsInvalidArgument(result.status())) {
    fprintf(stderr, "See 'rump help %s'.\n", std::string(command.name).c_str());
  }
  return command.failure_status;
}

int Main(std::span<const std::string> words) {
  if (words.empty()) {
    fputs(Overview().c_str(), stderr);
    return kUsageFailure;
  }
  const std::string& word = words[0];
  if (word == "--version") {
    return Print(
        absl::StrFormat("rump %s (RUMPSP %d.%d)\n", kVersion, kProtocolMajor, kProtocolMinor));
  }
  if (word == "help" || word == "--help" || word == "-h") {
    if (words.size() == 1) return Print(Overview());
    const Command* command = FindCommand(words[1]);
    if (command == nullptr) return UsageFailure(absl::StrCat("unknown command '", words[1], "'"));
    return Print(FormatHelp(*command));
  }
  const Command* command = FindCommand(word);
  if (command == nullptr) return UsageFailure(absl::StrCat("unknown command '", word, "'"));
  return RunCommand(*command, words.subspan(1));
}

}  // namespace
}  // namespace rump

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  return rump::Main(words);
}
