// Urgent data: MSG_OOB of send(2) and recv(2), the mark in the stream, SO_OOBINLINE, sockatmark(3),
// SIGURG, and POLLPRI and its kin.
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <ctime>
#include <string>
#include <string_view>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

class Urgent : public testing::Test {
 protected:
  Urgent() {
    auto [to, from] = TcpPair();
    to_ = std::move(to);
    from_ = std::move(from);
  }

  // Sends `text`, whose last byte is urgent, and waits for it to arrive.
  void SendUrgent(std::string_view text) {
    ASSERT_EQ(send(to_.get(), text.data(), text.size(), MSG_OOB),
              static_cast<ssize_t>(text.size()));
    ASSERT_EQ(PollFor(from_.get(), POLLPRI, kPatience), POLLPRI);
  }
  void Send(std::string_view text) {
    ASSERT_EQ(send(to_.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  }
  // The whole stream is there when its end is.
  void End() {
    ASSERT_THAT(shutdown(to_.get(), SHUT_WR), Succeeds());
    ASSERT_EQ(PollFor(from_.get(), POLLRDHUP, kPatience), POLLRDHUP);
  }
  std::string TakeUrgent(int flags = 0) {
    char byte = 0;
    const ssize_t n = recv(from_.get(), &byte, 1, MSG_OOB | flags);
    return n < 0 ? strerrorname_np(errno) : std::string(&byte, static_cast<size_t>(n));
  }
  // What one receive gives.
  std::string Receive(int flags = 0) {
    char buffer[64];
    const ssize_t n = recv(from_.get(), buffer, sizeof buffer, MSG_DONTWAIT | flags);
    return n < 0 ? strerrorname_np(errno) : std::string(buffer, static_cast<size_t>(n));
  }
  void SetInline() const {
    const int on = 1;
    ASSERT_THAT(setsockopt(from_.get(), SOL_SOCKET, SO_OOBINLINE, &on, sizeof on), Succeeds());
  }

  Fd to_;
  Fd from_;
};

TEST_F(Urgent, InTheMiddle) {
  Send("ab");
  SendUrgent("!");
  Send("cd");
  End();
  EXPECT_EQ(sockatmark(from_.get()), 0);
  EXPECT_EQ(TakeUrgent(MSG_PEEK), "!");
  EXPECT_EQ(TakeUrgent(), "!");
  EXPECT_EQ(TakeUrgent(), "EINVAL");
  EXPECT_EQ(PollFor(from_.get(), POLLPRI, 0), 0);
  EXPECT_EQ(Receive(), "ab");
  EXPECT_EQ(sockatmark(from_.get()), 1);
  EXPECT_EQ(Receive(), "cd");
  EXPECT_EQ(sockatmark(from_.get()), 0);
  EXPECT_EQ(Receive(), "");
}

TEST_F(Urgent, TakenAtTheMark) {
  SendUrgent("ab!");
  Send("cd");
  End();
  char byte;
  EXPECT_EQ(recv(from_.get(), &byte, 1, 0), 1);
  EXPECT_EQ(sockatmark(from_.get()), 0);
  EXPECT_EQ(Receive(), "b");
  EXPECT_EQ(sockatmark(from_.get()), 1);
  EXPECT_EQ(PollFor(from_.get(), POLLPRI, 0), POLLPRI);
  EXPECT_EQ(TakeUrgent(), "!");
  EXPECT_EQ(Receive(), "cd");
  EXPECT_EQ(Receive(), "");
}

TEST_F(Urgent, AtTheStart) {
  SendUrgent("!");
  Send("cd");
  End();
  EXPECT_EQ(sockatmark(from_.get()), 1);
  EXPECT_EQ(Receive(MSG_PEEK), "cd");
  EXPECT_EQ(TakeUrgent(), "!");
  EXPECT_EQ(Receive(), "cd");
  EXPECT_EQ(Receive(), "");
}

TEST_F(Urgent, AtTheEnd) {
  SendUrgent("ab!");
  End();
  EXPECT_EQ(Receive(), "ab");
  EXPECT_EQ(sockatmark(from_.get()), 1);
  EXPECT_EQ(TakeUrgent(), "!");
  EXPECT_EQ(Receive(), "");
}

TEST_F(Urgent, ReadPastTheMarkIsLost) {
  SendUrgent("ab!");
  Send("cd");
  End();
  EXPECT_EQ(Receive(), "ab");
  EXPECT_EQ(Receive(), "cd");
  EXPECT_EQ(TakeUrgent(), "EINVAL");
  EXPECT_EQ(PollFor(from_.get(), POLLPRI, 0), 0);
}

TEST_F(Urgent, Alone) {
  EXPECT_EQ(PollFor(from_.get(), POLLPRI, 0), 0);
  EXPECT_EQ(TakeUrgent(), "EINVAL");
  SendUrgent("!");
  EXPECT_EQ(Receive(), "EAGAIN");
  EXPECT_EQ(TakeUrgent(), "EINVAL");
  Send("x");
  EXPECT_EQ(ReadExactly(from_.get(), 1), "x");
}

TEST_F(Urgent, Twice) {
  SendUrgent("ab!");
  EXPECT_EQ(Receive(), "ab");
  EXPECT_EQ(TakeUrgent(), "!");
  SendUrgent("cd?");
  Send("ef");
  End();
  EXPECT_EQ(Receive(), "cd");
  EXPECT_EQ(TakeUrgent(), "?");
  EXPECT_EQ(Receive(), "ef");
  EXPECT_EQ(Receive(), "");
}

// The byte of before is one of the stream's then.
TEST_F(Urgent, TheLatestCounts) {
  Send("a");
  for (const char* const text : {"!", "b?"}) {
    ASSERT_GT(send(to_.get(), text, strlen(text), MSG_OOB), 0);
  }
  Send("c");
  End();
  EXPECT_EQ(TakeUrgent(), "?");
  EXPECT_EQ(Receive(), "a!b");
  EXPECT_EQ(Receive(), "c");
}

TEST_F(Urgent, InLine) {
  SetInline();
  int on = 0;
  socklen_t size = sizeof on;
  ASSERT_THAT(getsockopt(from_.get(), SOL_SOCKET, SO_OOBINLINE, &on, &size), Succeeds());
  EXPECT_EQ(on, 1);
  SendUrgent("ab!");
  Send("cd");
  End();
  EXPECT_EQ(TakeUrgent(), "EINVAL");
  EXPECT_EQ(Receive(), "ab");
  EXPECT_EQ(sockatmark(from_.get()), 1);
  EXPECT_EQ(PollFor(from_.get(), POLLPRI, 0), POLLPRI);
  EXPECT_EQ(Receive(), "!cd");
  EXPECT_EQ(sockatmark(from_.get()), 0);
  EXPECT_EQ(Receive(), "");
}

TEST_F(Urgent, WaitingForAllEndsAtTheMark) {
  SendUrgent("ab!");
  Send("cd");
  char buffer[4];
  EXPECT_EQ(recv(from_.get(), buffer, sizeof buffer, MSG_WAITALL), 2);
  EXPECT_EQ(TakeUrgent(), "!");
}

TEST_F(Urgent, ByMessages) {
  char head[] = "ab", tail[] = "c!";
  iovec out[] = {{head, 2}, {tail, 2}};
  msghdr message = {};
  message.msg_iov = out;
  message.msg_iovlen = 2;
  ASSERT_EQ(sendmsg(to_.get(), &message, MSG_OOB), 4);
  ASSERT_EQ(PollFor(from_.get(), POLLPRI, kPatience), POLLPRI);
  char byte = 0;
  iovec in = {&byte, 1};
  message.msg_iov = &in;
  message.msg_iovlen = 1;
  EXPECT_EQ(recvmsg(from_.get(), &message, MSG_OOB), 1);
  EXPECT_EQ(byte, '!');
  EXPECT_NE(message.msg_flags & MSG_OOB, 0);
  EXPECT_EQ(Receive(), "abc");
}

TEST_F(Urgent, Signals) {
  sigset_t urgent, before;
  sigemptyset(&urgent);
  sigaddset(&urgent, SIGURG);
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &urgent, &before), 0);
  ASSERT_THAT(fcntl(from_.get(), F_SETOWN, getpid()), Succeeds());
  SendUrgent("!");
  const timespec patience = {kPatience / 1000, 0};
  EXPECT_EQ(sigtimedwait(&urgent, nullptr, &patience), SIGURG);
  EXPECT_EQ(TakeUrgent(), "!");
  ASSERT_EQ(pthread_sigmask(SIG_SETMASK, &before, nullptr), 0);
}

