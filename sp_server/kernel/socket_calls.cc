// System calls that make, name, connect and configure sockets.
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "protocol/syscalls.h"
#include "sp_server/kernel/address_args.h"
#include "sp_server/kernel/kernel.h"
#include "sp_server/kernel/syscalls.h"

namespace rump {
namespace {

// setsockopt(2) of more than this has no option that it could be for.
constexpr uint64_t kMaxOption = 4096;
constexpr int kTypeFlags = SOCK_NONBLOCK | SOCK_CLOEXEC;

struct SocketArg {
  FileArg file;
  Socket* socket;
};

Result<SocketArg> GetSocket(CallContext& context) {
  Result<FileArg> file = GetFile(context, context.arg(0));
  if (!file.ok()) return file.error();
  Socket* socket = file->file->AsSocket();
  if (socket == nullptr) return Errno(ENOTSOCK);
  return SocketArg{*std::move(file), socket};
}

Result<uint64_t> Plain(Errno error) {
  if (!error.ok()) return error;
  return uint64_t{0};
}

SyscallTask Accept(CallContext& context, int flags) {
  if ((flags & ~kTypeFlags) != 0) co_return Errno(EINVAL);
  Result<SocketArg> arg = GetSocket(context);
  if (!arg.ok()) co_return arg.error();
  // A program accepts from its end of the pair; see RunListening.
  if (arg->file.object != nullptr) co_return Errno(EOPNOTSUPP);
  AddressRoom room;
  const Errno copied = co_await CopyInAddressRoom(context, context.arg(1), context.arg(2), &room);
  if (!copied.ok()) co_return copied;
  SocketAddress peer;
  std::optional<Deadline> deadline;
  for (;;) {
    // A connection that there is no descriptor for stays in the queue.
    if (const Errno full = context.process().fds.CheckRoom(); !full.ok()) co_return full;
    Result<std::shared_ptr<Socket>> accepted = arg->socket->Accept(&peer);
    if (accepted.ok()) {
      (*accepted)->set_flags(O_RDWR | ((flags & SOCK_NONBLOCK) != 0 ? O_NONBLOCK : 0));
      const Result<int> fd =
          context.process().fds.Add(*std::move(accepted), (flags & SOCK_CLOEXEC) != 0);
      if (!fd.ok()) co_return fd.error();
      CopyOutAddress(context, peer, room);
      co_return static_cast<uint64_t>(*fd);
    }
    if (accepted.error() != Errno(EAGAIN)) co_return accepted.error();
    if (!deadline) deadline = SocketDeadline(*arg->socket, SO_RCVTIMEO);
    const Errno waited =
        co_await WaitFor(context, arg->file, POLLIN, arg->file.may_block(), *deadline);
    if (!waited.ok()) co_return waited;
  }
}

SyscallTask CopyOutName(CallContext& context, Result<SocketAddress> name) {
  if (!name.ok()) co_return name.error();
  AddressRoom room;
  const Errno error = co_await CopyInAddressRoom(context, context.arg(1), context.arg(2), &room);
  if (error.ok()) CopyOutAddress(context, *name, room);
  co_return Plain(error);
}

}  // namespace

SyscallTask SysSocket(CallContext& context) {
  const int type = context.int_arg(1);
  Result<std::shared_ptr<Socket>> socket =
      context.kernel().families().Create(context.int_arg(0), type & ~kTypeFlags, context.int_arg(2),
                                         O_RDWR | ((type & SOCK_NONBLOCK) != 0 ? O_NONBLOCK : 0));
  if (!socket.ok()) co_return socket.error();
  const Result<int> fd = context.process().fds.Add(*std::move(socket), (type & SOCK_CLOEXEC) != 0);
  if (!fd.ok()) co_return fd.error();
  co_return static_cast<uint64_t>(*fd);
}

SyscallTask SysSocketpair(CallContext& context) {
  const int type = context.int_arg(1);
  std::shared_ptr<Socket> ends[2];
  for (std::shared_ptr<Socket>& end : ends) {
    Result<std::shared_ptr<Socket>> socket = context.kernel().families().Create(
        context.int_arg(0), type & ~kTypeFlags, context.int_arg(2),
        O_RDWR | ((type & SOCK_NONBLOCK) != 0 ? O_NONBLOCK : 0));
    if (!socket.ok()) co_return socket.error();
    end = *std::move(socket);
    end->set_user(context.process().pid);
  }
  const Errno error = ends[0]->ConnectPair(*ends[1]);
  if (!error.ok()) co_return error;
  const auto fds = context.process().fds.AddPair(ends[0], ends[1], (type & SOCK_CLOEXEC) != 0);
  if (!fds.ok()) co_return fds.error();
  CopyOutObject(context, context.arg(3), *fds);
  co_return uint64_t{0};
}

SyscallTask SysBind(CallContext& context) {
  Result<SocketArg> arg = GetSocket(context);
  if (!arg.ok()) co_return arg.error();
  SocketAddress address;
  const Errno copied = co_await CopyInAddress(context, context.arg(1), context.arg(2), &address);
  if (!copied.ok()) co_return copied;
  Errno error = arg->socket->Bind(address);
  if (error == Errno(EADDRINUSE)) {
    // The port may be that of a program that has just ended, whose hang-up is still to be read. All
    // calls that want to know are answered by one look, in the turn after the one that they came
    // in.
    co_await NextTurn(context, context.kernel().loop());
    context.kernel().objects().SweepFinished();
    error = arg->socket->Bind(address);
  }
  co_return Plain(error);
}

SyscallTask SysListen(CallContext& context) {
  Result<SocketArg> arg = GetSocket(context);
  if (!arg.ok()) co_return arg.error();
  arg->socket->set_user(context.process().pid);
  HostSocket* object = arg->file.object.get();
  const int backlog = context.int_arg(1);
  co_return Plain(object != nullptr ? object->Listen(backlog) : arg->socket->Listen(backlog));
}

SyscallTask SysAccept(CallContext& context) { return Accept(context, 0); }

SyscallTask SysAccept4(CallContext& context) { return Accept(context, context.int_arg(3)); }

SyscallTask SysConnect(CallContext& context) {
  Result<SocketArg> arg = GetSocket(context);
  if (!arg.ok()) co_return arg.error();
  SocketAddress address;
  const Errno copied = co_await CopyInAddress(context, context.arg(1), context.arg(2), &address);
  if (!copied.ok()) co_return copied;
  if (arg->file.object != nullptr) {
    co_return Plain(arg->file.object->Connect(address, /*flags=*/0).error());
  }
  arg->socket->set_user(context.process().pid);
  const Deadline deadline = SocketDeadline(*arg->socket, SO_SNDTIMEO);
  Errno error = arg->socket->Connect(address);
  const bool may_block = arg->file.may_block();
  while (error == Errno(EAGAIN) && may_block) {
    const Errno waited = co_await WaitFor(context, arg->file, POLLOUT, may_block, deadline);
    if (!waited.ok()) co_return waited;
    error = arg->socket->Connect(address);
  }
  if (error != Errno(EINPROGRESS) || !may_block) co_return Plain(error);
  const Errno waited = co_await WaitFor(context, arg->file, POLLOUT, may_block, deadline);
  if (waited == Errno(EAGAIN)) co_return Errno(EINPROGRESS);
  co_return Plain(waited.ok() ? arg->socket->TakeError() : waited);
}

SyscallTask SysGetsockname(CallContext& context) {
  Result<SocketArg> arg = GetSocket(context);
  if (!arg.ok()) co_return arg.error();
  co_return co_await CopyOutName(context, arg->socket->LocalAddress());
}

SyscallTask SysGetpeername(CallContext& context) {
  Result<SocketArg> arg = GetSocket(context);
  if (!arg.ok()) co_return arg.error();
  co_return co_await CopyOutName(context, arg->socket->PeerAddress());
}

SyscallTask SysSetsockopt(CallContext& context) {
  Result<SocketArg> arg = GetSocket(context);
  if (!arg.ok()) co_return arg.error();
  const uint64_t size = context.arg(4);
  if (size > kMaxOption) co_return Errno(EINVAL);
  Share memory(context.kernel().memory());
  if (!memory.Grow(size)) co_return Errno(ENOMEM);
  std::vector<std::byte> value(size);
  const Errno copied = co_await CopyInBytes(context, context.arg(3), value);
  if (!copied.ok()) co_return copied;
  const int level = context.int_arg(1);
  const int name = context.int_arg(2);
  const Errno set = arg->socket->SetOption(level, name, value);
  if (set.ok() && context.arg(0) >= kFirstObjectId && level == SOL_SOCKET &&
      (name == SO_RCVBUF || name == SO_RCVBUFFORCE)) {
    if (auto object = GetObject(context, context.arg(0)); object.ok()) {
      (*object)->ReceiveBufferSet();
    }
  }
  co_return Plain(set);
}

SyscallTask SysGetsockopt(CallContext& context) {
  Result<SocketArg> arg = GetSocket(context);
  if (!arg.ok()) co_return arg.error();
  int32_t room = 0;
  const Errno copied = co_await CopyInObject(context, context.arg(4), &room);
  if (!copied.ok()) co_return copied;
  if (room < 0) co_return Errno(EINVAL);
  std::vector<std::byte> value(std::min<uint64_t>(room, kMaxOption));
  const Result<size_t> n = arg->socket->GetOption(context.int_arg(1), context.int_arg(2), value);
  if (!n.ok()) co_return n.error();
  context.call().CopyOut(context.arg(3), std::span(value).first(*n));
  CopyOutObject(context, context.arg(4), static_cast<int32_t>(*n));
  co_return uint64_t{0};
}

SyscallTask SysShutdown(CallContext& context) {
  Result<SocketArg> arg = GetSocket(context);
  if (!arg.ok()) co_return arg.error();
  co_return Plain(arg->socket->Shutdown(context.int_arg(1)));
}

}  // namespace rump
