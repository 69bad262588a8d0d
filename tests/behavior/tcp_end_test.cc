// How connections end, and what else is not bytes in order: tcp(7), socket(7), recv(2).
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include <functional>
#include <iterator>
#include <string>
#include <thread>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

// Closes `fd` with a reset.
void Reset(Fd* fd) {
  const linger now{.l_onoff = 1, .l_linger = 0};
  ASSERT_THAT(setsockopt(fd->get(), SOL_SOCKET, SO_LINGER, &now, sizeof now), Succeeds());
  fd->Close();
}

int ErrorOf(const Fd& fd) {
  int error = -1;
  socklen_t size = sizeof error;
  EXPECT_THAT(getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size), Succeeds());
  EXPECT_EQ(size, sizeof error);
  return error;
}

// A direct pair ends with an end of file for its peer where SO_LINGER asks for a reset: these
// connections pass the stack.

TEST(Reset, IsSeenByWhoReads) {
  for (const bool by_server : {false, true}) {
    auto [client, server] = StackTcpPair();
    Fd& closed = by_server ? server : client;
    const Fd& reader = by_server ? client : server;
    std::thread closer([&] {
      PollFor(reader.get(), POLLIN, kBriefly);
      Reset(&closed);
    });
    char byte;
    EXPECT_THAT(recv(reader.get(), &byte, 1, 0), FailsWith(ECONNRESET));
    closer.join();
    // Once.
    EXPECT_EQ(recv(reader.get(), &byte, 1, 0), 0);
    EXPECT_EQ(ErrorOf(reader), 0);
  }
}

TEST(Reset, ComesBehindWhatWasWritten) {
  auto [client, server] = StackTcpPair();
  ASSERT_TRUE(WriteAll(client.get(), "data"));
  Reset(&client);
  EXPECT_EQ(ReadExactly(server.get(), 4), "data");
  char byte;
  EXPECT_THAT(recv(server.get(), &byte, 1, 0), FailsWith(ECONNRESET));
}

TEST(Reset, IsSeenByPoll) {
  auto [client, server] = StackTcpPair();
  Reset(&client);
  ASSERT_NE(PollFor(server.get(), POLLIN, kPatience), 0);
  // All of it comes together.
  short ready = 0;
  while ((ready & POLLHUP) == 0) ready = PollFor(server.get(), POLLIN | POLLRDHUP, kPatience);
  EXPECT_EQ(ready, POLLIN | POLLRDHUP | POLLERR | POLLHUP);
  EXPECT_EQ(ErrorOf(server), ECONNRESET);
  EXPECT_EQ(ErrorOf(server), 0);
  char byte;
  EXPECT_EQ(recv(server.get(), &byte, 1, 0), 0);
}

TEST(Reset, ComesBehindWhatWasSentBefore) {
  auto [client, server] = StackTcpPair();
  ASSERT_TRUE(WriteAll(client.get(), "last words"));
  ASSERT_TRUE(WriteAll(server.get(), "answer"));
  EXPECT_EQ(ReadExactly(client.get(), 6), "answer");
  ASSERT_EQ(PollFor(server.get(), POLLIN, kPatience), POLLIN);
  Reset(&client);
  EXPECT_EQ(ReadExactly(server.get(), 10), "last words");
  char byte;
  EXPECT_THAT(recv(server.get(), &byte, 1, 0), FailsWith(ECONNRESET));
}

