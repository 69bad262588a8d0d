// TCP as programs see it: tcp(7), connect(2), accept(2), shutdown(2).
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

TEST(Tcp, ConnectAcceptAndTalk) {
  auto [client, server] = TcpPair();
  ASSERT_TRUE(WriteAll(client.get(), "ping"));
  EXPECT_EQ(ReadExactly(server.get(), 4), "ping");
  ASSERT_TRUE(WriteAll(server.get(), "pong!"));
  EXPECT_EQ(ReadExactly(client.get(), 5), "pong!");
}

TEST(Tcp, DescriptorsAreTheLowestFree) {
  const int lowest = dup(0);
  close(lowest);
  const Fd fd(socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_EQ(fd.get(), lowest);
}

TEST(Tcp, NamesOfBothEnds) {
  const Fd listener = Listen();
  const Fd client = Connect(PortOf(listener));
  sockaddr_in peer{};
  socklen_t size = sizeof peer;
  const Fd server(accept(listener.get(), Addr(peer), &size));
  ASSERT_THAT(server.get(), Succeeds());
  EXPECT_EQ(size, sizeof peer);
  EXPECT_EQ(peer.sin_family, AF_INET);
  EXPECT_EQ(ntohl(peer.sin_addr.s_addr), INADDR_LOOPBACK);
  EXPECT_EQ(ntohs(peer.sin_port), PortOf(client));
  sockaddr_in name{};
  size = sizeof name;
  ASSERT_THAT(getpeername(client.get(), Addr(name), &size), Succeeds());
  EXPECT_EQ(ntohs(name.sin_port), PortOf(listener));
  size = sizeof name;
  ASSERT_THAT(getpeername(server.get(), Addr(name), &size), Succeeds());
  EXPECT_EQ(ntohs(name.sin_port), PortOf(client));
  EXPECT_EQ(PortOf(server), PortOf(listener));
}

TEST(Tcp, ShutdownOfAListenerEndsAccept) {
  const Fd listener = Listen();
  std::promise<int> outcome;
  std::thread acceptor([&] {
    const int fd = accept(listener.get(), nullptr, nullptr);
    outcome.set_value(fd < 0 ? errno : 0);
  });
  std::future<int> future = outcome.get_future();
  EXPECT_EQ(future.wait_for(std::chrono::milliseconds(kBriefly)), std::future_status::timeout);
  EXPECT_THAT(shutdown(listener.get(), SHUT_RDWR), Succeeds());
  EXPECT_EQ(future.get(), EINVAL);
  acceptor.join();
  EXPECT_THAT(accept(listener.get(), nullptr, nullptr), FailsWith(EINVAL));
}

TEST(Tcp, AddressIsCutToTheGivenSize) {
  const Fd listener = Listen();
  unsigned char small[4] = {0xee, 0xee, 0xee, 0xee};
  socklen_t size = 2;
  ASSERT_THAT(getsockname(listener.get(), reinterpret_cast<sockaddr*>(small), &size), Succeeds());
  EXPECT_EQ(size, sizeof(sockaddr_in));
  EXPECT_EQ(small[2], 0xee);
}

TEST(Tcp, UnconnectedSocketSaysSo) {
  signal(SIGPIPE, SIG_IGN);
  const Fd fd(socket(AF_INET, SOCK_STREAM, 0));
  char byte = 0;
  sockaddr_in name{};
  socklen_t size = sizeof name;
  EXPECT_THAT(getpeername(fd.get(), Addr(name), &size), FailsWith(ENOTCONN));
  EXPECT_THAT(recv(fd.get(), &byte, 1, 0), FailsWith(ENOTCONN));
  EXPECT_THAT(read(fd.get(), &byte, 1), FailsWith(ENOTCONN));
  EXPECT_THAT(send(fd.get(), &byte, 1, 0), FailsWith(EPIPE));
  EXPECT_THAT(write(fd.get(), &byte, 1), FailsWith(EPIPE));
  EXPECT_THAT(shutdown(fd.get(), SHUT_RDWR), FailsWith(ENOTCONN));
  EXPECT_THAT(accept(fd.get(), nullptr, nullptr), FailsWith(EINVAL));
}

TEST(Tcp, BlockingConnectRefusedThenAccepted) {
  uint16_t port;
  {
    const Fd listener = Listen();
    port = PortOf(listener);
  }
  const Fd fd(socket(AF_INET, SOCK_STREAM, 0));
  const sockaddr_in address = Loopback(port);
  EXPECT_THAT(connect(fd.get(), Addr(address), sizeof address), FailsWith(ECONNREFUSED));
  const Fd listener(socket(AF_INET, SOCK_STREAM, 0));
  ASSERT_THAT(bind(listener.get(), Addr(address), sizeof address), Succeeds());
  ASSERT_THAT(listen(listener.get(), 1), Succeeds());
  EXPECT_THAT(connect(fd.get(), Addr(address), sizeof address), Succeeds());
}

TEST(Tcp, NonblockingConnect) {
  const Fd listener = Listen();
  const Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  const sockaddr_in address = Loopback(PortOf(listener));
  EXPECT_THAT(connect(fd.get(), Addr(address), sizeof address), FailsWith(EINPROGRESS));
  EXPECT_EQ(PollFor(fd.get(), POLLOUT, kPatience), POLLOUT);
  int error = -1;
  socklen_t size = sizeof error;
  ASSERT_THAT(getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size), Succeeds());
  EXPECT_EQ(error, 0);
  EXPECT_THAT(connect(fd.get(), Addr(address), sizeof address), Succeeds());
  EXPECT_THAT(connect(fd.get(), Addr(address), sizeof address), FailsWith(EISCONN));
  const Fd server(accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(WriteAll(fd.get(), std::string(100'000, 'x')));
  EXPECT_EQ(ReadExactly(server.get(), 100'000).size(), 100'000U);
}

TEST(Tcp, NonblockingConnectLooksAtItsArguments) {
  const Fd listener = Listen();
  const sockaddr_in address = Loopback(PortOf(listener));
  const Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  ASSERT_THAT(connect(fd.get(), Addr(address), sizeof address), FailsWith(EINPROGRESS));
  ASSERT_EQ(PollFor(fd.get(), POLLOUT, kPatience), POLLOUT);
  EXPECT_THAT(connect(fd.get(), reinterpret_cast<const sockaddr*>(1), sizeof address),
              FailsWith(EFAULT));
  EXPECT_THAT(connect(fd.get(), Addr(address), 1), FailsWith(EINVAL));
  EXPECT_THAT(connect(fd.get(), Addr(address), 1000), FailsWith(EINVAL));
  EXPECT_THAT(connect(fd.get(), Addr(address), sizeof address), Succeeds());
  const Fd server(accept(listener.get(), nullptr, nullptr));
  EXPECT_THAT(connect(fd.get(), Addr(address), sizeof address), FailsWith(EISCONN));
  ASSERT_TRUE(WriteAll(server.get(), "hello"));
  EXPECT_EQ(PollFor(fd.get(), POLLIN, kPatience), POLLIN);
  EXPECT_EQ(ReadExactly(fd.get(), 5), "hello");
}

TEST(Tcp, NonblockingConnectRefused) {
  uint16_t port;
  {
    const Fd listener = Listen();
    port = PortOf(listener);
  }
  const Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  const sockaddr_in address = Loopback(port);
  EXPECT_THAT(connect(fd.get(), Addr(address), sizeof address), FailsWith(EINPROGRESS));
  const short ready = PollFor(fd.get(), POLLOUT, kPatience);
  EXPECT_EQ(ready & (POLLERR | POLLHUP), POLLERR | POLLHUP);
  int error = 0;
  socklen_t size = sizeof error;
  ASSERT_THAT(getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size), Succeeds());
  EXPECT_EQ(error, ECONNREFUSED);
  ASSERT_THAT(getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size), Succeeds());
  EXPECT_EQ(error, 0);
}

TEST(Tcp, FullBacklogKeepsTheNextConnectWaiting) {
  const Fd listener = Listen(/*backlog=*/1);
  const sockaddr_in address = Loopback(PortOf(listener));
  // A backlog of n admits n + 1.
  const Fd first = Connect(PortOf(listener));
  const Fd second = Connect(PortOf(listener));
  const Fd third(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  EXPECT_THAT(connect(third.get(), Addr(address), sizeof address), FailsWith(EINPROGRESS));
  EXPECT_EQ(PollFor(third.get(), POLLOUT, kBriefly), 0);
  EXPECT_THAT(connect(third.get(), Addr(address), sizeof address), FailsWith(EALREADY));
  // Room in the queue lets it in, once its SYN has been sent again.
  const Fd accepted(accept(listener.get(), nullptr, nullptr));
  EXPECT_EQ(PollFor(third.get(), POLLOUT, kPatience), POLLOUT);
}

TEST(Tcp, BindRules) {
  const Fd listener = Listen();
  const sockaddr_in taken = Loopback(PortOf(listener));
  const Fd fd(socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_THAT(bind(fd.get(), Addr(taken), sizeof taken), FailsWith(EADDRINUSE));
  const int on = 1;
  ASSERT_THAT(setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), Succeeds());
  EXPECT_THAT(bind(fd.get(), Addr(taken), sizeof taken), FailsWith(EADDRINUSE));
  sockaddr_in elsewhere = Loopback(0);
  elsewhere.sin_addr.s_addr = htonl(0x08080808);
  EXPECT_THAT(bind(fd.get(), Addr(elsewhere), sizeof elsewhere), FailsWith(EADDRNOTAVAIL));
  const sockaddr_in any_port = Loopback(0);
  EXPECT_THAT(bind(fd.get(), Addr(any_port), sizeof any_port), Succeeds());
  EXPECT_THAT(bind(fd.get(), Addr(any_port), sizeof any_port), FailsWith(EINVAL));
}

TEST(Tcp, ListenersThatShareAPortAllGetConnections) {
  constexpr int kConnections = 40;
  for (const in_addr_t ip : {INADDR_LOOPBACK, INADDR_ANY}) {
    Fd listeners[2];
    uint16_t port = 0;
    for (Fd& listener : listeners) {
      listener = Fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
      const int on = 1;
      ASSERT_THAT(setsockopt(listener.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on), Succeeds());
      sockaddr_in address = Loopback(port);
      address.sin_addr.s_addr = htonl(ip);
      ASSERT_THAT(bind(listener.get(), Addr(address), sizeof address), Succeeds());
      ASSERT_THAT(listen(listener.get(), kConnections), Succeeds());
      port = PortOf(listener);
    }
    std::vector<Fd> ends;
    for (int i = 0; i < kConnections; ++i) ends.push_back(Connect(port));
    int accepted[2] = {};
    while (accepted[0] + accepted[1] < kConnections) {
      pollfd polled[2] = {{listeners[0].get(), POLLIN, 0}, {listeners[1].get(), POLLIN, 0}};
      ASSERT_GT(poll(polled, 2, kPatience), 0);
      for (int i = 0; i < 2; ++i) {
        if (polled[i].revents == 0) continue;
        ends.emplace_back(accept(listeners[i].get(), nullptr, nullptr));
        ASSERT_GE(ends.back().get(), 0);
        ++accepted[i];
      }
    }
    EXPECT_GT(accepted[0], 0);
    EXPECT_GT(accepted[1], 0);
  }
}

TEST(Tcp, PortIsFreeWhenCloseReturns) {
  uint16_t port = 0;
  for (int i = 0; i < 50; ++i) {
    const Fd fd(socket(AF_INET, SOCK_STREAM, 0));
    const sockaddr_in address = Loopback(port);
    ASSERT_THAT(bind(fd.get(), Addr(address), sizeof address), Succeeds()) << "round " << i;
    ASSERT_THAT(listen(fd.get(), 1), Succeeds());
    port = PortOf(fd);
  }
}

TEST(Tcp, OneDupMayBeClosed) {
  const Fd listener = Listen();
  Fd copy(dup(listener.get()));
  const uint16_t port = PortOf(listener);
  copy.Close();
  Fd client = Connect(port);
  Fd server(accept(listener.get(), nullptr, nullptr));
  Fd again(fcntl(server.get(), F_DUPFD_CLOEXEC, 20));
  EXPECT_GE(again.get(), 20);
  server.Close();
  ASSERT_TRUE(WriteAll(client.get(), "still"));
  EXPECT_EQ(ReadExactly(again.get(), 5), "still");
  again.Close();
  char byte;
  EXPECT_EQ(read(client.get(), &byte, 1), 0);
}

TEST(Tcp, HalfClose) {
  auto [client, server] = TcpPair();
  ASSERT_TRUE(WriteAll(client.get(), "request"));
  ASSERT_THAT(shutdown(client.get(), SHUT_WR), Succeeds());
  EXPECT_EQ(ReadExactly(server.get(), 100), "request");
  ASSERT_TRUE(WriteAll(server.get(), "answer"));
  server.Close();
  EXPECT_EQ(ReadExactly(client.get(), 100), "answer");
  signal(SIGPIPE, SIG_IGN);
  EXPECT_THAT(write(client.get(), "x", 1), FailsWith(EPIPE));
}

TEST(Tcp, PeekAndFionread) {
  auto [client, server] = TcpPair();
  ASSERT_TRUE(WriteAll(client.get(), "abc"));
  ASSERT_EQ(PollFor(server.get(), POLLIN, kPatience), POLLIN);
  char data[8] = {};
  EXPECT_EQ(recv(server.get(), data, sizeof data, MSG_PEEK), 3);
  int pending = 0;
  ASSERT_THAT(ioctl(server.get(), FIONREAD, &pending), Succeeds());
  EXPECT_EQ(pending, 3);
  EXPECT_EQ(recv(server.get(), data, sizeof data, 0), 3);
  EXPECT_THAT(recv(server.get(), data, sizeof data, MSG_DONTWAIT), FailsWith(EAGAIN));
}

TEST(Tcp, RecvfromAndRecvmsgGiveNoAddress) {
  auto [client, server] = TcpPair();
  ASSERT_TRUE(WriteAll(client.get(), "abcdef"));
  sockaddr_in from{};
  socklen_t size = sizeof from;
  char data[3];
  EXPECT_EQ(recvfrom(server.get(), data, 3, MSG_WAITALL, Addr(from), &size), 3);
  EXPECT_EQ(size, 0U);
  iovec iov{data, 3};
  msghdr msg{};
  msg.msg_name = &from;
  msg.msg_namelen = sizeof from;
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  EXPECT_EQ(recvmsg(server.get(), &msg, MSG_WAITALL), 3);
  EXPECT_EQ(msg.msg_namelen, 0U);
  EXPECT_EQ(msg.msg_controllen, 0U);
}

TEST(Tcp, LargeTransferBothWays) {
  auto [client, server] = TcpPair();
  constexpr size_t kSize = 8 << 20;
  std::string out(kSize, '\0');
  for (size_t i = 0; i < kSize; ++i) out[i] = static_cast<char>(i * 2654435761U >> 13);
  std::thread echo([fd = server.get()] {
    std::vector<char> buffer(65536);
    ssize_t n;
    while ((n = read(fd, buffer.data(), buffer.size())) > 0) {
      if (!WriteAll(fd, std::string(buffer.data(), static_cast<size_t>(n)))) return;
    }
    shutdown(fd, SHUT_WR);
  });
  std::thread writer([fd = client.get(), &out] {
    EXPECT_TRUE(WriteAll(fd, out));
    shutdown(fd, SHUT_WR);
  });
  const std::string in = ReadExactly(client.get(), kSize + 1);
  writer.join();
  echo.join();
  EXPECT_EQ(in.size(), kSize);
  EXPECT_TRUE(in == out);
}

TEST(Tcp, NobodyReadsSoWritingStops) {
  auto [client, server] = TcpPair();
  fcntl(client.get(), F_SETFL, O_NONBLOCK);
  const std::string chunk(65536, 'x');
  size_t sent = 0;
  // A writer that is never stopped would be a stack without back-pressure.
  while (sent < (256 << 20)) {
    const ssize_t n = write(client.get(), chunk.data(), chunk.size());
    if (n > 0) {
      sent += static_cast<size_t>(n);
    } else if (PollFor(client.get(), POLLOUT, 200) == 0) {
      break;
    }
  }
  EXPECT_LT(sent, 256U << 20);
  EXPECT_EQ(ReadExactly(server.get(), sent).size(), sent);
  EXPECT_EQ(PollFor(client.get(), POLLOUT, kPatience), POLLOUT);
}

// Linux retries ever later when segments do not fit into the other end's buffer.
void SetSmallSegments(const Fd& fd) {
  constexpr int kSegment = 1000;
  EXPECT_THAT(setsockopt(fd.get(), IPPROTO_TCP, TCP_MAXSEG, &kSegment, sizeof kSegment),
              Succeeds());
}

void SetSmallBuffers(const Fd& fd) {
  constexpr int kSmall = 8192;
  for (const int option : {SO_SNDBUF, SO_RCVBUF}) {
    EXPECT_THAT(setsockopt(fd.get(), SOL_SOCKET, option, &kSmall, sizeof kSmall), Succeeds());
    int size = 0;
    socklen_t length = sizeof size;
    EXPECT_THAT(getsockopt(fd.get(), SOL_SOCKET, option, &size, &length), Succeeds());
    EXPECT_EQ(size, 2 * kSmall);
  }
}

// Both ends of a fresh connection, of which `prepare` is told before it is made.
std::pair<Fd, Fd> PreparedPair(const std::function<void(const Fd&)>& prepare) {
  const Fd listener(socket(AF_INET, SOCK_STREAM, 0));
  const sockaddr_in any = Loopback(0);
  EXPECT_THAT(bind(listener.get(), Addr(any), sizeof any), Succeeds());
  prepare(listener);
  EXPECT_THAT(listen(listener.get(), 1), Succeeds());
  Fd client(socket(AF_INET, SOCK_STREAM, 0));
  prepare(client);
  const sockaddr_in address = Loopback(PortOf(listener));
  EXPECT_THAT(connect(client.get(), Addr(address), sizeof address), Succeeds());
  return {std::move(client), Fd(accept(listener.get(), nullptr, nullptr))};
}

int SegmentOf(const Fd& fd) {
  int segment = 0;
  socklen_t length = sizeof segment;
  EXPECT_THAT(getsockopt(fd.get(), IPPROTO_TCP, TCP_MAXSEG, &segment, &length), Succeeds());
  return segment;
}

TEST(Tcp, LargestSegmentIsAgreedOn) {
  const Fd fresh(socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_EQ(SegmentOf(fresh), 536);
  SetSmallSegments(fresh);
  EXPECT_EQ(SegmentOf(fresh), 1000);
  for (const int limited : {0, 1}) {
    int prepared = 0;
    const auto [client, server] = PreparedPair([&](const Fd& fd) {
      if (prepared++ == limited) SetSmallSegments(fd);
    });
    for (const Fd* end : {&client, &server}) {
      EXPECT_LE(SegmentOf(*end), 1000) << limited;
      // Timestamps take 12 bytes of it.
      EXPECT_GE(SegmentOf(*end), 988) << limited;
    }
  }
}

// Writes pieces of `piece` bytes until nothing more is taken; returns how much was. All of it
// arrives, and more when there is room again.
size_t Fill(const Fd& from, const Fd& to, size_t piece) {
  fcntl(from.get(), F_SETFL, O_NONBLOCK);
  std::string data(8 << 20, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 0x9e3779b1U >> 24);
  size_t sent = 0;
  while (sent < data.size()) {
    const ssize_t n = write(from.get(), data.data() + sent, std::min(piece, data.size() - sent));
    if (n > 0) {
      sent += static_cast<size_t>(n);
    } else if (PollFor(from.get(), POLLOUT, 200) == 0) {
      break;
    }
  }
  EXPECT_TRUE(ReadExactly(to.get(), sent) == data.substr(0, sent));
  EXPECT_EQ(PollFor(from.get(), POLLOUT, kPatience), POLLOUT);
  fcntl(from.get(), F_SETFL, 0);
  const std::string more = data.substr(0, 1 << 20);
  std::thread writer([&] { EXPECT_TRUE(WriteAll(from.get(), more)); });
  EXPECT_TRUE(ReadExactly(to.get(), more.size()) == more);
  writer.join();
  return sent;
}

TEST(Tcp, SmallBuffersHoldLittle) {
  for (const size_t piece : {200, 4000, 65536}) {
    const auto [client, server] = PreparedPair([](const Fd& fd) {
      SetSmallSegments(fd);
      SetSmallBuffers(fd);
    });
    constexpr size_t kLimit = 256 * 1024;
    EXPECT_LT(Fill(client, server, piece), kLimit) << piece;
    EXPECT_LT(Fill(server, client, piece), kLimit) << piece;
  }
}

TEST(Tcp, BuffersThatBecomeSmallHoldLess) {
  const auto [client, server] = PreparedPair(SetSmallSegments);
  SetSmallBuffers(client);
  SetSmallBuffers(server);
  constexpr size_t kLimit = 3 << 20;
  EXPECT_LT(Fill(client, server, 65536), kLimit);
  EXPECT_LT(Fill(server, client, 65536), kLimit);
}

// A byte alone takes much more room.
TEST(Tcp, SmallBuffersTakeManySmallWrites) {
  auto [client, server] = TcpPair();
  SetSmallBuffers(client);
  for (int i = 0; i < 100; ++i) {
    for (int j = 0; j < 20; ++j) ASSERT_TRUE(WriteAll(client.get(), "x"));
    EXPECT_EQ(ReadExactly(server.get(), 20).size(), 20U);
  }
}

TEST(Tcp, SelectMixesHostAndSocketDescriptors) {
  auto [client, server] = TcpPair();
  int host[2];
  ASSERT_THAT(pipe(host), Succeeds());
  const Fd reader(host[0]);
  const Fd writer(host[1]);
  const Fd listener = Listen();
  const auto watched = {server.get(), reader.get(), listener.get()};
  const int top = std::max(watched) + 1;
  const auto readable = [&](int timeout_ms) {
    fd_set set;
    FD_ZERO(&set);
    for (const int fd : watched) FD_SET(fd, &set);
    timeval timeout{timeout_ms / 1000, timeout_ms % 1000 * 1000};
    std::vector<int> ready;
    if (select(top, &set, nullptr, nullptr, &timeout) > 0) {
      for (const int fd : watched) {
        if (FD_ISSET(fd, &set)) ready.push_back(fd);
      }
    }
    return ready;
  };
  EXPECT_THAT(readable(kBriefly), testing::IsEmpty());
  ASSERT_TRUE(WriteAll(writer.get(), "h"));
  EXPECT_THAT(readable(kPatience), testing::ElementsAre(reader.get()));
  EXPECT_EQ(ReadExactly(reader.get(), 1), "h");
  ASSERT_TRUE(WriteAll(client.get(), "s"));
  EXPECT_THAT(readable(kPatience), testing::ElementsAre(server.get()));
  EXPECT_EQ(ReadExactly(server.get(), 1), "s");
  const Fd other = Connect(PortOf(listener));
  EXPECT_THAT(readable(kPatience), testing::ElementsAre(listener.get()));
}

TEST(Tcp, EpollEdges) {
  auto [client, server] = TcpPair();
  const Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET | EPOLLRDHUP;
  ASSERT_THAT(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, server.get(), &event), Succeeds());
  EXPECT_EQ(epoll_wait(epoll.get(), &event, 1, kBriefly), 0);
  ASSERT_TRUE(WriteAll(client.get(), "x"));
  ASSERT_EQ(epoll_wait(epoll.get(), &event, 1, kPatience), 1);
  EXPECT_EQ(event.events, static_cast<uint32_t>(EPOLLIN));
  EXPECT_EQ(epoll_wait(epoll.get(), &event, 1, kBriefly), 0);
  client.Close();
  ASSERT_EQ(epoll_wait(epoll.get(), &event, 1, kPatience), 1);
  EXPECT_NE(event.events & EPOLLRDHUP, 0U);
}

TEST(Tcp, ListenerIsNotWritable) {
  const Fd listener = Listen();
  EXPECT_EQ(PollFor(listener.get(), POLLIN | POLLOUT, kBriefly), 0);
  const Fd client = Connect(PortOf(listener));
  EXPECT_EQ(PollFor(listener.get(), POLLIN | POLLOUT, kPatience), POLLIN);
}

TEST(Tcp, NonblockingAccept) {
  const Fd listener = Listen(16, SOCK_NONBLOCK);
  EXPECT_THAT(accept(listener.get(), nullptr, nullptr), FailsWith(EAGAIN));
  const Fd client = Connect(PortOf(listener));
  ASSERT_EQ(PollFor(listener.get(), POLLIN, kPatience), POLLIN);
  const Fd plain(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  ASSERT_THAT(plain.get(), Succeeds());
  EXPECT_EQ(fcntl(plain.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_NE(fcntl(plain.get(), F_GETFL) & O_NONBLOCK, 0);
  const Fd second = Connect(PortOf(listener));
  ASSERT_EQ(PollFor(listener.get(), POLLIN, kPatience), POLLIN);
  const Fd inherited(accept(listener.get(), nullptr, nullptr));
  EXPECT_EQ(fcntl(inherited.get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(fcntl(inherited.get(), F_GETFD), 0);
}

TEST(Tcp, ChildUsesItsParentsSocket) {
  const Fd listener = Listen();
  const uint16_t port = PortOf(listener);
  const pid_t child = fork();
  ASSERT_THAT(child, Succeeds());
  if (child == 0) {
    // Control calls on what the parent made, and a socket of the child's own.
    if (PortOf(listener) != port) _exit(1);
    const Fd server(accept(listener.get(), nullptr, nullptr));
    sockaddr_in peer{};
    socklen_t size = sizeof peer;
    if (getpeername(server.get(), Addr(peer), &size) != 0) _exit(2);
    if (ReadExactly(server.get(), 5) != "hello") _exit(3);
    if (!WriteAll(server.get(), "child")) _exit(4);
    _exit(0);
  }
  const Fd client = Connect(port);
  ASSERT_TRUE(WriteAll(client.get(), "hello"));
  EXPECT_EQ(ReadExactly(client.get(), 100), "child");
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// A connection that the parent makes later ends when the parent closes it, whatever was ready for
// it at the fork.
TEST(Tcp, ChildHoldsNoConnectionThatItsParentMakesLater) {
  for (int i = 0; i < 5; ++i) TcpPair();
  int stop[2];
  ASSERT_THAT(pipe(stop), Succeeds());
  const pid_t child = fork();
  ASSERT_THAT(child, Succeeds());
  if (child == 0) {
    char byte;
    close(stop[1]);
    _exit(static_cast<int>(read(stop[0], &byte, 1)));
  }
  for (int i = 0; i < 5; ++i) {
    auto [client, server] = TcpPair();
    client.Close();
    ASSERT_NE(PollFor(server.get(), POLLIN, kPatience), 0);
    EXPECT_EQ(ReadExactly(server.get(), 1), "");
  }
  close(stop[1]);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(Tcp, FreshSocketsHaveNoConnectionToEnd) {
  const Fd listener = Listen();
  for (const int flags : {0, int{SOCK_NONBLOCK}}) {
    const Fd client(socket(AF_INET, SOCK_STREAM | flags, 0));
    const sockaddr_in nowhere{};
    EXPECT_THAT(connect(client.get(), Addr(nowhere), sizeof nowhere), Succeeds());
    EXPECT_THAT(send(client.get(), "x", 1, MSG_NOSIGNAL), FailsWith(EPIPE));
    const sockaddr_in address = Loopback(PortOf(listener));
    if (connect(client.get(), Addr(address), sizeof address) != 0) {
      EXPECT_EQ(errno, EINPROGRESS);
      EXPECT_EQ(PollFor(client.get(), POLLOUT, kPatience), POLLOUT);
    }
    const Fd server(accept(listener.get(), nullptr, nullptr));
    ASSERT_TRUE(WriteAll(client.get(), "ping"));
    EXPECT_EQ(ReadExactly(server.get(), 4), "ping");
  }
}

// Also where another process connects it, and this one writes as soon as the peer has accepted.
TEST(Tcp, StreamBeginsWithWhatIsWritten) {
  const Fd listener = Listen();
  const sockaddr_in address = Loopback(PortOf(listener));
  for (int i = 0; i < 200; ++i) {
    Fd client(socket(AF_INET, SOCK_STREAM, 0));
    const pid_t child = fork();
    ASSERT_THAT(child, Succeeds());
    if (child == 0) _exit(connect(client.get(), Addr(address), sizeof address) == 0 ? 0 : 1);
    const Fd server(accept(listener.get(), nullptr, nullptr));
    ASSERT_TRUE(WriteAll(client.get(), "first"));
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    client.Close();
    ASSERT_EQ(ReadExactly(server.get(), 6), "first") << i;
  }
}

// Connections go on while numbers far above all others come and go.
TEST(Tcp, HighNumbersAreThePrograms) {
  const Fd listener = Listen();
  std::atomic<bool> stop = false;
  std::thread connects([&] {
    while (!stop) {
      const Fd client = Connect(PortOf(listener));
      const Fd server(accept(listener.get(), nullptr, nullptr));
      ASSERT_TRUE(WriteAll(client.get(), "x"));
      ASSERT_EQ(ReadExactly(server.get(), 1), "x");
    }
  });
  int ends[2];
  ASSERT_THAT(pipe(ends), Succeeds());
  constexpr int kFirst = 1000, kNumbers = 3, kTimes = 3000;
  for (int i = 0; i < kTimes && !testing::Test::HasFailure(); ++i) {
    const int number = kFirst + i % kNumbers;
    ASSERT_EQ(dup2(ends[1], number), number);
    ASSERT_EQ(write(number, "y", 1), 1) << errno;
    char byte = 0;
    ASSERT_EQ(read(ends[0], &byte, 1), 1);
    ASSERT_EQ(byte, 'y');
    ASSERT_THAT(close(number), Succeeds());
  }
  stop = true;
  connects.join();
  close(ends[0]);
  close(ends[1]);
}

TEST(Tcp, ThreadsConnectAtOnce) {
  constexpr int kThreads = 4, kTimes = 50;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < kTimes; ++i) {
        auto [client, server] = TcpPair();
        ASSERT_TRUE(WriteAll(client.get(), "ping"));
        EXPECT_EQ(ReadExactly(server.get(), 4), "ping");
        client.Close();
        EXPECT_EQ(ReadExactly(server.get(), 1), "");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Whatever else the server sends at the same time.
TEST(Tcp, ThreadsGetTheSocketsThatTheyAskFor) {
  constexpr int kTimes = 2000;
  uint16_t closed = 0;
  { closed = PortOf(Listen()); }
  std::atomic<bool> stop = false;
  std::thread connects([&] {
    while (!stop) {
      const Fd refused(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
      (void)connect(refused.get(), Addr(Loopback(closed)), sizeof(sockaddr_in));
    }
  });
  for (int i = 0; i < kTimes; ++i) {
    const Fd datagrams(socket(AF_INET, SOCK_DGRAM, 0));
    int type = 0;
    socklen_t size = sizeof type;
    EXPECT_THAT(getsockopt(datagrams.get(), SOL_SOCKET, SO_TYPE, &type, &size), Succeeds());
    if (type != SOCK_DGRAM) ADD_FAILURE() << i << ": " << type;
  }
  stop = true;
  connects.join();
}

TEST(Tcp, ChildOfVforkMayCloseWhatItInherits) {
  const Fd listener = Listen();
  const pid_t child = vfork();
  if (child == 0) {
    close(listener.get());
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  const Fd client = Connect(PortOf(listener));
  EXPECT_THAT(client.get(), Succeeds());
}

TEST(Tcp, ResetReachesTheReader) {
  auto [client, server] = TcpPair();
  ASSERT_TRUE(WriteAll(client.get(), "unread"));
  ASSERT_EQ(PollFor(server.get(), POLLIN, kPatience), POLLIN);
  server.Close();
  // Closed with bytes unread: the peer is told by a reset, not by an end of file.
  EXPECT_NE(PollFor(client.get(), POLLIN, kPatience) & (POLLHUP | POLLERR), 0);
}

TEST(Tcp, OptionsHaveTheirLengths) {
  const Fd fd(socket(AF_INET, SOCK_STREAM, 0));
  const auto get = [&](int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    EXPECT_THAT(getsockopt(fd.get(), level, name, &value, &size), Succeeds()) << level << name;
    EXPECT_EQ(size, sizeof value);
    return value;
  };
  EXPECT_EQ(get(SOL_SOCKET, SO_TYPE), SOCK_STREAM);
  EXPECT_EQ(get(SOL_SOCKET, SO_DOMAIN), AF_INET);
  EXPECT_EQ(get(SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
  EXPECT_EQ(get(SOL_SOCKET, SO_ACCEPTCONN), 0);
  EXPECT_EQ(get(IPPROTO_TCP, TCP_NODELAY), 0);
  const int on = 1;
  ASSERT_THAT(setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), Succeeds());
  EXPECT_EQ(get(IPPROTO_TCP, TCP_NODELAY), 1);
  char options[40];
  socklen_t size = sizeof options;
  ASSERT_THAT(getsockopt(fd.get(), IPPROTO_IP, IP_OPTIONS, options, &size), Succeeds());
  EXPECT_EQ(size, 0U);
  size = sizeof options;
  ASSERT_THAT(getsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, options, &size), Succeeds());
  EXPECT_EQ(size, 0U);
  EXPECT_THAT(getsockopt(fd.get(), SOL_SOCKET, 9999, options, &size), FailsWith(ENOPROTOOPT));
  const Fd listener = Listen();
  int accepting = 0;
  size = sizeof accepting;
  ASSERT_THAT(getsockopt(listener.get(), SOL_SOCKET, SO_ACCEPTCONN, &accepting, &size), Succeeds());
  EXPECT_EQ(accepting, 1);
}

TEST(Tcp, ReceiveTimeout) {
  auto [client, server] = TcpPair();
  const timeval brief{0, 50'000};
  ASSERT_THAT(setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief), Succeeds());
  char byte;
  EXPECT_THAT(recv(client.get(), &byte, 1, 0), FailsWith(EAGAIN));
}

void Nothing(int) {}

TEST(Tcp, SignalInterruptsAccept) {
  const Fd listener = Listen();
  struct sigaction action {};
  action.sa_handler = Nothing;
  ASSERT_THAT(sigaction(SIGALRM, &action, nullptr), Succeeds());
  // An alarm that comes again wakes also a call that was not yet waiting for the first.
  ualarm(20'000, 20'000);
  EXPECT_THAT(accept(listener.get(), nullptr, nullptr), FailsWith(EINTR));
  ualarm(0, 0);
}

TEST(Tcp, StdioOnASocket) {
  auto [client, server] = TcpPair();
  FILE* stream = fdopen(server.release(), "r+");
  ASSERT_NE(stream, nullptr);
  ASSERT_TRUE(WriteAll(client.get(), "a line\n"));
  char line[32];
  ASSERT_NE(fgets(line, sizeof line, stream), nullptr);
  EXPECT_STREQ(line, "a line\n");
  fputs("back\n", stream);
  fclose(stream);
  EXPECT_EQ(ReadExactly(client.get(), 100), "back\n");
}

}  // namespace
}  // namespace rump
