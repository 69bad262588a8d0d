// The library's own descriptors, and the program that does not know of them.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <future>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"
#include "tests/rumpclient/fake_server.h"
#include "tests/rumpclient/test_server.h"

namespace rump::client {
namespace {

constexpr int kHighest = 2000;

std::set<int> OpenDescriptors() {
  std::set<int> open;
  for (int fd = 0; fd < kHighest; ++fd) {
    if (fcntl(fd, F_GETFD) != -1) open.insert(fd);
  }
  return open;
}

// The one that rumpclient_init() has opened.
int InitAndFindOwn() {
  const std::set<int> before = OpenDescriptors();
  EXPECT_EQ(0, rumpclient_init());
  int own = -1;
  for (const int fd : OpenDescriptors()) {
    if (before.count(fd) != 0) continue;
    EXPECT_EQ(-1, own) << "it has one only";
    own = fd;
  }
  EXPECT_GE(own, 0);
  return own;
}

TEST(DescriptorTest, IsHighAndCloseOnExec) {
  TestServer server;
  RunBareProgram(server, [] {
    const int own = InitAndFindOwn();
    EXPECT_GE(own, 1000);
    EXPECT_EQ(FD_CLOEXEC, fcntl(own, F_GETFD));
  });
}

TEST(DescriptorTest, StandardDescriptorsAreLeftAlone) {
  TestServer server;
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("RUMP_SERVER", server.url().c_str(), 1);
    const auto standard_are_free = [] {
      return fcntl(0, F_GETFD) == -1 && fcntl(1, F_GETFD) == -1 && fcntl(2, F_GETFD) == -1;
    };
    for (int fd = 0; fd <= 2; ++fd) close(fd);
    if (rumpclient_init() != 0 || !standard_are_free()) _exit(1);
    if (rump_sys_getpid() <= 0) _exit(2);
    const pid_t child = rumpclient_fork();
    if (child == 0) _exit(standard_are_free() && rump_sys_getpid() > 0 ? 0 : 1);
    if (child < 0 || !standard_are_free()) _exit(3);
    ExpectGoodEnd(child);
    ExitWithResult();
  }
  ExpectGoodEnd(pid);
}

TEST(DescriptorTest, MovesWhenItsNumberIsWanted) {
  TestServer server;
  RunBareProgram(server, [] {
    int own = InitAndFindOwn();
    const pid_t pid = rump_sys_getpid();
    RumpPipe pipe;
    // The reader must not be in the way.
    std::thread blocked([&] {
      char c;
      EXPECT_EQ(1, rump_sys_read(pipe.reader, &c, 1));
    });
    AwaitCallsInFlight(1);
    for (const auto variant : {RUMPCLIENT_CLOSE_CLOSE, RUMPCLIENT_CLOSE_DUP2}) {
      int other = own + 7;
      EXPECT_EQ(0, rumpclient__closenotify(&other, variant));
      EXPECT_EQ(own + 7, other);
      EXPECT_NE(-1, fcntl(own, F_GETFD)) << "another number is no reason to move";
      EXPECT_EQ(0, rumpclient__closenotify(&own, variant));
      EXPECT_EQ(-1, fcntl(own, F_GETFD)) << "it has made room";
      EXPECT_EQ(own, dup2(STDERR_FILENO, own));
      EXPECT_EQ(pid, rump_sys_getpid());
      close(own);
      const std::set<int> open = OpenDescriptors();
      own = *open.rbegin();
      EXPECT_EQ(FD_CLOEXEC, fcntl(own, F_GETFD));
      EXPECT_GE(own, 1000);
    }
    EXPECT_EQ(1, rump_sys_write(pipe.writer, "x", 1));
    blocked.join();
  });
}

// Where the thread that reads, here in the middle of a frame, does not exist.
TEST(DescriptorTest, MovesInTheChildOfAPlainFork) {
  std::promise<void> half_taken;
  std::promise<void> child_ended;
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    const std::string answer = SyscallAnswer(call.header.reqno, 0, 5);
    peer->Send(answer.substr(0, answer.size() / 2));
    peer->Drain();
    half_taken.set_value();
    child_ended.get_future().wait();
    peer->Send(answer.substr(answer.size() / 2));
  });
  setenv("RUMP_SERVER", server.url().c_str(), 1);
  ASSERT_EQ(0, rumpclient_init());
  const int own = *OpenDescriptors().rbegin();
  ASSERT_GE(own, 1000);
  std::thread caller([] { EXPECT_EQ(5, rump_sys_getpid()); });
  half_taken.get_future().wait();
  const pid_t child = fork();
  if (child == 0) {
    int fd = own;
    EXPECT_EQ(0, rumpclient__closenotify(&fd, RUMPCLIENT_CLOSE_CLOSE));
    EXPECT_EQ(-1, fcntl(own, F_GETFD));
    EXPECT_GT(*OpenDescriptors().rbegin(), own) << "which keeps what is preforked";
    ExitWithResult();
  }
  ExpectGoodEnd(child);
  child_ended.set_value();
  caller.join();
  EXPECT_EQ(-1, rump_sys_getpid()) << "the server has ended";
}

TEST(DescriptorTest, StaysWhereItIsForTheParentOfAVfork) {
  TestServer server;
  RunBareProgram(server, [] {
    const int own = InitAndFindOwn();
    const pid_t pid = rump_sys_getpid();
    const pid_t child = vfork();
    if (child == 0) {
      int fd = own;
      if (rumpclient__closenotify(&fd, RUMPCLIENT_CLOSE_CLOSE) != 0) _exit(1);
      close(own);
      _exit(0);
    }
    ExpectGoodEnd(child);
    EXPECT_NE(-1, fcntl(own, F_GETFD));
    EXPECT_EQ(pid, rump_sys_getpid());
  });
}

TEST(DescriptorTest, IsOneHoweverManyThreadsConnect) {
  TestServer server;
  RunBareProgram(server, [] {
    const size_t before = OpenDescriptors().size();
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) threads.emplace_back([] { EXPECT_EQ(0, rumpclient_init()); });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(before + 1, OpenDescriptors().size());
    EXPECT_LT(0, rump_sys_getpid());
  });
}

TEST(DescriptorTest, ClosingFromGoesOnBehindIt) {
  TestServer server;
  RunBareProgram(server, [] {
    const int own = InitAndFindOwn();
    const int low = fcntl(STDERR_FILENO, F_DUPFD, 20);
    const int high = fcntl(STDERR_FILENO, F_DUPFD, own + 10);
    int from = 20;
    EXPECT_EQ(0, rumpclient__closenotify(&from, RUMPCLIENT_CLOSE_FCLOSEM));
    EXPECT_EQ(-1, fcntl(low, F_GETFD));
    EXPECT_EQ(own + 1, from);
    EXPECT_NE(-1, fcntl(high, F_GETFD)) << "the program closes it";
    EXPECT_LT(0, rump_sys_getpid());
    int behind = own + 5;
    EXPECT_EQ(0, rumpclient__closenotify(&behind, RUMPCLIENT_CLOSE_FCLOSEM));
    EXPECT_EQ(own + 5, behind);
  });
}

TEST(DescriptorTest, WithoutAConnectionThereIsNone) {
  int fd = 5;
  EXPECT_EQ(0, rumpclient__closenotify(&fd, RUMPCLIENT_CLOSE_CLOSE));
  EXPECT_EQ(0, rumpclient__closenotify(&fd, RUMPCLIENT_CLOSE_FCLOSEM));
  EXPECT_EQ(5, fd);
}

}  // namespace
}  // namespace rump::client
