#include "tools/rump/command.h"

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace rump {

absl::StatusOr<Invocation> ParseInvocation(const Command& command,
                                           std::span<const std::string> words) {
  Invocation invocation;
  size_t i = 0;
  for (; !command.passes_options_on && i < words.size(); ++i) {
    const absl::string_view word = words[i];
    if (word == "--") {
      ++i;
      break;
    }
    if (word.size() < 2 || word[0] != '-') break;
    const size_t equals = absl::StartsWith(word, "--") ? word.find('=') : absl::string_view::npos;
    const absl::string_view name = word.substr(0, equals);
    const auto option = std::ranges::find(command.options, name, &Option::name);
    if (option == command.options.end()) {
      return absl::InvalidArgumentError(absl::StrCat("unknown option ", name));
    }
    std::string value;
    if (option->argument.empty()) {
      if (equals != absl::string_view::npos) {
        return absl::InvalidArgumentError(absl::StrCat(name, " takes no value"));
      }
    } else if (equals != absl::string_view::npos) {
      value = std::string(word.substr(equals + 1));
    } else if (++i < words.size()) {
      value = words[i];
    } else {
      return absl::InvalidArgumentError(absl::StrCat(name, " needs a value: ", option->argument));
    }
    invocation.options[name] = std::move(value);
  }
  invocation.arguments.assign(words.begin() + static_cast<ptrdiff_t>(i), words.end());
  return invocation;
}

std::string FormatHelp(const Command& command) {
  std::string help = absl::StrCat("Usage: rump ", command.name);
  for (const Option& option : command.options) {
    absl::StrAppend(&help, " [", option.name, option.argument.empty() ? "" : " ", option.argument,
                    "]");
  }
  absl::StrAppend(&help, command.synopsis.empty() ? "" : " ", command.synopsis, "\n",
                  command.summary, "\n\n", command.description);
  if (!command.options.empty()) absl::StrAppend(&help, "\nOptions:\n");
  for (const Option& option : command.options) {
    absl::StrAppendFormat(&help, "  %-14s %s\n", absl::StrCat(option.name, " ", option.argument),
                          option.help);
  }
  return help;
}

}  // namespace rump
