// The calls of the extension "hostfd": sockets behind descriptors of programs. All answer at once.
#include <sys/socket.h>

#include <utility>

#include "protocol/syscalls.h"
#include "sp_server/kernel/address_args.h"
#include "sp_server/kernel/host_buffers.h"
#include "sp_server/kernel/kernel.h"
#include "sp_server/kernel/syscalls.h"

namespace rump {
namespace {

bool IsCOf(const UniqueFd& c, const HostSocket& object) {
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  return c.valid() && getsockopt(c.get(), SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 &&
         cookie == object.c_cookie();
}

// A socket of the process, whose C comes with the response.
Result<std::shared_ptr<HostSocket>> AttachSocket(CallContext& context, int domain, int type,
                                                 int protocol) {
  BuiltinKernel& kernel = context.kernel();
  Result<std::shared_ptr<Socket>> socket = kernel.families().Create(domain, type, protocol, O_RDWR);
  if (!socket.ok()) return socket.error();
  Result<HostObjects::Created> created =
      kernel.objects().Create(*std::move(socket), context.process().objects_made,
                              /*sends_byte=*/!context.process().connects_directly);
  if (!created.ok()) return created.error();
  kernel.AllowObject(context.process(), created->object->id(), created->object->c_cookie());
  context.call().AttachFd(std::move(created->c));
  return std::move(created->object);
}

// What nobody waits for takes nothing that somebody will soon miss.
void AttachSpare(CallContext& context) {
  const int domain = context.int_arg(4);
  if (domain != AF_INET && domain != AF_INET6) return;
  if (!context.process().HasRoomForSpare() || !context.kernel().objects().HasRoomForSpare()) return;
  (void)AttachSocket(context, domain, SOCK_STREAM, 0);
}

}  // namespace

SyscallTask SysHostSocket(CallContext& context) {
  // What moves the bytes is made for connections of the TCP/IP stack and for datagrams.
  const int domain = context.int_arg(0);
  if (domain != AF_INET && domain != AF_INET6 && domain != AF_NETLINK) {
    co_return Errno(EAFNOSUPPORT);
  }
  const Result<std::shared_ptr<HostSocket>> object =
      AttachSocket(context, domain, context.int_arg(1), context.int_arg(2));
  if (!object.ok()) co_return object.error();
  co_return (*object)->id();
}

SyscallTask SysHostConnect(CallContext& context) {
  Result<std::shared_ptr<HostSocket>> object = GetObject(context, context.arg(0));
  if (!object.ok()) co_return object.error();
  SocketAddress address;
  if (const Errno error = co_await CopyInAddress(context, context.arg(1), context.arg(2), &address);
      !error.ok()) {
    co_return error;
  }
  const Result<uint64_t> connected = (*object)->Connect(address, context.arg(3));
  const bool in_background = connected.error() == Errno(EINPROGRESS);
  if (in_background || (connected.ok() && *connected == kHostConnectedAtOnce)) {
    HostSocket& made = **object;
    if (made.socket().type() == SOCK_STREAM) {
      context.process().connects_directly = made.stream().OnlyDirect();
    }
    AttachSpare(context);
  }
  co_return connected;
}

SyscallTask SysHostConnectAbandon(CallContext& context) {
  Result<std::shared_ptr<HostSocket>> object = GetObject(context, context.arg(0));
  if (!object.ok()) co_return object.error();
  co_return uint64_t{(*object)->AbandonConnect() ? 1U : 0U};
}

SyscallTask SysHostConnectFill(CallContext& context) {
  Result<std::shared_ptr<HostSocket>> object = GetObject(context, context.arg(0));
  if (!object.ok()) co_return object.error();
  if (const Errno error = (*object)->FillConnect(context.arg(1)); !error.ok()) co_return error;
  co_return uint64_t{0};
}

SyscallTask SysHostRelease(CallContext& context) {
  // No right is needed: an object that still has a C stays, and one that has none goes anyway.
  context.kernel().objects().Release(context.arg(0));
  co_return uint64_t{0};
}

SyscallTask SysHostSendBuffer(CallContext& context) {
  Result<std::shared_ptr<HostSocket>> object = GetObject(context, context.arg(0));
  if (!object.ok()) co_return object.error();
  if ((*object)->socket().type() != SOCK_STREAM) co_return Errno(EOPNOTSUPP);
  co_return static_cast<uint64_t>(SendBufferOfC((*object)->stream()));
}

SyscallTask SysHostProve(CallContext& context) {
  UniqueFd c = context.call().TakeFd();
  std::shared_ptr<HostSocket> object = context.kernel().objects().Find(context.arg(0));
  if (object == nullptr || !IsCOf(c, *object)) {
    // It can be anything, so that closing it may block. A C never does.
    context.kernel().loop().closer().Close(std::move(c));
    co_return Errno(EBADF);
  }
  context.kernel().AllowObject(context.process(), object->id(), object->c_cookie());
  co_return uint64_t{0};
}

SyscallTask SysHostUrgent(CallContext& context) {
  Result<std::shared_ptr<HostSocket>> object = GetObject(context, context.arg(0));
  if (!object.ok()) co_return object.error();
  (*object)->ExpectUrgent();
  co_return uint64_t{0};
}

}  // namespace rump
