#include "hijack/message.h"

#include <sys/syscall.h>

#include "hijack/outcome.h"

namespace rump::hijack {

long PendingError(const HijackedFd& hijacked, int error) {
  int pending = 0;
  socklen_t len = sizeof pending;
  const long r =
      hijacked.Request(SYS_getsockopt, {SOL_SOCKET, SO_ERROR, ToSlot(&pending), ToSlot(&len)});
  return r == 0 && pending > 0 ? -long{pending} : -long{error};
}

}  // namespace rump::hijack