TEST(Reset, AfterMuchWasSentBothWays) {
  auto [client, server] = StackTcpPair();
  const std::string data(300'000, 'x');
  for (int i = 0; i < 3; ++i) {
    std::thread writer([fd = client.get(), &data] { EXPECT_TRUE(WriteAll(fd, data)); });
    EXPECT_EQ(ReadExactly(server.get(), data.size()).size(), data.size());
    writer.join();
    std::thread answerer([fd = server.get(), &data] { EXPECT_TRUE(WriteAll(fd, data)); });
    EXPECT_EQ(ReadExactly(client.get(), data.size()).size(), data.size());
    answerer.join();
  }
  Reset(&server);
  char byte;
  EXPECT_THAT(recv(client.get(), &byte, 1, 0), FailsWith(ECONNRESET));
}

// Sends until nothing goes any more.
void Fill(const Fd& fd) {
  const std::string data(100'000, 'x');
  while (PollFor(fd.get(), POLLOUT, kBriefly) != 0) {
    send(fd.get(), data.data(), data.size(), MSG_DONTWAIT);
  }
}

TEST(Reset, WakesWhoWaitsToSend) {
  auto [client, server] = StackTcpPair();
  // Nor does the reset wait until this has been read.
  Fill(client);
  Fill(server);
  Reset(&client);
  ASSERT_NE(PollFor(server.get(), POLLOUT, kPatience) & POLLOUT, 0);
  EXPECT_EQ(send(server.get(), "x", 1, MSG_NOSIGNAL), -1);
}

TEST(Reset, OfWhatIsHalfClosed) {
  auto [client, server] = StackTcpPair();
  ASSERT_THAT(shutdown(client.get(), SHUT_WR), Succeeds());
  char byte;
  EXPECT_EQ(recv(server.get(), &byte, 1, 0), 0);
  Reset(&server);
  EXPECT_THAT(recv(client.get(), &byte, 1, 0), FailsWith(ECONNRESET));
}

TEST(Reset, ClosingWithUnreadDataIsOne) {
  auto [client, server] = TcpPair();
  ASSERT_TRUE(WriteAll(client.get(), "unread"));
  ASSERT_EQ(PollFor(server.get(), POLLIN, kPatience), POLLIN);
  server.Close();
  char byte;
  EXPECT_THAT(recv(client.get(), &byte, 1, 0), FailsWith(ECONNRESET));
}

TEST(Shutdown, OfReadingIsNoBusinessOfThePeer) {
  auto [client, server] = TcpPair();
  ASSERT_TRUE(WriteAll(server.get(), "before"));
  ASSERT_EQ(PollFor(client.get(), POLLIN, kPatience), POLLIN);
  ASSERT_THAT(shutdown(client.get(), SHUT_RD), Succeeds());
  EXPECT_EQ(ReadExactly(client.get(), 100), "before");
  EXPECT_EQ(send(server.get(), "after", 5, MSG_NOSIGNAL), 5);
  ASSERT_TRUE(WriteAll(client.get(), "answer"));
  EXPECT_EQ(ReadExactly(server.get(), 6), "answer");
}

TEST(Close, IsAnOrderlyEnd) {
  auto [client, server] = TcpPair();
  ASSERT_TRUE(WriteAll(client.get(), "bye"));
  client.Close();
  EXPECT_EQ(ReadExactly(server.get(), 100), "bye");
  EXPECT_EQ(ErrorOf(server), 0);
  const short ready = PollFor(server.get(), POLLIN | POLLRDHUP, kPatience);
  // What a direct pair's other end has closed takes nothing either.
  EXPECT_EQ(ready, POLLIN | POLLRDHUP | (IsDirect(server) ? POLLHUP : 0));
}

TEST(Close, LingeringWaitsForTheBytes) {
  auto [client, server] = TcpPair();
  const linger wait{.l_onoff = 1, .l_linger = 5};
  ASSERT_THAT(setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &wait, sizeof wait), Succeeds());
  linger read{};
  socklen_t size = sizeof read;
  ASSERT_THAT(getsockopt(client.get(), SOL_SOCKET, SO_LINGER, &read, &size), Succeeds());
  EXPECT_EQ(size, sizeof read);
  EXPECT_EQ(read.l_linger, 5);
  ASSERT_TRUE(WriteAll(client.get(), "all of it"));
  client.Close();
  EXPECT_EQ(ReadExactly(server.get(), 100), "all of it");
}

TEST(HalfClose, BothWaysInTurn) {
  auto [client, server] = TcpPair();
  ASSERT_THAT(shutdown(client.get(), SHUT_WR), Succeeds());
  char byte;
  EXPECT_EQ(recv(server.get(), &byte, 1, 0), 0);
  ASSERT_TRUE(WriteAll(server.get(), "still"));
  EXPECT_EQ(ReadExactly(client.get(), 5), "still");
  ASSERT_THAT(shutdown(server.get(), SHUT_WR), Succeeds());
  EXPECT_EQ(recv(client.get(), &byte, 1, 0), 0);
  EXPECT_EQ(ErrorOf(client), 0);
}

TEST(Pipe, SignalUnlessAskedNot) {
  auto [client, server] = TcpPair();
  static volatile sig_atomic_t signals;
  signals = 0;
  signal(SIGPIPE, [](int) { signals = signals + 1; });
  ASSERT_THAT(shutdown(client.get(), SHUT_WR), Succeeds());
  EXPECT_THAT(send(client.get(), "x", 1, MSG_NOSIGNAL), FailsWith(EPIPE));
  EXPECT_EQ(signals, 0);
  EXPECT_THAT(send(client.get(), "x", 1, 0), FailsWith(EPIPE));
  EXPECT_EQ(signals, 1);
  EXPECT_THAT(write(client.get(), "x", 1), FailsWith(EPIPE));
  EXPECT_EQ(signals, 2);
  signal(SIGPIPE, SIG_DFL);
}

// TCP learns only by a write that its peer has closed.
TEST(Pipe, TakesOneMoreWrite) {
  signal(SIGPIPE, SIG_IGN);
  char data[] = "last";
  iovec parts[] = {{data, 1}, {data + 1, 3}};
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  const std::function<ssize_t(int)> writes[] = {
      [&](int fd) { return write(fd, data, 4); },
      [&](int fd) { return writev(fd, parts, 2); },
      [&](int fd) { return pwritev2(fd, parts, 2, -1, 0); },
      [&](int fd) { return send(fd, data, 4, 0); },
      [&](int fd) { return sendto(fd, data, 4, MSG_NOSIGNAL, nullptr, 0); },
      [&](int fd) { return sendmsg(fd, &message, 0); },
      [&](int fd) { return syscall(SYS_write, fd, data, 4); },
  };
  for (size_t i = 0; i < std::size(writes); ++i) {
    auto [client, server] = TcpPair();
    server.Close();
    EXPECT_EQ(PollFor(client.get(), POLLIN, kPatience) & POLLIN, POLLIN);
    EXPECT_EQ(writes[i](client.get()), 4) << i;
    // Until the answer to that is here.
    ssize_t r;
    while ((r = writes[i](client.get())) == 4) {
    }
    EXPECT_THAT(r, FailsWith(EPIPE)) << i;
    char byte;
    EXPECT_EQ(read(client.get(), &byte, 1), 0) << i;
  }
  signal(SIGPIPE, SIG_DFL);
}

// Nothing gets to the peer, which so has nothing to answer.
TEST(Pipe, TakesNothingForEver) {
  signal(SIGPIPE, SIG_IGN);
  auto [client, server] = TcpPair();
  server.Close();
  EXPECT_EQ(PollFor(client.get(), POLLIN, kPatience) & POLLIN, POLLIN);
  char byte = 'x';
  iovec nothing = {&byte, 0};
  msghdr message = {};
  message.msg_iov = &nothing;
  message.msg_iovlen = 1;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(send(client.get(), &byte, 0, 0), 0);
    EXPECT_EQ(write(client.get(), &byte, 0), 0);
    EXPECT_EQ(writev(client.get(), &nothing, 1), 0);
    EXPECT_EQ(sendmsg(client.get(), &message, 0), 0);
  }
  EXPECT_EQ(send(client.get(), &byte, 1, 0), 1);
  signal(SIGPIPE, SIG_DFL);
}

