#include "sp_server/kernel/syscalls.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <utility>
#include <vector>

#include "protocol/frame.h"
#include "protocol/syscalls.h"
#include "sp_server/kernel/kernel.h"
#include "sp_server/kernel/time_args.h"
#include "sp_server/kernel/waits.h"

namespace rump {
namespace {

struct HandlerEntry {
  uint32_t number;
  SyscallHandler handler;
};

constexpr HandlerEntry kHandlers[] = {
    {SYS_read, SysRead},
    {SYS_write, SysWrite},
    {SYS_close, SysClose},
    {SYS_ioctl, SysIoctl},
    {SYS_readv, SysReadv},
    {SYS_writev, SysWritev},
    {SYS_pipe, SysPipe},
    {SYS_poll, SysPoll},
    {SYS_pread64, SysPositioned},
    {SYS_pwrite64, SysPositioned},
    {SYS_select, SysSelect},
    {SYS_dup, SysDup},
    {SYS_nanosleep, SysNanosleep},
    {SYS_socketpair, SysSocketpair},
    {SYS_kill, SysKill},
    {SYS_uname, SysUname},
    {SYS_sethostname, SysSethostname},
    {SYS_epoll_create, SysEpollCreate},
    {SYS_clock_nanosleep, SysClockNanosleep},
    {SYS_epoll_wait, SysEpollWait},
    {SYS_epoll_ctl, SysEpollCtl},
    {SYS_pselect6, SysPselect6},
    {SYS_ppoll, SysPpoll},
    {SYS_epoll_pwait, SysEpollPwait},
    {SYS_epoll_create1, SysEpollCreate1},
    {SYS_preadv, SysPositioned},
    {SYS_pwritev, SysPositioned},
    {SYS_recvmmsg, SysRecvmmsg},
    {SYS_sendmmsg, SysSendmmsg},
    {SYS_dup2, SysDup2},
    {SYS_getpid, SysGetpid},
    {SYS_socket, SysSocket},
    {SYS_connect, SysConnect},
    {SYS_accept, SysAccept},
    {SYS_sendto, SysSendto},
    {SYS_recvfrom, SysRecvfrom},
    {SYS_sendmsg, SysSendmsg},
    {SYS_recvmsg, SysRecvmsg},
    {SYS_shutdown, SysShutdown},
    {SYS_bind, SysBind},
    {SYS_listen, SysListen},
    {SYS_getsockname, SysGetsockname},
    {SYS_getpeername, SysGetpeername},
    {SYS_setsockopt, SysSetsockopt},
    {SYS_getsockopt, SysGetsockopt},
    {SYS_fcntl, SysFcntl},
    {SYS_getppid, SysGetppid},
    {SYS_accept4, SysAccept4},
    {SYS_dup3, SysDup3},
    {SYS_pipe2, SysPipe2},
    {kSysHostSocket, SysHostSocket},
    {kSysHostConnect, SysHostConnect},
    {kSysHostConnectAbandon, SysHostConnectAbandon},
    {kSysHostRelease, SysHostRelease},
    {kSysHostProve, SysHostProve},
    {kSysHostUrgent, SysHostUrgent},
    {kSysQuery, SysQuery},
    {kSysHalt, SysHalt},
    {kSysTrace, SysTrace},
    {kSysHostSendBuffer, SysHostSendBuffer},
    {kSysHostConnectFill, SysHostConnectFill},
};

// By the rows of the table of system calls; nullptr for one that has none.
const std::vector<SyscallHandler>& HandlersByRow() {
  static const auto& handlers = []() -> auto& {
    auto& by_row = *new std::vector<SyscallHandler>(AllSyscalls().size());
    for (const HandlerEntry& entry : kHandlers) {
      const SyscallSpec* const row = FindSyscall(entry.number);
      if (row != nullptr) by_row[row - AllSyscalls().data()] = entry.handler;
    }
    return by_row;
  }
  ();
  return handlers;
}

SyscallHandler HandlerOf(const SyscallSpec* row) {
  return row == nullptr ? nullptr : HandlersByRow()[row - AllSyscalls().data()];
}

}  // namespace

SyscallHandler FindHandler(uint32_t number) { return HandlerOf(FindSyscall(number)); }

void RunningCall::Start(std::unique_ptr<RunningCall> call) {
  BuiltinKernel& kernel = call->kernel();
  const uint32_t number = call->call().number();
  const SyscallSpec* const spec = kernel.Offers(number) ? FindSyscall(number) : nullptr;
  const SyscallHandler handler = HandlerOf(spec);
  RunningCall* const running = call.release();
  running->count_ = &kernel.CountOf(spec);
  ++running->count_->calls;
  if (handler == nullptr) return running->OnDone(Errno(ENOSYS));
  if (running->call().nargs() < spec->nargs) return running->OnDone(Errno(EINVAL));
  handler(*running).Start(running);
}

void RunningCall::OnDone(Result<uint64_t> result) {
  const std::unique_ptr<RunningCall> ends(this);
  if (!result.ok()) ++count_->failed;
  call().Complete(result.error(), result.ok() ? *result : 0, 0);
}

Result<std::shared_ptr<HostSocket>> GetObject(CallContext& context, uint64_t id) {
  auto& allowed = context.process().objects;
  const auto it = allowed.find(id);
  if (it == allowed.end()) return Errno(EBADF);
  std::shared_ptr<HostSocket> object = context.kernel().objects().Find(id);
  if (object == nullptr || object->c_cookie() != it->second) {
    allowed.erase(it);
    return Errno(EBADF);
  }
  return object;
}

Result<FileArg> GetFile(CallContext& context, uint64_t fd) {
  if (fd >= kFirstObjectId && static_cast<int64_t>(fd) >= 0) {
    Result<std::shared_ptr<HostSocket>> object = GetObject(context, fd);
    if (!object.ok()) return object.error();
    return FileArg{(*object)->socket_ptr(), *object};
  }
  Result<std::shared_ptr<File>> file = context.process().fds.Get(DescriptorIn(fd));
  if (!file.ok()) return file.error();
  return FileArg{*file, nullptr};
}

Task<Errno> CopyInBytes(CallContext& context, uint64_t addr, std::span<std::byte> destination) {
  while (!destination.empty()) {
    const std::span<std::byte> chunk = destination.first(std::min(destination.size(), kMaxCopy));
    const Errno error = co_await CopyIn(context, context.kernel().loop(), addr, chunk);
    if (!error.ok()) co_return error;
    addr += chunk.size();
    destination = destination.subspan(chunk.size());
  }
  co_return kOk;
}

std::span<std::byte> ScratchBuffer() {
  static auto& buffer = *new std::vector<std::byte>(kMaxCopy);
  return buffer;
}

Task<Errno> WaitFor(CallContext& context, const FileArg& arg, uint32_t mask, bool may_block,
                    Deadline deadline) {
  if (!may_block) co_return Errno(EAGAIN);
  co_return co_await Readiness(context, context.kernel().loop(), *arg.file, mask, deadline);
}

Deadline SocketDeadline(Socket& socket, int option) {
  timeval timeout{};
  (void)socket.GetOption(SOL_SOCKET, option, std::as_writable_bytes(std::span(&timeout, 1)));
  // To socket(7) a zero is no timeout, and nor is, in effect, anything negative.
  if (timeout.tv_sec <= 0 && timeout.tv_usec <= 0) return kNever;
  constexpr int64_t kNanosecondsPerMicrosecond = 1000;
  return DeadlineAfter(
      {.seconds = timeout.tv_sec, .nanoseconds = timeout.tv_usec * kNanosecondsPerMicrosecond});
}

}  // namespace rump
