// RAII and matchers for behaviour tests: plain sockets, no project code, so that the tests mean the
// same natively and hijacked.
#ifndef TESTS_BEHAVIOR_SOCKETS_H_
#define TESTS_BEHAVIOR_SOCKETS_H_

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <ostream>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace rump {

// Closes its descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) Close();
    fd_ = std::exchange(other.fd_, -1);
    return *this;
  }
  ~Fd() { Close(); }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = -1;
};

// 127.0.0.1:port.
sockaddr_in Loopback(uint16_t port);
const sockaddr* Addr(const sockaddr_in& address);
sockaddr* Addr(sockaddr_in& address);

// A listening TCP socket at a free port.
Fd Listen(int backlog = 16, int flags = 0);
// The local port of `fd`.
uint16_t PortOf(const Fd& fd);
// A blocking connection to `port`.
Fd Connect(uint16_t port);
// Both ends of a fresh TCP connection: client and server.
std::pair<Fd, Fd> TcpPair();
// The same, through the stack where connections may be direct pairs.
std::pair<Fd, Fd> StackTcpPair();
// Whether `fd` is an end of a direct pair, which is hijacked and not through the stack.
bool IsDirect(const Fd& fd);

// Two UDP sockets that are connected to each other.
std::pair<Fd, Fd> UdpPair();

// poll(2) of one descriptor: its revents, 0 after `timeout_ms`.
short PollFor(int fd, short events, int timeout_ms);
// Longer than anything that is going to happen takes.
inline constexpr int kPatience = 10'000;
// For what is not going to happen.
inline constexpr int kBriefly = 50;

// Reads exactly `size` bytes, fewer at the end of the stream.
std::string ReadExactly(int fd, size_t size);
bool WriteAll(int fd, const std::string& data);

MATCHER_P(FailsWith, expected, std::string("fails with ") + strerror(expected)) {
  const int error = errno;
  if (arg != -1) {
    *result_listener << "which is " << arg;
    return false;
  }
  *result_listener << "with errno " << strerror(error);
  return error == expected;
}
MATCHER(Succeeds, "succeeds") {
  if (arg == -1) *result_listener << "errno " << strerror(errno);
  return arg != -1;
}

}  // namespace rump

#endif  // TESTS_BEHAVIOR_SOCKETS_H_
