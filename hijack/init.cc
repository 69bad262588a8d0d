// What the library does when it is loaded, and all that it takes from the environment.
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <new>
#include <string_view>

#include "hijack/calls.h"
#include "hijack/config.h"
#include "hijack/diagnostic.h"
#include "hijack/exec_environment.h"
#include "hijack/process_page.h"
#include "hijack/real.h"
#include "hijack/retry_policy.h"
#include "hijack/rewriting.h"
#include "hijack/session.h"
#include "protocol/text.h"
#include "protocol/url.h"
#include "rumpclient/core/raw_syscall.h"

namespace rump::hijack {
namespace {

using client::RawSyscall;

// getenv(3) is not asked: programs define their own.
std::string_view Environment(char** environment, std::string_view name) {
  for (char** entry = environment; entry != nullptr && *entry != nullptr; ++entry) {
    std::string_view text(*entry);
    if (Skip(&text, name) && Skip(&text, "=")) return text;
  }
  return {};
}

// Takes an entry out of the environment, and returns its value, empty if it is not there.
std::string_view TakeOut(char** environment, std::string_view name_and_equals) {
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    std::string_view text(*environment);
    if (!Skip(&text, name_and_equals)) continue;
    for (; *environment != nullptr; ++environment) environment[0] = environment[1];
    return text;
  }
  return {};
}

[[noreturn]] void Exit(int status) {
  for (;;) RawSyscall(SYS_exit_group, status);
}

const ServerAddress* ReadServerAddress(std::string_view url) {
  alignas(ServerAddress) static char storage[sizeof(ServerAddress)];
  auto& server = *new (storage) ServerAddress;
  if (url.empty()) return &server;
  // Programs change their environment and overwrite its memory.
  static char copy[PATH_MAX];
  if (url.size() > sizeof copy) url = {url.data(), sizeof copy};
  memcpy(copy, url.data(), url.size());
  server.url = {copy, url.size()};
  // A path keeps its meaning when the program changes its directory.
  char directory[PATH_MAX];
  const long length = RawSyscall(SYS_getcwd, directory, sizeof directory);
  const std::string_view cwd(directory, length > 0 ? static_cast<size_t>(length - 1) : 0);
  server.url_error = ParseUrl(server.url, cwd, &server.endpoint);
  return &server;
}

std::string_view CommandName(char** argv) {
  static char copy[kMaxCommandName];
  if (argv == nullptr || argv[0] == nullptr) return "unknown";
  std::string_view name(argv[0]);
  for (size_t i = name.size(); i > 0; --i) {
    if (name[i - 1] == '/') {
      name = {name.data() + i, name.size() - i};
      break;
    }
  }
  const size_t length = name.size() < sizeof copy ? name.size() : sizeof copy - 1;
  memcpy(copy, name.data(), length);
  return {copy, length};
}

RetryPolicy ReadRetryPolicy(char** environment) {
  const std::string_view value = Environment(environment, "RUMPHIJACK_RETRYCONNECT");
  RetryPolicy policy;
  if (!ParseRetryPolicy(value, &policy)) {
    Complain({"RUMPHIJACK_RETRYCONNECT: unknown value \"", value,
              "\" (wanted: die, inftime, once or a number of seconds)"});
    Exit(1);
  }
  return policy;
}

// What has to be known before the program changes its environment.
void PrepareExec(char** environment, const ServerAddress& server) {
  const std::string_view follow = Environment(environment, "RUMPHIJACK_FOLLOW");
  if (!follow.empty() && follow != "yes" && follow != "no") {
    Complain({"RUMPHIJACK_FOLLOW: unknown value \"", follow, "\" (wanted: yes or no)"});
    Exit(1);
  }
  char url[128];
  size_t length = 0;
  if (!server.url.empty() && server.url_error == UrlError::kNone) {
    length = FormatUrl(server.endpoint, url, sizeof url);
  }
  if (ConfigureExec(environment, {url, length}, follow == "yes")) return;
  Complain({"RUMPHIJACK_FOLLOW: LD_PRELOAD and the variables of rump are too long to be kept"});
  Exit(1);
}

enum class Entry { kAuto, kRewrite, kSymbols };

bool ParseEntry(std::string_view text, Entry* entry) {
  if (text.empty() || text == "auto") {
    *entry = Entry::kAuto;
  } else if (text == "rewrite") {
    *entry = Entry::kRewrite;
  } else if (text == "symbols") {
    *entry = Entry::kSymbols;
  } else {
    return false;
  }
  return true;
}

void EnterByRewriting(Entry entry, bool verbose) {
  const Rewriting rewriting = RewriteLibc();
  if (rewriting.failure == nullptr) {
    libc_leads_back = rewriting.complete;
    if (verbose) {
      Complain({"libc is rewritten, by ",
                rewriting.from_table ? "the table for it" : "what a scan has found in it"});
    }
  } else if (entry == Entry::kRewrite) {
    Complain({"RUMPHIJACK_ENTRY=rewrite: libc cannot be rewritten: ", rewriting.failure,
              "; use auto or symbols"});
    Exit(1);
  } else if (verbose) {
    Complain({"libc is not rewritten: ", rewriting.failure,
              "; only calls to its functions are hijacked, not calls that it makes by itself"});
  }
}

[[gnu::constructor]] void Initialise(int, char** argv, char** environment) {
  ResolveRealFunctions();
  const std::string_view command = CommandName(argv);
  SetProgramName(command);
  HijackConfig config;
  char error[256];
  if (!ParseHijackConfig(Environment(environment, "RUMPHIJACK"), &config, error, sizeof error)) {
    Complain({error});
    Exit(1);
  }
  if (const std::string_view key = UnsupportedKey(config); !key.empty()) {
    Complain(
        {"RUMPHIJACK: ", key, "= is not supported yet: only sockets are hijacked; leave it out"});
    Exit(1);
  }
  if (HijacksDomain(config, AF_UNIX)) {
    Complain(
        {"RUMPHIJACK: AF_UNIX sockets cannot be hijacked: write socket=all:nolocal, or name "
         "inet and inet6 alone"});
    Exit(1);
  }
  const std::string_view entry_name = Environment(environment, "RUMPHIJACK_ENTRY");
  Entry entry;
  if (!ParseEntry(entry_name, &entry)) {
    Complain({"RUMPHIJACK_ENTRY: unknown value \"", entry_name,
              "\" (wanted: auto, rewrite or symbols)"});
    Exit(1);
  }
  if (!MapProcessPage()) {
    Complain({"no memory at the start of the program"});
    Exit(1);
  }
  const ServerAddress* const server = ReadServerAddress(Environment(environment, "RUMP_SERVER"));
  session.Configure(server, command, ReadRetryPolicy(environment));
  PrepareExec(environment, *server);
  ConfigureSockets(config);
  session.Adopt(TakeOut(environment, kInheritedVariable));
  const bool verbose = !Environment(environment, "RUMPHIJACK_VERBOSE").empty();
  if (entry != Entry::kSymbols) {
    EnterByRewriting(entry, verbose);
  } else if (verbose) {
    Complain({"libc is not rewritten: RUMPHIJACK_ENTRY=symbols"});
  }
}

}  // namespace
}  // namespace rump::hijack
