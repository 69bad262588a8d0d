// Calls about the server itself: the extension "control".
#include <algorithm>
#include <string>

#include "protocol/syscalls.h"
#include "sp_server/kernel/kernel.h"
#include "sp_server/kernel/syscalls.h"

namespace rump {

SyscallTask SysQuery(CallContext& context) {
  if (context.arg(0) != static_cast<uint64_t>(QueryKind::kProcesses)) co_return Errno(EINVAL);
  const std::string report = context.kernel().ProcessReport(context.process().pid);
  const uint64_t offset = context.arg(3);
  if (offset >= report.size()) co_return uint64_t{0};
  const size_t size = std::min<uint64_t>(context.arg(2), report.size() - offset);
  context.call().CopyOut(context.arg(1), std::as_bytes(std::span(report)).subspan(offset, size));
  co_return uint64_t{size};
}

SyscallTask SysHalt(CallContext& context) {
  context.kernel().Halt();
  co_return uint64_t{0};
}

}  // namespace rump
