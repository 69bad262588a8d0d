// Reports that a server makes of itself.
#ifndef TOOLS_RUMP_REPORT_H_
#define TOOLS_RUMP_REPORT_H_

#include <string>

#include "absl/status/statusor.h"
#include "protocol/syscalls.h"
#include "tools/rump/command.h"

namespace rump {

// Prints the report `plain`, or with --json the report `json`, of the server that `invocation`
// chooses. Returns the exit status. `name` is the command's.
absl::StatusOr<int> PrintReport(const Invocation& invocation, const std::string& name,
                                QueryKind plain, QueryKind json);

}  // namespace rump

#endif  // TOOLS_RUMP_REPORT_H_
