#include "rumpclient/core/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/time_types.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>

#include "rumpclient/core/pending.h"
#include "rumpclient/core/raw_syscall.h"
#include "rumpclient/core/signal_block.h"

namespace rump::client {
namespace {

// Below it live the descriptors that programs expect to be theirs.
constexpr long kHighFd = 1000;
// Shells and daemons give 0 to 2 a meaning of their own.
constexpr long kLowestFd = 3;
constexpr long kHandshakeTimeout = 10'000'000;  // microseconds
// How long a send waits for room until it looks whether the program is to end.
constexpr long kSendTimeout = 100'000;
// The ABI that the table of system calls describes.
constexpr std::string_view kTableOstype = "Linux";
constexpr std::string_view kTableMachine = "x86_64";

void Close(int fd) { RawSyscall(SYS_close, fd); }

// Moves `fd` to kHighFd or above, or to the highest number that the limits allow. Returns the new
// descriptor, or -errno; `fd` is closed either way.
long MoveHigh(int fd) {
  long moved = RawSyscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, kHighFd);
  if (moved < 0) {
    rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    RawSyscall(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit);
    long lowest = static_cast<long>(std::min<rlim_t>(kHighFd + 1, limit.rlim_cur)) - 1;
    for (; moved < 0 && lowest >= kLowestFd; --lowest) {
      moved = RawSyscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, lowest);
    }
  }
  Close(fd);
  return moved;
}

// The socket's timeout for sending is for connect(2), too, after which it goes on in the
// background, as after a signal. Asking again waits for its end.
long Connect(int fd, const Endpoint& endpoint) {
  for (long left = kHandshakeTimeout; left > 0;) {
    const long result = RawSyscall(SYS_connect, fd, &endpoint.any, endpoint.len);
    switch (result) {
      case -EISCONN:
        return 0;
      case -EINTR:
        break;
      case -EAGAIN:  // the listener's queue is full
      case -EINPROGRESS:
      case -EALREADY:
        left -= kSendTimeout;
        break;
      default:
        return result;
    }
  }
  return -ETIMEDOUT;
}

void SetTimeoutOption(int fd, int option, long microseconds) {
  constexpr long kSecond = 1'000'000;
  const __kernel_old_timeval timeout = {microseconds / kSecond, microseconds % kSecond};
  RawSyscall(SYS_setsockopt, fd, SOL_SOCKET, option, &timeout, sizeof timeout);
}

// Makes the thread's signals of what the server raised, which come when it unblocks them.
void Raise(SignalSet signals) {
  if (signals == 0) return;
  const long pid = RawSyscall(SYS_getpid);
  const long tid = RawSyscall(SYS_gettid);
  for (int signo = 1; signals != 0; ++signo, signals >>= 1) {
    if (signals & 1) RawSyscall(SYS_tgkill, pid, tid, signo);
  }
}

// A command name as the wire wants it: with a NUL, and only one.
struct CommandName {
  explicit CommandName(std::string_view command) {
    while (size < command.size() && size < kMaxCommandName - 1 && command[size] != '\0') {
      bytes[size] = command[size];
      ++size;
    }
    bytes[size++] = '\0';
  }
  char bytes[kMaxCommandName];
  size_t size = 0;
};

}  // namespace

