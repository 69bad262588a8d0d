#include <asm/sockios.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <initializer_list>

#include "hijack/calls.h"
#include "hijack/hijacked_fd.h"
#include "hijack/object_id.h"
#include "hijack/session.h"
#include "protocol/syscalls.h"
#include "rumpclient/core/raw_syscall.h"

namespace rump::hijack {
namespace {

using client::RawSyscall;

// The same call on the object of `fd`, with the arguments behind the descriptor.
Outcome Forward(uint32_t number, int fd, std::initializer_list<uint64_t> arguments) {
  HijackedFd hijacked;
  if (!Identify(fd, &hijacked)) return kPass;
  return Done(hijacked.Request(number, arguments));
}

// Whether an option governs how long calls wait: waiting is done on the program's end.
bool IsWaitOption(int level, int option) {
  if (level != SOL_SOCKET) return false;
  switch (option) {
    case SO_RCVTIMEO_OLD:
    case SO_RCVTIMEO_NEW:
    case SO_SNDTIMEO_OLD:
    case SO_SNDTIMEO_NEW:
    case SO_RCVLOWAT:
      return true;
    default:
      return false;
  }
}

// Whether a request of ioctl(2) is about the descriptor, the same for every kind of socket.
bool IsHostIoctl(const HijackedFd& hijacked, unsigned long request) {
  constexpr unsigned long kSocketRequests = 0x8900;
  switch (request) {
    case FIOSETOWN:
    case SIOCSPGRP:
    case FIOGETOWN:
    case SIOCGPGRP:
      return true;
    case FIONREAD:
    case SIOCATMARK:
      return IsConnected(hijacked.kind);
    case TIOCOUTQ:
      return false;
    default:
      return (request & ~0xfful) != kSocketRequests;
  }
}

// A reset is an error of the program's end. It is taken with the server's, and tells if that is
// none.
void TakeHostError(const Args& args) {
  int host_error = 0;
  socklen_t len = sizeof host_error;
  if (RawSyscall(SYS_getsockopt, args.fd(), SOL_SOCKET, SO_ERROR, &host_error, &len) != 0) return;
  auto* const value = args.get<uint8_t*>(3);
  const socklen_t size = *args.get<socklen_t*>(4);
  for (socklen_t i = 0; i < size; ++i) {
    if (value[i] != 0) return;
  }
  memcpy(value, &host_error, size < sizeof host_error ? size : sizeof host_error);
}

// Requests of ioctl(2) about interfaces that any socket may be asked, as libc asks one of AF_UNIX.
bool IsInterfaceRequest(unsigned long request) {
  switch (request) {
    case SIOCGIFCONF:
    case SIOCGIFNAME:
    case SIOCGIFINDEX:
    case SIOCGIFFLAGS:
    case SIOCGIFMETRIC:
    case SIOCGIFMTU:
    case SIOCGIFTXQLEN:
    case SIOCGIFHWADDR:
      return true;
    default:
      return false;
  }
}

// Asks the server, by a socket for the purpose.
long AskOfInterfaces(unsigned long request, uint64_t argument) {
  const long fd = session.NewSocket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0) return fd;
  const auto object = static_cast<uint64_t>(ObjectOf(static_cast<int>(fd)));
  const long r = session.Request(-1, object, SYS_ioctl, {request, argument});
  RawSyscall(SYS_close, fd);
  session.Request(-1, object, kSysHostRelease);
  return r;
}

// ioctl(2) on a descriptor of the host: interfaces are the server's all the same.
Outcome HostIoctl(int fd, unsigned long request, uint64_t argument) {
  if (!IsInterfaceRequest(request) || !HijacksInternet() || !MayAsk()) return kPass;
  int domain = 0;
  socklen_t len = sizeof domain;
  if (RawSyscall(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) != 0 ||
      domain != AF_UNIX) {
    return kPass;
  }
  return Done(AskOfInterfaces(request, argument));
}

}  // namespace

Outcome CallBind(const Args& args) {
  return Forward(SYS_bind, args.fd(), {args.slot[1], args.slot[2]});
}

Outcome CallGetsockname(const Args& args) {
  return Forward(SYS_getsockname, args.fd(), {args.slot[1], args.slot[2]});
}

Outcome CallGetpeername(const Args& args) {
  return Forward(SYS_getpeername, args.fd(), {args.slot[1], args.slot[2]});
}

Outcome CallGetsockopt(const Args& args) {
  const int level = args.get<int>(1);
  const int option = args.get<int>(2);
  if (IsWaitOption(level, option)) return kPass;
  const Outcome outcome =
      Forward(SYS_getsockopt, args.fd(), {args.slot[1], args.slot[2], args.slot[3], args.slot[4]});
  if (!outcome.handled || outcome.result != 0 || level != SOL_SOCKET || option != SO_ERROR) {
    return outcome;
  }
  HijackedFd hijacked;
  if (!Identify(args.fd(), &hijacked)) return outcome;
  // How programs learn that a connection made in the background stands.
  if (hijacked.kind == FdKind::kFresh) Settle(&hijacked);
  if (IsConnected(hijacked.kind)) TakeHostError(args);
  return outcome;
}

Outcome CallSetsockopt(const Args& args) {
  const int level = args.get<int>(1);
  const int option = args.get<int>(2);
  if (IsWaitOption(level, option)) return kPass;
  HijackedFd hijacked;
  if (!Identify(args.fd(), &hijacked)) return kPass;
  const long result =
      hijacked.Request(SYS_setsockopt, {args.slot[1], args.slot[2], args.slot[3], args.slot[4]});
  if (result == 0 && level == SOL_SOCKET && (option == SO_SNDBUF || option == SO_SNDBUFFORCE) &&
      hijacked.kind != FdKind::kDatagram) {
    if (hijacked.kind == FdKind::kFresh) Settle(&hijacked);
    SendBufferSet(hijacked);
  }
  // Reading is done on the program's end; the server has it for what a listener accepts.
  if (result == 0 && level == SOL_SOCKET && option == SO_OOBINLINE) {
    RawSyscall(SYS_setsockopt, args.fd(), level, option, args.slot[3], args.slot[4]);
  }
  return Done(result);
}

Outcome CallIoctl(const Args& args) {
  HijackedFd hijacked;
  const unsigned long request = args.get<unsigned>(1);
  if (!Identify(args.fd(), &hijacked)) return HostIoctl(args.fd(), request, args.slot[2]);
  if ((request == FIONREAD || request == SIOCATMARK) && hijacked.kind == FdKind::kFresh) {
    Settle(&hijacked);
  }
  if (IsHostIoctl(hijacked, request)) return kPass;
  return Done(hijacked.Request(SYS_ioctl, {request, args.slot[2]}));
}

}  // namespace rump::hijack
