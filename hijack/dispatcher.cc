#include "hijack/dispatcher.h"

#include <sys/syscall.h>

#include "hijack/calls.h"

namespace rump::hijack {

Outcome Dispatch(long number, const Args& args) {
  switch (number) {
    case SYS_socket:
      return CallSocket(args);
    case SYS_socketpair:
      return CallSocketpair(args);
    case SYS_bind:
      return CallBind(args);
    case SYS_listen:
      return CallListen(args);
    case SYS_connect:
      return CallConnect(args);
    case SYS_accept:
      return CallAccept(args);
    case SYS_accept4:
      return CallAccept4(args);
    case SYS_shutdown:
      return CallShutdown(args);
    case SYS_getsockname:
      return CallGetsockname(args);
    case SYS_getpeername:
      return CallGetpeername(args);
    case SYS_getsockopt:
      return CallGetsockopt(args);
    case SYS_setsockopt:
      return CallSetsockopt(args);
    case SYS_ioctl:
      return CallIoctl(args);
    case SYS_read:
      return CallRead(args);
    case SYS_readv:
      return CallReadv(args);
    case SYS_recvfrom:
      return CallRecvfrom(args);
    case SYS_recvmsg:
      return CallRecvmsg(args);
    case SYS_recvmmsg:
      return CallRecvmmsg(args);
    case SYS_write:
      return CallWrite(args);
    case SYS_writev:
      return CallWritev(args);
    case SYS_sendto:
      return CallSendto(args);
    case SYS_sendmsg:
      return CallSendmsg(args);
    case SYS_sendmmsg:
      return CallSendmmsg(args);
    case SYS_close:
      return CallClose(args);
    case SYS_close_range:
      return CallCloseRange(args);
    case SYS_dup:
      return CallDup(args);
    case SYS_dup2:
      return CallDup2(args);
    case SYS_dup3:
      return CallDup3(args);
    case SYS_fcntl:
      return CallFcntl(args);
    default:
      return kPass;
  }
}

}  // namespace rump::hijack
