// System calls on epoll instances.
#include <limits.h>
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "sp_server/kernel/epoll.h"
#include "sp_server/kernel/kernel.h"
#include "sp_server/kernel/syscalls.h"
#include "sp_server/kernel/time_args.h"

namespace rump {
namespace {

// Linux's limit on what one call may ask for.
constexpr int kMaxEvents = INT_MAX / static_cast<int>(sizeof(epoll_event));
// Events that one call returns; a program asks again for the rest.
constexpr int kEventsPerCall = 4096;
constexpr uint64_t kSigsetSize = 8;

Result<std::shared_ptr<EpollFile>> GetEpoll(CallContext& context) {
  Result<std::shared_ptr<File>> file = context.process().fds.Get(context.fd_arg(0));
  if (!file.ok()) return file.error();
  auto epoll = std::dynamic_pointer_cast<EpollFile>(*file);
  if (epoll == nullptr) return Errno(EINVAL);
  return epoll;
}

Result<uint64_t> Create(CallContext& context, bool close_on_exec) {
  BuiltinKernel& kernel = context.kernel();
  const Result<int> fd = context.process().fds.Add(
      std::make_shared<EpollFile>(&kernel.loop(), kernel.memory()), close_on_exec);
  if (!fd.ok()) return fd.error();
  return static_cast<uint64_t>(*fd);
}

}  // namespace

SyscallTask SysEpollCreate(CallContext& context) {
  if (context.int_arg(0) <= 0) co_return Errno(EINVAL);
  co_return Create(context, /*close_on_exec=*/false);
}

SyscallTask SysEpollCreate1(CallContext& context) {
  const int flags = context.int_arg(0);
  if ((flags & ~EPOLL_CLOEXEC) != 0) co_return Errno(EINVAL);
  co_return Create(context, (flags & EPOLL_CLOEXEC) != 0);
}

SyscallTask SysEpollCtl(CallContext& context) {
  const int op = context.int_arg(1);
  const int fd = context.fd_arg(2);
  epoll_event event{};
  if (op != EPOLL_CTL_DEL) {
    const Errno copied = co_await CopyInObject(context, context.arg(3), &event);
    if (!copied.ok()) co_return copied;
  }
  const FdTable& fds = context.process().fds;
  const Result<std::shared_ptr<File>> first = fds.Get(context.fd_arg(0));
  if (!first.ok()) co_return first.error();
  const Result<std::shared_ptr<File>> file = fds.Get(fd);
  if (!file.ok()) co_return file.error();
  const Result<std::shared_ptr<EpollFile>> epoll = GetEpoll(context);
  if (!epoll.ok()) co_return epoll.error();
  if (*first == *file) co_return Errno(EINVAL);
  Errno error(EINVAL);
  switch (op) {
    case EPOLL_CTL_ADD:
      error = (*epoll)->Add(file->get(), fd, event);
      break;
    case EPOLL_CTL_MOD:
      // epoll_ctl(2): EPOLLEXCLUSIVE is for EPOLL_CTL_ADD alone.
      if ((event.events & EPOLLEXCLUSIVE) == 0) error = (*epoll)->Modify(file->get(), fd, event);
      break;
    case EPOLL_CTL_DEL:
      error = (*epoll)->Remove(file->get(), fd);
      break;
    default:
      break;
  }
  if (!error.ok()) co_return error;
  co_return uint64_t{0};
}

SyscallTask SysEpollWait(CallContext& context) {
  const int max = context.int_arg(2);
  if (max <= 0 || max > kMaxEvents) co_return Errno(EINVAL);
  const Result<std::shared_ptr<EpollFile>> epoll = GetEpoll(context);
  if (!epoll.ok()) co_return epoll.error();
  const int timeout = context.int_arg(3);
  const Deadline deadline = DeadlineAfterMilliseconds(timeout);
  std::vector<epoll_event> events;
  for (;;) {
    if ((*epoll)->Poll() != 0) {
      const Errno room = co_await OutputRoom(context, context.kernel().loop());
      if (!room.ok()) co_return room;
      events.resize(std::min(max, kEventsPerCall));
      if (const size_t n = (*epoll)->Collect(events); n > 0) {
        context.call().CopyOut(context.arg(1), std::as_bytes(std::span(events).first(n)));
        co_return uint64_t{n};
      }
    }
    if (timeout == 0) co_return uint64_t{0};
    const Errno waited =
        co_await Readiness(context, context.kernel().loop(), **epoll, POLLIN, deadline);
    if (waited == Errno(EAGAIN)) co_return uint64_t{0};
    if (!waited.ok()) co_return waited;
  }
}

SyscallTask SysEpollPwait(CallContext& context) {
  if (context.arg(4) != 0 && context.arg(5) != kSigsetSize) co_return Errno(EINVAL);
  co_return co_await SysEpollWait(context);
}

}  // namespace rump
