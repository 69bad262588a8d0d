// Socket calls on descriptors of the server's own table, from clients that ask for odd things.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <string>
#include <string_view>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/sp_server/raw_client.h"
#include "tests/sp_server/server_thread.h"
#include "tests/sp_server/test_program.h"

namespace rump {
namespace {

class SocketCallsTest : public testing::Test {
 protected:
  SocketCallsTest() { EXPECT_TRUE(client_.Guest()); }

  static uint64_t NewSocket(RawClient& client, int type) {
    const SyscallResultPayload result =
        client.CallResult(SYS_socket, {AF_INET, static_cast<uint64_t>(type), 0});
    EXPECT_EQ(result.error, 0);
    return result.retval[0];
  }
  // Binds to a free port of loopback and returns the address.
  static std::string Bind(RawClient& client, uint64_t fd) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    std::string memory(reinterpret_cast<const char*>(&address), sizeof address);
    EXPECT_EQ(client.Finish(client.SendCall(SYS_bind, {fd, 0, sizeof address}), &memory).error, 0);
    // Address 0 is no address: the size is at 0, the name behind it.
    const socklen_t size = sizeof address;
    memory.assign(reinterpret_cast<const char*>(&size), sizeof size);
    EXPECT_EQ(client.Finish(client.SendCall(SYS_getsockname, {fd, sizeof size, 0}), &memory).error,
              0);
    return memory.substr(sizeof size);
  }
  static int Connect(RawClient& client, uint64_t fd, std::string address) {
    return client.Finish(client.SendCall(SYS_connect, {fd, 0, address.size()}), &address).error;
  }
  static uint64_t Write(RawClient& client, uint64_t fd, std::string_view text) {
    std::string memory(text);
    return client.Finish(client.SendCall(SYS_write, {fd, 0, text.size()}), &memory).retval[0];
  }
  struct StreamPair {
    uint64_t client;
    uint64_t server;
  };
  static StreamPair Connected(RawClient& client) {
    const uint64_t listener = NewSocket(client, SOCK_STREAM);
    const std::string address = Bind(client, listener);
    EXPECT_EQ(client.CallResult(SYS_listen, {listener, 1}).error, 0);
    StreamPair pair{NewSocket(client, SOCK_STREAM), 0};
    EXPECT_EQ(Connect(client, pair.client, address), 0);
    const SyscallResultPayload accepted = client.CallResult(SYS_accept, {listener, 0, 0});
    EXPECT_EQ(accepted.error, 0);
    pair.server = accepted.retval[0];
    return pair;
  }

