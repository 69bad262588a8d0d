#include <stdint.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "protocol/syscalls.h"
#include "tools/rump/command.h"
#include "tools/rump/control.h"
#include "tools/rump/server_url.h"

namespace rump {
namespace {

absl::StatusOr<int> Run(const Invocation& invocation) {
  if (invocation.arguments.size() != 1) {
    return absl::InvalidArgumentError("trace takes one argument: FILE or off");
  }
  std::string path;
  if (const std::string& file = invocation.arguments[0]; file != "off") {
    // The server opens it, and has another working directory.
    std::error_code error;
    path = std::filesystem::absolute(file, error).string();
    if (error) return absl::InvalidArgumentError(absl::StrCat(file, ": ", error.message()));
  }
  absl::StatusOr<ServerUrl> url = ChooseServer(invocation);
  if (!url.ok()) return url.status();
  client::Connection connection;
  if (absl::Status open = OpenControl(*url, "rump trace", &connection); !open.ok()) return open;
  client::Call call;
  call.number = kSysTrace;
  call.nargs = 2;
  call.args[0] = reinterpret_cast<uintptr_t>(path.data());
  call.args[1] = path.size();
  absl::Status asked = IssueControl(*url, &connection, &call);
  if (asked.ok()) return 0;
  if (path.empty() || absl::IsUnavailable(asked)) return asked;
  return absl::Status(asked.code(),
                      absl::StrCat("the server cannot write ", path, ": ", asked.message()));
}

constexpr Option kOptions[] = {kServerOption};

}  // namespace

const Command kTraceCommand = {
    .name = "trace",
    .synopsis = "FILE|off",
    .summary = "Makes a server write a line per system call to a file.",
    .description =
        "The server itself opens FILE and goes behind what it holds, until 'rump trace off'. It "
        "does\n"
        "so only for its own user and root, on its own machine.\n",
    .options = kOptions,
    .run = Run,
};

}  // namespace rump
