#include <stdio.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "tools/rump/command.h"
#include "tools/rump/installation.h"
#include "tools/rump/launch.h"
#include "tools/rump/private_server.h"
#include "tools/rump/process.h"
#include "tools/rump/program_inspection.h"
#include "tools/rump/supervise.h"

namespace rump {
namespace {

constexpr char kNoDirect[] = "--no-direct";  // of rump_server, too

int Report(int exit_status, const absl::Status& status) {
  fprintf(stderr, "rump run: %s\n", std::string(status.message()).c_str());
  return exit_status;
}

// Starts `path` under a server of its own; returns only if that fails.
int RunWithPrivateServer(const Invocation& invocation, const std::string& path,
                         const std::string& library) {
  const bool verbose = invocation.has("-v");
  const SignalHold hold;
  absl::StatusOr<std::string> program = FindServerProgram();
  if (!program.ok()) return Report(kLaunchFailure, program.status());
  std::vector<std::string> options;
  if (invocation.has(kNoDirect)) options.emplace_back(kNoDirect);
  absl::StatusOr<std::unique_ptr<PrivateServer>> server =
      PrivateServer::Start(*program, hold, options);
  if (!server.ok()) return Report(kLaunchFailure, server.status());
  int wait_status = hold.TakePendingEnd();
  if (wait_status == 0) {
    SetHijackEnvironment(library, (*server)->url());
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
  int exit_status = kLaunchFailure;
  absl::StatusOr<std::string> path = FindByPath(invocation.arguments[0], &exit_status);
  if (!path.ok()) return Report(exit_status, path.status());
  const auto hijackable = CheckHijackable(*path, {.uid = getuid(), .gid = getgid()});
  if (!hijackable.ok()) return Report(kCannotRun, hijackable.status());
  absl::StatusOr<std::string> library = FindPreloadableLibrary();
  if (!library.ok()) return library.status();
  absl::StatusOr<ServerUrl> server = NamedServer(invocation);
  if (!server.ok()) return server.status();
  if (server->url.empty()) return RunWithPrivateServer(invocation, *path, *library);
  if (invocation.has(kNoDirect)) {
    return absl::InvalidArgumentError(
        absl::StrCat(kNoDirect, " is for a private server; the one at ", server->url, " (from ",
                     server->origin, ") was started with or without it"));
  }
  SetHijackEnvironment(*library, server->url);
  if (invocation.has("-v")) {
    fprintf(stderr, "rump run: %s with %s on the server at %s\n", path->c_str(), library->c_str(),
            server->url.c_str());
  }
  return Report(kCannotRun, Exec(*path, invocation.arguments));
}

constexpr Option kOptions[] = {
    {"--server", "URL", "use this server (unix://PATH) instead of the one in RUMP_SERVER"},
    {kNoDirect, "", "send a private server's connections through its TCP/IP stack, all of them"},
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
  RUMPHIJACK          what is hijacked: socket=all:nolocal if not set, or socket= and the families
                      inet and inet6, each perhaps after "no", with a colon between them
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
    .failure_status = kLaunchFailure,
    .run = Run,
};

}  // namespace rump
