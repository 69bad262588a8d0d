// Dispatch of system calls, and the handlers by family.
#ifndef SP_SERVER_KERNEL_SYSCALLS_H_
#define SP_SERVER_KERNEL_SYSCALLS_H_

#include <stdint.h>

#include <memory>
#include <span>
#include <vector>

#include "protocol/errno.h"
#include "sp_server/kernel/host_socket.h"
#include "sp_server/kernel/process.h"
#include "sp_server/kernel/reports.h"
#include "sp_server/kernel/task.h"
#include "sp_server/kernel/waits.h"

namespace rump {

// A handler returns the call's first result, or its errno.
using SyscallTask = Task<Result<uint64_t>>;
using SyscallHandler = SyscallTask (*)(CallContext& context);

// The context of a call that its handler runs in.
class RunningCall final : public CallContext, private TaskSink<Result<uint64_t>> {
 public:
  using CallContext::CallContext;

  // Runs the call and completes it, now or when what it waits for has happened. Then its context is
  // gone.
  static void Start(std::unique_ptr<RunningCall> call);

 private:
  void OnDone(Result<uint64_t> result) override;

  CallCount* count_ = nullptr;
};

// The handler of `number`, nullptr if the kernel has none. Each row of protocol/syscalls.h has one.
SyscallHandler FindHandler(uint32_t number);

// What a file descriptor argument names.
struct FileArg {
  std::shared_ptr<File> file;
  // The host socket behind an object id, else nullptr. Calls on one never block: waiting is the
  // program's own call on its end C.
  std::shared_ptr<HostSocket> object;

  bool may_block() const { return object == nullptr && !file->nonblocking(); }
};
// EBADF: closed, or an object that the process has not proved to hold.
Result<FileArg> GetFile(CallContext& context, uint64_t fd);
// The same for an object id alone.
Result<std::shared_ptr<HostSocket>> GetObject(CallContext& context, uint64_t id);

// Copies a whole argument in.
Task<Errno> CopyInBytes(CallContext& context, uint64_t addr, std::span<std::byte> destination);
template <typename T>
Task<Errno> CopyInObject(CallContext& context, uint64_t addr, T* object) {
  return CopyInBytes(context, addr, std::as_writable_bytes(std::span(object, 1)));
}
template <typename T>
void CopyOutObject(CallContext& context, uint64_t addr, const T& object) {
  context.call().CopyOut(addr, std::as_bytes(std::span(&object, 1)));
}
// A buffer that bytes to copy out are gathered in; valid until the caller suspends.
std::span<std::byte> ScratchBuffer();

// Waits until `file` has one of `mask`'s POLL* bits: kOk; EAGAIN if the call may not wait, or not
// beyond the deadline; EINTR.
Task<Errno> WaitFor(CallContext& context, const FileArg& arg, uint32_t mask, bool may_block,
                    Deadline deadline = kNever);
// When a call that starts to wait on `socket` now has to end, by its SO_RCVTIMEO or SO_SNDTIMEO.
Deadline SocketDeadline(Socket& socket, int option);

// Descriptors: fd_calls.cc.
SyscallTask SysRead(CallContext& context);
SyscallTask SysWrite(CallContext& context);
SyscallTask SysReadv(CallContext& context);
SyscallTask SysWritev(CallContext& context);
SyscallTask SysClose(CallContext& context);
SyscallTask SysDup(CallContext& context);
SyscallTask SysDup2(CallContext& context);
SyscallTask SysDup3(CallContext& context);
SyscallTask SysFcntl(CallContext& context);
SyscallTask SysIoctl(CallContext& context);
SyscallTask SysPipe(CallContext& context);
SyscallTask SysPipe2(CallContext& context);
// pread64, pwrite64, preadv, pwritev: no file of this kernel has a position.
SyscallTask SysPositioned(CallContext& context);

// Waiting for several files: poll_calls.cc, epoll_calls.cc. The signal masks that some of them
// bring are checked and ignored: signals are the client's.
SyscallTask SysPoll(CallContext& context);
SyscallTask SysPpoll(CallContext& context);
SyscallTask SysSelect(CallContext& context);
SyscallTask SysPselect6(CallContext& context);
SyscallTask SysEpollCreate(CallContext& context);
SyscallTask SysEpollCreate1(CallContext& context);
SyscallTask SysEpollCtl(CallContext& context);
SyscallTask SysEpollWait(CallContext& context);
SyscallTask SysEpollPwait(CallContext& context);

// Processes: process_calls.cc.
SyscallTask SysGetpid(CallContext& context);
SyscallTask SysGetppid(CallContext& context);
SyscallTask SysKill(CallContext& context);

// The machine, as it were: system_calls.cc.
SyscallTask SysUname(CallContext& context);
SyscallTask SysSethostname(CallContext& context);
SyscallTask SysNanosleep(CallContext& context);
SyscallTask SysClockNanosleep(CallContext& context);

// Sockets: socket_calls.cc; the data calls among them: socket_data.cc.
SyscallTask SysSocket(CallContext& context);
SyscallTask SysSocketpair(CallContext& context);
SyscallTask SysBind(CallContext& context);
SyscallTask SysListen(CallContext& context);
SyscallTask SysAccept(CallContext& context);
SyscallTask SysAccept4(CallContext& context);
SyscallTask SysConnect(CallContext& context);
SyscallTask SysGetsockname(CallContext& context);
SyscallTask SysGetpeername(CallContext& context);
SyscallTask SysGetsockopt(CallContext& context);
SyscallTask SysSetsockopt(CallContext& context);
SyscallTask SysShutdown(CallContext& context);
SyscallTask SysSendto(CallContext& context);
SyscallTask SysRecvfrom(CallContext& context);
SyscallTask SysSendmsg(CallContext& context);
SyscallTask SysRecvmsg(CallContext& context);
SyscallTask SysSendmmsg(CallContext& context);
SyscallTask SysRecvmmsg(CallContext& context);

// Sockets behind descriptors of programs: host_calls.cc.
SyscallTask SysHostSocket(CallContext& context);
SyscallTask SysHostConnect(CallContext& context);
SyscallTask SysHostConnectAbandon(CallContext& context);
SyscallTask SysHostRelease(CallContext& context);
SyscallTask SysHostSendBuffer(CallContext& context);
SyscallTask SysHostConnectFill(CallContext& context);
SyscallTask SysHostProve(CallContext& context);
SyscallTask SysHostUrgent(CallContext& context);

// The server itself: control_calls.cc.
SyscallTask SysQuery(CallContext& context);
SyscallTask SysHalt(CallContext& context);
SyscallTask SysTrace(CallContext& context);

}  // namespace rump

#endif  // SP_SERVER_KERNEL_SYSCALLS_H_
