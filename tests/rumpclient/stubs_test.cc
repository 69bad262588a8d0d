// Every rump_sys_* against a rump_server: that arguments arrive where the call expects them, and
// results where the caller does.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <functional>
#include <string>

#include "gtest/gtest.h"
#include "protocol/syscalls.h"
#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"

namespace rump::client {
namespace {

constexpr timespec kNoTime = {.tv_sec = 0, .tv_nsec = 0};
constexpr timespec kMoment = {.tv_sec = 0, .tv_nsec = 1'000'000};
constexpr int kForever = -1;

#define EXPECT_FAILS(error, call) \
  do {                            \
    EXPECT_EQ(-1, call);          \
    EXPECT_EQ(error, errno);      \
  } while (0)

iovec Vector(std::string* text) { return {.iov_base = text->data(), .iov_len = text->size()}; }

class StubsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_NE(nullptr, mkdtemp(folder_.data()));
    const std::string url = "unix://" + folder_ + "/s";
    char program[] = "sp_server/rump_server";
    char* const argv[] = {program, const_cast<char*>(url.c_str()), getenv("SERVER_OPTION"),
                          nullptr};
    pid_t pid = -1;
    int status = -1;
    ASSERT_EQ(0, posix_spawn(&pid, program, nullptr, nullptr, argv, environ));
    ASSERT_EQ(pid, waitpid(pid, &status, 0));
    ASSERT_EQ(0, status) << "it is in the background and accepts connections";
    setenv("RUMP_SERVER", url.c_str(), 1);
    ASSERT_EQ(0, rumpclient_init());
  }

  static void TearDownTestSuite() {
    if (testing::GTEST_FLAG(filter) == "*") ExpectEveryCallWasMade();
    long retval[2];
    EXPECT_EQ(0, rumpclient_syscall(kSysHalt, nullptr, 0, retval));
    rmdir(folder_.c_str());
  }

  static void ExpectEveryCallWasMade() {
    std::string report(64 * 1024, '\0');
    const uint64_t args[] = {static_cast<uint64_t>(QueryKind::kStatisticsJson),
                             reinterpret_cast<uint64_t>(report.data()), report.size(), 0};
    long retval[2] = {};
    ASSERT_EQ(0, rumpclient_syscall(kSysQuery, args, sizeof args, retval));
    for (const SyscallSpec& row : AllSyscalls()) {
      if (row.number >= kPrivateCallBase) continue;
      const std::string entry = "{\"number\":" + std::to_string(row.number) + ",";
      EXPECT_NE(std::string::npos, report.find(entry)) << row.name << " has not been called";
    }
  }

  void SetUp() override { ASSERT_EQ(0, rump_sys_pipe(pipe_)); }
  void TearDown() override {
    for (const int fd : pipe_) EXPECT_EQ(0, rump_sys_close(fd));
  }

  void Fill() { ASSERT_EQ(4, rump_sys_write(writer(), "data", 4)); }
  int reader() const { return pipe_[0]; }
  int writer() const { return pipe_[1]; }

 private:
  static std::string folder_;
  int pipe_[2] = {-1, -1};
};

std::string StubsTest::folder_ = "/tmp/rhXXXXXX";

