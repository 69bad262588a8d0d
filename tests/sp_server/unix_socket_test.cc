// AF_UNIX sockets inside the server, by their system calls.
#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/un.h>

#include <string>

#include "gtest/gtest.h"
#include "protocol/syscalls.h"
#include "tests/sp_server/server_thread.h"
#include "tests/sp_server/test_program.h"

namespace rump {
namespace {

constexpr uint64_t kArg = 4096;
constexpr uint64_t kSize = 8192;
constexpr uint64_t kData = 16384;

class UnixSocketTest : public testing::Test {
 protected:
  int Socket(int type, TestProgram* program = nullptr) {
    return static_cast<int>(
        (program != nullptr ? *program : program_).Call(SYS_socket, AF_UNIX, type, 0));
  }
  int Listener(std::string_view name, int type = SOCK_STREAM, int backlog = 8) {
    const int fd = Socket(type);
    EXPECT_EQ(program_.BindUnix(fd, name), 0);
    EXPECT_EQ(program_.Call(SYS_listen, fd, backlog), 0);
    return fd;
  }
  // Name that getsockname or getpeername finds, '@' for its leading NUL; "errno <n>".
  std::string Name(uint32_t call, int fd) {
    program_.Put(kSize, socklen_t{sizeof(sockaddr_un) + 1});
    const int64_t result = program_.Call(call, fd, kArg, kSize);
    if (result != 0) return "errno " + std::to_string(-result);
    return NameAt(kArg, program_.Get<socklen_t>(kSize));
  }
  std::string NameAt(uint64_t addr, socklen_t size) {
    EXPECT_EQ(program_.Get<sa_family_t>(addr), AF_UNIX);
    const size_t offset = offsetof(sockaddr_un, sun_path);
    std::string name = program_.Text(addr + offset, size - offset);
    if (!name.empty() && name.front() == '\0') {
      name.front() = '@';
    } else if (!name.empty()) {
      EXPECT_EQ(name.back(), '\0');
      name.pop_back();
    }
    return name;
  }
  int Poll(int fd) {
    program_.Put(kArg, pollfd{.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP, .revents = 0});
    program_.Call(SYS_poll, kArg, 1, 0);
    return program_.Get<pollfd>(kArg).revents;
  }
  int Option(int fd, int name) {
    program_.Put(kSize, socklen_t{sizeof(int)});
    const int64_t result = program_.Call(SYS_getsockopt, fd, SOL_SOCKET, name, kArg, kSize);
    return result == 0 ? program_.Get<int>(kArg) : static_cast<int>(result);
  }
  int64_t SetNonblocking(int fd) { return program_.Call(SYS_fcntl, fd, F_SETFL, O_NONBLOCK); }
  int64_t SendTo(int fd, std::string_view name, std::string_view text) {
    const uint64_t size = program_.PutUnixAddress(kArg, name);
    program_.PutText(kData, text);
    return program_.Call(SYS_sendto, fd, kData, text.size(), 0, kArg, size);
  }

