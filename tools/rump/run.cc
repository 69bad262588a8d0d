#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tools/rump/command.h"
#include "tools/rump/installation.h"
#include "tools/rump/private_server.h"
#include "tools/rump/process.h"
#include "tools/rump/program_inspection.h"
#include "tools/rump/server_url.h"
#include "tools/rump/supervise.h"

namespace rump {
namespace {

// Exit statuses as env(1) and the shells have them.
constexpr int kOwnFailure = 125;
constexpr int kCannotRun = 126;
constexpr int kNotFound = 127;

constexpr char kPreloadVariable[] = "LD_PRELOAD";
constexpr char kDefaultPath[] = "/usr/local/bin:/usr/bin:/bin";

int Report(int exit_status, const absl::Status& status) {
  fprintf(stderr, "rump run: %s\n", std::string(status.message()).c_str());
  return exit_status;
}

// The server that was named, or nothing of it (an empty URL) if none was. A program that cannot
// reach its server fails at its first socket, far from the cause: hence the look at it.
absl::StatusOr<ServerUrl> NamedServer(const Invocation& invocation) {
  absl::StatusOr<ServerUrl> server = ChooseServer(invocation);
  if (absl::IsNotFound(server.status())) return ServerUrl();
  if (!server.ok()) return server;
  if (!server->endpoint.is_unix()) {
    return absl::InvalidArgumentError(
        absl::StrCat(server->origin, " '", server->url,
                     "': descriptors cannot be passed over TCP, which a hijacked program needs; "
                     "use a unix:// URL of a server on this machine"));
  }
  if (absl::Status reached = TryConnect(server->endpoint); !reached.ok()) {
    return absl::UnavailableError(absl::StrCat(
        "no server answers at ", server->url, " (from ", server->origin, "): ", reached.message(),
        "; start one there with 'rump server', name another, or name none to get a private one"));
  }
  return server;
}

void SetEnvironment(const std::string& library, const std::string& url) {
  const char* before = getenv(kPreloadVariable);
  const bool keep = before != nullptr && *before != '\0';
  setenv(kPreloadVariable, (keep ? absl::StrCat(library, ":", before) : library).c_str(), 1);
  setenv(kServerVariable, url.c_str(), 1);
}

// Starts `path` under a server of its own; returns only if that fails.
int RunWithPrivateServer(const Invocation& invocation, const std::string& path,
                         const std::string& library) {
  const bool verbose = invocation.has("-v");
  const SignalHold hold;
  absl::StatusOr<std::string> program = FindServerProgram();
  if (!program.ok()) return Report(kOwnFailure, program.status());
  absl::StatusOr<std::unique_ptr<PrivateServer>> server = PrivateServer::Start(*program, hold);
  if (!server.ok()) return Report(kOwnFailure, server.status());
  int wait_status = hold.TakePendingEnd();
  if (wait_status == 0) {
    SetEnvironment(library, (*server)->url());
    if (verbose) {
      fprintf(stderr, "rump run: %s with %s on a private server at %s\n", path.c_str(),
              library.c_str(), (*server)->url().c_str());
    }
    absl::StatusOr<Child> child =
        Child::Start(path, invocation.arguments, [&hold] { hold.RestoreInChild(); });
    if (!child.ok()) return Report(kCannotRun, child.status());
    wait_status = Supervise(hold, &*child);
  }
  server->reset();
  EndLike(wait_status);
}

absl::StatusOr<int> Run(const Invocation& invocation) {
  if (invocation.arguments.empty()) return absl::InvalidArgumentError("no program is named");
  const char* path_list = getenv("PATH");
  absl::StatusOr<std::string> path =
      FindProgram(invocation.arguments[0], path_list != nullptr ? path_list : kDefaultPath);
  if (!path.ok()) {
    return Report(absl::IsNotFound(path.status()) ? kNotFound : kCannotRun, path.status());
  }
  const absl::Status hijackable = CheckHijackable(*path, {.uid = getuid(), .gid = getgid()});
  if (!hijackable.ok()) return Report(kCannotRun, hijackable);
  absl::StatusOr<std::string> library = FindHijackLibrary();
  if (!library.ok()) return library.status();
  // The loader splits LD_PRELOAD at blanks and colons, and knows no way to quote them.
  if (library->find_first_of(" :") != std::string::npos) {
    return absl::FailedPreconditionError(
        absl::StrCat(*library, " cannot be preloaded: its path has a blank or a colon"));
  }
  absl::StatusOr<ServerUrl> server = NamedServer(invocation);
  if (!server.ok()) return server.status();
  if (server->url.empty()) return RunWithPrivateServer(invocation, *path, *library);
  SetEnvironment(*library, server->url);
  if (invocation.has("-v")) {
    fprintf(stderr, "rump run: %s with %s on the server at %s\n", path->c_str(), library->c_str(),
            server->url.c_str());
  }
  return Report(kCannotRun, Exec(*path, invocation.arguments));
}

constexpr Option kOptions[] = {
    {"--server", "URL", "use this server (unix://PATH) instead of the one in RUMP_SERVER"},
    {"-v", "", "say which program, library and server are used"},
};

}  // namespace

const Command kRunCommand = {
    .name = "run",
    .synopsis = "[--] PROGRAM [ARGUMENT...]",
    .summary = "Runs a program whose sockets live in a rump_server.",
    .description =
        R"(The program is not changed: librumphijack.so is preloaded into it and into the programs
that it starts. Without --server and RUMP_SERVER it gets a private server, which ends with it.
Statically linked, setuid and 32-bit programs cannot be hijacked; rump says so and runs nothing.

Exit status: the program's own; 127 if it is not found, 126 if it cannot be executed or hijacked,
125 if rump itself fails. If a signal ends the program, it ends rump too.

Variables:
  RUMP_SERVER         URL of the server
  RUMPHIJACK          what is hijacked: socket=all, or socket= and families (inet, inet6, local),
                      each perhaps after "no", between colons; socket=all:nolocal if not set
  RUMPHIJACK_ENTRY    how: rewrite (libc, in memory), symbols, or auto: rewrite where that is
                      possible; auto if not set
  RUMPHIJACK_RETRYCONNECT
                      what new sockets do when the server is lost: 0 (the default): they fail;
                      once, inftime or a number of seconds: try to connect again; die: the
                      program ends
  RUMPHIJACK_FOLLOW   yes: programs that get an environment without these variables get them, too;
                      no if not set
  RUMPHIJACK_VERBOSE  if not empty, programs say on stderr how they are hijacked
)",
    .options = kOptions,
    .failure_status = kOwnFailure,
    .run = Run,
};

}  // namespace rump
