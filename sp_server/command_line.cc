#include "sp_server/command_line.h"

#include <arpa/inet.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace rump {
namespace {

// More than this of anything is a slip of the finger.
constexpr size_t kMaxNumber = size_t{1} << 40;

// The command line while it is read, in the options' own words.
struct Draft : CommandLine {
  bool no_extensions = false;
  bool no_inline = false;
  size_t prefork_seconds =
      std::chrono::duration_cast<std::chrono::seconds>(server.prefork_lifetime).count();
};

// One of the accessors says what kind of option it is.
struct Option {
  absl::string_view name;
  absl::string_view argument = {};
  absl::string_view help = {};
  bool& (*flag)(Draft&) = nullptr;
  std::string& (*text)(Draft&) = nullptr;
  std::vector<std::string>& (*addresses)(Draft&) = nullptr;  // of IPv4 or IPv6, may be repeated
  size_t& (*number)(Draft&) = nullptr;  // at least 1; its default goes into the help
};

constexpr Option kOptions[] = {
    {.name = "-s",
     .help = "stay in the foreground",
     .flag = [](Draft& d) -> bool& { return d.foreground; }},
    {.name = "--allow-remote",
     .help = "accept a tcp address that is not loopback (nothing is authenticated)",
     .flag = [](Draft& d) -> bool& { return d.server.allow_remote; }},
    {.name = "--trace",
     .argument = "FILE",
     .help = "write a line per system call to FILE; - is standard error, with -s",
     .text = [](Draft& d) -> std::string& { return d.trace; }},
    {.name = "--nameserver",
     .argument = "ADDRESS",
     .help = "what hijacked programs find in /etc/resolv.conf; several are tried in turn",
     .addresses = [](Draft& d) -> std::vector<std::string>& { return d.nameservers; }},
    {.name = "--no-direct",
     .help = "send connections between hijacked programs through the TCP/IP stack, too",
     .flag = [](Draft& d) -> bool& { return d.no_direct; }},
    {.name = "--no-extensions",
     .help = "the plain protocol alone: no hijacked programs, no rump ps, halt or trace",
     .flag = [](Draft& d) -> bool& { return d.no_extensions; }},
    {.name = "--no-inline",
     .help = "calls carry no memory: the server asks for it (for comparison)",
     .flag = [](Draft& d) -> bool& { return d.no_inline; }},
    {.name = "--max-clients",
     .argument = "N",
     .help = "clients at once; one more is told to try again",
     .number = [](Draft& d) -> size_t& { return d.server.max_clients; }},
    {.name = "--max-calls",
     .argument = "N",
     .help = "calls in flight of one client",
     .number = [](Draft& d) -> size_t& { return d.server.limits.calls_in_flight; }},
    {.name = "--max-output",
     .argument = "BYTES",
     .help = "output that a client has not read; beyond that it is cut off",
     .number = [](Draft& d) -> size_t& { return d.server.limits.output_bytes; }},
    {.name = "--max-fds",
     .argument = "N",
     .help = "descriptors that a client sends with one frame; beyond that it is cut off",
     .number = [](Draft& d) -> size_t& { return d.server.limits.received_fds; }},
    {.name = "--max-processes",
     .argument = "N",
     .help = "processes; forked copies that wait to be claimed get half of them",
     .number = [](Draft& d) -> size_t& { return d.kernel.processes; }},
    {.name = "--max-objects",
     .argument = "N",
     .help = "sockets of hijacked programs; each is a descriptor of the server",
     .number = [](Draft& d) -> size_t& { return d.kernel.objects; }},
    {.name = "--max-process-objects",
     .argument = "N",
     .help = "those that one process made, or its listeners did",
     .number = [](Draft& d) -> size_t& { return d.kernel.process_objects; }},
    {.name = "--max-files",
     .argument = "N",
     .help = "entries in the descriptor tables of all processes of the kernel",
     .number = [](Draft& d) -> size_t& { return d.kernel.files; }},
    {.name = "--max-process-files",
     .argument = "N",
     .help = "those of one process",
     .number = [](Draft& d) -> size_t& { return d.kernel.process_files; }},
    {.name = "--max-memory",
     .argument = "BYTES",
     .help = "what calls, pipes, AF_UNIX sockets, poll and epoll hold for all processes",
     .number = [](Draft& d) -> size_t& { return d.kernel.memory_bytes; }},
    {.name = "--max-preforks",
     .argument = "N",
     .help = "forked copies of one process that wait to be claimed",
     .number = [](Draft& d) -> size_t& { return d.server.max_preforks; }},
    {.name = "--prefork-lifetime",
     .argument = "SECONDS",
     .help = "how long they wait",
     .number = [](Draft& d) -> size_t& { return d.prefork_seconds; }},
    {.name = "--help", .help = "this text", .flag = [](Draft& d) -> bool& { return d.help; }},
    {.name = "--version",
     .help = "the version",
     .flag = [](Draft& d) -> bool& { return d.version; }},
};

bool IsAddress(const std::string& text) {
  in6_addr address;
  return inet_pton(AF_INET, text.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, text.c_str(), &address) == 1;
}

absl::Status Apply(const Option& option, const std::string& value, Draft* draft) {
  if (option.text != nullptr) {
    if (value.empty()) return absl::InvalidArgumentError(absl::StrCat(option.name, " is empty"));
    option.text(*draft) = value;
    return absl::OkStatus();
  }
  if (option.addresses != nullptr) {
    if (!IsAddress(value)) {
      return absl::InvalidArgumentError(
          absl::StrCat(option.name, " takes an address of IPv4 or IPv6, not '", value, "'"));
    }
    option.addresses(*draft).push_back(value);
    return absl::OkStatus();
  }
  uint64_t number = 0;
  if (!absl::SimpleAtoi(value, &number) || number < 1 || number > kMaxNumber) {
    return absl::InvalidArgumentError(
        absl::StrCat(option.name, " takes a number from 1 on, not '", value, "'"));
  }
  option.number(*draft) = number;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(std::span<const char* const> words) {
  Draft draft;
  for (size_t i = 0; i < words.size(); ++i) {
    const absl::string_view word = words[i];
    if (!absl::StartsWith(word, "-")) {
      draft.urls.emplace_back(std::string(word));
      continue;
    }
    const size_t equals = word.find('=');
    const absl::string_view name = word.substr(0, equals);
    const auto* const option = std::ranges::find(kOptions, name, &Option::name);
    if (option == std::end(kOptions)) {
      return absl::InvalidArgumentError(absl::StrCat("unknown option ", name));
    }
    if (option->flag != nullptr) {
      if (equals != absl::string_view::npos) {
        return absl::InvalidArgumentError(absl::StrCat(name, " takes no value"));
      }
      option->flag(draft) = true;
      continue;
    }
    std::string value;
    if (equals != absl::string_view::npos) {
      value = std::string(word.substr(equals + 1));
    } else if (++i < words.size()) {
      value = words[i];
    } else {
      return absl::InvalidArgumentError(absl::StrCat(name, " needs a value: ", option->argument));
    }
    if (absl::Status status = Apply(*option, value, &draft); !status.ok()) return status;
  }
  draft.server.prefork_lifetime = std::chrono::seconds(draft.prefork_seconds);
  if (draft.no_inline) draft.server.extensions &= ~uint32_t{kExtensionInline};
  if (draft.no_extensions) draft.server.extensions = 0;
  if (draft.help || draft.version) return CommandLine(std::move(draft));
  if (draft.urls.empty()) return absl::InvalidArgumentError("no URL to serve at");
  if (draft.trace == "-" && !draft.foreground) {
    return absl::InvalidArgumentError("--trace - needs -s: in the background is no standard error");
  }
  return CommandLine(std::move(draft));
}

std::string CommandLineHelp() {
  std::string help =
      "Usage: rump_server [OPTION...] URL...\n"
      "\n"
      "Runs a kernel with its own processes and TCP/IP stack, and serves it at each URL:\n"
      "  unix://PATH          a unix socket; what librumphijack.so needs\n"
      "  tcp://ADDRESS:PORT/  for rumpclient programs\n"
      "\n"
      "Goes to the background once it accepts connections.\n";
  Draft defaults;
  for (const Option& option : kOptions) {
    const std::string left =
        absl::StrCat(option.name, option.argument.empty() ? "" : " ", option.argument);
    absl::StrAppendFormat(&help, "  %-26s  %s", left, option.help);
    if (option.number != nullptr) absl::StrAppend(&help, " (", option.number(defaults), ")");
    absl::StrAppend(&help, "\n");
  }
  absl::StrAppend(
      &help,
      "\n"
      "Exit status: 0 after a clean stop, 1 if it cannot start, 2 for bad arguments.\n");
  return help;
}

}  // namespace rump
