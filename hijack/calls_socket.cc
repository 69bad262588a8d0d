#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>

#include "hijack/calls.h"
#include "hijack/fd_cache.h"
#include "hijack/hijacked_fd.h"
#include "hijack/message.h"
#include "hijack/process_page.h"
#include "hijack/session.h"
#include "protocol/syscalls.h"
#include "rumpclient/core/raw_syscall.h"
#include "rumpclient/core/signal_block.h"

namespace rump::hijack {
namespace {

using client::RawSyscall;

constinit HijackConfig config;
constinit bool configured = false;

// Gives a new descriptor, which is blocking, the other flag of socket(2) and accept4(2).
void SetNonblocking(int fd, int flags) {
  if ((flags & SOCK_NONBLOCK) != 0) RawSyscall(SYS_fcntl, fd, F_SETFL, O_RDWR | O_NONBLOCK);
}

void Remember(int fd, FdKind kind) {
  if (OwnMemory()) {
    fd_cache.Set(fd, kind);
  } else {
    fd_cache.Forget(fd);
  }
}

// The outcome of a connection that was being made in the background: 0 or -errno.
long FinishConnect(HijackedFd* hijacked, uint8_t outcome) {
  if (outcome != 0) return -long{outcome};
  BecomeConnected(hijacked);
  return 0;
}

// The connection is made in the background: until it stands nothing may be written, and poll(2) has
// to say so.
long ConnectInBackground(const HijackedFd& hijacked) {
  hijacked.Request(kSysHostConnectFill, {Fill(hijacked.fd)});
  return -EINPROGRESS;
}

// Waits until the server says by a byte what became of the connection. The wait is the host's, with
// its signals, timeouts and cancellation.
long AwaitConnect(HijackedFd* hijacked) {
  uint8_t outcome = 0;
  const long r = RawSyscall(SYS_recvfrom, hijacked->fd, &outcome, 1, 0, nullptr, nullptr);
  if (r == 1) return FinishConnect(hijacked, outcome);
  if (r == 0) return -ENETDOWN;
  // From here on the connection is made in the background, unless it was just decided.
  if (hijacked->Request(kSysHostConnectAbandon) == 1) {
    const long late =
        RawSyscall(SYS_recvfrom, hijacked->fd, &outcome, 1, MSG_DONTWAIT, nullptr, nullptr);
    if (late == 1) return FinishConnect(hijacked, outcome);
  }
  ConnectInBackground(*hijacked);
  return r == -EAGAIN ? -EINPROGRESS : r;
}

// Whether the eight bytes at `addr` can be read.
bool IsReadable(uint64_t addr) {
  // No call copies them for less; the unknown operation is looked at only after that.
  constexpr int kNoOperation = -1;
  return RawSyscall(SYS_rt_sigprocmask, kNoOperation, addr, nullptr, sizeof(uint64_t)) == -EINVAL;
}

// Whether connect(2) with this address tells of a connection that stands, whatever the address is.
bool AsksForOutcome(uint64_t addr, uint64_t len) {
  sa_family_t family = AF_UNSPEC;
  if (len < sizeof(uint64_t) || len > sizeof(sockaddr_storage) || !IsReadable(addr)) return false;
  memcpy(&family, reinterpret_cast<const void*>(addr), sizeof family);
  return family != AF_UNSPEC;
}

long ConnectStream(HijackedFd* hijacked, uint64_t addr, uint64_t len) {
  if (hijacked->kind == FdKind::kUntold && AsksForOutcome(addr, len)) {
    SetKind(hijacked, FdKind::kConnected);
    return 0;
  }
  const long flags = RawSyscall(SYS_fcntl, hijacked->fd, F_GETFL);
  const bool blocking = flags >= 0 && (flags & O_NONBLOCK) == 0;
  const long r = session.ConnectTcp(hijacked->fd, hijacked->object, addr, len,
                                    blocking ? kHostConnectNotify : kHostConnectUntold);
  if (r == kHostConnectNeedsByte) return -ENOBUFS;
  if (r == kHostConnectedAtOnce) {
    // A socket that does not block says so even of a connection that stands at once.
    BecomeConnectedAtOnce(hijacked, blocking ? FdKind::kConnected : FdKind::kUntold);
    return blocking ? 0 : -EINPROGRESS;
  }
  if (r == kHostUnconnected) return 0;
  if (r > 0) return FinishConnect(hijacked, 0);
  if (r != -EINPROGRESS) return r;
  return blocking ? AwaitConnect(hijacked) : ConnectInBackground(*hijacked);
}

// 0 if `hijacked` listens, or why accept(2) cannot be.
long CheckListener(const HijackedFd& hijacked) {
  int listens = 0;
  socklen_t len = sizeof listens;
  const long r =
      hijacked.Request(SYS_getsockopt, {SOL_SOCKET, SO_ACCEPTCONN, ToSlot(&listens), ToSlot(&len)});
  if (r < 0) return AfterLoss(r);
  if (listens == 0) return -EINVAL;
  Remember(hijacked.fd, FdKind::kListener);
  return 0;
}

// What accept(2) returns at the end of a listener: it was shut down, or its server is gone.
long EndOfListener(const HijackedFd& listener) {
  const long error = CheckListener(listener);
  return error != 0 ? error : -EINVAL;
}

// Whether the process has no number for another descriptor, which the kernel would drop, and with
// it the connection. Only threads that make descriptors meanwhile can prove it wrong.
bool IsTableFull(const HijackedFd& listener) {
  // So many open descriptors of higher numbers than all that were ever looked at are not expected.
  constexpr rlim_t kUnseen = 256;
  if (!MayAskLimit()) return false;
  rlimit limit;
  if (RawSyscall(SYS_getrlimit, RLIMIT_NOFILE, &limit) != 0) return false;
  const rlim_t end = std::min<rlim_t>(limit.rlim_cur, FdCache::kSlots);
  if (static_cast<rlim_t>(std::max(fd_cache.highest(), 0)) + kUnseen < end) return false;
  // The last number, then any.
  if (limit.rlim_cur > 0 && RawSyscall(SYS_fcntl, limit.rlim_cur - 1, F_GETFD) == -EBADF) {
    return false;
  }
  const client::SignalBlock block;
  const long spare = RawSyscall(SYS_fcntl, listener.fd, F_DUPFD_CLOEXEC, 0);
  if (spare < 0) return true;
  RawSyscall(SYS_close, spare);
  return false;
}

long Accept(HijackedFd* listener, sockaddr* addr, socklen_t* addr_len, int flags) {
  if ((flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) return -EINVAL;
  if (listener->kind == FdKind::kDatagram) return -EOPNOTSUPP;
  if (listener->kind != FdKind::kListener) {
    // Another process that shares the socket may have made it one.
    if (const long error = CheckListener(*listener); error != 0) return error;
  }
  if (IsTableFull(*listener)) return -EMFILE;
  AcceptRecord record;
  int fd;
  const long r = ReceiveRecord(listener->fd, &record, sizeof record,
                               (flags & SOCK_CLOEXEC) != 0 ? MSG_CMSG_CLOEXEC : 0, &fd);
  if (r == 0 || r == -ECONNRESET) return EndOfListener(*listener);
  if (r < 0) return r;
  if (fd < 0) return -EMFILE;
  if (r != sizeof record || record.peer_len > sizeof record.peer) {
    RawSyscall(SYS_close, fd);
    return -ECONNABORTED;
  }
  SetNonblocking(fd, flags);
  Remember(fd, FdKind::kConnected);
  if (addr != nullptr && addr_len != nullptr) {
    memcpy(addr, record.peer, std::min<size_t>(*addr_len, record.peer_len));
    *addr_len = record.peer_len;
  }
  return fd;
}

}  // namespace

void ConfigureSockets(const HijackConfig& new_config) {
  config = new_config;
  configured = true;
}

bool HijacksInternet() { return configured && rump::HijacksInternet(config); }

Outcome CallSocket(const Args& args) {
  const int domain = args.get<int>(0);
  const int protocol = args.get<int>(2);
  if (!configured || !HijacksSocket(config, domain, protocol)) return kPass;
  constexpr int kFlags = SOCK_CLOEXEC | SOCK_NONBLOCK;
  const int type = args.get<int>(1);
  constexpr int kTypes = 0xf;
  if ((type & ~(kTypes | kFlags)) != 0) return Done(-EINVAL);
  const bool cloexec = (type & SOCK_CLOEXEC) != 0;
  const bool stream = (type & ~kFlags) == SOCK_STREAM;
  long fd;
  if (stream && (protocol == 0 || protocol == IPPROTO_TCP)) {
    fd = session.NewTcpSocket(domain, protocol, cloexec);
  } else {
    fd = session.NewSocket(domain, type & ~kFlags, protocol);
    if (fd >= 0 && !cloexec) RawSyscall(SYS_fcntl, fd, F_SETFD, 0);
    if (fd >= 0) Remember(static_cast<int>(fd), stream ? FdKind::kFresh : FdKind::kDatagram);
  }
  if (fd >= 0) SetNonblocking(static_cast<int>(fd), type);
  return Done(fd);
}

Outcome CallSocketpair(const Args& args) {
  int* fds = args.get<int*>(3);
  const long r =
      RawSyscall(SYS_socketpair, args.get<int>(0), args.get<int>(1), args.get<int>(2), fds);
  if (r == 0) {
    fd_cache.Forget(fds[0]);
    fd_cache.Forget(fds[1]);
  }
  return Done(r);
}

Outcome CallListen(const Args& args) {
  HijackedFd hijacked;
  if (!Identify(args.fd(), &hijacked)) return kPass;
  const long r = hijacked.Request(SYS_listen, {args.slot[1]});
  if (r != 0) return Done(r);
  // A listener is never writable.
  if (hijacked.kind == FdKind::kFresh) Fill(hijacked.fd);
  Remember(hijacked.fd, FdKind::kListener);
  return Done(0);
}

Outcome CallConnect(const Args& args) {
  HijackedFd hijacked;
  if (!Identify(args.fd(), &hijacked)) return kPass;
  if (hijacked.kind == FdKind::kDatagram) {
    return Done(hijacked.Request(SYS_connect, {args.slot[1], args.slot[2]}));
  }
  return Done(ConnectStream(&hijacked, args.slot[1], args.slot[2]));
}

Outcome CallAccept(const Args& args) {
  Args with_flags = args;
  with_flags.slot[3] = 0;
  return CallAccept4(with_flags);
}

Outcome CallAccept4(const Args& args) {
  HijackedFd hijacked;
  if (!Identify(args.fd(), &hijacked)) return kPass;
  return Done(Accept(&hijacked, args.get<sockaddr*>(1), args.get<socklen_t*>(2), args.get<int>(3)));
}

Outcome CallShutdown(const Args& args) {
  HijackedFd hijacked;
  if (!Identify(args.fd(), &hijacked)) return kPass;
  if (hijacked.kind == FdKind::kFresh) Settle(&hijacked);
  // The server sees the end of a stream on its own end.
  if (IsConnected(hijacked.kind)) {
    const int how = args.get<int>(1);
    if (how == SHUT_RD) {
      // The other program may go on writing, which a socketpair would not let it.
      if (!IsDirect(hijacked)) return kPass;
      SetKind(&hijacked, FdKind::kReadShut);
      return Done(0);
    }
    const long r = RawSyscall(SYS_shutdown, hijacked.fd, how);
    if (r == 0 && hijacked.kind != FdKind::kReadShut) SetKind(&hijacked, FdKind::kWriteShut);
    return Done(r);
  }
  return Done(hijacked.Request(SYS_shutdown, {args.slot[1]}));
}

Outcome CallIoUringSetup(const Args& /*args*/) {
  // A ring would make the host's sockets, and connect and accept on ends that do neither. Sandboxes
  // refuse rings, too, so programs can do without.
  return HijacksInternet() ? Done(-ENOSYS) : kPass;
}

}  // namespace rump::hijack
