// System calls about processes.
#include <limits.h>

#include "sp_server/kernel/kernel.h"
#include "sp_server/kernel/syscalls.h"

namespace rump {
namespace {
// Linux's _NSIG.
constexpr int kMaxSignal = 64;
}  // namespace

SyscallTask SysGetpid(CallContext& context) {
  co_return static_cast<uint64_t>(context.process().pid);
}

SyscallTask SysGetppid(CallContext& context) {
  co_return static_cast<uint64_t>(context.process().ppid);
}

// There are no process groups: each process is the one member of its own. Nobody may signal all.
SyscallTask SysKill(CallContext& context) {
  int pid = context.int_arg(0);
  const int signo = context.int_arg(1);
  if (signo < 0 || signo > kMaxSignal) co_return Errno(EINVAL);
  if (pid == -1) co_return Errno(EPERM);
  if (pid == INT_MIN) co_return Errno(ESRCH);
  if (pid == 0) pid = context.process().pid;
  if (pid < 0) pid = -pid;
  if (pid == context.process().pid) {
    // This call brings it: no other has to be interrupted.
    if (signo != 0) context.call().Raise(signo);
    co_return uint64_t{0};
  }
  const Errno error = context.kernel().Signal(pid, signo);
  if (!error.ok()) co_return error;
  co_return uint64_t{0};
}

}  // namespace rump
