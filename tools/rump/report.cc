#include "tools/rump/report.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>

#include "absl/strings/str_cat.h"
#include "tools/rump/control.h"
#include "tools/rump/server_url.h"

namespace rump {
namespace {

constexpr size_t kFirstSize = 64 * 1024;
// A report that goes on beyond this comes from a server that is not to be trusted.
constexpr size_t kMaxReport = 16 * 1024 * 1024;

// In one piece, since the next one would come from a report of its own.
absl::StatusOr<std::string> Query(const ServerUrl& url, client::Connection* connection,
                                  QueryKind kind) {
  std::string report;
  for (size_t size = kFirstSize; size <= kMaxReport; size *= 2) {
    report.resize(size);
    client::Call call;
    call.number = kSysQuery;
    call.nargs = 4;
    call.args[0] = static_cast<uint64_t>(kind);
    call.args[1] = reinterpret_cast<uintptr_t>(report.data());
    call.args[2] = report.size();
    const absl::Status asked = IssueControl(url, connection, &call);
    if (!asked.ok() && call.error == EINVAL) {
      return absl::UnimplementedError(absl::StrCat(url.url, " does not make this report"));
    }
    if (!asked.ok()) return asked;
    if (call.retval[0] < size) {
      report.resize(call.retval[0]);
      return report;
    }
  }
  return absl::DataLossError(absl::StrCat("the report of ", url.url, " does not end"));
}

}  // namespace

absl::StatusOr<int> PrintReport(const Invocation& invocation, const std::string& name,
                                QueryKind plain, QueryKind json) {
  if (!invocation.arguments.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(name, " takes no arguments"));
  }
  absl::StatusOr<ServerUrl> url = ChooseServer(invocation);
  if (!url.ok()) return url.status();
  client::Connection connection;
  if (absl::Status open = OpenControl(*url, absl::StrCat("rump ", name), &connection); !open.ok()) {
    return open;
  }
  const absl::StatusOr<std::string> report =
      Query(*url, &connection, invocation.has(kJsonOption.name) ? json : plain);
  if (!report.ok()) return report.status();
  if (fwrite(report->data(), 1, report->size(), stdout) != report->size() || fflush(stdout) != 0) {
    return absl::DataLossError("the report could not be written");
  }
  return 0;
}

}  // namespace rump
