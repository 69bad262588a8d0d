#include <stdint.h>
#include <stdio.h>

#include <vector>

#include "tools/rump/command.h"
#include "tools/rump/control.h"
#include "tools/rump/server_url.h"

namespace rump {
namespace {

constexpr size_t kChunk = 64 * 1024;
// A report that goes on beyond this comes from a server that is not to be trusted.
constexpr uint64_t kMaxReport = 64 * 1024 * 1024;

absl::StatusOr<int> Run(const Invocation& invocation) {
  if (!invocation.arguments.empty()) return absl::InvalidArgumentError("ps takes no arguments");
  absl::StatusOr<ServerUrl> url = ChooseServer(invocation);
  if (!url.ok()) return url.status();
  client::Connection connection;
  if (absl::Status open = OpenControl(*url, "rump ps", &connection); !open.ok()) return open;

  std::vector<char> chunk(kChunk);
  for (uint64_t offset = 0; offset < kMaxReport;) {
    client::Call call;
    call.number = kSysQuery;
    call.nargs = 4;
    call.args[0] = static_cast<uint64_t>(QueryKind::kProcesses);
    call.args[1] = reinterpret_cast<uintptr_t>(chunk.data());
    call.args[2] = chunk.size();
    call.args[3] = offset;
    if (absl::Status asked = IssueControl(*url, &connection, &call); !asked.ok()) return asked;
    const uint64_t size = call.retval[0];
    if (size == 0) return 0;
    if (size > chunk.size() || fwrite(chunk.data(), 1, size, stdout) != size) break;
    offset += size;
  }
  return absl::DataLossError("the report could not be read or written to its end");
}

constexpr Option kOptions[] = {kServerOption};

}  // namespace

const Command kPsCommand = {
    .name = "ps",
    .synopsis = "",
    .summary = "Lists the processes of a server.",
    .description =
        "One line for each process that the server's kernel knows: its number and its parent's "
        "there,\n"
        "its name, open descriptors, waiting system calls, bytes of the sysproxy protocol (what "
        "its\n"
        "sockets carry is not among them), and who it is on the host.\n",
    .options = kOptions,
    .run = Run,
};

}  // namespace rump