TEST_F(Urgent, IsAnExceptionToSelect) {
  SendUrgent("!");
  fd_set set;
  FD_ZERO(&set);
  FD_SET(from_.get(), &set);
  timeval patience = {kPatience / 1000, 0};
  EXPECT_EQ(select(from_.get() + 1, nullptr, nullptr, &set, &patience), 1);
  EXPECT_TRUE(FD_ISSET(from_.get(), &set));
  EXPECT_EQ(TakeUrgent(), "!");
  patience = {};
  EXPECT_EQ(select(from_.get() + 1, nullptr, nullptr, &set, &patience), 0);
}

TEST_F(Urgent, IsAnEventOfEpoll) {
  const Fd epoll(epoll_create1(0));
  epoll_event event = {};
  event.events = EPOLLPRI;
  ASSERT_THAT(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, from_.get(), &event), Succeeds());
  Send("x");
  EXPECT_EQ(epoll_wait(epoll.get(), &event, 1, kBriefly), 0);
  ASSERT_EQ(send(to_.get(), "!", 1, MSG_OOB), 1);
  ASSERT_EQ(epoll_wait(epoll.get(), &event, 1, kPatience), 1);
  EXPECT_EQ(event.events, uint32_t{EPOLLPRI});
  EXPECT_EQ(TakeUrgent(), "!");
  EXPECT_EQ(epoll_wait(epoll.get(), &event, 1, 0), 0);
}

