#include "hijack/dispatcher.h"

#include <errno.h>
#include <sys/syscall.h>

#include "hijack/calls.h"
#include "hijack/session.h"

namespace rump::hijack {

namespace {

// Whether the first argument is something else than a descriptor that is open.
constexpr bool TakesNoDescriptor(long number) {
  switch (number) {
    case SYS_socket:
    case SYS_socketpair:
    case SYS_close_range:
    case SYS_clone:
    case SYS_execve:
    case SYS_io_uring_setup:
    case SYS_prctl:
    case SYS_seccomp:
      return true;
    default:
      return false;
  }
}

}  // namespace

Outcome Dispatch(long number, const Args& args) {
  // To the program it is not open.
  if (session.Owns(args.fd()) && !TakesNoDescriptor(number)) return Done(-EBADF);
  switch (number) {
#define CALL(name, function, gate) \
  case SYS_##name:                 \
    return function(args);
#include "hijack/dispatched_calls.inc"
#undef CALL
    default:
      return kPass;
  }
}

}  // namespace rump::hijack
