#include <sys/prctl.h>
#include <sys/syscall.h>

#include "hijack/calls.h"
#include "hijack/hijacked_fd.h"
#include "hijack/process_page.h"
#include "hijack/seccomp_filter.h"
#include "rumpclient/core/raw_syscall.h"

namespace rump::hijack {
namespace {

using client::RawSyscall;

// Makes call `number`, which installs `filter` (nullptr: only read, write, exit and sigreturn are
// left). What the filter forbids us would end the program, so all that is to be known of its
// descriptors is asked before.
Outcome Install(long number, const Args& args, const sock_fprog* filter) {
  if (!OwnMemory()) return kPass;
  LearnOpenFds();
  const long r =
      RawSyscall(number, args.slot[0], args.slot[1], args.slot[2], args.slot[3], args.slot[4]);
  if (r < 0) return Done(r);
  // The filter is only now known to be readable.
  const auto allows = [filter](long call) {
    return filter != nullptr && FilterAllows(*filter, call);
  };
  if (!allows(SYS_getsockname)) AskNoMore();
  if (!allows(SYS_getrlimit) || !allows(SYS_fcntl)) AskLimitNoMore();
  constexpr long kOfSends[] = {SYS_sendto, SYS_sendmsg, SYS_ppoll, SYS_getsockopt, SYS_getpid};
  for (const long call : kOfSends) {
    if (!allows(call)) SendNoMore();
  }
  return Done(r);
}

}  // namespace

Outcome CallPrctl(const Args& args) {
  if (args.get<int>(0) != PR_SET_SECCOMP) return kPass;
  const bool strict = args.slot[1] == SECCOMP_MODE_STRICT;
  return Install(SYS_prctl, args, strict ? nullptr : args.get<const sock_fprog*>(2));
}

Outcome CallSeccomp(const Args& args) {
  switch (args.get<unsigned>(0)) {
    case SECCOMP_SET_MODE_STRICT:
      return Install(SYS_seccomp, args, nullptr);
    case SECCOMP_SET_MODE_FILTER:
      return Install(SYS_seccomp, args, args.get<const sock_fprog*>(2));
    default:
      return kPass;
  }
}

}  // namespace rump::hijack