// A loopback address, and where the calls put one.
struct Address {
  sockaddr_in in = {
      .sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  socklen_t size = sizeof in;

  sockaddr* any() { return reinterpret_cast<sockaddr*>(&in); }
};

// A bound socket; its address in *address.
int Bound(int type, Address* address) {
  const int fd = rump_sys_socket(AF_INET, type, 0);
  EXPECT_LE(0, fd);
  EXPECT_EQ(0, rump_sys_bind(fd, address->any(), address->size));
  EXPECT_EQ(0, rump_sys_getsockname(fd, address->any(), &address->size));
  EXPECT_NE(0, address->in.sin_port);
  return fd;
}

TEST_F(StubsTest, ReadAndWrite) {
  Fill();
  char data[5] = {};
  EXPECT_EQ(4, rump_sys_read(reader(), data, sizeof data));
  EXPECT_STREQ("data", data);
  EXPECT_FAILS(EBADF, rump_sys_read(-1, data, sizeof data));
  EXPECT_FAILS(EFAULT, rump_sys_write(writer(), nullptr, 1));
}

TEST_F(StubsTest, ReadAndWriteVectors) {
  std::string out[2] = {"some", "thing"};
  const iovec out_vectors[2] = {Vector(&out[0]), Vector(&out[1])};
  EXPECT_EQ(9, rump_sys_writev(writer(), out_vectors, 2));
  std::string in[2] = {"......", "..."};
  const iovec in_vectors[2] = {Vector(&in[0]), Vector(&in[1])};
  EXPECT_EQ(9, rump_sys_readv(reader(), in_vectors, 2));
  EXPECT_EQ("someth", in[0]);
  EXPECT_EQ("ing", in[1]);
}

// A pipe has no positions, but a negative one is another error.
TEST_F(StubsTest, ReadAndWriteAtAPosition) {
  std::string data = "data";
  const iovec vector = Vector(&data);
  EXPECT_FAILS(ESPIPE, rump_sys_pread(reader(), data.data(), 4, 1));
  EXPECT_FAILS(EINVAL, rump_sys_pread(reader(), data.data(), 4, -1));
  EXPECT_FAILS(ESPIPE, rump_sys_pwrite(writer(), "data", 4, 1));
  EXPECT_FAILS(EINVAL, rump_sys_pwrite(writer(), "data", 4, -1));
  EXPECT_FAILS(ESPIPE, rump_sys_preadv(reader(), &vector, 1, 1));
  EXPECT_FAILS(EINVAL, rump_sys_preadv(reader(), &vector, 1, -1));
  EXPECT_FAILS(ESPIPE, rump_sys_pwritev(writer(), &vector, 1, 1));
  EXPECT_FAILS(EINVAL, rump_sys_pwritev(writer(), &vector, 1, -1));
}

TEST_F(StubsTest, PipeWithFlags) {
  int fds[2] = {-1, -1};
  ASSERT_EQ(0, rump_sys_pipe2(fds, O_NONBLOCK | O_CLOEXEC));
  char byte;
  EXPECT_FAILS(EAGAIN, rump_sys_read(fds[0], &byte, 1));
  EXPECT_EQ(FD_CLOEXEC, rump_sys_fcntl(fds[0], F_GETFD));
  EXPECT_EQ(O_WRONLY | O_NONBLOCK, rump_sys_fcntl(fds[1], F_GETFL));
  EXPECT_EQ(0, rump_sys_close(fds[0]));
  EXPECT_EQ(0, rump_sys_close(fds[1]));
  EXPECT_FAILS(EBADF, rump_sys_close(fds[1]));
}

TEST_F(StubsTest, Duplicates) {
  Fill();
  const int copies[] = {rump_sys_dup(reader()), rump_sys_dup2(reader(), 50),
                        rump_sys_dup3(reader(), 51, O_CLOEXEC),
                        rump_sys_fcntl(reader(), F_DUPFD, 60)};
  EXPECT_EQ(50, copies[1]);
  EXPECT_EQ(51, copies[2]);
  EXPECT_EQ(60, copies[3]);
  EXPECT_EQ(0, rump_sys_fcntl(50, F_GETFD));
  EXPECT_EQ(FD_CLOEXEC, rump_sys_fcntl(51, F_GETFD));
  for (const int fd : copies) {
    char byte;
    EXPECT_EQ(1, rump_sys_read(fd, &byte, 1)) << fd;
    EXPECT_EQ(0, rump_sys_close(fd)) << fd;
  }
}

TEST_F(StubsTest, FcntlAndIoctl) {
  EXPECT_EQ(0, rump_sys_fcntl(reader(), F_SETFL, O_NONBLOCK));
  char byte;
  EXPECT_FAILS(EAGAIN, rump_sys_read(reader(), &byte, 1));
  int off = 0;
  EXPECT_EQ(0, rump_sys_ioctl(reader(), FIONBIO, &off));
  EXPECT_EQ(O_RDONLY, rump_sys_fcntl(reader(), F_GETFL));
  Fill();
  int count = 0;
  EXPECT_EQ(0, rump_sys_ioctl(reader(), FIONREAD, &count));
  EXPECT_EQ(4, count);
  struct flock lock = {};
  EXPECT_FAILS(EINVAL, rump_sys_fcntl(reader(), F_SETLK, &lock));  // not served so far
}

TEST_F(StubsTest, Connections) {
  Address address;
  const int listener = Bound(SOCK_STREAM, &address);
  ASSERT_EQ(0, rump_sys_listen(listener, 2));
  for (const bool nonblocking : {false, true}) {
    const int client = rump_sys_socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_EQ(0, rump_sys_connect(client, address.any(), address.size));
    Address own;
    EXPECT_EQ(0, rump_sys_getsockname(client, own.any(), &own.size));
    Address peer;
    const int server = nonblocking
                           ? rump_sys_accept4(listener, peer.any(), &peer.size, SOCK_NONBLOCK)
                           : rump_sys_accept(listener, peer.any(), &peer.size);
    ASSERT_LE(0, server);
    EXPECT_EQ(nonblocking ? O_RDWR | O_NONBLOCK : O_RDWR, rump_sys_fcntl(server, F_GETFL));
    EXPECT_EQ(sizeof(sockaddr_in), peer.size);
    EXPECT_EQ(own.in.sin_port, peer.in.sin_port);
    EXPECT_EQ(0, rump_sys_getpeername(client, peer.any(), &peer.size));
    EXPECT_EQ(address.in.sin_port, peer.in.sin_port);
    EXPECT_EQ(0, rump_sys_shutdown(client, SHUT_WR));
    pollfd end = {.fd = server, .events = POLLIN, .revents = 0};
    EXPECT_EQ(1, rump_sys_poll(&end, 1, kForever));
    char byte;
    EXPECT_EQ(0, rump_sys_read(server, &byte, 1));
    EXPECT_EQ(0, rump_sys_close(client));
    EXPECT_EQ(0, rump_sys_close(server));
  }
  EXPECT_EQ(0, rump_sys_close(listener));
}

TEST_F(StubsTest, SocketOptions) {
  const int fd = rump_sys_socket(AF_INET, SOCK_STREAM, 0);
  const timeval timeout = {.tv_sec = 7, .tv_usec = 0};
  EXPECT_EQ(0, rump_sys_setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
  timeval now[2] = {};
  socklen_t size = sizeof now;
  EXPECT_EQ(0, rump_sys_getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, now, &size));
  EXPECT_EQ(sizeof timeout, size);
  EXPECT_EQ(7, now[0].tv_sec);
  EXPECT_EQ(0, rump_sys_close(fd));
}

TEST_F(StubsTest, SocketPair) {
  int ends[2] = {-1, -1};
  ASSERT_EQ(0, rump_sys_socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
  char byte = 0;
  EXPECT_EQ(1, rump_sys_write(ends[0], "x", 1));
  EXPECT_EQ(1, rump_sys_read(ends[1], &byte, 1));
  EXPECT_EQ('x', byte);
  EXPECT_EQ(0, rump_sys_close(ends[0]));
  EXPECT_EQ(0, rump_sys_close(ends[1]));
}

TEST_F(StubsTest, Datagrams) {
  Address to;
  Address own;
  const int receiver = Bound(SOCK_DGRAM, &to);
  const int sender = Bound(SOCK_DGRAM, &own);
  EXPECT_EQ(3, rump_sys_sendto(sender, "one", 3, 0, to.any(), to.size));
  char data[16] = {};
  Address from;
  EXPECT_EQ(3, rump_sys_recvfrom(receiver, data, sizeof data, 0, from.any(), &from.size));
  EXPECT_STREQ("one", data);
  EXPECT_EQ(own.in.sin_port, from.in.sin_port);

  std::string text = "second";
  iovec vector = Vector(&text);
  msghdr message = {};
  message.msg_name = to.any();
  message.msg_namelen = to.size;
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  EXPECT_EQ(6, rump_sys_sendmsg(sender, &message, 0));
  text = "......";
  message.msg_name = from.any();
  EXPECT_EQ(6, rump_sys_recvmsg(receiver, &message, 0));
  EXPECT_EQ("second", text);
  EXPECT_FAILS(EAGAIN, rump_sys_recvmsg(receiver, &message, MSG_DONTWAIT));
  EXPECT_EQ(0, rump_sys_close(receiver));
  EXPECT_EQ(0, rump_sys_close(sender));
}

TEST_F(StubsTest, SeveralMessages) {
  int ends[2] = {-1, -1};
  ASSERT_EQ(0, rump_sys_socketpair(AF_UNIX, SOCK_DGRAM, 0, ends));
  std::string texts[3] = {"a", "bc", "def"};
  iovec vectors[3];
  mmsghdr messages[3] = {};
  for (int i = 0; i < 3; ++i) {
    vectors[i] = Vector(&texts[i]);
    messages[i].msg_hdr.msg_iov = &vectors[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(3, rump_sys_sendmmsg(ends[0], messages, 3, 0));
  EXPECT_EQ(3U, messages[2].msg_len);
  for (std::string& text : texts) std::ranges::fill(text, '.');
  timespec timeout = {.tv_sec = 100, .tv_nsec = 0};
  EXPECT_EQ(2, rump_sys_recvmmsg(ends[1], messages, 2, 0, &timeout));
  EXPECT_EQ("bc", texts[1]);
  EXPECT_EQ("...", texts[2]);
  EXPECT_EQ(0, rump_sys_close(ends[0]));
  EXPECT_EQ(0, rump_sys_close(ends[1]));
}

TEST_F(StubsTest, PollAndSelect) {
  Fill();
  std::array<pollfd, 2> fds = {{{.fd = reader(), .events = POLLIN, .revents = 0},
                                {.fd = writer(), .events = POLLOUT, .revents = 0}}};
  EXPECT_EQ(2, rump_sys_poll(fds.data(), fds.size(), kForever));
  EXPECT_EQ(POLLIN, fds[0].revents);
  fds[0].revents = 0;
  EXPECT_EQ(1, rump_sys_ppoll(fds.data(), 1, nullptr, nullptr));
  EXPECT_EQ(POLLIN, fds[0].revents);
  EXPECT_EQ(0, rump_sys_ppoll(nullptr, 0, &kMoment, nullptr));

  fd_set in;
  fd_set out;
  FD_ZERO(&in);
  FD_SET(reader(), &in);
  FD_SET(writer(), &in);
  out = in;
  timeval timeout = {.tv_sec = 100, .tv_usec = 0};
  const int count = std::max(reader(), writer()) + 1;
  EXPECT_EQ(2, rump_sys_select(count, &in, &out, nullptr, &timeout));
  EXPECT_TRUE(FD_ISSET(reader(), &in));
  EXPECT_FALSE(FD_ISSET(writer(), &in));
  EXPECT_TRUE(FD_ISSET(writer(), &out));
  EXPECT_LT(timeout.tv_sec, 100) << "what was left";
  const timespec constant = {.tv_sec = 100, .tv_nsec = 0};
  EXPECT_EQ(1, rump_sys_pselect(count, &in, nullptr, nullptr, &constant, nullptr));
  EXPECT_EQ(0, rump_sys_pselect(0, nullptr, nullptr, nullptr, &kMoment, nullptr));
}

TEST_F(StubsTest, Epoll) {
  EXPECT_FAILS(EINVAL, rump_sys_epoll_create(0));
  const int first = rump_sys_epoll_create(1);
  const int second = rump_sys_epoll_create1(EPOLL_CLOEXEC);
  EXPECT_EQ(FD_CLOEXEC, rump_sys_fcntl(second, F_GETFD));
  epoll_event wanted = {.events = EPOLLIN, .data = {.u64 = 0x123456789abcdef0}};
  EXPECT_EQ(0, rump_sys_epoll_ctl(first, EPOLL_CTL_ADD, reader(), &wanted));
  EXPECT_FAILS(EEXIST, rump_sys_epoll_ctl(first, EPOLL_CTL_ADD, reader(), &wanted));
  std::array<epoll_event, 3> events = {};
  EXPECT_EQ(0, rump_sys_epoll_wait(first, events.data(), events.size(), 0));
  Fill();
  EXPECT_EQ(1, rump_sys_epoll_wait(first, events.data(), events.size(), kForever));
  EXPECT_EQ(wanted.data.u64, uint64_t{events[0].data.u64});
  events = {};
  EXPECT_EQ(1, rump_sys_epoll_pwait(first, events.data(), events.size(), kForever, nullptr));
  EXPECT_EQ(wanted.data.u64, uint64_t{events[0].data.u64});
  EXPECT_EQ(0, rump_sys_epoll_ctl(first, EPOLL_CTL_DEL, reader(), nullptr));
  EXPECT_EQ(0, rump_sys_close(first));
  EXPECT_EQ(0, rump_sys_close(second));
}

int handled = 0;
void CountSignal(int) { ++handled; }

int Handled() {
#ifdef __SANITIZE_THREAD__
  usleep(0);  // the runtime holds handlers back until the thread calls libc
#endif
  return handled;
}

// Calls with a mask: a signal that the thread blocks, and the mask does not, ends them with EINTR
// if nothing is ready, also if it was pending before; else it stays pending.
TEST_F(StubsTest, MasksHoldWhileNothingIsReady) {
  struct sigaction action = {};
  action.sa_handler = CountSignal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  sigset_t none;
  sigemptyset(&none);
  const int epoll = rump_sys_epoll_create1(0);
  epoll_event event = {.events = EPOLLIN, .data = {}};
  EXPECT_EQ(0, rump_sys_epoll_ctl(epoll, EPOLL_CTL_ADD, reader(), &event));
  pollfd fd = {.fd = reader(), .events = POLLIN, .revents = 0};
  fd_set fds;
  FD_ZERO(&fds);
  FD_SET(reader(), &fds);
  const std::function<int(const sigset_t*, bool)> calls[] = {
      [&](const sigset_t* mask, bool wait) {
        return rump_sys_ppoll(&fd, 1, wait ? nullptr : &kNoTime, mask);
      },
      [&](const sigset_t* mask, bool wait) {
        fd_set in = fds;
        return rump_sys_pselect(reader() + 1, &in, nullptr, nullptr, wait ? nullptr : &kNoTime,
                                mask);
      },
      [&](const sigset_t* mask, bool wait) {
        return rump_sys_epoll_pwait(epoll, &event, 1, wait ? kForever : 0, mask);
      }};
  for (const auto& call : calls) {
    handled = 0;
    raise(SIGUSR1);
    EXPECT_EQ(0, call(nullptr, false)) << "no mask is no change";
    EXPECT_EQ(0, call(&blocked, false));
    EXPECT_EQ(0, Handled());
    EXPECT_FAILS(EINTR, call(&none, true));
    EXPECT_EQ(1, Handled());
    raise(SIGUSR1);
    EXPECT_FAILS(EINTR, call(&none, false));
    EXPECT_EQ(2, Handled());
    raise(SIGUSR1);
    ASSERT_EQ(1, rump_sys_write(writer(), "x", 1));
    EXPECT_EQ(1, call(&none, true));
    EXPECT_EQ(2, Handled()) << "what is ready comes first";
    pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr);
    EXPECT_EQ(3, Handled());
    pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
    char byte;
    ASSERT_EQ(1, rump_sys_read(reader(), &byte, 1));
  }
  pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr);
  EXPECT_EQ(0, rump_sys_close(epoll));
}

TEST_F(StubsTest, Sleep) {
  timespec left = {};
  EXPECT_EQ(0, rump_sys_nanosleep(&kMoment, &left));
  const timespec wrong = {.tv_sec = 0, .tv_nsec = -1};
  EXPECT_FAILS(EINVAL, rump_sys_nanosleep(&wrong, nullptr));
  EXPECT_EQ(0, rump_sys_clock_nanosleep(CLOCK_MONOTONIC, 0, &kMoment, &left));
  errno = 0;
  EXPECT_EQ(EINVAL, rump_sys_clock_nanosleep(CLOCK_MONOTONIC, 0, &wrong, nullptr));
  EXPECT_EQ(EOPNOTSUPP,
            rump_sys_clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &kMoment, nullptr));
  EXPECT_EQ(0, errno) << "clock_nanosleep(2) returns the error";
}

TEST_F(StubsTest, Processes) {
  const pid_t pid = rump_sys_getpid();
  EXPECT_LT(1, pid);
  EXPECT_EQ(1, rump_sys_getppid());
  signal(SIGUSR2, CountSignal);
  handled = 0;
  EXPECT_EQ(0, rump_sys_kill(pid, SIGUSR2));
  EXPECT_EQ(1, Handled());
  EXPECT_FAILS(ESRCH, rump_sys_kill(pid + 1'000'000, 0));
  EXPECT_FAILS(EINVAL, rump_sys_kill(pid, 65));
}

TEST_F(StubsTest, Names) {
  EXPECT_EQ(0, rump_sys_sethostname("elsewhere", 4));
  utsname name = {};
  EXPECT_EQ(0, rump_sys_uname(&name));
  EXPECT_STREQ("Linux", name.sysname);
  EXPECT_STREQ("else", name.nodename);
  EXPECT_STREQ("x86_64", name.machine);
}

}  // namespace
}  // namespace rump::client
