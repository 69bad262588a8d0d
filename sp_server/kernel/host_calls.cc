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

}  // namespace

SyscallTask SysHostSocket(CallContext& context) {
  // What moves the bytes is made for connections of the TCP/IP stack and for datagrams.
  const int domain = context.int_arg(0);
  if (domain != AF_INET && domain != AF_INET6 && domain != AF_NETLINK) {
    co_return Errno(EAFNOSUPPORT);
  }
  Result<std::shared_ptr<Socket>> socket =
      context.kernel().families().Create(domain, context.int_arg(1), context.int_arg(2), O_RDWR);
  if (!socket.ok()) co_return socket.error();
  Result<HostObjects::Created> created =
      context.kernel().objects().Create(*std::move(socket), context.process().objects_made);
  if (!created.ok()) co_return created.error();
  context.kernel().AllowObject(context.process(), created->object->id(),
                               created->object->c_cookie());
  context.call().AttachFd(std::move(created->c));
  if (created->object->socket().type() == SOCK_STREAM) {
    context.kernel().pools().CountMiss(context.shared_process());
  }
  co_return created->object->id();
}

SyscallTask SysHostConnect(CallContext& context) {
  Result<std::shared_ptr<HostSocket>> object = GetObject(context, context.arg(0));
  if (!object.ok()) co_return object.error();
  SocketAddress address;
  if (const Errno error = co_await CopyInAddress(context, context.arg(1), context.arg(2), &address);
      !error.ok()) {
    co_return error;
  }
  if ((*object)->pooled()) {
    (*object)->set_pooled(false);
    context.kernel().pools().CountUse(context.shared_process());
  }
  co_return (*object)->Connect(address, context.arg(3));
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

SyscallTask SysHostPool(CallContext& context) {
  const int domain = context.int_arg(0);
  if (domain != AF_INET && domain != AF_INET6) co_return Errno(EAFNOSUPPORT);
  Result<UniqueFd> end = context.kernel().pools().Open(context.shared_process(), domain);
  if (!end.ok()) co_return end.error();
  context.call().AttachFd(*std::move(end));
  co_return uint64_t{0};
}

SyscallTask SysHostUrgent(CallContext& context) {
  Result<std::shared_ptr<HostSocket>> object = GetObject(context, context.arg(0));
  if (!object.ok()) co_return object.error();
  (*object)->ExpectUrgent();
  co_return uint64_t{0};
}

}  // namespace rump
