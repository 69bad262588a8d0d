#include "rump/rump_syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

#include <type_traits>

#include "rump/rumpclient.h"
#include "rumpclient/core/call.h"
#include "rumpclient/core/interruption.h"
#include "rumpclient/core/signal_block.h"
#include "rumpclient/process.h"

#define RUMPCLIENT_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

namespace client = rump::client;

// Bytes of the kernel's sigset_t, the first of glibc's.
constexpr size_t kSigsetSize = sizeof(client::SignalSet);

template <typename T>
uint64_t Slot(T value) {
  if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<uint64_t>(value);
  } else {
    return static_cast<uint64_t>(value);
  }
}

// The error number, or 0 with the result in *result.
template <uint32_t kNumber, typename... Args>
int Call(long* result, Args... args) {
  // One more than there are, so that a call without arguments has an array too.
  const uint64_t slots[sizeof...(Args) + 1] = {Slot(args)...};
  long retval[2];
  const int error = rumpclient_syscall(kNumber, slots, sizeof...(Args) * sizeof slots[0], retval);
  if (error == 0) *result = retval[0];
  return error;
}

template <typename Result, uint32_t kNumber, typename... Args>
Result Stub(Args... args) {
  long result = 0;
  if (const int error = Call<kNumber>(&result, args...); error != 0) {
    errno = error;
    return -1;
  }
  return static_cast<Result>(result);
}

template <uint32_t kNumber, typename... Args>
int IntStub(Args... args) {
  return Stub<int, kNumber>(args...);
}

template <uint32_t kNumber, typename... Args>
ssize_t SizeStub(Args... args) {
  return Stub<ssize_t, kNumber>(args...);
}

// Makes `call`, one that waits for descriptors, as ppoll(2), pselect(2) and epoll_pwait(2) have it:
// with `mask` instead of the thread's as long as nothing is ready. Returns its error.
int CallWithMask(client::Call* call, client::SignalSet mask) {
  const client::SignalBlock block;
  if (const int error = client::process.IssueBlocked(call, block, mask); error != 0) return error;
  if (call->error != 0 || call->retval[0] != 0) return call->error;
  if (call->interrupted) return EINTR;
  // The call had no time to wait, but those that `mask` lets in have their turn.
  const client::SignalSet arrived = client::ClaimPending(~mask);
  if (arrived == 0) return 0;
  const bool ends = client::EndsCall(arrived, call->number);
  client::SetSignalMask(mask);
  client::SetSignalMask(client::kAllSignals);
  return ends ? EINTR : 0;
}

// Signals are the client's business, so the server is not told of the mask.
template <uint32_t kNumber, typename... Args>
int MaskedStub(const sigset_t* mask, Args... args) {
  if (mask == nullptr) return IntStub<kNumber>(args...);
  client::Call call = {.number = kNumber, .nargs = sizeof...(Args), .args = {Slot(args)...}};
  client::SignalSet kernel_mask;
  memcpy(&kernel_mask, mask, sizeof kernel_mask);
  if (const int error = CallWithMask(&call, kernel_mask); error != 0) {
    errno = error;
    return -1;
  }
  return static_cast<int>(call.retval[0]);
}

constexpr const sigset_t* kNoMask = nullptr;

// The third argument of fcntl(2). What the caller did not pass is not read: it would be whatever a
// register held, and none of the server's business.
uint64_t FcntlArgument(int cmd, va_list args) {
  switch (cmd) {
    case F_GETFD:
    case F_GETFL:
    case F_GETOWN:
    case F_GETSIG:
    case F_GETLEASE:
    case F_GETPIPE_SZ:
    case F_GET_SEALS:
      return 0;
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
    case F_SETFD:
    case F_SETFL:
    case F_SETOWN:
    case F_SETSIG:
    case F_SETLEASE:
    case F_NOTIFY:
    case F_SETPIPE_SZ:
    case F_ADD_SEALS:
      return Slot(va_arg(args, int));
    default:
      return Slot(va_arg(args, void*));
  }
}

}  // namespace

// Reading and writing.

RUMPCLIENT_EXPORT ssize_t rump_sys_read(int fd, void* buf, size_t count) {
  return SizeStub<SYS_read>(fd, buf, count);
}

RUMPCLIENT_EXPORT ssize_t rump_sys_readv(int fd, const iovec* iov, int iovcnt) {
  return SizeStub<SYS_readv>(fd, iov, iovcnt);
}

RUMPCLIENT_EXPORT ssize_t rump_sys_pread(int fd, void* buf, size_t count, off_t offset) {
  return SizeStub<SYS_pread64>(fd, buf, count, offset);
}

// The kernel takes the offset in two halves, of which x86-64 puts all into the first.
RUMPCLIENT_EXPORT ssize_t rump_sys_preadv(int fd, const iovec* iov, int iovcnt, off_t offset) {
  return SizeStub<SYS_preadv>(fd, iov, iovcnt, offset, 0);
}

