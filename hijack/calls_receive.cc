#include <errno.h>
#include <sys/syscall.h>
#include <time.h>

#include <algorithm>

#include "hijack/calls.h"
#include "hijack/fd_cache.h"
#include "hijack/hijacked_fd.h"
#include "hijack/message.h"
#include "rumpclient/core/raw_syscall.h"
#include "rumpclient/core/signal_block.h"

namespace rump::hijack {
namespace {

using client::RawSyscall;

// One try at the server's queue.
long RequestReceive(const HijackedFd& hijacked, msghdr* msg, int flags) {
  flags |= MSG_DONTWAIT;
  // A plain buffer needs fewer exchanges than a header that names it.
  if (msg->msg_iovlen != 1 || msg->msg_controllen != 0 || (flags & MSG_ERRQUEUE) != 0) {
    return hijacked.Request(SYS_recvmsg, {ToSlot(msg), ToSlot(flags)});
  }
  const size_t room = msg->msg_iov[0].iov_len;
  const bool named = msg->msg_name != nullptr;
  const long r = hijacked.Request(
      SYS_recvfrom, {ToSlot(msg->msg_iov[0].iov_base), room, ToSlot(flags | MSG_TRUNC),
                     ToSlot(msg->msg_name), named ? ToSlot(&msg->msg_namelen) : 0});
  if (r < 0) return r;
  const auto size = static_cast<size_t>(r);
  msg->msg_flags = size > room ? MSG_TRUNC : 0;
  return size > room && (flags & MSG_TRUNC) == 0 ? static_cast<long>(room) : r;
}

// One try at the byte that says that something is queued, and if it is there (*queued) at the
// queue. Nobody who is cancelled or leaves by siglongjmp(3) may take the byte alone with him.
long TakeDatagram(const HijackedFd& hijacked, msghdr* msg, int flags, int look, bool* queued) {
  const client::SignalBlock block;
  char byte;
  const long r =
      RawSyscall(SYS_recvfrom, hijacked.fd, &byte, 1, MSG_DONTWAIT | look, nullptr, nullptr);
  *queued = r > 0;
  return *queued ? RequestReceive(hijacked, msg, flags) : r;
}

// The server has closed its end.
long ReceiveAtEnd(const HijackedFd& hijacked, msghdr* msg, int flags) {
  const long r = RequestReceive(hijacked, msg, flags);
  return AfterLoss(r == -EAGAIN ? -ENOTCONN : r);
}

// The server keeps one byte on its end while the queue holds something: that byte is what to wait
// for, in host calls that keep their signals, timeouts and cancellation.
long ReceiveDatagram(const HijackedFd& hijacked, msghdr* msg, int flags) {
  if ((flags & MSG_ERRQUEUE) != 0) return RequestReceive(hijacked, msg, flags);
  int look = flags & MSG_PEEK;
  for (;;) {
    bool queued;
    long r = TakeDatagram(hijacked, msg, flags, look, &queued);
    if (queued) {
      if (r != -EAGAIN) return AfterLoss(r);
      // Somebody else got the datagram: the byte is stale, and a peek must not find it again.
      look = 0;
      continue;
    }
    if (r == -EAGAIN && (flags & MSG_DONTWAIT) == 0) {
      char byte;
      r = RawSyscall(SYS_recvfrom, hijacked.fd, &byte, 1, MSG_PEEK, nullptr, nullptr);
      if (r > 0) continue;
    }
    return r == 0 || r == -ECONNRESET ? ReceiveAtEnd(hijacked, msg, flags) : r;
  }
}

// A connection that came and went before it was looked at may have left something to read.
bool HasBytes(int fd) {
  char byte;
  return RawSyscall(SYS_recvfrom, fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT, nullptr, nullptr) > 0;
}

// tcp(7): with MSG_TRUNC bytes are taken and thrown away.
bool IsDiscard(int flags) { return (flags & MSG_TRUNC) != 0 && (flags & MSG_OOB) == 0; }

// Receives as many bytes as `msg` has room for, if they are not very many, to nowhere.
long Discard(int fd, const msghdr& msg, int flags) {
  constexpr size_t kParts = 16;
  static char nowhere[64 * 1024];
  if (const long error = CheckMessage(msg); error != 0) return error;
  size_t left = 0;
  for (size_t i = 0; i < msg.msg_iovlen; ++i) left += msg.msg_iov[i].iov_len;
  iovec parts[kParts];
  msghdr all = {};
  all.msg_iov = parts;
  while (left > 0 && all.msg_iovlen < kParts) {
    const size_t size = std::min(left, sizeof nowhere);
    parts[all.msg_iovlen++] = {nowhere, size};
    left -= size;
  }
  return RawSyscall(SYS_recvmsg, fd, &all, flags & ~MSG_TRUNC);
}

// A connected stream has neither addresses nor control data to give, unlike its end C.
long ReceiveStreamMessage(int fd, msghdr* msg, int flags) {
  msghdr bare = {};
  bare.msg_iov = msg->msg_iov;
  bare.msg_iovlen = msg->msg_iovlen;
  const long r =
      IsDiscard(flags) ? Discard(fd, *msg, flags) : RawSyscall(SYS_recvmsg, fd, &bare, flags);
  if (r < 0) return r;
  msg->msg_namelen = 0;
  msg->msg_controllen = 0;
  msg->msg_flags = bare.msg_flags;
  return r;
}

// Receives where the bytes are not the host's. kPass: they are.
Outcome Receive(int fd, msghdr* msg, int flags, HijackedFd* hijacked) {
  if (!Identify(fd, hijacked)) return kPass;
  // A stream has no errors apart.
  if ((flags & MSG_ERRQUEUE) != 0 && hijacked->kind != FdKind::kDatagram) return Done(-EAGAIN);
  switch (hijacked->kind) {
    case FdKind::kDatagram:
      if (const long error = CheckMessage(*msg); error != 0) return Done(error);
      return Done(ReceiveDatagram(*hijacked, msg, flags));
    case FdKind::kFresh:
      if (Settle(hijacked) != StreamState::kUnconnected || HasBytes(fd)) break;
      return Done(PendingError(*hijacked, (flags & MSG_OOB) != 0 ? EINVAL : ENOTCONN));
    case FdKind::kListener:
      return Done(-ENOTCONN);
    case FdKind::kReadShut: {
      const long r = ReceiveStreamMessage(fd, msg, flags | MSG_DONTWAIT);
      return Done(r == -EAGAIN ? 0 : r);
    }
    case FdKind::kUntold:
      SetKind(hijacked, FdKind::kConnected);
      break;
    default:
      break;
  }
  return IsDiscard(flags) ? Done(ReceiveStreamMessage(fd, msg, flags)) : kPass;
}

// CMSG_NXTHDR(3), which may be a call of libc, for what the kernel has written.
const cmsghdr* NextControl(const msghdr* msg, const cmsghdr* c) {
  const auto* const end = static_cast<const char*>(msg->msg_control) + msg->msg_controllen;
  const char* const next = reinterpret_cast<const char*>(c) + CMSG_ALIGN(c->cmsg_len);
  if (c->cmsg_len < sizeof *c || next + sizeof *c > end) return nullptr;
  return reinterpret_cast<const cmsghdr*>(next);
}

// Numbers that came in a host message meant something else before.
void ForgetReceived(msghdr* msg) {
  for (const cmsghdr* c = CMSG_FIRSTHDR(msg); c != nullptr; c = NextControl(msg, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const auto* fds = reinterpret_cast<const int*>(CMSG_DATA(c));
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) fd_cache.Forget(fds[i]);
  }
}

long ReceiveMessage(int fd, msghdr* msg, int flags) {
  HijackedFd hijacked;
  const Outcome outcome = Receive(fd, msg, flags, &hijacked);
  if (outcome.handled) return outcome.result;
  if (hijacked.object != 0) return ReceiveStreamMessage(fd, msg, flags);
  const long r = RawSyscall(SYS_recvmsg, fd, msg, flags);
  if (r >= 0) ForgetReceived(msg);
  return r;
}

bool Expired(const timespec& deadline) {
  timespec now = {};
  RawSyscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
  return now.tv_sec != deadline.tv_sec ? now.tv_sec > deadline.tv_sec
                                       : now.tv_nsec >= deadline.tv_nsec;
}

// What the kernel says of a timeout before it receives anything: 0, or -errno.
long CheckTimeout(const timespec* timeout) {
  if (timeout == nullptr) return 0;
  if (!IsPointer(timeout)) return -EFAULT;
  const bool is_valid =
      timeout->tv_sec >= 0 && timeout->tv_nsec >= 0 && timeout->tv_nsec < 1'000'000'000;
  return is_valid ? 0 : -EINVAL;
}

// As recvmmsg(2): the timeout is looked at after each message only.
long ReceiveMessages(int fd, mmsghdr* msgs, unsigned count, int flags, const timespec* timeout) {
  timespec deadline = {};
  if (timeout != nullptr) {
    RawSyscall(SYS_clock_gettime, CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += timeout->tv_sec;
    deadline.tv_nsec += timeout->tv_nsec;
    if (deadline.tv_nsec >= 1'000'000'000) {
      deadline.tv_nsec -= 1'000'000'000;
      ++deadline.tv_sec;
    }
  }
  unsigned done = 0;
  while (done < count) {
    const long r = ReceiveMessage(fd, &msgs[done].msg_hdr, flags & ~MSG_WAITFORONE);
    if (r < 0) return done > 0 ? static_cast<long>(done) : r;
    msgs[done++].msg_len = static_cast<unsigned>(r);
    if ((flags & MSG_WAITFORONE) != 0) flags |= MSG_DONTWAIT;
    if (timeout != nullptr && Expired(deadline)) break;
  }
  return done;
}

Outcome ReceiveBuffer(int fd, void* buffer, size_t size, int flags) {
  BufferMessage msg(buffer, size, nullptr, 0);
  HijackedFd hijacked;
  return Receive(fd, msg.header(), flags, &hijacked);
}

}  // namespace

Outcome ReceiveVector(int fd, const iovec* iov, int count, int flags) {
  if (!IsVectorCount(count)) return kPass;
  msghdr msg = VectorMessage(iov, count);
  HijackedFd hijacked;
  return Receive(fd, &msg, flags, &hijacked);
}

Outcome CallRead(const Args& args) {
  // Reading nothing takes no datagram, unlike receiving nothing.
  if (args.slot[2] == 0 || args.slot[2] > SSIZE_MAX) return kPass;
  return ReceiveBuffer(args.fd(), args.get<void*>(1), args.slot[2], 0);
}

Outcome CallReadv(const Args& args) {
  return ReceiveVector(args.fd(), args.get<const iovec*>(1), args.get<int>(2), 0);
}

Outcome CallRecvfrom(const Args& args) {
  const int fd = args.fd();
  auto* buffer = args.get<void*>(1);
  const size_t size = args.slot[2];
  const int flags = args.get<int>(3);
  auto* name = args.get<sockaddr*>(4);
  auto* name_len = args.get<socklen_t*>(5);
  if (name == nullptr || !IsPointer(name_len)) return ReceiveBuffer(fd, buffer, size, flags);

  BufferMessage msg(buffer, size, name, *name_len);
  HijackedFd hijacked;
  Outcome outcome = Receive(fd, msg.header(), flags, &hijacked);
  if (!outcome.handled) {
    if (hijacked.object == 0) return kPass;
    msg.header()->msg_namelen = 0;
    outcome = Done(RawSyscall(SYS_recvfrom, fd, buffer, size, flags, nullptr, nullptr));
  }
  if (outcome.result >= 0) *name_len = msg.header()->msg_namelen;
  return outcome;
}

Outcome CallRecvmsg(const Args& args) {
  auto* msg = args.get<msghdr*>(1);
  if (!IsPointer(msg)) return kPass;
  return Done(ReceiveMessage(args.fd(), msg, args.get<int>(2)));
}

Outcome CallRecvmmsg(const Args& args) {
  const int fd = args.fd();
  auto* msgs = args.get<mmsghdr*>(1);
  const auto count = args.get<unsigned>(2);
  const int flags = args.get<int>(3);
  auto* timeout = args.get<timespec*>(4);
  if (!IsPointer(msgs)) return kPass;
  HijackedFd hijacked;
  if (Identify(fd, &hijacked)) {
    if (const long error = CheckTimeout(timeout); error != 0) return Done(error);
    return Done(ReceiveMessages(fd, msgs, count, flags, timeout));
  }
  const long r = RawSyscall(SYS_recvmmsg, fd, msgs, count, flags, timeout);
  for (long i = 0; i < r; ++i) ForgetReceived(&msgs[i].msg_hdr);
  return Done(r);
}

}  // namespace rump::hijack
