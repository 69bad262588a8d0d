#include "tools/rump/command.h"
#include "tools/rump/report.h"

namespace rump {
namespace {

absl::StatusOr<int> Run(const Invocation& invocation) {
  return PrintReport(invocation, "stats", QueryKind::kStatistics, QueryKind::kStatisticsJson);
}

constexpr Option kOptions[] = {kServerOption, kJsonOption};

}  // namespace

const Command kStatsCommand = {
    .name = "stats",
    .synopsis = "",
    .summary = "Shows what a server has counted.",
    .description =
        "Clients, forked processes that wait to be claimed, bytes and copies, wire errors, and how "
        "often\n"
        "each system call was called and failed, all since the server started.\n",
    .options = kOptions,
    .run = Run,
};

}  // namespace rump
