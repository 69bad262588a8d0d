#include "tools/rump/command.h"
#include "tools/rump/report.h"

namespace rump {
namespace {

absl::StatusOr<int> Run(const Invocation& invocation) {
  return PrintReport(invocation, "ps", QueryKind::kProcesses, QueryKind::kProcessesJson);
}

constexpr Option kOptions[] = {kServerOption, kJsonOption};

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