RUMPCLIENT_EXPORT ssize_t rump_sys_write(int fd, const void* buf, size_t count) {
  return SizeStub<SYS_write>(fd, buf, count);
}

RUMPCLIENT_EXPORT ssize_t rump_sys_writev(int fd, const iovec* iov, int iovcnt) {
  return SizeStub<SYS_writev>(fd, iov, iovcnt);
}

RUMPCLIENT_EXPORT ssize_t rump_sys_pwrite(int fd, const void* buf, size_t count, off_t offset) {
  return SizeStub<SYS_pwrite64>(fd, buf, count, offset);
}

RUMPCLIENT_EXPORT ssize_t rump_sys_pwritev(int fd, const iovec* iov, int iovcnt, off_t offset) {
  return SizeStub<SYS_pwritev>(fd, iov, iovcnt, offset, 0);
}

// Descriptors.

RUMPCLIENT_EXPORT int rump_sys_pipe(int fds[2]) { return IntStub<SYS_pipe>(fds); }

RUMPCLIENT_EXPORT int rump_sys_pipe2(int fds[2], int flags) {
  return IntStub<SYS_pipe2>(fds, flags);
}

RUMPCLIENT_EXPORT int rump_sys_close(int fd) { return IntStub<SYS_close>(fd); }

RUMPCLIENT_EXPORT int rump_sys_dup(int fd) { return IntStub<SYS_dup>(fd); }

RUMPCLIENT_EXPORT int rump_sys_dup2(int fd, int newfd) { return IntStub<SYS_dup2>(fd, newfd); }

RUMPCLIENT_EXPORT int rump_sys_dup3(int fd, int newfd, int flags) {
  return IntStub<SYS_dup3>(fd, newfd, flags);
}

RUMPCLIENT_EXPORT int rump_sys_fcntl(int fd, int cmd, ...) {
  va_list args;
  va_start(args, cmd);
  const uint64_t arg = FcntlArgument(cmd, args);
  va_end(args);
  return IntStub<SYS_fcntl>(fd, cmd, arg);
}

RUMPCLIENT_EXPORT int rump_sys_ioctl(int fd, unsigned long request, ...) {
  va_list args;
  va_start(args, request);
  void* const arg = va_arg(args, void*);
  va_end(args);
  return IntStub<SYS_ioctl>(fd, request, arg);
}

// Sockets.

RUMPCLIENT_EXPORT int rump_sys_socket(int domain, int type, int protocol) {
  return IntStub<SYS_socket>(domain, type, protocol);
}

RUMPCLIENT_EXPORT int rump_sys_socketpair(int domain, int type, int protocol, int fds[2]) {
  return IntStub<SYS_socketpair>(domain, type, protocol, fds);
}

RUMPCLIENT_EXPORT int rump_sys_bind(int fd, const sockaddr* addr, socklen_t addrlen) {
  return IntStub<SYS_bind>(fd, addr, addrlen);
}

RUMPCLIENT_EXPORT int rump_sys_listen(int fd, int backlog) {
  return IntStub<SYS_listen>(fd, backlog);
}

RUMPCLIENT_EXPORT int rump_sys_accept(int fd, sockaddr* addr, socklen_t* addrlen) {
  return IntStub<SYS_accept>(fd, addr, addrlen);
}

RUMPCLIENT_EXPORT int rump_sys_accept4(int fd, sockaddr* addr, socklen_t* addrlen, int flags) {
  return IntStub<SYS_accept4>(fd, addr, addrlen, flags);
}

RUMPCLIENT_EXPORT int rump_sys_connect(int fd, const sockaddr* addr, socklen_t addrlen) {
  return IntStub<SYS_connect>(fd, addr, addrlen);
}

RUMPCLIENT_EXPORT int rump_sys_shutdown(int fd, int how) { return IntStub<SYS_shutdown>(fd, how); }

RUMPCLIENT_EXPORT int rump_sys_getsockname(int fd, sockaddr* addr, socklen_t* addrlen) {
  return IntStub<SYS_getsockname>(fd, addr, addrlen);
}

RUMPCLIENT_EXPORT int rump_sys_getpeername(int fd, sockaddr* addr, socklen_t* addrlen) {
  return IntStub<SYS_getpeername>(fd, addr, addrlen);
}

RUMPCLIENT_EXPORT int rump_sys_getsockopt(int fd, int level, int name, void* value,
                                          socklen_t* size) {
  return IntStub<SYS_getsockopt>(fd, level, name, value, size);
}

RUMPCLIENT_EXPORT int rump_sys_setsockopt(int fd, int level, int name, const void* value,
                                          socklen_t size) {
  return IntStub<SYS_setsockopt>(fd, level, name, value, size);
}

