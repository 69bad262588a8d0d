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
    .description = "One line for each process that the server's kernel knows.\n",
    .options = kOptions,
    .run = Run,
};

}  // namespace rump
