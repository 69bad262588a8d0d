#include "hijack/hijacked_fd.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <atomic>

#include "hijack/clock.h"
#include "hijack/object_id.h"
#include "hijack/outcome.h"
#include "hijack/process_page.h"
#include "hijack/session.h"
#include "protocol/syscalls.h"
#include "rumpclient/core/raw_syscall.h"

namespace rump::hijack {
namespace {

// Not on the process's page: the child of a fork is in its parent's sandbox.
constinit std::atomic<bool> may_ask{true};
constinit std::atomic<bool> may_send{true};
constinit std::atomic<bool> may_ask_limit{true};

// Whether there may be streams whose program has set SO_SNDBUF before they were connected: others
// are not asked about. It is not known of those that came by an exec or by a message.
constinit std::atomic<bool> send_buffers_set{false};

// An option of integer value, or -errno.
long IntegerOption(const HijackedFd& hijacked, int level, int option) {
  int value = 0;
  socklen_t len = sizeof value;
  const long r = hijacked.Request(SYS_getsockopt,
                                  {ToSlot(level), ToSlot(option), ToSlot(&value), ToSlot(&len)});
  return r < 0 ? r : value;
}

void SetSendBuffer(int fd, int size) {
  if (client::RawSyscall(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0) {
    client::RawSyscall(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  }
}

// As large as the server says.
void SetSendBuffer(const HijackedFd& hijacked) {
  const long size = hijacked.Request(kSysHostSendBuffer);
  if (size > 0) SetSendBuffer(hijacked.fd, static_cast<int>(size));
}

bool HasPeer(const HijackedFd& hijacked) {
  sockaddr_storage addr;
  socklen_t len = sizeof addr;
  return hijacked.Request(SYS_getpeername, {ToSlot(&addr), ToSlot(&len)}) == 0;
}

FdKind AskKind(const HijackedFd& hijacked) {
  const long type = IntegerOption(hijacked, SOL_SOCKET, SO_TYPE);
  if (type < 0) return FdKind::kUnknown;
  if (type != SOCK_STREAM) return FdKind::kDatagram;
  if (IntegerOption(hijacked, SOL_SOCKET, SO_ACCEPTCONN) > 0) return FdKind::kListener;
  return HasPeer(hijacked) ? FdKind::kConnected : FdKind::kFresh;
}

}  // namespace

long HijackedFd::Request(uint32_t number, std::initializer_list<uint64_t> arguments) const {
  return session.Request(fd, object, number, arguments);
}

bool Identify(int fd, HijackedFd* hijacked) {
  const FdKind known = fd_cache.Get(fd);
  if (known == FdKind::kHost || !MayAsk()) return false;
  const uint8_t stamp = fd_cache.Stamp(fd);
  const long object = ObjectOf(fd);
  if (object < 0) return false;
  if (object == 0) {
    if (OwnMemory()) fd_cache.Learn(fd, stamp, FdKind::kHost);
    return false;
  }
  *hijacked = {fd, static_cast<uint64_t>(object), known};
  if (known == FdKind::kUnknown) {
    hijacked->kind = AskKind(*hijacked);
    if (hijacked->kind == FdKind::kUnknown) {
      // Without the server only the bytes on their way are left of a socket.
      hijacked->kind = FdKind::kConnected;
    } else if (OwnMemory()) {
      fd_cache.Learn(fd, stamp, hijacked->kind);
    }
  }
  return true;
}

void LearnOpenFds() {
  // Descriptors that are far from all others stay unknown, rather than to be searched for.
  constexpr int kGap = 1024;
  for (int fd = 0, last_open = 0; fd <= last_open + kGap; ++fd) {
    if (fd_cache.Get(fd) == FdKind::kUnknown && !session.Owns(fd)) {
      const uint8_t stamp = fd_cache.Stamp(fd);
      const long object = ObjectOf(fd);
      if (object < 0) continue;
      HijackedFd hijacked;
      if (object == 0) {
        fd_cache.Learn(fd, stamp, FdKind::kHost);
      } else if (session.connected()) {
        Identify(fd, &hijacked);
      }
    }
    last_open = fd;
  }
}

bool MayAsk() { return may_ask.load(std::memory_order_relaxed); }
void AskNoMore() { may_ask.store(false, std::memory_order_relaxed); }
bool MaySend() { return may_send.load(std::memory_order_relaxed); }
void SendNoMore() { may_send.store(false, std::memory_order_relaxed); }
bool MayAskLimit() { return may_ask_limit.load(std::memory_order_relaxed); }
void AskLimitNoMore() { may_ask_limit.store(false, std::memory_order_relaxed); }

StreamState Settle(HijackedFd* hijacked) {
  if (HasPeer(*hijacked)) {
    BecomeConnected(hijacked);
    return StreamState::kConnected;
  }
  uint8_t state = 0;
  socklen_t len = sizeof state;
  const long r =
      hijacked->Request(SYS_getsockopt, {IPPROTO_TCP, TCP_INFO, ToSlot(&state), ToSlot(&len)});
  return r == 0 && state == TCP_SYN_SENT ? StreamState::kConnecting : StreamState::kUnconnected;
}

long AfterLoss(long result) {
  constexpr long kPause = 100;  // milliseconds
  if (result == -ENOTCONN) Sleep(kPause);
  return result;
}

size_t Fill(int fd) {
  static constexpr char kJunk[4096] = {};
  constexpr int kSmallest = 1, kLarger = 64 * 1024;
  const auto limit = [fd](int size) {
    client::RawSyscall(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  };
  const auto add = [fd](size_t size) {
    return client::RawSyscall(SYS_sendto, fd, kJunk, size, MSG_DONTWAIT | MSG_NOSIGNAL, nullptr, 0);
  };
  limit(kSmallest);
  size_t filled = 0;
  long n;
  while ((n = add(sizeof kJunk)) > 0) filled += static_cast<size_t>(n);
  // The last byte, which the server's pump keeps, is one apart: what it is sent with would take
  // room for as long.
  limit(kLarger);
  if (add(1) == 1) ++filled;
  limit(kSmallest);
  return filled;
}

void BecomeConnected(HijackedFd* hijacked) {
  // A byte written alone costs hundreds of bytes of buffer; the small buffer was for connecting.
  constexpr int kUsual = 1 << 20;
  SetSendBuffer(hijacked->fd, kUsual);
  BecomeConnectedAtOnce(hijacked, FdKind::kConnected);
}

void BecomeConnectedAtOnce(HijackedFd* hijacked, FdKind kind) {
  if (send_buffers_set.load(std::memory_order_relaxed)) SetSendBuffer(*hijacked);
  SetKind(hijacked, kind);
}

void SetKind(HijackedFd* hijacked, FdKind kind) {
  hijacked->kind = kind;
  if (OwnMemory()) fd_cache.Set(hijacked->fd, kind);
}

bool IsDirect(const HijackedFd& hijacked) {
  return IntegerOption(hijacked, IPPROTO_TCP, kTcpDirect) > 0;
}

bool IsServed(const HijackedFd& hijacked) {
  return IntegerOption(hijacked, SOL_SOCKET, SO_TYPE) >= 0;
}

void SendBufferSet(const HijackedFd& hijacked) {
  if (IsConnected(hijacked.kind)) {
    SetSendBuffer(hijacked);
  } else if (hijacked.kind == FdKind::kFresh) {
    send_buffers_set.store(true, std::memory_order_relaxed);
  }
}

}  // namespace rump::hijack
