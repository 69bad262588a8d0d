#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <utility>

#include "hijack/calls.h"
#include "hijack/fd_cache.h"
#include "hijack/hijacked_fd.h"
#include "hijack/object_id.h"
#include "hijack/process_page.h"
#include "hijack/session.h"
#include "hijack/spare_socket.h"
#include "protocol/syscalls.h"
#include "rumpclient/core/connection.h"
#include "rumpclient/core/raw_syscall.h"
#include "rumpclient/core/signal_block.h"

namespace rump::hijack {
namespace {

using client::RawSyscall;

// Whether the server does not care what becomes of a number of `kind`. Without a connection there
// is nobody to tell: a program that only inherited a socket does not get one for closing it. A
// connected stream's end needs no words.
bool IsOfNoConcern(FdKind kind) {
  return kind == FdKind::kHost || IsConnected(kind) || !session.connected();
}

// What the server is told when a number is about to lose its descriptor. Ports must be free once
// close(2) has returned, while the kernel's own notice to the server may come later.
class Departure {
 public:
  explicit Departure(int fd) {
    if (!IsOfNoConcern(fd_cache.Get(fd)) && MayAsk()) object_ = ObjectOf(fd);
    // What a child on its parent's memory closes the parent still has.
    if (object_ > 0 && !OwnMemory()) object_ = 0;
    // Before the number is free, since another thread may get it at once.
    fd_cache.Forget(fd);
  }

  bool concerns_server() const { return object_ > 0; }

  void Report() const {
    if (concerns_server()) session.Request(-1, static_cast<uint64_t>(object_), kSysHostRelease);
  }

 private:
  long object_ = 0;
};

// kPass: the host may close `fd`, and nobody has to be told.
Outcome Close(int fd) {
  const Departure departure(fd);
  if (!departure.concerns_server()) return kPass;
  const long r = RawSyscall(SYS_close, fd);
  if (r == 0) departure.Report();
  return Done(r);
}

// `dup` gives `fd` the number `target`, too, which is not `fd`'s.
template <typename F>
long ReplaceBy(int target, F dup) {
  const Departure departure(target);
  const long r = dup();
  if (r >= 0) departure.Report();
  return r;
}

// The same where `target` is one of the numbers that the library's own descriptors have, or may
// get: none comes or goes meanwhile.
template <typename F>
long ReplaceHighBy(int fd, int target, F dup) {
  const client::SignalBlock block;
  SpareSocket::Hold spare(&session.spare());
  if (session.OwnsConnection(target)) {
    // What the program may not take does not make way: nothing would come in its place.
    rlimit limit = {};
    if (RawSyscall(SYS_getrlimit, RLIMIT_NOFILE, &limit) == 0 &&
        static_cast<rlim_t>(target) >= limit.rlim_cur) {
      return -EBADF;
    }
    // Else the move might give `fd` a meaning.
    if (const long flags = RawSyscall(SYS_fcntl, fd, F_GETFD); flags < 0) return flags;
    if (const long error = session.MoveConnection(block.before()); error != 0) return error;
  }
  const bool is_spare = target == session.spare().fd();
  const long r = ReplaceBy(target, dup);
  if (r >= 0 && is_spare) spare.Lose();
  return r;
}

template <typename F>
long DupOnto(int fd, int target, F dup) {
  if (fd == target) return dup();
  const bool high = target >= client::Connection::kHighFd || session.Owns(target);
  // A child on its parent's memory is about to exec, and the parent keeps its own descriptors.
  return high && OwnMemory() ? ReplaceHighBy(fd, target, dup) : ReplaceBy(target, dup);
}

// Whether `fd` is the host's, without asking the server. Duplicates of such may get any number:
// what is remembered of one that was closed behind our back is true of them, or is not trusted.
bool IsHost(int fd) {
  if (fd_cache.Get(fd) != FdKind::kUnknown) return fd_cache.IsHost(fd);
  if (!MayAsk()) return true;
  const uint8_t stamp = fd_cache.Stamp(fd);
  if (ObjectOf(fd) != 0) return false;
  if (OwnMemory()) fd_cache.Learn(fd, stamp, FdKind::kHost);
  return true;
}

long RememberNothing(long fd) {
  if (fd >= 0) fd_cache.Forget(static_cast<int>(fd));
  return fd;
}

long CloseRange(unsigned first, unsigned last, int flags) {
  if (first > last) return -EINVAL;
  if ((flags & CLOSE_RANGE_CLOEXEC) != 0) return RawSyscall(SYS_close_range, first, last, flags);
  const int highest = fd_cache.highest();
  for (int64_t fd = first; fd <= highest && fd <= int64_t{last}; ++fd) {
    const FdKind kind = fd_cache.Get(static_cast<int>(fd));
    if (kind > FdKind::kConnected) Close(static_cast<int>(fd));
  }
  fd_cache.ForgetRange(first, last);
  std::array<int, 2> own = session.own_fds();
  if (own[0] > own[1]) std::swap(own[0], own[1]);
  for (const int fd : own) {
    if (fd < 0 || static_cast<unsigned>(fd) < first || static_cast<unsigned>(fd) > last) continue;
    const auto kept = static_cast<unsigned>(fd);
    if (kept > first) {
      const long r = RawSyscall(SYS_close_range, first, kept - 1, flags);
      if (r != 0) return r;
    }
    if (kept == last) return 0;
    first = kept + 1;
  }
  return RawSyscall(SYS_close_range, first, last, flags);
}

}  // namespace

Outcome CallClose(const Args& args) { return Close(args.fd()); }

Outcome CallCloseRange(const Args& args) {
  return Done(CloseRange(args.get<unsigned>(0), args.get<unsigned>(1), args.get<int>(2)));
}

Outcome CallDup(const Args& args) {
  if (IsHost(args.fd())) return kPass;
  return Done(RememberNothing(RawSyscall(SYS_dup, args.fd())));
}

Outcome CallDup2(const Args& args) {
  const int fd = args.fd();
  const int target = args.get<int>(1);
  return Done(DupOnto(fd, target, [&] { return RawSyscall(SYS_dup2, fd, target); }));
}

Outcome CallDup3(const Args& args) {
  const int fd = args.fd();
  const int target = args.get<int>(1);
  const int flags = args.get<int>(2);
  // The host refuses it first of all, so nothing has to make way.
  if ((flags & ~O_CLOEXEC) != 0) return kPass;
  return Done(DupOnto(fd, target, [&] { return RawSyscall(SYS_dup3, fd, target, flags); }));
}

Outcome CallFcntl(const Args& args) {
  const int command = args.get<int>(1);
  if (command != F_DUPFD && command != F_DUPFD_CLOEXEC) return kPass;
  if (IsHost(args.fd())) return kPass;
  return Done(RememberNothing(RawSyscall(SYS_fcntl, args.fd(), command, args.get<long>(2))));
}

Outcome CallPidfdGetfd(const Args& args) {
  return Done(RememberNothing(
      RawSyscall(SYS_pidfd_getfd, args.fd(), args.get<int>(1), args.get<unsigned>(2))));
}

}  // namespace rump::hijack
