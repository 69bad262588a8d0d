#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tools/rump/audit.h"
#include "tools/rump/command.h"
#include "tools/rump/launch.h"
#include "tools/rump/libc_inspection.h"
#include "tools/rump/program_inspection.h"

namespace rump {
namespace {

int Refuse(int exit_status, const absl::Status& status) {
  fprintf(stderr, "rump check: %s\n", std::string(status.message()).c_str());
  return exit_status;
}

// How the library will get into the program's calls.
std::string DescribeEntry(const LibcFile& libc) {
  const char* const variable = getenv("RUMPHIJACK_ENTRY");
  const absl::string_view entry = variable != nullptr ? variable : "";
  if (entry == "symbols") return "symbols alone, as RUMPHIJACK_ENTRY says";
  return libc.has_table ? "libc is rewritten, by the table for it"
                        : "libc is rewritten, by what a scan finds in it when it is loaded";
}

int Describe(const std::string& path, const HijackableProgram& program) {
  std::string text = absl::StrCat(path, " can be hijacked\n");
  if (program.path != path) absl::StrAppend(&text, "  interpreter  ", program.path, "\n");
  if (program.loader.empty()) {
    absl::StrAppend(&text, "  its file cannot be read, so that no more is known\n");
  } else {
    const absl::StatusOr<LibcFile> libc = FindLibc(program.loader, program.path);
    if (!libc.ok()) return Refuse(kCannotRun, libc.status());
    absl::StrAppend(&text, "  loader       ", program.loader, "\n  libc         ", libc->path,
                    ", build-id ", libc->build_id.empty() ? "unknown" : libc->build_id,
                    "\n  entry        ", DescribeEntry(*libc), "\n");
  }
  return fputs(text.c_str(), stdout) >= 0 ? 0 : kLaunchFailure;
}

absl::StatusOr<int> Run(const Invocation& invocation) {
  if (invocation.arguments.empty()) return absl::InvalidArgumentError("no program is named");
  const bool audit = invocation.has("--audit");
  if (!audit && invocation.arguments.size() > 1) {
    return absl::InvalidArgumentError("a program has arguments only with --audit");
  }
  if (!audit && (invocation.has("--server") || invocation.has("--output"))) {
    return absl::InvalidArgumentError("--server and --output go with --audit");
  }
  int exit_status = kLaunchFailure;
  absl::StatusOr<std::string> path = FindByPath(invocation.arguments[0], &exit_status);
  if (!path.ok()) return Refuse(exit_status, path.status());
  const auto program = CheckHijackable(*path, {.uid = getuid(), .gid = getgid()});
  if (!program.ok()) return Refuse(kCannotRun, program.status());
  return audit ? Audit(invocation, *path) : Describe(*path, *program);
}

constexpr Option kOptions[] = {
    {"--audit", "", "run the program and list the system calls that escape the library"},
    {"--server", "URL", "with --audit: use this server (unix://PATH), not the one in RUMP_SERVER"},
    {"--output", "FILE", "with --audit: append the list to FILE instead of writing it to stderr"},
};

}  // namespace

const Command kCheckCommand = {
    .name = "check",
    .synopsis = "[--] PROGRAM [ARGUMENT...]",
    .summary = "Says whether and how a program will be hijacked.",
    .description =
        R"(Looks at the program's file without running it: whether librumphijack.so will be loaded
into it, which libc it uses, and how the library will get into that.

With --audit the program is run as by 'rump run', and its processes are traced (ptrace(2)) until the
last has ended. Listed are system calls on sockets that should have been the library's but were made
without it, with who made them: sockets of a family that is hijacked, calls on hijacked descriptors by
others than libc, or by places in libc that are not rewritten. Of those that libc makes by itself where
it is not rewritten (RUMPHIJACK_ENTRY=symbols) only new sockets are known.

Exit status: 0 if the program can be hijacked; 127 if it is not found, 126 if it cannot be executed or
hijacked, 125 if rump itself fails. With --audit 123 if calls have escaped, else the program's own.
)",
    .options = kOptions,
    .failure_status = kLaunchFailure,
    .run = Run,
};

}  // namespace rump
