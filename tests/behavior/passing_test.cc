// Sockets that come in a message, to a process that has nothing to do with who made them.
#include <sys/wait.h>

#include <functional>
#include <initializer_list>
#include <string>
#include <tuple>
#include <vector>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

constexpr size_t kMaxPassed = 3;
using Control = char[CMSG_SPACE(kMaxPassed * sizeof(int))];

void Pass(int through, std::initializer_list<const Fd*> sockets) {
  char byte = 'x';
  iovec iov = {&byte, 1};
  alignas(cmsghdr) Control control = {};
  msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = CMSG_SPACE(sockets.size() * sizeof(int));
  cmsghdr* const rights = CMSG_FIRSTHDR(&msg);
  *rights = {CMSG_LEN(sockets.size() * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
  int* at = reinterpret_cast<int*>(CMSG_DATA(rights));
  for (const Fd* fd : sockets) *at++ = fd->get();
  EXPECT_EQ(sendmsg(through, &msg, 0), 1);
}

using ReceiveCall = std::function<ssize_t(int, msghdr*)>;

ssize_t Recvmsg(int through, msghdr* msg) { return recvmsg(through, msg, MSG_CMSG_CLOEXEC); }

ssize_t Recvmmsg(int through, msghdr* msg) {
  mmsghdr msgs[1] = {{*msg, 0}};
  const int received = recvmmsg(through, msgs, 1, 0, nullptr);
  *msg = msgs[0].msg_hdr;
  return received;
}

std::vector<int> Receive(int through, const ReceiveCall& call) {
  char byte;
  iovec iov = {&byte, 1};
  alignas(cmsghdr) Control control = {};
  msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = sizeof control;
  if (call(through, &msg) != 1) return {};
  const cmsghdr* const rights = CMSG_FIRSTHDR(&msg);
  if (rights == nullptr || rights->cmsg_type != SCM_RIGHTS) return {};
  const int* const first = reinterpret_cast<const int*>(CMSG_DATA(rights));
  return {first, first + (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int)};
}

// 0, or the step that failed.
int UseReceived(const std::vector<int>& fds) {
  if (fds.size() != 3) return 1;
  const auto [stream, listener, datagram] = std::tie(fds[0], fds[1], fds[2]);
  sockaddr_in peer{};
  socklen_t size = sizeof peer;
  if (getpeername(stream, Addr(peer), &size) != 0 || peer.sin_family != AF_INET) return 2;
  if (ReadExactly(stream, 4) != "ping" || !WriteAll(stream, "pong")) return 3;
  const Fd accepted(accept(listener, nullptr, nullptr));
  if (accepted.get() < 0 || !WriteAll(accepted.get(), "hello")) return 4;
  char data[16];
  if (recv(datagram, data, sizeof data, 0) != 8) return 5;
  return send(datagram, "answer", 6, 0) == 6 ? 0 : 6;
}

// `receive` brings the sockets to a child from before there were any.
void ExpectUsable(const ReceiveCall& receive, bool child_has_own_sockets) {
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    close(channel[0]);
    if (child_has_own_sockets) close(socket(AF_INET, SOCK_STREAM, 0));
    // Numbers that were known as others.
    int before[2];
    if (pipe(before) != 0 || write(before[1], "x", 1) != 1) _exit(100);
    close(before[0]);
    close(before[1]);
    _exit(UseReceived(Receive(channel[1], receive)));
  }
  close(channel[1]);
  auto [client, server] = TcpPair();
  auto [asker, answerer] = UdpPair();
  const Fd listener = Listen();
  const Fd caller = Connect(PortOf(listener));
  EXPECT_TRUE(WriteAll(client.get(), "ping"));
  EXPECT_EQ(send(asker.get(), "question", 8, 0), 8);
  Pass(channel[0], {&server, &listener, &answerer});
  // From now on they are the child's alone.
  server.Close();
  answerer.Close();
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(ReadExactly(client.get(), 100), "pong");
  EXPECT_EQ(ReadExactly(caller.get(), 100), "hello");
  char data[16];
  EXPECT_EQ(recv(asker.get(), data, sizeof data, 0), 6);
  close(channel[0]);
}

TEST(Passing, ToAProcessWithoutSockets) { ExpectUsable(Recvmsg, false); }
TEST(Passing, ToAProcessWithOthers) { ExpectUsable(Recvmsg, true); }
TEST(Passing, ManyMessagesAtOnce) { ExpectUsable(Recvmmsg, true); }

// A socket that is nowhere but in a message is open.
TEST(Passing, OnItsWay) {
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  auto [client, server] = TcpPair();
  Pass(channel[0], {&server});
  server.Close();
  EXPECT_TRUE(WriteAll(client.get(), "ping"));
  EXPECT_EQ(PollFor(client.get(), POLLIN, kBriefly), 0);
  const std::vector<int> fds = Receive(channel[1], Recvmsg);
  ASSERT_EQ(fds.size(), 1u);
  EXPECT_EQ(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
  server = Fd(fds[0]);
  EXPECT_EQ(ReadExactly(server.get(), 4), "ping");
  // With the message it ends.
  Pass(channel[0], {&server});
  server.Close();
  close(channel[0]);
  close(channel[1]);
  EXPECT_NE(PollFor(client.get(), POLLIN, kPatience), 0);
  EXPECT_EQ(ReadExactly(client.get(), 1), "");
}

}  // namespace
}  // namespace rump