  ServerThread server_;
  TestProgram program_{server_.path()};
};

TEST_F(UnixSocketTest, StreamPairCarriesBytesBothWays) {
  const auto [a, b] = program_.Socketpair(SOCK_STREAM);
  EXPECT_EQ(program_.Write(a, "hello "), 6);
  EXPECT_EQ(program_.Write(a, "world"), 5);
  EXPECT_EQ(program_.Read(b, 8), "hello wo");
  EXPECT_EQ(program_.Read(b), "rld");
  EXPECT_EQ(program_.Write(b, "back"), 4);
  EXPECT_EQ(program_.Read(a), "back");
}

TEST_F(UnixSocketTest, BlockedReaderIsWokenAndEndOfFileComesLast) {
  const auto [a, b] = program_.Socketpair(SOCK_STREAM);
  const uint64_t read = program_.StartBlocked(SYS_read, b, kData, 100);
  EXPECT_FALSE(program_.HasFinished(read));
  program_.Write(a, "wake");
  EXPECT_EQ(program_.Finish(read), 4);
  program_.Write(a, "last");
  program_.Close(a);
  EXPECT_EQ(Poll(b), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
  EXPECT_EQ(program_.Read(b), "last");
  EXPECT_EQ(program_.Read(b), "");
  EXPECT_EQ(program_.Write(b, "x"), -EPIPE);
  EXPECT_EQ(program_.raised(), std::vector<int>{SIGPIPE});
}

TEST_F(UnixSocketTest, UnreadBytesResetTheOtherEnd) {
  const auto [a, b] = program_.Socketpair(SOCK_STREAM);
  program_.Write(a, "unread");
  program_.Close(b);
  EXPECT_NE(Poll(a) & POLLERR, 0);
  EXPECT_EQ(program_.Read(a), "errno " + std::to_string(ECONNRESET));
  EXPECT_EQ(program_.Read(a), "");
}

TEST_F(UnixSocketTest, FullStreamBlocksTheWriterUntilThereIsRoom) {
  const auto [a, b] = program_.Socketpair(SOCK_STREAM);
  SetNonblocking(a);
  int64_t total = 0;
  for (int64_t n = 0; n >= 0; total += n) {
    n = program_.Call(SYS_write, a, kData, 65536);
    if (n == -EAGAIN) break;
    ASSERT_GT(n, 0);
    ASSERT_LT(total, 1 << 20) << "not bounded";
  }
  EXPECT_EQ(Poll(a) & POLLOUT, 0);
  program_.Call(SYS_fcntl, a, F_SETFL, 0);
  const uint64_t write = program_.StartBlocked(SYS_write, a, kData, 100'000);
  EXPECT_FALSE(program_.HasFinished(write));
  int64_t left = total + 100'000;
  while (left > 0) {
    const int64_t n = program_.Call(SYS_read, b, kData, 65536);
    ASSERT_GT(n, 0);
    left -= n;
  }
  EXPECT_EQ(left, 0);
  EXPECT_EQ(program_.Finish(write), 100'000);
}

TEST_F(UnixSocketTest, ShutdownIsSeenByBothEnds) {
  const auto [a, b] = program_.Socketpair(SOCK_STREAM);
  EXPECT_EQ(program_.Call(SYS_shutdown, a, SHUT_WR), 0);
  EXPECT_EQ(program_.Read(b), "");
  EXPECT_EQ(program_.Write(a, "x"), -EPIPE);
  EXPECT_EQ(program_.Write(b, "other way"), 9);
  EXPECT_EQ(program_.Read(a), "other way");
  EXPECT_EQ(program_.Call(SYS_shutdown, b, 3), -EINVAL);
}

TEST_F(UnixSocketTest, RecordsKeepTheirEnds) {
  for (const int type : {SOCK_DGRAM, SOCK_SEQPACKET}) {
    const auto [a, b] = program_.Socketpair(type);
    program_.Write(a, "first");
    program_.Write(a, "");
    program_.Write(a, "second");
    EXPECT_EQ(program_.Read(b, 3), "fir") << "the rest of a record is lost";
    EXPECT_EQ(program_.Read(b), "");
    EXPECT_EQ(program_.Call(SYS_ioctl, b, FIONREAD, kArg), 0);
    EXPECT_EQ(program_.Get<int>(kArg), 6);
    EXPECT_EQ(program_.Call(SYS_recvfrom, b, kData, 3, MSG_PEEK | MSG_TRUNC, 0, 0), 6);
    EXPECT_EQ(program_.Read(b), "second");
  }
}

TEST_F(UnixSocketTest, SequencedPacketsEndWithTheirConnection) {
  const auto [a, b] = program_.Socketpair(SOCK_SEQPACKET);
  program_.Write(a, "last");
  program_.Close(a);
  EXPECT_EQ(program_.Read(b), "last");
  EXPECT_EQ(program_.Read(b), "");
  EXPECT_EQ(program_.Write(b, "x"), -EPIPE);
  EXPECT_TRUE(program_.raised().empty()) << "SIGPIPE is for streams";
}

TEST_F(UnixSocketTest, FullRecordQueueBlocksItsSenders) {
  const auto [a, b] = program_.Socketpair(SOCK_DGRAM);
  SetNonblocking(a);
  int count = 0;
  while (program_.Call(SYS_write, a, kData, 8192) == 8192) ASSERT_LT(++count, 100) << "not bounded";
  EXPECT_EQ(program_.Call(SYS_write, a, kData, 8192), -EAGAIN);
  EXPECT_EQ(Poll(a) & POLLOUT, 0);
  program_.Call(SYS_fcntl, a, F_SETFL, 0);
  const uint64_t first = program_.StartBlocked(SYS_write, a, kData, 8192);
  const uint64_t second = program_.StartBlocked(SYS_write, a, kData, 8192);
  EXPECT_FALSE(program_.HasFinished(first) || program_.HasFinished(second));
  program_.Read(b, 8192);
  program_.Read(b, 8192);
  EXPECT_EQ(program_.Finish(first), 8192);
  EXPECT_EQ(program_.Finish(second), 8192);
  EXPECT_EQ(program_.Call(SYS_write, a, kData, 250'000), -EMSGSIZE);
}

TEST_F(UnixSocketTest, SenderToANameIsWokenWhenTheReceiverGoes) {
  const int receiver = Socket(SOCK_DGRAM);
  ASSERT_EQ(program_.BindUnix(receiver, "/full"), 0);
  const int sender = Socket(SOCK_DGRAM);
  SetNonblocking(sender);
  const std::string text(8192, 'x');
  while (SendTo(sender, "/full", text) > 0) {
  }
  program_.Call(SYS_fcntl, sender, F_SETFL, 0);
  const uint64_t size = program_.PutUnixAddress(kArg, "/full");
  const uint64_t send = program_.StartBlocked(SYS_sendto, sender, kData, 8192, 0, kArg, size);
  EXPECT_FALSE(program_.HasFinished(send));
  program_.Close(receiver);
  EXPECT_EQ(program_.Finish(send), -ENOENT);
}

TEST_F(UnixSocketTest, DatagramsBringTheirSendersName) {
  const int receiver = Socket(SOCK_DGRAM);
  const int sender = Socket(SOCK_DGRAM);
  ASSERT_EQ(program_.BindUnix(receiver, "@receiver"), 0);
  ASSERT_EQ(program_.BindUnix(sender, "/sender"), 0);
  EXPECT_EQ(SendTo(sender, "@receiver", "hi"), 2);
  program_.Put(kSize, socklen_t{sizeof(sockaddr_un)});
  EXPECT_EQ(program_.Call(SYS_recvfrom, receiver, kData, 100, 0, kArg, kSize), 2);
  EXPECT_EQ(NameAt(kArg, program_.Get<socklen_t>(kSize)), "/sender");
  EXPECT_EQ(SendTo(sender, "@nobody", "hi"), -ECONNREFUSED);
  EXPECT_EQ(SendTo(sender, "/nobody", "hi"), -ENOENT);
  EXPECT_EQ(program_.Write(sender, "x"), -ENOTCONN);
}

TEST_F(UnixSocketTest, ConnectedDatagramSocketTakesFromItsPeerOnly) {
  const int a = Socket(SOCK_DGRAM);
  const int b = Socket(SOCK_DGRAM);
  const int c = Socket(SOCK_DGRAM);
  ASSERT_EQ(program_.BindUnix(a, "/a"), 0);
  ASSERT_EQ(program_.BindUnix(b, "/b"), 0);
  ASSERT_EQ(program_.ConnectUnix(a, "/b"), 0);
  EXPECT_EQ(Name(SYS_getpeername, a), "/b");
  EXPECT_EQ(SendTo(c, "/a", "x"), -EPERM);
  EXPECT_EQ(program_.ConnectUnix(c, "/a"), -EPERM);
  EXPECT_EQ(program_.ConnectUnix(b, "/a"), 0);
  program_.Close(b);
  EXPECT_EQ(program_.Write(a, "x"), -ECONNREFUSED);
  EXPECT_EQ(program_.Write(a, "x"), -ENOTCONN);
  EXPECT_EQ(SendTo(c, "/a", "x"), 1) << "nobody's any more";
}

TEST_F(UnixSocketTest, ConnectsByName) {
  for (const std::string name : {"/run/server", "@server"}) {
    const int listener = Listener(name);
    const int client = Socket(SOCK_STREAM);
    EXPECT_EQ(Poll(client), POLLOUT | POLLHUP);
    const uint64_t accept = program_.StartBlocked(SYS_accept, listener, 0, 0);
    EXPECT_FALSE(program_.HasFinished(accept));
    ASSERT_EQ(program_.ConnectUnix(client, name), 0);
    const auto end = static_cast<int>(program_.Finish(accept));
    ASSERT_GE(end, 0);
    EXPECT_EQ(Name(SYS_getsockname, listener), name);
    EXPECT_EQ(Name(SYS_getsockname, end), name);
    EXPECT_EQ(Name(SYS_getpeername, client), name);
    EXPECT_EQ(Name(SYS_getpeername, end), "");
    EXPECT_EQ(Name(SYS_getsockname, client), "");
    program_.Write(client, "x");
    EXPECT_EQ(program_.Read(end), "x");
    EXPECT_EQ(program_.ConnectUnix(client, name), -EISCONN);
    EXPECT_EQ(Option(listener, SO_ACCEPTCONN), 1);
  }
}

TEST_F(UnixSocketTest, CredentialsAreTheProcesses) {
  const int listener = Listener("@credentials");
  TestProgram other(server_.path());
  const int client = Socket(SOCK_STREAM, &other);
  ASSERT_EQ(other.ConnectUnix(client, "@credentials"), 0);
  const auto end = static_cast<int>(program_.Call(SYS_accept, listener, 0, 0));
  program_.Put(kSize, socklen_t{sizeof(ucred)});
  ASSERT_EQ(program_.Call(SYS_getsockopt, end, SOL_SOCKET, SO_PEERCRED, kArg, kSize), 0);
  EXPECT_EQ(program_.Get<ucred>(kArg).pid, other.Call(SYS_getpid));
  EXPECT_EQ(program_.Get<ucred>(kArg).uid, 0U);
  other.Put(kSize, socklen_t{sizeof(ucred)});
  ASSERT_EQ(other.Call(SYS_getsockopt, client, SOL_SOCKET, SO_PEERCRED, kArg, kSize), 0);
  EXPECT_EQ(other.Get<ucred>(kArg).pid, program_.Call(SYS_getpid));
}

TEST_F(UnixSocketTest, NamesAreFreedWithTheirSockets) {
  const int first = Listener("/name");
  const int second = Socket(SOCK_STREAM);
  EXPECT_EQ(program_.BindUnix(second, "/name"), -EADDRINUSE);
  EXPECT_EQ(program_.ConnectUnix(Socket(SOCK_SEQPACKET), "/name"), -EPROTOTYPE);
  program_.Close(first);
  EXPECT_EQ(program_.ConnectUnix(Socket(SOCK_STREAM), "/name"), -ENOENT);
  EXPECT_EQ(program_.ConnectUnix(Socket(SOCK_STREAM), "@name"), -ECONNREFUSED);
  EXPECT_EQ(program_.BindUnix(second, "/name"), 0);
  EXPECT_EQ(program_.BindUnix(second, "/other"), -EINVAL);
  EXPECT_EQ(program_.ConnectUnix(Socket(SOCK_STREAM), "/name"), -ECONNREFUSED) << "nobody listens";
}

TEST_F(UnixSocketTest, NamesAreTheServersOwn) {
  // The server's own socket is a path of the host.
  EXPECT_EQ(program_.ConnectUnix(Socket(SOCK_STREAM), server_.path()), -ENOENT);
}

TEST_F(UnixSocketTest, BindWithoutANameGetsOne) {
  const int a = Socket(SOCK_DGRAM);
  const int b = Socket(SOCK_DGRAM);
  program_.PutUnixAddress(kArg, "");
  EXPECT_EQ(program_.Call(SYS_bind, a, kArg, sizeof(sa_family_t)), 0);
  EXPECT_EQ(program_.Call(SYS_bind, b, kArg, sizeof(sa_family_t)), 0);
  EXPECT_EQ(Name(SYS_getsockname, a).size(), 6U);
  EXPECT_NE(Name(SYS_getsockname, a), Name(SYS_getsockname, b));
}

TEST_F(UnixSocketTest, FullBacklogBlocksConnect) {
  const int listener = Listener("/busy", SOCK_STREAM, 0);
  ASSERT_EQ(program_.ConnectUnix(Socket(SOCK_STREAM), "/busy"), 0);
  const int hasty = Socket(SOCK_STREAM | SOCK_NONBLOCK);
  EXPECT_EQ(program_.ConnectUnix(hasty, "/busy"), -EAGAIN);
  const int patient = Socket(SOCK_STREAM);
  const uint64_t size = program_.PutUnixAddress(kArg, "/busy");
  const uint64_t connect = program_.StartBlocked(SYS_connect, patient, kArg, size);
  EXPECT_FALSE(program_.HasFinished(connect));
  EXPECT_GE(program_.Call(SYS_accept, listener, 0, 0), 0);
  EXPECT_EQ(program_.Finish(connect), 0);
  // One that waits when the listener goes is refused; one that was in the queue is reset.
  program_.PutUnixAddress(kArg, "/busy");
  const uint64_t late = program_.StartBlocked(SYS_connect, Socket(SOCK_STREAM), kArg, size);
  EXPECT_FALSE(program_.HasFinished(late));
  program_.Close(listener);
  EXPECT_EQ(program_.Finish(late), -ENOENT);
  EXPECT_EQ(program_.Read(patient), "errno " + std::to_string(ECONNRESET));
}

TEST_F(UnixSocketTest, OptionsThatThereAre) {
  const auto [a, b] = program_.Socketpair(SOCK_SEQPACKET);
  EXPECT_EQ(Option(a, SO_TYPE), SOCK_SEQPACKET);
  EXPECT_EQ(Option(a, SO_DOMAIN), AF_UNIX);
  EXPECT_EQ(Option(a, SO_ERROR), 0);
  program_.Put(kData, 10'000);
  EXPECT_EQ(program_.Call(SYS_setsockopt, a, SOL_SOCKET, SO_SNDBUF, kData, 4), 0);
  EXPECT_EQ(Option(a, SO_SNDBUF), 20'000);
  EXPECT_EQ(program_.Call(SYS_write, a, kData, 20'000), -EMSGSIZE);
  EXPECT_EQ(program_.Call(SYS_setsockopt, a, SOL_SOCKET, SO_SNDBUF, kData, 3), -EINVAL);
  EXPECT_EQ(program_.Call(SYS_setsockopt, a, SOL_SOCKET, 9999, kData, 4), -ENOPROTOOPT);
  EXPECT_EQ(program_.Call(SYS_setsockopt, a, IPPROTO_TCP, 1, kData, 4), -EOPNOTSUPP);
}

TEST_F(UnixSocketTest, HostileArguments) {
  EXPECT_EQ(program_.Call(SYS_socket, AF_UNIX, 77, 0), -ESOCKTNOSUPPORT);
  EXPECT_EQ(program_.Call(SYS_socket, AF_UNIX, SOCK_STREAM, 6), -EPROTONOSUPPORT);
  EXPECT_EQ(program_.Call(SYS_socketpair, AF_INET, SOCK_STREAM, 0, kArg), -EOPNOTSUPP);
  EXPECT_EQ(program_.Call(SYS_socketpair, AF_UNIX, 77, 0, kArg), -ESOCKTNOSUPPORT);
  EXPECT_EQ(program_.Call(kSysHostSocket, AF_UNIX, SOCK_STREAM, 0), -EAFNOSUPPORT);
  const int fd = Socket(SOCK_STREAM);
  program_.PutUnixAddress(kArg, "/x");
  EXPECT_EQ(program_.Call(SYS_bind, fd, kArg, 1), -EINVAL);
  EXPECT_EQ(program_.Call(SYS_bind, fd, kArg, sizeof(sockaddr_un) + 1), -EINVAL);
  EXPECT_EQ(program_.Call(SYS_bind, fd, TestProgram::kBad, 10), -EFAULT);
  EXPECT_EQ(program_.Call(SYS_connect, fd, kArg, sizeof(sa_family_t)), -EINVAL);
  program_.Put(kArg, sa_family_t{AF_INET});
  EXPECT_EQ(program_.Call(SYS_connect, fd, kArg, 16), -EINVAL);
  EXPECT_EQ(program_.Call(SYS_listen, fd, 1), -EINVAL) << "without a name";
  EXPECT_EQ(program_.Call(SYS_accept, fd, 0, 0), -EINVAL);
  EXPECT_EQ(program_.Read(fd), "errno " + std::to_string(EINVAL));
  EXPECT_EQ(program_.Write(fd, "x"), -ENOTCONN);
  EXPECT_EQ(program_.Call(SYS_listen, Socket(SOCK_DGRAM), 1), -EOPNOTSUPP);
  EXPECT_EQ(program_.Call(SYS_accept, Socket(SOCK_DGRAM), 0, 0), -EOPNOTSUPP);
  // The longest path fills sun_path and has no NUL.
  sockaddr_un longest{};
  longest.sun_family = AF_UNIX;
  memset(longest.sun_path, 'p', sizeof longest.sun_path);
  program_.Put(kArg, longest);
  EXPECT_EQ(program_.Call(SYS_bind, fd, kArg, sizeof longest), 0);
  EXPECT_EQ(Name(SYS_getsockname, fd), std::string(sizeof longest.sun_path, 'p'));
}

TEST_F(UnixSocketTest, ClientsMayLeaveWhileTheyWait) {
  const int listener = Listener("/left", SOCK_STREAM, 0);
  for (int i = 0; i < 20; ++i) {
    TestProgram leaver(server_.path());
    const auto [a, b] = leaver.Socketpair(SOCK_STREAM);
    leaver.StartBlocked(SYS_read, a, kData, 1);
    const uint64_t size = leaver.PutUnixAddress(kArg, "/left");
    for (int j = 0; j < 3; ++j) {
      leaver.StartBlocked(SYS_connect, Socket(SOCK_STREAM, &leaver), kArg, size);
    }
  }
  // Those connections that were made are there, and over.
  const auto end = static_cast<int>(program_.Call(SYS_accept, listener, 0, 0));
  EXPECT_EQ(program_.Read(end), "");
}

}  // namespace
}  // namespace rump