long Connection::Open(const Endpoint& endpoint) {
  if (open()) return -EALREADY;
  const long fd = RawSyscall(SYS_socket, endpoint.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fd;
  const long high = MoveHigh(static_cast<int>(fd));
  if (high < 0) return high;
  Abandon();
  fd_.store(static_cast<int>(high), std::memory_order_relaxed);
  if (!endpoint.is_unix()) {
    const int on = 1;
    RawSyscall(SYS_setsockopt, high, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  SetTimeoutOption(this->fd(), SO_SNDTIMEO, kSendTimeout);
  long result = Connect(this->fd(), endpoint);
  if (result == 0) result = ReadBanner();
  if (result != 0) Abandon();
  return result;
}

long Connection::ReadBanner() {
  SetTimeoutOption(fd(), SO_RCVTIMEO, kHandshakeTimeout);
  for (;;) {
    Banner banner;
    size_t consumed = 0;
    switch (
        ParseBanner({reinterpret_cast<const char*>(unread()), unread_size()}, &banner, &consumed)) {
      case BannerError::kNone:
        extensions_ = banner.extensions;
        linux_abi_ = banner.ostype == kTableOstype && banner.machine == kTableMachine;
        begin_ += consumed;
        SetTimeoutOption(fd(), SO_RCVTIMEO, 0);
        return 0;
      case BannerError::kOtherMajor:
        return -EPROTONOSUPPORT;
      case BannerError::kIncomplete: {
        const long n = Receive(nullptr, 0);
        if (n == 0) return -EPROTO;
        if (n < 0) return n == -EAGAIN ? -ETIMEDOUT : n;
        break;
      }
      default:
        return -EPROTO;
    }
  }
}

void Connection::SetTimeout(bool on) {
  if (timeout_ == on) return;
  timeout_ = on;
  SetTimeoutOption(fd(), SO_RCVTIMEO, on ? kShortWait : 0);
}

long Connection::Guest(std::string_view command) {
  const CommandName name(command);
  Pending pending(this, FrameType::kHandshake, nullptr);
  return Transact(&pending, static_cast<uint32_t>(HandshakeKind::kGuest), name.bytes, name.size);
}

long Connection::Exec(std::string_view command) {
  const CommandName name(command);
  Pending pending(this, FrameType::kHandshake, nullptr);
  return Transact(&pending, static_cast<uint32_t>(HandshakeKind::kExec), name.bytes, name.size);
}

long Connection::Fork(const PreforkCookie& cookie, bool cancel) {
  const ForkPayload payload = {cookie, cancel ? 1 : 0};
  constexpr auto kKind = static_cast<uint32_t>(HandshakeKind::kFork);
  if (cancel) {
    const FrameHeader header = {.reqno = next_reqno_.fetch_add(1, std::memory_order_relaxed),
                                .cls = FrameClass::kRequest,
                                .type = FrameType::kHandshake,
                                .u = kKind};
    const long result = Send(header, &payload, sizeof payload, nullptr);
    if (result == 0) AwaitEnd();
    Abandon();
    return result;
  }
  Pending pending(this, FrameType::kHandshake, nullptr);
  return Transact(&pending, kKind, &payload, sizeof payload);
}

void Connection::AwaitEnd() {
  RawSyscall(SYS_shutdown, fd(), SHUT_WR);
  SetTimeoutOption(fd(), SO_RCVTIMEO, kHandshakeTimeout);
  while (Receive(nullptr, 0) > 0) begin_ = end_ = 0;
}

long Connection::Prefork(PreforkCookie* cookie, Interruption* interruption) {
  Pending pending(this, FrameType::kPrefork, interruption);
  pending.cookie = cookie;
  return Transact(&pending, 0, nullptr, 0);
}

long Connection::Issue(Call* call, Interruption* interruption) {
  call->received_fd = -1;
  call->sent = false;
  if (call->nargs > kMaxSyscallArgs) {
    call->error = EINVAL;
    return 0;
  }
  // Checked here, since the EBADF of sendmsg(2) could also mean the connection's own descriptor.
  if (call->send_fd >= 0 && RawSyscall(SYS_fcntl, call->send_fd, F_GETFD) < 0) {
    call->error = EBADF;
    return 0;
  }
  for (;;) {
    CallMemory memory(*call);
    Pending pending(this, FrameType::kSyscall, interruption);
    pending.call = call;
    if (linux_abi_) pending.memory = &memory;
    const long result = Transact(&pending, call->number, call->args,
                                 call->nargs * sizeof(call->args[0]), call->send_fd);
    memory.RestoreMessagePointers();
    Raise(pending.raised);
    if (result != 0 || !RestartsCall(pending)) return result;
    SetSignalMask(interruption->mask);
    SetSignalMask(kAllSignals);
  }
}

bool Connection::RestartsCall(const Pending& pending) const {
  if (pending.call->error != EINTR || pending.raised == 0) return false;
  if (pending.interruption == nullptr || pending.interrupted) return false;
  return !EndsCall(pending.raised & ~pending.interruption->mask, pending.call->number);
}

void Connection::Abandon() {
  const int fd = fd_.exchange(-1, std::memory_order_relaxed);
  if (fd >= 0) Close(fd);
  KeepFds(0);
  Reset();
}

void Connection::Forget() {
  fd_.store(-1, std::memory_order_relaxed);
  Reset();
}

void Connection::Reset() {
  extensions_ = 0;
  linux_abi_ = false;
  next_reqno_.store(1, std::memory_order_relaxed);
  send_lock_.Reset();
  lock_.Reset();
  list_ = nullptr;
  reader_ = nullptr;
  suspended_ = false;
  timeout_ = false;
  raised_ = 0;
  mapped_ = 0;
  queued_fds_ = 0;
  begin_ = 0;
  end_ = 0;
}

bool Connection::Suspend() {
  for (;; RawSyscall(SYS_sched_yield)) {
    FutexLockGuard guard(&lock_);
    if (!open()) return false;
    if (suspended_ || (reader_ != nullptr && !reader_->watching)) continue;
    suspended_ = true;
    break;
  }
  // There may be some even where a reader waits, if a call of its handler's has read too much.
  reading_for_ = nullptr;
  while (unread_size() > 0 && open()) {
    if (ReadFrame() == ReadResult::kLost) Lose();
  }
  send_lock_.Lock();
  if (open()) return true;
  Resume();
  return false;
}

void Connection::Resume() {
  send_lock_.Unlock();
  FutexLockGuard guard(&lock_);
  suspended_ = false;
  if (reader_ == nullptr) return ReleaseRole(nullptr);
  reader_->wake.store(1, std::memory_order_relaxed);
  if (reader_->asleep) FutexWakeOne(&reader_->wake);
}

void Connection::SetCloseOnExec(bool on) {
  RawSyscall(SYS_fcntl, fd(), F_SETFD, on ? FD_CLOEXEC : 0);
}

long Connection::Adopt(const Inheritance& inherited) {
  if (open()) return -EALREADY;
  int type = 0;
  socklen_t size = sizeof type;
  const long result = RawSyscall(SYS_getsockopt, inherited.fd, SOL_SOCKET, SO_TYPE, &type, &size);
  if (result != 0) return result;
  if (type != SOCK_STREAM) return -ENOTSOCK;
  Abandon();
  fd_.store(inherited.fd, std::memory_order_relaxed);
  SetCloseOnExec(true);
  SetTimeoutOption(inherited.fd, SO_RCVTIMEO, 0);
  extensions_ = inherited.extensions;
  linux_abi_ = inherited.linux_abi;
  // No call of the program before has it, so that an answer to one cannot be taken for EXEC's.
  next_reqno_.store(0, std::memory_order_relaxed);
  return 0;
}

long Connection::MoveFd() {
  for (;; RawSyscall(SYS_sched_yield)) {
    FutexLockGuard guard(&lock_);
    if (suspended_ || (reader_ != nullptr && !reader_->watching)) continue;
    FutexLockGuard send_guard(&send_lock_);
    if (!open()) return -EBADF;
    const int old = fd();
    long moved = RawSyscall(SYS_fcntl, old, F_DUPFD_CLOEXEC, old + 1);
    if (moved < 0) moved = RawSyscall(SYS_fcntl, old, F_DUPFD_CLOEXEC, kLowestFd);
    if (moved < 0) return moved;
    fd_.store(static_cast<int>(moved), std::memory_order_relaxed);
    // It may be about to wait at the old number.
    if (reader_ != nullptr) reader_->Spoil();
    Close(old);
    return 0;
  }
}

}  // namespace rump::client
