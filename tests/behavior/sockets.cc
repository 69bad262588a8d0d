#include "tests/behavior/sockets.h"

namespace rump {
namespace {

// Of hijacked sockets, level IPPROTO_TCP: see sp_server/net/inet_options.h. Natively there is none.
constexpr int kTcpDirect = 0x7270;

std::pair<Fd, Fd> Connected(bool direct) {
  const Fd listener = Listen();
  if (!direct) {
    const int off = 0;
    setsockopt(listener.get(), IPPROTO_TCP, kTcpDirect, &off, sizeof off);
  }
  Fd client = Connect(PortOf(listener));
  Fd server(accept(listener.get(), nullptr, nullptr));
  EXPECT_THAT(server.get(), Succeeds());
  return {std::move(client), std::move(server)};
}

}  // namespace

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

const sockaddr* Addr(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

sockaddr* Addr(sockaddr_in& address) { return reinterpret_cast<sockaddr*>(&address); }

Fd Listen(int backlog, int flags) {
  Fd fd(socket(AF_INET, SOCK_STREAM | flags, 0));
  EXPECT_THAT(fd.get(), Succeeds());
  const sockaddr_in address = Loopback(0);
  EXPECT_THAT(bind(fd.get(), Addr(address), sizeof address), Succeeds());
  EXPECT_THAT(listen(fd.get(), backlog), Succeeds());
  return fd;
}

uint16_t PortOf(const Fd& fd) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  EXPECT_THAT(getsockname(fd.get(), Addr(address), &size), Succeeds());
  return ntohs(address.sin_port);
}

Fd Connect(uint16_t port) {
  Fd fd(socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_THAT(fd.get(), Succeeds());
  const sockaddr_in address = Loopback(port);
  EXPECT_THAT(connect(fd.get(), Addr(address), sizeof address), Succeeds());
  return fd;
}

std::pair<Fd, Fd> TcpPair() { return Connected(/*direct=*/true); }

std::pair<Fd, Fd> StackTcpPair() {
  auto pair = Connected(/*direct=*/false);
  EXPECT_FALSE(IsDirect(pair.first));
  EXPECT_FALSE(IsDirect(pair.second));
  return pair;
}

bool IsDirect(const Fd& fd) {
  int direct = 0;
  socklen_t size = sizeof direct;
  return getsockopt(fd.get(), IPPROTO_TCP, kTcpDirect, &direct, &size) == 0 && direct != 0;
}

std::pair<Fd, Fd> UdpPair() {
  std::pair<Fd, Fd> pair(socket(AF_INET, SOCK_DGRAM, 0), socket(AF_INET, SOCK_DGRAM, 0));
  for (const Fd* fd : {&pair.first, &pair.second}) {
    const sockaddr_in any = Loopback(0);
    EXPECT_THAT(bind(fd->get(), Addr(any), sizeof any), Succeeds());
  }
  const sockaddr_in first = Loopback(PortOf(pair.first));
  const sockaddr_in second = Loopback(PortOf(pair.second));
  EXPECT_THAT(connect(pair.first.get(), Addr(second), sizeof second), Succeeds());
  EXPECT_THAT(connect(pair.second.get(), Addr(first), sizeof first), Succeeds());
  return pair;
}

short PollFor(int fd, short events, int timeout_ms) {
  pollfd p{.fd = fd, .events = events, .revents = 0};
  const int n = poll(&p, 1, timeout_ms);
  EXPECT_GE(n, 0);
  return p.revents;
}

std::string ReadExactly(int fd, size_t size) {
  std::string data(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t n = read(fd, data.data() + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  data.resize(done);
  return data;
}

bool WriteAll(int fd, const std::string& data) {
  size_t done = 0;
  while (done < data.size()) {
    const ssize_t n = write(fd, data.data() + done, data.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

}  // namespace rump
