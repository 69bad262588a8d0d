// Calls about the server itself: the extension "control".
#include <errno.h>
#include <limits.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "protocol/syscalls.h"
#include "sp_server/kernel/kernel.h"
#include "sp_server/kernel/syscalls.h"

namespace rump {

SyscallTask SysQuery(CallContext& context) {
  const Errno room = co_await OutputRoom(context, context.kernel().loop());
  if (!room.ok()) co_return room;
  const std::optional<std::string> report =
      context.kernel().Report(context.arg(0), context.process().pid);
  if (!report) co_return Errno(EINVAL);
  const uint64_t offset = context.arg(3);
  if (offset >= report->size()) co_return uint64_t{0};
  const size_t size = std::min<uint64_t>(context.arg(2), report->size() - offset);
  context.call().CopyOut(context.arg(1), std::as_bytes(std::span(*report)).subspan(offset, size));
  co_return uint64_t{size};
}

SyscallTask SysTrace(CallContext& context) {
  // The server would write where others may not: only who could do that without it may ask.
  const ClientInfo* client = context.process().client;
  if (client == nullptr || !client->trusted()) co_return Errno(EPERM);
  const uint64_t size = context.arg(1);
  if (size > PATH_MAX) co_return Errno(ENAMETOOLONG);
  std::string path(size, '\0');
  const Errno copied =
      co_await CopyInBytes(context, context.arg(0), std::as_writable_bytes(std::span(path)));
  if (!copied.ok()) co_return copied;
  if (path.empty()) {
    context.kernel().SetTrace(UniqueFd());
    co_return uint64_t{0};
  }
  if (!path.starts_with('/') || path.find('\0') != std::string::npos) co_return Errno(EINVAL);
  Result<UniqueFd> file = Tracer::OpenFile(path);
  if (!file.ok()) co_return file.error();
  context.kernel().SetTrace(*std::move(file));
  co_return uint64_t{0};
}

SyscallTask SysHalt(CallContext& context) {
  context.kernel().Halt();
  co_return uint64_t{0};
}

}  // namespace rump
