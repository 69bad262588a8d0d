#include <errno.h>
#include <linux/time_types.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>

#include <algorithm>

#include "hijack/calls.h"
#include "hijack/fd_cache.h"
#include "hijack/hijacked_fd.h"
#include "hijack/message.h"
#include "hijack/process_page.h"
#include "hijack/session.h"
#include "protocol/syscalls.h"
#include "rumpclient/core/raw_syscall.h"

namespace rump::hijack {
namespace {

using client::RawSyscall;

// Whether the program has given one buffer, or vectors, which may be anything: the kernel is to
// read them.
enum class Form { kBuffer, kVector };

// What a write that nobody will read ends with.
long BrokenPipe(long error, int flags) {
  if (error == -EPIPE && (flags & MSG_NOSIGNAL) == 0) {
    RawSyscall(SYS_tgkill, RawSyscall(SYS_getpid), RawSyscall(SYS_gettid), SIGPIPE);
  }
  return error;
}

long SendDatagram(const HijackedFd& hijacked, const msghdr* msg, int flags) {
  if (const long error = CheckMessage(*msg); error != 0) return error;
  const uint64_t request_flags = ToSlot(flags | MSG_DONTWAIT | MSG_NOSIGNAL);
  // A plain buffer needs fewer exchanges than a header that names it.
  if (msg->msg_iovlen != 1 || msg->msg_controllen != 0) {
    return hijacked.Request(SYS_sendmsg, {ToSlot(msg), request_flags});
  }
  const uint64_t name_len = msg->msg_name != nullptr ? msg->msg_namelen : 0;
  return hijacked.Request(SYS_sendto, {ToSlot(msg->msg_iov[0].iov_base), msg->msg_iov[0].iov_len,
                                       request_flags, ToSlot(msg->msg_name), name_len});
}

// Whether the other end of a stream has ended the connection, rather than the server with all of
// its own.
bool HasPeerLeft(int fd) {
  pollfd sockets[] = {{fd, 0, 0}, {session.own_fds()[0], 0, 0}};
  __kernel_timespec timeout = {};
  RawSyscall(SYS_ppoll, sockets, 2, &timeout, nullptr, 0);
  if ((sockets[0].revents & POLLHUP) == 0 || sockets[1].revents != 0) return false;
  HijackedFd hijacked;
  return session.connected() && Identify(fd, &hijacked) && IsServed(hijacked);
}

// The outcome of a first write that nobody will read: the error that came with the end, or success.
long FirstLostWrite(int fd, const msghdr& msg) {
  int error = 0;
  socklen_t len = sizeof error;
  RawSyscall(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &error, &len);
  size_t size = 0;
  for (size_t i = 0; i < msg.msg_iovlen; ++i) size += msg.msg_iov[i].iov_len;
  // The next write fails as C says, and nothing more will come to be read. What is empty gets to
  // nobody, so the peer does not say that it is gone.
  if ((error != 0 || size != 0) && OwnMemory()) fd_cache.Set(fd, FdKind::kReadShut);
  if (error != 0) return -long{error};
  return static_cast<long>(std::min(size, kMaxTransfer));
}

// Sends on a connected stream. TCP learns only by a write that the peer is gone, and so takes one
// more, while C says EPIPE at once; a program may not be ready for that before it has read the end.
Outcome SendOnStream(int fd, const msghdr& msg, int flags, Form form) {
  msghdr bare = {};
  bare.msg_iov = msg.msg_iov;
  bare.msg_iovlen = msg.msg_iovlen;
  const int quiet = flags | MSG_NOSIGNAL;
  const long r = form == Form::kBuffer ? RawSyscall(SYS_sendto, fd, msg.msg_iov->iov_base,
                                                    msg.msg_iov->iov_len, quiet, nullptr, 0)
                                       : RawSyscall(SYS_sendmsg, fd, &bare, quiet);
  // The number is the host's by now.
  if (r == -ENOTSOCK) return kPass;
  if (r == -EPIPE && HasPeerLeft(fd)) return Done(FirstLostWrite(fd, msg));
  return Done(BrokenPipe(r, flags));
}

// Sends where the bytes are not a stream's, or the stream takes none. kPass: they are the host's,
// or those of *hijacked, a connected stream.
Outcome SendOffStream(int fd, const msghdr* msg, int flags, HijackedFd* hijacked) {
  if (!Identify(fd, hijacked)) return kPass;
  switch (hijacked->kind) {
    case FdKind::kDatagram:
      return Done(BrokenPipe(SendDatagram(*hijacked, msg, flags), flags));
    case FdKind::kFresh:
      if (Settle(hijacked) != StreamState::kUnconnected) break;
      return Done(BrokenPipe(PendingError(*hijacked, EPIPE), flags));
    case FdKind::kListener:
      return Done(BrokenPipe(-EPIPE, flags));
    case FdKind::kUntold:
      SetKind(hijacked, FdKind::kConnected);
      break;
    default:
      break;
  }
  return kPass;
}

// Sends where the bytes are not the host's, or may be lost. kPass: they are the host's.
Outcome Send(int fd, const msghdr* msg, int flags, Form form, HijackedFd* hijacked) {
  const bool is_bare =
      msg->msg_name == nullptr && msg->msg_controllen == 0 && (flags & MSG_OOB) == 0;
  if (is_bare && fd_cache.Get(fd) == FdKind::kConnected && MaySend()) {
    return SendOnStream(fd, *msg, flags, form);
  }
  const Outcome outcome = SendOffStream(fd, msg, flags, hijacked);
  if (outcome.handled || hijacked->object == 0) return outcome;
  if ((flags & MSG_OOB) != 0) {
    // Only a server that expects it looks for urgent data.
    hijacked->Request(kSysHostUrgent);
  } else if (hijacked->kind == FdKind::kConnected && MaySend()) {
    return SendOnStream(fd, *msg, flags, form);
  }
  return kPass;
}

// A connected stream takes no address and no control data; descriptors above all must not get to
// the server.
Outcome SendMessage(int fd, const msghdr* msg, int flags) {
  HijackedFd hijacked;
  const Outcome outcome = Send(fd, msg, flags, Form::kVector, &hijacked);
  if (outcome.handled || hijacked.object == 0) return outcome;
  msghdr bare = {};
  bare.msg_iov = msg->msg_iov;
  bare.msg_iovlen = msg->msg_iovlen;
  return Done(RawSyscall(SYS_sendmsg, fd, &bare, flags));
}

Outcome SendBuffer(int fd, const void* buffer, size_t size, int flags) {
  BufferMessage msg(buffer, size, nullptr, 0);
  HijackedFd hijacked;
  return Send(fd, msg.header(), flags, Form::kBuffer, &hijacked);
}

}  // namespace

Outcome SendNothing(int fd) {
  const msghdr none = {};
  HijackedFd hijacked;
  return SendOffStream(fd, &none, 0, &hijacked);
}

Outcome SendVector(int fd, const iovec* iov, int count, int flags) {
  if (!IsVectorCount(count)) return kPass;
  const msghdr msg = VectorMessage(iov, count);
  HijackedFd hijacked;
  return Send(fd, &msg, flags, Form::kVector, &hijacked);
}

Outcome CallWrite(const Args& args) {
  // Unlike send(2), it does not take what is too much for less.
  if (args.slot[2] > SSIZE_MAX) return kPass;
  return SendBuffer(args.fd(), args.get<const void*>(1), args.slot[2], 0);
}

Outcome CallWritev(const Args& args) {
  return SendVector(args.fd(), args.get<const iovec*>(1), args.get<int>(2), 0);
}

Outcome CallSendto(const Args& args) {
  const int fd = args.fd();
  const auto* buffer = args.get<const void*>(1);
  const size_t size = args.slot[2];
  const int flags = args.get<int>(3);
  const auto* name = args.get<const sockaddr*>(4);
  if (name == nullptr) return SendBuffer(fd, buffer, size, flags);

  BufferMessage msg(buffer, size, name, args.get<socklen_t>(5));
  HijackedFd hijacked;
  const Outcome outcome = Send(fd, msg.header(), flags, Form::kBuffer, &hijacked);
  if (outcome.handled || hijacked.object == 0) return outcome;
  return Done(RawSyscall(SYS_sendto, fd, buffer, size, flags, nullptr, 0));
}

Outcome CallSendmsg(const Args& args) {
  const auto* msg = args.get<const msghdr*>(1);
  if (!IsPointer(msg)) return kPass;
  return SendMessage(args.fd(), msg, args.get<int>(2));
}

Outcome CallSendmmsg(const Args& args) {
  const int fd = args.fd();
  auto* msgs = args.get<mmsghdr*>(1);
  const auto count = args.get<unsigned>(2);
  HijackedFd hijacked;
  if (!IsPointer(msgs) || !Identify(fd, &hijacked)) return kPass;
  unsigned done = 0;
  while (done < count) {
    const Outcome outcome = SendMessage(fd, &msgs[done].msg_hdr, args.get<int>(3));
    // Another thread has given the number to a descriptor of the host.
    const long r = outcome.handled ? outcome.result : -EBADF;
    if (r < 0) return Done(done > 0 ? static_cast<long>(done) : r);
    msgs[done++].msg_len = static_cast<unsigned>(r);
  }
  return Done(done);
}

}  // namespace rump::hijack
