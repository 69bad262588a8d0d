// What programs do with the numbers of their descriptors, and what threads do with the descriptors.
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <string>
#include <thread>

// Not prepared for C++.
extern "C" {
#include <sys/pidfd.h>
}

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

Fd Datagram() {
  Fd fd(socket(AF_INET, SOCK_DGRAM, 0));
  const sockaddr_in address = Loopback(0);
  EXPECT_THAT(bind(fd.get(), Addr(address), sizeof address), Succeeds());
  return fd;
}

// What one read(2) brings.
std::string Read(int fd) {
  char data[100];
  const ssize_t n = read(fd, data, sizeof data);
  EXPECT_THAT(n, Succeeds());
  return {data, n > 0 ? static_cast<size_t>(n) : 0};
}

TEST(Descriptors, FlagsOfNewDescriptors) {
  const Fd listener = Listen();
  for (const int flags : {0, int{SOCK_CLOEXEC}, int{SOCK_NONBLOCK}, SOCK_CLOEXEC | SOCK_NONBLOCK}) {
    const Fd plain(socket(AF_INET, SOCK_STREAM | flags, 0));
    const Fd client = Connect(PortOf(listener));
    const Fd accepted(accept4(listener.get(), nullptr, nullptr, flags));
    for (const int fd : {plain.get(), accepted.get()}) {
      EXPECT_EQ(fcntl(fd, F_GETFD), (flags & SOCK_CLOEXEC) != 0 ? FD_CLOEXEC : 0);
      EXPECT_EQ((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0, (flags & SOCK_NONBLOCK) != 0);
    }
  }
}

TEST(Descriptors, ManyDatagramsInOneCall) {
  const Fd receiver = Datagram();
  const Fd sender(socket(AF_INET, SOCK_DGRAM, 0));
  const sockaddr_in to = Loopback(PortOf(receiver));
  ASSERT_EQ(connect(sender.get(), Addr(to), sizeof to), 0);
  char text[] = "abc";
  iovec out[3] = {{text, 1}, {text, 2}, {text, 3}};
  mmsghdr sent[3] = {};
  char buffers[4][8];
  iovec in[4];
  mmsghdr received[4] = {};
  for (int i = 0; i < 4; ++i) {
    in[i] = {buffers[i], sizeof buffers[i]};
    received[i].msg_hdr.msg_iov = &in[i];
    received[i].msg_hdr.msg_iovlen = 1;
    if (i == 3) break;
    sent[i].msg_hdr.msg_iov = &out[i];
    sent[i].msg_hdr.msg_iovlen = 1;
  }
  ASSERT_EQ(sendmmsg(sender.get(), sent, 3, 0), 3);
  ASSERT_EQ(recvmmsg(receiver.get(), received, 4, MSG_WAITFORONE, nullptr), 3);
  for (unsigned i = 0; i < 3; ++i) EXPECT_EQ(received[i].msg_len, i + 1);
}

TEST(Descriptors, AWaitCanBeCancelled) {
  const Fd receiver = Datagram();
  const Fd listener = Listen();
  const auto cancelled = [](int fd, void* (*wait)(void*)) {
    pthread_t thread;
    void* result = nullptr;
    EXPECT_EQ(pthread_create(&thread, nullptr, wait, &fd), 0);
    EXPECT_EQ(pthread_cancel(thread), 0);
    EXPECT_EQ(pthread_join(thread, &result), 0);
    return result == PTHREAD_CANCELED;
  };
  EXPECT_TRUE(cancelled(listener.get(), [](void* fd) -> void* {
    accept(*static_cast<int*>(fd), nullptr, nullptr);
    return nullptr;
  }));
  EXPECT_TRUE(cancelled(receiver.get(), [](void* fd) -> void* {
    char byte;
    (void)!read(*static_cast<int*>(fd), &byte, 1);
    return nullptr;
  }));
  // What the cancelled thread may have held would show now.
  const Fd client = Connect(PortOf(listener));
  EXPECT_GE(Fd(accept(listener.get(), nullptr, nullptr)).get(), 0);
}

TEST(Descriptors, ForkedWorkersShareAListener) {
  const Fd listener = Listen();
  const pid_t pid = fork();
  if (pid == 0) {
    const Fd server(accept(listener.get(), nullptr, nullptr));
    const bool ok = PortOf(listener) == PortOf(server) && write(server.get(), "child", 5) == 5;
    _exit(ok ? 0 : 1);
  }
  const Fd client = Connect(PortOf(listener));
  EXPECT_EQ(Read(client.get()), "child");
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

TEST(Descriptors, ADescriptorWorksUnderItsOtherNumber) {
  const Fd listener = Listen();
  const Fd twin(dup(listener.get()));
  const Fd client = Connect(PortOf(twin));
  const Fd server(accept(twin.get(), nullptr, nullptr));
  const Fd high(fcntl(server.get(), F_DUPFD, 200));
  ASSERT_GE(high.get(), 200);
  ASSERT_EQ(write(high.get(), "x", 1), 1);
  EXPECT_EQ(Read(client.get()), "x");
  EXPECT_EQ(PortOf(high), PortOf(listener));
}

TEST(Descriptors, ADescriptorOfAProcessIsTheSameSocket) {
  const Fd receiver = Datagram();
  const Fd sender(socket(AF_INET, SOCK_DGRAM, 0));
  const Fd self(pidfd_open(getpid(), 0));
  // A number that was last known for a file of the host.
  Fd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int number = file.get();
  EXPECT_EQ(Read(number), "");
  ASSERT_EQ(syscall(SYS_close_range, number, number, 0), 0);
  ASSERT_EQ(pidfd_getfd(self.get(), receiver.get(), 0), file.release());
  const Fd same(number);
  const sockaddr_in to = Loopback(PortOf(same));
  ASSERT_EQ(sendto(sender.get(), "hello", 5, 0, Addr(to), sizeof to), 5);
  EXPECT_EQ(Read(same.get()), "hello");
}

TEST(Descriptors, ClosingEverythingLeavesSocketsWorking) {
  const pid_t pid = fork();
  if (pid == 0) {
    const Fd before(socket(AF_INET, SOCK_STREAM, 0));
    for (int fd = 3; fd < 2000; ++fd) close(fd);
    if (close_range(3, ~0u, 0) != 0) _exit(1);
    for (int fd = 3; fd < 1100; ++fd) {
      if (dup2(2, fd) != fd) _exit(2);
    }
    closefrom(3);
    const Fd after(socket(AF_INET, SOCK_STREAM, 0));
    _exit(after.get() == 3 && bind(after.get(), Addr(Loopback(0)), sizeof(sockaddr_in)) == 0 ? 0
                                                                                             : 3);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// A server may make sockets in advance for who makes many: what that takes is nobody's concern.
TEST(Descriptors, ManySocketsAreTheirProcesses) {
  const Fd listener = Listen();
  const uint16_t port = PortOf(listener);
  const auto talk = [&] {
    const Fd client = Connect(port);
    const Fd server(accept(listener.get(), nullptr, nullptr));
    return WriteAll(client.get(), "hello") && ReadExactly(server.get(), 5) == "hello";
  };
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(talk());
  const auto child = [&](auto body) {
    const pid_t pid = fork();
    if (pid == 0) _exit(body() ? 0 : 1);
    int status = -1;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
  };
  child([&] {
    for (int i = 0; i < 10; ++i) {
      if (!talk()) return false;
    }
    return true;
  });
  child([&] {
    for (int i = 0; i < 5; ++i) {
      if (!talk()) return false;
    }
    for (int fd = listener.get() + 1; fd < 1100; ++fd) {
      if (close(fd) != -1 || dup2(2, fd) != fd) return false;
    }
    for (int fd = listener.get() + 1; fd < 1100; ++fd) {
      if (close(fd) != 0) return false;
    }
    return close_range(listener.get() + 1, ~0u, 0) == 0 && talk() && talk() && talk();
  });
  const pid_t in_this_memory = vfork();
  if (in_this_memory == 0) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    _exit(fd >= 0 && bind(fd, Addr(Loopback(0)), sizeof(sockaddr_in)) == 0 ? 0 : 1);
  }
  int status = -1;
  EXPECT_EQ(waitpid(in_this_memory, &status, 0), in_this_memory);
  EXPECT_EQ(status, 0);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(talk());
}

TEST(Descriptors, NoMoreSocketsThanDescriptors) {
  const pid_t pid = fork();
  if (pid == 0) {
    for (int i = 0; i < 5; ++i) const Fd fd(socket(AF_INET, SOCK_STREAM, 0));
    const Fd last(socket(AF_INET, SOCK_STREAM, 0));
    const rlimit limit{static_cast<rlim_t>(last.get()) + 2, static_cast<rlim_t>(last.get()) + 2};
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) _exit(1);
    Fd one(socket(AF_INET, SOCK_STREAM, 0));
    if (one.get() != last.get() + 1) _exit(2);
    for (int i = 0; i < 30; ++i) {
      if (socket(AF_INET, SOCK_STREAM, 0) != -1 || errno != EMFILE) _exit(3);
    }
    one.Close();
    const Fd another(socket(AF_INET, SOCK_STREAM, 0));
    _exit(another.get() == last.get() + 1 &&
                  bind(another.get(), Addr(Loopback(0)), sizeof(sockaddr_in)) == 0
              ? 0
              : 4);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// What a program finds at a number that it has given no meaning.
TEST(Descriptors, OtherNumbersAreNotOpen) {
  const pid_t pid = fork();
  if (pid == 0) {
    closefrom(3);
    const Fd socket_fd(socket(AF_INET, SOCK_STREAM, 0));
    if (socket_fd.get() != 3 || bind(3, Addr(Loopback(0)), sizeof(sockaddr_in)) != 0) _exit(255);
    char byte;
    const auto fails = [](long result) { return result == -1 && errno == EBADF; };
    for (int fd = 4; fd < 3000; ++fd) {
      if (!fails(fcntl(fd, F_GETFD)) || !fails(fcntl(fd, F_GETFL))) _exit(1);
      if (!fails(read(fd, &byte, 1)) || !fails(write(fd, &byte, 1))) _exit(2);
      if (!fails(dup(fd)) || !fails(fcntl(fd, F_DUPFD, 0))) _exit(3);
      if (!fails(dup2(fd, fd)) || !fails(dup2(fd, 3)) || !fails(dup3(fd, 3, 0))) _exit(4);
      if (!fails(dup2(fd, fd + 1)) || !fails(dup2(fd + 1, fd))) _exit(8);
      if (!fails(send(fd, &byte, 1, 0)) || !fails(shutdown(fd, SHUT_WR))) _exit(5);
      if (!fails(close(fd))) _exit(6);
    }
    _exit(listen(3, 1) == 0 ? 0 : 7);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// Numbers beyond the limit are nobody's, whatever is open there already.
TEST(Descriptors, NoNumbersBeyondTheLimit) {
  const pid_t pid = fork();
  if (pid == 0) {
    closefrom(3);
    const Fd sockets[] = {Fd(socket(AF_INET, SOCK_STREAM, 0)), Fd(socket(AF_INET, SOCK_STREAM, 0)),
                          Fd(socket(AF_INET, SOCK_STREAM, 0)), Fd(socket(AF_INET, SOCK_STREAM, 0)),
                          Fd(socket(AF_INET, SOCK_DGRAM, 0))};
    rlimit usual;
    if (getrlimit(RLIMIT_NOFILE, &usual) != 0) _exit(1);
    const rlimit limit{100, usual.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) _exit(2);
    const auto fails = [](long result, int error) { return result == -1 && errno == error; };
    for (int fd = 100; fd < 1100; ++fd) {
      if (!fails(dup2(0, fd), EBADF) || !fails(dup3(3, fd, O_CLOEXEC), EBADF)) _exit(3);
      if (!fails(dup3(0, fd, -1), EINVAL)) _exit(4);
    }
    if (setrlimit(RLIMIT_NOFILE, &usual) != 0) _exit(5);
    for (int fd = 100; fd < 1100; ++fd) {
      if (!fails(dup3(0, fd, -1), EINVAL) || !fails(close(fd), EBADF)) _exit(6);
    }
    for (const Fd& fd : sockets) {
      if (bind(fd.get(), Addr(Loopback(0)), sizeof(sockaddr_in)) != 0) _exit(7);
    }
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Descriptors, WithoutANumberNothingIsAccepted) {
  const pid_t pid = fork();
  if (pid == 0) {
    closefrom(3);
    const Fd listener = Listen(16, SOCK_NONBLOCK);
    const Fd clients[] = {Connect(PortOf(listener)), Connect(PortOf(listener))};
    for (const Fd& client : clients) {
      if (!WriteAll(client.get(), "sent")) _exit(1);
    }
    Fd last(dup(0));
    rlimit usual;
    if (getrlimit(RLIMIT_NOFILE, &usual) != 0) _exit(2);
    const rlimit limit{static_cast<rlim_t>(last.get()) + 1, usual.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) _exit(3);
    if (PollFor(listener.get(), POLLIN, kPatience) != POLLIN) _exit(4);
    for (int i = 0; i < 3; ++i) {
      if (accept(listener.get(), nullptr, nullptr) != -1 || errno != EMFILE) _exit(5);
      if (accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC) != -1 || errno != EMFILE) {
        _exit(6);
      }
    }
    last.Close();
    const Fd first(accept(listener.get(), nullptr, nullptr));
    if (first.get() < 0 || ReadExactly(first.get(), 4) != "sent") _exit(7);
    if (accept(listener.get(), nullptr, nullptr) != -1 || errno != EMFILE) _exit(8);
    if (setrlimit(RLIMIT_NOFILE, &usual) != 0) _exit(9);
    if (PollFor(listener.get(), POLLIN, kPatience) != POLLIN) _exit(10);
    const Fd second(accept(listener.get(), nullptr, nullptr));
    _exit(second.get() >= 0 && ReadExactly(second.get(), 4) == "sent" ? 0 : 11);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Descriptors, FlagsOfADescriptionAreSeenByAllDups) {
  auto [client, server] = TcpPair();
  const Fd listener = Listen();
  for (const Fd* fd : std::initializer_list<const Fd*>{&server, &listener}) {
    const Fd twin(dup(fd->get()));
    const Fd third(fcntl(fd->get(), F_DUPFD_CLOEXEC, 100));
    ASSERT_EQ(fcntl(twin.get(), F_SETFL, O_NONBLOCK), 0);
    EXPECT_NE(fcntl(fd->get(), F_GETFL) & O_NONBLOCK, 0);
    char byte;
    EXPECT_EQ(fd == &server ? read(third.get(), &byte, 1) : accept(third.get(), nullptr, nullptr),
              -1);
    EXPECT_EQ(errno, EAGAIN);
    int off = 0;
    ASSERT_EQ(ioctl(third.get(), FIONBIO, &off), 0);
    EXPECT_EQ(fcntl(twin.get(), F_GETFL) & O_NONBLOCK, 0);
    // This flag is each number's own.
    EXPECT_EQ(fcntl(third.get(), F_GETFD), FD_CLOEXEC);
    EXPECT_EQ(fcntl(twin.get(), F_GETFD), 0);
    ASSERT_EQ(ioctl(twin.get(), FIOCLEX), 0);
    EXPECT_EQ(fcntl(twin.get(), F_GETFD), FD_CLOEXEC);
    EXPECT_EQ(fcntl(fd->get(), F_GETFD), 0);
  }
}

TEST(Descriptors, DescriptorsInMessagesDoNotCrossAConnection) {
  const Fd listener = Listen();
  const Fd client = Connect(PortOf(listener));
  const Fd server(accept(listener.get(), nullptr, nullptr));
  iovec iov = {const_cast<char*>("data"), 4};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = sizeof control;
  cmsghdr* rights = CMSG_FIRSTHDR(&msg);
  *rights = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
  ASSERT_EQ(sendmsg(client.get(), &msg, 0), 4);
  char buffer[8];
  sockaddr_storage from;
  iov = {buffer, sizeof buffer};
  msg.msg_name = &from;
  msg.msg_namelen = sizeof from;
  ASSERT_EQ(recvmsg(server.get(), &msg, 0), 4);
  EXPECT_EQ(msg.msg_controllen, 0u);
  EXPECT_EQ(msg.msg_namelen, 0u);
}

TEST(Descriptors, ThreadsUseTheServerAtOnce) {
  const Fd listener = Listen();
  const uint16_t port = PortOf(listener);
  constexpr int kThreads = 4;
  constexpr int kConnections = 25;
  std::thread threads[kThreads];
  for (std::thread& thread : threads) {
    thread = std::thread([&] {
      for (int i = 0; i < kConnections; ++i) {
        const Fd client = Connect(port);
        EXPECT_EQ(Read(client.get()), "hello");
      }
    });
  }
  for (int i = 0; i < kThreads * kConnections; ++i) {
    const Fd server(accept(listener.get(), nullptr, nullptr));
    EXPECT_EQ(write(server.get(), "hello", 5), 5);
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace rump
