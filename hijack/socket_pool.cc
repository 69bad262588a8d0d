#include "hijack/socket_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "hijack/fd_cache.h"
#include "hijack/message.h"
#include "hijack/process_page.h"
#include "protocol/syscalls.h"
#include "rumpclient/core/connection.h"
#include "rumpclient/core/raw_syscall.h"

namespace rump::hijack {
namespace {

using client::RawSyscall;

// Programs that make fewer sockets do without a pool.
constexpr int kMissesWorthAPool = 2;
// How often Close waits for a thread that takes a socket, which is a matter of two system calls.
// One that was cancelled or left by siglongjmp(3) there never ends.
constexpr int kMaxLooks = 10'000;

// Whether nobody is at the other end any more. What it has sent before can still be received.
bool IsLost(int fd) {
  pollfd p = {fd, 0, 0};
  return RawSyscall(SYS_poll, &p, 1, 0) != 0;
}

long ReceiveSocket(int fd, bool cloexec) {
  PooledRecord record;
  int socket;
  const int flags = MSG_DONTWAIT | (cloexec ? MSG_CMSG_CLOEXEC : 0);
  if (ReceiveRecord(fd, &record, sizeof record, flags, &socket) != sizeof record) return -EAGAIN;
  return socket >= 0 ? socket : -EMFILE;
}

}  // namespace

long SocketPool::Take(int domain, bool cloexec) {
  ProcessPage& page = process_page();
  if (!page.pooled.load(std::memory_order_relaxed) || !OwnMemory()) return -EAGAIN;
  // The descriptor must not become another's meanwhile. Who finds it in use, perhaps by the call
  // that its signal handler has interrupted, does not wait.
  if (!page.pool_lock.TryLock()) return -EAGAIN;
  long socket = -EAGAIN;
  const int fd = this->fd();
  if (fd >= 0 && domain_.load(std::memory_order_relaxed) == domain && !IsLost(fd)) {
    socket = ReceiveSocket(fd, cloexec);
  }
  page.pool_lock.Unlock();
  return socket;
}

bool SocketPool::CountMiss(int domain) {
  ProcessPage& page = process_page();
  if (page.pooled.load(std::memory_order_relaxed) || !OwnMemory()) return false;
  if (domain != AF_INET && domain != AF_INET6) return false;
  return page.pool_misses.fetch_add(1, std::memory_order_relaxed) + 1 == kMissesWorthAPool;
}

void SocketPool::Open(int fd, int domain) {
  // Where the limits leave no such number, the program needs those that it has more than a pool.
  const long high = RawSyscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, client::Connection::kHighFd);
  RawSyscall(SYS_close, fd);
  if (high < 0) return;
  // Else calls on a number that once was the host's would not be looked at.
  fd_cache.Forget(static_cast<int>(high));
  int none = -1;
  if (!fd_.compare_exchange_strong(none, static_cast<int>(high), std::memory_order_relaxed)) {
    RawSyscall(SYS_close, high);
    return;
  }
  domain_.store(domain, std::memory_order_relaxed);
  process_page().pooled.store(true, std::memory_order_release);
}

void SocketPool::Close() {
  if (fd() < 0) return;
  ProcessPage& page = process_page();
  page.pooled.store(false, std::memory_order_relaxed);
  page.pool_misses.store(0, std::memory_order_relaxed);
  bool locked = page.pool_lock.TryLock();
  for (int look = 0; !locked && look < kMaxLooks; ++look) {
    RawSyscall(SYS_sched_yield);
    locked = page.pool_lock.TryLock();
  }
  const int fd = fd_.exchange(-1, std::memory_order_relaxed);
  if (locked) page.pool_lock.Unlock();
  if (fd >= 0) RawSyscall(SYS_close, fd);
}

}  // namespace rump::hijack