TEST(Pipe, ResetIsToldOfOnce) {
  signal(SIGPIPE, SIG_IGN);
  auto [client, server] = TcpPair();
  ASSERT_TRUE(WriteAll(client.get(), "unread"));
  EXPECT_EQ(PollFor(server.get(), POLLIN, kPatience), POLLIN);
  server.Close();
  EXPECT_EQ(PollFor(client.get(), POLLIN, kPatience) & POLLIN, POLLIN);
  EXPECT_THAT(write(client.get(), "x", 1), FailsWith(ECONNRESET));
  EXPECT_THAT(write(client.get(), "x", 1), FailsWith(EPIPE));
  signal(SIGPIPE, SIG_DFL);
}

TEST(Receive, WaitallWaitsForAllOrTheEnd) {
  auto [client, server] = TcpPair();
  std::thread writer([&client = client] {
    WriteAll(client.get(), "ab");
    PollFor(client.get(), POLLIN, kBriefly);
    WriteAll(client.get(), "cd");
    WriteAll(client.get(), "e");
    client.Close();
  });
  char data[4];
  EXPECT_EQ(recv(server.get(), data, 4, MSG_WAITALL), 4);
  EXPECT_EQ(std::string(data, 4), "abcd");
  EXPECT_EQ(recv(server.get(), data, 4, MSG_WAITALL), 1);
  writer.join();
}

