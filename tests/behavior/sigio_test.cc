// Signal-driven I/O and the other ways to set a descriptor's mode: fcntl(2) F_SETOWN and F_SETSIG,
// ioctl(2) FIOASYNC, SIOCSPGRP, FIONBIO and FIOCLEX.
#include <signal.h>
#include <sys/ioctl.h>

#include <ctime>
#include <functional>
#include <utility>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

// Holds back a signal and waits for it.
class HeldSignal {
 public:
  explicit HeldSignal(int signal) : signal_(signal) {
    sigemptyset(&set_);
    sigaddset(&set_, signal);
    EXPECT_EQ(pthread_sigmask(SIG_BLOCK, &set_, &before_), 0);
  }
  ~HeldSignal() {
    while (Take(0).si_signo == signal_) {
    }
    EXPECT_EQ(pthread_sigmask(SIG_SETMASK, &before_, nullptr), 0);
  }

  // Its si_signo is 0 if the signal does not come.
  siginfo_t Take(int patience_ms) const {
    const timespec patience = {patience_ms / 1000, patience_ms % 1000 * 1'000'000};
    siginfo_t info;
    if (sigtimedwait(&set_, &info, &patience) < 0) info = {};
    return info;
  }

 private:
  const int signal_;
  sigset_t set_;
  sigset_t before_;
};

// Asks for a signal when `fd` is readable, calls `cause` and expects it.
void ExpectSignal(const Fd& fd, const std::function<void()>& cause) {
  const int signal = SIGRTMIN + 3;
  const HeldSignal held(signal);
  ASSERT_THAT(fcntl(fd.get(), F_SETSIG, signal), Succeeds());
  ASSERT_THAT(fcntl(fd.get(), F_SETOWN, getpid()), Succeeds());
  EXPECT_EQ(fcntl(fd.get(), F_GETSIG), signal);
  EXPECT_EQ(fcntl(fd.get(), F_GETOWN), getpid());
  ASSERT_THAT(fcntl(fd.get(), F_SETFL, O_ASYNC | O_NONBLOCK), Succeeds());
  cause();
  siginfo_t info;
  do {
    info = held.Take(kPatience);
    ASSERT_EQ(info.si_signo, signal);
    EXPECT_EQ(info.si_fd, fd.get());
  } while ((info.si_band & POLLIN) == 0);
  EXPECT_EQ(PollFor(fd.get(), POLLIN, 0), POLLIN);
  EXPECT_THAT(fcntl(fd.get(), F_SETFL, 0), Succeeds());
}

TEST(Sigio, TellsOfBytes) {
  auto [fd, peer] = TcpPair();
  ExpectSignal(fd, [&peer = peer] { EXPECT_EQ(write(peer.get(), "x", 1), 1); });
}

TEST(Sigio, TellsOfDatagrams) {
  auto [fd, peer] = UdpPair();
  ExpectSignal(fd, [&peer = peer] { EXPECT_EQ(write(peer.get(), "x", 1), 1); });
}

TEST(Sigio, TellsOfConnections) {
  const Fd listener = Listen();
  Fd client;
  ExpectSignal(listener, [&] { client = Connect(PortOf(listener)); });
  EXPECT_THAT(Fd(accept(listener.get(), nullptr, nullptr)).get(), Succeeds());
}

TEST(Sigio, ByIoctl) {
  const HeldSignal held(SIGIO);
  auto [fd, peer] = UdpPair();
  int on = 1;
  const pid_t self = getpid();
  pid_t owner = 0;
  ASSERT_THAT(ioctl(fd.get(), SIOCSPGRP, &self), Succeeds());
  ASSERT_THAT(ioctl(fd.get(), SIOCGPGRP, &owner), Succeeds());
  EXPECT_EQ(owner, self);
  ASSERT_THAT(ioctl(fd.get(), FIOASYNC, &on), Succeeds());
  EXPECT_EQ(write(peer.get(), "x", 1), 1);
  EXPECT_EQ(held.Take(kPatience).si_signo, SIGIO);
}

TEST(Modes, ByIoctl) {
  auto [stream, other] = TcpPair();
  const Fd listener = Listen();
  const Fd datagram(socket(AF_INET, SOCK_DGRAM, 0));
  char byte;
  for (const int fd : {stream.get(), listener.get(), datagram.get()}) {
    int on = 1;
    ASSERT_THAT(ioctl(fd, FIONBIO, &on), Succeeds());
    EXPECT_NE(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    ASSERT_THAT(ioctl(fd, FIOCLEX), Succeeds());
    EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    ASSERT_THAT(ioctl(fd, FIONCLEX), Succeeds());
    EXPECT_EQ(fcntl(fd, F_GETFD), 0);
  }
  EXPECT_THAT(recv(stream.get(), &byte, 1, 0), FailsWith(EAGAIN));
  EXPECT_THAT(accept(listener.get(), nullptr, nullptr), FailsWith(EAGAIN));
  EXPECT_THAT(recv(datagram.get(), &byte, 1, 0), FailsWith(EAGAIN));
}

}  // namespace
}  // namespace rump
