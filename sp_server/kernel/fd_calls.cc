// System calls on file descriptors of any kind.
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "protocol/frame.h"
#include "protocol/syscalls.h"
#include "sp_server/kernel/call_memory.h"
#include "sp_server/kernel/io_vectors.h"
#include "sp_server/kernel/kernel.h"
#include "sp_server/kernel/pipe.h"
#include "sp_server/kernel/sigio.h"
#include "sp_server/kernel/socket_data.h"
#include "sp_server/kernel/syscalls.h"

namespace rump {
namespace {

// Bytes of a write that are copied in and handed to the file at a time.
constexpr size_t kWriteChunk = 64 * 1024;
// Bytes of a list of interfaces.
constexpr size_t kMaxInterfaceList = 64 * 1024;
// F_SETFL changes these and ignores the rest.
constexpr int kSettableFlags = O_NONBLOCK | O_APPEND | O_ASYNC;

SyscallTask ReadFile(CallContext& context, FileArg arg, ClientBuffers buffers) {
  if (arg.file->AsSocket() != nullptr) {
    co_return co_await ReceiveData(context, arg, std::move(buffers), 0, nullptr);
  }
  for (;;) {
    const Errno room = co_await OutputRoom(context, context.kernel().loop());
    if (!room.ok()) co_return room;
    const size_t size = std::min<uint64_t>(buffers.left(), ScratchBuffer().size());
    const Result<size_t> n = arg.file->Read(ScratchBuffer().first(size));
    if (n.ok()) {
      buffers.Put(context, ScratchBuffer().first(*n));
      co_return uint64_t{*n};
    }
    if (n.error() != Errno(EAGAIN)) co_return n.error();
    const Errno waited = co_await WaitFor(context, arg, POLLIN, arg.may_block());
    if (!waited.ok()) co_return waited;
  }
}

// The next bytes of a write to a file that would take some.
Task<Errno> CopyInChunk(CallContext& context, const FileArg& arg, const ClientBuffers& buffers,
                        CallBuffer* chunk) {
  // Where nothing can be written, nothing is copied.
  if (const Result<size_t> none = arg.file->Write({}); !none.ok()) co_return none.error();
  chunk->Resize(std::min<uint64_t>(buffers.left(), kWriteChunk));
  co_return co_await buffers.Peek(context, chunk->bytes());
}

SyscallTask WriteFile(CallContext& context, FileArg arg, ClientBuffers buffers) {
  if (arg.file->AsSocket() != nullptr) {
    co_return co_await SendData(context, arg, std::move(buffers), nullptr, 0);
  }
  if (buffers.left() == 0) {
    // Nothing can be written to a pipe that nobody reads, too.
    const Errno error = arg.file->Write({}).error();
    co_return error.ok() || error == Errno(EPIPE) ? Result(uint64_t{0}) : error;
  }
  CallBuffer chunk(context.process());
  size_t written = 0;  // of chunk
  while (buffers.left() > 0) {
    Errno error;
    std::span<const std::byte> next = chunk.bytes().subspan(written);
    const bool in_chunk = !next.empty();
    if (!in_chunk) {
      next = buffers.InRequest(context, std::min<uint64_t>(buffers.left(), kWriteChunk));
    }
    if (next.empty()) {
      written = 0;
      error = co_await CopyInChunk(context, arg, buffers, &chunk);
      if (error.ok()) continue;
    } else {
      const Result<size_t> n = in_chunk || next.size() < Call::kWorthKeeping
                                   ? arg.file->Write(next)
                                   : arg.file->WriteKept(next, context.call().KeepRequest());
      if (n.ok()) {
        if (in_chunk) written += *n;
        buffers.Pass(*n);
        continue;
      }
      error = n.error();
    }
    if (error == Errno(EPIPE)) context.call().Raise(SIGPIPE);
    if (error == Errno(EAGAIN)) error = co_await WaitFor(context, arg, POLLOUT, arg.may_block());
    if (!error.ok()) co_return buffers.passed() > 0 ? Result(buffers.passed()) : error;
  }
  co_return buffers.passed();
}

using MoveFile = SyscallTask (*)(CallContext& context, FileArg arg, ClientBuffers buffers);

SyscallTask Fail(Errno error) { co_return error; }

// read(2) or write(2). No coroutine of its own, as there is one of these for every few bytes.
SyscallTask MoveBuffer(CallContext& context, MoveFile move) {
  Result<FileArg> arg = GetFile(context, context.arg(0));
  if (!arg.ok()) return Fail(arg.error());
  return move(context, *std::move(arg), ClientBuffers(context.arg(1), context.arg(2)));
}

// readv(2) or writev(2), of which `move` is what read(2) or write(2) do.
SyscallTask MoveVectors(CallContext& context, MoveFile move) {
  Result<FileArg> arg = GetFile(context, context.arg(0));
  if (!arg.ok()) co_return arg.error();
  Result<ClientBuffers> buffers =
      co_await ClientBuffers::FromIovecs(context, context.arg(1), context.arg(2));
  if (!buffers.ok()) co_return buffers.error();
  // Vectors without bytes are no datagram either, unlike for sendmsg(2) and recvmsg(2).
  if (buffers->left() == 0) co_return uint64_t{0};
  co_return co_await move(context, *std::move(arg), *std::move(buffers));
}

Result<uint64_t> Duplicate(CallContext& context, int fd, int min, bool close_on_exec) {
  Result<std::shared_ptr<File>> file = context.process().fds.Get(fd);
  if (!file.ok()) return file.error();
  const Result<int> copy = context.process().fds.Add(*file, close_on_exec, min);
  if (!copy.ok()) return copy.error();
  return static_cast<uint64_t>(*copy);
}

Result<uint64_t> DuplicateTo(CallContext& context, int from, int to, bool close_on_exec) {
  Result<std::shared_ptr<File>> file = context.process().fds.Get(from);
  if (!file.ok()) return file.error();
  const Errno error = context.process().fds.Set(to, *file, close_on_exec);
  if (!error.ok()) return error;
  return static_cast<uint64_t>(to);
}

SyscallTask MakePipeFds(CallContext& context, int flags) {
  if ((flags & ~(O_NONBLOCK | O_CLOEXEC)) != 0) co_return Errno(EINVAL);
  auto [reader, writer] = MakePipe(flags & O_NONBLOCK, context.kernel().memory());
  const auto fds =
      context.process().fds.AddPair(std::move(reader), std::move(writer), (flags & O_CLOEXEC) != 0);
  if (!fds.ok()) co_return fds.error();
  CopyOutObject(context, context.arg(0), *fds);
  co_return uint64_t{0};
}

// SIOCGIFCONF, whose argument names memory in turn.
SyscallTask ListInterfaces(CallContext& context, const FileArg& arg) {
  ifconf header;
  if (const Errno error = co_await CopyInObject(context, context.arg(2), &header); !error.ok()) {
    co_return error;
  }
  if (header.ifc_len < 0) co_return Errno(EINVAL);
  const size_t room = std::min<size_t>(header.ifc_len, kMaxInterfaceList);
  std::vector<std::byte> memory(sizeof header + room);
  memcpy(memory.data(), &header, sizeof header);
  if (const Errno error = arg.file->Ioctl(SIOCGIFCONF, memory); !error.ok()) co_return error;
  const auto to = reinterpret_cast<uint64_t>(header.ifc_buf);
  memcpy(&header, memory.data(), sizeof header);
  const auto size = static_cast<size_t>(header.ifc_len);
  if (to != 0) context.call().CopyOut(to, std::span(memory).subspan(sizeof header, size));
  // The pointer stays the client's.
  CopyOutObject(context, context.arg(2), header.ifc_len);
  co_return uint64_t{0};
}

}  // namespace

SyscallTask SysRead(CallContext& context) { return MoveBuffer(context, ReadFile); }

SyscallTask SysWrite(CallContext& context) { return MoveBuffer(context, WriteFile); }

SyscallTask SysReadv(CallContext& context) { return MoveVectors(context, ReadFile); }

SyscallTask SysWritev(CallContext& context) { return MoveVectors(context, WriteFile); }

SyscallTask SysClose(CallContext& context) {
  const Errno error = context.process().fds.Close(context.fd_arg(0));
  if (!error.ok()) co_return error;
  co_return uint64_t{0};
}

SyscallTask SysDup(CallContext& context) {
  co_return Duplicate(context, context.fd_arg(0), 0, /*close_on_exec=*/false);
}

SyscallTask SysDup2(CallContext& context) {
  const int from = context.fd_arg(0);
  const int to = context.fd_arg(1);
  if (from == to) {
    const Result<std::shared_ptr<File>> file = context.process().fds.Get(from);
    if (!file.ok()) co_return file.error();
    co_return static_cast<uint64_t>(to);
  }
  co_return DuplicateTo(context, from, to, /*close_on_exec=*/false);
}

SyscallTask SysDup3(CallContext& context) {
  const int from = context.fd_arg(0);
  const int to = context.fd_arg(1);
  const int flags = context.int_arg(2);
  if ((flags & ~O_CLOEXEC) != 0 || from == to) co_return Errno(EINVAL);
  co_return DuplicateTo(context, from, to, (flags & O_CLOEXEC) != 0);
}

SyscallTask SysFcntl(CallContext& context) {
  FdTable& fds = context.process().fds;
  const int fd = context.fd_arg(0);
  const Result<std::shared_ptr<File>> file = fds.Get(fd);
  if (!file.ok()) co_return file.error();
  const int value = context.int_arg(2);
  switch (context.int_arg(1)) {
    case F_DUPFD:
      co_return Duplicate(context, fd, value, /*close_on_exec=*/false);
    case F_DUPFD_CLOEXEC:
      co_return Duplicate(context, fd, value, /*close_on_exec=*/true);
    case F_GETFD:
      co_return uint64_t{*fds.CloseOnExec(fd) ? FD_CLOEXEC : 0U};
    case F_SETFD:
      (void)fds.SetCloseOnExec(fd, (value & FD_CLOEXEC) != 0);
      co_return uint64_t{0};
    case F_GETFL:
      co_return static_cast<uint64_t>((*file)->flags());
    case F_SETFL:
      SetFlags(context.kernel(), **file,
               ((*file)->flags() & ~kSettableFlags) | (value & kSettableFlags));
      co_return uint64_t{0};
    case F_GETOWN:
      co_return static_cast<uint64_t>((*file)->owner());
    case F_SETOWN: {
      const Errno error = SetOwner(context.kernel(), **file, value);
      if (!error.ok()) co_return error;
      co_return uint64_t{0};
    }
    default:
      co_return Errno(EINVAL);
  }
}

SyscallTask SysIoctl(CallContext& context) {
  Result<FileArg> arg = GetFile(context, context.arg(0));
  if (!arg.ok()) co_return arg.error();
  const uint64_t request = context.arg(1);
  if (request == SIOCGIFCONF) co_return co_await ListInterfaces(context, *arg);
  CallMemory share(context.process());
  if (!share.Take(IoctlSize(request))) co_return Errno(ENOMEM);
  std::vector<std::byte> memory(IoctlSize(request));
  const Errno copied = co_await CopyInBytes(context, context.arg(2), memory);
  if (!copied.ok()) co_return copied;
  if (request == FIONBIO || request == FIOASYNC) {
    int on = 0;
    memcpy(&on, memory.data(), sizeof on);
    const int flag = request == FIONBIO ? O_NONBLOCK : O_ASYNC;
    const int flags = arg->file->flags();
    SetFlags(context.kernel(), *arg->file, on != 0 ? flags | flag : flags & ~flag);
    co_return uint64_t{0};
  }
  const Errno error = arg->file->Ioctl(request, memory);
  if (!error.ok()) co_return error;
  context.call().CopyOut(context.arg(2), memory);
  co_return uint64_t{0};
}

SyscallTask SysPositioned(CallContext& context) {
  if (static_cast<int64_t>(context.arg(3)) < 0) co_return Errno(EINVAL);
  const Result<FileArg> arg = GetFile(context, context.arg(0));
  co_return arg.ok() ? Errno(ESPIPE) : arg.error();
}

SyscallTask SysPipe(CallContext& context) { return MakePipeFds(context, 0); }

SyscallTask SysPipe2(CallContext& context) { return MakePipeFds(context, context.int_arg(1)); }

}  // namespace rump