TEST(Receive, ErrorsAreNoBytes) {
  const Fd fresh(socket(AF_INET, SOCK_STREAM, 0));
  auto [client, server] = TcpPair();
  ASSERT_TRUE(WriteAll(client.get(), "text"));
  ASSERT_EQ(PollFor(server.get(), POLLIN, kPatience), POLLIN);
  char data[8];
  iovec buffer = {data, sizeof data};
  for (const int fd : {server.get(), fresh.get()}) {
    msghdr message = {};
    message.msg_iov = &buffer;
    message.msg_iovlen = 1;
    sockaddr_in from;
    socklen_t size = sizeof from;
    EXPECT_THAT(recv(fd, data, sizeof data, MSG_ERRQUEUE), FailsWith(EAGAIN));
    EXPECT_THAT(recvfrom(fd, data, sizeof data, MSG_ERRQUEUE, Addr(from), &size),
                FailsWith(EAGAIN));
    EXPECT_THAT(recvmsg(fd, &message, MSG_ERRQUEUE), FailsWith(EAGAIN));
  }
  EXPECT_EQ(ReadExactly(server.get(), 4), "text");
}

TEST(Receive, TruncThrowsBytesAway) {
  auto [client, server] = TcpPair();
  const std::string much(200'000, 'a');
  ASSERT_TRUE(WriteAll(client.get(), "0123456789" + much + "end"));
  char data[] = "____";
  EXPECT_EQ(recv(server.get(), nullptr, 2, MSG_TRUNC | MSG_PEEK), 2);
  EXPECT_EQ(recv(server.get(), nullptr, 2, MSG_TRUNC), 2);
  EXPECT_EQ(recv(server.get(), data, 4, MSG_TRUNC), 4);
  iovec parts[] = {{data, 1}, {data, 3}};
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  EXPECT_EQ(recvmsg(server.get(), &message, MSG_TRUNC), 4);
  EXPECT_STREQ(data, "____");
  EXPECT_EQ(recv(server.get(), nullptr, much.size(), MSG_TRUNC | MSG_WAITALL),
            static_cast<ssize_t>(much.size()));
  EXPECT_EQ(ReadExactly(server.get(), 3), "end");
  EXPECT_THAT(recv(server.get(), nullptr, 1, MSG_TRUNC | MSG_DONTWAIT), FailsWith(EAGAIN));
  const Fd fresh(socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_THAT(recv(fresh.get(), nullptr, 1, MSG_TRUNC), FailsWith(ENOTCONN));
}

TEST(Receive, PeekTakesNothing) {
  auto [client, server] = TcpPair();
  ASSERT_TRUE(WriteAll(client.get(), "abc"));
  char data[8];
  EXPECT_EQ(recv(server.get(), data, 3, MSG_PEEK | MSG_WAITALL), 3);
  EXPECT_EQ(recv(server.get(), data, 1, MSG_PEEK), 1);
  EXPECT_EQ(ReadExactly(server.get(), 3), "abc");
}

TEST(Receive, TimeoutEndsIt) {
  auto [client, server] = TcpPair();
  const timeval brief{0, 30'000};
  ASSERT_THAT(setsockopt(server.get(), SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief), Succeeds());
  timeval read{};
  socklen_t size = sizeof read;
  ASSERT_THAT(getsockopt(server.get(), SOL_SOCKET, SO_RCVTIMEO, &read, &size), Succeeds());
  EXPECT_EQ(size, sizeof read);
  EXPECT_NE(read.tv_usec, 0);
  char byte;
  EXPECT_THAT(recv(server.get(), &byte, 1, 0), FailsWith(EAGAIN));
  ASSERT_TRUE(WriteAll(client.get(), "x"));
  ASSERT_EQ(PollFor(server.get(), POLLIN, kPatience), POLLIN);
  EXPECT_EQ(recv(server.get(), &byte, 1, 0), 1);
}

TEST(Send, TimeoutEndsIt) {
  auto [client, server] = TcpPair();
  const timeval brief{0, 30'000};
  ASSERT_THAT(setsockopt(client.get(), SOL_SOCKET, SO_SNDTIMEO, &brief, sizeof brief), Succeeds());
  const std::string chunk(1 << 20, 'x');
  ssize_t n = 0;
  for (int i = 0; i < 1000 && n >= 0; ++i) n = send(client.get(), chunk.data(), chunk.size(), 0);
  EXPECT_THAT(n, FailsWith(EAGAIN));
}

TEST(Accept, TimeoutEndsIt) {
  const Fd listener = Listen();
  const timeval brief{0, 30'000};
  ASSERT_THAT(setsockopt(listener.get(), SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief),
              Succeeds());
  EXPECT_THAT(accept(listener.get(), nullptr, nullptr), FailsWith(EAGAIN));
}

TEST(Ioctl, QueuesOfBothDirections) {
  auto [client, server] = TcpPair();
  int bytes = -1;
  ASSERT_THAT(ioctl(server.get(), FIONREAD, &bytes), Succeeds());
  EXPECT_EQ(bytes, 0);
  ASSERT_TRUE(WriteAll(client.get(), "12345"));
  ASSERT_EQ(PollFor(server.get(), POLLIN, kPatience), POLLIN);
  ASSERT_THAT(ioctl(server.get(), FIONREAD, &bytes), Succeeds());
  EXPECT_EQ(bytes, 5);
  // What was sent is acknowledged some time.
  do {
    ASSERT_THAT(ioctl(client.get(), SIOCOUTQ, &bytes), Succeeds());
  } while (bytes != 0);
  const Fd listener = Listen();
  EXPECT_THAT(ioctl(listener.get(), SIOCINQ, &bytes), FailsWith(EINVAL));
  EXPECT_THAT(ioctl(listener.get(), SIOCOUTQ, &bytes), FailsWith(EINVAL));
}

// --- Options ---

TEST(Options, LengthsAreExact) {
  auto [client, server] = TcpPair();
  char value[512];
  const auto length = [&fd = client, &value](int level, int option, socklen_t room) -> int {
    socklen_t size = room;
    if (getsockopt(fd.get(), level, option, value, &size) != 0) return -errno;
    return static_cast<int>(size);
  };
  EXPECT_EQ(length(IPPROTO_IP, IP_OPTIONS, sizeof value), 0);
  EXPECT_EQ(length(SOL_SOCKET, SO_TYPE, sizeof value), 4);
  EXPECT_EQ(length(SOL_SOCKET, SO_TYPE, 2), 2);
  EXPECT_EQ(length(IPPROTO_IP, IP_TOS, sizeof value), 4);
  EXPECT_EQ(length(IPPROTO_IP, IP_TOS, 1), 1);
  EXPECT_EQ(length(SOL_SOCKET, SO_LINGER, sizeof value), static_cast<int>(sizeof(linger)));
  EXPECT_EQ(length(SOL_SOCKET, SO_RCVTIMEO, sizeof value), static_cast<int>(sizeof(timeval)));
  EXPECT_EQ(length(IPPROTO_TCP, TCP_CONGESTION, sizeof value), 16);
  EXPECT_GE(length(IPPROTO_TCP, TCP_INFO, sizeof value), 104);
  EXPECT_EQ(length(IPPROTO_TCP, TCP_INFO, 1), 1);
  EXPECT_EQ(value[0], TCP_ESTABLISHED);
  EXPECT_EQ(length(SOL_SOCKET, 9999, sizeof value), -ENOPROTOOPT);
}

TEST(Options, OfTheSocketsKind) {
  const auto option = [](const Fd& fd, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    EXPECT_THAT(getsockopt(fd.get(), SOL_SOCKET, name, &value, &size), Succeeds());
    return value;
  };
  const Fd tcp(socket(AF_INET6, SOCK_STREAM, 0));
  EXPECT_EQ(option(tcp, SO_DOMAIN), AF_INET6);
  EXPECT_EQ(option(tcp, SO_TYPE), SOCK_STREAM);
  EXPECT_EQ(option(tcp, SO_PROTOCOL), IPPROTO_TCP);
  const Fd udp(socket(AF_INET, SOCK_DGRAM, 0));
  EXPECT_EQ(option(udp, SO_DOMAIN), AF_INET);
  EXPECT_EQ(option(udp, SO_TYPE), SOCK_DGRAM);
  EXPECT_EQ(option(udp, SO_PROTOCOL), IPPROTO_UDP);
}

TEST(Options, NoCredentialsOfAnInternetPeer) {
  auto [client, server] = TcpPair();
  struct {
    int pid, uid, gid;
  } peer{7, 7, 7};
  socklen_t size = sizeof peer;
  ASSERT_THAT(getsockopt(client.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size), Succeeds());
  EXPECT_EQ(size, sizeof peer);
  EXPECT_EQ(peer.pid, 0);
  EXPECT_EQ(peer.uid, -1);
  EXPECT_EQ(peer.gid, -1);
}

TEST(Options, StatesInTcpInfo) {
  const auto state = [](const Fd& fd) {
    tcp_info info{};
    socklen_t size = sizeof info;
    EXPECT_THAT(getsockopt(fd.get(), IPPROTO_TCP, TCP_INFO, &info, &size), Succeeds());
    return int{info.tcpi_state};
  };
  const Fd fresh(socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_EQ(state(fresh), TCP_CLOSE);
  const Fd listener = Listen();
  EXPECT_EQ(state(listener), TCP_LISTEN);
  // Of the end of a direct pair only its two programs know.
  auto [client, server] = StackTcpPair();
  EXPECT_EQ(state(client), TCP_ESTABLISHED);
  ASSERT_THAT(shutdown(client.get(), SHUT_WR), Succeeds());
  char byte;
  EXPECT_EQ(recv(server.get(), &byte, 1, 0), 0);
  EXPECT_EQ(state(server), TCP_CLOSE_WAIT);
  while (state(client) == TCP_FIN_WAIT1) {
  }
  EXPECT_EQ(state(client), TCP_FIN_WAIT2);
}

// --- Signals ---

TEST(Signals, ReadinessRaisesSigio) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGIO);
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &set, nullptr), 0);
  auto [client, server] = TcpPair();
  ASSERT_THAT(fcntl(server.get(), F_SETOWN, getpid()), Succeeds());
  EXPECT_EQ(fcntl(server.get(), F_GETOWN), getpid());
  ASSERT_THAT(fcntl(server.get(), F_SETFL, O_ASYNC), Succeeds());
  const timespec none{0, 0};
  while (sigtimedwait(&set, nullptr, &none) == SIGIO) {
  }
  ASSERT_TRUE(WriteAll(client.get(), "x"));
  const timespec patience{kPatience / 1000, 0};
  EXPECT_EQ(sigtimedwait(&set, nullptr, &patience), SIGIO);
  ASSERT_THAT(fcntl(server.get(), F_SETFL, 0), Succeeds());
  while (sigtimedwait(&set, nullptr, &none) == SIGIO) {
  }
  ASSERT_EQ(pthread_sigmask(SIG_UNBLOCK, &set, nullptr), 0);
}

}  // namespace
}  // namespace rump