// Messages.

RUMPCLIENT_EXPORT ssize_t rump_sys_sendto(int fd, const void* buf, size_t count, int flags,
                                          const sockaddr* addr, socklen_t addrlen) {
  return SizeStub<SYS_sendto>(fd, buf, count, flags, addr, addrlen);
}

RUMPCLIENT_EXPORT ssize_t rump_sys_recvfrom(int fd, void* buf, size_t count, int flags,
                                            sockaddr* addr, socklen_t* addrlen) {
  return SizeStub<SYS_recvfrom>(fd, buf, count, flags, addr, addrlen);
}

RUMPCLIENT_EXPORT ssize_t rump_sys_sendmsg(int fd, const msghdr* message, int flags) {
  return SizeStub<SYS_sendmsg>(fd, message, flags);
}

RUMPCLIENT_EXPORT ssize_t rump_sys_recvmsg(int fd, msghdr* message, int flags) {
  return SizeStub<SYS_recvmsg>(fd, message, flags);
}

RUMPCLIENT_EXPORT int rump_sys_sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  return IntStub<SYS_sendmmsg>(fd, messages, count, flags);
}

RUMPCLIENT_EXPORT int rump_sys_recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags,
                                        timespec* timeout) {
  return IntStub<SYS_recvmmsg>(fd, messages, count, flags, timeout);
}

// Waiting for several descriptors.

RUMPCLIENT_EXPORT int rump_sys_poll(pollfd* fds, nfds_t count, int timeout) {
  return IntStub<SYS_poll>(fds, count, timeout);
}

RUMPCLIENT_EXPORT int rump_sys_ppoll(pollfd* fds, nfds_t count, const timespec* timeout,
                                     const sigset_t* mask) {
  return MaskedStub<SYS_ppoll>(mask, fds, count, timeout, kNoMask, kSigsetSize);
}

RUMPCLIENT_EXPORT int rump_sys_select(int count, fd_set* readable, fd_set* writable,
                                      fd_set* exceptional, timeval* timeout) {
  return IntStub<SYS_select>(count, readable, writable, exceptional, timeout);
}

// pselect6(2)'s sixth argument, a pair of mask and size, may be missing like the mask.
RUMPCLIENT_EXPORT int rump_sys_pselect(int count, fd_set* readable, fd_set* writable,
                                       fd_set* exceptional, const timespec* timeout,
                                       const sigset_t* mask) {
  return MaskedStub<SYS_pselect6>(mask, count, readable, writable, exceptional, timeout, kNoMask);
}

RUMPCLIENT_EXPORT int rump_sys_epoll_create(int size) { return IntStub<SYS_epoll_create>(size); }

RUMPCLIENT_EXPORT int rump_sys_epoll_create1(int flags) {
  return IntStub<SYS_epoll_create1>(flags);
}

RUMPCLIENT_EXPORT int rump_sys_epoll_ctl(int epfd, int op, int fd, epoll_event* event) {
  return IntStub<SYS_epoll_ctl>(epfd, op, fd, event);
}

RUMPCLIENT_EXPORT int rump_sys_epoll_wait(int epfd, epoll_event* events, int count, int timeout) {
  return IntStub<SYS_epoll_wait>(epfd, events, count, timeout);
}

RUMPCLIENT_EXPORT int rump_sys_epoll_pwait(int epfd, epoll_event* events, int count, int timeout,
                                           const sigset_t* mask) {
  return MaskedStub<SYS_epoll_pwait>(mask, epfd, events, count, timeout, kNoMask, kSigsetSize);
}

// Time.

RUMPCLIENT_EXPORT int rump_sys_nanosleep(const timespec* duration, timespec* left) {
  return IntStub<SYS_nanosleep>(duration, left);
}

// clock_nanosleep(2) returns its error and leaves errno alone.
RUMPCLIENT_EXPORT int rump_sys_clock_nanosleep(clockid_t clock, int flags, const timespec* duration,
                                               timespec* left) {
  long result;
  return Call<SYS_clock_nanosleep>(&result, clock, flags, duration, left);
}

// Processes and the machine.

RUMPCLIENT_EXPORT pid_t rump_sys_getpid() { return Stub<pid_t, SYS_getpid>(); }

RUMPCLIENT_EXPORT pid_t rump_sys_getppid() { return Stub<pid_t, SYS_getppid>(); }

RUMPCLIENT_EXPORT int rump_sys_kill(pid_t pid, int signal) {
  return IntStub<SYS_kill>(pid, signal);
}

RUMPCLIENT_EXPORT int rump_sys_uname(utsname* name) { return IntStub<SYS_uname>(name); }

RUMPCLIENT_EXPORT int rump_sys_sethostname(const char* name, size_t size) {
  return IntStub<SYS_sethostname>(name, size);
}
