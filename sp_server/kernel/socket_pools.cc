#include "sp_server/kernel/socket_pools.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <span>
#include <utility>

#include "protocol/syscalls.h"
#include "sp_server/kernel/kernel.h"
#include "sp_server/loop/pass_fds.h"

namespace rump {

SocketPools::SocketPools(BuiltinKernel* kernel) : kernel_(kernel) {
  kernel_->loop().AddPoller(this);
}

Result<UniqueFd> SocketPools::Open(const std::shared_ptr<Process>& process, int domain) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return Errno(errno);
  UniqueFd other(ends[1]);
  process->pool = std::make_unique<SocketPool>(
      SocketPool{.domain = domain, .end = UniqueFd(ends[0]), .unused = Share(unused_)});
  FillLater(process);
  return other;
}

void SocketPools::CountUse(const std::shared_ptr<Process>& process) {
  SocketPool* const pool = process->pool.get();
  if (pool == nullptr || pool->unused.size() == 0) return;
  pool->unused.Shrink(1);
  FillLater(process);
}

void SocketPools::CountMiss(const std::shared_ptr<Process>& process) {
  SocketPool* const pool = process->pool.get();
  if (pool == nullptr || pool->to_be_filled) return;
  // Those that it has not received may be on their way too late; what it has received it may use
  // later, or never.
  int unread = 0;
  if (ioctl(pool->end.get(), SIOCOUTQ, &unread) == 0 && unread == 0) {
    pool->unused.Shrink(pool->unused.size());
  }
  pool->target = std::min(2 * pool->target, kMaxTarget);
  FillLater(process);
}

void SocketPools::FillLater(const std::shared_ptr<Process>& process) {
  if (std::exchange(process->pool->to_be_filled, true)) return;
  to_fill_.push_back(process);
}

EventLoop::Clock::duration SocketPools::Poll() {
  for (const std::weak_ptr<Process>& weak : std::exchange(to_fill_, {})) {
    if (const std::shared_ptr<Process> process = weak.lock()) Fill(*process);
  }
  return EventLoop::Clock::duration::max();
}

void SocketPools::Fill(Process& process) {
  if (process.pool == nullptr) return;
  process.pool->to_be_filled = false;
  while (process.pool->unused.size() < process.pool->target) {
    if (!Send(process)) return;
  }
}

bool SocketPools::Send(Process& process) {
  SocketPool& pool = *process.pool;
  HostObjects& objects = kernel_->objects();
  // What nobody has asked for takes nothing that somebody will soon miss.
  if (!process.HasRoomForPool() || !objects.HasRoomForPools() || !pool.unused.Grow(1)) return false;
  Result<std::shared_ptr<Socket>> socket =
      kernel_->families().Create(pool.domain, SOCK_STREAM, 0, O_RDWR);
  if (socket.ok()) {
    Result<HostObjects::Created> created = objects.Create(*std::move(socket), process.objects_made);
    if (created.ok()) {
      HostSocket& object = *created->object;
      const PooledRecord record{object.id()};
      const int c = created->c.get();
      if (SendWithFds(pool.end.get(), std::as_bytes(std::span(&record, 1)), std::span(&c, 1),
                      MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
        object.set_pooled(true);
        kernel_->AllowObject(process, object.id(), object.c_cookie());
        return true;
      }
      const bool gone = errno == EPIPE || errno == ECONNRESET;
      objects.Remove(object.id());
      if (gone) {
        process.pool = nullptr;
        return false;
      }
    }
  }
  pool.unused.Shrink(1);
  return false;
}

}  // namespace rump