// Among more than any buffer on the way holds, wherever its pieces end.
TEST_F(Urgent, KeepsItsPlaceInALongStream) {
  SetInline();
  constexpr size_t kPart = size_t{1} << 18;
  constexpr int kParts = 24;
  const pid_t sender = fork();
  ASSERT_THAT(sender, Succeeds());
  if (sender == 0) {
    const std::string part(kPart - 1, 'x');
    bool sent = true;
    for (int i = 0; i < kParts; ++i) {
      sent = sent && WriteAll(to_.get(), part) && send(to_.get(), "!", 1, MSG_OOB) == 1;
    }
    _exit(sent ? 0 : 1);
  }
  to_.Close();
  std::string got;
  size_t last_mark = 0;
  std::string buffer(100'000, '\0');
  for (;;) {
    ASSERT_NE(PollFor(from_.get(), POLLIN, kPatience), 0);
    const int at_mark = sockatmark(from_.get());
    const ssize_t n = recv(from_.get(), buffer.data(), buffer.size(), 0);
    ASSERT_GE(n, 0);
    if (n == 0) break;
    if (at_mark == 1) {
      last_mark = got.size();
      EXPECT_EQ(buffer[0], '!');
    }
    got.append(buffer, 0, static_cast<size_t>(n));
  }
  ASSERT_EQ(got.size(), kPart * kParts);
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i], i % kPart == kPart - 1 ? '!' : 'x') << i;
  }
  // Later ones may have taken the place of others.
  EXPECT_EQ(last_mark, got.size() - 1);
  int status = -1;
  EXPECT_EQ(waitpid(sender, &status, 0), sender);
  EXPECT_EQ(status, 0);
}

TEST(UrgentInline, IsInheritedFromTheListener) {
  const Fd listener = Listen();
  const int on = 1;
  ASSERT_THAT(setsockopt(listener.get(), SOL_SOCKET, SO_OOBINLINE, &on, sizeof on), Succeeds());
  const Fd client = Connect(PortOf(listener));
  const Fd accepted(accept(listener.get(), nullptr, nullptr));
  ASSERT_THAT(accepted.get(), Succeeds());
  ASSERT_EQ(send(client.get(), "a!", 2, MSG_OOB), 2);
  ASSERT_EQ(PollFor(accepted.get(), POLLPRI, kPatience), POLLPRI);
  EXPECT_EQ(ReadExactly(accepted.get(), 2), "a!");
}

TEST(UrgentUnconnected, IsRefused) {
  const Fd fresh(socket(AF_INET, SOCK_STREAM, 0));
  const Fd listener = Listen();
  const Fd datagram(socket(AF_INET, SOCK_DGRAM, 0));
  char byte = 0;
  EXPECT_THAT(send(fresh.get(), "!", 1, MSG_OOB | MSG_NOSIGNAL), FailsWith(EPIPE));
  EXPECT_THAT(recv(fresh.get(), &byte, 1, MSG_OOB), FailsWith(EINVAL));
  EXPECT_EQ(sockatmark(fresh.get()), 0);
  EXPECT_THAT(recv(listener.get(), &byte, 1, MSG_OOB), FailsWith(ENOTCONN));
  EXPECT_EQ(sockatmark(listener.get()), 0);
  EXPECT_THAT(send(datagram.get(), "!", 1, MSG_OOB), FailsWith(EOPNOTSUPP));
}

}  // namespace
}  // namespace rump
