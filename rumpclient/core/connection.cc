#include "rumpclient/core/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/time_types.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>

#include "rumpclient/core/raw_syscall.h"
#include "rumpclient/core/user_memory.h"

namespace rump::client {
namespace {

// Below it live the descriptors that programs expect to be theirs.
constexpr long kHighFd = 1000;
// Shells and daemons give 0 to 2 a meaning of their own.
constexpr long kLowestFd = 3;
constexpr int kBannerSeconds = 10;
// The ABI that the table of system calls describes.
constexpr std::string_view kTableOstype = "Linux";
constexpr std::string_view kTableMachine = "x86_64";

void Close(int fd) { RawSyscall(SYS_close, fd); }

// Moves `fd` to kHighFd or above, or to the highest number that the limits allow. Returns the new
// descriptor, or -errno; `fd` is closed either way.
long MoveHigh(int fd) {
  rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
  RawSyscall(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit);
  long moved = -EMFILE;
  long lowest = static_cast<long>(std::min<rlim_t>(kHighFd + 1, limit.rlim_cur)) - 1;
  for (; moved < 0 && lowest >= kLowestFd; --lowest) {
    moved = RawSyscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, lowest);
  }
  Close(fd);
  return moved;
}

long Connect(int fd, const Endpoint& endpoint) {
  for (bool again = false;; again = true) {
    const long result = RawSyscall(SYS_connect, fd, &endpoint.any, endpoint.len);
    // An interrupted connect(2) goes on in the background; asking again waits for its end.
    if (result == -EISCONN && again) return 0;
    if (result != -EINTR) return result;
  }
}

void SetReceiveTimeout(int fd, int seconds) {
  const __kernel_old_timeval timeout = {seconds, 0};
  RawSyscall(SYS_setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
}

size_t ResponsePayloadSize(FrameType type) {
  switch (type) {
    case FrameType::kHandshake:
      return sizeof(int32_t);
    case FrameType::kPrefork:
      return sizeof(PreforkCookie);
    default:
      return sizeof(SyscallResultPayload);
  }
}

FrameHeader RequestHeader(FrameType type, uint64_t reqno, uint32_t u) {
  return {.reqno = reqno, .cls = FrameClass::kRequest, .type = type, .u = u};
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

struct Connection::Pending {
  explicit Pending(FrameType request_type) : type(request_type) {}

  const FrameType type;
  uint64_t reqno = 0;
  // Of a system call; the memory only if the server's ABI is one whose table we have.
  Call* call = nullptr;
  CallMemory* memory = nullptr;
  // Of a PREFORK.
  PreforkCookie* cookie = nullptr;

  bool faulted = false;  // a copy met memory that is not there
  long result = 0;
  bool done = false;
  bool asleep = false;
  std::atomic<uint32_t> wake{0};
  Pending* next = nullptr;
};

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
  long result = Connect(this->fd(), endpoint);
  if (result == 0) result = ReadBanner();
  if (result != 0) Abandon();
  return result;
}

long Connection::ReadBanner() {
  SetReceiveTimeout(fd(), kBannerSeconds);
  for (;;) {
    Banner banner;
    size_t consumed = 0;
    switch (
        ParseBanner({reinterpret_cast<const char*>(unread()), unread_size()}, &banner, &consumed)) {
      case BannerError::kNone:
        extensions_ = banner.extensions;
        linux_abi_ = banner.ostype == kTableOstype && banner.machine == kTableMachine;
        begin_ += consumed;
        SetReceiveTimeout(fd(), 0);
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

long Connection::Guest(std::string_view command) {
  const CommandName name(command);
  Pending pending(FrameType::kHandshake);
  return Transact(&pending, static_cast<uint32_t>(HandshakeKind::kGuest), name.bytes, name.size);
}

long Connection::Exec(std::string_view command) {
  const CommandName name(command);
  Pending pending(FrameType::kHandshake);
  return Transact(&pending, static_cast<uint32_t>(HandshakeKind::kExec), name.bytes, name.size);
}

long Connection::Fork(const PreforkCookie& cookie, bool cancel) {
  const ForkPayload payload = {cookie, cancel ? 1 : 0};
  constexpr auto kKind = static_cast<uint32_t>(HandshakeKind::kFork);
  if (cancel) {
    const uint64_t reqno = next_reqno_.fetch_add(1, std::memory_order_relaxed);
    const long result =
        Send(RequestHeader(FrameType::kHandshake, reqno, kKind), &payload, sizeof payload);
    Abandon();
    return result;
  }
  Pending pending(FrameType::kHandshake);
  return Transact(&pending, kKind, &payload, sizeof payload);
}

long Connection::Prefork(PreforkCookie* cookie) {
  Pending pending(FrameType::kPrefork);
  pending.cookie = cookie;
  return Transact(&pending, 0, nullptr, 0);
}

long Connection::Issue(Call* call) {
  call->received_fd = -1;
  if (call->nargs > kMaxSyscallArgs) {
    call->error = EINVAL;
    return 0;
  }
  // Checked here, since the EBADF of sendmsg(2) could also mean the connection's own descriptor.
  if (call->send_fd >= 0 && RawSyscall(SYS_fcntl, call->send_fd, F_GETFD) < 0) {
    call->error = EBADF;
    return 0;
  }
  CallMemory memory(*call);
  Pending pending(FrameType::kSyscall);
  pending.call = call;
  if (linux_abi_) pending.memory = &memory;
  const long result = Transact(&pending, call->number, call->args,
                               call->nargs * sizeof(call->args[0]), call->send_fd);
  memory.RestoreMessagePointers();
  RaiseSignals();
  return result;
}

void Connection::Abandon() {
  const int fd = fd_.exchange(-1, std::memory_order_relaxed);
  if (fd >= 0) Close(fd);
  KeepFds(0);
  extensions_ = 0;
  linux_abi_ = false;
  next_reqno_.store(1, std::memory_order_relaxed);
  raised_.store(0, std::memory_order_relaxed);
  send_lock_.Reset();
  lock_.Reset();
  list_ = nullptr;
  reading_ = false;
  mapped_ = 0;
  begin_ = 0;
  end_ = 0;
}

long Connection::MoveFd() {
  for (;;) {
    {
      FutexLockGuard guard(&lock_);
      if (!reading_) {
        FutexLockGuard send_guard(&send_lock_);
        if (!open()) return -EBADF;
        const int old = fd();
        const long moved = RawSyscall(SYS_fcntl, old, F_DUPFD_CLOEXEC, old + 1);
        if (moved < 0) return moved;
        fd_.store(static_cast<int>(moved), std::memory_order_relaxed);
        Close(old);
        return 0;
      }
    }
    RawSyscall(SYS_sched_yield);
  }
}

long Connection::Transact(Pending* pending, uint32_t u, const void* payload, size_t payload_size,
                          int send_fd) {
  {
    FutexLockGuard guard(&lock_);
    if (!open()) return -ENOTCONN;
    pending->reqno = next_reqno_.fetch_add(1, std::memory_order_relaxed);
    pending->next = list_;
    list_ = pending;
  }
  // A failure shows to the reader as the end of the stream, behind what the server sent before.
  (void)Send(RequestHeader(pending->type, pending->reqno, u), payload, payload_size, send_fd);
  Await(pending);
  return pending->result;
}

void Connection::Await(Pending* pending) {
  lock_.Lock();
  while (!pending->done) {
    if (reading_) {
      pending->asleep = true;
      pending->wake.store(0, std::memory_order_relaxed);
      lock_.Unlock();
      FutexWait(&pending->wake, 0);
      lock_.Lock();
      pending->asleep = false;
    } else {
      reading_ = true;
      lock_.Unlock();
      if (!ReadFrame()) Lose();
      lock_.Lock();
      reading_ = false;
    }
  }
  if (!reading_) {
    // One that still sends is passed over: it may be blocked, and looks for itself when it is not.
    for (Pending* heir = list_; heir != nullptr; heir = heir->next) {
      if (!heir->asleep) continue;
      heir->wake.store(1, std::memory_order_relaxed);
      FutexWakeOne(&heir->wake);
      break;
    }
  }
  lock_.Unlock();
}

void Connection::Complete(Pending* pending, long result) {
  FutexLockGuard guard(&lock_);
  Pending** link = &list_;
  while (*link != pending) link = &(*link)->next;
  *link = pending->next;
  pending->result = result;
  pending->done = true;
  // Under the lock: once it is released, the owner may return and its stack be gone.
  pending->wake.store(1, std::memory_order_relaxed);
  if (pending->asleep) FutexWakeOne(&pending->wake);
  if (queued_fds_ > 0) KeepFds(CountWantedFds());
}

size_t Connection::CountWantedFds() const {
  size_t wanted = 0;
  for (const Pending* p = list_; p != nullptr; p = p->next) {
    if (p->call != nullptr && p->call->wants_fd) ++wanted;
  }
  return wanted;
}

void Connection::KeepFds(size_t most) {
  while (queued_fds_ > most) Close(fds_[--queued_fds_]);
}

void Connection::GiveFd(Call* call) {
  if (!call->wants_fd || call->error != 0 || queued_fds_ == 0) return;
  call->received_fd = fds_[0];
  --queued_fds_;
  memmove(&fds_[0], &fds_[1], queued_fds_ * sizeof(fds_[0]));
}

void Connection::Lose() {
  // Ends a send(2) that another thread is blocked in, and with it its hold on the lock.
  RawSyscall(SYS_shutdown, fd(), SHUT_RDWR);
  {
    FutexLockGuard guard(&send_lock_);
    Close(fd_.exchange(-1, std::memory_order_relaxed));
  }
  for (;;) {
    Pending* pending;
    {
      FutexLockGuard guard(&lock_);
      pending = list_;
    }
    if (pending == nullptr) return;
    Complete(pending, -ENOTCONN);
  }
}

void Connection::RaiseSignals() {
  uint64_t raised = raised_.load(std::memory_order_relaxed);
  if (raised == 0) return;
  raised = raised_.exchange(0, std::memory_order_relaxed);
  const long pid = RawSyscall(SYS_getpid);
  const long tid = RawSyscall(SYS_gettid);
  for (int signo = 1; raised != 0; ++signo, raised >>= 1) {
    if (raised & 1) RawSyscall(SYS_tgkill, pid, tid, signo);
  }
}

Connection::Pending* Connection::FindMemory(const CopyPayload& range, Access access) {
  FutexLockGuard guard(&lock_);
  for (Pending* p = list_; p != nullptr; p = p->next) {
    if (p->memory != nullptr && p->memory->Contains(range.addr, range.len, access)) return p;
  }
  return nullptr;
}

long Connection::Send(FrameHeader header, const void* payload, size_t payload_size, int send_fd) {
  static constexpr char kZeros[256] = {};
  FutexLockGuard guard(&send_lock_);
  const int fd = this->fd();
  if (fd < 0) return -ENOTCONN;
  header.len = kHeaderSize + payload_size;
  bool fault = false;
  for (size_t sent = 0; sent < header.len;) {
    iovec parts[2];
    size_t count = 0;
    if (sent < kHeaderSize) {
      parts[count++] = {reinterpret_cast<char*>(&header) + sent, kHeaderSize - sent};
    }
    const size_t done = sent > kHeaderSize ? sent - kHeaderSize : 0;
    if (const size_t left = header.len - kHeaderSize - done; left > 0) {
      if (fault) {
        parts[count++] = {const_cast<char*>(kZeros), std::min(left, sizeof kZeros)};
      } else {
        parts[count++] = {static_cast<char*>(const_cast<void*>(payload)) + done, left};
      }
    }
    msghdr message = {};
    message.msg_iov = parts;
    message.msg_iovlen = count;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    if (send_fd >= 0 && sent == 0) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* const rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(sizeof(int));
      memcpy(CMSG_DATA(rights), &send_fd, sizeof send_fd);
    }
    const long n = RawSyscall(SYS_sendmsg, fd, &message, MSG_NOSIGNAL);
    if (n == -EINTR) continue;
    if (n == -EFAULT && !fault) {
      fault = true;
      // Nothing sent yet, so the answer can still be the empty one.
      if (sent == 0) header.len = kHeaderSize;
      continue;
    }
    if (n < 0) {
      RawSyscall(SYS_shutdown, fd, SHUT_RDWR);
      return n;
    }
    sent += static_cast<size_t>(n);
  }
  return fault ? -EFAULT : 0;
}

bool Connection::ReadFrame() {
  if (!Need(kHeaderSize)) return false;
  FrameHeader header;
  if (DecodeHeader({unread(), kHeaderSize}, kMaxFrame, &header) != FrameError::kNone) return false;
  switch (header.cls) {
    case FrameClass::kRequest:
      return ServeRequest(header);
    case FrameClass::kResponse:
    case FrameClass::kError:
      return TakeResponse(header);
  }
  return Skip(header.len);
}

bool Connection::ServeRequest(const FrameHeader& header) {
  switch (header.type) {
    case FrameType::kCopyIn:
    case FrameType::kCopyInStr:
      return ServeCopyIn(header);
    case FrameType::kCopyOut:
    case FrameType::kCopyOutStr:
      return ServeCopyOut(header);
    case FrameType::kAnonMmap:
      return ServeAnonMmap(header);
    case FrameType::kRaise:
      if (header.u >= 1 && header.u <= 64) {
        raised_.fetch_or(uint64_t{1} << (header.u - 1), std::memory_order_relaxed);
      }
      return Skip(header.len);
    default:
      return Skip(header.len);
  }
}

template <typename T>
bool Connection::TakePayload(const FrameHeader& header, T* payload) {
  constexpr size_t kSize = kHeaderSize + sizeof(T);
  if (header.len < kSize || !Need(kSize)) return false;
  memcpy(payload, unread() + kHeaderSize, sizeof(T));
  begin_ += kSize;
  return true;
}

bool Connection::ServeCopyIn(const FrameHeader& header) {
  CopyPayload range;
  if (header.len != kHeaderSize + sizeof range || !TakePayload(header, &range)) return false;
  range.len = std::min<uint64_t>(range.len, kMaxCopy + 1);
  if (header.type == FrameType::kCopyInStr) range.len = UserStringSize(range.addr, range.len);
  Pending* const owner = range.len <= kMaxCopy ? FindMemory(range, Access::kRead) : nullptr;
  if (owner == nullptr) range.len = 0;
  // Answers to both kinds have the type COPYIN.
  const FrameHeader reply = {
      .reqno = header.reqno, .cls = FrameClass::kResponse, .type = FrameType::kCopyIn};
  const long result = Send(reply, reinterpret_cast<const void*>(range.addr), range.len);
  if (result == -EFAULT && owner != nullptr) owner->faulted = true;
  return result == 0 || result == -EFAULT;
}

bool Connection::ServeCopyOut(const FrameHeader& header) {
  CopyPayload range;
  if (!TakePayload(header, &range)) return false;
  uint64_t left = header.len - kHeaderSize - sizeof range;
  if (range.len != left) return false;
  Pending* const owner = FindMemory(range, Access::kWrite);
  if (owner == nullptr) return Skip(left);
  if (const size_t n = std::min<uint64_t>(left, unread_size()); n > 0) {
    if (!WriteUserMemory(range.addr, unread(), n)) {
      owner->faulted = true;
      return Skip(left);
    }
    begin_ += n;
    range.addr += n;
    left -= n;
  }
  while (left > 0) {
    const long n = Receive(reinterpret_cast<void*>(range.addr), left);
    if (n == -EFAULT) {
      owner->faulted = true;
      return Skip(left);
    }
    if (n <= 0) return false;
    const uint64_t taken = std::min<uint64_t>(left, static_cast<uint64_t>(n));
    range.addr += taken;
    left -= taken;
  }
  return true;
}

bool Connection::ServeAnonMmap(const FrameHeader& header) {
  uint64_t len = 0;
  if (header.len != kHeaderSize + sizeof len || !TakePayload(header, &len)) return false;
  uint64_t addr = 0;
  if (len <= kMaxAnonymousMemory - mapped_) {
    const long mapped = RawSyscall(SYS_mmap, nullptr, len, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped > 0) {
      addr = static_cast<uint64_t>(mapped);
      mapped_ += len;
    }
  }
  const FrameHeader reply = {
      .reqno = header.reqno, .cls = FrameClass::kResponse, .type = FrameType::kAnonMmap};
  return Send(reply, &addr, sizeof addr) == 0;
}

bool Connection::TakeResponse(const FrameHeader& header) {
  Pending* pending;
  {
    FutexLockGuard guard(&lock_);
    pending = list_;
    while (pending != nullptr && pending->reqno != header.reqno) pending = pending->next;
  }
  if (pending == nullptr) return Skip(header.len);
  long result = 0;
  if (header.cls == FrameClass::kError) {
    if (!Skip(header.len)) return false;
    int error = ErrnoOf(static_cast<WireError>(header.u));
    if (error == 0) error = EIO;  // an answer without a result is no success
    if (pending->call != nullptr) {
      pending->call->error = error;
    } else {
      result = -error;
    }
  } else {
    if (header.type != pending->type ||
        header.len != kHeaderSize + ResponsePayloadSize(pending->type)) {
      return false;
    }
    if (pending->call != nullptr) {
      SyscallResultPayload answer;
      if (!TakePayload(header, &answer)) return false;
      pending->call->error = answer.error;
      memcpy(pending->call->retval, answer.retval, sizeof answer.retval);
    } else if (pending->cookie != nullptr) {
      if (!TakePayload(header, pending->cookie)) return false;
    } else {
      int32_t error = 0;
      if (!TakePayload(header, &error)) return false;
      result = -static_cast<long>(error);
    }
  }
  if (pending->call != nullptr) {
    GiveFd(pending->call);
    if (pending->faulted) pending->call->error = EFAULT;
  }
  Complete(pending, result);
  return true;
}

bool Connection::Need(size_t n) {
  if (begin_ + n > kReceiveBuffer) {
    memmove(buffer_, unread(), unread_size());
    end_ -= begin_;
    begin_ = 0;
  }
  while (unread_size() < n) {
    if (Receive(nullptr, 0) <= 0) return false;
  }
  return true;
}

bool Connection::Skip(uint64_t n) {
  for (;;) {
    const size_t taken = std::min<uint64_t>(n, unread_size());
    begin_ += taken;
    n -= taken;
    if (n == 0) return true;
    if (Receive(nullptr, 0) <= 0) return false;
  }
}

long Connection::Receive(void* extra, size_t extra_size) {
  if (begin_ == end_) begin_ = end_ = 0;
  iovec parts[2] = {{extra, extra_size}, {buffer_ + end_, kReceiveBuffer - end_}};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxQueuedFds * sizeof(int))];
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  long n;
  do {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    n = RawSyscall(SYS_recvmsg, fd(), &message, MSG_CMSG_CLOEXEC);
  } while (n == -EINTR);
  if (n <= 0) return n;
  if (static_cast<size_t>(n) > extra_size) end_ += static_cast<size_t>(n) - extra_size;
  if (const cmsghdr* const rights = CMSG_FIRSTHDR(&message);
      rights != nullptr && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS) {
    const size_t count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(rights) + i * sizeof fd, sizeof fd);
      if (queued_fds_ < kMaxQueuedFds) {
        fds_[queued_fds_++] = fd;
      } else {
        Close(fd);
      }
    }
    FutexLockGuard guard(&lock_);
    KeepFds(CountWantedFds());
  }
  return n;
}

}  // namespace rump::client
