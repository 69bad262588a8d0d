// How a connection begins: its socket, the banner, the handshakes.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>

#include "rumpclient/core/connection.h"
#include "rumpclient/core/pending.h"
#include "rumpclient/core/raw_syscall.h"

namespace rump::client {
namespace {

// How long a send waits for room until it looks whether the program is to end, in microseconds.
constexpr long kSendTimeout = 100'000;
// The ABI that the table of system calls describes.
constexpr std::string_view kTableOstype = "Linux";
constexpr std::string_view kTableMachine = "x86_64";

// Moves `fd` to kHighFd or above, or to the highest number from `lowest` on that the limits allow.
// Returns the new descriptor, or -errno; `fd` is closed either way.
long MoveHigh(int fd, int lowest) {
  constexpr long kHighFd = Connection::kHighFd;
  long moved = RawSyscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, kHighFd);
  if (moved < 0) {
    rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    RawSyscall(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit);
    long from = static_cast<long>(std::min<rlim_t>(kHighFd + 1, limit.rlim_cur)) - 1;
    for (; moved < 0 && from >= lowest; --from) {
      moved = RawSyscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, from);
    }
  }
  RawSyscall(SYS_close, fd);
  return moved;
}

void SetTimeoutOption(int fd, int option, long microseconds) {
  constexpr long kSecond = 1'000'000;
  const __kernel_old_timeval timeout = {microseconds / kSecond, microseconds % kSecond};
  RawSyscall(SYS_setsockopt, fd, SOL_SOCKET, option, &timeout, sizeof timeout);
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

// Bounds all waits of a connection while it begins, where no other thread uses it, and keeps the
// program from being held up by them.
class Connection::Beginning {
 public:
  Beginning(Connection* connection, const Interruption* interruption) : connection_(connection) {
    connection_->deadline_ = Deadline::After(kPatience);
    connection_->beginning_for_ = interruption;
  }
  ~Beginning() {
    connection_->deadline_ = Deadline();
    connection_->beginning_for_ = nullptr;
  }
  Beginning(const Beginning&) = delete;
  Beginning& operator=(const Beginning&) = delete;

 private:
  static constexpr long kPatience = 10;  // seconds

  Connection* const connection_;
};

long Connection::Open(const Endpoint& endpoint, const Interruption* interruption) {
  if (open()) return -EALREADY;
  const long fd = RawSyscall(SYS_socket, endpoint.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fd;
  const long high = MoveHigh(static_cast<int>(fd), kLowestFd);
  if (high < 0) return high;
  Abandon();
  fd_.store(static_cast<int>(high), std::memory_order_relaxed);
  if (!endpoint.is_unix()) {
    const int on = 1;
    RawSyscall(SYS_setsockopt, high, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  SetTimeoutOption(this->fd(), SO_SNDTIMEO, kSendTimeout);
  const Beginning beginning(this, interruption);
  long result = Connect(endpoint);
  if (result == 0) result = ReadBanner();
  if (result != 0) Abandon();
  return result;
}

// The socket's timeout for sending is for connect(2), too, after which it goes on in the
// background, as after a signal. Asking again waits for its end.
long Connection::Connect(const Endpoint& endpoint) {
  do {
    const long result = RawSyscall(SYS_connect, fd(), &endpoint.any, endpoint.len);
    switch (result) {
      case -EISCONN:
        return 0;
      case -EINTR:
      case -EAGAIN:  // the listener's queue is full
      case -EINPROGRESS:
      case -EALREADY:
        Pause(0, beginning_for_);
        break;
      default:
        return result;
    }
  } while (!deadline_.Passed());
  return -ETIMEDOUT;
}

long Connection::ReadBanner() {
  SetTimeout(true);
  for (;;) {
    Banner banner;
    size_t consumed = 0;
    switch (
        ParseBanner({reinterpret_cast<const char*>(unread()), unread_size()}, &banner, &consumed)) {
      case BannerError::kNone:
        extensions_ = banner.extensions;
        linux_abi_ = banner.ostype == kTableOstype && banner.machine == kTableMachine;
        begin_ += consumed;
        return 0;
      case BannerError::kOtherMajor:
        return -EPROTONOSUPPORT;
      case BannerError::kIncomplete: {
        const long n = Receive(nullptr, 0);
        if (n <= 0) return n == 0 ? -EPROTO : n;
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

long Connection::Guest(std::string_view command, const Interruption* interruption) {
  const CommandName name(command);
  return Handshake(HandshakeKind::kGuest, name.bytes, name.size, interruption);
}

long Connection::Exec(std::string_view command) {
  const CommandName name(command);
  return Handshake(HandshakeKind::kExec, name.bytes, name.size, nullptr);
}

long Connection::Fork(const PreforkCookie& cookie, bool cancel, const Interruption* interruption) {
  if (cancel) return CancelFork(cookie, interruption);
  const ForkPayload payload = {cookie, /*cancel=*/0};
  return Handshake(HandshakeKind::kFork, &payload, sizeof payload, interruption);
}

long Connection::Handshake(HandshakeKind kind, const void* payload, size_t payload_size,
                           const Interruption* interruption) {
  const Beginning beginning(this, interruption);
  Pending pending(this, FrameType::kHandshake, nullptr);
  OutgoingFrame frame(RequestHeader(&pending, static_cast<uint32_t>(kind)), payload, payload_size);
  const long result = Transact(&pending, &frame);
  return result == -ENOTCONN && deadline_.Passed() ? -ETIMEDOUT : result;
}

long Connection::CancelFork(const PreforkCookie& cookie, const Interruption* interruption) {
  const Beginning beginning(this, interruption);
  const ForkPayload payload = {cookie, /*cancel=*/1};
  const FrameHeader header = {.reqno = next_reqno_.fetch_add(1, std::memory_order_relaxed),
                              .cls = FrameClass::kRequest,
                              .type = FrameType::kHandshake,
                              .u = static_cast<uint32_t>(HandshakeKind::kFork)};
  OutgoingFrame frame(header, &payload, sizeof payload);
  const long result = Send(&frame, nullptr);
  // There is no answer, but the server closes when it has done so.
  RawSyscall(SYS_shutdown, fd(), SHUT_WR);
  while (Receive(nullptr, 0) > 0) begin_ = end_ = 0;
  const bool passed = deadline_.Passed();
  Abandon();
  return passed ? -ETIMEDOUT : result;
}

long Connection::BecomeForked(int fd) {
  const uint32_t extensions = extensions_;
  const bool linux_abi = linux_abi_;
  Forget();
  const long high = MoveHigh(fd, kLowestFd);
  if (high < 0) return high;
  SetTimeoutOption(static_cast<int>(high), SO_SNDTIMEO, kSendTimeout);
  fd_.store(static_cast<int>(high), std::memory_order_relaxed);
  extensions_ = extensions;
  linux_abi_ = linux_abi;
  return 0;
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

}  // namespace rump::client
