// System calls about processes.
#include "sp_server/kernel/syscalls.h"

namespace rump {

SyscallTask SysGetpid(CallContext& context) {
  co_return static_cast<uint64_t>(context.process().pid);
}

SyscallTask SysGetppid(CallContext& context) {
  co_return static_cast<uint64_t>(context.process().ppid);
}

}  // namespace rump