  ServerThread server_;
  RawClient client_{server_.path()};
};

TEST_F(SocketCallsTest, TruncatedStreamShowsNobodyElsesBytes) {
  RawClient other(server_.path());
  ASSERT_TRUE(other.Guest());
  const StreamPair secret = Connected(other);
  ASSERT_EQ(Write(other, secret.client, "password"), 8U);
  std::string memory;
  ASSERT_EQ(other.Finish(other.SendCall(SYS_read, {secret.server, 0, 8}), &memory).retval[0], 8U);
  ASSERT_EQ(memory, "password");

  const StreamPair pair = Connected(client_);
  ASSERT_EQ(Write(client_, pair.client, "12345678"), 8U);
  memory.assign(8, '.');
  const uint64_t reqno =
      client_.SendCall(SYS_recvfrom, {pair.server, 0, 8, MSG_TRUNC | MSG_WAITALL, 0, 0});
  EXPECT_EQ(client_.Finish(reqno, &memory).retval[0], 8U);
  EXPECT_EQ(memory, "........");
}

TEST_F(SocketCallsTest, ErrorQueueIsEmptyAndNeverWaits) {
  const StreamPair pair = Connected(client_);
  ASSERT_EQ(Write(client_, pair.client, "x"), 1U);
  const uint64_t receiver = NewSocket(client_, SOCK_DGRAM);
  const std::string address = Bind(client_, receiver);
  const uint64_t sender = NewSocket(client_, SOCK_DGRAM);
  ASSERT_EQ(Connect(client_, sender, address), 0);
  ASSERT_EQ(Write(client_, sender, "x"), 1U);
  for (const uint64_t fd : {pair.server, pair.client, receiver, sender}) {
    EXPECT_EQ(client_.CallResult(SYS_recvfrom, {fd, 8, 8, MSG_ERRQUEUE, 0, 0}).error, EAGAIN);
  }
  EXPECT_TRUE(RawClient(server_.path()).Guest()) << "the server still runs";
}

// What a program of the server's own kernel sees; the rules are those of
// tests/behavior/urgent_test.
TEST_F(SocketCallsTest, UrgentData) {
  TestProgram program(server_.path());
  constexpr uint64_t kData = 4096;
  const auto [client, server] = Connected(program.client());
  const auto receive = [&, fd = server](int flags) {
    const int64_t n = program.Call(SYS_recvfrom, fd, kData, 64, flags, 0, 0);
    return n < 0 ? "errno " + std::to_string(-n) : program.Text(kData, static_cast<size_t>(n));
  };
  const auto at_mark = [&, fd = server] {
    EXPECT_EQ(program.Call(SYS_ioctl, fd, SIOCATMARK, kData), 0);
    return program.Get<int>(kData) != 0;
  };
  const auto queued = [&, fd = server] {
    EXPECT_EQ(program.Call(SYS_ioctl, fd, FIONREAD, kData), 0);
    return program.Get<int>(kData);
  };
  const auto ready = [&, fd = server] {
    program.Put(kData, pollfd{.fd = static_cast<int>(fd), .events = POLLIN | POLLPRI});
    EXPECT_GE(program.Call(SYS_poll, kData, 1, 0), 0);
    return program.Get<pollfd>(kData).revents;
  };
  const auto send = [&, fd = client](std::string_view text, int flags) {
    program.PutText(kData, text);
    EXPECT_EQ(program.Call(SYS_sendto, fd, kData, text.size(), flags, 0, 0),
              static_cast<int64_t>(text.size()));
  };
  const std::string none = "errno " + std::to_string(EINVAL);
  const std::string later = "errno " + std::to_string(EAGAIN);
  EXPECT_EQ(program.Call(SYS_fcntl, server, F_SETOWN, program.Call(SYS_getpid)), 0);
  EXPECT_EQ(receive(MSG_OOB), none);

  send("ab!", MSG_OOB);
  program.Call(SYS_getpid);
  EXPECT_THAT(program.raised(), testing::ElementsAre(SIGURG));
  send("cd", 0);
  EXPECT_EQ(ready(), POLLIN | POLLPRI);
  EXPECT_EQ(queued(), 2);
  EXPECT_EQ(receive(MSG_WAITALL), "ab");
  EXPECT_TRUE(at_mark());
  EXPECT_EQ(queued(), 0);
  EXPECT_EQ(receive(MSG_PEEK), "cd");
  EXPECT_EQ(receive(MSG_OOB | MSG_PEEK), "!");
  EXPECT_EQ(receive(MSG_OOB), "!");
  EXPECT_EQ(receive(MSG_OOB), none);
  EXPECT_EQ(receive(0), "cd");
  EXPECT_FALSE(at_mark());

  send("!", MSG_OOB);
  EXPECT_EQ(ready(), POLLPRI) << "nothing to read but the urgent byte";
  EXPECT_EQ(receive(MSG_DONTWAIT), later) << "which is skipped";
  EXPECT_EQ(receive(MSG_OOB), none);

  program.Put(kData, 1);
  EXPECT_EQ(program.Call(SYS_setsockopt, server, SOL_SOCKET, SO_OOBINLINE, kData, sizeof(int)), 0);
  EXPECT_EQ(program.Call(SYS_setsockopt, client, IPPROTO_TCP, TCP_NODELAY, kData, sizeof(int)), 0);
  const std::string half(100'000, 'h');
  send(half + half + "!", MSG_OOB);
  send("e", 0);
  EXPECT_EQ(receive(MSG_OOB), none);
  std::string got;
  while (!at_mark()) got += receive(0);
  EXPECT_EQ(got, half + half) << "the last of all is the urgent byte";
  EXPECT_EQ(ready(), POLLIN | POLLPRI);
  EXPECT_EQ(receive(0), "!e");
}

}  // namespace
}  // namespace rump
