#include <sched.h>
#include <sys/syscall.h>

#include "hijack/calls.h"
#include "hijack/exec.h"
#include "hijack/real.h"
#include "hijack/session.h"
#include "rumpclient/core/raw_syscall.h"

namespace rump::hijack {

// What libc's own forks come to. Children on their parent's memory or on a stack of their own, and
// those of clone3(2), are the host's business: each gets a process in the server when it needs one.
Outcome CallClone(const Args& args) {
  const bool is_fork = (args.slot[0] & CLONE_VM) == 0 && args.slot[1] == 0;
  // Otherwise it is the symbols that fork, and this may be the second half of it.
  if (!is_fork || !libc_leads_back) return kPass;
  return Done(session.Fork([&] {
    return client::RawSyscall(SYS_clone, args.slot[0], args.slot[1], args.slot[2], args.slot[3],
                              args.slot[4]);
  }));
}

Outcome CallExecve(const Args& args) {
  return ExecWith(args.get<char* const*>(2), /*replaces=*/true, [&](char* const* environment) {
    return client::RawSyscall(SYS_execve, args.slot[0], args.slot[1], environment);
  });
}

Outcome CallExecveat(const Args& args) {
  return ExecWith(args.get<char* const*>(3), /*replaces=*/true, [&](char* const* environment) {
    return client::RawSyscall(SYS_execveat, args.slot[0], args.slot[1], args.slot[2], environment,
                              args.slot[4]);
  });
}

}  // namespace rump::hijack
